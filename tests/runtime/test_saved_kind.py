"""What a folder holds; a learner, a classifier and a teacher do not take each other's places."""

from __future__ import annotations

import pytest
from learners import make, pictures
from pico import pico_folder, pico_network

from hf_free.errors import LearnerError, RunError, TeacherError
from hf_free.runtime.saved_kind import holds_classifier, holds_learner, kind_of
from hf_free.teachers.saving import save_teacher
from hf_free.training.pool import check_output


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root, learner = tmp_path_factory.mktemp("kinds"), make()
    learner.save_pretrained(root / "learner")
    learner.adapt(pictures(4), [0, 1, 0, 1]).save_pretrained(root / "classifier")
    pico_folder(root / "teacher", "conv4")
    (root / "run").mkdir()
    for name in ("config.yaml", "teachers.json"):
        (root / "run" / name).write_text("{}")
    return root


def test_three_kinds_are_told_apart(folders):
    found = {
        name: (holds_learner(folders / name), holds_classifier(folders / name))
        for name in ("learner", "classifier", "teacher", "nowhere")
    }
    assert found == {
        "learner": (True, False), "classifier": (False, True), "teacher": (False, False), "nowhere": (False, False)
    }  # fmt: skip


def test_none_takes_the_place_of_another(folders):
    before = {path: path.read_bytes() for path in folders.rglob("*") if path.is_file()}
    with pytest.raises(LearnerError, match="holds a classifier of hf-free, which a learner does not replace"):
        make().save_pretrained(folders / "classifier")
    classifier = make().adapt(pictures(4), [0, 1, 0, 1])
    for name, kind in (("teacher", "a model that is no learner of hf-free"), ("run", "a run of hf-free train")):
        for made, called in ((make(), "learner"), (classifier, "classifier")):
            with pytest.raises(LearnerError, match=f"holds {kind}, which a {called} does not replace"):
                made.save_pretrained(folders / name)
    with pytest.raises(LearnerError, match="holds a learner of hf-free, which a classifier does not replace"):
        classifier.save_pretrained(folders / "learner")
    for name in ("learner", "classifier", "run"):
        with pytest.raises(TeacherError, match=f"holds a {name} of hf-free.*, which a teacher does not replace"):
            save_teacher(pico_network("conv4"), folders / name)
    with pytest.raises(
        RunError, match=r"holds a classifier of hf-free\n.*a learner of hf-free\n.*--output$"
    ):  # of pool and distill
        check_output(folders / "classifier", overwrite=True)
    check_output(folders / "learner", overwrite=True)
    assert before == {path: path.read_bytes() for path in folders.rglob("*") if path.is_file()}


def test_what_cannot_be_read_may_be_replaced(tmp_path):
    (tmp_path / "config.json").write_text("{")
    assert kind_of(tmp_path) == ""
    make().save_pretrained(tmp_path)
    assert holds_learner(tmp_path)
