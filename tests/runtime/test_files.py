"""Files and folders: whole or not at all, and readable by whom the umask lets."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from kills import killed
from pico import pico_folder
from safetensors.torch import load_file, save_file

from hf_free.config.sections import LearnerConfig
from hf_free.errors import HubError, LearnerError, StorageError
from hf_free.hub.snapshot import local_snapshot
from hf_free.learner.meta_learner import MetaLearner
from hf_free.runtime.files import (
    copy_folder,
    made_folder,
    new_folder,
    read_bounded,
    remove_folder,
    remove_scraps,
    write_file,
    write_text,
    write_together,
)
from hf_free.runtime.files import sync as REAL_SYNC
from hf_free.runtime.owners import owned_tag

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

    folder = new_folder(tmp_path / "some" / "folder", fill)
    assert {_mode(path) for path in (folder, folder / "deep")} == {0o777 & ~umask}
    assert {_mode(path) for path in (folder / "deep" / "weights", folder / "private")} == {0o666 & ~umask}


def test_a_text_is_written_as_it_is(tmp_path):
    path = write_text(tmp_path / "a.txt", "Größe\nnext\r\n")
    assert path.read_bytes() == "Größe\nnext\r\n".encode()


def test_the_name_of_a_file_that_is_no_text_is_written_so_that_json_reads_it(tmp_path):
    name = "\udcff.png"
    text = json.dumps(name, ensure_ascii=False)
    assert json.loads(write_text(tmp_path / "names.json", text).read_text("utf-8")) == name


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


def test_a_folder_that_fails_leaves_nothing(tmp_path):
    def fail(new):
        (new / "a").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        new_folder(tmp_path / "f", fail)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", [write_file, lambda path, fill: new_folder(path, lambda folder: fill(folder / "x"))])
def test_folders_that_were_made_for_a_write_that_fails_go_again(tmp_path, write):
    def fail(path):
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))

    (tmp_path / "there").mkdir()
    with pytest.raises(StorageError, match="a limit on the size of files"):
        write(tmp_path / "there" / "new" / "inner" / "file", fail)
    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]


def test_a_folder_into_which_something_has_come_stays(tmp_path):
    def fail():
        (tmp_path / "a" / "other").write_text("somebody's")
        raise RuntimeError("later")

    with pytest.raises(RuntimeError, match="later"), made_folder(tmp_path / "a" / "b"):
        fail()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["other"]


def test_a_folder_is_removed_whole(tmp_path):
    folder = new_folder(tmp_path / "f", lambda new: (new / "a").write_text("old"))
    remove_folder(folder)
    assert list(tmp_path.iterdir()) == []


def test_of_a_link_to_a_folder_the_link_goes(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    remove_folder(tmp_path / "link")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_scraps_of_a_killed_process_are_removed(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from hf_free.runtime.files import read_bounded, write_file\n"
        "def write(path):\n    path.write_text('half')\n    os._exit(9)\n"
        "write_file(Path(sys.argv[1]), write)"
    )
    path = write_text(tmp_path / "a.txt", "old")
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 9
    assert path.read_text() == "old"
    (scrap,) = (other for other in tmp_path.iterdir() if other != path)
    scrap.rename(tmp_path / scrap.name.replace("a.txt", "b.txt"))
    write_text(path, "new")  # of another file: stays
    assert len(list(tmp_path.iterdir())) == 2
    remove_scraps(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_the_next_write_sweeps_what_a_killed_one_left_and_spares_a_living_one(tmp_path):
    dead = subprocess.run(
        [sys.executable, "-c", "from hf_free.runtime.owners import owned_tag; print(owned_tag())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    scraps = [tmp_path / f".a.txt.{tag}.new" for tag in (dead, "1234", owned_tag())]
    for scrap in scraps:
        scrap.write_text("half")
    path = write_text(tmp_path / "a.txt", "whole")
    assert sorted(tmp_path.iterdir()) == sorted([path, scraps[2]])


def test_what_was_written_can_be_read(tmp_path):
    assert load_file(write_file(tmp_path / "w.safetensors", _save_weights))["w"].tolist() == [1, 1]


# ---- what may not be read is called that


@pytest.fixture
def as_nobody():
    """A folder that others can enter, and a way to become somebody who is not its owner."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    if os.geteuid() != os.getuid():
        os.seteuid(os.getuid())
    shutil.rmtree(folder)


def _forbid(path):
    path.chmod(0)
    if os.getuid() == 0:  # who may read everything
        os.seteuid(65534)


@needs_umask
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "hf_free.safetensors"])
def test_a_learners_file_that_may_not_be_read_is_called_that(as_nobody, name):
    MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16)).save_pretrained(as_nobody / "learner")
    (as_nobody / "learner").chmod(0o755)
    for path in (as_nobody / "learner").iterdir():
        path.chmod(0o644)
    MetaLearner.from_pretrained(as_nobody / "learner")
    _forbid(as_nobody / "learner" / name)
    with pytest.raises(LearnerError, match=rf"{name} may not be read by this user: its access rights are -----"):
        MetaLearner.from_pretrained(as_nobody / "learner")


@needs_umask
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", ""])
def test_a_teachers_file_that_may_not_be_read_is_called_that(as_nobody, name):
    folder = pico_folder(as_nobody / "teacher")
    folder.chmod(0o755)
    _forbid(folder / name)
    with pytest.raises(HubError, match=rf"{name or folder.name} may not be read by this user"):
        local_snapshot(folder)


@needs_umask
def test_a_teacher_that_is_saved_can_be_read_by_whom_the_umask_lets(tmp_path, umask):
    folder = pico_folder(tmp_path / "teacher")
    assert {_mode(path) for path in folder.iterdir()} == {0o666 & ~umask}


def test_only_regular_files_of_bounded_size_are_read(tmp_path):
    """A pipe that nobody writes to would be waited for, a device without an end would fill the memory."""
    (tmp_path / "file").write_bytes(b"1234567890")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "circle").symlink_to("circle")
    os.mkfifo(tmp_path / "pipe")
    assert read_bounded(tmp_path / "link", max_bytes=10) == b"1234567890"
    with pytest.raises(ValueError, match="more than 9 bytes"):
        read_bounded(tmp_path / "file", max_bytes=9)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match="more than"):  # and no memory was taken for half a terabyte
        read_bounded(tmp_path / "sparse", max_bytes=2**39)
    for name in ("zero", "pipe", "."):
        with pytest.raises(ValueError, match="not a regular file"):
            read_bounded(tmp_path / name, max_bytes=9)
    for name in ("circle", "none"):
        with pytest.raises(OSError, match=name):
            read_bounded(tmp_path / name, max_bytes=9)


def test_a_folder_is_copied_with_what_its_links_lead_to(tmp_path):
    """But nothing that would be waited for, that has no end, or that leads back."""
    (tmp_path / "from" / "sub").mkdir(parents=True)
    (tmp_path / "from" / "sub" / "file").write_bytes(b"x" * (2**20 + 5))
    (tmp_path / "from" / "link").symlink_to("sub")
    (tmp_path / "from" / "alone").symlink_to(tmp_path / "from" / "sub" / "file")
    copy_folder(tmp_path / "from", tmp_path / "to")
    copied = {path.relative_to(tmp_path / "to").as_posix() for path in (tmp_path / "to").rglob("*")}
    assert copied == {"sub", "sub/file", "link", "link/file", "alone"}
    assert not any(path.is_symlink() for path in (tmp_path / "to").rglob("*"))
    assert (tmp_path / "to" / "alone").read_bytes() == b"x" * (2**20 + 5)
    private, odd = tmp_path / "from, private", tmp_path / "from" / "sub" / "odd"
    private.mkdir()
    (private / "key").write_text("private")
    for count, (put, says) in enumerate(
        (
            (lambda: os.mkfifo(odd), "odd: it is not a regular file"),
            (lambda: odd.symlink_to("/dev/zero"), "odd: it is not a regular file"),
            (lambda: odd.symlink_to(tmp_path / "from"), "odd is a link to a folder that it lies in"),
            (lambda: odd.symlink_to(private / "key"), f"odd is a link to {private / 'key'}, outside the folder"),
            (lambda: odd.symlink_to(private), f"odd is a link to {private}, outside the folder"),
            (lambda: odd.symlink_to(".."), "odd is a link to a folder that it lies in"),
        )
    ):
        put()
        with pytest.raises(ValueError, match=says):
            copy_folder(tmp_path / "from", tmp_path / f"to{count}")
        odd.unlink()


def test_a_snapshot_of_the_hubs_cache_is_copied_with_its_files_which_lie_beside_it(tmp_path):
    blobs, snapshot = tmp_path / "models--me--x" / "blobs", tmp_path / "models--me--x" / "snapshots" / "c0"
    blobs.mkdir(parents=True)
    (snapshot / "sub").mkdir(parents=True)
    (blobs / "1").write_text("weights")
    (snapshot / "sub" / "model.safetensors").symlink_to("../../../blobs/1")
    (tmp_path / "short").symlink_to(snapshot)
    copy_folder(tmp_path / "short", tmp_path / "to")
    assert (tmp_path / "to" / "sub" / "model.safetensors").read_text() == "weights"
    (tmp_path / "models--me--y").mkdir()
    (tmp_path / "models--me--y" / "key").write_text("private")
    (snapshot / "key").symlink_to("../../../models--me--y/key")
    with pytest.raises(ValueError, match=r"key is a link to .*models--me--y/key, outside the folder"):
        copy_folder(snapshot, tmp_path / "again")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills what it forks")
def test_what_takes_its_place_is_on_the_disk_before(tmp_path, monkeypatch):
    """Else a machine that loses power may leave an empty file in the place of the one before."""
    from hf_free.runtime import files

    flushed, replace = set(), os.replace

    def replaced(source, target):
        source = Path(source)
        below = [path for path in (source, *source.rglob("*")) if path.is_file()]
        assert below
        assert {(path.name, path.stat().st_ino) for path in below} <= flushed, target
        replace(source, target)

    monkeypatch.setattr(files, "sync", lambda path: flushed.add((path.name, path.stat().st_ino)))
    monkeypatch.setattr(os, "replace", replaced)
    write_text(tmp_path / "a.txt", "a")
    write_together({tmp_path / "b": b"b", tmp_path / "c": b"c"})
    learner = MetaLearner(LearnerConfig(backbone="test_resnet", image_size=16))
    for _ in range(2):  # a new one, and over it
        learner.save_pretrained(tmp_path / "learner")
    assert (tmp_path / "learner" / "config.json").is_file()


def test_files_that_belong_together_are_never_of_two_calls(tmp_path):
    """A program that lies beside the labels of another one answers, and wrongly."""
    names = ("model.bin", "model.xml", "model.xml.json")
    old, new = ({tmp_path / name: f"{call} {name}".encode() for name in names} for call in ("old", "new"))
    call, seen = 0, set()
    while True:
        call += 1
        write_together(old)
        assert {path.name for path in tmp_path.iterdir()} == set(names)  # what the last kill has left is gone
        if not killed(lambda: write_together(new), at_call=call):
            break
        left = [(path.name, path.read_text()) for path in tmp_path.iterdir() if not path.name.startswith(".")]
        calls = {text.split()[0] for _, text in left}
        assert len(calls) == 1, f"files of two calls after a kill at call {call}"
        seen |= calls
    assert seen == {"old", "new"}
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == new


def test_of_files_that_belong_together_one_that_cannot_be_written_leaves_the_old_ones(tmp_path):
    write_together({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    with pytest.raises(StorageError, match="the files that were there before are unchanged"):
        write_together({tmp_path / "a": b"3", tmp_path / "b" / "c": b"4"})
    assert ((tmp_path / "a").read_text(), (tmp_path / "b").read_text()) == ("1", "2")
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}
    (tmp_path / "in the way").mkdir()
    with pytest.raises(StorageError, match=r"cannot write in the way in .*: a folder is in its place"):
        write_together({tmp_path / "a": b"3", tmp_path / "in the way": b"4"})


def test_what_cannot_be_flushed_is_left_alone_and_a_disk_that_fails_is_not(tmp_path, monkeypatch):
    """File systems without a flush, and network file systems on which folders have none."""
    file = write_text(tmp_path / "a.txt", "a")
    without = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
    of_folders = {errno.EBADF, errno.EACCES, errno.EPERM}
    for number in (*without, *of_folders, errno.EIO, errno.ENOSPC, errno.ENXIO):

        def fails(handle, number=number):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", fails)
        seen = errno.EIO if number in (errno.ENXIO, errno.EBADF) else number  # those that no file system gives
        for path, allowed in ((file, without), (tmp_path, without | of_folders)):
            with nullcontext() if number in allowed else pytest.raises(OSError, match=os.strerror(seen)):
                REAL_SYNC(path)


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP])
def test_a_file_system_without_rights_takes_files_and_folders(tmp_path, monkeypatch, number):
    """FAT and some network file systems."""

    def fails(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "chmod", fails)
    write_text(tmp_path / "a.txt", "a")
    write_together({tmp_path / "b.txt": b"b"})
    new_folder(tmp_path / "folder", lambda scratch: (scratch / "c.txt").write_text("c"))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.txt", "b.txt", "c.txt", "folder"]


def test_a_scratch_file_that_cannot_be_removed_fails_nothing(tmp_path, monkeypatch):
    def busy(*_, **__):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(os, "unlink", busy)
    assert write_text(tmp_path / "a.txt", "a").read_text() == "a"
