"""Tampered configurations, records and answers: every input ends in success or in one error of ours.

`make fuzz` runs 100,000 inputs a target and prints a table. An input is a valid document with one to four changes at
random places: another value, another type, a key more or fewer, a branch repeated or nested. Inputs follow from the
target and their number alone, so that `--only TARGET --first NUMBER --inputs 1` shows a failure again.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_free.errors import HfFreeError
from hf_free.provenance.learner_record import LearnerRecord

if TYPE_CHECKING:
    from hf_free.learner.config_check import LearnerSpec

SLOW = 5.0
"""Seconds of computing after which an input counts as one that never ends."""
MEMORY_FOLDER = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where the files of inputs lie: in memory if possible, for a folder on a disk takes longer to make than to read."""

_TEXTS = (
    *(
        "",
        " ",
        "x",
        "mit",
        "../../x",
        "/etc/passwd",
        "os.system",
        "hf-hub:org/x",
        "test_resnet",
        "test_resnet.r160_in1k",
    ),
    *("\x00", "\x1b[2J", "\u202ex", "\ud800", "{{ 7 }}", "=1+1", "null", "nan", "9" * 5000, "x" * 100_000),
    *("org/name", "org/name@main", "https://evil.example/?a=b", "!!python/object:os.system", "`" * 50, "|" * 50),
)
_NUMBERS = (
    *(0, 1, -1, 2, 3, 7, 255, 2**31, 2**63, -(2**63), 10**30, 10**400, 0.0, -0.0, 0.5, 1e-320, 1e308),
    *(float("nan"), float("inf"), -float("inf"), True, False),
)
_WIDE = [0] * 20_000
_DEEP: list[Any] = []
for _ in range(150):  # copying takes three frames a level
    _DEEP = [_DEEP]
_OTHERS = (
    None,
    [],
    {},
    [None],
    [[]],
    {"": None},
    [1, "x", None],
    {"a": {"b": [1]}},
    _WIDE,
    _DEEP,
    ["x"] * 3,
    [1, 2, 3],
)
HOSTILE: tuple[Any, ...] = (*_TEXTS, *_NUMBERS, *_OTHERS)


@dataclass(frozen=True)
class Target:
    """Something that reads what strangers wrote."""

    seeds: Callable[[], list[Any]]
    """Valid documents."""
    read: Callable[[Any], object]
    """Reads one; raises what the library raises."""


def mutated(document: Any, chance: random.Random) -> Any:
    """A document with one to four changes."""
    document = copy.deepcopy(document)
    for _ in range(chance.randint(1, 4)):
        places = list(_places(document))
        if not places:
            return copy.deepcopy(chance.choice(HOSTILE))
        holder, key = chance.choice(places)
        change = chance.randrange(8)
        if change == 0:
            del holder[key]
        elif change == 1 and isinstance(holder, dict):
            holder[str(chance.choice(_TEXTS))] = holder[key]
        elif change == 2:
            holder[key] = [copy.deepcopy(holder[key]) for _ in range(chance.choice((1, 2, 5)))]
        elif change == 3:
            holder[key] = {str(chance.choice(_TEXTS)): holder[key]}
        elif change == 4:
            other, name = chance.choice(places)
            holder[key] = copy.deepcopy(
                other.get(name) if isinstance(other, dict) else other[name % max(len(other), 1)]
            )
        else:
            holder[key] = copy.deepcopy(chance.choice(HOSTILE))  # later changes may reach into it
    return document


def _places(value: Any, limit: int = 400) -> list[tuple[Any, Any]]:
    """Every (holder, key) in a document, the first of them where there are many."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting and len(found) < limit:
        holder = waiting.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        found += [(holder, key) for key in keys[:limit]]
        waiting += [holder[key] for key in keys[:limit]]
    return found[:limit]


# ---- targets


def _teachers() -> list[Any]:
    names = {"label_names": ["a", "b", "c"], "label_descriptions": {"a": "x", "b": "y", "c": "z"}}
    cfg = {"input_size": [3, 32, 32], "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2], "crop_pct": 0.9, "url": "x"}
    config = {"architecture": "test_resnet", "num_classes": 3, "model_args": {"in_chans": 3}, "pretrained_cfg": cfg}
    return [{**config, **names}, {**config, **cfg, "pretrained_cfg": None}]


def _read_teacher(document: Any) -> object:
    from hf_free.teachers.config_check import check_config

    return check_config(document, "org/teacher")


def _transformers() -> list[Any]:
    config = {
        "model_type": "vit",
        "architectures": ["ViTForImageClassification"],
        "hidden_size": 16,
        "depths": [1, 2],
        "image_size": 32,
        "hidden_act": "gelu",
        "qkv_bias": True,
        "id2label": {"0": "a", "1": "b"},
        "vision_config": {"num_channels": 3},
        "pretrained_cfg": {"mean": 0.5, "input_size": [3, 8, 8]},
    }
    pixels = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": 32},
        "crop_size": 32,
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.5, 0.4, 0.3],
        "resample": 3,
        "rescale_factor": 0.004,
    }
    others = {"image_processor_type": "ConvNextImageProcessorFast", "size": 224, "crop_pct": 0.9, "do_rescale": True}
    return [{"config": config, "pixels": pixels}, {"config": {"model_type": "vit"}, "pixels": others}]  # fmt: skip


def _read_transformers(document: Any) -> object:
    from hf_free.provenance.reading import object_of
    from hf_free.teachers.transformers_config import check_transformers_config
    from hf_free.teachers.transformers_pixels import overlay, read_pixels

    document = object_of(document)
    spec = check_transformers_config(object_of(document.get("config")), "org/teacher", tensors=40)
    pixels = read_pixels(document.get("pixels"), "org/teacher", model_type=spec.model_type, channels=spec.channels)
    return overlay(pixels, spec.pixels, "org/teacher", spec.channels)


@cache
def _saved_learner() -> str:
    from hf_free.config.sections import LearnerConfig
    from hf_free.learner.meta_learner import MetaLearner

    teacher = {
        "reference": "org/a",
        "repo_id": "org/a",
        "commit": "0" * 40,
        "label_names": ["x"],
        "sha256": {"m": "0"},
    }
    rows = [{"method": "m", "n_way": 5, "k_shot": 1, "n_query": 1, "episodes": 1, "accuracy": 1.0, "interval": 1.0}]
    results = [{"dataset": "d", "split": "test", "rows": rows, "warnings": ["w"]}]
    skipped = [{"reference": "org/b", "reason": "gone"}]
    record = {"teachers": [teacher], "results": results, "skipped": skipped, "versions": {"torch": "2"}, "seed": 0}
    record |= {"config": {"bell": {"n_way": 5}, "models": ["org/a"]}, "training": {"steps": 3, "seconds": 1.0}}
    with tempfile.TemporaryDirectory(dir=MEMORY_FOLDER) as folder:
        config = LearnerConfig(backbone="test_resnet", image_size=16)
        learner = MetaLearner(config)
        learner.record = LearnerRecord.from_dict(record)
        learner.save_pretrained(Path(folder) / "learner")
        return (Path(folder) / "learner" / "config.json").read_text()


def _learners() -> list[Any]:
    return [json.loads(_saved_learner())]


def _read_learner(document: Any) -> LearnerSpec:
    """As from_pretrained does: the file, then the gate."""
    from hf_free.learner.config_check import check_learner_config
    from hf_free.learner.format import read_json

    with tempfile.TemporaryDirectory(dir=MEMORY_FOLDER) as folder:
        (path := Path(folder) / "config.json").write_text(json.dumps(document))
        return check_learner_config(read_json(path, "org/learner"), "org/learner")


def _records() -> list[Any]:
    return [json.loads(_saved_learner())["hf_free"]]


def _gated(record: Any) -> LearnerRecord:
    """A record as from_pretrained lets it in, beside an untouched description of the network."""
    content = json.loads(_saved_learner())
    whole = {**record, **{key: content["hf_free"][key] for key in ("format_version", "learner")}}
    return _read_learner({**content, "hf_free": whole}).record


def _read_record(document: Any) -> object:
    from hf_free.publishing.redaction import redacted

    return redacted(_gated(document)) if isinstance(document, dict) else None


def _read_card(document: Any) -> object:
    from hf_free.publishing.card import write_card

    with tempfile.TemporaryDirectory(dir=MEMORY_FOLDER) as folder:
        return write_card(Path(folder), _gated(document)) if isinstance(document, dict) else None


def _configs() -> list[Any]:
    from hf_free.config.tree import FreeConfig

    return [FreeConfig.from_dict({}).to_dict(), {"models": ["org/a"], "trainer": {"steps": 10}}]


def _read_config(document: Any) -> object:
    from hf_free.config.tree import FreeConfig

    return FreeConfig.from_dict(document) if isinstance(document, dict) else None


def _answers() -> list[Any]:
    large = {"rfilename": "model.safetensors", "size": 9, "lfs": {"sha256": "a" * 64, "size": 9, "pointerSize": 1}}
    small = {"rfilename": "config.json", "size": 3, "blobId": "1" * 40}
    info = {"id": "org/net", "sha": "0" * 40, "private": False, "gated": False, "tags": ["timm"], "downloads": 1}
    card = {"license": "mit", "tags": ["x"], "model-index": [{"name": "n", "results": []}]}
    return [{**info, "siblings": [small, large], "cardData": card, "lastModified": "2026-01-01T00:00:00.000Z"}]


def _read_answer(document: Any) -> object:
    """As `patiently` and `explain` do with what huggingface_hub makes of it."""
    from huggingface_hub import ModelInfo

    from hf_free.hub.answers import read_repository
    from hf_free.hub.failures import explain
    from hf_free.hub.session import patiently

    try:
        return patiently(lambda: read_repository(ModelInfo(**document)), attempts=1)
    except Exception as error:
        raise explain(error, "org/net") from None


TARGETS = {
    "teacher": Target(_teachers, _read_teacher),
    "transformers": Target(_transformers, _read_transformers),
    "learner": Target(_learners, _read_learner),
    "record": Target(_records, _read_record),
    "card": Target(_records, _read_card),
    "config": Target(_configs, _read_config),
    "answer": Target(_answers, _read_answer),
}


@dataclass(frozen=True)
class Outcome:
    """What many inputs came to."""

    accepted: int
    refused: int
    failures: tuple[str, ...]
    slowest: float


def run(name: str, inputs: int, first: int = 0) -> Outcome:
    """Read so many tampered documents; a failure is anything but success or an error of ours, or takes too long."""
    target, counts, failures, slowest = TARGETS[name], Counter[bool](), [], 0.0
    seeds = target.seeds()
    target.read(copy.deepcopy(seeds[0]))  # imports are no part of an input's time
    for number in range(first, first + inputs):
        chance = random.Random(f"{name} {number}")
        document = mutated(chance.choice(seeds), chance)
        begin = time.process_time()
        try:
            target.read(document)
            counts[True] += 1
        except HfFreeError as error:
            str(error)
            counts[False] += 1
        except Exception as error:
            failures.append(f"{name} {number}: {type(error).__name__}: {str(error)[:150]}")
        seconds = time.process_time() - begin
        slowest = max(slowest, seconds)
        if seconds > SLOW:
            failures.append(f"{name} {number}: took {seconds:.1f} s")
    return Outcome(counts[True], counts[False], tuple(failures), slowest)


def main() -> int:
    """Run the targets and print a table; 1 if an input failed."""
    logging.disable(logging.CRITICAL)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--inputs", type=int, default=100_000, help="of each target")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--only", default=",".join(TARGETS), help="targets, separated by commas")
    options = parser.parse_args()
    sys.stdout.write("| target | inputs | accepted | refused | failed | slowest (s) |\n|---|---|---|---|---|---|\n")
    failures: list[str] = []
    for name in options.only.split(","):
        outcome = run(name, options.inputs, options.first)
        cells = (options.inputs, outcome.accepted, outcome.refused, len(outcome.failures), f"{outcome.slowest:.2f}")
        sys.stdout.write(f"| {name} | {' | '.join(map(str, cells))} |\n")
        sys.stdout.flush()
        failures += outcome.failures
    sys.stdout.write("".join(f"{line}\n" for line in failures[:50]))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
