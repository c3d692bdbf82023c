"""Runs that are stopped, killed, resumed elsewhere or started twice: nothing that was done is lost."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import pathlib
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from pico import pico_folder
from replacing import replace_everywhere
from rich.console import Console
from runs import TINY

from hf_free import FreeConfig, MetaLearner, train
from hf_free.cli.main import main
from hf_free.config.reading import merge
from hf_free.errors import RunError
from hf_free.provenance.recorded_teacher import LeftOut
from hf_free.runtime.interrupts import STOP_SIGNALS, Stopped
from hf_free.training.folder import RunFolder
from hf_free.training.run_lock import LOCK_FILE, read_holder


@pytest.fixture(autouse=True)
def _as_in_a_terminal():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def teachers(tmp_path):
    """Two local teachers."""
    return [str(pico_folder(tmp_path / "teachers" / f"t{seed}", seed=seed)) for seed in range(2)]


SHORT = {
    "five": {"inner_steps": 1, "images_per_class": 2},
    "bell": {"updates_per_step": 2},
    "learner": {"gating": False, "whitening": None, "shared_classes": False},
    "trainer": {"steps": 3, "validation_episodes": 2},
}
"""Three steps: a warm-up, one that recovers and learns, one that learns."""


def _config(teachers, **values):
    return FreeConfig.from_dict(merge(merge(merge(TINY, SHORT), {"models": teachers}), values))


def _state(run):
    return RunFolder(run).checkpoint_state()


class SteppingClock:
    """A clock that goes on by some seconds a step, told by `watch`, in the place of `time` in
    hf_free.training.schedule."""

    def __init__(self, monkeypatch, seconds_a_step):
        self.now, self.seconds_a_step = 1000.0, seconds_a_step
        monkeypatch.setattr("hf_free.training.schedule.time", SimpleNamespace(monotonic=lambda: self.now))

    def watch(self, learner, minutes):
        self.now += self.seconds_a_step


# ---- checkpoints by the clock


def test_a_kill_in_the_middle_of_a_short_run_loses_less_than_a_minute(tmp_path, teachers, monkeypatch):
    clock = SteppingClock(monkeypatch, 12.0)
    config = _config(teachers, trainer={"steps": None, "max_minutes": 2, "checkpoint_every": 100_000})

    def killed(learner, minutes):
        clock.watch(learner, minutes)
        if minutes >= 1:
            raise SystemError("SIGKILL")  # no handler of ours takes this one either

    with pytest.raises(SystemError):
        train(config, output=tmp_path / "run", watch=killed)
    lost = 60 - _state(tmp_path / "run")["seconds"]
    assert 0 <= lost < 60
    train(config, output=tmp_path / "run", resume=True, watch=clock.watch)
    assert RunFolder(tmp_path / "run").read_log()[-1]["minutes"] == pytest.approx(
        1.8
    )  # its clock stands still from the last step on
    MetaLearner.from_pretrained(tmp_path / "run" / "learner")


# ---- Ctrl-C and SIGTERM


def _has_begun():
    """Whether a run's steps have begun: from then on a signal is the run's own affair."""
    return signal.getsignal(signal.SIGINT) is not signal.default_int_handler


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_a_signal_within_the_first_step_leaves_a_checkpoint_at_once(tmp_path, teachers, monkeypatch, number):
    """The step under way is not waited for where it is a long one; what was not begun is done by the resumed run."""
    monkeypatch.setattr("hf_free.runtime.interrupts.GRACE_SECONDS", 0.0)
    before, passes = signal.getsignal(signal.SIGTERM), []
    original = torch.nn.Module.__call__

    def counted(module, *arguments, **named):
        if type(module).__name__ == "MetaGenerator" and (passes or _has_begun()):  # it is measured before
            passes.append(1)
            if len(passes) == 1:
                signal.raise_signal(number)
        return original(module, *arguments, **named)

    monkeypatch.setattr(torch.nn.Module, "__call__", counted)
    with pytest.raises(Stopped):
        train(_config(teachers), output=tmp_path / "run")
    assert signal.getsignal(signal.SIGTERM) is before
    assert (_state(tmp_path / "run")["step"], len(passes)) == (0, 1)
    assert not (tmp_path / "run" / LOCK_FILE).exists()
    train(_config(teachers), output=tmp_path / "run", resume=True)
    assert [row["step"] for row in RunFolder(tmp_path / "run").read_log()] == [1, 2, 3]


def test_stopped_while_it_learns_a_run_keeps_whole_updates(tmp_path, teachers, monkeypatch):
    monkeypatch.setattr("hf_free.runtime.interrupts.GRACE_SECONDS", 0.0)
    answers, asked = MetaLearner.raw_answers, []

    def second_update(self, images):
        if not images.requires_grad and _has_begun():  # an update of BELL; FIVE's pictures want a gradient
            asked.append(1)
            if len(asked) == 2:
                signal.raise_signal(signal.SIGINT)
        return answers(self, images)

    monkeypatch.setattr(MetaLearner, "raw_answers", second_update)
    with pytest.raises(Stopped):
        train(_config(teachers), output=tmp_path / "run")
    assert _state(tmp_path / "run")["step"] == 2  # in which FIVE is done; learning from it is cut short
    assert _state(tmp_path / "run")["kept_tasks"] == 2
    monkeypatch.undo()
    learner = train(_config(teachers), output=tmp_path / "run", resume=True)
    assert all(bool(value.isfinite().all()) for value in learner.state_dict().values())


def test_a_stop_in_the_last_step_or_while_pictures_are_drawn_leaves_a_whole_checkpoint(
    tmp_path, teachers, monkeypatch
):
    def in_the_last_step(learner, minutes):
        if len(RunFolder(tmp_path / "last").read_log()) == 2:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped):
        train(_config(teachers), output=tmp_path / "last", watch=in_the_last_step)
    assert _state(tmp_path / "last")["step"] == 3
    replace_everywhere(
        monkeypatch,
        "hf_free.reporting.heterogeneity.draw_heterogeneity",
        lambda *_, **__: signal.raise_signal(signal.SIGTERM),
    )
    with pytest.raises(Stopped):
        train(_config(teachers), output=tmp_path / "last", resume=True)
    monkeypatch.undo()
    train(_config(teachers), output=tmp_path / "last", resume=True)
    MetaLearner.from_pretrained(tmp_path / "last" / "learner")


def test_an_interrupted_run_says_both_commands_and_the_second_makes_a_learner(tmp_path, teachers, capsys):
    run = tmp_path / "run"
    stop = []

    def interrupt(learner, minutes):
        stop.append(minutes)
        if len(stop) == 4:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Stopped):
        train(_config(teachers, trainer={"steps": 60}), output=str(run), watch=interrupt)
    assert main(["evaluate", str(run), "--dataset", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "is not finished and has no learner yet: its checkpoint is of step 4" in said
    lines = said[said.index("to do:") + len("to do:") :].strip().splitlines()
    assert lines[0].strip() == f"go on with it: hf-free train --resume --output {run}"
    command = lines[1].partition(": hf-free ")[2].split()
    assert command[:4] == ["train", "--resume", "--output", str(run)]
    assert main(command) == 0
    assert RunFolder(run).read_log()[-1]["step"] < 60
    MetaLearner.from_pretrained(run / "learner")


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(n, marks=pytest.mark.long) for n in STOP_SIGNALS if n != signal.SIGTERM)],
)
def test_each_signal_ends_the_command_with_the_code_that_says_resume(tmp_path, teachers, capsys, monkeypatch, number):
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, usual)
    (tmp_path / "run.yaml").write_text(_config(teachers).to_yaml(), encoding="utf-8")
    append = RunFolder.append_log

    def and_stop(run, row):
        append(run, row)
        signal.raise_signal(number)

    monkeypatch.setattr(RunFolder, "append_log", and_stop)
    words = ["train", "--config", str(tmp_path / "run.yaml"), "--output", str(tmp_path / "run")]
    try:
        assert main(words) == 75
        assert signal.getsignal(number) is usual
    finally:
        signal.signal(number, before)
    assert f"Interrupted. Go on with it: hf-free train --resume --output {tmp_path / 'run'}" in capsys.readouterr().err
    assert _state(tmp_path / "run")["step"] == 1


def test_a_signal_before_anything_was_trained_has_the_code_of_the_signal(tmp_path, teachers, capsys, monkeypatch):
    (tmp_path / "run.yaml").write_text(_config(teachers).to_yaml(), encoding="utf-8")
    replace_everywhere(
        monkeypatch, "hf_free.training.setup.assemble", lambda *_, **__: signal.raise_signal(signal.SIGTERM)
    )
    words = ["train", "--config", str(tmp_path / "run.yaml"), "--output", str(tmp_path / "run")]
    assert main(words) == 128 + signal.SIGTERM
    assert "Nothing was trained yet: type the same command again." in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of the bar's own thread
def test_a_terminal_that_is_closed_does_not_keep_a_run_from_its_checkpoint(tmp_path, teachers):
    class Closed(io.StringIO):
        is_closed = False

        def write(self, text):
            if self.is_closed:
                raise OSError(errno.EIO, "Input/output error")
            return super().write(text)

    terminal = Closed()

    def close(learner, minutes):
        terminal.is_closed = True
        signal.raise_signal(signal.SIGTERM)

    console = Console(file=terminal, force_terminal=True)
    with pytest.raises(Stopped):
        train(_config(teachers), output=tmp_path / "run", console=console, watch=close)
    assert _state(tmp_path / "run")["step"] == 1


# ---- disks that are full, folders that cannot be written to


def _failing(monkeypatch, number, name):
    """Let the n-th and later files of a name fail."""
    original = pathlib.Path.write_text

    def write_text(path, *arguments, **named):
        if path.name == name and RunFolder(path.parents[2]).last_step() is not None:
            raise OSError(number, os.strerror(number), str(path))
        return original(path, *arguments, **named)

    monkeypatch.setattr(pathlib.Path, "write_text", write_text)


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, *(pytest.param(n, marks=pytest.mark.long) for n in (errno.EDQUOT, errno.EROFS))]
)
def test_a_disk_that_fills_up_in_a_save_leaves_the_last_checkpoint_and_says_so(
    tmp_path, teachers, capsys, monkeypatch, number
):
    config = _config(teachers, trainer={"steps": 3, "checkpoint_every": 1})
    (tmp_path / "run.yaml").write_text(config.to_yaml(), encoding="utf-8")
    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        _failing(patched, number, "state.json")
        assert main(["train", "--config", str(tmp_path / "run.yaml"), "--output", str(run)]) == 1
    said = capsys.readouterr().err
    assert f"cannot write 00002-step-2 in {run / 'checkpoints'}: " in said
    assert ("are needed" in said) is (number != errno.EROFS)
    assert f"the checkpoint of step 1 is whole: then go on with hf-free train --resume --output {run}" in said
    assert "Traceback" not in said
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["00001-step-1"]
    assert main(["train", "--resume", "--output", str(run)]) == 0
    assert [row["step"] for row in RunFolder(run).read_log()] == [1, 2, 3]


def test_an_output_that_cannot_be_made_is_said_before_anything_is_fetched(tmp_path, teachers, capsys, monkeypatch):
    make = os.mkdir

    def mkdir(path, *arguments, **named):
        if str(path).startswith(str(tmp_path / "runs")):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return make(path, *arguments, **named)

    (tmp_path / "run.yaml").write_text(_config(teachers).to_yaml(), encoding="utf-8")
    monkeypatch.setattr(os, "mkdir", mkdir)
    words = ["train", "--config", str(tmp_path / "run.yaml"), "--output", str(tmp_path / "runs" / "a")]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert f"in {tmp_path / 'runs' / 'a'}: its file system is read-only" in said
    assert "write to another folder" in said


def test_a_teacher_that_vanishes_is_left_out_and_a_resumed_run_takes_it_in_again(tmp_path, caplog):
    folders = [pico_folder(tmp_path / f"t{seed}", size=16, num_classes=3, seed=seed) for seed in range(3)]
    run, away = tmp_path / "run", tmp_path / "away"
    names = [str(folder) for folder in folders]

    def go_on(steps, **options):
        values = {"hub": {"teacher_memory": "9kB"}, "five": {"recover_share": 1.0}, "trainer": {"steps": steps}}
        config = _config(names, **merge({"five": SHORT["five"]}, values))
        return train(config, output=run, **options).record.skipped

    def vanish(learner, minutes):
        if len(RunFolder(run).read_log()) == 3 and not away.exists():
            folders[1].rename(away)

    reason = "it cannot be loaded any more: is not a folder"
    expected = (LeftOut(names[1], reason, asked=True),)
    assert go_on(5, watch=vanish) == expected
    assert f"left out: {names[1]}: {reason}" in caplog.text
    assert go_on(6, resume=True) == expected
    away.rename(folders[1])
    assert not go_on(7, resume=True)
    assert f"{names[1]} can be loaded again" in caplog.text


# ---- one process a folder

LONG = """
import sys
from pathlib import Path
from hf_free import FreeConfig, train
config = FreeConfig.from_yaml(sys.argv[1])
def watch(learner, minutes):
    if minutes >= 0 and not Path(sys.argv[3]).exists():
        Path(sys.argv[3]).touch()
train(config, output=sys.argv[2], watch=watch)
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL on Windows")
def test_a_second_process_is_refused_and_a_killed_one_is_taken_over(tmp_path, teachers):
    run, begun = tmp_path / "run", tmp_path / "begun"
    endless = _config(teachers, trainer={"steps": 1_000_000, "max_minutes": 60, "checkpoint_every": 1})
    (tmp_path / "config.yaml").write_text(endless.to_yaml(), encoding="utf-8")
    words = [sys.executable, "-c", LONG, str(tmp_path / "config.yaml"), str(run), str(begun)]
    process = subprocess.Popen(words, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        while not (begun.exists() and RunFolder(run).checkpoint_state()):
            assert process.poll() is None
            time.sleep(0.05)
        for flags in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(RunError, match=f"in use by process {process.pid} on "):
                train(_config(teachers), output=run, **flags)
    finally:
        process.kill()
        process.wait()
    assert read_holder(run / LOCK_FILE).pid == process.pid
    step = RunFolder(run).checkpoint_state()["step"]
    train(_config(teachers, trainer={"steps": step + 1}), output=run, resume=True)
    assert not (run / LOCK_FILE).exists()
    assert RunFolder(run).read_log()[-1]["step"] == step + 1


def test_half_a_launcher_is_refused_before_it_touches_the_folder(tmp_path, teachers, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")  # without WORLD_SIZE: no launcher leaves it so
    with pytest.raises(RunError, match="environment variables make no sense: LOCAL_RANK=1"):
        train(_config(teachers), output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_python_refuses_and_replaces_an_earlier_run_as_the_command_line_does(tmp_path, teachers):
    run = tmp_path / "run"
    train(_config(teachers), output=run)
    before = (run / "config.yaml").read_bytes()
    with pytest.raises(RunError, match="is not empty"):
        train(_config(teachers, seed=1), output=run)
    assert (run / "config.yaml").read_bytes() == before
    with pytest.raises(RunError, match="fewer than two"):
        train(_config(teachers[:1]), output=run, overwrite=True)
    assert (run / "config.yaml").read_bytes() == before
    train(_config(teachers, seed=1, trainer={"steps": 2}), output=run, overwrite=True)
    assert RunFolder(run).read_config().seed == 1
    assert not run.with_name("run.previous").exists()


def test_a_start_that_fails_leaves_no_folder(tmp_path, teachers):
    with pytest.raises(RunError):
        train(_config(teachers[:1]), output=tmp_path / "runs" / "first")
    assert not (tmp_path / "runs").exists()


# ---- from another folder


def test_a_run_of_relative_paths_is_resumed_from_another_folder(tmp_path, teachers, monkeypatch):
    monkeypatch.chdir(tmp_path / "teachers")
    (tmp_path / "teachers" / "list.yaml").write_text("teachers: [./t1]\n", encoding="utf-8")
    config = _config(["t0", "list.yaml"], imports=["networks.py"], hub={"cache_dir": "cache"})
    (tmp_path / "teachers" / "networks.py").write_text("", encoding="utf-8")
    steps = []

    def stop(learner, minutes):
        steps.append(minutes)
        if len(steps) == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Stopped):
        train(config, output="../run", watch=stop)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["train", "--resume", "--output", str(tmp_path / "run")]) == 0
    learner = MetaLearner.from_pretrained(tmp_path / "run" / "learner")
    assert str(tmp_path) not in json.dumps(
        learner.record.to_dict()
    )  # what is published names no folder of this computer
    assert str(tmp_path) not in (tmp_path / "run" / "learner" / "README.md").read_text(encoding="utf-8")


# ---- what is shown


def test_a_run_says_what_it_begins_with_and_names_its_losses(tmp_path, teachers, caplog):
    console = Console(file=io.StringIO(), width=400, force_terminal=True, color_system=None)
    with caplog.at_level(logging.INFO, logger="hf_free.training.progress"):
        learner = train(_config(teachers), output=tmp_path / "run", console=console)
    parameters = sum(p.numel() for p in learner.backbone.parameters())
    classes = sum(teacher.num_classes for teacher in learner.record.teachers)
    line = (
        f"Training conv4_32 ({parameters:,} parameters, pictures of 3x16x16) "
        f"on 2 teachers with {classes} classes in all"
    )
    shown = console.file.getvalue()
    assert line in shown
    assert f"Output folder: {tmp_path / 'run'}\n" in shown
    assert line in caplog.messages
    assert "unexplained variance" in shown
    assert " nats (lower is better)" in shown
