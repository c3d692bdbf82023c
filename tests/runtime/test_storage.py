"""A write that fails for want of space or rights: one message, whichever library failed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from hf_free.errors import StorageError
from hf_free.runtime.files import new_folder, write_file, write_text
from hf_free.runtime.storage import storage_explained, storage_problem


@pytest.mark.parametrize(
    ("number", "reason", "asks_for_space"),
    [
        (errno.ENOSPC, "no space is left", True),
        (errno.EDQUOT, "quota of this user is used up", True),
        (errno.EFBIG, "limit on the size of files", False),
        (errno.EROFS, "file system is read-only", False),
        (errno.EACCES, "this user may not write there", False),
        (errno.EIO, "the disk fails", False),
        (errno.EMFILE, "too many files open", False),
        (errno.EISDIR, "a folder is in its place", False),
        (errno.ENOTDIR, "a file is in the place of a folder above it", False),
        (errno.ELOOP, "links there lead in a circle", False),
        (errno.ENAMETOOLONG, "the name is too long", False),
    ],
)
def test_the_message_names_file_folder_space_and_what_is_safe(tmp_path, number, reason, asks_for_space):
    path = tmp_path / "weights.bin"
    path.write_text("old")

    def fail(scratch):
        scratch.write_text("half")
        raise OSError(number, os.strerror(number), str(scratch))

    with pytest.raises(StorageError) as refused:
        write_file(path, fail)
    text = str(refused.value)
    assert f"cannot write weights.bin in {tmp_path}: " in text
    assert reason in text
    assert ("free some space" in text) is asks_for_space
    assert ("are free" in text) is (number == errno.ENOSPC)  # of a quota the file system's free space says nothing
    assert "the file that was there before is unchanged" in text
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_in_the_place_of_a_file_is_left_alone_and_said(tmp_path):
    (tmp_path / "log.json").mkdir()
    with pytest.raises(StorageError, match=r"a folder is in its place[^$]*move away what is there"):
        write_text(tmp_path / "log.json", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["log.json"]


def test_the_space_that_is_needed_is_said(tmp_path):
    said = storage_problem(OSError(errno.ENOSPC, "full"), tmp_path / "a", needed=2 * 2**20)
    assert "(2 MiB are needed; " in str(said)
    assert " are free)" in str(said)


def test_a_copy_that_fails_names_what_was_written_not_what_was_read(tmp_path):
    error = OSError(errno.ENOSPC, "full", "/elsewhere/source", None, str(tmp_path / "target"))
    assert f"write target in {tmp_path}: " in str(storage_problem(error))


def test_what_fails_in_a_part_is_said_of_the_whole(tmp_path):
    """The scratch file of the part is gone when the message is read."""

    def fill(scratch):
        write_file(scratch / "part", fail)

    def fail(scratch):
        raise OSError(errno.ENOSPC, "full", str(scratch))

    with pytest.raises(StorageError, match=rf"cannot write whole in {tmp_path}: .*4 KiB are needed"):
        new_folder(tmp_path / "whole", fill, needed=4096)


def test_no_free_space_helps_against_a_limit_on_the_size_of_files(tmp_path):
    said = str(storage_problem(OSError(errno.EFBIG, "too large"), tmp_path / "a", needed=2**20))
    assert "(1 MiB are needed)" in said
    assert "ulimit -f unlimited" in said
    assert "free some space" not in said


def test_other_errors_pass(tmp_path):
    for error in (OSError(errno.ENOENT, "gone"), ValueError("x"), RuntimeError("shapes")):
        assert storage_problem(error) is None
        with pytest.raises(type(error)), storage_explained(tmp_path / "a"):
            raise error


LIMITED = """
import resource, signal, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from hf_free.errors import StorageError
from hf_free.runtime.files import new_folder, write_file, write_text
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
tensor, folder = torch.zeros(100_000), Path(sys.argv[1])
for name, write in {
    "python": lambda path: path.write_bytes(bytes(400_000)),
    "safetensors": lambda path: save_file({"a": tensor}, path),
    "torch": lambda path: torch.save({"a": tensor}, path),
}.items():
    try:
        write_file(folder / name, write)
    except StorageError as error:
        print(name, str(error).splitlines()[0])
"""


@pytest.mark.skipif(os.name == "nt", reason="no limits of that kind on Windows")
def test_every_library_that_writes_is_understood(tmp_path):
    """Real writers against a real limit: each has an error of its own for it."""
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["python", "safetensors", "torch"]
    assert all(" cannot write " in line and str(tmp_path) in line for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_a_path_below_a_file_is_not_taken_for_a_full_disk(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="something else is in its place or its folder's"):
        write_text(tmp_path / "file" / "a", "x")
    assert Path(tmp_path / "file").is_file()


def test_a_link_that_leads_nowhere_in_the_place_of_a_folder_is_said(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "none")
    said = pytest.raises(StorageError, match="something else is in its place or its folder's")
    with said, storage_explained(tmp_path / "link"):
        (tmp_path / "link").mkdir(exist_ok=True)


def test_what_may_be_a_read_or_a_write_is_called_neither():
    problem = storage_problem(PermissionError(errno.EACCES, "Permission denied", "/some/file"))
    assert str(problem).startswith("cannot read or write file in /some: this user may not\n")


def test_no_place_for_temporary_files_is_said(monkeypatch):
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: ["/none/at/all"])
    with pytest.raises(FileNotFoundError) as raised:
        tempfile._get_default_tempdir()
    assert "no folder for temporary files" in str(storage_problem(raised.value))


def test_too_many_open_files_are_said_whoever_opens_them():
    text = f"unable to open file </x/model.safetensors> in read-only mode: Too many open files ({errno.EMFILE})"
    problem = storage_problem(RuntimeError(text), Path("/x/model.safetensors"))
    assert "this process has too many files open (ulimit -n)" in problem.given
    assert problem.action == "raise that limit before you start hf-free: ulimit -n 1024"
    assert storage_problem(RuntimeError("unable to open file </x> in read-only mode: No such file (2)")) is None


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EBUSY, errno.ENOTEMPTY, errno.EMLINK, errno.ESTALE])
def test_whatever_a_file_system_says_of_a_file_that_it_names_is_one_message(tmp_path, number):
    """Network file systems and overlays have numbers that no local one gives."""
    words = os.strerror(number).lower()
    error = OSError(number, os.strerror(number), str(tmp_path / "x"))
    assert str(storage_problem(error)).startswith(f"cannot read or write x in {tmp_path}: {words}\n")

    def fails(scratch):
        raise error

    with pytest.raises(StorageError, match=rf"cannot write a in {tmp_path}: {words}"):
        write_file(tmp_path / "a", fails)


def test_a_file_that_is_gone_is_said_at_the_end_and_passes_before_it(tmp_path):
    error = FileNotFoundError(errno.ENOENT, "gone", str(tmp_path / "x"))
    assert f"read or write x in {tmp_path}: no such file" in str(storage_problem(error))
    assert storage_problem(error, tmp_path / "a") is None


def test_an_open_file_has_no_name_and_gets_none():
    assert str(storage_problem(OSError(errno.EIO, "fails"))).startswith(
        "cannot read or write a file: the disk fails\n"
    )
