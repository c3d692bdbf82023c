"""How figures name teachers and classes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from named import records_of

from hf_free.reporting.naming import class_name, class_names, teacher_names, whose_class


def test_hidden_teachers_have_no_name():
    (record,) = records_of("vit")
    known = replace(record, reference="lab/secret/cats", label_names=("tabby", "lion"))
    hidden = replace(known, private=True)
    assert (teacher_names([known]), class_name(known, 3, 1)) == (["cats"], "lion")
    for other in (hidden, replace(known, gated=True)):
        assert (teacher_names([known, other]), class_name(other, 3, 1)) == (["cats", "2: vit"], "4:1")
    unnamed = replace(known, label_names=None)
    assert class_name(unnamed, 3, 1) == "4:1"
    assert [whose_class(one, 3, 1) for one in (known, unnamed, hidden)] == ["cats: lion", "cats: class 1", "4:1"]
    assert whose_class(replace(known, reference="org/net@refs/pr/1", repo_id="org/net"), 3, 1) == "net@refs/pr/1: lion"


@pytest.mark.parametrize(
    ("references", "names"),
    [
        (["a/conv4", "b/conv4", "b/vit"], ["a/conv4", "b/conv4", "vit"]),
        (["/x/a/m/conv4", "/x/b/m/conv4", "conv4"], ["a/m/conv4", "b/m/conv4", "conv4"]),
        (["/x/a/conv4/", "/y/a/conv4"], ["x/a/conv4", "y/a/conv4"]),
        (["org/net@refs/pr/1", "org/net@v2:0-4", "other/net"], ["net@refs/pr/1", "net@v2:0-4", "net"]),
        (["org/net:0-4", "org/net:5-9"], ["net:0-4", "net:5-9"]),
        (["pico/conv4", "pico/conv4"], ["1: conv4", "2: conv4"]),
    ],
)
def test_teachers_of_one_folder_name_are_told_apart(references, names):
    (record,) = records_of("vit")
    ids = [None if text.startswith("/") else text.partition("@")[0] for text in references]
    known = [replace(record, reference=text, repo_id=name) for text, name in zip(references, ids, strict=True)]
    assert teacher_names(known) == names


def test_classes_of_one_name_say_whose_they_are():
    (record,) = records_of("vit")
    first = replace(record, reference="lab/first", label_names=("house", "cat"))
    second = replace(first, reference="lab/second")
    names = class_names([(first, 0, 0), (first, 0, 1), (second, 1, 0)], teacher_names([first, second]))
    assert names == ["house (first)", "cat", "house (second)"]


def test_a_folder_whose_path_holds_an_at_is_called_by_its_last_part():
    (record,) = records_of("vit")
    local = replace(record, reference="/home/anna@corp.example/secret-project/net", repo_id=None, label_names=("cat",))
    assert whose_class(local, 0, 0) == "net: cat"
    assert teacher_names([local]) == ["net"]
