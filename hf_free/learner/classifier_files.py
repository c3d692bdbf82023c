"""An adapted classifier as files beside those of its learner, and strict reading of them.

`classifier.json` has the classes and how they are answered, `classifier.safetensors` the linear layer, and
`support.safetensors` the support set: features, or pictures where they are needed to adapt anew. `classifier.json` is
in format 1, whose first version had neither support nor threshold; old files are still read, and old versions read new
files.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple, get_args

import torch
from safetensors.torch import save_file
from torch import Tensor

from hf_free.data.decoding import WHITE, Color
from hf_free.errors import LearnerError
from hf_free.learner.backbone_kinds import Access
from hf_free.learner.batchnorm import BatchNormMode
from hf_free.learner.config_check import way_out_of_format
from hf_free.learner.embedder import Embedder
from hf_free.learner.format import (
    CLASSIFIER_CONFIG,
    CLASSIFIER_WEIGHTS,
    CONFIG,
    EXTRA_WEIGHTS,
    SUPPORT,
    WEIGHT_FILES,
    WEIGHTS,
    check_tensors,
    plain_tensors,
    read_json,
    read_tensor_header,
    read_tensors,
    refuse_stranger,
    way_from_teacher,
)
from hf_free.learner.labels import Label
from hf_free.learner.one_step import (
    FINGERPRINTS,
    find_file,
    fingerprints_of,
    learners_part,
    replaced_in_one_step,
)
from hf_free.learner.persistence import Origin, bytes_of, find_learner, rebuild, saved_names, write_files
from hf_free.learner.pooled_files import copy_files, files_to_bring
from hf_free.learner.rejection import Rejection, is_share
from hf_free.learner.support import SupportSet
from hf_free.learner.transductive import TRANSDUCTIVE
from hf_free.provenance.learner_record import LearnerRecord
from hf_free.provenance.reading import Json, number_of, object_of, text_of
from hf_free.runtime.files import sha256_of

CLASSIFIER_FORMAT = 1

_AGAIN = "adapt and save the classifier again"


@dataclass(frozen=True)
class ClassifierParts:
    """All that a classifier is made of.

    Attributes:
        embedder: The network.
        weight: (N, D) of the linear layer.
        bias: (N,) of it.
        classes: The N labels.
        support: The support set; None: it is not known, so that the classifier cannot be changed.
        batchnorm: The learner's own BatchNorm mode, before adaptation.
        background: What transparent pictures are laid on.
        rejection: When a picture is of no known class; None knows no such picture.
        transductive: Name of the transductive head; None answers each picture alone.
        origin: The learner's repository on the Hub.
        record: The learner's provenance.
    """

    embedder: Embedder
    weight: Tensor
    bias: Tensor
    classes: tuple[Label, ...]
    support: SupportSet | None = None
    batchnorm: BatchNormMode = "running"
    background: Color = WHITE
    rejection: Rejection | None = None
    transductive: str | None = None
    origin: Origin | None = None
    record: LearnerRecord = field(default_factory=LearnerRecord)


class DescribedSupport(NamedTuple):
    """What classifier.json says of the support set."""

    sha256: str
    """Of its file."""
    holds_pictures: bool
    """Or features."""
    batchnorm: BatchNormMode


class ClassifierConfig(NamedTuple):
    """What classifier.json says."""

    classes: tuple[Label, ...]
    files: dict[str, str] | None
    """The SHA-256 of each file of weights, the learner's too; None in files of older versions."""
    background: Color
    rejection: Rejection | None
    transductive: str | None
    support: DescribedSupport | None
    learner: Json
    """Where the learner is from; empty where that is not known."""


def write_classifier(parts: ClassifierParts, folder: Path) -> None:
    """Write a classifier and its learner into a folder, over older ones in one step."""
    brought = files_to_bring(parts.embedder.backbone, folder)
    support = [] if parts.support is None else [SUPPORT]
    order = [CLASSIFIER_CONFIG, *saved_names(brought), CLASSIFIER_WEIGHTS, *support]
    rows = 0 if parts.support is None else parts.support.rows.nbytes
    needed = bytes_of(parts.embedder, brought) + parts.weight.nbytes + rows
    with replaced_in_one_step(folder, order, needed=needed) as fresh:
        copy_files(brought, fresh)
        named = write_files(parts.embedder, parts.record, fresh)
        save_file(plain_tensors({"weight": parts.weight, "bias": parts.bias}), fresh / CLASSIFIER_WEIGHTS)
        named[CLASSIFIER_WEIGHTS] = sha256_of(fresh / CLASSIFIER_WEIGHTS)
        content: Json = {
            "format_version": CLASSIFIER_FORMAT,
            "classes": list(parts.classes),
            "background": list(parts.background),
            FINGERPRINTS: named,
        }
        if parts.rejection is not None:
            content["rejection"] = asdict(parts.rejection)
        if parts.transductive is not None:
            content["transductive"] = parts.transductive
        if parts.origin is not None:
            public = {"repo_id": parts.origin.repo_id, "commit": parts.origin.commit}
            content["learner"] = {"private": True} if parts.origin.private else public
        if parts.support is not None:
            tensors = {"rows": parts.support.rows, "labels": parts.support.labels}
            save_file(plain_tensors(tensors), fresh / SUPPORT)
            content["support"] = {
                "rows": "pictures" if parts.support.holds_pictures else "features",
                "counts": list(parts.support.counts.values()),
                "batchnorm": parts.batchnorm,
                "sha256": sha256_of(fresh / SUPPORT),
            }
        text = json.dumps(content, indent=2, ensure_ascii=False)
        (fresh / CLASSIFIER_CONFIG).write_text(text, encoding="utf-8")
    if parts.support is None:
        (folder / SUPPORT).unlink(missing_ok=True)  # an older classifier's, which nothing names any more


def read_classifier(folder: Path, source: str, access: Access) -> ClassifierParts:
    """Read what `write_classifier` wrote, as strictly as a learner is read.

    Args:
        folder: The classifier's.
        source: Its name, for errors.
        access: Where the network goes, and how the teachers of a pooled learner are had.

    Raises:
        LearnerError: a missing, damaged or foreign file, a value that is not allowed, or a newer format.
    """
    described = read_classifier_config(folder, source)
    classes, named = described.classes, described.files
    path, is_named = find_file(folder, CLASSIFIER_WEIGHTS, (named or {}).get(CLASSIFIER_WEIGHTS))
    header = read_tensor_header(path, source)
    weights = None if named is None else learners_part(named)
    device = access.device
    embedder, record = rebuild(find_learner(folder, source, weights), Embedder, access)
    shape = (len(classes), embedder.feature_dim)
    blank = {"weight": torch.empty(shape, device="meta"), "bias": torch.empty(shape[0], device="meta")}
    check_tensors(header, blank, source, CLASSIFIER_WEIGHTS)
    refuse_stranger(source, CLASSIFIER_WEIGHTS, is_named, CLASSIFIER_CONFIG)
    tensors = read_tensors(path, source)
    support, batchnorm = None, embedder.batchnorm
    if described.support is not None:
        batchnorm = described.support.batchnorm
        support = _read_support(folder, source, described.support, classes, embedder)
    embedder = embedder.eval().to(device)
    learner = described.learner
    origin = Origin(text_of(learner.get("repo_id")), text_of(learner.get("commit")), bool(learner.get("private")))
    return ClassifierParts(
        embedder,
        tensors["weight"].to(device, torch.float32),
        tensors["bias"].to(device, torch.float32),
        classes,
        support,
        batchnorm=batchnorm,
        background=described.background,
        rejection=described.rejection,
        transductive=described.transductive,
        origin=origin if learner else None,
        record=record,
    )


def read_classifier_config(folder: Path, source: str) -> ClassifierConfig:
    """Read a classifier.json strictly.

    Args:
        folder: The classifier's.
        source: Its name, for errors.

    Raises:
        LearnerError: it is missing or cannot be read, a value is not allowed, or it is in a newer format.
    """
    if not (folder / CLASSIFIER_CONFIG).exists():
        if (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file() and not (folder / EXTRA_WEIGHTS).is_file():
            raise LearnerError(
                f"{source} holds neither an adapted classifier nor a learner: it has no {CLASSIFIER_CONFIG} and no "
                f"{EXTRA_WEIGHTS}",
                allowed="a folder that hf-free adapt has written",
                action=way_from_teacher(source),
            )
        raise LearnerError(
            f"{source} holds no adapted classifier: it has no {CLASSIFIER_CONFIG}",
            allowed=f"a folder written by FewShotClassifier.save_pretrained, with {CLASSIFIER_CONFIG}, "
            f"{CLASSIFIER_WEIGHTS}",
            action="adapt the learner to your classes first",
        )
    content = read_json(folder / CLASSIFIER_CONFIG, source)
    classes, named = _classes(content, source)
    background, rejection, transductive = _background(content, source), _rejection(content, source), None
    if (name := content.get("transductive")) is not None:
        transductive = text_of(name)
        if name not in TRANSDUCTIVE:
            raise _unfit(source, "transductive", name, ", ".join(TRANSDUCTIVE))
    support = None if content.get("support") is None else _support(content["support"], source)
    return ClassifierConfig(
        classes, named, background, rejection, transductive, support, object_of(content.get("learner"))
    )


def _support(described: object, source: str) -> DescribedSupport:
    found = object_of(described)
    sha256, kind, batchnorm = found.get("sha256"), found.get("rows"), found.get("batchnorm", "running")
    if batchnorm not in get_args(BatchNormMode):
        raise _unfit(source, "support.batchnorm", batchnorm, ", ".join(get_args(BatchNormMode)))
    if not isinstance(sha256, str) or kind not in ("pictures", "features"):
        raise _unfit(source, "support", described, "rows, pictures or features, and the SHA-256 of their file")
    return DescribedSupport(sha256, kind == "pictures", batchnorm)


def _read_support(
    folder: Path, source: str, described: DescribedSupport, classes: tuple[Label, ...], embedder: Embedder
) -> SupportSet:
    """A classifier's support set, checked against its classes and its network."""
    path, is_named = find_file(folder, SUPPORT, described.sha256)
    header = read_tensor_header(path, source)
    refuse_stranger(source, SUPPORT, is_named, CLASSIFIER_CONFIG)
    count = header["rows"][0][0] if "rows" in header and header["rows"][0] else 0
    config = embedder.config
    picture = (config.channels, config.image_size, config.image_size)
    shape = (count, *picture) if described.holds_pictures else (count, embedder.feature_dim)
    blank = {
        "rows": torch.empty(shape, device="meta"),
        "labels": torch.empty(count, dtype=torch.long, device="meta"),
    }
    check_tensors(header, blank, source, SUPPORT)
    tensors = read_tensors(path, source)
    labels = tensors["labels"]
    if labels.unique().tolist() != list(range(len(classes))):
        raise _unfit(source, "support", "labels of other classes", "one row or more of each class", SUPPORT)
    return SupportSet(classes, labels, tensors["rows"].float())


def _classes(content: Json, source: str) -> tuple[tuple[Label, ...], dict[str, str] | None]:
    """The classes and the files that a classifier.json names."""
    version, classes = content.get("format_version"), content.get("classes")
    if type(version) is not int or version != CLASSIFIER_FORMAT:
        raise LearnerError(
            f"{source} is in classifier format {version!r:.80}",
            allowed=f"format {CLASSIFIER_FORMAT}",
            action=way_out_of_format(version, CLASSIFIER_FORMAT),
        )
    known: list[Label] = classes if isinstance(classes, list) else []
    are_plain = all(type(name) in (str, int) for name in known) or all(type(name) is bool for name in known)
    if len(known) < 2 or not are_plain or len(set(known)) < len(known):
        raise _unfit(source, "classes", classes, "two or more different texts, whole numbers, or true and false")
    try:
        return tuple(known), fingerprints_of(content, (*WEIGHT_FILES, CLASSIFIER_WEIGHTS))
    except ValueError as error:
        raise LearnerError(f"{source}: {CLASSIFIER_CONFIG}: {error}", action="save the classifier again") from None


def _background(content: Json, source: str) -> Color:
    """The background that a classifier.json names; files of older versions name none, and mean white."""
    color = content.get("background", list(WHITE))
    if isinstance(color, list) and len(color) == 3 and all(type(part) is int and 0 <= part <= 255 for part in color):
        return color[0], color[1], color[2]
    raise _unfit(source, "background", color, "a list of three whole numbers from 0 to 255")


def _rejection(content: Json, source: str) -> Rejection | None:
    value = content.get("rejection")
    if value is None:
        return None
    found = object_of(value)
    threshold, share = number_of(found.get("threshold")), found.get("false_rejections")
    if threshold is None or not math.isfinite(threshold) or not (share is None or is_share(share)):
        raise _unfit(source, "rejection", value, "a finite threshold, and a share between 0 and 1 or null")
    return Rejection(float(threshold), share)


def _unfit(source: str, key: str, value: object, rule: str, file: str = CLASSIFIER_CONFIG) -> LearnerError:
    return LearnerError(f"{source}: {key} of {file} is {value!r:.80}", allowed=rule, action=_AGAIN)
