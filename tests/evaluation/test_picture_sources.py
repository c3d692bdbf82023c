"""Pictures as a user names them."""

from __future__ import annotations

import pytest
from PIL import Image

from hf_free.errors import DatasetError
from hf_free.evaluation.picture_sources import find_pictures


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("b/2.png", "b/1.png", "a.jpg", "c[1].png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*sources, lines=()):
    return [picture.name for picture in find_pictures(sources, lines)]


def test_a_folder_alone_gives_names_below_it(folder):
    assert sorted(names(str(folder))) == ["a.jpg", "b/1.png", "b/2.png", "c[1].png"]
    assert names("b") == ["1.png", "2.png"]


def test_several_sources_keep_their_order_and_name_each_picture_once(folder):
    assert names("b/2.png", "b", "a.jpg") == ["b/2.png", "b/1.png", "a.jpg"]
    assert names("**/*.png") == ["b/1.png", "b/2.png", "c[1].png"]
    assert names("c[1].png") == ["c[1].png"], "a file of that name comes before the pattern"


def test_a_list_has_a_path_a_line(folder):
    assert names("-", lines=["b/1.png\n", "\n", "a.jpg\r\n", "b\n", "gone.png"]) == [
        "b/1.png",
        "a.jpg",
        "b/2.png",
        "gone.png",
    ]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("none", "none is not a folder or a file"),
        ("*.webp", r"no file is named as \*.webp"),
        ("-", "list of pictures is"),
    ],
)
def test_a_source_that_names_nothing_is_refused(folder, source, message):
    with pytest.raises(DatasetError, match=message):
        find_pictures([source])


def test_a_byte_order_mark_before_a_list_is_no_part_of_its_first_name(folder):
    assert names("-", lines=["\ufeffa.jpg\r\n", "b/1.png\r\n"]) == ["a.jpg", "b/1.png"]
