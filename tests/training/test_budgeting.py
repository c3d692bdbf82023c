"""Memory and time of a run, measured before it begins."""

from __future__ import annotations

import math

import torch
from pico import pico_teacher
from replacing import replace_everywhere
from runs import TINY, last_checkpoint
from safetensors.torch import load_file

from hf_free.config.reading import merge
from hf_free.config.tree import FreeConfig
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
