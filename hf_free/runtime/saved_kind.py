"""What a folder holds: a learner, a classifier made of one, a run, another model. None is saved over another."""

from __future__ import annotations

from pathlib import Path

from hf_free.errors import HfFreeError
from hf_free.runtime.strict_json import read_strict_json
from hf_free.runtime.text import printable

LEARNER, CLASSIFIER, RUN = "a learner of hf-free", "a classifier of hf-free", "a run of hf-free train"
OTHER = "a model that is no learner of hf-free"

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


def kind_of(folder: Path) -> str:
    """What a folder holds: `LEARNER`, `CLASSIFIER`, `RUN`, `OTHER`, or nothing, which is empty. A config.json that
    cannot be read belongs to nothing, and may be replaced."""
    if is_run(folder):
        return RUN
    if holds_classifier(folder):
        return CLASSIFIER
    if holds_learner(folder):
        return LEARNER
    config = _config(folder)
    return OTHER if config is not None and "hf_free" not in config else ""


def check_kind_stays(folder: Path, kind: str, *, error: type[HfFreeError]) -> None:
    """Refuse a folder that holds something of another kind than what is to be saved there.

    Args:
        folder: Where it is to be saved.
        kind: What it is: `LEARNER`, `CLASSIFIER`, or `OTHER` for a teacher.
        error: The kind of error.

    Raises:
        HfFreeError: it does, with what may be done.
    """
    if (held := kind_of(folder)) not in ("", kind):
        called = "a teacher" if kind == OTHER else kind.removesuffix(" of hf-free")
        raise error(
            f"{folder} holds {held}, which {called} does not replace",
            allowed=f"a new folder, an empty one, or that of {called}",
            action="give another folder, or remove what is in this one",
        )


def holds_learner(folder: Path) -> bool:
    """Whether a folder holds a learner of hf-free and nothing made of it; a teacher has a config.json of the same
    form, without our block."""
    config = None if holds_classifier(folder) else _config(folder)
    return config is not None and isinstance(config.get("hf_free"), dict)


def in_use(folder: Path, kind: str, *, is_own: bool, error: type[HfFreeError], resumes: bool = False) -> HfFreeError:
    """The error for an output that has something in it which is not to be replaced.

    Args:
        folder: The output, a folder that is not empty, or no folder.
        kind: What `--overwrite` replaces: `LEARNER`, `CLASSIFIER` or `RUN`.
        is_own: Whether it is that which is there.
        error: The kind of error.
        resumes: Whether what is there may be gone on with.
    """
    held = f": it holds {held}" if (held := kind_of(folder)) else ""
    flags = "--resume or --overwrite (in Python resume=True or overwrite=True)" if resumes else "--overwrite"
    return error(
        f"the output folder {folder} is not empty{held}" if folder.is_dir() else f"the output {folder} is no folder",
        allowed=f"a new or empty folder; --overwrite replaces {kind}",
        action="give another --output" + (f", or {flags}" if is_own else ""),
    )


def architecture_of(folder: Path) -> str:
    """The name of timm's architecture that a folder's config.json has; empty where it has none."""
    named = (_config(folder) or {}).get("architecture")
    return printable(named) if isinstance(named, str) else ""


def _config(folder: Path) -> dict[str, object] | None:
    try:
        config = read_strict_json(folder / "config.json", max_bytes=MAX_CONFIG_BYTES)
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) else None
