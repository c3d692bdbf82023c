"""A classifier as a LiteRT (TensorFlow Lite) file, for one picture of one size."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path

import torch
from torch import Tensor, nn

from hf_free.errors import LearnerError
from hf_free.runtime.text import others_words

ABOUT = "about.json"
"""Name of the description inside the file; `unzip -p pets.tflite about.json` shows it."""


class _Named(nn.Module):
    """Gives its answers by name: the converter calls outputs `output_0` and so on otherwise."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 pictures -> probabilities and confidence."""
        probabilities, confidence = self.module(images)
        return {"probabilities": probabilities, "confidence": confidence}


def write_litert(
    module: nn.Module, path: Path, about: Mapping[str, object], given: tuple[int, int]
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Write a module of uint8 (1, 3, H, W) -> probabilities and confidence, for one H and W.

    Args:
        module: In eval mode.
        path: Ends in `.tflite`; weights are floats of 32 bits.
        about: Labels, sizes and so on, appended as a zip archive, where LiteRT's own tools look for labels.
        given: Height and width of the picture.

    Returns:
        A function that asks the file, by LiteRT.

    Raises:
        LearnerError: LiteRT or its converter is not installed, or cannot convert the module.
    """
    try:
        import ai_edge_litert.interpreter  # noqa: F401  what the file is run in
        import litert_torch
    except ImportError as error:
        raise LearnerError(
            f"LiteRT takes a package that is not installed: {error.name}",
            allowed="litert-torch, which brings ai-edge-litert",
            action="pip install 'hf-free[litert]'",
        ) from None
    example = {"images": torch.zeros(1, 3, *given, dtype=torch.uint8)}
    try:
        with redirect_stdout(io.StringIO()), torch.no_grad():  # it tells of each step on stdout
            litert_torch.convert(_Named(module).eval(), sample_kwargs=example).export(str(path))
    except Exception as error:  # whatever a network of any kind makes the converter raise
        raise LearnerError(
            f"LiteRT cannot convert the network: {others_words(error)}",
            action="export a .onnx or .pt2 file",
        ) from None
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(ABOUT), json.dumps(about, indent=2, ensure_ascii=False))
    return _runner(path)


def _runner(path: Path) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    from ai_edge_litert.interpreter import Interpreter

    ask = Interpreter(str(path), num_threads=torch.get_num_threads()).get_signature_runner()

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        found = ask(images=images.contiguous().numpy())
        return torch.from_numpy(found["probabilities"].copy()), torch.from_numpy(found["confidence"].copy())

    return run
