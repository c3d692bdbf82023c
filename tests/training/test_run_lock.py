"""One process per run: real processes that hold the lock, leave it, or are killed with it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from hf_free.errors import RunError, StorageError
from hf_free.training.run_lock import LOCK_FILE, LockHolder, RunLock, read_holder

HOLD = """
import sys
from pathlib import Path
from hf_free.training.run_lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of tmp_path / "run" until its stdin is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def _write_holder(folder, holder):
    folder.mkdir(exist_ok=True)
    (folder / LOCK_FILE).write_text(json.dumps(asdict(holder)), encoding="utf-8")


def test_a_second_process_is_refused_and_told_of_the_first(tmp_path, holder):
    with pytest.raises(RunError) as refused:
        RunLock(tmp_path / "run").acquire()
    assert f"in use by process {holder.pid} on {socket.gethostname()}, since 20" in str(refused.value)
    assert "--output" in refused.value.action
    assert "remove" not in refused.value.action  # that would make two
    assert read_holder(tmp_path / "run" / LOCK_FILE).pid == holder.pid  # as it was


def test_a_process_that_ends_gives_the_lock_back_and_leaves_nothing(tmp_path, holder):
    holder.communicate()
    assert not (tmp_path / "run").exists()
    with RunLock(tmp_path / "run"):
        assert read_holder(tmp_path / "run" / LOCK_FILE).pid == os.getpid()
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL on Windows")
def test_a_killed_process_is_taken_over(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert read_holder(tmp_path / "run" / LOCK_FILE).pid == holder.pid
    with RunLock(tmp_path / "run"):
        assert read_holder(tmp_path / "run" / LOCK_FILE).pid == os.getpid()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no such file system")
def test_where_no_folder_can_be_made_it_says_so():
    with pytest.raises(StorageError, match=r"cannot write run.lock in /proc/run: this user may not write there"):
        RunLock(Path("/proc/run")).acquire()


def test_one_process_cannot_have_it_twice(tmp_path):
    with RunLock(tmp_path), pytest.raises(RunError, match=f"in use by process {os.getpid()} "):
        RunLock(tmp_path).acquire()
    with RunLock(tmp_path):  # given back whole
        pass


def test_what_has_come_into_the_folder_stays(tmp_path):
    with RunLock(tmp_path / "runs" / "first"):
        (tmp_path / "runs" / "first" / "config.yaml").write_text("seed: 1")
    assert [path.name for path in (tmp_path / "runs" / "first").iterdir()] == ["config.yaml"]


def test_another_computers_process_may_be_alive_and_the_way_out_is_named(tmp_path):
    _write_holder(tmp_path / "run", replace(LockHolder.this_process(), host="elsewhere"))
    with pytest.raises(RunError, match="on elsewhere") as refused:
        RunLock(tmp_path / "run").acquire()
    assert f"if that process is over, remove {tmp_path / 'run' / LOCK_FILE}" in refused.value.action
    (tmp_path / "run" / LOCK_FILE).unlink()
    with RunLock(tmp_path / "run"):
        pass


def test_where_the_file_system_has_no_locks_the_text_decides(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
    mine = LockHolder.this_process()
    _write_holder(tmp_path, mine)
    with pytest.raises(RunError, match=f"process {mine.pid}"):
        RunLock(tmp_path).acquire()
    _write_holder(tmp_path, replace(mine, started=mine.started - 100))  # an earlier process of this number
    with RunLock(tmp_path):
        pass
    gone = max(psutil.pids()) + 100_000
    _write_holder(tmp_path, replace(mine, pid=gone))
    with RunLock(tmp_path):
        assert read_holder(tmp_path / LOCK_FILE).pid == mine.pid
    (tmp_path / LOCK_FILE).write_text("{")  # cut short by a kill
    with RunLock(tmp_path):
        pass


EIGHTH = """
import sys, time
from pathlib import Path
from hf_free.errors import RunError, StorageError
from hf_free.training.run_lock import RunLock
print("ready", flush=True)
input()
try:
    with RunLock(Path(sys.argv[1])):
        print("held", flush=True)
        input()
except RunError as error:
    print(str(error).splitlines()[0], flush=True)
    input()
"""


def test_of_eight_that_want_one_folder_at_once_one_has_it(tmp_path):
    words = [sys.executable, "-c", EIGHTH, str(tmp_path / "run")]
    processes = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    try:
        assert all(process.stdout.readline() == "ready\n" for process in processes)
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        said = [process.stdout.readline() for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert said.count("held\n") == 1
    assert sum("is in use by " in line for line in said) == 7


@pytest.mark.parametrize(
    "text", ["", "[]", '{"pid": 1}', '{"pid": "x", "host": 1, "started": [], "since": null}', "[" * 99_999]
)
def test_a_damaged_entry_names_nobody(tmp_path, text):
    (tmp_path / LOCK_FILE).write_text(text)
    assert read_holder(tmp_path / LOCK_FILE) is None
    with RunLock(tmp_path):
        assert read_holder(tmp_path / LOCK_FILE).pid == os.getpid()


def test_a_pipe_in_the_place_of_the_lock_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / LOCK_FILE)
    with pytest.raises(RunError, match=r"run\.lock is no file"), RunLock(tmp_path):
        pass


@pytest.mark.parametrize("content", ["somebody's", None])
def test_what_a_link_in_the_place_of_the_lock_leads_to_is_not_written(tmp_path, content):
    outside, folder = tmp_path / "outside", tmp_path / "run"
    folder.mkdir()
    if content is not None:
        outside.write_text(content)
    (folder / LOCK_FILE).symlink_to(outside)
    with pytest.raises(RunError, match=r"run\.lock is a link"), RunLock(folder):
        pass
    assert (outside.read_text() if outside.exists() else None) == content
