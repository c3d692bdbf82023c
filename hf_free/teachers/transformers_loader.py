"""Files of a transformers classifier -> a network: built by the library itself, from checked fields and tensors only.

The library is imported where such a teacher is really loaded. It reads no file: it is handed our own configuration
and the tensors of one safetensors file, so that nothing a repository says can name code, an adapter, another file or a
quantizer. Weights that it would fill in at random with a warning are refused here.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from hf_free.backbones.weights import check_finite, read_header
from hf_free.errors import TeacherError
from hf_free.provenance.reading import Json, JsonView
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.runtime.given import short_form
from hf_free.runtime.text import others_words
from hf_free.teachers.config_check import is_whole
from hf_free.teachers.teacher import normalization_census, weight_bytes
from hf_free.teachers.transformers_config import TransformersSpec, check_transformers_config, unlisted
from hf_free.teachers.transformers_network import FAMILIES, UNFIT, Family, TransformersNetwork, family_of
from hf_free.teachers.transformers_pixels import Pixels, overlay, read_pixels

EXTRA = "pip install 'hf-free[transformers]'"

_FLOATING = {"F64", "F32", "F16", "BF16"}
_INDEX_TABLES = ("position_ids", "relative_position_index", "num_batches_tracked", "attention_bias_idxs")
"""Endings of the names of integer tensors that networks count or look up with; any other integer tensor is a quantized
weight."""

_NOT_READ = (*_INDEX_TABLES, "attn_mask", "relative_coords_table", "pooler.dense.weight", "pooler.dense.bias")
"""Endings of the names of tensors that a file may hold though the classifier lacks them: tables that it computes
itself, and the layer left over from a ViT's pretraining."""

_SPARE = 2**22
"""How many weights a network may have beyond twice those of its file before it is built: up to there the library says
which are missing. Tables that no file holds, such as Swin's relative positions, are smaller than the weights."""

_SHOWN = 3

_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What the library raises for a configuration that it cannot build."""


def is_installed() -> bool:
    """Whether the library is installed, without importing it."""
    return importlib.util.find_spec("transformers") is not None


def check_installed(name: str, model_type: object) -> None:
    """Refuse a teacher that the extra is needed for.

    Raises:
        TeacherError: with the command that installs it.
    """
    if not is_installed():
        raise TeacherError(
            f"{name} is a transformers model ({str(model_type)[:40]!r}), and transformers is not installed",
            allowed="classifiers of timm, and of transformers where the extra is installed",
            action=EXTRA,
        )


def needed_bytes(weights: Path, name: str) -> int:
    """Memory of the weights of a file, which are held in 32 bits whatever their type."""
    return 4 * sum(torch.Size(shape).numel() for shape, _ in read_header(weights, name).values())


def load_classifier(
    config: JsonView, pixels: object | None, weights: Path, name: str, *, copies: bool
) -> tuple[TransformersNetwork, TeacherRecord]:
    """Check, build and load a classifier.

    Args:
        config: The parsed `config.json`.
        pixels: The parsed `preprocessor_config.json`; None where there is none.
        weights: Its safetensors file.
        name: How messages call the teacher.
        copies: Whether the weights are copied out of the file, because it may be overwritten.

    Returns:
        The network behind timm's interface, and its record without `num_features`, which are to be measured.

    Raises:
        TeacherError: the library is not installed, or a checkpoint that cannot serve as a teacher.
    """
    check_installed(name, config.get("model_type"))
    header = read_header(weights, name)
    spec = check_transformers_config(config, name, tensors=len(header))
    architecture = _architecture(spec, name)
    family = family_of(spec.model_type, architecture)
    if family is None:
        raise TeacherError(f"{name}: {architecture} is not known", allowed=", ".join(FAMILIES[spec.model_type]))
    _check_types(header, name)
    _check_grid(spec, family, name)
    seen = _pixels(spec, pixels, family, name)
    network = _load(spec, architecture, header, weights, name, copies=copies, config=config)
    notes = [*spec.notes, *seen.notes]
    kind = _type_of(header)
    if kind in ("float16", "bfloat16"):
        notes.append(f"its {kind} weights are held in float32")
    if seen.is_flipped:
        notes.append("it is shown blue, green, red, as its processor swaps them")
    wrapped = TransformersNetwork(network, family, architecture, is_flipped=seen.is_flipped).eval()
    made_for = _made_for(network)
    if family.is_fixed and made_for not in (None, (seen.height, seen.width)):
        notes.append(f"it is shown {seen.height} x {seen.width} pixels, and was made for {made_for}")
    return wrapped, TeacherRecord(
        reference=name,
        repo_id=None,
        commit=None,
        architecture=architecture,
        parameters=sum(p.numel() for p in wrapped.parameters()),
        input_size=(spec.channels, seen.height, seen.width),
        fixed_input_size=family.is_fixed,
        mean=seen.mean,
        std=seen.std,
        interpolation=seen.interpolation,
        num_classes=spec.num_classes,
        label_names=spec.label_names,
        num_features=0,
        normalization=normalization_census(wrapped),
        transformers_version=_library().__version__,
        weight_bytes=weight_bytes(wrapped),
        weight_dtype="float32",
        resize=seen.resize,
        notes=tuple(notes),
    )


def _pixels(spec: TransformersSpec, values: object | None, family: Family, name: str) -> Pixels:
    pixels = None
    if values is not None and not {"mean", "std", "input_size"} <= spec.pixels.keys():
        if family.takes_patches:
            values = _of_patches(values, name)
        pixels = read_pixels(values, name, model_type=spec.model_type, channels=spec.channels)
    pixels = overlay(pixels, spec.pixels, name, spec.channels)
    if pixels is None:
        raise TeacherError(
            f"{name} has no preprocessor_config.json, so that nothing says how it is shown photos",
            allowed="a repository or folder with that file, as save_pretrained of its image processor writes it",
            action="give mean, std and input_size in a YAML list, see docs/guides/teachers.md",
        )
    return pixels


def _check_grid(spec: TransformersSpec, family: Family, name: str) -> None:
    """Refuse a grid of patches that the library would take minutes to index, before any memory is taken."""
    if family.most_grid is None:
        return
    sides, patches = (
        [*_flat(spec.fields.get(key) or default)] for key, default in (("image_size", 224), ("patch_size", 16))
    )
    grid = max(sides, default=224) // min(patches, default=16)
    if grid > family.most_grid:
        raise TeacherError(
            f"{name}: {grid} rows of patches", allowed=f"at most {family.most_grid} for {spec.model_type}"
        )


def _flat(value: object) -> list[int]:
    return [one for one in value if is_whole(one)] if isinstance(value, list) else [value] if is_whole(value) else []


def _of_patches(values: object, name: str) -> Json:
    """SigLIP 2's processor makes at most this many patches of a photo; the largest square of them is used."""
    given = values if isinstance(values, Mapping) else {}
    most, size = given.get("max_num_patches", 256), given.get("patch_size", 16)
    if not is_whole(most) or not is_whole(size) or not 1 <= most <= 4096 or not 1 <= size <= 64:
        raise TeacherError(
            f"{name}: max_num_patches is {short_form(most)}, patch_size {short_form(size)}",
            allowed="whole numbers, at most 4096 and 64",
        )
    side = math.isqrt(most) * size
    kept = {key: value for key, value in given.items() if key in ("image_mean", "image_std", "do_normalize")}
    return {
        **kept,
        "do_rescale": given.get("do_rescale"),
        "rescale_factor": given.get("rescale_factor"),
        "resample": given.get("resample", 2),
        "size": {"height": side, "width": side},
        "image_processor_type": "SiglipImageProcessor",
    }


def _made_for(network: nn.Module) -> tuple[int, int] | None:
    """Height and width that a network's configuration says; None where it says none."""
    config: Any = network.config
    size = getattr(getattr(config, "vision_config", None) or config, "image_size", None)
    if isinstance(size, int):
        return size, size
    return (size[0], size[1]) if isinstance(size, list | tuple) and len(size) == 2 else None


def _load(
    spec: TransformersSpec,
    architecture: str,
    header: Mapping[str, tuple[tuple[int, ...], str]],
    weights: Path,
    name: str,
    *,
    copies: bool,
    config: JsonView,
) -> nn.Module:
    library = _library()
    network_class = getattr(library, architecture)
    made = _configuration(library, spec, config, name)
    _check_size(network_class, made, header, name)
    tensors = _tensors(weights, copies=copies)
    check_finite(tensors, name)
    with _quiet(library), torch.random.fork_rng(devices=[]):
        try:
            network, found = network_class.from_pretrained(
                None,
                config=made,
                state_dict=tensors,
                dtype=torch.float32,
                attn_implementation="eager",
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        except _ERRORS as error:
            raise _cannot_build(name, architecture, error) from error
    _check_loaded(found, spec, name)
    loaded: nn.Module = network
    return loaded.eval()


def _library() -> ModuleType:
    return importlib.import_module("transformers")


def _architecture(spec: TransformersSpec, name: str) -> str:
    """The class to build: what `architectures` names, which has to be an image classifier of this type."""
    auto = importlib.import_module("transformers.models.auto.modeling_auto")
    known: Mapping[str, str | tuple[str, ...]] = auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES
    version = _library().__version__
    reason = UNFIT.get(spec.model_type)
    if reason is not None:
        raise TeacherError(f"{name} is a {spec.model_type}: {reason}", allowed="classifiers of pictures")
    if spec.model_type not in known or spec.model_type not in FAMILIES:
        types = sorted(set(known) & set(FAMILIES))
        close = difflib.get_close_matches(spec.model_type, types, n=3)
        raise TeacherError(
            f"{name}: transformers {version} has no image classifier {spec.model_type!r} that can be a teacher",
            allowed=f"close: {', '.join(close)}" if close else ", ".join(types),
            action="update transformers and hf-free, or leave it out",
        )
    classes = known[spec.model_type]
    classes = (classes,) if isinstance(classes, str) else tuple(classes)
    named = [one for one in spec.architectures if one in classes]
    if named:
        return named[0]
    if not spec.architectures and len(classes) == 1:
        return classes[0]
    what = f"is a {spec.architectures[0]}" if spec.architectures else "names no architectures in its config.json"
    raise TeacherError(
        f"{name} {what}, no classifier of its type",
        allowed=" or ".join(classes),
        action="leave it out; without its own head it has no task to recover",
    )


def _configuration(library: ModuleType, spec: TransformersSpec, config: JsonView, name: str) -> Any:
    """The library's configuration of the checked fields; it computes in eager attention and holds nothing else."""
    config_class = library.CONFIG_MAPPING[spec.model_type]
    known = frozenset(one.name for one in fields(config_class))
    _refuse_unlisted(config, config_class, library, name)
    chosen: Json = {key: value for key, value in spec.fields.items() if key in known}
    try:
        with _quiet(library):  # it warns about the defaults of its text model
            made = config_class(**chosen, num_labels=spec.num_classes)
    except Exception as error:  # the library's own check of types raises what derives from nothing narrower
        raise _cannot_build(name, config_class.__name__, error) from error
    inner, said = getattr(made, "vision_config", None), config.get("vision_config")
    if inner is not None and isinstance(said, Mapping):
        _refuse_unlisted(said, inner, library, name)
    return made


def _refuse_unlisted(config: JsonView, known: Any, library: ModuleType, name: str) -> None:
    """Refuse fields that the library's configuration reads and that are on no list of ours."""
    own = frozenset(one.name for one in fields(known)) - frozenset(
        one.name for one in fields(library.PreTrainedConfig)
    )
    beyond = unlisted(config, own)
    if beyond:
        raise TeacherError(
            f"{name}: config.json has {beyond[0]!r}, which this version of hf-free does not know",
            allowed="fields of the networks it was tested with",
            action="update hf-free, or leave it out",
        )


def _check_types(header: Mapping[str, tuple[tuple[int, ...], str]], name: str) -> None:
    """Refuse integer weights, which the library would silently turn into floats."""
    for key, (_, kind) in header.items():
        if kind not in _FLOATING and not key.endswith(_NOT_READ):
            raise TeacherError(
                f"{name}: tensor {key} has type {kind}",
                allowed=", ".join(sorted(_FLOATING)),
                action="name the repository that it was quantized from",
            )


def _check_size(network_class: Any, config: Any, header: Mapping[str, tuple[tuple[int, ...], str]], name: str) -> None:
    """Refuse a network of many more numbers than the file holds, before it takes memory."""
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            blank: nn.Module = network_class(config)
    except _ERRORS as error:
        raise _cannot_build(name, network_class.__name__, error) from error
    held = sum(torch.Size(shape).numel() for shape, _ in header.values())
    weights = sum(tensor.numel() for tensor in blank.parameters())
    tables = sum(tensor.numel() for tensor in blank.buffers())
    if weights + tables > 2 * held + _SPARE:
        raise TeacherError(
            f"{name}: config.json asks for {weights} weights, and model.safetensors holds {held}",
            allowed="weights of the network that config.json describes",
            action="upload matching files",
        )


def _tensors(weights: Path, *, copies: bool) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    tensors = load_file(weights)
    return {key: tensor.clone() for key, tensor in tensors.items()} if copies else tensors


def _check_loaded(found: JsonView, spec: TransformersSpec, name: str) -> None:
    """Refuse what the library left at random, left out, or could not convert."""
    wrong = sorted(found["mismatched_keys"], key=lambda one: str(one[0]))
    if wrong:
        key, held, wanted = wrong[0]
        is_head = len(wanted) and wanted[0] == spec.num_classes
        what = f"a head of {held[0]} outputs for {spec.num_classes} classes" if is_head and held else "other shapes"
        raise TeacherError(
            f"{name}: model.safetensors has {what}: {key} is {list(held)}, not {list(wanted)}",
            action="the weights belong to another network than config.json names; upload matching files",
        )
    for what, keys in (("lacks", found["missing_keys"]), ("has extra", found["unexpected_keys"])):
        keys = sorted(str(key) for key in keys if not str(key).endswith(_NOT_READ))
        if keys:
            listed = f"{', '.join(keys[:_SHOWN])}{', ...' if len(keys) > _SHOWN else ''}"
            raise TeacherError(
                f"{name}: model.safetensors {what} {len(keys)} tensor(s): {listed}",
                allowed="all weights of the network that config.json names, and no others",
                action="upload matching files, or leave it out",
            )
    if found.get("error_msgs"):
        raise TeacherError(f"{name}: its weights cannot be loaded: {str(found['error_msgs'][0])[:300]}")


def _type_of(header: Mapping[str, tuple[tuple[int, ...], str]]) -> str:
    """The type of most numbers of a file, as PyTorch calls it."""
    counts: dict[str, int] = {}
    for shape, kind in header.values():
        counts[kind] = counts.get(kind, 0) + torch.Size(shape).numel()
    names = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    return names.get(max(counts, key=lambda kind: counts[kind]), "float32")


def _cannot_build(name: str, what: str, error: BaseException) -> TeacherError:
    return TeacherError(
        f"{name}: transformers cannot build {what} from its config.json: {others_words(error)}",
        action="correct its config.json, or leave it out",
    )


@contextmanager
def _quiet(library: ModuleType) -> Iterator[None]:
    """Silence the library's bars and reports: what they say is raised as an error here."""
    log = library.logging
    level, shows = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if shows:
            log.enable_progress_bar()
