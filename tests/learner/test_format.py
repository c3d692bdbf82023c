"""The files of a learner, read strictly."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hf_free.errors import LearnerError
from hf_free.learner.format import read_json, read_tensor_header
from hf_free.learner.meta_learner import MetaLearner

FORMAT_1 = Path(__file__).parents[1] / "fixtures" / "learner_format_1"
"""A learner and a classifier saved by the version that wrote format 1 without SHA-256, with all its parts."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FORMAT_1, tmp_path / "learner"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cannot be read"),
        (b"\xff\xfe{}", "cannot be read"),
        (b"[]", "holds a list"),
        (b"{" * 100_000, "cannot be read"),
        (b'{"a": NaN}', "NaN, which is no JSON"),
        (b'{"a": -Infinity}', "-Infinity, which is no JSON"),
        (b'{"hf_free": {}, "hf_free": {}}', "the key 'hf_free' occurs twice"),
        (b'{"a": 1e999}', "1e999, which is beyond every number"),
        (b'{"a": "\\ud800"}', "cannot be read"),
        (b'{"a": ' + b"1" * 5000 + b"}", "cannot be read"),
        (b" " * (8 * 2**20 + 1), "more than 8388608 bytes"),
        (b'{"a": [' + b"{}," * 2**19 + b"0]}", "more than 1048576 values"),
    ],
)
def test_what_is_no_plain_json_is_refused(folder: Path, data: bytes, message: str) -> None:
    (folder / "config.json").write_bytes(data)
    with pytest.raises(LearnerError, match=message):
        MetaLearner.from_pretrained(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "hf_free.safetensors"])
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_regular_file_is_refused(folder: Path, name: str, make: Callable[[Path], object]) -> None:
    (folder / name).unlink()
    make(folder / name)  # opening a pipe would wait for ever
    with pytest.raises(LearnerError, match="regular file"):
        MetaLearner.from_pretrained(folder)


@pytest.mark.parametrize("read", [read_json, read_tensor_header])
def test_a_git_lfs_pointer_is_named(folder: Path, read: Callable[[Path, str], object]) -> None:
    (folder / "file").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(LearnerError, match="file is a git-lfs pointer") as caught:
        read(folder / "file", "mine")
    assert "git lfs pull" in caught.value.action
