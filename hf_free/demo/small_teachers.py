"""Training of small timm classifiers, for the demo and for the teachers of experiments; not part of FREE itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hf_free.errors import ConfigError
from hf_free.runtime.text import others_words

_STEMS = {"test_vit": 8, "test_vit2": 8, "test_convnext": 16, "test_convnext2": 16, "test_convnext3": 16}
"""Patches per side that suit timm's own small models; their unchanged stems leave 2 or 8 of a 32x32 picture."""


def small_image_args(architecture: str, size: int) -> dict[str, object]:
    """Arguments of `timm.create_model` with which an architecture sees small pictures finely enough.

    Args:
        architecture: A timm name, or one of hf-free's.
        size: Height and width of the pictures.

    Raises:
        ConfigError: a name that timm does not know.
    """
    import timm

    import hf_free.backbones.register  # noqa: F401  (registers conv4_32 and others)

    if not timm.is_model(architecture):
        raise ConfigError(f"architecture {architecture!r}", allowed="names of timm.list_models() and hf-free's own")
    arguments: dict[str, object] = {}
    cfg = timm.get_pretrained_cfg(architecture, allow_unregistered=True)
    if cfg is not None and cfg.fixed_input_size:
        arguments["img_size"] = size
    if architecture in _STEMS:
        arguments["patch_size"] = max(1, size // _STEMS[architecture])
    return arguments


@dataclass(frozen=True, kw_only=True)
class ClassifierRecipe:
    """How a classifier is trained: AdamW with a one-cycle learning rate."""

    architecture: str
    """Name of a timm model, or of one of hf-free's."""
    model_args: dict[str, Any] = field(default_factory=dict)
    """Further arguments of `timm.create_model`."""
    epochs: int = 20
    """Passes over the pictures."""
    batch_size: int = 128
    """Pictures per update."""
    lr: float = 2e-3
    """Peak learning rate."""
    weight_decay: float = 0.05
    """Decoupled weight decay."""
    shift: int = 4
    """Largest random shift in pixels; the border is filled by its nearest pixel."""
    flip: bool = True
    """Whether pictures are mirrored at random; not for writing."""
    label_smoothing: float = 0.0
    """Label smoothing."""
    seed: int = 0
    """Seed of weights, order and augmentation."""

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2 or self.lr <= 0 or self.shift < 0:
            raise ConfigError(
                f"epochs={self.epochs}, batch_size={self.batch_size}, lr={self.lr}, shift={self.shift}",
                allowed="at least 1 epoch, 2 pictures per batch, a positive rate, no negative shift",
            )

    def to_dict(self) -> dict[str, object]:
        """The recipe as plain JSON types."""
        return {**asdict(self), "optimizer": "AdamW, one-cycle learning rate"}


@dataclass(frozen=True)
class TrainedClassifier:
    """A trained network and what is known of it."""

    network: nn.Module
    """In eval mode, on the CPU."""
    accuracy: float
    """Share of held-out pictures it recognizes; NaN without any."""
    recipe: ClassifierRecipe
    """How it was trained."""
    mean: tuple[float, ...]
    """Mean per channel that pictures in [0, 1] are normalized with."""
    std: tuple[float, ...]
    """Deviation per channel."""
    input_size: tuple[int, int, int]
    """Channels, height and width."""

    def save(self, folder: Path, *, label_names: list[str]) -> None:
        """Write config.json and model.safetensors in timm's Hub layout."""
        from hf_free.teachers.saving import save_teacher

        cfg = {"input_size": self.input_size, "mean": self.mean, "std": self.std}
        args = self.recipe.model_args
        save_teacher(self.network, folder, label_names=label_names, extra_cfg=cfg, model_args=args or None)


def train_classifier(
    recipe: ClassifierRecipe,
    images: Tensor,
    labels: Tensor,
    *,
    held_out: tuple[Tensor, Tensor] | None = None,
    device: str | torch.device = "cpu",
) -> TrainedClassifier:
    """Train a classifier from scratch; the caller's random numbers are left as they were.

    Args:
        recipe: Architecture and training.
        images: uint8 (N, C, H, W).
        labels: (N,) from 0 to the number of classes less one; every class occurs.
        held_out: Pictures and labels to measure the accuracy on.
        device: Where to compute.

    Raises:
        ConfigError: an architecture or argument that timm does not know, or fewer than two classes.
    """
    device = torch.device(device)
    classes = int(labels.max()) + 1 if len(labels) else 0
    if classes < 2 or len(labels.unique()) < classes:
        raise ConfigError(f"{len(labels.unique())} of {classes} classes have pictures", allowed="all of at least two")
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(recipe.seed)
        mean, std = _colors(images)
        network = _network(recipe, classes, images.shape[1]).to(device, memory_format=torch.channels_last)
        normalize = _Normalizer(mean, std, device)
        _fit(network, recipe, images.to(device), labels.to(device), normalize)
        accuracy = float("nan")
        if held_out is not None:
            accuracy = _accuracy(network, held_out[0].to(device), held_out[1].to(device), normalize)
    network = network.to("cpu", memory_format=torch.contiguous_format).eval()
    return TrainedClassifier(network, accuracy, recipe, mean, std, (images.shape[1], images.shape[2], images.shape[3]))


class _Normalizer:
    """uint8 (B, C, H, W) -> normalized floats, channels last."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> None:
        self._mean = 255 * torch.tensor(mean, device=device).view(1, -1, 1, 1)
        self._std = 255 * torch.tensor(std, device=device).view(1, -1, 1, 1)

    def __call__(self, images: Tensor) -> Tensor:
        return ((images.float() - self._mean) / self._std).contiguous(memory_format=torch.channels_last)


def _colors(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation per channel of at most 4096 of the pictures, in [0, 1], to three places."""
    sample = images[:: max(1, len(images) // 4096)].float() / 255
    mean, std = sample.mean((0, 2, 3)), sample.std((0, 2, 3)).clamp_min(1e-2)
    return tuple(round(m, 3) for m in mean.tolist()), tuple(round(s, 3) for s in std.tolist())


def _network(recipe: ClassifierRecipe, classes: int, channels: int) -> Any:
    import timm

    import hf_free.backbones.register  # noqa: F401  (registers conv4_32 and others)

    try:
        return timm.create_model(recipe.architecture, num_classes=classes, in_chans=channels, **recipe.model_args)
    except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{recipe.architecture} with {recipe.model_args} cannot be built: {others_words(error)}",
            allowed="names of timm.list_models() and hf-free's own, with their arguments",
        ) from None


def _fit(network: nn.Module, recipe: ClassifierRecipe, images: Tensor, labels: Tensor, normalize: _Normalizer) -> None:
    batches = max(1, len(images) // recipe.batch_size)
    decayed = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    groups: list[Mapping[str, object]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(
        [dict(group) for group in groups if group["params"]],
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        fused=images.device.type in ("cpu", "cuda"),
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=recipe.lr, total_steps=recipe.epochs * batches + 1, pct_start=0.2
    )
    network.train()
    for _ in range(recipe.epochs):
        order = torch.randperm(len(images)).to(images.device)
        for chosen in order.tensor_split(batches):  # every picture once, no batch of one (BatchNorm)
            seen = _augmented(images[chosen], recipe)
            loss = F.cross_entropy(network(normalize(seen)), labels[chosen], label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()


def _augmented(images: Tensor, recipe: ClassifierRecipe) -> Tensor:
    """Shift each picture by whole pixels, and mirror some, in one gather."""
    count, _, height, width = images.shape
    device, reach = images.device, recipe.shift
    dy, dx = torch.randint(-reach, reach + 1, (2, count, 1)).to(device)
    rows = (torch.arange(height, device=device) + dy).clamp_(0, height - 1)  # (B, H)
    columns = torch.arange(width, device=device).expand(count, -1)
    if recipe.flip:
        columns = torch.where(torch.rand(count, 1).to(device) < 0.5, width - 1 - columns, columns)
    columns = (columns + dx).clamp_(0, width - 1)  # (B, W)
    batch = torch.arange(count, device=device)[:, None, None]
    return images.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


@torch.no_grad()
def _accuracy(network: nn.Module, images: Tensor, labels: Tensor, normalize: _Normalizer) -> float:
    network.eval()
    found = [network(normalize(part)).argmax(1) for part in images.split(512)]
    return (torch.cat(found) == labels).float().mean().item()
