"""Whose an unfinished file is."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from hf_free.runtime.owners import STALE_SECONDS, is_abandoned, owned_tag

TAG = "from hf_free.runtime.owners import owned_tag; print(owned_tag(), flush=True); input()"


def test_what_a_living_process_writes_is_its_own_until_it_dies(tmp_path):
    words = [sys.executable, "-c", TAG]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        theirs = tmp_path / f".a.{process.stdout.readline().strip()}.new"
        assert not is_abandoned(theirs)
        process.kill()
        process.wait()
    assert is_abandoned(theirs)
    assert not is_abandoned(tmp_path / owned_tag())


def test_a_later_process_of_the_same_number_is_another(tmp_path):
    mine = owned_tag()
    started = mine[mine.index("t") + 1 : mine.index("h")]
    assert is_abandoned(tmp_path / mine.replace(f"t{started}", f"t{int(started, 16) - 60:x}"))


@pytest.mark.parametrize(("age", "is_over"), [(60, False), (STALE_SECONDS + 60, True)])
def test_another_computers_is_given_up_after_a_day(tmp_path, monkeypatch, age, is_over):
    path = tmp_path / f"p{os.getpid()}t1h00000000-1234.new"
    path.touch()
    os.utime(path, (time.time() - age,) * 2)
    assert is_abandoned(path) is is_over


def test_no_two_tags_are_alike_and_a_name_without_one_is_nobodys(tmp_path):
    assert owned_tag() != owned_tag()
    assert is_abandoned(tmp_path / ".saving-abc123")
