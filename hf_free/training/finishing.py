"""The end of a run: the embedding fitted, figures drawn, the record and the learner's repository written."""

from __future__ import annotations

import logging
from dataclasses import replace

from hf_free.learner.meta_learner import MetaLearner
from hf_free.metalearning.continual import known_teachers
from hf_free.metalearning.embedding_fit import fit_embedding
from hf_free.methods.registry import METHODS
from hf_free.provenance.learner_record import LearnerRecord
from hf_free.reporting.heterogeneity import draw_heterogeneity
from hf_free.reporting.recovered import draw_pictures
from hf_free.training.folder import RunFolder
from hf_free.training.results import run_record, write_learner
from hf_free.training.run import Run
from hf_free.training.screening import leave_out_silent
from hf_free.training.selection import chosen_on

logger = logging.getLogger(__name__)

HARDLY_TRAINED = 0.7
"""A run warns when more than this share of the variance of the teachers' logits is unexplained; finished runs are at
0.05 to 0.4, knowing nothing is 1."""


def finish(run: Run) -> MetaLearner:
    """Make the finished learner of a trained one; the run's first process saves it to the run's `learner/`."""
    learner, memory, config, portions = run.learner.eval(), run.memory, run.config.learner, run.budget.portions

    # ---- what was recovered
    is_first, generator = run.chains.ranks.is_first, run.inverter.modules().get("generator")
    if is_first:
        if generator is not None:
            run.folder.write_generator(generator.state_dict())
        draw_pictures(run.folder, memory, run.pool)
        picture = run.folder.pictures / "teachers.png"
        draw_heterogeneity(
            memory, run.pool, picture, without=[*run.state.excluded, *run.state.gone], seed=run.config.seed
        )
        note_if_hardly_trained(run.folder)
    run.between_parts()

    # ---- the embedding
    earlier = 0 if run.previous is None else len(run.previous.blocks)
    gone = leave_out_silent(learner, run.layout, memory, run.pool, run.state, earlier=earlier)
    most, at_once = portions.finished, portions.embedded
    fit_embedding(learner, run.layout, memory, config, without=gone, most=most, at_once=at_once)

    # ---- the record
    run.state.energy = run.energy.spent()
    queries = run.pool.endpoints.budget if run.pool.black_boxes else None
    if queries is not None:  # the first process asked them all
        queries.recall(run.chains.ranks.first(queries.spent) - queries.spent)
    known = known_teachers(run.previous, run.pool.records, run.layout, without=gone)
    if not config.answers:
        known = replace(known, answer_outputs=())
    record = run_record(
        run.config.to_dict(),
        known,
        run.state,
        run.device,
        run.precision,
        chosen_on(run.selector, run.state),
        method=METHODS[run.config.method].facts,
        started=learner.record,
        learner_precision=run.learner_precision,
        queries=queries,
    )
    learner.record = LearnerRecord.of(record)
    if is_first:
        write_learner(run.folder, learner, with_generator=run.config.hub.push_generator and generator is not None)
    run.chains.ranks.wait()
    return learner


def note_if_hardly_trained(folder: RunFolder) -> None:
    """Warn where a learner cannot predict its teachers' answers yet; only recipes that predict them log how well they
    do."""
    left = [row["answers"] for row in folder.read_log() if "answers" in row][-1:]
    if left and left[0] > HARDLY_TRAINED:
        logger.warning(
            "hardly trained: %.0f %% of what the teachers' answers vary by is not predicted yet; give it more --steps "
            "or --max-minutes",
            100 * left[0],
        )
