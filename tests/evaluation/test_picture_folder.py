"""Folders of pictures: which pictures and classes are there, what is passed over, and that it is said once."""

from __future__ import annotations

import os

import pytest
from PIL import Image

from hf_free.errors import DatasetError
from hf_free.evaluation.datasets import load_folder_images, load_labeled_images
from hf_free.evaluation.picture_folder import is_leftover


def fill(root, *names):
    """Write a picture of each name, and of each name that is no picture an empty file."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".png"):
            Image.new("RGB", (4, 4)).save(root / name)
        else:
            (root / name).write_bytes(b"")


def counts(data):
    return dict(zip(data.class_names, data.labels.bincount().tolist(), strict=True))


@pytest.mark.parametrize("word", ["train", "Training", "test", "testing", "val", "valid", "validation", "dev", "eval"])
def test_names_with_a_word_for_a_split_are_classes_and_pictures(tmp_path, caplog, word):
    labels = [word, f"{word}-tube", "bus"]
    names = ["1.png", f"{word}.png", f"photo_{word}_2.png", f"{word}-3.png"]
    fill(tmp_path, *(f"{label}/{name}" for label in labels for name in names))
    data = load_labeled_images(tmp_path)
    assert counts(data) == dict.fromkeys(labels, 4)
    assert data.split == "train"
    assert not caplog.messages


def test_folders_named_as_splits_without_class_folders_are_classes_and_that_is_said(tmp_path, caplog):
    fill(tmp_path, "train/1.png", "train/2.png", "test/1.png")
    assert counts(load_labeled_images(tmp_path)) == {"test": 1, "train": 2}
    assert caplog.messages == [f"{tmp_path}: test, train hold no class folders, so they are classes, not splits"]


def test_first_level_folders_with_class_folders_are_splits(tmp_path, caplog):
    fill(tmp_path, "Train/train/1.png", "Train/dog/1.png", "Train/dog/2.png", "val/dog/1.png", "val/test/1.png")
    data = load_labeled_images(tmp_path)
    assert (data.split, counts(data)) == ("val", {"dog": 1, "test": 1})
    for name in ("Train", "train", "training"):
        data = load_labeled_images(tmp_path, split=name)
        assert (data.split, counts(data)) == ("Train", {"dog": 2, "train": 1})
    with pytest.raises(DatasetError, match=r"no split 'test'\n  allowed: Train, val\n  to do:   --split Train"):
        load_labeled_images(tmp_path, split="test")
    assert not caplog.messages
    fill(tmp_path, "test/7.png")  # as competitions give their unnamed pictures
    assert load_labeled_images(tmp_path).split == "val"
    assert caplog.messages == [f"{tmp_path}: passed over 1 picture beside the class folders (7.png)"]


def test_splits_beside_other_folders_are_refused(tmp_path):
    fill(tmp_path, "train/cat/1.png", "train/dog/1.png", "extra/1.png")
    with pytest.raises(DatasetError, match=r"train may be splits, beside extra\n  allowed: either folders named as"):
        load_labeled_images(tmp_path)


def test_what_systems_and_archives_leave_behind_is_not_there(tmp_path, caplog):
    left = [
        ".hidden.png",
        "cat/._1.png",
        "__MACOSX/cat/1.png",
        ".ipynb_checkpoints/1-checkpoint.png",
        "cat/.git/1.png",
    ]
    sides = ["cat/1.txt", "captions.csv", "cat/1.json", "Thumbs.db", "cat/Thumbs.db", "README.md", "dog/desktop.ini"]
    fill(tmp_path, "cat/1.png", "dog/1.png", *left, *sides)
    assert counts(load_labeled_images(tmp_path)) == {"cat": 1, "dog": 1}
    found = load_folder_images(tmp_path)
    assert ([path.relative_to(tmp_path).as_posix() for path in found.paths], found.labels) == (
        ["cat/1.png", "dog/1.png"],
        ["cat", "dog"],
    )
    assert not caplog.messages
    assert is_leftover("__MACOSX")


def test_what_is_passed_over_is_counted_in_one_warning(tmp_path, caplog):
    fill(tmp_path, "cat/1.png", "cat/day1/2.png", "cat/day1/am/3.png", "dog/1.png", "stray.png", "fish/notes.txt")
    fill(tmp_path, "dog/2.psd", "dog/3.svg", "dog/4.psd")
    (tmp_path / "cat" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    data = load_labeled_images(tmp_path)
    assert counts(data) == {"cat": 3, "dog": 1}
    assert caplog.messages == [
        f"{tmp_path}: passed over 3 pictures of other endings (2 .psd, 1 .svg); 1 link to no file (gone.png); "
        "1 picture beside the class folders (stray.png); 1 class folder without pictures (fish); "
        "2 pictures in deeper folders count to the class folder that they lie in"
    ]
    caplog.clear()
    assert len(load_folder_images(tmp_path).paths) == 5
    assert caplog.messages == [
        f"{tmp_path}: passed over 3 pictures of other endings (2 .psd, 1 .svg); 1 link to no file (gone.png)"
    ]


def test_a_pipe_is_called_one(tmp_path, caplog):
    fill(tmp_path, "a/1.png", "b/1.png")
    os.mkfifo(tmp_path / "a" / "2.png")
    load_labeled_images(tmp_path)
    assert "passed over 1 name of pipes, sockets or devices (2.png)" in caplog.text


def test_equal_names_under_different_folders_stay_apart(tmp_path):
    fill(tmp_path, "greek/character01/1.png", "greek/character02/1.png", "latin/character01/1.png")
    assert counts(load_labeled_images(tmp_path)) == {"greek": 2, "latin": 1}


def test_folders_of_splits_are_data_sets_of_their_own(tmp_path):
    fill(
        tmp_path,
        *(f"{name}/{split}/{c}/1.png" for name in ("birds", "cars") for split in ("train", "test") for c in "ab"),
    )
    with pytest.raises(DatasetError, match=r"2 data sets[\s\S]*one of birds, cars"):
        load_labeled_images(tmp_path)
    data = load_labeled_images(f"{tmp_path}:cars")
    assert (data.split, counts(data), data.source) == ("test", {"a": 1, "b": 1}, f"{tmp_path}:cars")


def test_class_folders_below_one_folder_are_found(tmp_path, caplog):
    fill(tmp_path, "data/test/cat/1.png", "data/test/dog/1.png")
    data = load_labeled_images(tmp_path)
    assert (data.split, counts(data)) == ("test", {"cat": 1, "dog": 1})
    assert caplog.messages == [f"{tmp_path}: all its class folders lie in data, which is read in its place"]


def test_links_are_followed_but_not_in_a_circle(tmp_path, caplog):
    fill(tmp_path / "set", "cat/1.png")
    fill(tmp_path / "elsewhere", "1.png", "2.png")
    (tmp_path / "set" / "dog").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "set" / "cat" / "up").symlink_to(tmp_path / "set", target_is_directory=True)
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "set", target_is_directory=True)
    (tmp_path / "set" / "self").symlink_to(tmp_path / "set" / "self")
    assert counts(load_labeled_images(tmp_path / "set")) == {"cat": 1, "dog": 2}
    assert caplog.messages == [f"{tmp_path / 'set'}: passed over 2 links back to a folder above (up, back)"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may look into any folder")
def test_a_folder_that_cannot_be_looked_into_is_named(tmp_path):
    fill(tmp_path, "cat/1.png", "dog/1.png")
    (tmp_path / "dog").chmod(0)
    try:
        with pytest.raises(DatasetError, match=r"cannot look into the folder .*dog: Permission denied"):
            load_labeled_images(tmp_path)
    finally:
        (tmp_path / "dog").chmod(0o755)


def test_pictures_without_class_folders_say_how_classes_are_given(tmp_path):
    fill(tmp_path, "1.png", "2.png")
    with pytest.raises(DatasetError, match=r"2 pictures and no class folders[\s\S]*/cat/1\.jpg"):
        load_labeled_images(tmp_path)
    fill(tmp_path / "other", "cat/1.psd")
    with pytest.raises(DatasetError, match=r"holds no data, but 1 picture of other endings \(1 \.psd\)"):
        load_labeled_images(tmp_path / "other")
