"""Where a learner lies: a folder of its own, or inside a run's."""

from __future__ import annotations

from pathlib import Path

from hf_free.errors import RunError
from hf_free.runtime.saved_kind import holds_classifier
from hf_free.training.folder import learner_of_run


def learner_folder(folder: Path) -> Path:
    """The learner inside `folder`: the folder itself or, for a run, its `learner/`.

    Raises:
        RunError: neither is a saved learner, or a classifier was saved in the place of the run's.
    """
    candidate = learner_of_run(folder)
    if candidate != folder and holds_classifier(candidate):  # it has pictures of the user's, which nobody named
        raise RunError(
            f"{candidate} holds a classifier, where a run has its learner",
            allowed="a run with its learner",
            action=f"to publish the classifier, name {candidate}",
        )
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
