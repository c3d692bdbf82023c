"""`hf-free invert`: names without paths."""

from __future__ import annotations

import pytest
from program import refused


def test_a_recovered_picture_names_the_folder_without_its_path(tmp_path):
    from hf_free.cli.verbs.invert import name_without_path
    from hf_free.teachers.reference import TeacherReference

    (tmp_path / "pets").mkdir()
    assert name_without_path(TeacherReference.parse(str(tmp_path / "pets"))) == "pets"
    assert name_without_path(TeacherReference.parse("org/pets@v2")) == "org/pets@v2"


@pytest.mark.parametrize("flag", ["--directions", "--query-budget"])
def test_what_is_for_black_boxes_is_refused_for_a_network_that_is_here(capsys, flag):
    assert f"{flag} for org/model, which is no black box" in refused(capsys, "invert", "org/model", flag, "5")
