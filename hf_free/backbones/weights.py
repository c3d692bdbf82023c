"""A safetensors file against the network it is meant for: every difference is named before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from hf_free.errors import TeacherError, UnfitTeacherError
from hf_free.runtime.files import read_bounded
from hf_free.runtime.given import why_no_weights
from hf_free.runtime.storage import storage_problem

_SHOWN = 4
"""Most tensor names that a message shows."""

_WRAPPERS = ("module.", "_orig_mod.", "model.", "network.", "net.", "backbone.")
"""Prefixes of DataParallel and DistributedDataParallel, of torch.compile, and of people's own wrappers (in Lightning
for instance), one within another."""

SMALL_FILE = 2**22
"""Bytes of a file that is read whole."""

_LOW_PRECISION = {"F16": torch.float16, "BF16": torch.bfloat16}
_FLOATING = {"F32", "F64", *_LOW_PRECISION}


_BROKEN = {
    "header too small": "it is shorter than any header",
    "header too large": "it does not begin with the length of a header",
    "invalid header length": "it ends within its header",
    "in header": "its header is no list of tensors",
    "incomplete metadata": "it is shorter or longer than its header says",
    "offset": "its header names bytes that are none of its tensors",
    "shape": "its header names bytes that are none of its tensors",
}
"""What safetensors says of a file that it cannot open, by a part of its words, in ours."""


def why_no_weights_file(error: Exception) -> str:
    """Why a safetensors file cannot be read, in words that do not depend on the library's."""
    if isinstance(error, OSError):
        return (error.strerror or "it cannot be read").lower()
    return next((reason for part, reason in _BROKEN.items() if part in str(error)), "it is no safetensors file")


def read_header(path: Path, name: str) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and type of every tensor of a safetensors file, without reading the tensors.

    Raises:
        TeacherError: a file that is truncated or no safetensors file, or one of a name that safetensors cannot open.
    """
    if problem := why_no_weights(path):
        raise TeacherError(
            f"{name}: the path of {path.name} {problem}", allowed="folders named in UTF-8", action="rename the folder"
        )
    try:
        with safe_open(path, framework="pt") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
            return {key: (tuple(s.get_shape()), s.get_dtype()) for key, s in slices.items()}
    except (SafetensorError, OSError) as error:
        raise TeacherError(
            f"{name}: {path.name} cannot be read, it is truncated or broken: {why_no_weights_file(error)}",
            allowed="a whole safetensors file",
            action="download or upload it again",
        ) from None
    except RuntimeError as error:  # torch's, which maps the file
        raise (storage_problem(error, path) or error) from None


def read_small(path: Path) -> dict[str, Tensor] | None:
    """The tensors of a safetensors file of at most `SMALL_FILE` bytes, each in memory of its own, in a third of the
    time that mapping the file and copying takes; None for a larger or broken one."""
    from safetensors.torch import load

    try:
        return load(read_bounded(path, max_bytes=SMALL_FILE))
    except (SafetensorError, OSError, ValueError, KeyError):
        return None


def check_header(
    header: Mapping[str, tuple[tuple[int, ...], str]],
    network: nn.Module,
    num_classes: int,
    name: str,
    file: str = "model.safetensors",
) -> None:
    """Compare names, shapes and types with the network's; the network may be on the meta device.

    Args:
        header: Shape and type of each tensor, from `read_header`.
        network: What the weights are for.
        num_classes: Outputs of its head.
        name: How messages call the teacher.
        file: Name of the weights file; one of another name than a repository's belongs to an entry of a YAML list.

    Raises:
        TeacherError: missing or extra tensors, other shapes, a head of another size, a type that is no float.
    """
    wanted = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    # Older timm saved index tables and masks that a network now computes itself; they may be there and are not loaded.
    computed = {key for key, _ in network.named_buffers()} - wanted.keys()
    action = (
        "the weights belong to another network than config.json names; upload matching files"
        if file == "model.safetensors"
        else "the weights are another network's: correct the entry's architecture, num_classes or model_args"
    )
    for what, keys in (
        ("lacks", wanted.keys() - header.keys()),
        ("has extra", header.keys() - wanted.keys() - computed),
    ):
        if keys:
            raise TeacherError(f"{name}: {file} {what} {_listed(sorted(keys))}", action=action)
    wrong = [key for key in wanted if header[key][0] != wanted[key]]
    if wrong:
        key = wrong[0]
        found = list(header[key][0])
        is_head = len(wrong) <= 4 and all(wanted[k] and wanted[k][0] == num_classes for k in wrong)
        what = f"a head of {found[0]} outputs for {num_classes} classes" if is_head and found else "other shapes"
        raise TeacherError(
            f"{name}: {file} has {what}: {_listed(wrong)}{', e.g. ' + key if len(wrong) > 1 else ''} "
            f"is {found}, not {list(wanted[key])}",
            action=action,
        )
    for key, tensor in network.state_dict().items():
        if tensor.is_floating_point() and header[key][1] not in _FLOATING:
            raise TeacherError(f"{name}: tensor {key} has type {header[key][1]}", allowed=", ".join(sorted(_FLOATING)))


def load_weights(path: Path, network: nn.Module, name: str, *, mapped: bool = False, prefix: str = "") -> str:
    """Load a checked file strictly; float16 and bfloat16 weights keep their type, others become float32.

    Args:
        path: The file.
        network: Gets the weights; on the CPU, those it has may be on the meta device.
        name: How messages call the teacher.
        mapped: Whether the weights stay in the file, mapped into memory, as far as their type allows: processes
            share such pages, and the system drops them when memory is short. Not so the kernels of convolutions:
            `Teacher` copies them to channels-last. Only for files that nobody writes into, since
            shortening a mapped file ends the process.
        prefix: What to take off the names in the file, see `shared_prefix`.

    Returns:
        The type of most floating-point weights, e.g. `float32`.

    Raises:
        TeacherError: a weight that is not finite.
    """
    from safetensors.torch import load_file

    wanted = network.state_dict().keys()
    stored = {key.removeprefix(prefix): tensor for key, tensor in load_file(path).items()}
    tensors = {key: tensor for key, tensor in stored.items() if key in wanted}
    check_finite(tensors, name, network)
    floating = [t for t in tensors.values() if t.is_floating_point()]
    dtypes = {t.dtype for t in floating}
    if len(dtypes) == 1 and dtypes <= set(_LOW_PRECISION.values()):
        network.to(next(iter(dtypes)))
    now = network.state_dict()
    tensors = {key: tensor.to(now[key].dtype, copy=not mapped) for key, tensor in tensors.items()}
    network.load_state_dict(tensors, strict=True, assign=True)
    return str(next((p.dtype for p in network.parameters()), torch.float32)).removeprefix("torch.")


def check_finite(tensors: Mapping[str, Tensor], name: str, network: nn.Module | None = None) -> None:
    """Refuse weights that are not finite.

    Args:
        tensors: The weights.
        name: How messages call the teacher.
        network: A new one; buffers that it holds as infinite, such as the bounds of Gemma's clipping, may be so.

    Raises:
        UnfitTeacherError: with the tensor's name.
    """
    floating = [tensor.flatten() for tensor in tensors.values() if tensor.is_floating_point()]
    is_small = sum(tensor.nbytes for tensor in floating) <= SMALL_FILE and len({t.dtype for t in floating}) == 1
    if is_small and torch.cat(floating).isfinite().all():  # a network of many small tensors: one look at all
        return
    for key, tensor in tensors.items():
        if not tensor.is_floating_point() or torch.isfinite(tensor).all():
            continue
        if network is None or key not in infinite_buffers(network) or tensor.isnan().any():
            raise UnfitTeacherError(
                f"{name}: tensor {key} holds NaN or infinite weights",
                allowed="finite weights",
                action="leave this teacher out; its training diverged or its file is broken",
            )


def infinite_buffers(network: nn.Module) -> set[str]:
    """Names of a new network's buffers that hold infinite values; those on the meta device hold none."""
    held = {key: buffer for key, buffer in network.named_buffers() if not buffer.is_meta}
    return {key for key, buffer in held.items() if buffer.is_floating_point() and buffer.isinf().any()}


def shared_prefix(header: Mapping[str, object], network: nn.Module) -> str:
    """What wrappers put before all names of a file, and the network's own do not begin with: `_orig_mod.` or so."""
    prefix, wanted = "", tuple(network.state_dict())
    while True:
        longer = next((prefix + word for word in _WRAPPERS if _all_begin(header, prefix + word)), prefix)
        if longer == prefix or any(key.startswith(longer.removeprefix(prefix)) for key in wanted):
            return prefix
        prefix = longer


def _all_begin(names: Iterable[str], prefix: str) -> bool:
    names = list(names)
    return bool(names) and all(name.startswith(prefix) for name in names)


def has_other_names(header: Mapping[str, object], network: nn.Module) -> bool:
    """Whether the tensors of a file have other names than the network's, as those of an older timm may."""
    return not network.state_dict().keys() <= header.keys()


def _listed(keys: list[str]) -> str:
    shown = ", ".join(keys[:_SHOWN])
    return (
        f"{len(keys)} tensors: {shown}{', ...' if len(keys) > _SHOWN else ''}" if len(keys) > 1 else f"tensor {shown}"
    )
