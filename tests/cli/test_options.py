"""Flags that several verbs share."""

from __future__ import annotations

import pytest
import typer

from hf_free.cli.options import (
    check_assignments,
    check_output_file,
    check_publishes,
    examples,
    height_and_width,
    minutes,
    whole,
)
from hf_free.errors import ConfigError


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("100", 100), (" 7 ", 7)])
def test_whole_numbers_are_read(text, value):
    assert whole(1, 100)(text) == value


@pytest.mark.parametrize("text", ["0", "101", "1.5", "many", ""])
def test_a_refusal_names_what_was_given_and_the_rule(text):
    with pytest.raises(typer.BadParameter, match="is not a whole number of at least 1 and at most 100") as caught:
        whole(1, 100)(text)
    assert text in str(caught.value)


def test_examples_show_brackets_as_they_are_typed():
    assert "hf-free train --set a=\\[1]" in examples("hf-free train --set a=[1]")


def test_an_output_file_that_cannot_be_written_is_refused(tmp_path):
    check_output_file(tmp_path / "grid.PNG", (".png",))
    (tmp_path / "folder.png").mkdir()
    for path, problem in (
        (tmp_path / "grid.jpg", r"allowed: a file that ends in \.png\n.*--output .*/grid\.png$"),
        (tmp_path / "folder.png", "is a folder"),
        (tmp_path / "none" / "grid.png", "lies in a folder that does not exist"),
    ):
        with pytest.raises(ConfigError, match=problem):
            check_output_file(path, (".png",))


@pytest.mark.parametrize("name", ["config.json", "teachers.json", "record.json", "classifier.json", "manifest.json"])
def test_results_are_not_written_over_a_part_of_a_model(tmp_path, name):
    check_output_file(tmp_path / name, (".json",))  # there is none
    (tmp_path / name).write_text("{}")
    with pytest.raises(ConfigError, match="is a part of a model or run"):
        check_output_file(tmp_path / name, (".json",))


def test_a_height_and_a_width_are_read():
    assert height_and_width("480X640", "--input-size") == (480, 640)


@pytest.mark.parametrize("text", ["", "480", "x", "480x", "x640", "480x640x3", "-1x5", "4.5x5", "480 x 640"])
def test_what_is_no_height_and_width_is_named(text):
    with pytest.raises(typer.BadParameter, match=r"is not a height and a width, e\.g\. 480x640") as caught:
        height_and_width(text, "--input-size")
    assert repr(text) in str(caught.value)


def test_flags_about_a_publication_are_refused_where_nothing_is_published():
    for flag, given in (("--private", {"private": True}), ("--commit-message", {"message": "x"})):
        flags = {"private": None, "create_pr": None, "message": None} | given
        with pytest.raises(ConfigError, match=f"{flag} without --push-to-hub"):
            check_publishes(None, **flags)
        check_publishes("org/name", **flags)
    check_publishes(None, private=False, create_pr=False, message=None)


def test_minutes_that_are_none_are_named():
    assert minutes("0.5") == 0.5
    with pytest.raises(typer.BadParameter, match="'30min' is not a number of minutes"):
        minutes("30min")


@pytest.mark.parametrize("key", ["memory.max_images", "seed_", "learner.backbone"])
def test_a_setting_that_a_verb_has_no_use_for_is_refused(key):
    check_assignments(["learner.head=ridge", "seed=1", "five.flip=false"], ("learner", "five.flip", "seed"), {})
    with pytest.raises(ConfigError, match=f"--set {key} is of no use here"):
        check_assignments([f"{key} = 1"], ("learner", "seed"), {"learner.backbone": "leave it out"})
