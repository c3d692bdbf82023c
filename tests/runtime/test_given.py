"""What callers give: paths and whole numbers, or one message that names them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from hf_free.errors import ConfigError, LearnerError
from hf_free.runtime.given import given_path, given_seed, short_form, whole_number, why_no_path, why_no_weights

UNDECODED = os.fsdecode(b"a\xff")


def test_paths_are_read_with_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert given_path("~/x", "output") == tmp_path / "x"
    assert given_path(Path("x"), "output") == Path("x")


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
