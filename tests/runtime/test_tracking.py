"""Trackers are told in the background: none that hangs, fails or is slow holds a run up."""

from __future__ import annotations

import sys
import threading
import time

import numpy as np
import pytest

from hf_free.errors import ConfigError
from hf_free.runtime.tracking import Trackers, check_installed


class Recording:
    """A tracker that keeps what it is told."""

    def __init__(self, name, project, folder):
        self.name, self.told, self.thread = name, [], threading.current_thread()

    def start(self):
        self.told.append("start")

    def store_init_configuration(self, values):
        self.told.append(values)

    def log(self, values, step):
        self.told.append((values, step))

    def finish(self):
        self.told.append("finish")


def _make(made, kind=Recording):
    def make(name, project, folder):
        made.append(kind(name, project, folder))
        return made[-1]

    return make


def test_each_tracker_is_told_all_in_order_from_a_thread_of_its_own():
    made = []
    trackers = Trackers(["a", "b"], settings={"seed": 1}, make=_make(made))
    for step in range(50):
        trackers.log({"loss": np.float32(step)}, step)
    trackers.close()
    for tracker in made:
        assert tracker.told == ["start", {"seed": 1}, *(({"loss": step}, step) for step in range(50)), "finish"]
        assert type(tracker.told[2][0]["loss"]) is float  # TensorBoard drops numpy's
    assert len({tracker.thread for tracker in made} | {threading.current_thread()}) == 3


def test_one_that_is_named_twice_is_told_once():
    made = []
    trackers = Trackers(["a", "b", "a"], make=_make(made))
    trackers.close()
    assert len(made) == 2


def test_one_that_fails_is_left_out_with_its_reason_and_the_others_go_on(caplog):
    class Failing(Recording):
        def start(self):
            if self.name == "bad":
                raise ConnectionError("no network\nat all")

    made = []
    trackers = Trackers(["bad", "good"], make=_make(made, Failing))
    trackers.log({"loss": 1.0}, 1)
    trackers.close()
    assert caplog.messages == ["bad is left out (ConnectionError: no network at all); log.jsonl goes on"]
    (good,) = (tracker for tracker in made if tracker.name == "good")
    assert good.told[-1] == "finish"


def test_one_that_never_answers_is_not_waited_for(monkeypatch, caplog):
    monkeypatch.setattr("hf_free.runtime.tracking.PATIENCE", 0.2)
    released = threading.Event()

    class Hanging(Recording):
        def start(self):
            released.wait(60)

    trackers = Trackers(["slow"], make=_make([], Hanging))
    for step in range(5000):  # more than wait for it
        trackers.log({"loss": 1.0}, step)
    begin = time.monotonic()
    trackers.close()
    assert time.monotonic() - begin < 30
    released.set()
    assert caplog.messages[0] == "slow has not ended in time: it may lack the last values; log.jsonl has all"
    assert caplog.messages[1] == "slow was too slow for 4000 of its values; log.jsonl has all"


def test_a_tracker_that_is_not_installed_is_refused_with_what_to_install():
    with pytest.raises(ConfigError) as refused:
        check_installed(["swanlab"])
    assert "pip install swanlab" in str(refused.value)
    check_installed([])


def test_a_picture_that_is_not_there_is_passed_over(tmp_path):
    made = []
    trackers = Trackers(["a"], make=_make(made))
    trackers.picture("recovered", tmp_path / "none.png", 1)
    trackers.close()
    assert made[0].told == ["start", {}, "finish"]


def test_what_trackers_print_is_not_the_programs_output(capsys):
    class Talking(Recording):
        def start(self):
            sys.stdout.write("created a run\n")

    before = sys.stdout
    trackers = Trackers(["a", "b"], make=_make([], Talking))
    sys.stdout.write("the document\n")
    trackers.close()
    assert sys.stdout is before
    shown = capsys.readouterr()
    assert shown.out == "the document\n"
    assert shown.err.count("created a run") == 2
