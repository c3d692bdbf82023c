"""A learner's backbone: untrained, or with the weights that timm publishes."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import timm
from torch import nn

import hf_free.backbones  # noqa: F401  registers conv4_64 and the others with timm
from hf_free.config import LearnerConfig
from hf_free.learner import LearnerError


def build_backbone(
    config: LearnerConfig, model_args: Mapping[str, Any], mean: Sequence[float], std: Sequence[float]
) -> nn.Module:
    """An untrained timm network without classifier for pictures of the learner's size."""
    size = (config.channels, config.image_size, config.image_size)
    overlay = {"input_size": size, "mean": mean, "std": std, "num_classes": 0, "pool_size": None}
    try:
        # timm passes input_size on as in_chans and, where the architecture wants it fixed, as img_size
        return timm.create_model(config.backbone, num_classes=0, pretrained_cfg_overlay=overlay, **model_args)
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        raise LearnerError(
            f"backbone {config.backbone!r} cannot be built for pictures of {size}: {error}",
            allowed="a timm model name, or conv4_32, conv4_64, resnet10_small, resnet12_small, resnet18_small",
            action='list names with timm.list_models("*resnet*")',
        ) from None


def check_timm_start(source: str, purpose: str = "start from") -> None:
    """Refuse a `timm:NAME` for which timm publishes no weights; nothing is fetched.

    Args:
        source: `timm:NAME`.
        purpose: What it is wanted for, as the message says it.

    Raises:
        LearnerError: with names that are like it.
    """
    name = source.removeprefix("timm:")
    architecture = name.split(".")[0]
    tags = timm.list_pretrained(f"{architecture}.*") if timm.is_model(architecture) else []
    if name in tags or (name == architecture and tags):
        return
    known = {listed.split(".")[0] for listed in timm.list_pretrained()}
    alike = tags or difflib.get_close_matches(architecture, sorted(known), n=1)
    raise LearnerError(
        f"cannot {purpose} {source!r}: timm publishes no weights of that name",
        allowed="timm:NAME of a model with weights, a learner's Hub id, or a learner's folder",
        action=f"did you mean timm:{alike[0]}?" if alike else "names: timm.list_pretrained()",
    )


def pretrained_timm(source: str, config: LearnerConfig, cache_dir: str | None) -> nn.Module:
    """The network of `timm:NAME` with timm's weights, for the learner's picture size and channels."""
    name = source.removeprefix("timm:")
    try:
        cfg = timm.get_pretrained_cfg(name)
        sized: dict[str, Any] = {"img_size": config.image_size} if cfg is not None and cfg.fixed_input_size else {}
        return timm.create_model(
            name, pretrained=True, num_classes=0, in_chans=config.channels, cache_dir=cache_dir, **sized
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise LearnerError(
            f"cannot start from {source!r}: {type(error).__name__}: {error}",
            allowed="timm:NAME of a model with weights, a learner's Hub id, or a learner's folder",
        ) from None
