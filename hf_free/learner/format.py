"""The files of a learner's repository: names, format, strict reading."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from hf_free.backbones.weights import check_finite, read_header, why_no_weights_file
from hf_free.errors import LearnerError, TeacherError
from hf_free.provenance.reading import Json
from hf_free.runtime.files import why_unreadable
from hf_free.runtime.git_lfs import WAY_OUT, is_pointer
from hf_free.runtime.given import why_no_weights
from hf_free.runtime.saved_kind import MAX_CONFIG_BYTES as MAX_CONFIG_BYTES
from hf_free.runtime.strict_json import read_strict_json, why_no_json

CONFIG, WEIGHTS, EXTRA_WEIGHTS = "config.json", "model.safetensors", "hf_free.safetensors"
FILES = (CONFIG, WEIGHTS, EXTRA_WEIGHTS)
WEIGHT_FILES = (WEIGHTS, EXTRA_WEIGHTS)
CLASSIFIER_CONFIG, CLASSIFIER_WEIGHTS = "classifier.json", "classifier.safetensors"
SUPPORT = "support.safetensors"
"""The classifier's support set; older versions ignore the file."""
STAGING = ".saving-"
"""Prefix of the name of the folder that a save writes new files into, see `hf_free.learner.one_step`."""
FORMAT_VERSION = 1

_STORED_PARTS = {"gate": "relevance", "whitening": "damping"}
"""Parts of an embedding, and what their tensors are called in hf_free.safetensors of format 1."""

Header = Mapping[str, tuple[tuple[int, ...], str]]
"""Shape and type of each tensor of a safetensors file."""

_FLOATING = frozenset({"F16", "BF16", "F32", "F64"})


def plain_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous copies on the CPU that share no memory, as safetensors wants them; tied weights are stored twice."""
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}


def way_from_teacher(name: str) -> str:
    """What to do with a classifier that is no learner, such as a teacher that is named in a learner's place."""
    return (
        f"a plain image classifier can be a teacher: hf-free pool --models {name} ... --output runs/pooled "
        "(or hf-free train, distill); then name that folder, or hf-free adapt it"
    )


def stored_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An embedding's tensors under the names they have in hf_free.safetensors."""
    return _renamed(tensors, _STORED_PARTS)


def part_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of hf_free.safetensors under the names they have in an embedding."""
    return _renamed(tensors, {stored: part for part, stored in _STORED_PARTS.items()})


def _renamed(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    split = {name: name.partition(".") for name in tensors}
    return {names.get(part, part) + dot + rest: tensors[name] for name, (part, dot, rest) in split.items()}


def read_json(path: Path, source: str) -> Json:
    """A JSON object of a learner's folder.

    Raises:
        LearnerError: no such file, one that may not be read, or no JSON object; see `read_strict_json`.
    """
    _check_may_read(path.parent, source)
    _check_may_read(path, source)
    try:
        content = read_strict_json(path, max_bytes=MAX_CONFIG_BYTES)
    except FileNotFoundError:
        raise LearnerError(
            f"{source} has no {path.name}", allowed=f"a learner's folder with {', '.join(FILES)}"
        ) from None
    except (OSError, ValueError) as error:
        check_is_no_pointer(path, source)
        raise LearnerError(
            f"{source}: {path.name} cannot be read: {why_no_json(error)}", action="save or download the learner again"
        ) from None
    if not isinstance(content, dict):
        raise LearnerError(f"{source}: {path.name} holds a {type(content).__name__}", allowed="a JSON object")
    return content


def read_tensor_header(path: Path, source: str) -> Header:
    """Shape and type of each tensor of a safetensors file; the tensors are not read.

    Raises:
        LearnerError: no such file, or a damaged one.
    """
    _check_may_read(path, source)
    if not path.is_file():
        what = f"{source}: {path.name} is not a regular file" if path.exists() else f"{source} has no {path.name}"
        raise LearnerError(
            what,
            allowed="all files of one save_pretrained; pickled weights are never read",
            action="save or download it again, whole",
        )
    try:
        with path.open("rb"):  # safetensors calls a file that may not be read a missing one
            return read_header(path, source)
    except (OSError, TeacherError) as error:
        if why_no_weights(path) and isinstance(error, TeacherError):
            raise LearnerError(error.given, allowed=error.allowed, action=error.action) from None
        check_is_no_pointer(path, source)
        raise LearnerError(
            f"{source}: {path.name} is damaged or cannot be read: {why_no_weights_file(error)}",
            action="download or save it again",
        ) from None


def read_tensors(path: Path, source: str, network: nn.Module | None = None) -> dict[str, Tensor]:
    """The tensors of a safetensors file, all finite.

    Args:
        path: The file.
        source: The learner's name, for errors.
        network: A new one; buffers that it holds as infinite may be so.

    Raises:
        LearnerError: a damaged file, or a tensor with a NaN or an infinity.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        given = f"{source}: {path.name} is damaged: {why_no_weights_file(error)}"
        raise LearnerError(given, action="download or save it again") from None
    try:
        check_finite(tensors, f"{source}, {path.name}", network)
    except TeacherError as error:
        raise LearnerError(
            error.given, allowed=error.allowed, action="use another learner; the training of this one broke"
        ) from None
    return tensors


def check_tensors(header: Header, wanted: Mapping[str, Tensor], source: str, file: str) -> None:
    """Compare the names, shapes and types of a file's tensors with those that are wanted, before any is read.

    Args:
        header: The file's.
        wanted: Tensors, of the meta device too.
        source: The learner's name, for errors.
        file: The file's name.

    Raises:
        LearnerError: a tensor that is missing, not expected, or of another shape or type.
    """
    problems = [f"Missing key {name}" for name in wanted if name not in header]
    problems += [f"Unexpected key {name[:100]}" for name in header if name not in wanted]
    for name in wanted.keys() & header.keys():
        (shape, kind), tensor = header[name], wanted[name]
        if shape != tuple(tensor.shape):
            problems.append(f"size mismatch for {name}: {list(shape)}, not {list(tensor.shape)}")
        elif not _is_of_type(kind, tensor):
            problems.append(f"{name} has type {kind}")
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise LearnerError(
            f"the weights of {source} ({file}) do not fit: {'; '.join(sorted(problems)[:3])}{more}",
            allowed=f"exactly the tensors that {CONFIG} declares",
            action="check that the repository was written by one save_pretrained",
        )


def _is_of_type(kind: str, tensor: Tensor) -> bool:
    if tensor.is_floating_point():
        return kind in _FLOATING
    return kind == {"torch.int64": "I64", "torch.int32": "I32", "torch.bool": "BOOL"}.get(str(tensor.dtype), kind)


def refuse_stranger(source: str, file: str, is_named: bool, index: str = CONFIG) -> None:
    """Refuse a file that is not the one which config.json or classifier.json names by its SHA-256.

    Raises:
        LearnerError: with what to do.
    """
    if not is_named:
        raise LearnerError(
            f"{source}: {file} is not the file that {index} was saved with",
            allowed="files that were saved together",
            action="save or download the learner again, whole",
        )


def check_is_no_pointer(path: Path, source: str) -> None:
    """Name what a clone without git-lfs holds in the place of a file.

    Raises:
        LearnerError: a pointer.
    """
    if is_pointer(path):
        raise LearnerError(
            f"{source}: {path.name} is a git-lfs pointer, not the file itself", action=WAY_OUT
        ) from None


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
