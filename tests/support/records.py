"""Records in the form that a run writes, and cards read back."""

from __future__ import annotations

import re

import yaml

from hf_free.config.tree import FreeConfig
from hf_free.provenance.teacher_record import TeacherRecord


def teacher(name="lab/a", **changes):
    values = TeacherRecord(
        reference=name, repo_id=name, commit="0123456789" * 4, architecture="conv4_32", parameters=28485,
        input_size=(3, 32, 32), fixed_input_size=False, mean=(0.5,) * 3, std=(0.2,) * 3, interpolation="bicubic",
        num_classes=5, label_names=("zero", "one", "two", "three", "four"), num_features=288,
        normalization={"BatchNorm2d": 4}, license="mit", sha256={"model.safetensors": "ab" * 32},
    ).to_dict()  # fmt: skip
    return {**values, **changes}


def local_teacher(path, **changes):
    return teacher(path, repo_id=None, commit=None, **changes)


def secret_teacher(**changes):
    """A private teacher: every word of it that must not come out holds `hush`, but for the commit."""
    changes = {"private": True, "notes": ["hush note"], "label_names": ["hush_face", "b"], **changes}
    return teacher("lab/hush", **{"reference": "lab/hush@hush-1:0-4", "commit": "feedbeef" * 5, **changes})


def row(method="learner", k_shot=1, accuracy=61.24, **changes):
    values = {"n_way": 3, "n_query": 15, "episodes": 600, "interval": 0.83, "inductive": True, "seconds": 1.0}
    return {"method": method, "k_shot": k_shot, "accuracy": accuracy, "note": "", **values, **changes}


def report(dataset="org/birds", split="test", **changes):
    rows = [row(), row(k_shot=5, accuracy=72.96), row("pixels (8x8)", accuracy=40.0)]
    values = {"warnings": [], "rows": rows, "seed": 0, "pictures": 60, "classes": 3}
    return {"dataset": dataset, "split": split, **values, **changes}


def record(teachers=None, results=(), hub=None, learner=None, models=(), **changes):
    """A record in the form that the trainer writes."""
    teachers = [teacher("lab/a"), teacher("lab/b")] if teachers is None else teachers
    config = {
        "models": [entry["reference"] for entry in teachers] + list(models),
        "hub": {"push_to_hub": "me/learner", **(hub or {})},
        "learner": learner or {},
    }
    return {
        "config": FreeConfig.from_dict(config).to_dict(),
        "teachers": teachers,
        "skipped": [],
        "left_out": {},
        "data_free": True,
        "results": list(results),
        "recovered": {"tasks": 4, "images": 80, "teacher_accuracy": 0.925, "diversity": 0.31},
        "training": {"minutes": 1.5, "steps": 100, "best_step": 90, "device": "cpu", "threads": 2,
                     "mixed_precision": "no"},
        "versions": {"hf_free": "0.1.0", "torch": "2.14.1"},
        **changes,
    }  # fmt: skip


def metadata(text):
    """The card's YAML, read by a plain parser."""
    return yaml.safe_load(re.match(r"---\n(.*?)\n---\n", text, re.DOTALL).group(1))


def body_of(text):
    return text.split("\n---\n", 1)[1]


def config_of(text):
    """The configuration block of a card, read back."""
    return yaml.safe_load(re.search(r"(?ms)^(`{3,})yaml\n(.*?)^\1$", text).group(2))
