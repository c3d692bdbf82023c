"""From a reference to a `Teacher`: the files of one commit are fetched, checked, and loaded strictly.

Networks of timm are built here, those of transformers in `hf_free.teachers.transformers_loader`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from hf_free.backbones.base import BUILD_ERRORS
from hf_free.backbones.weights import (
    check_finite,
    check_header,
    has_other_names,
    load_weights,
    read_header,
    read_small,
    shared_prefix,
)
from hf_free.config.sections import QueriesConfig
from hf_free.errors import HfFreeError, MissingFilesError, TeacherError, TeacherReferenceError, UnfitTeacherError
from hf_free.provenance.reading import JsonView
from hf_free.provenance.teacher_record import FILES, PIXEL_FILES, TeacherRecord
from hf_free.runtime.device import MAX_DEVIATION, Precision, choose_device, deviation, is_out_of_memory
from hf_free.runtime.foreign_code import told
from hf_free.runtime.given import check_cache_dir, check_flags, check_kind, check_texts
from hf_free.runtime.memory_budget import free_memory
from hf_free.runtime.text import others_words
from hf_free.teachers.building import Kind, Measured, NetworkBuilder, build_network
from hf_free.teachers.config_check import TeacherSpec, check_classes, check_config
from hf_free.teachers.endpoints import EndpointAccess, open_endpoint
from hf_free.teachers.reference import TeacherReference
from hf_free.teachers.source import (
    check_no_pointers,
    is_single_file,
    local_files,
    read_config,
    read_pixel_config,
    weights_name,
)
from hf_free.teachers.teacher import (
    Answers,
    Teacher,
    TeacherOutput,
    normalization_census,
    weight_bytes,
)
from hf_free.teachers.transformers_config import is_transformers

if TYPE_CHECKING:
    from hf_free.hub.snapshot import Snapshot

SMALL_COPY = 2**20
"""Bytes of the weights of one more teacher of a kind for which nobody looks anew whether there is memory: to look
takes longer than to read them."""

_MAX_DIFFERENCE = 0.01
"""Relative difference allowed between answers about an image alone and in a batch; timm's families differ by
0.00014."""


class NoCopyError(Exception):
    """A network would have to be built."""


def load_teacher(
    reference: TeacherReference | str | Path,
    *,
    token: str | None = None,
    cache_dir: str | Path | None = None,
    device: str | torch.device = "cpu",
    snapshot: Snapshot | None = None,
    precision: Precision | None = None,
    endpoints: EndpointAccess | None = None,
    builder: NetworkBuilder | None = None,
    only_copies: bool = False,
) -> Teacher:
    """Fetch, check and build the teacher a reference names.

    Args:
        reference: Hub repository or local folder, in timm's layout or that of transformers; a text is read by
            `TeacherReference.parse`.
        token: Hub token.
        cache_dir: Folder of the download cache.
        device: Where the teacher computes.
        snapshot: Its files, if they have been fetched already.
        precision: What it will be computed in, see `try_out`.
        endpoints: How a black box is asked.
        builder: Shared by teachers that are loaded one after the other, so that those of one kind load faster.
        only_copies: Whether to give up where a network would have to be built, which draws random numbers: several
            threads may load at once what is copied.

    Raises:
        NoCopyError: with `only_copies`, the network would have to be built.
        TeacherReferenceError: a text that names no teacher.
        HubError: files that cannot be fetched.
        TeacherError: a checkpoint that cannot serve as a teacher, with the reason; an `UnfitTeacherError` for one
            that needs more memory than there is.
    """
    check_texts(token=token)
    check_flags(only_copies=only_copies)
    check_cache_dir(cache_dir)
    if snapshot is not None:  # whoever has one has imported what it takes
        from hf_free.hub.snapshot import Snapshot

        check_kind(
            snapshot, "snapshot", Snapshot, allowed="what hf_free.hub.snapshot.fetch_snapshot returned, or None"
        )
    check_kind(precision, "precision", Precision, allowed="a Precision, as Precision.choose gives, or None")
    check_kind(endpoints, "endpoints", EndpointAccess, allowed="an EndpointAccess, or None")
    check_kind(builder, "builder", NetworkBuilder, allowed="a NetworkBuilder, or None")
    if not isinstance(reference, TeacherReference):
        rule = "a Hub id org/name, a folder, or a TeacherReference"
        check_kind(reference, "reference", (str, Path), allowed=rule, optional=False, error=TeacherReferenceError)
        reference = TeacherReference.parse(str(reference))
    if reference.is_endpoint:
        access = endpoints or EndpointAccess.of(QueriesConfig())
        return open_endpoint(reference, access, token=token, device=device)
    try:
        return _load_teacher(
            reference,
            token,
            cache_dir,
            device if isinstance(device, torch.device) else choose_device(device),
            snapshot,
            precision,
            builder or NetworkBuilder(),
            only_copies=only_copies,
        )
    except (HfFreeError, MemoryError, OSError, RuntimeError) as error:
        if is_out_of_memory(error.__cause__ or error):
            raise UnfitTeacherError(f"{reference} needs more memory than there is", action="leave it out") from error
        if isinstance(error, FileNotFoundError):  # all were there when they were looked for
            raise MissingFilesError(
                f"{reference}: {Path(str(error.filename)).name} has gone while it was read",
                allowed="files that stay while they are read",
                action="put it back, and try again",
            ) from None
        raise


def _load_teacher(
    reference: TeacherReference,
    token: str | None,
    cache_dir: str | Path | None,
    device: torch.device,
    snapshot: Snapshot | None,
    precision: Precision | None,
    builder: NetworkBuilder,
    *,
    only_copies: bool,
) -> Teacher:
    name = str(reference)
    if snapshot is None:
        snapshot = _fetch(reference, token, cache_dir)
    weights = snapshot.folder / weights_name(reference)
    check_no_pointers([weights] if is_single_file(reference) else [snapshot.folder / FILES[0], weights], name)
    config = read_config(reference, snapshot.folder)
    # Files of the cache never change; those of a folder may be saved anew while a run goes on.
    in_cache = snapshot.commit is not None
    files: tuple[str, ...] = (*FILES, weights.name)
    if is_transformers(config):
        if only_copies:
            raise NoCopyError(name)
        snapshot, files = _with_pixels(snapshot, token, cache_dir), (*files, *PIXEL_FILES)
        network, record = _load_transformers(config, snapshot, weights, device, name, copies=not in_cache)
        kind = None
    else:
        network, record, kind = _load_timm(
            config, reference, weights, device, name, builder, mapped=in_cache, only_copies=only_copies
        )
    record = replace(
        record,
        repo_id=snapshot.repo_id,
        commit=snapshot.commit,
        license=snapshot.license,
        private=snapshot.private,
        gated=snapshot.gated,
        sha256={file: digest for file, digest in snapshot.sha256.items() if file in files},
    )
    teacher = Teacher(network, _with_classes(record, reference.classes))
    if device.type != "cpu":
        teacher = teacher.to(device)
    try_out(teacher, precision, answers_alone=kind is not None and kind.answers_alone)
    if kind is not None:
        kind.answers_alone = True
    return teacher


def _fetch(reference: TeacherReference, token: str | None, cache_dir: str | Path | None) -> Snapshot:
    from hf_free.hub.snapshot import fetch_snapshot

    if reference.is_local:
        return local_files(reference)
    return fetch_snapshot(
        reference.location,
        revision=reference.revision,
        required=FILES,
        optional=PIXEL_FILES,
        token=token,
        cache_dir=cache_dir,
    )


def _with_pixels(snapshot: Snapshot, token: str | None, cache_dir: str | Path | None) -> Snapshot:
    """A snapshot with the file that says how photos are shown, which the cache may lack though the Hub has it."""
    from hf_free.hub.snapshot import fetch_snapshot

    if not snapshot.from_cache or snapshot.repo_id is None or set(PIXEL_FILES) & set(snapshot.sha256):
        return snapshot
    required = (*FILES, PIXEL_FILES[1])
    try:
        return fetch_snapshot(
            snapshot.repo_id, revision=snapshot.commit, required=required, token=token, cache_dir=cache_dir
        )
    except MissingFilesError:
        return snapshot


def _load_timm(
    config: object,
    reference: TeacherReference,
    weights: Path,
    device: torch.device,
    name: str,
    builder: NetworkBuilder,
    *,
    mapped: bool,
    only_copies: bool,
) -> tuple[nn.Module, TeacherRecord, Kind]:
    spec = check_config(config, name)
    _check_given_names(reference, spec, name)
    kind, needed = builder.known(spec), weights.stat().st_size
    if kind is None or needed > SMALL_COPY:
        _check_memory(needed, device, name)
    if kind is None and not only_copies:
        kind = builder.kind(spec, name)
    copied = None if kind is None else _copy(kind, weights, name)
    if kind is None or (only_copies and copied is None):
        raise NoCopyError(name)
    if copied is not None:
        network, weight_dtype = copied
        kind.measured = kind.measured or _measured(network, spec, name, kind.num_features)
        return network, record_of(network, spec, name, weight_dtype, kind.measured), kind
    network, weight_dtype, prefix = _load_network(spec, weights, name, builder, mapped=mapped)
    if prefix:
        spec = replace(spec, notes=(*spec.notes, f"all tensor names begin with {prefix!r}, which is taken off"))
    record = record_of(network, spec, name, weight_dtype, _measured(network, spec, name, kind.num_features))
    kind.num_features = record.num_features
    return network, record, kind


def _copy(kind: Kind, weights: Path, name: str) -> tuple[nn.Module, str] | None:
    """A network of a kind that is copied by now, with a small file's weights, and their type; None for all others.

    Raises:
        UnfitTeacherError: a weight that is not finite.
    """
    tensors = None if kind.template is None else read_small(weights)
    network = None if tensors is None or kind.template is None else kind.template.filled(tensors)
    if network is None or tensors is None:
        return None
    check_finite(tensors, name)
    return network, str(next(network.parameters()).dtype).removeprefix("torch.")


def _load_transformers(
    config: JsonView, snapshot: Snapshot, weights: Path, device: torch.device, name: str, *, copies: bool
) -> tuple[nn.Module, TeacherRecord]:
    from hf_free.teachers.transformers_loader import load_classifier, needed_bytes

    _check_memory(needed_bytes(weights, name), device, name)
    pixels = read_pixel_config(snapshot, name)
    network, record = load_classifier(config, pixels, weights, name, copies=copies)
    return network, replace(record, num_features=_measure_features(network, record.input_size, name))


def read_record(
    reference: TeacherReference | str | Path, *, token: str | None = None, cache_dir: str | Path | None = None
) -> TeacherRecord:
    """A teacher's record alone; raises what `load_teacher` raises."""
    return load_teacher(reference, token=token, cache_dir=cache_dir).record


def read_spec(
    reference: TeacherReference, *, token: str | None = None, cache_dir: str | Path | None = None
) -> TeacherSpec:
    """The checked configuration of a teacher of timm's; raises what `load_teacher` raises."""
    return check_config(read_config(reference, _fetch(reference, token, cache_dir).folder), str(reference))


def try_out(teacher: Teacher, precision: Precision | None = None, *, answers_alone: bool = False) -> Teacher:
    """Ask a teacher about four noise images, so that one that cannot answer is found before training.

    One whose answers differ between bf16 and fp32 is computed in fp32 from then on; its record says so.

    Args:
        teacher: The teacher to try.
        precision: What it will be computed in; None takes what suits its device.
        answers_alone: Whether a network that differs from it in its weights alone was seen to answer about each image
            by itself. That is then not tried again, and two of the images are enough unless something is wrong with
            the answers about them.

    Raises:
        TeacherError: answers of a wrong shape, NaN or infinite answers, one answer for every image, or answers that
            depend on what other images are asked about with it.
    """
    record, name = teacher.record, teacher.record.reference
    if record.num_classes < 2:  # a network in memory; those in files are refused before they are built
        raise UnfitTeacherError(
            f"{name} has 1 class",
            allowed="classifiers of at least 2 classes",
            action="leave it out; a network of one output is no classifier",
        )
    images = _noise(record.input_size).to(teacher.device)
    precision = precision or Precision.choose("auto", teacher.device)
    if answers_alone and _is_sound(teacher, images[:2], precision):
        teacher.has_answered = True
        return teacher
    logits, features = _asked(teacher, images)
    if logits.shape != (4, record.num_classes) or features.shape != (4, record.num_features):
        raise TeacherError(f"{name} answers {tuple(logits.shape)} for 4 images and {record.num_classes} classes")
    if not torch.isfinite(logits).all() or not torch.isfinite(features).all():
        raise UnfitTeacherError(f"{name} outputs NaN or infinite values", action="leave this teacher out")
    if torch.equal(logits, logits[:1].expand_as(logits)):
        problem = f"{name} has a constant output"
        raise UnfitTeacherError(problem, action="leave this teacher out; it distinguishes nothing")
    if not answers_alone:
        _check_alone(teacher, images, logits)
    tried = _choose_precision(teacher, images, logits, precision)
    tried.has_answered = True
    return tried


def _is_sound(teacher: Teacher, images: Tensor, precision: Precision) -> bool:
    """Whether all is well with the answers about a few images; if not, `try_out` finds out what is wrong."""
    record = teacher.record
    try:
        logits, features = _asked(teacher, images)
        shapes = (len(images), record.num_classes), (len(images), record.num_features)
        if (logits.shape, features.shape) != shapes or not (logits.sum() + features.sum()).isfinite():
            return False
        if torch.equal(logits, logits[:1].expand_as(logits)):
            return False
        return precision.deviation(teacher.logits, images, logits) <= MAX_DEVIATION
    except (TeacherError, *BUILD_ERRORS):
        return False


@lru_cache(maxsize=4)
def _noise(size: tuple[int, int, int]) -> Tensor:
    """Four images (4, C, H, W), always the same ones; not to be changed."""
    return torch.rand((4, *size), generator=torch.Generator().manual_seed(0))


def _asked(teacher: Teacher, images: Tensor, how: str = "") -> TeacherOutput:
    """The teacher's answers in fp32.

    Raises:
        TeacherError: it has none, with the reason and `how` it was asked.
    """
    name, size = teacher.record.reference, teacher.record.input_size
    try:
        with torch.no_grad(), Precision(None).autocast(teacher.device):
            return teacher(images)
    except BUILD_ERRORS as error:
        raise TeacherError(f"{name} cannot answer about images of {size}{how}: {others_words(error)}") from error


def _check_alone(teacher: Teacher, images: Tensor, logits: Tensor) -> None:
    """Refuse answers that depend on the other images of a batch, or on the layout in memory.

    Networks with BatchNorm that keeps no running statistics, for instance, answer by the batch.
    """
    alone = images[:1].contiguous(memory_format=torch.channels_last)
    if deviation(_asked(teacher, alone, ", laid out channels-last").logits, logits[:1]) <= _MAX_DIFFERENCE:
        return
    in_rows = deviation(_asked(teacher, images[:1]).logits, logits[:1]) <= _MAX_DIFFERENCE
    what = "its layout in memory" if in_rows else "what other images are asked about with it"
    raise UnfitTeacherError(
        f"{teacher.record.reference} answers about an image by {what}",
        allowed="networks that answer about each image by itself",
        action="leave this teacher out, or give its BatchNorm layers running statistics",
    )


def _choose_precision(teacher: Teacher, images: Tensor, logits: Tensor, precision: Precision) -> Teacher:
    """Have a teacher computed in fp32 if its answers in `precision` differ, or if it cannot answer in that type."""
    try:
        found = precision.deviation(teacher.logits, images, logits)
    except BUILD_ERRORS as error:
        if is_out_of_memory(error):
            raise
        problem = f"it cannot answer in {precision.name} ({others_words(error)})"
    else:
        if found <= MAX_DEVIATION:
            return teacher
        problem = f"in {precision.name} its answers are off by {found:.0%} (at most {MAX_DEVIATION:.0%} is rounding)"
    notes = (*teacher.record.notes, f"{problem}: it is computed in fp32")
    teacher.record = replace(teacher.record, fp32_only=True, notes=notes)
    return teacher


def _check_given_names(reference: TeacherReference, spec: TeacherSpec, name: str) -> None:
    """Refuse names from a YAML list that do not fit; a repository's own names are left out with a note instead."""
    given = json.loads(reference.config or "{}").get("label_names")
    if given is not None and spec.label_names is None:
        count = f"{len(given)} names" if isinstance(given, list | dict) else repr(given)[:80]
        raise TeacherError(
            f"{name}: label_names is {count}",
            allowed=f"a list of {spec.num_classes} names, one per class",
            action="correct the list",
        )


def _check_memory(needed: int, device: torch.device, name: str) -> None:
    """Refuse weights that are larger than the memory that is free now, before anything is made of them."""
    for place in {torch.device("cpu"), device}:
        free = free_memory(place)
        if needed > free:
            raise UnfitTeacherError(
                f"{name} needs more memory than there is: {needed} bytes for its weights",
                allowed=f"at most the {free} bytes free on {place}",
                action="leave it out, or free memory",
            )


def _load_network(
    spec: TeacherSpec, weights: Path, name: str, builder: NetworkBuilder, *, mapped: bool
) -> tuple[nn.Module, str, str]:
    """Compare the file with a network that takes no memory first, then build and load.

    Returns:
        The network, the weights' type, and what all names in the file began with that was taken off.
    """
    stored, blank = read_header(weights, name), builder.kind(spec, name).blank
    prefix = shared_prefix(stored, blank)
    header = {key.removeprefix(prefix): value for key, value in stored.items()}
    try:
        check_header(header, blank, spec.num_classes, name, weights.name)
    except TeacherError:
        may_fit = has_other_names(header, blank) and _has_as_many_numbers(header, blank)
        network = _load_as_timm_does(spec, weights, name, prefix) if may_fit else None
        if network is None:
            raise
        return network, str(next(network.parameters()).dtype).removeprefix("torch."), prefix
    network = builder.empty(spec, name)
    return network, load_weights(weights, network, name, mapped=mapped, prefix=prefix), prefix


def _has_as_many_numbers(header: Mapping[str, tuple[tuple[int, ...], str]], network: nn.Module) -> bool:
    """Whether a file holds at least half as many numbers as a network: renaming tensors changes no sizes.

    Keeps a small file whose config.json names a huge network from having that network built.
    """
    held = sum(math.prod(shape) for shape, _ in header.values())
    return 2 * held >= sum(tensor.numel() for tensor in network.parameters())


def _load_as_timm_does(spec: TeacherSpec, weights: Path, name: str, prefix: str) -> nn.Module | None:
    """Load tensors with the names of an older timm through the architecture's own filter (`checkpoint_filter_fn`).

    timm applies it in `load_pretrained`, to which a model factory hands the tensors of `pretrained_cfg`; None where
    they still do not fit, strictly.

    Raises:
        UnfitTeacherError: a weight that is not finite.
    """
    tensors = {key.removeprefix(prefix): tensor for key, tensor in load_file(weights).items()}
    try:
        network = build_network(spec, name, "cpu", tensors)
    except TeacherError:
        return None
    check_finite(tensors, name)
    return network


def record_of(
    network: nn.Module, spec: TeacherSpec, name: str, weight_dtype: str, measured: Measured | None = None
) -> TeacherRecord:
    """What a network is, measured where its configuration cannot be trusted.

    Args:
        network: The network with its weights.
        spec: Its checked configuration.
        name: How messages call the teacher.
        weight_dtype: The weights' type in its file.
        measured: What was measured of it; None measures it.
    """
    import timm

    measured = measured or _measured(network, spec, name)
    return TeacherRecord(
        reference=name,
        repo_id=None,
        commit=None,
        architecture=spec.architecture,
        parameters=measured.parameters,
        input_size=spec.input_size,
        # timm since 1.0.30 knows it of the network itself, where a ViT may be built for any size.
        fixed_input_size=bool(getattr(network, "_traits", {}).get("fixed_input_size", spec.fixed_input_size)),
        mean=spec.mean,
        std=spec.std,
        interpolation=spec.interpolation,
        num_classes=spec.num_classes,
        label_names=spec.label_names,
        num_features=measured.num_features,
        normalization=dict(measured.normalization),
        timm_version=timm.__version__,
        label_descriptions=spec.label_descriptions,
        weight_bytes=measured.weight_bytes,
        weight_dtype=weight_dtype,
        crop=spec.crop,
        notes=spec.notes,
    )


def _measured(network: nn.Module, spec: TeacherSpec, name: str, num_features: int | None = None) -> Measured:
    """What there is to measure of a network with its weights; the width of its features only where it is not known."""
    return Measured(
        num_features=num_features or _measure_features(network, spec.input_size, name),
        parameters=sum(p.numel() for p in network.parameters()),
        weight_bytes=weight_bytes(network),
        normalization=normalization_census(network),
    )


def _measure_features(network: nn.Module, input_size: tuple[int, int, int], name: str) -> int:
    """Width of the classifier's input, seen in one forward pass of a gray image."""
    image = torch.zeros((1, *input_size), device=next(network.parameters()).device)
    was_training = network.training

    def cannot(error: BaseException) -> TeacherError:
        return TeacherError(f"{name} cannot answer about images of {input_size}: {others_words(error)}")

    try:
        with told(cannot), torch.no_grad():
            return Answers(network.eval()).ask(image, "features").shape[1]
    finally:
        network.train(was_training)


def _with_classes(record: TeacherRecord, classes: tuple[int, ...] | None) -> TeacherRecord:
    """Keep the chosen outputs of the head; names follow."""
    if classes is None:
        return record
    check_classes(classes, record.num_classes, record.reference)

    def chosen(labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if labels is None else tuple(labels[c] for c in classes)

    return replace(
        record,
        classes=tuple(classes),
        num_classes=len(classes),
        label_names=chosen(record.label_names),
        label_descriptions=chosen(record.label_descriptions),
    )
