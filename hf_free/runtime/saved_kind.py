"""What a folder holds: a learner, a classifier made of one, a run, another model. None is saved over another."""

from __future__ import annotations

from pathlib import Path

from hf_free.runtime.strict_json import read_strict_json

MAX_CONFIG_BYTES = 8 * 2**20
"""Largest config.json or classifier.json: room for eighty teachers of ImageNet's 1,000 described classes, 0.1 MB each.
A hundred teachers of five classes take 0.15 MB. A larger one leaves class descriptions and names out
(`hf_free.learner.persistence`); see also `hf_free.runtime.strict_json.MAX_VALUES`."""


def holds_classifier(folder: Path) -> bool:
    """Whether a folder holds a classifier of hf-free."""
    return (folder / "classifier.json").is_file()


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run of hf-free train."""
    return (folder / "config.yaml").is_file() and (folder / "teachers.json").is_file()


def other_kind(folder: Path) -> str:
    """What a folder holds that neither a learner nor a classifier may be saved over: another model, or a run; empty
    where it holds neither. A config.json that cannot be read belongs to nothing, and may be replaced."""
    if is_run(folder):
        return "a run of hf-free train"
    config = _config(folder)
    is_other = config is not None and "hf_free" not in config and not holds_classifier(folder)
    return "a model that is no learner of hf-free" if is_other else ""


def holds_learner(folder: Path) -> bool:
    """Whether a folder holds a learner of hf-free and nothing made of it; a teacher has a config.json of the same
    form, without our block."""
    config = None if holds_classifier(folder) else _config(folder)
    return config is not None and isinstance(config.get("hf_free"), dict)


def _config(folder: Path) -> dict[str, object] | None:
    try:
        config = read_strict_json(folder / "config.json", max_bytes=MAX_CONFIG_BYTES)
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) else None
