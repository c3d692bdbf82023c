"""Teachers named on the command line, a row each."""

from __future__ import annotations

import pytest
import typer
from pico import pico_folder

from hf_free.cli.teacher_rows import at_revision, fail_if_none_is_usable, one_reference, say_unusable, teacher_rows
from hf_free.errors import TeacherReferenceError
from hf_free.teachers.reference import TeacherReference


def test_a_revision_fills_in_where_there_is_none(tmp_path):
    assert one_reference("org/a", "v2").revision == "v2"
    assert one_reference("org/a@v1", "v2").revision == "v1"
    assert one_reference("org/a", None).revision is None
    local = TeacherReference.parse(str(pico_folder(tmp_path / "net")))
    assert at_revision(local, "v2") == local


def test_several_teachers_are_not_one(tmp_path):
    path = tmp_path / "teachers.yaml"
    path.write_text("teachers: [org/a, org/b]\n")
    with pytest.raises(TeacherReferenceError, match="stands for 2 teachers"):
        one_reference(str(path), None)


def test_what_cannot_be_used_is_a_row_with_its_reason(tmp_path, capsys):
    good, empty = pico_folder(tmp_path / "good"), tmp_path / "empty"
    empty.mkdir()
    rows = teacher_rows(
        [str(good), str(empty), "no teacher"],
        lambda teacher: {"classes": teacher.record.num_classes},
        own_networks=None, revision=None, token=None, cache_dir=None,
    )  # fmt: skip
    assert [(row["usable"], row.get("classes")) for row in rows] == [(True, 5), (False, None), (False, None)]
    assert "config.json" in rows[1]["reason"]
    say_unusable(rows)
    told = capsys.readouterr().err
    assert "good" not in told
    assert f"{empty} cannot be used: " in told
    fail_if_none_is_usable(rows)
    with pytest.raises(typer.Exit):
        fail_if_none_is_usable(rows[1:])
