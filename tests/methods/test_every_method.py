"""One suite for every method: its facts, and two steps of a run that stop and go on to the bit."""

from __future__ import annotations

import json
import math

import pytest
import torch
from pico import pico_teacher
from runs import TINY
from safetensors.torch import load_file

from hf_free.config.reading import merge
from hf_free.config.recipes import RECIPES
from hf_free.config.tree import FreeConfig
from hf_free.metalearning import task_groups
from hf_free.methods.registry import METHODS, list_methods
from hf_free.teachers.pool import TeacherPool
from hf_free.training.folder import RunFolder
from hf_free.training.trainer import train

SMALL = {
    "trainer": {"steps": 3, "checkpoint_every": 1},
    "bell": {
        "replay_tasks": 1,
        "replay_patience": 1,
        "n_way": 3,
        "n_query": 2,
        "match_label_names": False,
        "challenge_after": 1,
    },
    "learner": {"image_size": 16},
    "queries": {"directions": 4},
}


@pytest.fixture(params=METHODS)
def name(request, monkeypatch) -> str:
    monkeypatch.setattr(task_groups, "PROBE_UPDATES", 2)
    torch.set_num_threads(1)
    return request.param


def config_of(name: str, **trainer: object) -> FreeConfig:
    return FreeConfig.from_dict({"method": name, **merge(TINY, merge(SMALL, {"trainer": trainer}))})


def pool() -> TeacherPool:
    """With BatchNorm and without."""
    kinds = enumerate(("conv4", "vit", "conv4"))
    return TeacherPool.from_teachers([pico_teacher(kind, size=16, num_classes=3, seed=seed) for seed, kind in kinds])


def test_every_recipe_has_its_method():
    assert set(METHODS) == set(RECIPES)
    assert [method.name for method in list_methods()] == list(METHODS)


def test_a_method_says_what_it_is(name):
    method = METHODS[name]
    assert len(method.title) > 20
    assert "\n" not in method.title
    assert any(character.isdigit() for character in method.paper), "a year"
    assert method.url.startswith("https://")
    assert method.needs
    assert all(departure.strip() for departure in method.departures)


def test_its_halves_can_be_asked_for_what_a_run_needs(name):
    _, objective, inverter = _trained_parts(name)
    assert isinstance(objective.asks_teachers, bool)
    assert isinstance(objective.needs_new_tasks, bool)
    assert set(inverter.modules()).isdisjoint(objective.modules())
    assert objective.optimizers()


def _trained_parts(name: str):
    from hf_free.training.setup import assemble, gather

    parts = assemble(gather(config_of(name), pool=pool(), is_planned=True))
    return parts.learner, parts.objective, parts.inverter


def test_steps_log_finite_named_terms_and_a_stop_changes_nothing(name, tmp_path):
    whole = train(config_of(name), output=tmp_path / "whole", pool=pool(), progress=False)
    rows = RunFolder(tmp_path / "whole").read_log()
    assert [row["step"] for row in rows] == [1, 2, 3]
    learned = set(rows[-1]) - {"step", "minutes", "memory"}
    assert {"cross_entropy", "teacher_accuracy", "diversity"} <= learned
    assert all(math.isfinite(value) for row in rows for value in row.values())
    record = json.loads((tmp_path / "whole" / "record.json").read_text())
    assert record["config"]["method"] == name
    assert METHODS[name].title in (tmp_path / "whole" / "learner" / "README.md").read_text(encoding="utf-8")

    def cut(learner: object, minutes: float) -> None:
        if len(RunFolder(tmp_path / "cut").read_log()) == 2:
            raise SystemError("power cut")

    with pytest.raises(SystemError):
        train(config_of(name), output=tmp_path / "cut", pool=pool(), progress=False, watch=cut)
    train(config_of(name), output=tmp_path / "cut", pool=pool(), progress=False, resume=True)
    one, other = (load_file(tmp_path / run / "learner" / "model.safetensors") for run in ("whole", "cut"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert whole.config.image_size == 16
