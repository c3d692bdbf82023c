"""What callers give: paths and whole numbers, or one message that names them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from hf_free.errors import ConfigError, LearnerError
from hf_free.runtime.given import (
    check_cache_dir,
    check_flags,
    check_function,
    check_kind,
    check_minutes,
    check_texts,
    from_home,
    given_path,
    given_seed,
    real_path,
    short_form,
    whole_number,
    why_no_path,
    why_no_weights,
)

UNDECODED = os.fsdecode(b"a\xff")


def test_paths_are_read_with_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert given_path("~/x", "output") == tmp_path / "x"
    assert given_path(Path("x"), "output") == Path("x")


@pytest.mark.parametrize("value", ["~nobody-here/x", "~nobody-here"])
def test_the_home_of_nobody_is_refused_where_something_is_written_and_else_not_there(value):
    with pytest.raises(ConfigError, match="home folder of a user that is not known here"):
        given_path(value, "output")
    assert from_home(value) == Path(value)


def test_a_part_of_a_path_below_a_folder_that_is_gone_is_refused(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "getcwd", lambda: os.lstat("/no/such/folder"))
    with pytest.raises(ConfigError, match="output='x', and the folder that this process is in is gone"):
        given_path("x", "output", for_weights=True)
    assert given_path("/x", "output") == Path("/x")


def test_links_in_a_circle_stay(tmp_path):
    (tmp_path / "a").symlink_to("a")
    assert real_path(tmp_path / "a" / "..") == Path(os.path.realpath(tmp_path))


@pytest.mark.parametrize("value", [None, 3, b"x", [], "", "a\0b", "a" * 256, "/".join(["d" * 100] * 50), "\ud800"])
def test_what_is_no_path_is_refused_by_its_name(value):
    with pytest.raises(ConfigError, match=r"^output="):
        given_path(value, "output")


def test_weights_are_refused_where_no_name_opens_them(monkeypatch, tmp_path):
    assert given_path(UNDECODED, "output") == Path(UNDECODED)
    with pytest.raises(LearnerError, match="no UTF-8"):
        given_path(UNDECODED, "output", error=LearnerError, for_weights=True)
    assert why_no_weights(tmp_path / "ä") == why_no_path("ä") == ""


def test_whole_numbers_of_any_library_are_some():
    given = (3, np.int64(3), torch.tensor(3))
    assert [whole_number(value, "k", least=1) for value in given] == [3, 3, 3]


@pytest.mark.parametrize("value", [0, 11, 2.0, "3", None, True, float("nan"), [3]])
def test_other_values_are_refused_with_the_range(value):
    with pytest.raises(LearnerError, match=r"k=.*\n  allowed: a whole number of at least 1 and at most 10"):
        whole_number(value, "k", least=1, most=10, error=LearnerError)


@pytest.mark.parametrize("value", [-1, 2**32, "1", 1.0])
def test_seeds_are_those_that_every_library_takes(value):
    assert given_seed(2**32 - 1) == 2**32 - 1
    with pytest.raises(ConfigError, match="seed="):
        given_seed(value)


def test_long_values_are_cut():
    assert len(short_form("x" * 1000)) < 100


def test_a_value_that_cannot_be_written_is_shown_by_its_type():
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError("no words")

    assert short_form(Odd()) == "<Odd>"
    assert short_form(np.zeros((2, 2))) == "array([[0., 0.], [0., 0.]])"  # in one line


def test_kinds():
    check_kind(None, "pool", int, allowed="a number")
    check_kind(3, "pool", (int, str), allowed="a number")
    with pytest.raises(ConfigError, match=r"^pool='x' of type str\n  allowed: a number"):
        check_kind("x", "pool", int, allowed="a number")
    with pytest.raises(LearnerError, match="of type NoneType"):
        check_kind(None, "pool", int, allowed="a number", optional=False, error=LearnerError)


def test_functions_take_what_they_are_called_with():
    for good in (None, print, lambda a, b: None, lambda *a: None, lambda a, b, c=1: None, dict.get):
        check_function(good, "watch", ("learner", "minutes"))
    network = torch.nn.Linear(1, 1)  # which says that it takes anything
    for bad in (3, "x", [], int, network, lambda: None, lambda a: None, lambda a, b, *, c: None):
        with pytest.raises(ConfigError, match=r"^watch=.*\n  allowed: None, or .* 2 arguments: learner, minutes"):
            check_function(bad, "watch", ("learner", "minutes"))


def test_truth_values_are_no_texts():
    check_flags(resume=True, overwrite=np.bool_(False), private=1, public=torch.tensor(True))
    for bad in ("no", None, 2, 0.5, [], np.zeros(2), float("nan")):
        with pytest.raises(LearnerError, match=r"^private=.*\n  allowed: True or False"):
            check_flags(LearnerError, resume=True, private=bad)


def test_texts_are_not_shown():
    check_texts(token=None, revision="main")
    with pytest.raises(ConfigError, match=r"^token of type bytes\n") as caught:
        check_texts(token=b"secret")
    assert "secret" not in str(caught.value)


def test_minutes_and_folders_of_a_cache(tmp_path):
    for good in (None, 0, 2.5, float("inf")):
        check_minutes(good, "recover_minutes")
    for bad in (-1, float("nan"), "3", True, []):
        with pytest.raises(ConfigError, match="recover_minutes="):
            check_minutes(bad, "recover_minutes")
    check_minutes(0.5, "minutes", ends=True)
    for bad in (None, 0, -1, float("inf"), float("nan"), "3", True):
        with pytest.raises(ConfigError, match=r"minutes=[\s\S]*a finite number of minutes above 0"):
            check_minutes(bad, "minutes", ends=True)
    check_cache_dir(None)
    check_cache_dir(tmp_path)
    with pytest.raises(ConfigError, match="cache_dir=3"):
        check_cache_dir(3)
