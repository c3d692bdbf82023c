"""TGR in a run: every teacher once, then a group a step."""

from __future__ import annotations

import torch
from pico import pico_teacher
from runs import TINY

from hf_free.config.reading import merge
from hf_free.config.tree import FreeConfig
from hf_free.inversion.per_teacher_generator import PerTeacherGenerator
from hf_free.metalearning import task_groups
from hf_free.metalearning.regularize import Regularizer
from hf_free.teachers.pool import TeacherPool
from hf_free.training.folder import RunFolder
from hf_free.training.setup import assemble, gather
from hf_free.training.trainer import train


def _config() -> FreeConfig:
    small = {
        "method": "tgr",
        "bell": {"replay_tasks": 1, "replay_patience": 1, "n_way": 3, "n_query": 2, "groups": 2},
        "trainer": {"steps": 3, "warmup_steps": 0},
    }
    return FreeConfig.from_dict(merge(TINY, small))


def _pool() -> TeacherPool:
    torch.set_num_threads(1)
    return TeacherPool.from_teachers([pico_teacher("conv4", size=16, num_classes=3, seed=seed) for seed in range(4)])


def test_its_halves():
    parts = assemble(gather(_config(), pool=_pool(), is_planned=True))
    assert isinstance(parts.inverter, PerTeacherGenerator)
    assert isinstance(parts.objective, Regularizer)


def test_every_teacher_is_met_once_before_the_first_step_on_a_group(tmp_path, monkeypatch):
    monkeypatch.setattr(task_groups, "PROBE_UPDATES", 2)
    train(_config(), output=tmp_path / "run", pool=_pool(), progress=False)
    rows = RunFolder(tmp_path / "run").read_log()
    assert rows[0]["teachers_met"] == 2
    assert all({"task_loss", "dispersion", "replay_accuracy"} <= set(row) for row in rows[1:])
    assert all(row["dispersion"] >= 0 for row in rows[1:])
