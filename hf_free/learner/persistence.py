"""An embedder and its record as the three files of a repository, and what rebuilds them.

`config.json` is in timm's own form with an extra `hf_free` block, `model.safetensors` has exactly the backbone's timm
keys (so `timm.create_model("hf-hub:org/name")` loads it after `import hf_free`), and `hf_free.safetensors` holds
projection, center, gate (`relevance`), whitening (`damping`) and shared classes, all of them optional. Under
`hf_free_files` config.json names the SHA-256 of both files of weights; learners that were saved without it are read
all the same.

A pooled learner has no network of its own: model.safetensors is empty, and config.json names its teachers, each by
commit and by the SHA-256 of its files, or says that these lie in `teachers/`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from safetensors.torch import save_file
from torch import nn

from hf_free.errors import LearnerError, MissingFilesError, TeacherReferenceError
from hf_free.hub.names import id_of_cache_folder
from hf_free.learner.backbone import blank_backbone, blank_width, timm_settings
from hf_free.learner.backbone_kinds import Access, PooledParts, open_pooled
from hf_free.learner.config_check import INCLUDED, LearnerSpec, check_learner_config
from hf_free.learner.embedder import Embedder
from hf_free.learner.format import (
    CLASSIFIER_CONFIG,
    CONFIG,
    EXTRA_WEIGHTS,
    FILES,
    FORMAT_VERSION,
    MAX_CONFIG_BYTES,
    WEIGHT_FILES,
    WEIGHTS,
    check_tensors,
    load_strictly,
    part_names,
    plain_tensors,
    read_json,
    read_tensor_header,
    read_tensors,
    refuse_stranger,
    stored_names,
    way_from_teacher,
)
from hf_free.learner.one_step import (
    FINGERPRINTS,
    find_config,
    find_file,
    find_teachers,
    fingerprints_of,
    is_interrupted,
)
from hf_free.learner.pooled_backbone import PooledBackbone
from hf_free.learner.pooled_files import FOLDER, named_teacher_files, teacher_files
from hf_free.learner.pooled_teachers import PooledSpec
from hf_free.provenance.learner_record import LearnerRecord
from hf_free.provenance.reading import Json
from hf_free.runtime.files import sha256_of
from hf_free.runtime.given import check_kind, from_home, short_form, why_no_path
from hf_free.runtime.strict_json import why_too_large
from hf_free.runtime.text import listed

WIDENED = 2
"""A network may take this many times the size of its file in memory: weights of 16 bits become fp32."""

MAX_COMPUTED_BYTES = 64 * 2**20
"""What a network may take beyond that, for tables that it computes for itself (relative positions, masks): of 21 of
timm's networks, tiny_vit_21m_512 has the largest, 50 MiB beside a file of 79. While they are computed, up to five
times as much is taken for a moment (Swin's relative positions)."""

AnyEmbedder = TypeVar("AnyEmbedder", bound=Embedder)


def write_files(embedder: Embedder, record: LearnerRecord, folder: Path) -> dict[str, str]:
    """Write config.json, model.safetensors and hf_free.safetensors.

    Args:
        embedder: The network.
        record: Its provenance.
        folder: An empty one.

    Returns:
        The SHA-256 of the two files of weights, which config.json names.

    Raises:
        LearnerError: nobody could open what would be saved.
    """
    _check_can_be_opened(embedder, record)
    save_file(plain_tensors(embedder.backbone.state_dict()), folder / WEIGHTS, {"format": "pt"})
    extra = stored_names(embedder.embedding.state_dict())
    save_file(plain_tensors(extra), folder / EXTRA_WEIGHTS, {"format": "pt"})
    named = {name: sha256_of(folder / name) for name in WEIGHT_FILES}
    (folder / CONFIG).write_text(_config_text(embedder, record, named), encoding="utf-8")
    return named


def _check_can_be_opened(embedder: Embedder, record: LearnerRecord) -> None:
    """Refuse a network that was put into a learner by hand and is not the one that its configuration builds, and
    teachers that a file cannot name.

    Raises:
        LearnerError: one of these.
    """
    backbone, config = embedder.backbone, embedder.config
    if isinstance(backbone, PooledBackbone) != (embedder.embedding.pooled is not None):
        raise LearnerError(
            f"the learner's backbone, a {type(backbone).__name__}, is not the one that its embedding is for",
            allowed="a pooled learner's teachers and embedding, or a network and its own",
            action="put back what it had",
        )
    if isinstance(backbone, PooledBackbone):
        lost = [teacher.reference for teacher in record.teachers if teacher.is_in_memory]
        if lost and backbone.included is None:
            raise LearnerError(
                f"a pooled learner of networks in memory cannot be saved: {listed(lost)}",
                allowed="teachers that a folder can name: of the Hub, or in folders",
                action="write each with save_teacher, and pool their folders",
            )
        return
    settings = timm_settings(backbone)
    blank = blank_backbone(config, embedder.model_args, settings["mean"], settings["std"], "the learner")
    if blank is None:
        return
    wanted, found = ({name: part.shape for name, part in net.state_dict().items()} for net in (blank, backbone))
    if wanted != found:
        other = sorted(name for name in wanted | found if wanted.get(name) != found.get(name))
        raise LearnerError(
            f"the learner's backbone is not the network {config.backbone!r} of its configuration: {listed(other)}",
            allowed="the tensors of that network, in their names and shapes",
            action="put back the backbone that it had, or make a learner with the configuration of this one",
        )


def saved_names(brought: Mapping[str, Path]) -> list[str]:
    """What a save puts into a learner's folder, in this order.

    Args:
        brought: The teachers' files that it takes with it, see `hf_free.learner.pooled_files.files_to_bring`.
    """
    return [*FILES, *([FOLDER] if brought else [])]


def bytes_of(embedder: Embedder, brought: Mapping[str, Path]) -> int:
    """About how much space a save takes: `write_files`, and the teachers' files that it takes with it."""
    stored = (embedder.backbone.state_dict(), embedder.embedding.state_dict())
    tensors = sum(tensor.nbytes for tensors in stored for tensor in tensors.values())
    return tensors + sum(path.stat().st_size for path in brought.values())


def _config_text(embedder: Embedder, record: LearnerRecord, named: dict[str, str]) -> str:
    """config.json as text; where it would be too large, without the teachers' class descriptions, then without their
    names."""
    content = {**timm_config(embedder, record), FINGERPRINTS: named}
    for key in ("label_descriptions", "label_names"):
        text = json.dumps(content, indent=2)
        if why_too_large(text.encode(), MAX_CONFIG_BYTES) is None:
            return text
        block = content["hf_free"]
        teachers = [{**teacher, key: None} for teacher in block.get("teachers") or []]
        content["hf_free"] = {**block, "teachers": teachers}
        logging.getLogger(__name__).warning(
            "%s would be too large to be read again: the teachers' %s are left out", CONFIG, key
        )
    return json.dumps(content, indent=2)


def timm_config(embedder: Embedder, record: LearnerRecord) -> Json:
    """config.json in the form that timm writes and reads (timm.models.save_for_hf), with the `hf_free` block."""
    cfg = timm_settings(embedder.backbone)
    kept = ("fixed_input_size", "interpolation", "first_conv", "classifier")
    content = {
        "architecture": cfg["architecture"],
        "num_classes": 0,
        "num_features": getattr(embedder.backbone, "num_features", None) or embedder.backbone_dim,
        "pretrained_cfg": {
            "input_size": [embedder.config.channels, embedder.config.image_size, embedder.config.image_size],
            **{key: cfg[key] for key in kept if cfg.get(key) is not None},
            "crop_pct": 1.0,
            "mean": list(cfg["mean"]),
            "std": list(cfg["std"]),
            "num_classes": 0,
        },
        "hf_free": full_record(embedder, record).to_dict(),
    }
    if embedder.model_args:
        content["model_args"] = embedder.model_args
    return content


def full_record(embedder: Embedder, record: LearnerRecord) -> LearnerRecord:
    """A record with what `rebuild` reads: the `hf_free` block of config.json."""
    backbone = embedder.backbone
    described = {
        **embedder.config.of_network(),
        "views": list(embedder.views),
        "batchnorm": embedder.batchnorm,
        "feature_dim": embedder.feature_dim,
        **embedder.embedding.config(),
        **({INCLUDED: True} if isinstance(backbone, PooledBackbone) and backbone.included is not None else {}),
    }
    return record.saved_as(FORMAT_VERSION, described)


@dataclass(frozen=True)
class Origin:
    """Where on the Hub a learner was read from."""

    repo_id: str
    commit: str
    private: bool


class Fetched(NamedTuple):
    """A folder with the files that were asked for, and where it comes from; None for a local one."""

    folder: Path
    origin: Origin | None


def given_source(name: object) -> str:
    """Where a learner or a classifier is, as a text.

    Raises:
        LearnerError: neither a text nor a path.
    """
    rule = "a folder, or org/name or org/name@revision on the Hub"
    check_kind(name, "the learner", (str, Path), allowed=rule, optional=False, error=LearnerError)
    return str(name)


def fetch_files(
    name: str,
    *,
    revision: str | None,
    token: str | None,
    cache_dir: str | Path | None,
    local_files_only: bool,
    required: Sequence[str] = FILES,
    optional: Sequence[str] = (),
) -> Fetched:
    """The folder of a learner's files: `name` itself where it is one, else one commit from the Hub.

    Args:
        name: A folder, `org/name` or `org/name@revision`.
        revision: Branch, tag or commit; None for what the name says.
        token: Access token of the Hub.
        cache_dir: Folder of the download cache.
        local_files_only: Whether to use the cache alone.
        required: Files that have to be in a repository.
        optional: Files that are fetched where they are there.

    Raises:
        LearnerError: a name that is neither a folder nor `org/name` or `org/name@revision`.
        HubError: a repository that cannot be fetched.
    """
    if problem := why_no_path(name):
        raise LearnerError(
            f"the learner {short_form(name)} {problem}",
            allowed="a folder, or org/name or org/name@revision on the Hub",
        )
    folder = from_home(name)
    if folder.is_dir():
        _check_folder(folder, revision)
        return Fetched(folder, None)
    if folder.is_file():
        raise LearnerError(
            f"the learner {str(folder)!r} is a file",
            allowed="a folder, or org/name or org/name@revision on the Hub",
            action="give the folder that it lies in; unpack an archive first",
        )
    from hf_free.hub.snapshot import fetch_snapshot

    if revision is not None and "@" in name:
        raise LearnerError(
            f"the learner {short_form(name)} and the revision {revision}: two revisions",
            allowed="one of them",
            action=f"leave out {name.partition('@')[2]!r}, or the revision",
        )
    if revision is None:
        name, _, at = name.partition("@")
        revision = at or None
    try:
        snapshot = fetch_snapshot(
            name,
            revision=revision,
            required=required,
            optional=optional,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        )
        if more := teacher_files(snapshot.folder / CONFIG):
            snapshot = fetch_snapshot(
                name,
                revision=snapshot.commit,
                required=(*required, *more),
                optional=optional,
                token=token,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
            )
    except MissingFilesError as error:
        if EXTRA_WEIGHTS in required and f"no {EXTRA_WEIGHTS}" in error.given and f"no {WEIGHTS}" not in error.given:
            error.action = way_from_teacher(name)
        raise
    except TeacherReferenceError as error:  # it speaks of teachers' grammar
        raise LearnerError(
            f"no learner: {error.given}",
            allowed="a learner's Hub id, org/name or org/name@revision; its folder, or that of a run",
            action="check the name",
        ) from None
    return Fetched(snapshot.folder, Origin(name, snapshot.commit or "", snapshot.private or snapshot.gated))


def _check_folder(folder: Path, revision: str | None) -> None:
    """Refuse a folder that is not a learner's own, but leads to one, and a revision of a folder.

    Raises:
        LearnerError: with what to give in its place.
    """
    if revision is not None:
        raise LearnerError(
            f"the learner {str(folder)!r} is a folder, and a folder has no revision {revision!r}",
            allowed="a revision of a repository on the Hub",
            action="leave the revision out",
        )
    if (named := id_of_cache_folder(folder)) is not None:
        raise LearnerError(
            f"{folder} is a repository's folder in the Hub's cache",
            allowed="its id, or one of the folders in its snapshots/",
            action=f"name it {named}",
        )
    if not (folder / CONFIG).is_file() and (folder / "learner" / CONFIG).is_file():
        raise LearnerError(
            f"{str(folder)!r} is the folder of a run, and its learner lies inside",
            allowed="a learner's own folder, or org/name or org/name@revision on the Hub",
            action=f"give {str(folder / 'learner')!r}",
        )


class StoredLearner(NamedTuple):
    """The files of a learner in a folder, found and not yet read."""

    source: str
    """The learner's name, for errors."""
    folder: Path
    content: Json
    """config.json."""
    weights: Path
    extra: Path
    strangers: tuple[str, ...]
    """Names of files that are not those which config.json names."""


def find_learner(folder: Path, source: str, weights: Mapping[str, str] | None = None) -> StoredLearner:
    """Find the files of a learner, including those that an interrupted save has left behind.

    Args:
        folder: The learner's.
        source: Its name, for errors.
        weights: The SHA-256 of its weights, where it has to be a certain learner; None takes those that config.json
            names.

    Raises:
        LearnerError: no config.json, or one that cannot be read or belongs to other weights.
    """
    content = read_json(find_config(folder, weights), source)
    try:
        named = fingerprints_of(content) or {}
    except ValueError as error:
        raise LearnerError(f"{source}: {CONFIG}: {error}", action="save the learner again") from None
    if weights is not None and weights != named:
        raise LearnerError(
            f"{source}: {CLASSIFIER_CONFIG} and {CONFIG} were not saved together",
            allowed="the files of one FewShotClassifier.save_pretrained",
            action="adapt and save the classifier again",
        )
    found = {name: find_file(folder, name, named.get(name)) for name in WEIGHT_FILES}
    strangers = tuple(name for name, (_, is_named) in found.items() if not is_named)
    return StoredLearner(source, folder, content, found[WEIGHTS][0], found[EXTRA_WEIGHTS][0], strangers)


def rebuild(
    stored: StoredLearner, make: Callable[..., AnyEmbedder], access: Access | None = None
) -> tuple[AnyEmbedder, LearnerRecord]:
    """The embedder of these files, and its record; nothing is built before config.json is checked and its tensors are
    there.

    Names, shapes and types of the files' tensors are compared with the network on torch's meta device, which takes no
    memory; only then is it built.

    Args:
        stored: What `find_learner` gave.
        make: `Embedder` or a subclass with the same arguments.
        access: How to open the teachers of a pooled learner; None opens them as for a folder of this computer.

    Raises:
        LearnerError: a configuration that is not allowed; tensors that are not those which it declares, are not
            finite, or come from another save; a backbone that does not take pictures of the learner's size.
    """
    source = stored.source
    spec = check_learner_config(stored.content, source)
    headers = read_tensor_header(stored.weights, source), read_tensor_header(stored.extra, source)
    backbone = None if spec.embedding.pooled is None else _pooled_backbone(stored, spec, access or Access())
    width = None if backbone is None else backbone.num_features
    blank = None
    if backbone is None:
        blank = blank_backbone(spec.config, spec.model_args, spec.mean, spec.std, source)
    if blank is not None:
        check_tensors(headers[0], blank.state_dict(), source, WEIGHTS)
        _check_hidden_buffers(blank, stored.weights, source)
        width = blank_width(blank, spec.config, source)
    if width is None:  # a network of the user's own that torch cannot try without memory; its file is as large
        width = spec.feature_dim if spec.embedding.projection is None else spec.embedding.projection[1]
    spec.embedding.check_widths(width, spec.feature_dim, spec.config.backbone, source)
    wanted = stored_names(spec.embedding.tensors(width))
    strays = sorted(headers[1].keys() ^ wanted.keys())
    if strays:
        raise LearnerError(
            f"{source}: {EXTRA_WEIGHTS} does not hold what {CONFIG} declares, {', '.join(s[:60] for s in strays[:4])}",
            action="push the learner again",
        )
    check_tensors(headers[1], wanted, source, EXTRA_WEIGHTS)
    for name in stored.strangers:
        refuse_stranger(source, name, is_named=False)
    embedding = spec.embedding.build(width, part_names(read_tensors(stored.extra, source)), source)
    network = spec.model_args if backbone is None else backbone
    embedder = make(config=spec.config, embedding=embedding, inputs=spec.inputs, backbone=network)
    load_strictly(embedder.backbone, read_tensors(stored.weights, source, embedder.backbone), source)
    if blank is not None or backbone is not None:
        embedder.backbone_dim = width  # measured without memory; else one picture would go through, of any size
    if embedder.feature_dim != spec.feature_dim:
        raise LearnerError(
            f"{source} has {embedder.feature_dim} features", allowed=f"{spec.feature_dim}, as {CONFIG} says"
        )
    return embedder, spec.record


def _pooled_backbone(stored: StoredLearner, spec: LearnerSpec, access: Access) -> PooledBackbone:
    """The teachers of a pooled learner, opened by the registered opener."""
    sizes = spec.embedding.pooled or PooledSpec((), ())
    return open_pooled(
        PooledParts(
            source=stored.source,
            folder=_teachers_place(stored),
            teachers=spec.record.teachers,
            feature_sizes=sizes.features,
            answer_sizes=sizes.answers,
            channels=spec.config.channels,
            is_included=spec.is_included,
            access=access,
        )
    )


def _teachers_place(stored: StoredLearner) -> Path:
    """The folder whose `teachers/` are this learner's: its own, unless a save was interrupted or is at work."""
    if not is_interrupted(stored.folder):
        return stored.folder
    return find_teachers(stored.folder, named_teacher_files(stored.content)) or stored.folder


def _check_hidden_buffers(blank: nn.Module, weights: Path, source: str) -> None:
    """Refuse tables that a network computes for itself and that are far larger than its weights."""
    needed = sum(tensor.nbytes for tensor in (*blank.parameters(), *blank.buffers()))
    allowed = WIDENED * weights.stat().st_size + MAX_COMPUTED_BYTES
    if needed > allowed:
        raise LearnerError(
            f"{source}: its backbone would take {needed} bytes, and {WEIGHTS} has {weights.stat().st_size}",
            allowed=f"at most {allowed}: {WIDENED} times the file and {MAX_COMPUTED_BYTES >> 20} MiB",
            action="use another learner",
        )
