"""The plan of a run: what is pulled, how long it is, what it costs by hand arithmetic, what is pointed out."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from functools import partial

import pytest
from pico import constant_folder, pico_files, pico_folder
from rich.console import Console
from runs import TINY
from torch import nn

from hf_free.cli.tables import plan_tables
from hf_free.config.reading import merge
from hf_free.config.recipes import recipe_values
from hf_free.config.sections import LearnerConfig
from hf_free.config.tree import FreeConfig
from hf_free.errors import ConfigError, HubError, LearnerError, RunError
from hf_free.learner.embedding import Embedding
from hf_free.learner.meta_learner import MetaLearner
from hf_free.training.plan import plan as measured_plan

plan = partial(measured_plan, measure=False)


def _config(**values):
    small = {"five": {"latent_dim": 16, "width": 8}, "learner": {"backbone": "conv4_32", "image_size": 32}}
    return FreeConfig.from_dict(merge(small, values))


def _conv4(width, classes, size=32):
    """Multiply-accumulates of a Conv-4 for one picture."""
    products, channels, side = 0, 3, size
    for _ in range(4):
        products, channels, side = products + side * side * 9 * channels * width, width, side // 2
    return products + width * side * side * classes


def _shown(planned, width=200):
    console = Console(file=io.StringIO(), width=width)
    console.print(plan_tables(planned))
    return console.file.getvalue()


def test_plan_of_a_learner_that_is_continued(tmp_path):
    settings = LearnerConfig(backbone="conv4_32", image_size=32)
    MetaLearner(settings, embedding=Embedding(nn.Linear(128, 7), [3, 4])).save_pretrained(tmp_path / "old")
    models = [str(pico_folder(tmp_path / "new", num_classes=5))]
    values = {"models": models, "learner": {"init_from": str(tmp_path / "old")}, "trainer": {"max_minutes": 1}}
    planned = plan(FreeConfig.from_dict(merge(values, {"bell": {"batch_size": 6}})))
    assert planned.cost.bell_update == 6 * 6 * _conv4(32, 7 + 5)
    assert planned.cost.one_answer == 2 * (_conv4(8, 5) + _conv4(32, 7))


def test_plan_of_folders(tmp_path):
    folders = [str(pico_folder(tmp_path / kind, kind)) for kind in ("conv4", "vit")]
    (tmp_path / "conv4" / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    models = [*folders, str(constant_folder(tmp_path / "constant"))]
    values = merge(recipe_values("paper"), {"models": models, "trainer": {"device": "cpu", "mixed_precision": "no"}})
    planned = plan(_config(**values))
    assert [record.architecture for record in planned.teachers] == ["conv4_32", "test_vit"]
    assert [reference for reference, _ in planned.skipped] == [models[2]]
    assert (planned.steps, planned.max_minutes, planned.mixed_precision) == (999, None, "no")
    assert planned.total_flops == planned.cost.total(999, 1.0)
    written = json.loads(json.dumps(planned.to_dict()))
    assert written["teachers"][0]["normalization"] == {"BatchNorm2d": 4}
    assert written["cost"]["five_images"] == 200
    text = _shown(planned)
    for part in ("999 outer steps", "LayerNorm", "constant output", "cc-by-nc-4.0"):
        assert part in text
    assert f"non-commercial license: {folders[0]} (cc-by-nc-4.0)" in planned.notes[0]
    assert f"no license stated: {folders[1]};" in planned.notes[1]


@pytest.mark.parametrize(
    ("start", "way_out"),
    [
        ("timm:test_resne", "did you mean timm:test_resnet"),
        ("timm:resnet10t.a1", "did you mean timm:resnet10t.c3_in1k"),
        ("timm:conv4_32", "timm.list_pretrained"),
    ],
)
def test_a_start_that_timm_has_no_weights_for(start, way_out):
    with pytest.raises(LearnerError, match=f"{start}': timm publishes no weights") as caught:
        plan(_config(models=["org/a", "org/b"], learner={"init_from": start}))
    assert way_out in str(caught.value)


def test_weights_of_another_backbone_are_refused_before_any_teacher_is_fetched():
    with pytest.raises(ConfigError, match="has the weights of a 'test_resnet'") as caught:
        plan(_config(models=["org/a", "org/b"], learner={"init_from": "timm:test_resnet.r160_in1k"}))
    assert "--backbone test_resnet" in str(caught.value)


def test_a_validation_set_is_looked_at_before_the_run(tmp_path):
    values = {"models": ["org/a", "org/b"], "trainer": {"validation_dataset": "org/c", "validation_split": "test"}}
    with pytest.raises(ConfigError, match="it is named test"):
        plan(_config(**values))


def test_fewer_than_two_usable_teachers(tmp_path):
    (tmp_path / "empty").mkdir()
    models = [str(pico_folder(tmp_path / "one")), str(constant_folder(tmp_path / "constant"))]
    with pytest.raises(RunError, match=r"(?s)fewer than two tasks: 1 usable.*constant output.*hf-free inspect"):
        plan(_config(models=models))
    with pytest.raises(HubError, match=r"empty has no config.json"):
        plan(_config(models=[*models, str(tmp_path / "empty")]))


def test_what_a_repository_says_is_neither_markup_nor_a_command(tmp_path):
    models = [str(pico_folder(tmp_path / f"t{seed}", seed=seed)) for seed in range(2)]
    planned = plan(_config(models=models))
    strange = replace(planned.teachers[0], license="[bold]x[/bold]\x1b[2J")
    text = _shown(replace(planned, teachers=(strange, *planned.teachers[1:])))
    assert "[bold]x[/bold]" in text
    assert "\x1b" not in text


def test_plan_fits_eighty_columns(tmp_path):
    models = [str(pico_folder(tmp_path / f"teacher-{seed}", seed=seed)) for seed in range(2)]
    planned = plan(_config(models=models))
    for name, license_, heading in (
        ("org/a", "mit", "License"),
        ("organization/convnextv2_tiny.fcmae_ft_in22k", "cc-by-nc-4.0", "License:"),  # no frame has room for it
    ):
        named = replace(planned.teachers[0], reference=name, license=license_)
        rows = [row.rstrip() for row in _shown(replace(planned, teachers=(named,), notes=()), 80).splitlines()]
        assert max(map(len, rows)) <= 80
        assert {name, license_, heading} <= {word.strip(",;") for row in rows for word in row.split()}, "cut"


def test_dry_run_over_http_trains_nothing(hub, tokens, run_client, tmp_path):
    card = {"README.md": b"---\nlicense: mit\n---\n"}
    commit = hub.add_repo("alice/plan-open", {**pico_files("conv4"), **card})
    hub.add_repo("alice/plan-private", {**pico_files("resnet"), **card}, private=True)
    argv = [sys.executable, "-m", "hf_free.cli.main", "train", "--models", "alice/plan-open", "alice/plan-private"]
    small = ["five.images_per_class=2", "memory.drawn_per_step=4", "bell.batch_size=8"]  # its parts are measured
    argv += ["--image-size", "16", "--set", *small]
    done = run_client([*argv, "--dry-run", "--json", "--steps", "50"], token=tokens["alice"], cwd=tmp_path)
    planned = json.loads(done.stdout)
    assert planned["teachers"][0]["commit"] == commit
    assert [teacher["license"] for teacher in planned["teachers"]] == ["mit", "mit"]
    assert planned["total_flops"] > 50 * planned["cost"]["bell_update"]
    assert planned["peak_memory"] > planned["cost"]["memory_bytes"] > 0
    assert planned["step_seconds"] > 0
    assert planned["predicted_steps"] == 50
    private, pooling = planned["notes"]
    assert private == "private or gated: alice/plan-private; not named in the card (see hub.name_private_teachers)"
    assert "a pooled learner of these teachers is likely to be the most accurate" in pooling
    assert not (tmp_path / "runs").exists()
    refused = run_client([*argv, "--dry-run"], cwd=tmp_path, home=tmp_path / "nobody", check=False)
    assert refused.returncode == 1
    assert "alice/plan-private does not exist" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_plan_for_several_processes_measures_one_processs_share(tmp_path):
    models = [str(pico_folder(tmp_path / f"t{seed}", size=16, num_classes=3, seed=seed)) for seed in range(2)]
    config = FreeConfig.from_dict(merge(TINY, {"models": models, "trainer": {"threads": 1}}))
    planned = measured_plan(config, processes=2)
    assert planned.processes == planned.to_dict()["processes"] == 2
    assert planned.step_seconds > 0
    shown = _shown(planned)
    assert "2 processes, each on cpu" in shown
    assert "in one process; what they say to each other comes on top" in shown
    assert "in each process at its peak" in shown
    with pytest.raises(RunError, match="3 chains of work for 2 teachers"):
        plan(FreeConfig.from_dict(merge(config.to_dict(), {"five": {"teachers_per_step": 3}})), processes=3)
    with pytest.raises(RunError, match="chains is 1, and there are 2 processes"):
        plan(FreeConfig.from_dict(merge(config.to_dict(), {"trainer": {"chains": 1}})), processes=2)
