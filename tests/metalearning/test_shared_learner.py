"""A learner whose weights two processes share out: the run is that of two chains with whole learners."""

from __future__ import annotations

import copy

import pytest
import torch
from pico import pico_folder
from ranks import run_ranks
from runs import TINY
from torch import nn

from hf_free.config.reading import merge
from hf_free.config.tree import FreeConfig
from hf_free.errors import ConfigError
from hf_free.metalearning.shared_learner import load_moments, whole_moments
from hf_free.training.folder import RunFolder
from hf_free.training.setup import gather
from hf_free.training.trainer import train

# Muon turns rounding into whole directions where a gradient has none: sums in another order are compared without it.
BELL = {"matrix_lr": 0.0, "shard_learner": True, "gradient_accumulation_steps": 2, "max_grad_norm": 0.5}


def test_moments_are_given_back_to_another_optimizer():
    weights = [nn.Parameter(torch.rand(3, 2)), nn.Parameter(torch.rand(2))]
    first, second = (torch.optim.AdamW(parameters, fused=True) for parameters in (weights, copy.deepcopy(weights)))
    for optimizer in (first, second):
        for parameter in optimizer.param_groups[0]["params"]:
            parameter.grad = torch.ones_like(parameter)
    first.step()
    load_moments(second, whole_moments(first))
    with torch.no_grad():
        for target, source in zip(second.param_groups[0]["params"], weights, strict=True):
            target.copy_(source)
    for optimizer in (first, second):
        optimizer.step()
    assert all(torch.equal(*pair) for pair in zip(weights, second.param_groups[0]["params"], strict=True))
    load_moments(second, {})  # a run that has not learned yet
    assert whole_moments(second) == {}


@pytest.mark.parametrize("objective", ["align", "regularize", "episodes", "bilevel"])
def test_objectives_with_second_derivatives_refuse_to_share_out_and_fp16(objective):
    bell = {"objective": objective, "shard_learner": True}
    with pytest.raises(ConfigError, match=f"'{objective}'.*gradients of gradients") as refused:
        gather(FreeConfig.from_dict(merge(TINY, {"bell": bell})))
    assert "shard_learner=false" in refused.value.action
    values = {"bell": {"objective": objective}, "trainer": {"mixed_precision": "fp16"}}
    with pytest.raises(ConfigError, match=f"fp16.*'{objective}'.*scale"):
        gather(FreeConfig.from_dict(merge(TINY, values)))


def test_two_chains_in_one_of_two_processes_and_compiling_are_refused():
    from hf_free.config.sections import BellConfig
    from hf_free.training.sharing import check_shared_learner

    check_shared_learner(BellConfig(shard_learner=True), 2, 2)
    check_shared_learner(BellConfig(shard_learner=True), 2, 1)  # resumed in one process, which has all of it
    with pytest.raises(ConfigError, match=r"trainer\.compile"):
        check_shared_learner(BellConfig(shard_learner=True), 2, 2, compiles=True)
    with pytest.raises(ConfigError, match="4 chains in 2 processes"):
        check_shared_learner(BellConfig(shard_learner=True), 4, 2)


SESSION = """
import sys
from pathlib import Path
from hf_free.config.tree import FreeConfig
from hf_free.runtime.interrupts import Stopped
from hf_free.training import trainer
import hf_free.training.finishing as finishing
from hf_free.runtime import sharding
finishing.draw_pictures = lambda *args: None
finishing.draw_heterogeneity = lambda *args, **options: None
sharding.LEAST_PARAMETERS = 1000

root = Path(sys.argv[1])
trainer.train(FreeConfig.from_yaml(root / "run.yaml"), output=root / "whole")
steps = []
def stop(learner, minutes):
    steps.append(minutes)
    if len(steps) == 4:
        raise Stopped
try:
    trainer.train(FreeConfig.from_yaml(root / "run.yaml"), output=root / "stopped", watch=stop)
except Stopped:
    pass
trainer.train(FreeConfig.from_yaml(root / "run.yaml"), output=root / "stopped", resume=True)
half = FreeConfig.load(root / "run.yaml", assignments=["trainer.mixed_precision=fp16", "trainer.steps=4"])
trainer.train(half, output=root / "half")
"""


@pytest.mark.long
def test_runs_with_shares_of_a_learner_are_those_with_whole_ones(forks, tmp_path):
    """Runs in two processes: one whole, one stopped and resumed, one in fp16; then all again in one process."""
    zoo = [str(pico_folder(tmp_path / f"t{seed}", size=16, num_classes=3, seed=seed)) for seed in range(2)]
    values = merge(TINY, {"models": zoo, "bell": BELL, "five": {"inner_steps": 2}})
    (tmp_path / "run.yaml").write_text(FreeConfig.from_dict(values).to_yaml(), encoding="utf-8")
    ended = run_ranks(forks, SESSION, str(tmp_path))
    assert [one.returncode for one in ended] == [0, 0], ended

    rows = {name: RunFolder(tmp_path / name).read_log() for name in ("whole", "stopped", "half")}
    learned = {
        name: {row["step"]: row["answers"] for row in found if "answers" in row} for name, found in rows.items()
    }
    assert learned["stopped"].items() <= learned["whole"].items()  # the step in which it was stopped has no line
    assert max(learned["stopped"]) == max(learned["whole"]) == 6
    assert learned["half"][2] == pytest.approx(learned["whole"][2], rel=0.05)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    whole = merge(values, {"bell": {"shard_learner": False}, "trainer": {"chains": 2}})
    alike = train(FreeConfig.from_dict(whole), output=tmp_path / "one")
    torch.set_num_threads(threads)
    found = {row["step"]: row["answers"] for row in RunFolder(tmp_path / "one").read_log() if "answers" in row}
    assert found == pytest.approx(learned["whole"], rel=1e-4)
    from hf_free.learner.meta_learner import MetaLearner

    shared = MetaLearner.from_pretrained(tmp_path / "whole" / "learner")
    images = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(shared.embed(images), alike.embed(images), atol=1e-3)
