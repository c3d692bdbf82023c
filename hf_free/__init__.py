"""hf-free: a list of Hub image classifiers in, one few-shot learner out, without any data (FREE, CVPR 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_free.version import __version__

if TYPE_CHECKING:
    from hf_free.config.tree import FreeConfig
    from hf_free.learner.classifier import FewShotClassifier
    from hf_free.learner.meta_learner import MetaLearner
    from hf_free.training.trainer import train

__all__ = ["FewShotClassifier", "FreeConfig", "MetaLearner", "__version__", "train"]

_HOMES = {
    "FewShotClassifier": "hf_free.learner.classifier",
    "FreeConfig": "hf_free.config.tree",
    "MetaLearner": "hf_free.learner.meta_learner",
    "train": "hf_free.training.trainer",
}


def __getattr__(name: str) -> Any:
    """Import the public names on first use, so that `hf-free --help` does not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'hf_free' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def _register_backbones() -> None:
    """Make `timm.create_model("conv4_64")` work after `import hf_free`, without importing timm here."""
    from hf_free.backbones import timm_hook

    timm_hook.install()


_register_backbones()
