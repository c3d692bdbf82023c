"""What names a teacher, and what does not."""

from __future__ import annotations

import pytest

from hf_free.errors import TeacherReferenceError
from hf_free.runtime.text import format_classes
from hf_free.teachers.reference import TeacherReference, parse_classes


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("org/name", ("org/name", None, None, None)),
        ("timm/resnet10t.c3_in1k", ("timm/resnet10t.c3_in1k", None, None, None)),
        ("org/name@main", ("org/name", "main", None, None)),
        ("org/name@refs/pr/3", ("org/name", "refs/pr/3", None, None)),
        ("org/name@v1.0:0-4", ("org/name", "v1.0", (0, 1, 2, 3, 4), None)),
        ("org/name:3,7,12", ("org/name", None, (3, 7, 12), None)),
        ("org/name:0-1", ("org/name", None, (0, 1), None)),
        ("org/name:0,1,2", ("org/name", None, (0, 1, 2), None)),
        ("org/name:7,0-2,5", ("org/name", None, (7, 0, 1, 2, 5), None)),
        ("zoo:org/name", ("org/name", None, None, "zoo")),
        ("zoo:org/name@dev:1", ("org/name", "dev", (1,), "zoo")),
    ],
)
def test_grammar(text: str, parts: tuple) -> None:
    reference = TeacherReference.parse(text)
    assert (reference.location, reference.revision, reference.classes, reference.collection) == parts
    assert not reference.is_local
    assert str(reference) == text
    assert TeacherReference.parse(str(reference)) == reference


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        (" org/name", "begins or ends with a space"),
        ("https://huggingface.co/org/name", "is the address of a page"),
        ("http://127.0.0.1:8000/org/name/tree/main?x=1", "is the address of a page"),
        ("hf://org/name", "is the address of a page"),
        ("resnet18", "without an organization"),
        ("zoo:resnet18", "without an organization"),
        ("a/b/c", "more than one '/'"),
        ("../name", "local folder that does not exist"),
        ("./name", "local folder that does not exist"),
        ("/no/such/folder", "local folder that does not exist"),
        ("~/no-such-folder-here", "local folder that does not exist"),
        ("~nosuch/m", "local folder that does not exist"),
        ("~nosuch/m.yaml", "local folder that does not exist"),
        ("n" * 5000, "without an organization"),
        ("org/" + "n" * 5000, "characters"),
        ("/" + "n" * 5000, "local folder that does not exist"),
        ("org/na\0me", "malformed part"),
        ("/:0-1", "names classes of the local folder"),
        ("./:0-1", "names classes of the local folder"),
        ("org/..", "malformed part"),
        ("org/na..me", "malformed part"),
        ("org/na--me", "malformed part"),
        ("org/name.git", "malformed part"),
        ("org/", "malformed part"),
        ("/name/", "local folder"),
        ("org/na me", "malformed part"),
        ("org/näme", "malformed part"),
        ("org/name@", "malformed revision"),
        ("org/name@../x", "malformed revision"),
        ("org/name@a..b", "malformed revision"),
        ("org/name@-x", "malformed revision"),
        ("org/name@a//b", "malformed revision"),
        ("org/name@a@b", "malformed revision"),
        ("org/name@x.lock", "malformed revision"),
        ("org/name:", "malformed classes"),
        ("org/name:a", "malformed classes"),
        ("org/name:1,,2", "malformed classes"),
        ("org/name:1 ,2", "malformed classes"),
        ("org/name:-1", "malformed classes"),
        ("org/name:4-0", "runs backwards"),
        ("org/name:1,1", "twice"),
        ("org/name:0-4,3", "twice"),
        ("org/name:999999", "names the class 999999"),
        ("org/name:0-4@main", "classes before the revision"),
        (":org/name", "malformed collection"),
        ("zo o:org/name", "malformed collection"),
        ("org/" + "x" * 100, "characters"),
        ("lists/teachers.yaml#1", "entry of a YAML list"),
    ],
)
def test_refused(text: str, problem: str) -> None:
    with pytest.raises(TeacherReferenceError, match=problem) as caught:
        TeacherReference.parse(text)
    assert repr(text)[1:200].rstrip("'") in caught.value.given
    assert len(str(caught.value)) < 1500
    assert caught.value.allowed
    assert caught.value.action


@pytest.mark.parametrize("name", ["plain", "with:colon", "org@rev", "a@b:0-4", "with space"])
def test_existing_folder_is_taken_whole(tmp_path, monkeypatch, name: str) -> None:
    (tmp_path / "base" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for text in (f"base/{name}", str(tmp_path / "base" / name)):
        reference = TeacherReference.parse(text)
        assert reference.is_local
        assert (reference.location, reference.revision, reference.classes) == (text, None, None)
        assert str(reference) == text


def test_a_file_is_no_folder(tmp_path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"")
    with pytest.raises(TeacherReferenceError, match="is a file"):
        TeacherReference.parse(str(tmp_path / "weights.safetensors"))


def test_a_reference_put_together_prints_in_the_grammar() -> None:
    reference = TeacherReference("org/name", False, "main", (0, 1, 2, 5), "zoo")
    assert str(reference) == "zoo:org/name@main:0-2,5"
    assert TeacherReference.parse(str(reference)) == reference


@pytest.mark.parametrize("classes", [(0,), (3, 7, 12), (0, 1), (0, 1, 2), (5, 4, 3), (9, 0, 1, 2, 3, 11)])
def test_classes_are_printed_so_that_they_read_the_same(classes: tuple[int, ...]) -> None:
    assert parse_classes(format_classes(classes)) == classes


def test_classes_of_a_folder_beside_one_are_sent_to_a_list(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    with pytest.raises(TeacherReferenceError, match="names classes of the local folder 'mine'"):
        TeacherReference.parse("mine:0-4")
    assert TeacherReference.parse("mine:org/name").location == "org/name", "a label may be called like a folder"


def test_a_list_in_the_place_of_a_teacher_is_named(tmp_path):
    (tmp_path / "list.yaml").write_text("- org/name")
    with pytest.raises(TeacherReferenceError, match="is a YAML list, not a teacher"):
        TeacherReference.parse(str(tmp_path / "list.yaml"))
