"""What runs of several processes lean on in Accelerate and torch, so that an upgrade that changes it is noticed.

Canaries that need processes stand where these are started: in tests/runtime/test_distributed.py (`Accelerator()` alone
under a launcher, its taking over of a group, nothing wrapped, gloo's time-out and its errors), test_sharding.py
(parts of DTensors, second derivatives of sharded networks) and tests/system/test_several_processes.py (a store that
outlives the attempts of torchrun, and how launchers end).
"""

from __future__ import annotations

from pathlib import Path

import accelerate
import pytest
from accelerate.state import AcceleratorState, GradientState, PartialState
from safetensors.torch import load_file
from torch import nn
from torch.distributed.launcher.api import LaunchConfig

from hf_free.runtime.distributed import SETTINGS
from hf_free.training.launch import STOPPING_SECONDS


@pytest.fixture
def fresh_state():
    """Accelerate reads its environment once; whoever comes next reads it anew."""
    for kind in (AcceleratorState, GradientState, PartialState):
        kind._reset_state()
    yield
    for kind in (AcceleratorState, GradientState, PartialState):
        kind._reset_state()


def test_accelerate_obeys_the_environment_that_is_refused(monkeypatch, fresh_state):
    source = "".join(path.read_text(encoding="utf-8") for path in Path(accelerate.__file__).parent.rglob("*.py"))
    assert not [name for name in SETTINGS if name not in source], "it is called otherwise now"
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    found = accelerate.Accelerator(cpu=True)
    assert (found.mixed_precision, found.gradient_accumulation_steps) == ("bf16", 4)


def test_torch_waits_for_stopping_processes_as_long_as_it_is_told(monkeypatch):
    monkeypatch.delenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", raising=False)
    assert LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=2).shutdown_timeout == 30
    monkeypatch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", STOPPING_SECONDS)
    assert LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=2).shutdown_timeout == 600


class Tied(nn.Module):
    """Two layers with one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
        self.other.weight = self.one.weight


def test_accelerate_saves_networks_under_the_names_that_are_loaded_and_drops_one_of_tied_weights(
    tmp_path, fresh_state
):
    accelerator = accelerate.Accelerator(cpu=True)
    for model in (nn.Linear(2, 3), Tied()):
        accelerator.prepare_model(model, device_placement=False, evaluation_mode=True)
    accelerator.save_state(str(tmp_path), safe_serialization=True)
    assert load_file(tmp_path / "model.safetensors").keys() == {"weight", "bias"}
    assert len(load_file(tmp_path / "model_1.safetensors")) == 1, "a checkpoint need not untie them any more"
