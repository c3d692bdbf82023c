"""Ways to invert by name: each halves any method, and adding one is a file and a line."""

from __future__ import annotations

import pytest
import torch
from pico import pico_teacher
from runs import TINY

from hf_free.cli.main import main
from hf_free.config.recipes import INVERSIONS
from hf_free.config.tree import FreeConfig
from hf_free.inversion.five import Five
from hf_free.inversion.per_teacher_generator import PerTeacherGenerator
from hf_free.inversion.pixels import PixelInverter
from hf_free.methods.base import MethodSettings
from hf_free.methods.inversions import INVERSION_WAYS, Inversion, make_pixels, register_inversion
from hf_free.methods.registry import inverter_of, list_inversions
from hf_free.runtime.chains import ONE_CHAIN
from hf_free.runtime.device import Precision
from hf_free.runtime.random_streams import UNSEEDED
from hf_free.teachers.pool import TeacherPool
from hf_free.training.folder import RunFolder
from hf_free.training.trainer import train

KINDS = {"five": Five, "generator": PerTeacherGenerator, "pixels": PixelInverter}


def _made(values: dict) -> object:
    config = FreeConfig.from_dict({**values, "learner": {"image_size": 24, "channels": 1}})
    settings = MethodSettings.of(config)
    return inverter_of(settings)(settings, torch.device("cpu"), Precision(), UNSEEDED, ONE_CHAIN)


def test_each_name_has_its_settings_and_its_facts():
    assert set(INVERSION_WAYS) == set(INVERSIONS)
    assert [way.name for way in list_inversions()] == list(INVERSION_WAYS)
    for way in list_inversions():
        assert way.url.startswith("https://")
        assert any(character.isdigit() for character in way.paper), "a year"
        assert way.needs
    with pytest.raises(ValueError, match="there is an inversion 'five' already"):
        register_inversion(INVERSION_WAYS["five"])


@pytest.mark.parametrize("method", ["default", "paper", "tgr", "purer"])
@pytest.mark.parametrize("name", KINDS)
def test_a_name_takes_the_place_of_the_methods_way(method, name):
    inverter = _made({"method": method, "inversion": name})
    assert isinstance(inverter, KINDS[name])


def test_pixels_and_generators_take_their_steps_and_rate_from_the_configuration():
    pixels = _made({"inversion": "pixels", "five": {"pixel_lr": 0.5}})
    assert (pixels.steps, pixels.lr, pixels.image_size, pixels.channels) == (1000, 0.5, 24, 1)
    generator = _made({"inversion": "generator"})
    assert (generator.steps, generator.five.image_size, generator.five.channels) == (200, 24, 1)


@pytest.mark.parametrize("name", ["generator", "pixels"])
def test_a_run_recovers_with_it_and_its_card_says_so(name, tmp_path):
    torch.set_num_threads(1)
    pool = TeacherPool.from_teachers([pico_teacher("conv4", size=16, num_classes=3, seed=seed) for seed in range(2)])
    values = {**TINY, "inversion": name, "trainer": {**TINY["trainer"], "steps": 2, "warmup_steps": 0}}
    train(FreeConfig.from_dict(values), output=tmp_path / "run", pool=pool, progress=False)
    assert not (tmp_path / "run" / "generator.safetensors").exists()
    assert ("canvas_distance" in RunFolder(tmp_path / "run").read_log()[0]) == (name == "generator")
    card = (tmp_path / "run" / "learner" / "README.md").read_text(encoding="utf-8")
    assert f"`inversion` {name}" in card


def test_a_new_one_is_a_file_and_a_line(capsys):
    way = Inversion(
        name="few-pixels",
        title="pixels, ten steps",
        paper="Nobody: Few Pixels, nowhere 2026",
        url="https://example.org/few",
        needs="gradients",
        make=make_pixels,
        constants={"five": {"inner_steps": 10}},
    )
    register_inversion(way)
    try:
        assert _made({"inversion": "few-pixels"}).steps == 10
        assert main(["methods"]) == 0
        out = capsys.readouterr().out
        assert "--inversion few-pixels" in out
        assert "https://example.org/few" in out
    finally:
        del INVERSION_WAYS["few-pixels"], INVERSIONS["few-pixels"]
