"""What the ablation of the benchmark switches, one thing a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from benchmark.matrix import MATRIX
from hf_free import FreeConfig, MetaLearner
from hf_free.config.reading import merge
from hf_free.config.tree import parse_assignments
from hf_free.learner.embedding import Embedding


@dataclass(frozen=True)
class Switch:
    """One thing of the default recipe: without it, or with it where the default has it not.

    Attributes:
        without: Name of the row, and what it sets.
        with_it: Likewise, for a default that is as `without` sets already.
    """

    without: tuple[str, str]
    with_it: tuple[str, str]


def _side(entry: dict[str, Any]) -> tuple[str, str]:
    return entry["name"], " ".join(entry["set"])


SWITCHES = tuple(Switch(_side(entry["without"]), _side(entry["with"])) for entry in MATRIX["ablation"])
"""Rows that need a run of their own."""


def switched(switch: Switch, base: FreeConfig) -> tuple[str, list[str]]:
    """Name and assignments of a switch's row, whichever of its two sides is not what `base` is already."""
    for name, text in (switch.without, switch.with_it):
        if FreeConfig.from_dict(merge(base.to_dict(), parse_assignments(text.split()))) != base:
            return name, text.split()
    raise AssertionError(f"both sides of {switch} are the same")


def _with_head(learner: MetaLearner, head: Any) -> None:
    learner.config = replace(learner.config, head=head)


def _with_one_view(learner: MetaLearner) -> None:
    learner.views = ("identity",)


def _with_features_alone(learner: MetaLearner) -> None:
    learner.embedding = Embedding()


def _with_answers_alone(learner: MetaLearner) -> None:
    learner.embedding = Embedding(learner.embedding.projection)


def _with_all_teachers_alike(learner: MetaLearner) -> None:
    learner.embedding.gate = None


def _with_all_directions_alike(learner: MetaLearner) -> None:
    learner.embedding.whitening = None


def _with_each_teachers_own_classes(learner: MetaLearner) -> None:
    before, embedding = learner.feature_dim, learner.embedding
    embedding.shared_classes = None
    embedding.whitening = None  # it is of the wider embedding
    if embedding.gate is not None:  # as it would have been learned: features are longer beside fewer dimensions
        embedding.gate.groups = None
        embedding.gate.weight *= (learner.feature_dim / before) ** 0.5


USES: dict[str, Callable[[MetaLearner], None]] = {
    "one view instead of two": _with_one_view,
    "head: nearest class mean": partial(_with_head, head="nearest_mean"),
    "head: logistic regression": partial(_with_head, head="logistic"),
    "head: ANIL": partial(_with_head, head="anil"),
    "head: MAML": partial(_with_head, head="maml"),
    "all teachers count alike in every episode": _with_all_teachers_alike,
    "no damping": _with_all_directions_alike,
    "no damping, embedding: no shared classes": _with_each_teachers_own_classes,
    "embedding: features alone": _with_features_alone,
    "embedding: predicted answers alone (logits)": _with_answers_alone,
}
"""Rows that use the default's learner otherwise, without a run of their own; each changes a learner in place."""
