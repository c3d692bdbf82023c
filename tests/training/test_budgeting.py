"""Memory and time of a run, measured before it begins."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from pico import pico_teacher
from replacing import replace_everywhere
from runs import TINY, last_checkpoint
from safetensors.torch import load_file

from hf_free.config.reading import merge
from hf_free.config.tree import FreeConfig
from hf_free.errors import RunError
from hf_free.metalearning.distill import Distiller
from hf_free.teachers.pool import TeacherPool
from hf_free.training.budgeting import Budget
from hf_free.training.folder import RunFolder
from hf_free.training.portions import Forecast, Portions
from hf_free.training.trainer import train


def _config(**values):
    return FreeConfig.from_dict(merge(TINY, values))


def _pool(*extra):
    teachers = [
        pico_teacher("conv4", size=16, num_classes=3, seed=0, label_names=("cat", "dog", "owl")),
        pico_teacher("vit", size=16, num_classes=2, seed=1),
        pico_teacher("conv4", size=24, num_classes=4, seed=2),
    ]
    return TeacherPool.from_teachers([*teachers, *extra])


def _weights(path):
    return load_file(path / "learner" / "model.safetensors") | load_file(path / "learner" / "hf_free.safetensors")


def _same(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture(autouse=True)
def _each_size_is_done_again_until_its_time_is_sure(monkeypatch):
    """As outside the tests, whose other runs do without."""
    monkeypatch.setattr("hf_free.training.trial.ONCE_IS_ENOUGH", 1.5)
    monkeypatch.setattr("hf_free.training.trial.LONG", 0.5)


def test_measuring_leaves_no_trace(tmp_path, monkeypatch):
    """A run that measures time and memory is, number by number, one that measures nothing."""
    train(
        _config(trainer={"max_minutes": 1000.0, "steps": 6, "warmup_steps": 1}),
        output=tmp_path / "timed",
        pool=_pool(),
    )
    portions = Portions(task=None, asked=512, learned=None, embedded=256, memory=100, held_out=16, finished=2048)
    made = Budget(1, portions, Forecast(1, 0.0, 0.0, 6, 0.0), ())
    replace_everywhere(monkeypatch, "hf_free.training.budgeting.make_budget", lambda *args, **options: made)
    train(_config(), output=tmp_path / "plain", pool=_pool())
    # the schedule follows steps, whichever is further
    assert _same(_weights(tmp_path / "timed"), _weights(tmp_path / "plain"))


def test_a_run_in_little_memory_works_in_parts(tmp_path, monkeypatch, caplog):
    portions = Portions(task=8, asked=3, learned=4, embedded=5, memory=40, held_out=8, finished=20)
    made = Budget(1, portions, Forecast(1, 0.0, 0.0, 6, 0.0), ("to fit",))
    replace_everywhere(monkeypatch, "hf_free.training.budgeting.make_budget", lambda *args, **options: made)
    scored, score = [], Distiller.score

    def noted(self, held_out, episodes, *, at_once=None):
        scored.append(at_once)
        return score(self, held_out, episodes, at_once=at_once)

    monkeypatch.setattr(Distiller, "score", noted)
    train(_config(), output=tmp_path, pool=_pool())
    assert set(scored) == {5}
    assert "to fit" in caplog.text
    memory = load_file(last_checkpoint(tmp_path) / "memory.safetensors")
    assert len(memory["images"]) == 40
    rows = RunFolder(tmp_path).read_log()
    assert all(math.isfinite(row["answers"]) for row in rows if "answers" in row)


@pytest.mark.parametrize("seconds", [100.0, 0.001])
def test_a_run_without_hope_is_refused_after_its_first_part(tmp_path, monkeypatch, seconds):
    """Where one update of the learner is longer than the run, teachers are not tried at all."""
    now, pieces = [0.0], []

    def peak_memory(work, device):
        work()
        pieces.append(work)
        now[0] += seconds
        return 1000

    replace_everywhere(monkeypatch, "hf_free.runtime.memory_budget.peak_memory", peak_memory)
    replace_everywhere(monkeypatch, "hf_free.runtime.measuring.busy_seconds_of", lambda work, device: seconds)
    replace_everywhere(monkeypatch, "hf_free.runtime.measuring.clock_of", lambda device: lambda: now[0])
    monkeypatch.setattr("hf_free.training.trial.time", SimpleNamespace(monotonic=lambda: now[0]))
    config = _config(trainer={"max_minutes": 0.05, "steps": 2})
    if seconds < 1:
        train(config, output=tmp_path, pool=_pool())
        assert len(pieces) > 10
    else:
        with pytest.raises(RunError, match="not enough for one step that recovers pictures and learns") as refused:
            train(config, output=tmp_path, pool=_pool())
        assert len(pieces) == 2  # the update and a drawing
        assert "for 2 steps" in str(refused.value)
        assert not (tmp_path / "config.yaml").exists()
