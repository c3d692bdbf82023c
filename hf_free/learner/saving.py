"""A learner as the three files of its repository, and what rebuilds it from them.

`config.json` is in timm's own form with an extra `hf_free` block, `model.safetensors` has exactly the backbone's timm
keys (so `timm.create_model("hf-hub:org/name")` loads it after `import hf_free`), and `hf_free.safetensors` holds
projection, centre, relevance, damping and shared classes, none of which a learner must have.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file
from torch import Tensor, nn

from hf_free.config import FreeConfig
from hf_free.errors import TeacherReferenceError
from hf_free.learner import LearnerError
from hf_free.learner.damping import rebuild_damping
from hf_free.learner.relevance import Relevance
from hf_free.learner.repository import (
    CONFIG,
    EXTRA_WEIGHTS,
    FILES,
    FORMAT_VERSION,
    WEIGHTS,
    load_strictly,
    plain_tensors,
    take_part,
)
from hf_free.learner.shared_classes import rebuild_shared_classes

if TYPE_CHECKING:
    from hf_free.learner.meta_learner import MetaLearner


def write_files(learner: MetaLearner, folder: Path) -> None:
    """Write config.json, model.safetensors and hf_free.safetensors."""
    (folder / CONFIG).write_text(json.dumps(timm_config(learner), indent=2), encoding="utf-8")
    save_file(plain_tensors(learner.backbone.state_dict()), folder / WEIGHTS, {"format": "pt"})
    extra = {name: value for name, value in learner.state_dict().items() if not name.startswith("backbone.")}
    save_file(plain_tensors(extra), folder / EXTRA_WEIGHTS, {"format": "pt"})


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
    from hf_free.hub.client import fetch_snapshot

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


def constructor_arguments(content: dict[str, Any], extra: dict[str, Tensor], source: str) -> dict[str, Any]:
    """What `MetaLearner(...)` takes to be the learner of these files; its backbone's weights are loaded after it.

    Args:
        content: config.json.
        extra: The tensors of hf_free.safetensors.
        source: Where they come from, for errors.

    Raises:
        LearnerError: tensors that are not those which config.json declares.
    """
    block = content["hf_free"]
    described = dict(block["learner"])
    weights_of = f"{source} ({EXTRA_WEIGHTS})"
    # repositories of before the answers' embedding have no such key
    options = {"answer_sizes": described.pop("answer_sizes", None), "batchnorm": described.pop("batchnorm")}
    options["views"] = described.get("views", ["identity"])
    declared, centered = described.pop("projection"), described.pop("centered")
    shared_count = described.pop("shared_classes", None)
    embedded = described.pop("feature_dim")
    projection, relevance, damping, shared_classes = None, None, None, None
    if declared is not None:
        outputs, inputs = declared["shape"]
        projection = nn.Linear(inputs, outputs, bias=declared["bias"])
        load_strictly(projection, take_part(extra, "projection"), weights_of)
    sizes = options["answer_sizes"] or ()
    if shared_count is not None:
        shared_classes = rebuild_shared_classes(shared_count, sizes, take_part(extra, "shared_classes"), source)
    if described.pop("relevance", False):
        groups = None if shared_classes is None else shared_classes.groups
        relevance = Relevance(sizes, embedded - sum(sizes) - len(shared_classes or ()), groups)
        load_strictly(relevance, take_part(extra, "relevance"), weights_of)
    if (directions := described.pop("damping", None)) is not None:
        damping = rebuild_damping(directions, embedded, take_part(extra, "damping"), weights_of)
    center = extra.pop("center", None)
    if extra or (center is None) == centered:
        raise LearnerError(
            f"{source}: {EXTRA_WEIGHTS} does not hold what {CONFIG} declares, {sorted(extra) or 'center'}",
            action="push the learner again",
        )
    return {
        "config": FreeConfig.from_dict({"learner": described}).learner,
        "record": {key: value for key, value in block.items() if key not in ("format_version", "learner")},
        "projection": projection,
        "center": center,
        "relevance": relevance,
        "damping": damping,
        "shared_classes": shared_classes,
        "mean": content["pretrained_cfg"]["mean"],
        "std": content["pretrained_cfg"]["std"],
        "model_args": content.get("model_args"),
        **options,
    }
