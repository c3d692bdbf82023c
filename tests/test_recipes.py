"""Recipes: one tree of settings each, and the constants that make them what they are."""

from __future__ import annotations

from typing import get_args

import pytest

from hf_free.config import Defect, FreeConfig, RecipeName
from hf_free.recipes import RELEASED_DEFECTS, recipe_values


def _flat(config):
    return {
        f"{section}.{key}": value
        for section, values in config.to_dict().items()
        if isinstance(values, dict)
        for key, value in values.items()
    }


@pytest.fixture(scope="module")
def recipes():
    return {name: FreeConfig.from_dict(recipe_values(name)) for name in get_args(RecipeName)}


@pytest.mark.parametrize("name", get_args(RecipeName))
def test_every_recipe_is_a_valid_configuration_with_an_end(recipes, name):
    config = recipes[name]
    assert config.recipe == name
    assert config.trainer.steps is not None or config.trainer.max_minutes is not None
    assert FreeConfig.from_dict(config.to_dict()) == config


def test_default_is_the_configurations_defaults_plus_an_end(recipes):
    differing = {key for key, value in _flat(recipes["default"]).items() if value != _flat(FreeConfig())[key]}
    assert differing == {"trainer.max_minutes"}
    assert recipes["default"].defects == []


def test_released_is_paper_with_every_defect(recipes):
    assert _flat(recipes["released"]) == _flat(recipes["paper"])
    assert recipes["paper"].defects == []
    assert sorted(recipes["released"].defects) == sorted(get_args(Defect)) == sorted(RELEASED_DEFECTS)


@pytest.mark.parametrize(
    ("key", "value"),
    [  # the sheet of hyper-parameters of free-method.md, 1.5
        ("trainer.steps", 1000),
        ("trainer.warmup_steps", 20),
        ("five.teachers_per_step", 4),
        ("five.images_per_class", 20),
        ("five.inner_steps", 5),
        ("five.inner_lr", 1e-3),
        ("five.latent_lr", 1e-3),
        ("five.outer_lr", 1e-3),
        ("five.cross_entropy", 1.0),
        ("five.adversarial", 1.0),
        ("five.batchnorm", 0.0),
        ("five.latent_dim", 256),
        ("five.width", 64),
        ("five.conditional", False),
        ("five.canvas", False),
        ("bell.objective", "align"),
        ("bell.inner_lr", 1e-3),
        ("bell.lr", 1e-3),
        ("bell.replay_inner_steps", 5),
        ("bell.replay_inner_lr", 0.01),
        ("bell.replay_tasks", 10),
        ("bell.replay_patience", 10),
        ("bell.n_query", 15),
        ("bell.match_label_names", True),
        ("learner.backbone", "conv4_32"),
        ("memory.max_images", 400 * 64),
    ],
)
def test_paper_has_the_published_constants(recipes, key, value):
    assert _flat(recipes["paper"])[key] == value


def test_only_paper_and_released_rely_on_class_names(recipes):
    assert {name: config.bell.match_label_names for name, config in recipes.items()} == {
        "default": False,
        "paper": True,
        "released": True,
    }


def test_one_call_does_not_leak_into_the_next():
    values = recipe_values("released")
    values["five"]["inner_steps"] = 99
    values["defects"].clear()
    assert recipe_values("released")["five"]["inner_steps"] == 5
    assert recipe_values("released")["defects"]
    assert recipe_values("paper")["five"]["inner_steps"] == 5


def test_an_unknown_recipe():
    with pytest.raises(KeyError, match="papers"):
        recipe_values("papers")


def test_a_single_name_stands_for_a_list_of_it():
    config = FreeConfig.from_dict({"defects": "store_last_teacher_only", "learner": {"views": "identity"}})
    assert (config.defects, config.learner.views) == (["store_last_teacher_only"], ["identity"])
