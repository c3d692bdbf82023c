"""hf-free: a list of Hub image classifiers in, one few-shot learner out, without any data (FREE, CVPR 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hf_free.config import FreeConfig
    from hf_free.learner.meta_learner import AdaptedClassifier, MetaLearner
    from hf_free.trainer import train

__version__ = "0.1.0"
__all__ = ["AdaptedClassifier", "FreeConfig", "MetaLearner", "__version__", "train"]

_HOMES = {
    "AdaptedClassifier": "hf_free.learner.meta_learner",
    "FreeConfig": "hf_free.config",
    "MetaLearner": "hf_free.learner.meta_learner",
    "train": "hf_free.trainer",
}


def __getattr__(name: str) -> Any:
    """Import the public names on first use, so that `hf-free --help` does not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'hf_free' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def _register_backbones() -> None:
    """Make `timm.create_model("conv4_64")` work after `import hf_free`, without importing timm here."""
    from hf_free import _timm_hook

    _timm_hook.install()


_register_backbones()
