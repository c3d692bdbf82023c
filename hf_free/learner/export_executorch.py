"""A classifier as an ExecuTorch file, for one picture of one size."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hf_free.errors import LearnerError
from hf_free.runtime.text import others_words


def write_executorch(
    module: nn.Module, path: Path, about: Mapping[str, object], given: tuple[int, int]
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Write a module of uint8 (1, 3, H, W) -> probabilities and confidence, for one H and W.

    XNNPACK computes what it knows, ExecuTorch's own portable operations the rest: both are in its runtimes for
    Android, iOS and Python.

    Args:
        module: In eval mode.
        path: Ends in `.pte`; weights are floats of 32 bits.
        about: Labels, sizes and so on, as JSON, which the file's method `about` gives.
        given: Height and width of the picture.

    Returns:
        A function that asks the file, by ExecuTorch.

    Raises:
        LearnerError: ExecuTorch is not installed, or cannot convert the module.
    """
    try:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower
    except ImportError as error:
        raise LearnerError(
            f"ExecuTorch takes a package that is not installed: {error.name}",
            allowed="the package executorch",
            action="pip install 'hf-free[executorch]'",
        ) from None
    try:
        with torch.no_grad():
            program = torch.export.export(module, (torch.zeros(1, 3, *given, dtype=torch.uint8),))
            lowered: Any = to_edge_transform_and_lower(
                program,
                partitioner=[XnnpackPartitioner()],
                constant_methods={"about": json.dumps(about, ensure_ascii=False)},
            )
            content = lowered.to_executorch().buffer
    except Exception as error:  # whatever a network of any kind makes the converter raise
        raise LearnerError(
            f"ExecuTorch cannot convert the network: {others_words(error)}",
            action="export a .onnx or .pt2 file",
        ) from None
    path.write_bytes(content)
    return _runner(path)


def _runner(path: Path) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(path)
    method = program.load_method("forward")

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        # it takes pictures in the layout channels_last too, and reads their bytes in the wrong order
        probabilities, confidence = method.execute([images.contiguous()])
        return probabilities.clone(), confidence.clone()

    return run
