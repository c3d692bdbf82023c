"""Checkpoints: the last few kept, the newest whole one found, nothing half ever taken for one."""

from __future__ import annotations

import errno
import os
import shutil

import pytest

from hf_free.errors import RunError
from hf_free.training import manifest
from hf_free.training.checkpoint_store import CheckpointStore
from hf_free.training.manifest import FORMAT, MANIFEST, Manifest


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "checkpoints")


def _write(store, step, keep=3, content="x" * 100):
    return store.write(lambda folder: (folder / "state").write_text(content), Manifest(step), keep=keep)


def test_the_last_ones_are_kept_in_the_order_of_writing(store):
    for step in (10, 20, 15, 15, 30):  # a run that went on from an older one, and one saved twice at a step
        _write(store, step)
    assert [path.name for path in store.folders()] == ["00005-step-30", "00004-step-15", "00003-step-15"]
    assert sorted(path.name for path in store.root.iterdir()) == sorted(path.name for path in store.folders())
    assert store.newest(contents=True).manifest.step == 30


def test_nothing_there_is_none(store):
    assert store.newest() is None
    store.sweep()


def _cut(folder):
    (folder / "state").write_text("x")


def _change(folder):
    (folder / "state").write_text("y" * 100)


def _lose(folder):
    (folder / "state").unlink()


def _scramble(folder):
    (folder / MANIFEST).write_text("{" * 10_000)


def _lose_manifest(folder):
    (folder / MANIFEST).unlink()


@pytest.mark.parametrize("damage", [_cut, _change, _lose, _scramble, _lose_manifest])
def test_a_damaged_one_is_passed_over_and_named(store, damage):
    _write(store, 1)
    damage(_write(store, 2))
    found = store.newest(contents=True)
    assert found.folder.name == "00001-step-1"
    assert [text.partition(" ")[0] for text in found.passed_over] == ["00002-step-2"]
    _write(store, 2)  # the run goes on: newer than the damaged one
    assert store.newest(contents=True).folder.name == "00003-step-2"


def test_one_of_a_later_version_is_refused_not_passed_over(store):
    _write(store, 1)
    store.write(lambda folder: (folder / "a").touch(), Manifest(2, version="9.0", format=FORMAT + 1), keep=2)
    with pytest.raises(RunError, match=r"written by hf-free 9\.0"):
        store.newest()


def test_older_ones_go_only_when_the_new_one_is_whole(store):
    _write(store, 1, keep=1)
    with pytest.raises(ZeroDivisionError):
        store.write(lambda folder: 1 / 0, Manifest(2), keep=1)
    assert [path.name for path in store.folders()] == ["00001-step-1"]


def test_scraps_of_dead_processes_are_swept(store):
    kept = _write(store, 1)
    for name in (".00002-step-2.p1t0h00000000-ab.new", ".00000-step-0.old"):
        shutil.copytree(kept, store.root / name)
    (store.root / ".00003-step-3.new").mkdir()
    store.sweep()
    assert not (store.root / ".00003-step-3.new").exists()
    assert not (store.root / ".00000-step-0.old").exists()
    assert kept.is_dir()


def test_a_link_in_the_place_of_the_folder_is_not_followed(store, tmp_path):
    """It was: a run wrote and removed checkpoints wherever it led."""
    elsewhere = CheckpointStore(tmp_path / "elsewhere")
    _write(elsewhere, 10)
    _write(elsewhere, 20)
    scrap = elsewhere.root / ".x.1-1-1.new"
    scrap.mkdir()
    before = sorted(elsewhere.root.iterdir())
    store.root.symlink_to(elsewhere.root)
    for call in (store.folders, store.newest, store.sweep, lambda: _write(store, 30, keep=1)):
        with pytest.raises(RunError, match=r"checkpoints is a link\n  allowed: .*\n  to do: "):
            call()
    assert sorted(elsewhere.root.iterdir()) == before


def test_a_checkpoint_that_is_a_link_is_passed_over_and_goes_alone(store, tmp_path):
    _write(store, 10)
    elsewhere = shutil.copytree(store.folders()[0], tmp_path / "elsewhere")
    (store.root / "00002-step-20").symlink_to(elsewhere)
    found = store.newest()
    assert found.manifest.step == 10
    assert "a link" in found.passed_over[0]
    _write(store, 30, keep=1)
    assert [path.name for path in store.root.iterdir()] == ["00003-step-30"]
    assert (elsewhere / "state").is_file()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize(("reads", "name"), [("read_strict_json", MANIFEST), ("sha256_of", "state")])
def test_what_cannot_be_read_for_the_moment_is_not_called_damaged(store, monkeypatch, number, reads, name):
    """Going on from the one before would in time remove it."""
    _write(store, 1)
    lost, plain = _write(store, 2) / name, getattr(manifest, reads)

    def refusing(path, **options):
        if path == lost:
            raise OSError(number, os.strerror(number), str(path))
        return plain(path, **options)

    monkeypatch.setattr(manifest, reads, refusing)
    with pytest.raises(RunError, match=rf"00002-step-2 cannot be read: {name}: {os.strerror(number).lower()}"):
        store.newest(contents=True)
