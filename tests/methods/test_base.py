"""A method is its two halves: another inverter in one of them, and a run recovers with that."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest
import torch
from pico import pico_teacher
from runs import TINY

from hf_free.config.tree import FreeConfig
from hf_free.inversion.pixels import PixelInverter
from hf_free.methods.base import MethodSettings
from hf_free.methods.registry import METHODS
from hf_free.runtime.chains import Chains
from hf_free.runtime.device import Precision
from hf_free.runtime.random_streams import RandomStreams
from hf_free.teachers.pool import TeacherPool
from hf_free.training.folder import RunFolder
from hf_free.training.trainer import train


def make_pixels(
    settings: MethodSettings, device: torch.device, precision: Precision, streams: RandomStreams, chains: Chains
) -> PixelInverter:
    size, channels = settings.learner.image_size, settings.learner.channels
    return PixelInverter(
        settings.five,
        image_size=size,
        channels=channels,
        device=device,
        precision=precision,
        steps=settings.five.inner_steps,
        streams=streams,
        chains=chains,
    )


def test_another_half_makes_another_method(monkeypatch, tmp_path):
    torch.set_num_threads(1)
    monkeypatch.setitem(METHODS, "default", replace(METHODS["default"], inverter=make_pixels))
    pool = TeacherPool.from_teachers([pico_teacher("conv4", size=16, num_classes=3, seed=seed) for seed in range(2)])
    config = FreeConfig.from_dict({**TINY, "trainer": {**TINY["trainer"], "steps": 3}})
    learner = train(config, output=tmp_path / "run", pool=pool, progress=False)
    rows = RunFolder(tmp_path / "run").read_log()
    assert "answers" in rows[-1]
    assert "cross_entropy" in rows[0]
    assert "canvas_distance" not in rows[0]  # pixels are painted over nothing
    assert not (tmp_path / "run" / "generator.safetensors").exists()
    assert (tmp_path / "run" / "learner" / "model.safetensors").is_file()
    assert learner.record.recovered.tasks > 0


def test_facts_do_not_change():
    with pytest.raises(FrozenInstanceError):
        METHODS["paper"].name = "other"  # type: ignore[misc]
