"""The three files of a learner's repository: names, format, strict reading."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from hf_free.files import why_unreadable
from hf_free.learner import LearnerError

CONFIG, WEIGHTS, EXTRA_WEIGHTS = "config.json", "model.safetensors", "hf_free.safetensors"
FILES = (CONFIG, WEIGHTS, EXTRA_WEIGHTS)
FORMAT_VERSION = 1

_BLOCK_KEYS = {"views", "batchnorm", "projection", "centered", "feature_dim"}


def plain_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous copies on the CPU, as safetensors wants them."""
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}


def read_config(folder: Path, source: str) -> dict[str, Any]:
    """config.json of a learner.

    Raises:
        LearnerError: no such file, not a learner's, or of a newer format.
    """
    _check_may_read(folder, source)
    _check_may_read(folder / CONFIG, source)
    try:
        content = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LearnerError(
            f"{source} has no {CONFIG}", allowed=f"a learner's folder with {', '.join(FILES)}"
        ) from None
    except (OSError, ValueError) as error:
        raise LearnerError(f"{source}: {CONFIG} cannot be read: {error}") from None
    block = content.get("hf_free") if isinstance(content, dict) else None
    if not isinstance(block, dict):
        raise LearnerError(
            f"{source} is not an hf-free learner: its {CONFIG} has no hf_free block",
            allowed="a learner made by hf-free train or MetaLearner.save_pretrained",
            action="a plain timm checkpoint can serve as a teacher: hf-free train --models ...",
        )
    if block.get("format_version") != FORMAT_VERSION:
        raise LearnerError(
            f"{source} is in learner format {block.get('format_version')!r}",
            allowed=f"format {FORMAT_VERSION}",
            action="install a newer hf-free",
        )
    missing = _BLOCK_KEYS - set(block.get("learner", {}))
    if missing or not {"mean", "std"} <= set(content.get("pretrained_cfg", {})):
        raise LearnerError(
            f"{source}: {CONFIG} is incomplete, missing {', '.join(sorted(missing)) or 'pretrained_cfg.mean or std'}",
            action="save or push the learner again",
        )
    return content


def read_tensors(path: Path, source: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        LearnerError: no such file, or a damaged one.
    """
    _check_may_read(path, source)
    try:
        return load_file(path)
    except FileNotFoundError:
        raise LearnerError(
            f"{source} has no {path.name}",
            allowed=f"{', '.join(FILES)}; pickled weights are never read",
            action="save the learner with save_pretrained",
        ) from None
    except (OSError, SafetensorError) as error:
        raise LearnerError(f"{source}: {path.name} is damaged: {error}", action="download or save it again") from None


def _check_may_read(path: Path, source: str) -> None:
    problem = why_unreadable(path)
    if problem:
        raise LearnerError(f"{source}: {problem}", action=f"its owner lets others read it: chmod -R a+rX {source}")


def take_part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Take a part's tensors out of a learner's, under the names that the part itself gives them."""
    keys = [key for key in tensors if key.startswith(f"{name}.")]
    return {key.removeprefix(f"{name}."): tensors.pop(key) for key in keys}


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Load weights with exactly the module's keys and shapes.

    Raises:
        LearnerError: missing or unexpected keys, or other shapes.
    """
    try:
        module.load_state_dict(dict(tensors), strict=True)
    except RuntimeError as error:
        raise LearnerError(
            f"the weights of {source} do not fit: {' '.join(str(error).split())[:600]}",
            allowed="exactly the network's own keys and shapes",
            action="check that the repository was written by one save_pretrained",
        ) from None
