"""`Embedder`: images in, features out, in the space that heads work in.

It is the part of a learner that predicts; `hf_free.learner.meta_learner.MetaLearner` is one that also adapts, knows
where it comes from, and can be published.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import nullcontext
from functools import cached_property
from typing import NoReturn, Self

import torch
from torch import Tensor, nn

from hf_free.backbones.model_args import ModelArgs
from hf_free.config.sections import LearnerConfig
from hf_free.data.decoding import WHITE, Color
from hf_free.data.images import VIEWS, Images, Preprocessing, as_batch, match_channels, resize
from hf_free.errors import HfFreeError, LearnerError
from hf_free.learner.backbone import build_backbone, check_takes_pictures
from hf_free.learner.batchnorm import BatchNormMode, batch_statistics, batchnorm_layers, evaluation_mode
from hf_free.learner.embedding import Embedding
from hf_free.learner.inputs import InputSettings
from hf_free.runtime.device import is_out_of_memory
from hf_free.runtime.given import check_kind, whole_number
from hf_free.runtime.memory_budget import pictures_at_once, pictures_in_cache
from hf_free.runtime.side_by_side import MOST_PIXELS_BESIDE, in_order
from hf_free.runtime.text import others_words

_KEEP_NOTHING = ("hf_free.backbones.", "timm.", "torch.nn.")
"""Modules of these packages give each picture's answer without writing down anything on the way."""

_PUT_BACK = "put back the backbone that it had, load the learner again, or correct the network, where it is your own"


class Embedder(nn.Module):
    """A timm backbone, how it sees images, and the embedding of its features.

    Args:
        config: Backbone, picture size and channels; also the head, which an embedder does not use itself.
        embedding: What follows the backbone; None leaves its features as they are.
        inputs: Views, normalization, BatchNorm mode.
        backbone: The network itself; or further arguments of `timm.create_model`, JSON-able (for instance `patch_size`
            of a ViT), for an untrained one. None builds an untrained one without any.

    Raises:
        LearnerError: a backbone that does not exist or does not fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        config: LearnerConfig | None = None,
        *,
        embedding: Embedding | None = None,
        inputs: InputSettings | None = None,
        backbone: nn.Module | ModelArgs | None = None,
    ) -> None:
        super().__init__()
        for name, value, kind, rule in (
            ("config", config, LearnerConfig, "a LearnerConfig, as FreeConfig().learner, or None"),
            ("embedding", embedding, Embedding, "an Embedding, or None"),
            ("inputs", inputs, InputSettings, "an InputSettings, or None"),
            ("backbone", backbone, (nn.Module, Mapping), "a network, a dict of timm's arguments, or None"),
        ):
            check_kind(value, name, kind, allowed=rule, error=LearnerError)
        self.config = LearnerConfig() if config is None else config
        inputs = InputSettings() if inputs is None else inputs
        self.views = tuple(inputs.views)
        self.batchnorm: BatchNormMode = inputs.batchnorm
        mean, std = inputs.normalization(self.config.channels)
        self.model_args: ModelArgs = {}
        if isinstance(backbone, nn.Module):
            self.backbone = backbone
        else:
            self.model_args = dict(backbone or {})
            self.backbone = build_backbone(self.config, self.model_args, mean, std)
        self.embedding = Embedding() if embedding is None else embedding
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def check(self) -> None:
        """Refuse a network of which an attribute was set by hand to what it cannot be used with.

        Raises:
            LearnerError: with the attribute's name.
        """
        for name, value, kind in (
            ("config", self.config, LearnerConfig),
            ("embedding", self.embedding, Embedding),
            ("backbone", self.backbone, nn.Module),
            ("views", self.views, (tuple, list)),
        ):
            allowed = f"what it was before: {kind.__name__ if isinstance(kind, type) else 'a tuple of names'}"
            check_kind(value, name, kind, allowed=allowed, optional=False, error=LearnerError)
        InputSettings(tuple(self.views), batchnorm=self.batchnorm)  # which says what is wrong with them
        odd = next((weight.dtype for weight in self.embedding.parameters() if weight.dtype != torch.float32), None)
        if odd is not None:
            raise LearnerError(
                f"the learner's embedding is of {odd}",
                allowed="torch.float32, in which features are weighed and heads are fitted",
                action="call float() on the learner; torch.autocast computes its backbone in fewer bits",
            )

    @property
    def inputs(self) -> InputSettings:
        """How it sees images."""
        return InputSettings(self.views, self.mean.flatten().tolist(), self.std.flatten().tolist(), self.batchnorm)

    @cached_property
    def backbone_dim(self) -> int:
        """Width of the backbone's output, measured with one black picture (timm's num_features is not always it).

        Raises:
            LearnerError: a backbone that does not take pictures of the learner's size, or gives no features.
        """
        return check_takes_pictures(self.backbone, self.config, self.model_args)

    @property
    def feature_dim(self) -> int:
        """Width D of `features`."""
        return self.embedding.width(self.backbone_dim)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.mean.device

    @property
    def preprocessing(self) -> Preprocessing:
        """How pictures are brought to the learner's size: whole, their shape not kept, bilinear."""
        return Preprocessing(self.config.image_size, self.config.channels)

    def features(self, images: Tensor) -> Tensor:
        """Embed pictures; differentiable, in whatever mode (train or eval) the network is.

        Args:
            images: (B, C, H, W) in [0, 1], any size, 1 or 3 channels.

        Returns:
            (B, D), not normalized, averaged over the views.
        """
        images = self._at_own_size(images)
        stacked = torch.cat([VIEWS[name](images) for name in self.views])  # (V * B, C, H, W)
        try:
            features = self.backbone((stacked - self.mean) / self.std)
            embedded = self.embedding(features.unflatten(0, (len(self.views), len(images))).float().mean(0))
        except (Exception, SystemExit) as error:
            self._raise_by_name(error)
        center = self.embedding.center
        if embedded.ndim != 2 or (center is not None and embedded.shape[1] != len(center)):
            raise LearnerError(
                f"the learner's backbone, a {type(self.backbone).__name__}, gives {len(images)} pictures an embedding "
                f"of {tuple(embedded.shape)}",
                allowed=f"({len(images)}, {'D' if center is None else len(center)})",
                action=_PUT_BACK,
            )
        return embedded

    def raw_answers(self, images: Tensor) -> Tensor:
        """One view's features before any embedding: the projection's output, or the backbone's without one.

        Args:
            images: (B, C, H, W) in [0, 1], any size.
        """
        images = self._at_own_size(images)
        try:
            return self.embedding.logits(self.backbone((images - self.mean) / self.std))
        except (Exception, SystemExit) as error:
            self._raise_by_name(error)

    forward = features

    def _raise_by_name(self, error: BaseException) -> NoReturn:
        """Say which network has failed: one that was put in by hand may not fit, and one of the user's own may raise
        anything, or end the process.

        Raises:
            LearnerError: with what it says; what is an error of ours, or a lack of memory, is raised as it is.
        """
        if isinstance(error, HfFreeError) or is_out_of_memory(error):
            raise error
        raise LearnerError(
            f"the learner's backbone, a {type(self.backbone).__name__}, fails when it is asked: {others_words(error)}",
            allowed=f"a network that gives features of pictures of {self.config.channels}x{self.config.image_size}x"
            f"{self.config.image_size}, as many as the learner's embedding takes",
            action=_PUT_BACK,
        ) from error

    def _at_own_size(self, images: Tensor) -> Tensor:
        """Pictures of any size, 1 or 3 channels and floats of any width, as the backbone takes them.

        They are resized in 32 bits: `interpolate` has no antialiasing in fewer.
        """
        images = resize(match_channels(images.float(), self.config.channels), self.config.image_size)
        return images.to(self.mean.dtype)

    def prepare_features(self, features: Tensor) -> Tensor:
        """Normalize features (..., D) to length 1 and subtract the center, as every head expects them."""
        return self.embedding.prepare(features)

    def embed(self, images: Images, *, batch_size: int = 256, background: Color | str = WHITE) -> Tensor:
        """Embed pictures of any kind (see `MetaLearner.adapt`) for a head: eval mode, no gradients -> (B, D) on its
        device.

        With `batchnorm="transductive"` all pictures are normalized together, in one pass; else in batches,
        smaller ones of large pictures (`hf_free.runtime.memory_budget.pictures_at_once`).

        Raises:
            LearnerError: no picture, something that is none, one picture for a transductive learner, or a batch size
                that is none.
        """
        self.check()
        transductive = self.batchnorm == "transductive"
        batch_size = whole_number(batch_size, "batch_size", least=1, error=LearnerError)
        batch = as_batch(images, self.preprocessing, background=background)
        if transductive and len(batch) < 2 and batchnorm_layers(self.backbone):
            raise LearnerError(
                "one picture for a transductive learner, which normalizes pictures by what they have in common",
                allowed="two or more pictures at once, best all queries of an episode",
                action='give more pictures together, or set learner.batchnorm = "support" before adapt',
            )
        with evaluation_mode(self), batch_statistics(self.backbone) if transductive else nullcontext():
            parts = batch.split(len(batch) if transductive else min(batch_size, self._most_at_once(batch.shape[-1])))
            return torch.cat(list(in_order(self._embed_part, parts, workers=None if self.may_be_shared_out else 1)))

    def _embed_part(self, part: Tensor) -> Tensor:
        # a CPU's convolutions and pooling take half the time for pixels that lie together (docs/experiments/speed.md)
        return self.prepare_features(self.features(part.to(self.device, memory_format=torch.channels_last)))

    @property
    def may_be_shared_out(self) -> bool:
        """Whether several threads may embed a part of the pictures each: small ones, on a CPU.

        A user's own network may write down something on the way, and a pooled learner's teachers are loaded one at a
        time.
        """
        if self.device.type != "cpu" or self.embedding.pooled is not None or self.batchnorm == "transductive":
            return False
        if self.config.image_size > MOST_PIXELS_BESIDE:
            return False
        return all(type(part).__module__.startswith(_KEEP_NOTHING) for part in self.backbone.modules())

    def _most_at_once(self, size: int) -> int:
        """Pictures of one pass; a pooled learner takes many, so that each of its teachers is loaded seldom."""
        most = pictures_at_once(size)
        if self.device.type != "cpu" or self.embedding.pooled is not None:
            return most
        return min(most, pictures_in_cache(self.config.image_size))

    def copy_for(self, batchnorm: BatchNormMode) -> Self:
        """A copy that embeds with other BatchNorm statistics.

        The copy weighs neither teachers nor directions: those weights were fitted to features of the original's mode.
        """
        other = copy.deepcopy(self)
        if batchnorm != other.batchnorm:
            other.embedding.stop_weighing()
        other.batchnorm = batchnorm
        return other
