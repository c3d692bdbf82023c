"""The configuration tree: how its layers lie over each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_free.cli.arguments import given_values
from hf_free.config.recipes import recipe_values
from hf_free.config.tree import FreeConfig
from hf_free.errors import ConfigError


def test_settings_given_later_win(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("seed: 1\nmodels: [org/x]\ntrainer: {steps: 10, log_every: 7}\nlearner: {image_size: 40}\n")
    flags = {"seed": 2, "models": None, "trainer": {"steps": 20, "device": None}, "learner": {"backbone": None}}
    settings = FreeConfig.load(path, values=given_values(flags), assignments=["trainer.steps=30", "bell.lr=1e-4"])
    assert (settings.seed, settings.models) == (2, ["org/x"])
    assert (settings.trainer.steps, settings.trainer.log_every) == (30, 7)
    assert (settings.learner.image_size, settings.bell.lr) == (40, 1e-4)


@pytest.mark.parametrize("recipe", ["default", "paper", "released"])
def test_a_recipe_is_the_ground_layer(recipe):
    settings = FreeConfig.load(values={"method": recipe})
    assert settings == FreeConfig.from_dict({**recipe_values(recipe), "method": recipe})


def test_the_recipe_may_come_from_the_file_or_an_assignment(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("method: paper\n")
    assert FreeConfig.load(path).method == "paper"
    assert FreeConfig.load(path, values={"method": "default"}, assignments=["method=released"]).method == "released"


def test_false_and_zero_are_values():
    flags = {"seed": 0, "hub": {"card_images": False, "private": None}}
    settings = FreeConfig.load(values=given_values(flags), assignments=["seed=5"])
    assert (settings.seed, settings.hub.card_images, settings.hub.private) == (5, False, False)


def test_the_tree_refuses_alike_however_it_is_built():
    """What `from_dict` says, the constructor says too, and folders may be paths."""
    for given in ({"seed": -1}, {"method": "papers"}, {"nope": 3}, {"trainer": {"steps": -1}}, {"models": [3]}):
        with pytest.raises(ConfigError) as told:
            FreeConfig(**given)
        with pytest.raises(ConfigError) as read:
            FreeConfig.from_dict(given)
        assert str(told.value) == str(read.value)
    assert FreeConfig(models=[Path("a/b"), "c/d"]).models == ["a/b", "c/d"]


@pytest.mark.parametrize(
    ("assignment", "way"),
    [
        ("inversion=dream", "e.g. --inversion five"),
        ("trainer.max_minutes=nan", "e.g. --max-minutes 30"),
        ("trainer.steps=-1", "give another value with --steps"),
        ("trainer.log_with=[x]", "e.g. --set trainer.log_with='[tensorboard]'"),
        ("five.recover_share=2", "e.g. --set five.recover_share=0.6"),
        ("learner.views=[x]", "e.g. --set learner.views='[identity]'"),
        ("models=abc", "--set models='[VALUE, VALUE]'"),
        ("bell=3", "--set bell.KEY=VALUE"),
    ],
)
def test_the_way_out_names_a_value_that_fits(assignment, way):
    with pytest.raises(ConfigError) as refused:
        FreeConfig.load(assignments=[assignment])
    assert way in refused.value.action
