"""Files and folders: whole or not at all, and readable by whom the umask lets."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile

import pytest
import torch
from safetensors.torch import load_file, save_file

from hf_free.files import remove_scraps, replace_folder, whole_folder, write_file, write_text

needs_umask = pytest.mark.skipif(os.name == "nt", reason="no umask on Windows")


def _mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o022, 0o027, 0o007, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def _save_weights(path):
    save_file({"w": torch.ones(2)}, path)


def _save_privately(path):
    handle, name = tempfile.mkstemp(dir=path.parent)
    os.close(handle)
    os.replace(name, path)


@needs_umask
@pytest.mark.parametrize("write", [_save_weights, _save_privately, lambda path: path.write_text("a")])
def test_a_file_has_the_mode_that_open_gives(tmp_path, umask, write):
    assert _mode(write_file(tmp_path / "some" / "file", write)) == 0o666 & ~umask


@needs_umask
def test_a_folder_has_the_modes_that_open_and_mkdir_give(tmp_path, umask):
    def fill(folder):
        (folder / "deep").mkdir(mode=0o700)
        _save_weights(folder / "deep" / "weights")
        _save_privately(folder / "private")

    folder = replace_folder(tmp_path / "some" / "folder", fill)
    assert {_mode(path) for path in (folder, folder / "deep")} == {0o777 & ~umask}
    assert {_mode(path) for path in (folder / "deep" / "weights", folder / "private")} == {0o666 & ~umask}


def test_a_text_is_written_as_it_is(tmp_path):
    path = write_text(tmp_path / "a.txt", "Größe\nnext\r\n")
    assert path.read_bytes() == "Größe\nnext\r\n".encode()


def test_a_write_that_fails_leaves_the_old_file_and_no_scraps(tmp_path):
    path = write_text(tmp_path / "a.txt", "old")

    def fail(scratch):
        assert scratch.parent == path.parent  # a rename does not cross file systems
        scratch.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_file(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_fails_leaves_the_old_one_and_no_scraps(tmp_path):
    folder = replace_folder(tmp_path / "f", lambda new: (new / "a").write_text("old"))

    def fail(new):
        (new / "a").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_folder(folder, fail)
    assert (folder / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_is_replaced_whole(tmp_path):
    folder = replace_folder(tmp_path / "f", lambda new: (new / "a").write_text("old"))
    replace_folder(folder, lambda new: (new / "b").write_text("new"))
    assert [path.name for path in folder.iterdir()] == ["b"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_kill_between_the_two_renames_leaves_the_old_folder_where_it_is_found(tmp_path):
    folder = tmp_path / "f"
    assert whole_folder(folder) == folder  # none yet
    replace_folder(folder, lambda new: (new / "a").write_text("old"))
    old = folder.rename(tmp_path / "f.old")
    assert whole_folder(folder) == old
    replace_folder(folder, lambda new: (new / "a").write_text("new"))
    assert whole_folder(folder) == folder
    assert list(tmp_path.iterdir()) == [folder]


def test_scraps_of_a_killed_process_are_removed(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from hf_free.files import write_file\n"
        "def write(path):\n    path.write_text('half')\n    os._exit(9)\n"
        "write_file(Path(sys.argv[1]), write)"
    )
    path = write_text(tmp_path / "a.txt", "old")
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 9
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    remove_scraps(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_written_can_be_read(tmp_path):
    assert load_file(write_file(tmp_path / "w.safetensors", _save_weights))["w"].tolist() == [1, 1]
