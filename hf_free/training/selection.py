"""Which of a run's states is published: the one that scores best on pictures it never learned from.

By default these are recovered pictures kept aside, so that no real picture is read. A user may give a validation set
instead; its classes must be new to the learner, and a test split is refused.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from hf_free.config.sections import BellConfig, LearnerConfig, TrainerConfig
from hf_free.data.episodes import EpisodeFlags, sample_episodes
from hf_free.errors import BrokenLearnerError, ConfigError, RunError
from hf_free.evaluation.dataset_columns import DataFlags
from hf_free.evaluation.datasets import LabeledImages, load_labeled_images
from hf_free.evaluation.evaluate import EpisodeSettings, evaluate
from hf_free.learner.format import plain_tensors
from hf_free.learner.meta_learner import MetaLearner
from hf_free.memory.bank import TaskMemory
from hf_free.metalearning.base import Objective
from hf_free.runtime.files import write_file
from hf_free.training.folder import RunFolder
from hf_free.training.state import RunState

VALIDATION_SPLITS = ("validation", "valid", "val", "dev", "train")
"""Split taken where none is named: the first of these that is there, never test."""

_FLAGS = DataFlags(split="--validation-split NAME", image_column="", label_column="")

_TEST = re.compile(r"(?<![a-z])test", re.IGNORECASE)


@dataclass(frozen=True)
class Selector:
    """Something that scores the learner as it is now."""

    score: Callable[[], float]
    """Higher is better; -inf where nothing can be said yet, NaN where the learner is broken."""
    describe: Callable[[], str]
    """The pictures that it scores on, in words, for the record and the card."""
    version: Callable[[], int] = lambda: 0
    """A number that changes with these pictures: scores on different pictures cannot be compared."""


def load_validation(
    trainer: TrainerConfig,
    bell: BellConfig,
    learner: LearnerConfig,
    *,
    token: str | None = None,
    cache_dir: str | None = None,
) -> LabeledImages | None:
    """The user's validation set at the learner's picture size, None where there is none.

    Args:
        trainer: Names the set.
        bell: Classes and pictures of an episode.
        learner: Size of its pictures.
        token: Hub token.
        cache_dir: Folder of the download cache.

    Raises:
        ConfigError: a split or file named test, or a split without a data set.
        DatasetError: no such data set or split, or too few classes or pictures for an episode.
    """
    source, split = trainer.validation_dataset, trainer.validation_split
    if source is None:
        if split is None:
            return None
        raise ConfigError(
            f"trainer.validation_split={split!r} without a data set", action="--validation-dataset ID_OR_DIR"
        )
    _refuse_test(source, split or "")
    data = load_labeled_images(
        source, split=split, splits=VALIDATION_SPLITS, token=token, cache_dir=cache_dir, flags=_FLAGS
    )
    _refuse_test(source, data.split)
    # one episode now, so that a set that cannot fill any is refused before the training
    once = torch.Generator().manual_seed(0)
    sample_episodes(
        data.labels,
        n_way=bell.n_way,
        k_shot=bell.k_shot,
        n_query=bell.n_query,
        episodes=1,
        generator=once,
        flags=EpisodeFlags("--set bell.n_way", "--set bell.k_shot", "--set bell.n_query", "="),
    )
    return replace(data, images=data.at_size(learner.image_size, learner.channels))


def _refuse_test(source: str, split: str) -> None:
    named = source if Path(source).exists() and _TEST.search(Path(source).stem) else split
    if _TEST.search(named):
        raise ConfigError(
            f"{named!r} of {source} cannot be the validation set: it is named test",
            allowed="a split of other classes than those the learner will be measured on",
            action="--validation-split validation, or none: recovered pictures choose then",
        )


def make_selector(
    trainer: TrainerConfig,
    setting: BellConfig,
    objective: Objective,
    held_out: TaskMemory,
    validation: LabeledImages | None,
    *,
    at_once: int | None = None,
) -> Selector:
    """The judge that a configuration asks for.

    Args:
        trainer: How many episodes are drawn.
        setting: Classes and pictures of an episode.
        objective: Its learner is judged, again and again while it is trained; it scores held-out recovered pictures.
        held_out: These pictures.
        validation: What `load_validation` gave.
        at_once: Pictures that the learner takes in one pass at most, where memory is short.
    """
    episodes, learner = trainer.validation_episodes, objective.learner
    if validation is None:
        return Selector(
            lambda: objective.score(held_out, episodes, at_once=at_once) if len(held_out) else -math.inf,
            lambda: f"{len(held_out)} recovered pictures kept aside",
            lambda: held_out.seen,
        )

    asked = EpisodeSettings(
        n_way=setting.n_way, k_shots=(setting.k_shot,), n_query=setting.n_query, episodes=max(2, episodes)
    )

    def on_validation() -> float:
        judged = copy.copy(learner)  # shares the weights; relevance, damping and shared classes come at the end
        if judged.batchnorm == "transductive":
            judged.batchnorm = "support"
        try:
            accuracy = evaluate(judged, validation, asked, device=learner.device).rows[0].accuracy
        except BrokenLearnerError:  # though its weights are finite
            return math.nan
        return math.nan if accuracy is None else accuracy

    shots = f"{episodes} {setting.n_way}-way {setting.k_shot}-shot episodes, inductive"
    return Selector(on_validation, lambda: f"{validation.source}, split {validation.split} ({shots})")


def keep_best(judge: Selector, learner: MetaLearner, state: RunState, run: RunFolder, *, writes: bool = True) -> None:
    """Score the learner; if none scored better on the same pictures its weights are kept, if this process writes."""
    weights = learner.state_dict()
    is_whole = all(bool(tensor.isfinite().all()) for tensor in weights.values())
    state.last_score = judge.score() if is_whole else math.nan  # episodes of NaN have an accuracy, that of guessing
    is_first = judge.version() != state.best_on and not math.isnan(state.last_score)
    if is_first or state.last_score >= state.best_score:
        state.best_score, state.best_step, state.best_on = state.last_score, state.step, judge.version()
        if writes:
            write_file(run.best, lambda scratch: save_file(plain_tensors(weights), scratch))


def restore_best(learner: MetaLearner, state: RunState, run: RunFolder) -> None:
    """Give the learner the weights that scored best; where nothing could be scored, the last ones.

    Raises:
        RunError: every score was NaN.
    """
    if state.best_score == -math.inf and math.isnan(state.last_score):
        raise RunError(
            f"the learner's score is not a number at step {state.step}, and none was before",
            allowed="a learner whose weights stay finite",
            action="lower --set bell.lr=..., or --mixed-precision no; the run's folder keeps what there is",
        )
    learner.load_state_dict(load_file(run.best))
    # timm's LeViT, TinyViT and others keep tables made of their weights until the mode changes (timm 1.0.31)
    mode = learner.training
    learner.train(not mode)
    learner.train(mode)


def chosen_on(judge: Selector, state: RunState) -> str:
    """How the published state was chosen, in words."""
    if state.best_score == -math.inf:
        return "nothing: the last state, for too few pictures were kept aside"
    return judge.describe()
