"""Git-lfs pointers are told from the files that they stand for."""

from __future__ import annotations

import os

from hf_free.runtime.git_lfs import POINTER_START, is_pointer


def test_a_pointer_is_told_from_all_else(tmp_path):
    places = {name: tmp_path / name for name in ("pointer", "large", "other", "folder", "pipe", "none")}
    places["pointer"].write_bytes(POINTER_START + b"v1\noid sha256:4d7a\nsize 12345\n")
    places["large"].write_bytes(POINTER_START + bytes(2000))
    places["other"].write_bytes(b"version 1")
    places["folder"].mkdir()
    os.mkfifo(places["pipe"])
    assert [name for name, path in places.items() if is_pointer(path)] == ["pointer"]
