"""Pico timm classifiers of different kinds for the tests: built in milliseconds, in memory or as a Hub repository.

`from pico import pico_teacher` works in every test, since pytest puts this folder on the path.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import hf_free.backbones.register  # noqa: F401  (registers conv4_32)
from hf_free.evaluation.datasets import LabeledImages
from hf_free.inversion.task import to_uint8
from hf_free.teachers.saving import build_teacher, record_for, save_teacher
from hf_free.teachers.teacher import Teacher

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "conv4": ("conv4_32", {"width": 8}),
    "resnet": ("test_resnet", {}),
    "vit": ("test_vit", {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}),
    "convnext": ("test_convnext", {"patch_size": 2, "dims": (8, 16, 16, 16), "depths": (1, 1, 1, 1)}),
    "groupnorm": ("test_efficientnet_gn", {}),
    "mobilenet": ("mobilenetv3_small_050", {}),
}
"""Kind -> (timm name, arguments). BatchNorm: conv4, resnet, mobilenet; LayerNorm: vit, convnext; groupnorm."""

_SIZED = ("conv4", "vit")
"""Kinds built for one image size."""


def pico_network(
    kind: str = "conv4", *, num_classes: int = 5, size: int = 32, in_chans: int = 3, seed: int = 0, **model_args: Any
) -> nn.Module:
    """A classifier with random weights, BatchNorm statistics of noise images and a head that distinguishes them."""
    architecture, arguments = KINDS[kind]
    arguments = {**arguments, **({"img_size": size} if kind in _SIZED else {}), **model_args}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = timm.create_model(architecture, num_classes=num_classes, in_chans=in_chans, **arguments)
        network.pretrained_cfg = {**network.pretrained_cfg, "input_size": (in_chans, size, size)}
        with torch.no_grad():
            for parameter in network.get_classifier().parameters():
                nn.init.normal_(parameter, std=0.5)  # some kinds start with a head of zeros
            network.train()
            for _ in range(3):
                network(torch.randn(8, in_chans, size, size))
    return network.eval()


def pico_teacher(kind: str = "conv4", *, label_names: Sequence[str] | None = None, **options: Any) -> Teacher:
    """`pico_network` as a frozen teacher, with mean and std of its own."""
    network = pico_network(kind, **options)
    return build_teacher(network, record_for(network, reference=f"pico/{kind}", **_cfg(network, label_names)))


def pico_folder(
    folder: Path, kind: str = "conv4", *, label_names: Sequence[str] | None = None, **options: Any
) -> Path:
    """`pico_network` written in timm's Hub layout; returns the folder."""
    network = pico_network(kind, **options)
    save_teacher(network, folder, label_names=label_names, extra_cfg=_cfg(network, None))
    return folder


def pico_files(kind: str = "conv4", **options: Any) -> dict[str, bytes]:
    """`pico_network`'s repository as file contents, for `LoopbackHub.add_repo`."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        written = pico_folder(Path(folder), kind, **options)
        return {path.name: path.read_bytes() for path in sorted(written.iterdir())}


def _cfg(network: nn.Module, label_names: Sequence[str] | None) -> dict[str, Any]:
    size = tuple(network.pretrained_cfg["input_size"])
    cfg = {"input_size": size, "mean": (0.5, 0.4, 0.3)[: size[0]], "std": (0.25, 0.2, 0.3)[: size[0]]}
    return cfg if label_names is None else {**cfg, "label_names": tuple(label_names)}


def pico_run() -> dict[str, Any]:
    """Configuration of a run of a second: three steps, a learner for 16 pixels, no task left out."""
    return {
        "five": {"latent_dim": 8, "width": 4, "images_per_class": 4, "inner_steps": 1, "min_teacher_accuracy": 0.0,
                 "min_diversity": 0.0},
        "memory": {"drawn_per_step": 8, "max_images": 100, "held_out_images": 8},
        "bell": {"batch_size": 16, "updates_per_step": 1},
        "learner": {"backbone": "conv4_32", "image_size": 16},
        "trainer": {"steps": 3, "warmup_steps": 0, "picture_every": 1000, "device": "cpu"},
    }  # fmt: skip


def brightness_classes(count: int = 60) -> LabeledImages:
    """Pictures (N, 3, 16, 16) of four classes, the brighter the later the class."""
    labels = torch.arange(count) % 4
    generator = torch.Generator().manual_seed(5)
    pictures = torch.rand(count, 3, 16, 16, generator=generator) * (0.3 + 0.2 * labels.view(-1, 1, 1, 1))
    return LabeledImages(to_uint8(pictures), labels, ["a", "b", "c", "d"], "test", "test")


def constant_folder(path: Path, **options: Any) -> Path:
    """A whole checkpoint that is of no use as a teacher: it answers every image alike."""
    folder = pico_folder(path, "conv4", **options)
    weights = load_file(folder / "model.safetensors")
    zero = {name: torch.zeros_like(value) if name.startswith("head.") else value for name, value in weights.items()}
    save_file(zero, folder / "model.safetensors")
    return folder


class CrampedNetwork(nn.Module):
    """A network that has memory for a few pictures at once, and asks for a petabyte otherwise.

    Args:
        network: The classifier it stands for.
        room: Pictures that it has memory for.
    """

    def __init__(self, network: nn.Module, room: int) -> None:
        super().__init__()
        self.network, self.room = network, room

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        if len(x) > self.room:
            return torch.empty(2**50, dtype=torch.uint8)
        return self.network.forward_features(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return self.network.forward_head(x, pre_logits=pre_logits)
