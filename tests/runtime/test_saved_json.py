"""JSON files that hf-free saved, intact or damaged."""

from __future__ import annotations

import os

import pytest

from hf_free.errors import RunError
from hf_free.runtime.saved_json import read_saved


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\x00", "9" * 5000])
def test_a_damaged_file_is_refused_with_its_path_and_the_way_out(tmp_path, text):
    (tmp_path / "saved.json").write_text(text)
    with pytest.raises(RunError, match=r"saved\.json cannot be read: [^$]*restore it"):
        read_saved(tmp_path / "saved.json", action="restore it")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "saved.json")
    with pytest.raises(RunError, match="not a regular file"):
        read_saved(tmp_path / "saved.json", action="")


def test_what_was_saved_is_read(tmp_path):
    (tmp_path / "saved.json").write_text('{"loss": NaN}')
    assert list(read_saved(tmp_path / "saved.json", action="")) == ["loss"]
