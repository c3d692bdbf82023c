"""What a run leaves for people: its record and the learner's repository."""

from __future__ import annotations

import platform
import shutil
from collections import Counter
from dataclasses import replace
from importlib.metadata import version

import torch

from hf_free.learner.meta_learner import MetaLearner
from hf_free.provenance.learner_record import LearnerRecord
from hf_free.provenance.reading import Json, object_of
from hf_free.provenance.recorded_teacher import LeftOut
from hf_free.provenance.run_record import KnownTeachers, MethodFacts, Recovered, RunRecord, Training
from hf_free.publishing.card import write_card
from hf_free.runtime.device import Precision
from hf_free.teachers.query_budget import QueryBudget
from hf_free.training.folder import RunFolder
from hf_free.training.state import RunState
from hf_free.version import __version__


def run_record(
    config: Json,
    known: KnownTeachers,
    state: RunState,
    device: torch.device,
    precision: Precision,
    chosen: str,
    *,
    method: MethodFacts,
    started: LearnerRecord,
    learner_precision: Precision | None = None,
    queries: QueryBudget | None = None,
) -> RunRecord:
    """The learner's provenance: what goes into the `hf_free` block of config.json and into the card.

    Args:
        config: The run's configuration, as `FreeConfig.to_dict` gives it.
        known: Records of the teachers, see `hf_free.metalearning.continual.known_teachers`.
        state: What the run counted.
        device: Where it ran.
        precision: Autocast type.
        chosen: What the published state was chosen on.
        method: What it was trained with.
        started: What the learner was before the run, see `MetaLearner.create`.
        learner_precision: The learner's, see `hf_free.learner.precision`; None: the same.
        queries: What black boxes were asked; None: there are none.
    """
    import timm

    tasks = max(state.kept_tasks, 1)
    return RunRecord(
        config=config,
        known=known,
        skipped=_skipped(state, known, asks_all=object_of(config.get("bell")).get("objective") == "distill"),
        left_out=state.left_out,
        data_free=started.is_data_free and not object_of(config.get("memory")).get("pictures"),
        init_from=started.init_from,
        licenses=Counter(teacher.license or "none stated" for teacher in known.teachers),
        method=method,
        recovered=Recovered(
            tasks=state.kept_tasks,
            images=state.pictures,
            teacher_accuracy=round(state.accuracy_sum / tasks, 4),
            diversity=round(state.diversity_sum / tasks, 4),
        ),
        training=Training(
            minutes=round(state.seconds / 60, 2),
            steps=state.step,
            steps_while_downloading=state.early_steps,
            best_step=state.best_step,
            chosen_on=chosen,
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            threads=torch.get_num_threads(),
            mixed_precision=precision.name,
            learner_precision=(learner_precision or precision).name,
            queries=None if queries is None else queries.spent,
            query_budget=None if queries is None else queries.limit,
            energy=state.energy,
        ),
        versions={
            "hf_free": __version__,
            "torch": torch.__version__,
            "timm": timm.__version__,
            "accelerate": version("accelerate"),
            "python": platform.python_version(),
        },
    )


def _skipped(state: RunState, known: KnownTeachers, *, asks_all: bool) -> list[LeftOut]:
    """Teachers left out; `asked` are those whose answers the learner has learned all the same."""
    answers = {teacher.reference for teacher in known.teachers if asks_all}
    entries = map(LeftOut.from_dict, state.skipped)
    return [replace(entry, asked=entry.reference in answers) for entry in entries]


def write_learner(run: RunFolder, learner: MetaLearner, *, with_generator: bool) -> None:
    """Write `learner/`: weights, config, card and its picture; the generator only if asked for."""
    learner.save_pretrained(run.learner)
    if with_generator:
        shutil.copyfile(run.generator, run.learner / run.generator.name)
    picture = run.pictures / "recovered.png"
    if picture.is_file():
        target = run.learner / "pictures" / "recovered.png"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(picture.read_bytes())
    record = learner.full_record()
    run.write_json(run.record, record.to_dict())
    write_card(run.learner, record)
