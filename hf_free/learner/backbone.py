"""A learner's backbone: untrained, or with the weights that timm publishes."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from hf_free.backbones.base import BUILD_ERRORS
from hf_free.backbones.conv4 import FILTERS, Conv4, build_conv4
from hf_free.backbones.model_args import ModelArgs
from hf_free.config.init_from import TIMM
from hf_free.config.sections import LearnerConfig
from hf_free.errors import HfFreeError, LearnerError
from hf_free.learner.config_check import check_backbone_name, is_own_network
from hf_free.learner.pooled_backbone import KIND
from hf_free.provenance.reading import JsonView
from hf_free.runtime.device import is_out_of_memory
from hf_free.runtime.foreign_code import told
from hf_free.runtime.text import others_words

SIZES = (32, 48, 64, 80, 96, 112, 120, 128, 160, 192, 224, 240, 256, 288, 299, 320, 384, 448, 512)
"""Picture sizes that are tried where a backbone does not take the one asked for: those of timm's models."""


def build_backbone(
    config: LearnerConfig, model_args: ModelArgs, mean: Sequence[float], std: Sequence[float]
) -> nn.Module:
    """An untrained timm network without classifier for pictures of the learner's size."""
    if config.backbone == KIND:
        raise LearnerError(
            "a pooled learner has no network of its own: its teachers are its backbone",
            allowed="a timm model name, or a learner that is one network",
            action="hf-free pool makes a pooled learner, hf-free distill one network of it",
        )
    size = (config.channels, config.image_size, config.image_size)
    overlay = {"input_size": size, "mean": mean, "std": std, "num_classes": 0, "pool_size": None}
    if config.backbone in FILTERS:
        try:
            return build_conv4(config.backbone, overlay, num_classes=0, **model_args)  # timm takes seconds to import
        except BUILD_ERRORS:
            pass  # timm says what is wrong with these arguments

    check_backbone_name(config.backbone)

    import timm

    try:
        # timm passes input_size on as in_chans and, where the architecture wants it fixed, as img_size
        return timm.create_model(config.backbone, num_classes=0, pretrained_cfg_overlay=overlay, **model_args)
    except (Exception, SystemExit) as error:  # of timm's networks one of BUILD_ERRORS, of one's own anything
        if is_out_of_memory(error):
            raise
        if timm.is_model(config.backbone) and (fitting := sizes_that_fit(config, model_args)):
            raise _wrong_size(config, error, fitting) from None
        raise LearnerError(
            f"backbone {config.backbone!r} cannot be built for pictures of {size}: {others_words(error)}",
            allowed="a network that takes such pictures and arguments",
            action='another one: timm.list_models("*resnet*") lists names',
        ) from None


def timm_settings(network: nn.Module) -> JsonView:
    """What timm knows of a network that it has built: its `pretrained_cfg`.

    Raises:
        LearnerError: another network, which cannot be saved: nobody could build it again.
    """
    settings = getattr(network, "pretrained_cfg", None)
    if not isinstance(settings, Mapping):
        raise LearnerError(
            f"a learner whose backbone is a {type(network).__name__} cannot be saved",
            allowed="a network of timm, which can be built again by its name",
            action="register it with timm; docs/guides/own-networks.md shows how",
        )
    return cast("JsonView", settings)


def check_takes_pictures(network: nn.Module, config: LearnerConfig, model_args: ModelArgs) -> int:
    """Run one black picture of the learner's size through its backbone.

    Args:
        network: The backbone, without classifier.
        config: Its name and size.
        model_args: What it was built with, for the sizes that a message names.

    Returns:
        The width of its features; timm's `num_features` is not always it.

    Raises:
        LearnerError: it cannot take such pictures, with the sizes that it can; or it gives no features.
    """
    like = next(network.parameters(), torch.empty(0))  # of 16 or 64 bits where the caller has made it so
    black = like.new_zeros((1, config.channels, config.image_size, config.image_size))
    modes = [(part, part.training) for part in network.modules()]
    try:
        with told(lambda error: _wrong_size(config, error, sizes_that_fit(config, model_args))), torch.no_grad():
            features = network.eval()(black)
    finally:
        for part, training in modes:
            part.training = training
    if not isinstance(features, Tensor) or features.ndim < 2 or not features.shape[1]:
        raise LearnerError(
            f"backbone {config.backbone!r} gives no features",
            allowed="networks that give their features when built with num_classes=0",
            action="nn.Identity() instead of a layer of 0 classes; docs/guides/own-networks.md shows one",
        )
    return features.shape[1]


_WELL_KNOWN = ("hf_free.", "timm.", "torch.nn.", "transformers.")
"""Packages whose networks can be trained."""


def check_can_learn(network: nn.Module, config: LearnerConfig) -> None:
    """Refuse a network of the user's own whose features tell its weights nothing, or which fails on the way back. One
    gray picture is run through it and back; networks of timm, transformers and ours are taken as they are.

    Args:
        network: The backbone, without classifier.
        config: Its name and size.

    Raises:
        LearnerError: with what is the matter.
    """
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    if not weights or all(type(part).__module__.startswith(_WELL_KNOWN) for part in network.modules()):
        return
    gray = weights[0].new_full((1, config.channels, config.image_size, config.image_size), 0.5)
    modes = [(part, part.training) for part in network.modules()]

    def cannot(error: BaseException) -> LearnerError:
        return LearnerError(
            f"backbone {config.backbone!r} cannot be trained: {others_words(error)}",
            allowed="a network whose forward and backward pass torch computes",
            action="mend its forward, or choose another backbone",
        )

    try:
        with told(cannot), torch.enable_grad():
            features = network.eval()(gray)
            found = torch.autograd.grad(features.sum(), weights, allow_unused=True) if features.requires_grad else ()
    finally:
        for part, training in modes:
            part.training = training
    if all(gradient is None for gradient in found):
        raise LearnerError(
            f"backbone {config.backbone!r} cannot be trained: no gradient comes back from its features to its weights",
            allowed="a forward that torch computes to its end, without detach(), no_grad() or numpy",
            action="mend its forward, or choose another backbone",
        )


def blank_backbone(
    config: LearnerConfig, model_args: ModelArgs, mean: Sequence[float], std: Sequence[float], source: str
) -> nn.Module | None:
    """`build_backbone` without memory (torch's meta device); None for a network of the user's own that needs some.

    Raises:
        LearnerError: one that cannot be built.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            return build_backbone(config, model_args, mean, std).eval()
    except HfFreeError as error:
        if is_own_network(config.backbone):
            return None
        raise LearnerError(f"{source}: {error.given}", allowed=error.allowed, action="use another learner") from None


def blank_width(network: nn.Module, config: LearnerConfig, source: str) -> int | None:
    """`check_takes_pictures` without memory; None for a network of the user's own that needs some.

    Raises:
        LearnerError: as there.
    """
    if isinstance(network, Conv4) and network.takes(config.channels, config.image_size):
        return network.num_features  # pictures without memory would make torch import its compiler: seconds
    try:
        return check_takes_pictures(network, config, {})
    except LearnerError as error:
        if is_own_network(config.backbone):
            return None
        raise LearnerError(f"{source}: {error.given}", allowed=error.allowed, action="use another learner") from None


def sizes_that_fit(config: LearnerConfig, model_args: ModelArgs) -> list[int]:
    """Picture sizes that a backbone takes, tried without memory: its own, and the next larger one of `SIZES`."""
    import timm

    cfg = timm.get_pretrained_cfg(config.backbone)
    own = cfg.input_size[-1] if cfg is not None else 224
    asked = config.image_size
    nearest = sorted({*SIZES, own} - {asked}, key=lambda size: (size < asked, abs(size - asked)))
    found = [size for size in [own] if size != asked and _takes(config, size, model_args)]
    if found:  # else there is little hope, and trying takes its time
        found += [next((size for size in nearest if _takes(config, size, model_args)), own)]
    return sorted(set(found))


def _takes(config: LearnerConfig, size: int, model_args: ModelArgs) -> bool:
    import timm

    shape = (config.channels, size, size)
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"), torch.no_grad():
            overlay = {"input_size": shape, "num_classes": 0, "pool_size": None}
            sized = replace(config, image_size=size)
            network = timm.create_model(
                sized.backbone, num_classes=0, pretrained_cfg_overlay=overlay, **model_args
            ).eval()
            network(torch.zeros(1, *shape))
    except (HfFreeError, *BUILD_ERRORS):
        return False
    return True


def _wrong_size(config: LearnerConfig, error: BaseException, fitting: Sequence[int]) -> LearnerError:
    """The error for a backbone that does not take the learner's pictures."""
    sizes = " or ".join(map(str, fitting))
    action = f"--image-size {fitting[0]}, or another --backbone" if fitting else "another --backbone"
    return LearnerError(
        f"backbone {config.backbone!r} does not take pictures of {config.image_size}x{config.image_size}: "
        f"{others_words(error)}",
        allowed=f"pictures of {sizes}, of the sizes tried" if fitting else "a backbone for pictures of this size",
        action=action,
    )


def check_timm_start(source: str, purpose: str = "start from") -> None:
    """Refuse a `timm:NAME` for which timm publishes no weights; nothing is fetched.

    Args:
        source: `timm:NAME`.
        purpose: What it is wanted for, as the message says it.

    Raises:
        LearnerError: with names that are like it.
    """
    import timm

    name = source.removeprefix(TIMM)
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
    import timm

    name = source.removeprefix(TIMM)
    try:
        cfg = timm.get_pretrained_cfg(name)
        sized: ModelArgs = {"img_size": config.image_size} if cfg is not None and cfg.fixed_input_size else {}
        return timm.create_model(
            name, pretrained=True, num_classes=0, in_chans=config.channels, cache_dir=cache_dir, **sized
        )
    except (*BUILD_ERRORS, OSError) as error:
        raise LearnerError(
            f"cannot start from {source!r}: {others_words(error)}",
            allowed="timm:NAME of a model with weights, a learner's Hub id, or a learner's folder",
        ) from None
