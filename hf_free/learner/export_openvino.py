"""A classifier as an OpenVINO model: NAME.xml with the graph, NAME.bin with the weights.

It is converted from the module. From an ONNX file OpenVINO drops the antialias of the resize without a word, which
costs up to a third of the accuracy.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from hf_free.errors import LearnerError
from hf_free.runtime.text import others_words

SETTINGS = {"INFERENCE_PRECISION_HINT": "f32"}
"""What the model is compiled with: on CPUs that have bf16 OpenVINO computes in it unless told otherwise."""

_EXAMPLE = (2, 3, 24, 20)


def write_openvino(
    module: nn.Module, path: Path, about: Mapping[str, object]
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Write a module of uint8 (B, 3, H, W) -> probabilities and confidence, for any B, H and W.

    Args:
        module: In eval mode.
        path: Ends in `.xml`; the weights lie beside it, in `.bin`, as floats of 32 bits.
        about: Labels, sizes and so on, kept in the model's `rt_info` under `hf_free`.

    Returns:
        A function that asks the file, by OpenVINO.

    Raises:
        LearnerError: OpenVINO is not installed, or cannot convert the module.
    """
    try:
        with without_telemetry():
            import openvino
    except ImportError:
        raise LearnerError(
            "OpenVINO is not installed", allowed="the package openvino", action="pip install 'hf-free[openvino]'"
        ) from None
    free = openvino.Dimension()
    try:
        model = openvino.convert_model(
            module,
            example_input=torch.zeros(_EXAMPLE, dtype=torch.uint8),
            input=openvino.PartialShape([free, 3, free, free]),
        )
    except Exception as error:  # whatever a network of any kind makes the converter raise
        raise LearnerError(
            f"OpenVINO cannot convert the network: {others_words(error)}",
            action="export a .onnx or .pt2 file",
        ) from None
    model.inputs[0].set_names({"images"})
    for output, name in zip(model.outputs, ("probabilities", "confidence"), strict=True):
        output.set_names({name})
    for key, value in about.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        model.set_rt_info(text, ["hf_free", key])
    openvino.save_model(model, path, compress_to_fp16=False)  # else weights are halved
    return _runner(path)


@contextmanager
def without_telemetry() -> Iterator[None]:
    """Import OpenVINO as it is without its package openvino_telemetry, which tells its makers of each import."""
    name = "openvino_telemetry"
    before = {key: sys.modules.pop(key) for key in list(sys.modules) if key.split(".")[0] == name}
    sys.modules[name] = None  # type: ignore[assignment]  # how Python is told that there is no such module
    try:
        yield
    finally:
        del sys.modules[name]
        sys.modules.update(before)


def _runner(path: Path) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    import openvino

    compiled = openvino.Core().compile_model(path, "CPU", SETTINGS)

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        found = compiled({"images": images.contiguous().numpy()})
        return torch.from_numpy(found["probabilities"].copy()), torch.from_numpy(found["confidence"].copy())

    return run
