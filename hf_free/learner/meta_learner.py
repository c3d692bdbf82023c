"""`MetaLearner`, the network that is trained, published and adapted.

The form in which it is saved is in `hf_free.learner.persistence`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from hf_free.config.init_from import InitFrom
from hf_free.config.sections import LearnerConfig
from hf_free.data.decoding import WHITE, Color, parse_color
from hf_free.data.images import VIEWS, Images, Preprocessing, as_batch, match_channels, resize
from hf_free.errors import LearnerError, PushError
from hf_free.learner.backbone import build_backbone, check_takes_pictures, pretrained_timm
from hf_free.learner.batchnorm import (
    batch_statistics,
    batchnorm_layers,
    evaluation_mode,
    with_support_statistics,
)
from hf_free.learner.classifier import BatchNormMode, FewShotClassifier, index_labels
from hf_free.learner.embedding import joint_embedding
from hf_free.learner.format import FILES, load_strictly
from hf_free.learner.gating import TeacherGate
from hf_free.learner.heads import fit_weighted, get_head, normalize_features
from hf_free.learner.maml import fine_tune
from hf_free.learner.one_step import replaced_in_one_step
from hf_free.learner.persistence import fetch_learner, find_learner, hf_free_block, rebuild, write_files
from hf_free.learner.shared_classes import SharedClasses
from hf_free.learner.whitening import Whitening
from hf_free.runtime.memory_budget import pictures_at_once

__all__ = ["BatchNormMode", "FewShotClassifier", "MetaLearner"]

DEFAULT_MEAN, DEFAULT_STD = 0.5, 0.25
"""Normalisation where none is given: near the channel means (0.44 to 0.51) and deviations (0.26 to 0.28) of CIFAR's
natural pictures."""


class MetaLearner(nn.Module, PyTorchModelHubMixin, library_name="hf-free", pipeline_tag="image-classification"):
    """A timm backbone plus how to adapt it to new classes.

    Args:
        config: Backbone, picture size and channels, head.
        record: Provenance that is saved with it in the `hf_free` block (configuration, teachers, results).
        views: Test-time views whose features are averaged, names from `hf_free.data.images.VIEWS`.
        projection: Linear map from the backbone's features to the embedding; None leaves them as they are.
        answer_sizes: Number of answers of each teacher in the projection's output; with them the embedding joins
            predicted answers and features (`hf_free.learner.embedding`), else it is the projection's output.
        center: (D,) subtracted from L2-normalised features before the head sees them; None subtracts nothing.
        relevance: Weighs the teachers' answers by an episode's support; None lets all count alike.
        damping: Lets directions in which recovered pictures differ most count less; None does not.
        shared_classes: Scores the classes that teachers share as one, beside each teacher's answers; None does not.
        batchnorm: Which statistics BatchNorm uses when embedding, see `BatchNormMode`.
        mean: Mean a channel that pictures in [0, 1] are normalised with.
        std: Deviation a channel, likewise.
        model_args: Further arguments of `timm.create_model`, JSON-able (for instance `patch_size` of a ViT).

    Raises:
        LearnerError: a backbone, view or BatchNorm mode that does not exist; a centre and a relevance.

    Example:
        >>> learner = MetaLearner.from_pretrained("org/learner")  # doctest: +SKIP
        >>> classifier = learner.adapt(pictures, ["cat", "dog"])  # doctest: +SKIP
        >>> classifier.predict(more_pictures)  # doctest: +SKIP
    """

    mean: Tensor
    std: Tensor
    center: Tensor | None

    def __init__(
        self,
        config: LearnerConfig | None = None,
        record: dict[str, Any] | None = None,
        *,
        views: Sequence[str] = ("identity",),
        projection: nn.Linear | None = None,
        answer_sizes: Sequence[int] | None = None,
        center: Tensor | None = None,
        relevance: TeacherGate | None = None,
        damping: Whitening | None = None,
        shared_classes: SharedClasses | None = None,
        batchnorm: BatchNormMode = "running",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        model_args: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.config = config or LearnerConfig()
        self.record = dict(record or {})
        self.views, self.batchnorm = _checked_views(views), _checked_batchnorm(batchnorm)
        self.model_args = dict(model_args or {})
        channels = self.config.channels
        mean = tuple(mean or (DEFAULT_MEAN,) * channels)
        std = tuple(std or (DEFAULT_STD,) * channels)
        self.backbone = build_backbone(self.config, self.model_args, mean, std)
        self.projection = projection
        self.answer_sizes = None if answer_sizes is None else tuple(answer_sizes)
        if relevance is not None and center is not None:
            raise LearnerError("a centre and a relevance", allowed="one of them: relevance needs features of length 1")
        self.relevance, self.damping, self.shared_classes = relevance, damping, shared_classes
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("center", center)

    @classmethod
    def create(
        cls,
        config: LearnerConfig,
        record: dict[str, Any] | None = None,
        *,
        token: str | None = None,
        cache_dir: str | None = None,
        **options: Any,
    ) -> MetaLearner:
        """Build a learner and, where `config.init_from` says so, start it from existing weights.

        `timm:NAME` takes timm's weights (named "not data-free" in the record); anything else is a learner's Hub id
        or folder. `options` go to the constructor.

        Raises:
            LearnerError: weights of another architecture, or that cannot be had.
        """
        source = config.init_from
        if source is None:
            return cls(config, record, **options)
        if not InitFrom.parse(source).is_learner:
            network = pretrained_timm(source, config, cache_dir)
            cfg: Any = network.pretrained_cfg
            options = {"mean": cfg["mean"][: config.channels], "std": cfg["std"][: config.channels], **options}
            start = {"init_from": source, "data_free": False}
        else:
            name, _, revision = source.partition("@") if not Path(source).exists() else (source, "", "")
            other = cls.from_pretrained(name, revision=revision or None, token=token, cache_dir=cache_dir)
            network = other.backbone
            options = {
                "views": other.views,
                "projection": other.projection,
                "answer_sizes": other.answer_sizes,
                "center": other.center,
                "relevance": other.relevance,
                "damping": other.damping,
                "shared_classes": other.shared_classes,
                "mean": other.mean.flatten().tolist(),
                "std": other.std.flatten().tolist(),
                "model_args": other.model_args,
                **options,
            }
            start = {"init_from": source, "data_free": other.record.get("data_free", True)}
        learner = cls(config, {**(record or {}), **start}, **options)
        load_strictly(learner.backbone, network.state_dict(), source)
        return learner

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
        if self.projection is None:
            return self.backbone_dim
        if self.answer_sizes is None:
            return self.projection.out_features
        return self.projection.out_features + len(self.shared_classes or ()) + self.backbone_dim

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.mean.device

    @property
    def preprocessing(self) -> Preprocessing:
        """How pictures are brought to the learner's size: whole, their shape not kept, bilinear."""
        return Preprocessing(self.config.image_size, self.config.channels)

    def features(self, images: Tensor) -> Tensor:
        """Embed pictures; differentiable, in whatever mode (train or eval) the learner is.

        Args:
            images: (B, C, H, W) in [0, 1], any size, 1 or 3 channels.

        Returns:
            (B, D), not normalised, averaged over the views.
        """
        images = self._at_own_size(images)
        stacked = torch.cat([VIEWS[name](images) for name in self.views])  # (V * B, C, H, W)
        features = self.backbone((stacked - self.mean) / self.std)
        features = features.unflatten(0, (len(self.views), len(images))).float().mean(0)
        if self.projection is None:
            return features
        answers = self.projection(features)  # linear: of the mean view, the mean answer
        if self.answer_sizes is None:
            return answers
        return joint_embedding(answers, features, self.answer_sizes, self.shared_classes)

    def raw_answers(self, images: Tensor) -> Tensor:
        """One view's features before any embedding: the projection's output, or the backbone's without one.

        Args:
            images: (B, C, H, W) in [0, 1], any size.
        """
        images = self._at_own_size(images)
        features = self.backbone((images - self.mean) / self.std)
        return features if self.projection is None else self.projection(features)

    forward = features

    def _at_own_size(self, images: Tensor) -> Tensor:
        """Pictures of any size, 1 or 3 channels and floats of any width, as the backbone takes them.

        They are resized in 32 bits: `interpolate` has no antialiasing in fewer.
        """
        images = resize(match_channels(images.float(), self.config.channels), self.config.image_size)
        return images.to(self.mean.dtype)

    def prepare_features(self, features: Tensor) -> Tensor:
        """Normalise features (..., D) to length 1 and subtract the centre, as every head expects them."""
        features = normalize_features(features)
        return features if self.center is None else features - self.center

    def embed(self, images: Images, *, batch_size: int = 256, background: Color | str = WHITE) -> Tensor:
        """Embed pictures of any kind (see `adapt`) for a head: eval mode, no gradients -> (B, D) on its device.

        With `batchnorm="transductive"` all pictures are normalised together, in one pass; else in batches,
        smaller ones of large pictures (`hf_free.runtime.memory_budget.pictures_at_once`).

        Raises:
            LearnerError: no picture, something that is none, or one picture for a transductive learner.
        """
        transductive = self.batchnorm == "transductive"
        batch = as_batch(images, self.preprocessing, background=background)
        if transductive and len(batch) < 2 and batchnorm_layers(self.backbone):
            raise LearnerError(
                "one picture for a transductive learner, which normalises pictures by what they have in common",
                allowed="two or more pictures at once, best all queries of an episode",
                action='give more pictures together, or set learner.batchnorm = "support" before adapt',
            )
        with evaluation_mode(self), batch_statistics(self.backbone) if transductive else nullcontext():
            parts = batch.split(len(batch) if transductive else min(batch_size, pictures_at_once(batch.shape[-1])))
            return torch.cat([self.prepare_features(self.features(part.to(self.device))) for part in parts])

    def adapt(
        self, support_images: Images, support_labels: Any, *, background: Color | str = WHITE
    ) -> FewShotClassifier:
        """Learn new classes from a few labelled pictures.

        Within a caller's autocast block only the embedding of pictures takes part in it: heads, BatchNorm statistics
        and the steps of `maml` are computed in fp32, as they are outside.

        Args:
            support_images: A list of paths, PIL pictures, arrays or tensors (C, H, W) of any sizes, or one batch:
                a tensor (B, C, H, W), or an array with its channels first or last. Numbers are uint8, uint16, or
                floats in [0, 1]. All are read as `hf-free predict` reads files: turned as EXIF says, transparency
                laid on `background`, the first of several frames.
            support_labels: One str or int label a picture, any values, any number of pictures a class.
            background: What transparent pictures are laid on, of the pictures to predict too: a colour's name,
                `#rrggbb` or three numbers.

        Raises:
            LearnerError: lengths that differ, no pictures, fewer than two classes; `PictureError` where something is
                no picture or cannot be read.
        """
        ground = parse_color(background)
        images = as_batch(support_images, self.preprocessing, background=ground).to(self.device)
        classes, labels = index_labels(support_labels, len(images))
        labels = labels.to(self.device)
        learner = self
        if self.batchnorm == "support":
            learner = with_support_statistics(self, images)
        if self.config.head == "maml":
            learner, classifier = fine_tune(learner, images, labels, len(classes))
        else:
            support = learner.embed(images)[None]
            factors = None if learner.relevance is None else learner.relevance(support)
            head = get_head(self.config.head)
            classifier = fit_weighted(head, support, labels[None], len(classes), factors, self.damping)
        return FewShotClassifier(learner, classifier.weight[0], classifier.bias[0], classes, background=ground)

    def hf_free_block(self) -> dict[str, Any]:
        """The `hf_free` block of config.json: the record and what rebuilds this learner."""
        return hf_free_block(self)

    def write_files(self, folder: Path) -> dict[str, str]:
        """Write the three files into an empty folder; the SHA-256 of the two that hold weights."""
        return write_files(self, folder)

    def save_pretrained(self, save_directory: str | Path, **_: Any) -> None:  # type: ignore[override]
        """Write the three files of a learner into a folder; other files there, such as a card, stay as they are.

        Over an older learner this is one step: a process killed at any moment leaves the old one or the new one.
        """
        with replaced_in_one_step(Path(save_directory), FILES) as fresh:
            write_files(self, fresh)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        map_location: str | torch.device = "cpu",
    ) -> MetaLearner:
        """Load a learner from the Hub or a folder, strictly: every weight present, none too many, never a pickle.

        Args:
            pretrained_model_name_or_path: Hub id `org/name`, or a local folder (an existing folder wins).
            revision: Branch, tag or commit of the Hub repository.
            token: Access token; by default the one that `hf auth login` stored.
            cache_dir: Folder of the download cache.
            local_files_only: Whether to use the cache alone.
            map_location: Device to put the learner on.

        Raises:
            LearnerError: a folder or repository that holds no learner.
            HubError: a repository that cannot be had.
        """
        source = str(pretrained_model_name_or_path)
        folder = fetch_learner(
            source, revision=revision, token=token, cache_dir=cache_dir, local_files_only=local_files_only
        )
        return cls.from_folder(folder, source).to(map_location)

    @classmethod
    def from_folder(cls, folder: Path, source: str, *, weights: Mapping[str, str] | None = None) -> MetaLearner:
        """`from_pretrained` of a folder.

        Args:
            folder: It.
            source: The learner's name, for errors.
            weights: The SHA-256 of its weights, where it has to be a certain learner.

        Raises:
            LearnerError: as there, or another learner.
        """
        return rebuild(find_learner(folder, source, weights), cls).eval()

    def push_to_hub(  # type: ignore[override]
        self,
        repo_id: str,
        *,
        token: str | None = None,
        private: bool = False,
        commit_message: str = "Upload meta-learner with hf-free",
        create_pr: bool = False,
        revision: str | None = None,
        replace_card: bool = False,
    ) -> str:
        """Publish the learner's three files and a card made from its record; private teachers go unnamed.

        A card that is there already stays, unless `replace_card` says otherwise: it may have been edited by hand.

        `hf-free push` publishes a run's folder, with its picture of recovered images too.

        Returns:
            The address of the commit.

        Raises:
            HubError: an upload that fails.
        """
        from hf_free.hub.upload import push_folder
        from hf_free.publishing.card import write_card

        with tempfile.TemporaryDirectory() as scratch:
            self.save_pretrained(scratch)
            write_card(Path(scratch), self.hf_free_block(), repo_id=repo_id)
            try:
                return push_folder(
                    Path(scratch),
                    repo_id,
                    token=token,
                    private=private,
                    commit_message=commit_message,
                    create_pr=create_pr,
                    revision=revision,
                    replace_card=replace_card,
                )
            except PushError as error:  # without the folder, which is gone
                raise error.cause from None


def _checked_views(views: Sequence[str]) -> tuple[str, ...]:
    """The views' names, all known and at least one."""
    unknown = [name for name in views if name not in VIEWS]
    if unknown or not views:
        raise LearnerError(f"views {list(views)}", allowed=f"one or more of {', '.join(VIEWS)}")
    return tuple(views)


def _checked_batchnorm(mode: BatchNormMode) -> BatchNormMode:
    """The mode, if it exists."""
    if mode not in get_args(BatchNormMode):
        raise LearnerError(f"batchnorm={mode!r}", allowed=", ".join(get_args(BatchNormMode)))
    return mode
