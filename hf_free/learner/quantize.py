"""Convolutions of an ONNX file in eight bits. All else stays float.

Distance and softmax in eight bits leave no probability between 0 and 1/256: most are exactly 0, and rows no longer sum
to 1. Convolutions alone give the same size and real probabilities.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hf_free.data.procedural.dead_leaves import dead_leaves

CALIBRATED, COMPARED = 64, 128
"""Number of pictures that the ranges of activations are found from, and that the labels are compared on."""

SAME_LABELS = 0.9
"""Smallest share of drawn pictures that must get the same label as from the float file."""


def drawn_pictures(count: int, size: int, seed: int) -> Tensor:
    """uint8 (count, 3, size, size) drawn by a program: like photographs, and nobody's."""
    pixels = dead_leaves(count, size, generator=torch.Generator().manual_seed(seed))
    return (255 * pixels).round().clamp(0, 255).to(torch.uint8)


def quantize_convolutions(source: Path, target: Path, size: int) -> None:
    """Write an ONNX file anew with its convolutions in int8, static, with one scale per channel of the weights.

    Args:
        source: The float file, with an input `images`.
        target: The file to write.
        size: Height and width of the pictures that the ranges are found from.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Drawn(CalibrationDataReader):  # type: ignore[misc]
        """A few drawn pictures at a time."""

        def __init__(self) -> None:
            self._parts = iter(drawn_pictures(CALIBRATED, size, seed=1).split(16))

        def get_next(self) -> dict[str, np.ndarray] | None:
            """The next pictures, None at the end."""
            part = next(self._parts, None)
            return None if part is None else {"images": part.numpy()}

    quiet = logging.getLogger()
    before = quiet.level
    quiet.setLevel(logging.ERROR)  # it writes general advice to the root logger
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
            prepared = Path(scratch) / "prepared.onnx"
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(target),
                Drawn(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
    finally:
        quiet.setLevel(before)
