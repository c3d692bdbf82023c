"""A learner as the three files of its repository, and what rebuilds it from them.

`config.json` is in timm's own form with an extra `hf_free` block, `model.safetensors` has exactly the backbone's timm
keys (so `timm.create_model("hf-hub:org/name")` loads it after `import hf_free`), and `hf_free.safetensors` holds
projection, centre, relevance, damping and shared classes, none of which a learner must have. Under `hf_free_files`
config.json names the SHA-256 of both files of weights; learners that were saved without are read all the same.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from hf_free.errors import LearnerError, TeacherReferenceError
from hf_free.learner.backbone import blank_backbone, blank_width
from hf_free.learner.config_check import LearnerSpec, check_learner_config
from hf_free.learner.format import (
    CLASSIFIER_CONFIG,
    CONFIG,
    EXTRA_WEIGHTS,
    FILES,
    FORMAT_VERSION,
    MAX_CONFIG_BYTES,
    WEIGHT_FILES,
    WEIGHTS,
    Header,
    check_tensors,
    load_strictly,
    plain_tensors,
    read_json,
    read_tensor_header,
    read_tensors,
    refuse_stranger,
    take_part,
)
from hf_free.learner.gating import TeacherGate
from hf_free.learner.one_step import FINGERPRINTS, find_config, find_file, fingerprint, fingerprints_of
from hf_free.learner.shared_classes import rebuild_shared_classes
from hf_free.learner.whitening import rebuild_whitening

MAX_COMPUTED_BYTES = 64 * 2**20
"""Of the tables that a network computes for itself (relative positions, masks), beyond four times its file."""

if TYPE_CHECKING:
    from hf_free.learner.meta_learner import MetaLearner


def write_files(learner: MetaLearner, folder: Path) -> dict[str, str]:
    """Write config.json, model.safetensors and hf_free.safetensors.

    Returns:
        The SHA-256 of the two files of weights, which config.json names.
    """
    save_file(plain_tensors(learner.backbone.state_dict()), folder / WEIGHTS, {"format": "pt"})
    extra = {name: value for name, value in learner.state_dict().items() if not name.startswith("backbone.")}
    save_file(plain_tensors(extra), folder / EXTRA_WEIGHTS, {"format": "pt"})
    named = {name: fingerprint(folder / name) for name in WEIGHT_FILES}
    (folder / CONFIG).write_text(_config_text(learner, named), encoding="utf-8")
    return named


def _config_text(learner: MetaLearner, named: dict[str, str]) -> str:
    """config.json as text; without the teachers' class descriptions, then names, where it would be too large."""
    content = {**timm_config(learner), FINGERPRINTS: named}
    for key in ("label_descriptions", "label_names"):
        text = json.dumps(content, indent=2)
        if len(text) <= MAX_CONFIG_BYTES:
            return text
        block = content["hf_free"]
        teachers = [{**teacher, key: None} for teacher in block.get("teachers") or []]
        content["hf_free"] = {**block, "teachers": teachers}
        logging.getLogger(__name__).warning(
            "%s would be larger than %d MiB: the teachers' %s are left out", CONFIG, MAX_CONFIG_BYTES >> 20, key
        )
    return json.dumps(content, indent=2)


def timm_config(learner: MetaLearner) -> dict[str, Any]:
    """config.json in the form that timm writes and reads (timm.models.save_for_hf), with the `hf_free` block."""
    cfg: Any = learner.backbone.pretrained_cfg
    kept = ("fixed_input_size", "interpolation", "first_conv", "classifier")
    content = {
        "architecture": cfg["architecture"],
        "num_classes": 0,
        "num_features": learner.backbone.num_features,
        "pretrained_cfg": {
            "input_size": [learner.config.channels, learner.config.image_size, learner.config.image_size],
            **{key: cfg[key] for key in kept if cfg.get(key) is not None},
            "crop_pct": 1.0,
            "mean": list(cfg["mean"]),
            "std": list(cfg["std"]),
            "num_classes": 0,
        },
        "hf_free": hf_free_block(learner),
    }
    if learner.model_args:
        content["model_args"] = learner.model_args
    return content


def hf_free_block(learner: MetaLearner) -> dict[str, Any]:
    """The `hf_free` block of config.json: the record, and what `constructor_arguments` reads."""
    projection = learner.projection
    rebuild = {
        **asdict(learner.config),
        "views": list(learner.views),
        "batchnorm": learner.batchnorm,
        "feature_dim": learner.feature_dim,
        "projection": None
        if projection is None
        else {"bias": projection.bias is not None, "shape": list(projection.weight.shape)},
        "answer_sizes": None if learner.answer_sizes is None else list(learner.answer_sizes),
        "centered": learner.center is not None,
        # each is unknown to some hf-free of before, which can read what does without
        **({} if learner.relevance is None else {"relevance": True}),
        **({} if learner.damping is None else {"damping": len(learner.damping.factors)}),
        **({} if learner.shared_classes is None else {"shared_classes": len(learner.shared_classes)}),
    }
    return {**learner.record, "format_version": FORMAT_VERSION, "learner": rebuild}


def fetch_learner(
    name: str, *, revision: str | None, token: str | None, cache_dir: str | Path | None, local_files_only: bool
) -> Path:
    """The folder of a learner's three files: `name` itself where it is one, else one commit from the Hub.

    Raises:
        LearnerError: a name that is neither a folder nor `org/name` or `org/name@revision`.
        HubError: a repository that cannot be had.
    """
    folder = Path(name)
    if folder.is_dir():
        return folder
    from hf_free.hub.snapshot import fetch_snapshot

    if revision is None:
        name, _, at = name.partition("@")
        revision = at or None
    try:
        snapshot = fetch_snapshot(
            name,
            revision=revision,
            required=FILES,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        )
    except TeacherReferenceError as error:  # it speaks of teachers' grammar
        raise LearnerError(
            f"no learner: {error.given}",
            allowed="a learner's Hub id, org/name or org/name@revision; its folder, or that of a run",
            action="check the name",
        ) from None
    return snapshot.folder


class StoredLearner(NamedTuple):
    """The files of a learner in a folder, found and not yet read."""

    source: str
    """The learner's name, for errors."""
    content: dict[str, Any]
    """config.json."""
    weights: Path
    extra: Path
    strangers: tuple[str, ...]
    """Names of files that are not those which config.json names."""


def find_learner(folder: Path, source: str, weights: Mapping[str, str] | None = None) -> StoredLearner:
    """Find the files of a learner, those that an interrupted save has left behind among them.

    Args:
        folder: The learner's.
        source: Its name, for errors.
        weights: The SHA-256 of its weights, where it has to be a certain learner; None takes that of config.json.

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
            allowed="the files of one FewShotClassifier.save",
            action="adapt and save the classifier again",
        )
    found = {name: find_file(folder, name, named.get(name)) for name in WEIGHT_FILES}
    strangers = tuple(name for name, (_, is_named) in found.items() if not is_named)
    return StoredLearner(source, content, found[WEIGHTS][0], found[EXTRA_WEIGHTS][0], strangers)


def rebuild(stored: StoredLearner, make: Callable[..., MetaLearner]) -> MetaLearner:
    """The learner of these files; nothing is built before config.json is checked and its tensors are there.

    Names, shapes and types of the files' tensors are compared with the network on torch's meta device, which takes no
    memory; only then is it built.

    Args:
        stored: What `find_learner` gave.
        make: `MetaLearner`.

    Raises:
        LearnerError: a configuration that is not allowed; tensors that are not those which it declares, are not
            finite, or come from another save; a backbone that does not take pictures of the learner's size.
    """
    source = stored.source
    spec = check_learner_config(stored.content, source)
    headers = read_tensor_header(stored.weights, source), read_tensor_header(stored.extra, source)
    blank = blank_backbone(spec.config, spec.model_args, spec.mean, spec.std, source)
    width = None
    if blank is not None:
        check_tensors(headers[0], blank.state_dict(), source, WEIGHTS)
        _check_hidden_buffers(blank, stored.weights, source)
        width = blank_width(blank, spec.config, source)
    if width is None:  # a network of the user's own that torch cannot try without memory; its file is as large
        width = spec.feature_dim if spec.projection is None else spec.projection[1]
    _check_widths(spec, width, source)
    _check_extra(headers[1], spec, width, source)
    for name in stored.strangers:
        refuse_stranger(source, name, is_named=False)
    learner = make(**_arguments(spec, width, read_tensors(stored.extra, source), source))
    load_strictly(learner.backbone, read_tensors(stored.weights, source, learner.backbone), source)
    if learner.feature_dim != spec.feature_dim:
        raise LearnerError(
            f"{source} has {learner.feature_dim} features", allowed=f"{spec.feature_dim}, as {CONFIG} says"
        )
    return learner


def _check_hidden_buffers(blank: nn.Module, weights: Path, source: str) -> None:
    """Refuse tables that a network computes for itself and that are far larger than its weights."""
    needed = sum(tensor.nbytes for tensor in (*blank.parameters(), *blank.buffers()))
    allowed = 4 * weights.stat().st_size + MAX_COMPUTED_BYTES
    if needed > allowed:
        raise LearnerError(
            f"{source}: its backbone would take {needed} bytes, and {WEIGHTS} has {weights.stat().st_size}",
            allowed=f"at most {allowed}: four times the file and {MAX_COMPUTED_BYTES >> 20} MiB",
            action="use another learner",
        )


def _check_widths(spec: LearnerSpec, width: int, source: str) -> None:
    """Compare what config.json says of the features with the backbone's own width."""
    outputs, inputs = spec.projection or (width, width)
    joined = width + (spec.shared_classes or 0) if spec.answer_sizes is not None else 0
    derived = outputs + joined
    if inputs != width or derived != spec.feature_dim:
        raise LearnerError(
            f"{source}: {CONFIG} says feature_dim {spec.feature_dim} with a projection of {inputs} features and "
            f"{spec.shared_classes or 0} shared_classes",
            allowed=f"{derived} and {width}: backbone {spec.config.backbone} gives {width} features",
            action="save or push the learner again",
        )
    if spec.damping is not None and spec.damping > spec.feature_dim:
        raise LearnerError(
            f"{source} damps {spec.damping} directions", allowed=f"1 to {spec.feature_dim}, its features' width"
        )


def _check_extra(header: Header, spec: LearnerSpec, width: int, source: str) -> None:
    """Compare hf_free.safetensors with what config.json declares, before any of it is read."""
    wanted: dict[str, Tensor] = {}

    def declare(name: str, *shape: int, dtype: torch.dtype = torch.float32) -> None:
        wanted[name] = torch.empty(shape, dtype=dtype, device="meta")

    sizes = spec.answer_sizes or ()
    if spec.projection is not None:
        declare("projection.weight", *spec.projection)
        if spec.projection_bias:
            declare("projection.bias", spec.projection[0])
    if spec.is_centered:
        declare("center", spec.feature_dim)
    if spec.has_relevance:
        declare("relevance.weight", len(sizes), width)
        declare("relevance.bias", len(sizes))
        declare("relevance.is_known", len(sizes), dtype=torch.bool)
    if spec.damping is not None:
        declare("damping.directions", spec.damping, spec.feature_dim)
        declare("damping.factors", spec.damping)
        declare("damping.scale")
    if spec.shared_classes is not None:
        declare("shared_classes.groups", sum(sizes), dtype=torch.long)
    strays = sorted(header.keys() ^ wanted.keys())
    if strays:
        raise LearnerError(
            f"{source}: {EXTRA_WEIGHTS} does not hold what {CONFIG} declares, {', '.join(s[:60] for s in strays[:4])}",
            action="push the learner again",
        )
    check_tensors(header, wanted, source, EXTRA_WEIGHTS)


def _arguments(spec: LearnerSpec, width: int, extra: dict[str, Tensor], source: str) -> dict[str, Any]:
    """What `MetaLearner(...)` takes to be the learner of these files; its backbone's weights are loaded after it."""
    weights_of, sizes = f"{source} ({EXTRA_WEIGHTS})", spec.answer_sizes or ()
    projection, relevance, damping, shared_classes = None, None, None, None
    if spec.projection is not None:
        outputs, inputs = spec.projection
        projection = nn.Linear(inputs, outputs, bias=spec.projection_bias)
        load_strictly(projection, take_part(extra, "projection"), weights_of)
    if spec.shared_classes is not None:
        groups = take_part(extra, "shared_classes")
        shared_classes = rebuild_shared_classes(spec.shared_classes, sizes, groups, source)
    if spec.has_relevance:
        relevance = TeacherGate(sizes, width, None if shared_classes is None else shared_classes.groups)
        load_strictly(relevance, take_part(extra, "relevance"), weights_of)
    if spec.damping is not None:
        damping = rebuild_whitening(spec.damping, spec.feature_dim, take_part(extra, "damping"), weights_of)
    return {
        "config": spec.config,
        "record": spec.record,
        "views": spec.views,
        "projection": projection,
        "answer_sizes": spec.answer_sizes,
        "center": extra.get("center"),
        "relevance": relevance,
        "damping": damping,
        "shared_classes": shared_classes,
        "batchnorm": spec.batchnorm,
        "mean": spec.mean,
        "std": spec.std,
        "model_args": spec.model_args,
    }
