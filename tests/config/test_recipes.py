"""Recipes: one tree of settings each, and the constants that make them what they are."""

from __future__ import annotations

import json
import pickle
from dataclasses import fields, replace
from typing import get_args

import pytest

from hf_free.config.reading import merge
from hf_free.config.recipes import RECIPES, RELEASED_DEFECTS, Defect, Defects, recipe_values
from hf_free.config.sections import BellConfig, FiveConfig, LearnerConfig, TrainerConfig
from hf_free.config.tree import FreeConfig, departures, parse_assignments
from hf_free.errors import ConfigError


def _flat(config):
    return {
        f"{section}.{key}": value
        for section, values in config.to_dict().items()
        if isinstance(values, dict)
        for key, value in values.items()
    }


@pytest.fixture(scope="module")
def recipes():
    return {name: FreeConfig.from_dict(recipe_values(name)) for name in RECIPES}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_a_valid_configuration_with_an_end(recipes, name):
    config = recipes[name]
    assert config.method == name
    assert config.trainer.steps is not None or config.trainer.max_minutes is not None
    assert FreeConfig.from_dict(config.to_dict()) == config


def test_default_is_the_sections_defaults_plus_an_end(recipes):
    default = recipes["default"]
    for section in ("five", "memory", "bell", "learner", "hub"):
        assert getattr(default, section) == type(getattr(default, section))()
    assert default.trainer == TrainerConfig(max_minutes=30.0)
    assert default.defects == []


def test_released_is_paper_with_every_defect(recipes):
    assert _flat(recipes["released"]) == _flat(recipes["paper"])
    assert recipes["paper"].defects == []
    assert sorted(recipes["released"].defects) == sorted(get_args(Defect)) == sorted(RELEASED_DEFECTS)


def test_every_defect_that_can_be_configured_can_be_asked_for():
    assert [field.name for field in fields(Defects)] == list(get_args(Defect))
    assert not any(vars(Defects.named([])).values())
    for name in get_args(Defect):
        assert [key for key, is_on in vars(Defects.named([name])).items() if is_on] == [name]


@pytest.mark.parametrize(
    ("key", "value"),
    [  # the sheet of hyper-parameters of free-method.md, 1.5
        ("trainer.steps", 999),  # its loop begins at 1 and ends before 1000
        ("trainer.warmup_steps", 19),  # `epoch < args.warmup`, 20
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


@pytest.mark.parametrize(
    ("method", "key", "value"),
    [  # completing free-method.md: the peers' code at the commits that hf_free.config.recipes names
        ("purer", "five.pixel_lr", 0.25),
        ("purer", "five.inner_steps", 1),
        ("purer", "five.teachers_per_step", 13),
        ("purer", "five.total_variation", 1e-4),
        ("purer", "five.batchnorm", 0.01),
        ("purer", "bell.objective", "episodes"),
        ("purer", "bell.replay_tasks", 4),
        ("purer", "bell.replay_inner_steps", 1),
        ("purer", "bell.challenge", 10.0),
        ("purer", "bell.challenge_after", 4000),
        ("purer", "bell.replay_patience", 6),
        ("purer", "trainer.steps", 60_000),
        ("tgr", "five.inner_steps", 200),
        ("tgr", "five.inner_lr", 1e-3),
        ("tgr", "five.images_per_class", 30),
        ("tgr", "five.teachers_per_step", 4),
        ("tgr", "bell.objective", "regularize"),
        ("tgr", "bell.groups", 5),
        ("tgr", "bell.dispersion", 1e-3),
        ("tgr", "bell.second_order", True),
        ("tgr", "bell.replay_tasks", 16),
        ("tgr", "bell.replay_patience", 4),
        ("tgr", "trainer.steps", 1200),
    ],
)
def test_peers_have_the_constants_of_their_code(recipes, method, key, value):
    assert _flat(recipes[method])[key] == value


def test_only_default_does_without_class_names(recipes):
    assert {name for name, config in recipes.items() if not config.bell.match_label_names} == {"default"}


@pytest.mark.parametrize(("way", "steps"), [("five", 5), ("generator", 200), ("pixels", 1000)])
@pytest.mark.parametrize("method", RECIPES)
def test_a_way_to_invert_brings_its_number_of_steps_and_what_is_given_wins(method, way, steps):
    config = FreeConfig.from_dict({"method": method, "inversion": way})
    assert (config.inversion, config.five.inner_steps) == (way, steps)
    assert config.five.images_per_class == FreeConfig(method=method).five.images_per_class, "the rest is the method's"
    assert FreeConfig.from_dict(config.to_dict()) == config
    given = FreeConfig.from_dict({"method": method, "inversion": way, "five": {"inner_steps": 7}})
    assert given.five.inner_steps == 7
    assert departures(config.to_dict())["inversion"] == way


def test_no_way_to_invert_leaves_it_to_the_method():
    assert FreeConfig.load(assignments=["inversion=null"]) == FreeConfig()
    assert "inversion" not in departures(FreeConfig().to_dict())
    with pytest.raises(
        ConfigError, match=r"inversion = 'fives'[^$]*'five', 'generator', 'pixels' or 'zero-order'[^$]*--inversion"
    ):
        FreeConfig.from_dict({"inversion": "fives"})


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


# ---- however a configuration is built, its recipe is below it


def _as_typed(recipe, *assignments):
    """The configuration of `hf-free train --method NAME --set ...`."""
    return FreeConfig.load(values={"method": recipe}, assignments=assignments)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_applied_in_every_way_to_name_it(tmp_path, recipes, name):
    path = tmp_path / "run.yaml"
    path.write_text(f"method: {name}\n", encoding="utf-8")
    ways = [FreeConfig(method=name), FreeConfig.from_dict({"method": name}), FreeConfig.from_yaml(path)]
    assert ways == [recipes[name]] * 3
    assert ways == [_as_typed(name)] * 3


def test_what_is_given_wins_over_the_recipe_and_defaults_do_not():
    typed = _as_typed("paper", "five.inner_steps=9", "five.canvas=true", "learner.head=ridge", "trainer.steps=50")
    built = FreeConfig(
        method="paper",
        five=FiveConfig(inner_steps=9, canvas=True),  # true is the default too, and not the paper's
        learner=LearnerConfig(head="ridge"),
        trainer=TrainerConfig(steps=50),
        bell=BellConfig(),  # nothing is given in it
    )
    assert built == typed
    assert (built.five.inner_steps, built.five.canvas, built.five.width) == (9, True, 64)
    assert (built.learner.head, built.learner.backbone, built.bell.objective) == ("ridge", "conv4_32", "align")


def test_null_is_a_value_too():
    config = FreeConfig.from_dict({"method": "paper", "trainer": {"steps": None, "max_minutes": 3}})
    assert (config.trainer.steps, config.trainer.max_minutes) == (None, 3)


@pytest.mark.parametrize("name", RECIPES)
def test_what_was_written_whole_is_read_back_exactly(tmp_path, name):
    path = tmp_path / "config.yaml"
    for config in (_as_typed(name), _as_typed(name, "five.inner_steps=5", "five.width=32", "trainer.steps=null")):
        path.write_text(config.to_yaml(), encoding="utf-8")
        assert FreeConfig.from_yaml(path) == config
        assert FreeConfig.from_dict(config.to_dict()) == config
        assert replace(config, seed=config.seed) == config
        assert pickle.loads(pickle.dumps(config)) == config


def test_layers_come_in_the_order_of_the_command_line(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("method: paper\nseed: 1\ntrainer: {steps: 10, log_every: 7}\n", encoding="utf-8")
    config = FreeConfig.load(path, values={"seed": 2, "trainer": {"steps": 20}}, assignments=["trainer.steps=30"])
    assert (config.seed, config.trainer.steps, config.trainer.log_every) == (2, 30, 7)
    assert config.bell.objective == "align"


@pytest.mark.parametrize("bad", [{"method": "papers"}, {"method": ["paper"]}, {"method": None}])
def test_an_unknown_recipe_is_refused_with_the_rule(bad):
    with pytest.raises(ConfigError, match="allowed: 'default', 'paper', "):
        FreeConfig.from_dict(bad)


# ---- what is said of a run's method is what ran

CHANGES = [
    {},
    {"five": {"inner_steps": 9}},
    {"five": {"canvas": True, "inner_steps": 5}, "learner": {"head": "anil"}, "trainer": {"steps": 3}},
    {"bell": {"objective": "distill"}, "defects": ["last_step_gradient_only"]},
]


@pytest.mark.parametrize("changes", CHANGES)
@pytest.mark.parametrize("name", RECIPES)
def test_recipe_and_departures_are_the_configuration_that_ran(name, changes):
    """A reader who takes the recipe's name and the departures listed has every setting of the method."""
    config = FreeConfig.from_dict({"method": name, **changes})
    rebuilt: dict = {"method": name}
    for key, value in departures(config.to_dict()).items():
        rebuilt = merge(rebuilt, parse_assignments([f"{key}={json.dumps(value)}"]))
    for section in ("five", "memory", "bell", "learner", "defects"):
        assert getattr(FreeConfig.from_dict(rebuilt), section) == getattr(config, section)


def test_a_label_that_does_not_fit_its_settings_is_shown_up():
    """What a recipe once set counts as given when another's name is put on it: the name alone changes nothing."""
    mislabeled = replace(FreeConfig(method="paper"), method="default")
    assert mislabeled.bell.objective == "align"
    found = departures(mislabeled.to_dict())
    assert found["bell.objective"] == "align"
    assert found["five.batchnorm"] == 0.0
    assert replace(FreeConfig(), method="paper").bell.objective == "align"  # of defaults none was given


def test_departures_of_an_older_or_broken_record():
    assert departures({}) == departures({"method": "gone", "five": {"width": 1}}) == {}
    assert departures({"method": "paper", "five": {"width": 8, "of_old": 1}, "bell": None}) == {"five.width": 8}
