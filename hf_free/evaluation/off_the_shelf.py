"""`timm:NAME`: the features of a backbone that timm publishes, to measure a learner beside it.

Such a backbone was trained on pictures, often on the very classes it is measured on; its row says so.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm
import torch

from hf_free.config.init_from import TIMM
from hf_free.data.images import Progress, to_float
from hf_free.errors import HfFreeError, LearnerError, TeacherError
from hf_free.evaluation.baselines import teacher_preprocessing
from hf_free.evaluation.features import FeatureSet, ImageSizes
from hf_free.learner.backbone import check_timm_start
from hf_free.learner.heads import normalize_features
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.runtime.device import choose_device
from hf_free.runtime.given import check_cache_dir, check_kind, check_texts
from hf_free.runtime.text import others_words
from hf_free.teachers.config_check import center_crop
from hf_free.teachers.teacher import Teacher, normalization_census, weight_bytes

if TYPE_CHECKING:
    from hf_free.hub.snapshot import Snapshot

BATCH = 32
"""Images per pass: 224x224 through a ResNet-50 takes some 20 MB each."""

WEIGHTS = "model.safetensors"

DATA = {
    "in1k": "ImageNet-1k",
    "in12k": "ImageNet-12k",
    "in21k": "ImageNet-21k",
    "in22k": "ImageNet-22k",
    "inw21k": "ImageNet-21k",
    "ig1b": "Instagram-1B",
    "jft": "JFT-300M",
    "yfcc15m": "YFCC-15M",
    "yfcc100m": "YFCC-100M",
    "cc12m": "Conceptual 12M",
    "laion400m": "LAION-400M",
    "laion2b": "LAION-2B",
    "laiona": "LAION-Aesthetics",
    "datacomp1b": "DataComp-1B",
    "datacompxl": "DataComp-XL",
    "dfn2b": "DFN-2B",
    "dfn5b": "DFN-5B",
    "dfndr2b": "DFNDR-2B",
    "metaclip": "MetaCLIP's pictures",
    "metaclip2": "MetaCLIP 2's pictures",
    "openai": "OpenAI's WIT-400M",
    "webli": "WebLI",
    "merged2b": "Merged-2B",
    "m30m": "Merged-30M",
    "m38m": "Merged-38M",
    "lvd142m": "LVD-142M",
    "lvd1689m": "LVD-1689M",
    "sat493m": "SAT-493M",
    "sa1b": "SA-1B",
}
"""Data sets by the words of timm's tags (`resnet18.a1_in1k`), as timm's documentation and model cards spell them."""


@dataclass(frozen=True)
class OffTheShelf:
    """A published backbone, ready to embed pictures."""

    name: str
    """`timm:` and the model's full name."""
    network: Teacher
    """Takes pictures of its own size, normalized in its own way."""
    trained_on: str
    """The data of its training, as far as its tag says."""

    @property
    def method(self) -> str:
        """The name of its row."""
        return f"{self.name} (not data-free, trained on {self.trained_on})"

    def embedding(self, images: ImageSizes, progress: Progress | None = None) -> FeatureSet:
        """Its features of all pictures, scaled to length 1."""
        start = time.perf_counter()
        record = self.network.record
        shown = teacher_preprocessing(record)
        parts = []
        with torch.no_grad():
            for part in images.batches(shown, BATCH):
                features = self.network.features(to_float(part.to(self.network.device)))
                parts.append(normalize_features(features.float()))
                if progress is not None:
                    progress(f"features of {self.name}", sum(map(len, parts)), len(images))
        _, height, width = record.input_size
        view = "whole pictures" if shown.crop is None else f"the center {100 * shown.crop:.4g} % of pictures"
        note = (
            f"{record.repo_id} at commit {str(record.commit)[:8]}, {view} at {height}x{width}, {shown.interpolation}"
        )
        return FeatureSet(self.method, [torch.cat(parts)], time.perf_counter() - start, note)


def load_off_the_shelf(
    source: str,
    *,
    token: str | None = None,
    cache_dir: str | Path | None = None,
    device: str | torch.device = "cpu",
) -> OffTheShelf:
    """Fetch a backbone's safetensors from the repository that timm names, and load it strictly.

    Args:
        source: `timm:NAME`, with or without a tag (timm's default one then), or `timm:NAME@REVISION`.
        token: Hub token.
        cache_dir: Folder of the download cache.
        device: Where to compute.

    Raises:
        LearnerError: timm publishes no weights of that name.
        HubError: weights that cannot be fetched, or only as a pickle.
        TeacherError: weights that do not fit the network.
    """
    from hf_free.hub.snapshot import fetch_snapshot

    check_kind(source, "source", str, allowed="timm:NAME, or timm:NAME@REVISION", optional=False, error=LearnerError)
    check_texts(token=token)
    check_cache_dir(cache_dir)
    where = choose_device(device)
    named, _, revision = source.partition("@")
    check_timm_start(named, "compare with")
    cfg: Any = timm.get_pretrained_cfg(named.removeprefix(TIMM))
    name = f"{TIMM}{cfg.architecture}" + (f".{cfg.tag}" if cfg.tag else "")
    if not cfg.hf_hub_id:
        raise TeacherError(f"{name} has no repository on the Hub", action="names: timm.list_pretrained()")
    files = fetch_snapshot(
        cfg.hf_hub_id, revision=revision or None, required=(WEIGHTS,), token=token, cache_dir=cache_dir
    )
    network = _built(name, cfg, files.folder / WEIGHTS)
    return OffTheShelf(name, Teacher(network, _record(name, cfg, network, files)).to(where), trained_on(cfg.tag))


def trained_on(tag: str | None) -> str:
    """The data sets that a tag of timm's names, in their order; `unknown data` where it names none.

    >>> trained_on("augreg_in21k_ft_in1k")
    'ImageNet-21k and ImageNet-1k'
    """
    words = re.split(r"[_.]", tag or "")
    found = list(dict.fromkeys(DATA[word] for word in words if word in DATA))
    return " and ".join([", ".join(found[:-1]), *found[-1:]] if len(found) > 1 else found) or "unknown data"


def _built(name: str, cfg: object, weights: Path) -> torch.nn.Module:
    """The network with the file's weights; timm renames tensors of older versions, and no weight may be missing."""
    overlay = {"file": str(weights), "hf_hub_id": None, "url": None, "custom_load": False}
    try:
        with torch.random.fork_rng(devices=[]):
            return timm.create_model(name.removeprefix(TIMM), pretrained=True, pretrained_cfg_overlay=overlay).eval()
    except HfFreeError:
        raise
    except (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise TeacherError(
            f"the weights of {name} do not fit timm {timm.__version__}: {others_words(error)}",
            action="update timm, or compare with another model",
        ) from error


def _record(name: str, cfg: Any, network: Any, files: Snapshot) -> TeacherRecord:
    """What is known of the backbone, in the form that `Teacher` takes."""
    return TeacherRecord(
        reference=name,
        repo_id=files.repo_id,
        commit=files.commit,
        architecture=cfg.architecture,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        input_size=tuple(cfg.input_size),
        fixed_input_size=bool(cfg.fixed_input_size),
        mean=tuple(cfg.mean),
        std=tuple(cfg.std),
        interpolation=str(cfg.interpolation),
        crop=center_crop(cfg.crop_mode, cfg.crop_pct),
        num_classes=int(cfg.num_classes),
        label_names=None,
        num_features=int(getattr(network, "head_hidden_size", 0) or network.num_features),
        normalization=normalization_census(network),
        license=files.license,
        sha256=dict(files.sha256),
        timm_version=timm.__version__,
        weight_bytes=weight_bytes(network),
    )
