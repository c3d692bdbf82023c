"""hf-free: a list of Hub image classifiers in, one few-shot learner out, without any data (FREE, CVPR 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_free.errors import (
    BrokenLearnerError,
    ConfigError,
    DatasetError,
    FailedElsewhere,
    HfFreeError,
    HubError,
    LearnerError,
    MissingFilesError,
    PushError,
    QueryBudgetError,
    RunError,
    StorageError,
    TeacherError,
    TeacherReferenceError,
    UnavailableRepositoryError,
    UnfitRepositoryError,
    UnfitTeacherError,
    VanishedTeacherError,
)
from hf_free.version import __version__

if TYPE_CHECKING:
    from hf_free.config.tree import FreeConfig
    from hf_free.evaluation.datasets import load_labeled_images
    from hf_free.evaluation.evaluate import Comparison, EpisodeSettings, evaluate
    from hf_free.learner.backbone_kinds import PooledParts
    from hf_free.learner.classifier import FewShotClassifier
    from hf_free.learner.export import export_classifier
    from hf_free.learner.meta_learner import MetaLearner
    from hf_free.learner.pooled_backbone import PooledBackbone
    from hf_free.teachers.loader import load_teacher
    from hf_free.teachers.saving import save_teacher
    from hf_free.training.distill import distill
    from hf_free.training.invert import invert
    from hf_free.training.plan import plan
    from hf_free.training.pool import pool
    from hf_free.training.push import plan_push, push
    from hf_free.training.report import read_run, report
    from hf_free.training.trainer import train

__all__ = [
    "BrokenLearnerError",
    "Comparison",
    "ConfigError",
    "DatasetError",
    "EpisodeSettings",
    "FailedElsewhere",
    "FewShotClassifier",
    "FreeConfig",
    "HfFreeError",
    "HubError",
    "LearnerError",
    "MetaLearner",
    "MissingFilesError",
    "PushError",
    "QueryBudgetError",
    "RunError",
    "StorageError",
    "TeacherError",
    "TeacherReferenceError",
    "UnavailableRepositoryError",
    "UnfitRepositoryError",
    "UnfitTeacherError",
    "VanishedTeacherError",
    "__version__",
    "distill",
    "evaluate",
    "export_classifier",
    "invert",
    "load_labeled_images",
    "load_teacher",
    "plan",
    "plan_push",
    "pool",
    "push",
    "read_run",
    "report",
    "save_teacher",
    "train",
]

_HOMES = {
    "Comparison": "hf_free.evaluation.evaluate",
    "EpisodeSettings": "hf_free.evaluation.evaluate",
    "FewShotClassifier": "hf_free.learner.classifier",
    "FreeConfig": "hf_free.config.tree",
    "MetaLearner": "hf_free.learner.meta_learner",
    "distill": "hf_free.training.distill",
    "evaluate": "hf_free.evaluation.evaluate",
    "export_classifier": "hf_free.learner.export",
    "invert": "hf_free.training.invert",
    "load_labeled_images": "hf_free.evaluation.datasets",
    "load_teacher": "hf_free.teachers.loader",
    "plan": "hf_free.training.plan",
    "plan_push": "hf_free.training.push",
    "pool": "hf_free.training.pool",
    "push": "hf_free.training.push",
    "read_run": "hf_free.training.report",
    "report": "hf_free.training.report",
    "save_teacher": "hf_free.teachers.saving",
    "train": "hf_free.training.trainer",
}


def __getattr__(name: str) -> object:
    """Import the public names on first use, so that `hf-free --help` does not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'hf_free' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the public names too, although each is imported only when it is first used."""
    return sorted({*globals(), *__all__})


def _register_backbones() -> None:
    """Make `timm.create_model("conv4_64")` work after `import hf_free`, without importing timm here."""
    from hf_free.backbones import timm_hook

    timm_hook.install()


def _register_pooled_learners() -> None:
    """Let `MetaLearner.from_pretrained` open pooled learners, whose teachers `hf_free.learner` does not know."""
    from hf_free.learner.backbone_kinds import register_opener

    def open_teachers(parts: PooledParts) -> PooledBackbone:
        from hf_free.pooling.opening import open_teachers

        return open_teachers(parts)

    register_opener(open_teachers)


_register_backbones()
_register_pooled_learners()
