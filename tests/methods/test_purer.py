"""PURER's halves, connected: the pixels of all teachers, and a learner that makes them harder."""

from __future__ import annotations

import pytest
import torch
from pico import pico_teacher
from runs import TINY

from hf_free.config.reading import merge
from hf_free.config.tree import FreeConfig
from hf_free.errors import ConfigError
from hf_free.inversion.learned_pixels import LearnedPixels
from hf_free.metalearning.episodes import Episodes
from hf_free.methods.purer import PURER, let_learner_challenge, make_learned_pixels
from hf_free.runtime.chains import Chains
from hf_free.runtime.device import Precision
from hf_free.teachers.pool import TeacherPool
from hf_free.training.folder import RunFolder
from hf_free.training.setup import assemble, gather
from hf_free.training.trainer import train


def _pool() -> TeacherPool:
    torch.set_num_threads(1)
    return TeacherPool.from_teachers([pico_teacher("conv4", size=16, num_classes=3, seed=seed) for seed in range(2)])


def _config(**values: object) -> FreeConfig:
    small = {
        "method": "purer",
        "bell": {"replay_tasks": 1, "n_way": 3, "n_query": 2, "updates_per_step": 1, "challenge_after": 1},
        "five": {"recover_share": 1.0, "inner_steps": 1},
        "trainer": {"steps": 4, "warmup_steps": 0},
    }
    return FreeConfig.from_dict(merge(merge(TINY, small), values))


def test_its_halves_know_each_other_and_all_teachers():
    parts = assemble(gather(_config(), pool=_pool(), is_planned=True))
    assert isinstance(parts.inverter, LearnedPixels)
    assert isinstance(parts.objective, Episodes)
    assert parts.inverter.challenge == parts.objective.challenge
    assert len(parts.inverter.modules()["pixels"]) == 2


@pytest.mark.parametrize("values", [{"inversion": "pixels"}, {"bell": {"objective": "align"}}])
def test_either_half_may_be_anothers(values):
    parts = assemble(gather(_config(**values), pool=_pool(), is_planned=True))
    assert getattr(parts.inverter, "challenge", None) is None


def test_several_chains_are_refused_by_name():
    with pytest.raises(ConfigError, match="purer with 2 chains"):
        make_learned_pixels(_config(), torch.device("cpu"), Precision(), chains=Chains(2))


def test_the_curriculum_changes_what_is_recovered(tmp_path):
    seen = []
    for factor in (0.0, 10.0):
        config = _config(bell={"challenge": factor})
        train(config, output=tmp_path / str(factor), pool=_pool(), progress=False)
        rows = RunFolder(tmp_path / str(factor)).read_log()
        seen.append([row["cross_entropy"] for row in rows])
    assert seen[0][:2] == seen[1][:2], "off until the first update is done and noted"
    assert seen[0][2:] != seen[1][2:]


def test_a_run_reaches_the_first_switch_and_those_after_a_stall(tmp_path):
    config = _config(bell={"challenge_after": 2, "replay_patience": 1}, trainer={"steps": 8, "log_every": 1})
    train(config, output=tmp_path / "run", pool=_pool(), progress=False)
    rows = RunFolder(tmp_path / "run").read_log()
    best, expected = None, [0, 1]
    for row in rows[2:]:  # by the rule of its code, from the accuracies that the run had
        is_better = best is None or row["replay_accuracy"] > best
        best = row["replay_accuracy"] if is_better else None
        expected.append(int(not is_better))
    assert [row["made_harder"] for row in rows] == expected
    assert sum(expected) > 1


def test_its_departures_name_what_is_switched_and_how():
    assert any("calibration_steps=0" in departure for departure in PURER.departures)
    assert PURER.connect is let_learner_challenge
