"""Where a learner lies: as given, or inside a run's folder."""

from __future__ import annotations

import pytest

from hf_free.errors import RunError
from hf_free.training.location import learner_folder, learner_location


def _learner(folder):
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_text("{}")
    return folder


def test_a_run_is_its_learner_and_anything_else_is_itself(tmp_path):
    inside, own = _learner(tmp_path / "run" / "learner"), _learner(tmp_path / "own")
    assert learner_folder(tmp_path / "run") == inside
    assert learner_folder(own) == own
    assert learner_location(str(tmp_path / "run")) == str(inside)
    assert learner_location(str(own)) == str(own)
    assert learner_location("org/name") == "org/name"


def test_a_folder_without_learner_is_refused(tmp_path):
    with pytest.raises(RunError, match="there is no folder"):
        learner_folder(tmp_path / "none")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RunError, match="holds no learner"):
        learner_folder(tmp_path)


def test_a_classifier_in_the_place_of_a_runs_learner_is_not_published_as_the_run(tmp_path):
    (_learner(tmp_path / "run" / "learner") / "classifier.json").write_text("{}")
    with pytest.raises(RunError, match=r"holds a classifier, where a run has its learner[\s\S]*name .*run/learner"):
        learner_folder(tmp_path / "run")
    assert learner_folder(tmp_path / "run" / "learner") == tmp_path / "run" / "learner"
