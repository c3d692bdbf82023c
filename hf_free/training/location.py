"""Where a learner lies: a folder of its own, or inside a run's."""

from __future__ import annotations

from pathlib import Path

from hf_free.errors import RunError
from hf_free.training.folder import learner_of_run


def learner_folder(folder: Path) -> Path:
    """The learner inside `folder`: the folder itself or, for a run, its `learner/`.

    Raises:
        RunError: neither is a saved learner.
    """
    candidate = learner_of_run(folder)
    if (candidate / "config.json").is_file() and (candidate / "model.safetensors").is_file():
        return candidate
    raise RunError(
        f"{folder} holds no learner" if folder.is_dir() else f"there is no folder {folder}",
        allowed="a run of hf-free train, or a folder with config.json and model.safetensors",
        action="give the folder that hf-free train printed",
    )


def learner_location(text: str) -> str:
    """A learner as given on the command line: a run's folder becomes its `learner/`, anything else stays."""
    return str(learner_of_run(Path(text))) if Path(text).is_dir() else text
