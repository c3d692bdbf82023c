"""Teachers added to a learner: what stays, what is new, what is written down."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pico import pico_folder
from runs import TINY

from hf_free.config.reading import merge
from hf_free.config.recipes import recipe_values
from hf_free.config.tree import FreeConfig
from hf_free.data.procedural.dead_leaves import dead_leaves
from hf_free.errors import ConfigError, HubError, RunError
from hf_free.learner.meta_learner import MetaLearner
from hf_free.metalearning.continual import PreviousLearner, label_sources, lay_out
from hf_free.runtime.device import Precision
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.soft_labels import label
from hf_free.training.folder import learner_of_run
from hf_free.training.plan import plan
from hf_free.training.trainer import train

LONGER = {
    "trainer": {"steps": 12, "checkpoint_every": 30},
    "memory": {"drawn_per_step": 64, "max_images": 2000},
    "bell": {"batch_size": 64, "updates_per_step": 12},
    "five": {"recover_share": 0.4},
}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("teachers")
    classes = {"a": 3, "b": 4, "c": 5, "d": 70}
    return {
        name: str(pico_folder(root / name, size=16, num_classes=count, seed=seed))
        for seed, (name, count) in enumerate(classes.items())
    }


def _config(models, start=None, **values):
    start = {} if start is None else {"learner": {"init_from": str(start)}}
    return FreeConfig.from_dict(merge(merge(TINY, {"models": models, **start}), values))


@pytest.fixture(scope="module")
def runs(folders, tmp_path_factory):
    """A learner of a and b; c added to it."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("runs")
    train(_config([folders["a"], folders["b"]], **LONGER), output=root / "first")
    train(_config([folders["c"]], root / "first", **LONGER), output=root / "second")
    return root


def _pictures(count=128):
    return dead_leaves(count, 16, generator=torch.Generator().manual_seed(9))


def _error(predicted, wanted):
    """Squared error of centered answers in units of their spread; 1 is what predicting nothing gives."""
    predicted, wanted = (x - x.mean(1, keepdim=True) for x in (predicted, wanted))
    return ((predicted - wanted).square().sum() / wanted.square().sum()).item()


def _answers(folder, pictures):
    with torch.no_grad():
        return MetaLearner.from_pretrained(folder / "learner").raw_answers(pictures)


def test_old_answers_stay_and_new_ones_are_learned(runs, folders):
    pictures = _pictures()
    old, new = _answers(runs / "first", pictures), _answers(runs / "second", pictures)
    assert old.shape == (128, 3 + 4)
    assert new.shape == (128, 3 + 4 + 5)
    # 0.07 and 0.2 where nobody asks the old learner
    assert _error(new[:, :3], old[:, :3]) < 0.03
    assert _error(new[:, 3:7], old[:, 3:7]) < 0.03
    teacher = TeacherPool([folders["c"]])[0]
    with torch.no_grad():
        assert _error(new[:, 7:], teacher.logits(pictures)) < 0.03


def test_old_teachers_are_carried_into_record_and_card(runs):
    first, second = (json.loads((runs / name / "record.json").read_text()) for name in ("first", "second"))
    assert [entry["num_classes"] for entry in second["teachers"]] == [3, 4, 5]
    assert second["teachers"][:2] == first["teachers"]
    assert second["learner"]["answer_sizes"] == [3, 4, 5]
    assert second["answer_outputs"] == [None, None, None]
    assert second["data_free"] is True
    assert sum(second["licenses"].values()) == 3
    card = (runs / "second" / "learner" / "README.md").read_text(encoding="utf-8")
    assert "from 3 pretrained image classifiers" in card
    assert "It continues another learner, learner, which served as a teacher" in card  # the folder's name only
    assert second["teachers_before"] == 2
    assert "The first 2 of the teachers below are the earlier learner's; 1 more was added." in card


def test_a_recipe_of_another_backbone_continues_the_old_one(runs, folders):
    values = merge(recipe_values("paper"), {"models": [folders["c"]], "learner": {"init_from": str(runs / "first")}})
    elder, learner = _continue(FreeConfig.from_dict(values))
    assert (learner.backbone, learner.head) == (elder.learner.config.backbone, elder.learner.config.head)
    chosen = merge(values, {"learner": {"head": "anil"}})
    assert _continue(FreeConfig.from_dict(chosen))[1].head == "anil"


def _continue(config):
    source = str(learner_of_run(Path(config.learner.init_from)))
    return PreviousLearner.load(config.learner, source=source, recipe=config.method)


def _loaded(runs, models, **values):
    config = _config(models, runs / "first", **values)
    elder, learner = _continue(config)
    config = replace(config, learner=learner)
    pool = TeacherPool(models)
    return elder, config, pool, lay_out(pool.records, elder)


def test_the_old_learner_answers_for_those_who_are_not_there(runs, folders):
    elder, _, pool, layout = _loaded(runs, [folders["c"]])
    pictures = (_pictures(20) * 255).to(torch.uint8)
    answers = label(label_sources(pool, layout, elder), pictures, layout, Precision(), batch=7).values.float()
    with torch.no_grad():
        torch.testing.assert_close(
            answers[:, :7], elder.learner.raw_answers(pictures.float() / 255), atol=0.01, rtol=0.01
        )
        torch.testing.assert_close(answers[:, 7:], pool[0].logits(pictures.float() / 255), atol=0.01, rtol=0.01)
    assert layout.columns(0) == slice(7, 12)
    assert (layout.sizes, layout.width) == ([3, 4, 5], 12)


def test_an_old_teacher_listed_again_is_not_doubled_and_answers_itself(runs, folders):
    elder, _, pool, layout = _loaded(runs, [folders["c"], folders["b"]])
    assert (layout.sizes, layout.width) == ([3, 4, 5], 12)
    assert [layout.columns(teacher) for teacher in (0, 1)] == [slice(7, 12), slice(3, 7)]
    pictures = (_pictures(20) * 255).to(torch.uint8)
    answers = label(label_sources(pool, layout, elder), pictures, layout, Precision()).values.float()
    with torch.no_grad():
        old = elder.learner.raw_answers(pictures.float() / 255)
        torch.testing.assert_close(answers[:, :3], old[:, :3], atol=0.01, rtol=0.01)
        torch.testing.assert_close(answers[:, 3:7], pool[1].logits(pictures.float() / 255), atol=0.01, rtol=0.01)
    names = [entry.num_classes for entry in elder.all_teachers(pool.records)]
    assert names == [3, 4, 5]


def test_a_subset_of_a_large_head_keeps_its_outputs(folders, tmp_path):
    train(_config([folders["a"], folders["d"]]), output=tmp_path / "first")
    train(_config([folders["c"], folders["d"]], tmp_path / "first", seed=5), output=tmp_path / "second")
    first, second = (json.loads((tmp_path / name / "record.json").read_text()) for name in ("first", "second"))
    assert first["learner"]["answer_sizes"] == [3, 64]
    assert second["learner"]["answer_sizes"] == [3, 64, 5]
    assert second["answer_outputs"] == [*first["answer_outputs"], None]
    assert len(set(second["answer_outputs"][1])) == 64


def test_nothing_is_lost_before_the_first_step(runs, folders):
    """The new learner starts with the old one's answers to the bit."""
    from hf_free.training.setup import make_learner

    elder, config, pool, layout = _loaded(runs, [folders["c"]])
    grown = make_learner(config.learner, config.bell, pool.records, layout, previous=elder).eval()
    pictures = _pictures(10)
    with torch.no_grad():
        torch.testing.assert_close(grown.raw_answers(pictures)[:, :7], elder.learner.raw_answers(pictures))
    assert grown.mean.flatten().tolist() == elder.learner.mean.flatten().tolist()


def test_settings_are_the_old_learners_unless_others_are_asked_for(runs, folders):
    wanted = {"learner": {"backbone": "conv4_64", "image_size": 32, "head": "ridge"}}  # conv4_64 and 32 are defaults
    _, config, _, _ = _loaded(runs, [folders["c"]], **wanted)
    assert (config.learner.backbone, config.learner.image_size, config.learner.head) == ("conv4_32", 16, "ridge")
    with pytest.raises(ConfigError, match=r"learner.backbone = 'resnet10_small'.*'conv4_32'") as caught:
        _loaded(runs, [folders["c"]], learner={"backbone": "resnet10_small"})
    assert "--set learner.backbone=conv4_32" in str(caught.value)


def test_the_papers_recipe_starts_from_the_backbone(runs, folders, tmp_path):
    align = {"objective": "align", "n_way": 3, "n_query": 2, "replay_tasks": 1, "replay_patience": 1}
    models = [folders["a"], folders["c"]]
    learner = train(_config(models, runs / "first", bell=align), output=tmp_path)
    assert learner.embedding.projection is None
    assert [entry.num_classes for entry in learner.record.teachers] == [3, 4, 5]


def test_the_plan_says_which_teachers_the_learner_has_already(runs, folders):
    notes = plan(_config([folders["a"], folders["c"]], runs / "first"), measure=False).notes
    assert f"the learner has learned from {folders['a']} already: asked again, nothing is added" in notes
    assert not any("already" in note for note in plan(_config([folders["c"]], runs / "first"), measure=False).notes)


def test_a_learner_that_is_not_there(folders, tmp_path):
    with pytest.raises(HubError, match="gone' is a local folder that does not exist"):
        plan(_config([folders["a"]], tmp_path / "gone"), measure=False)


def test_a_run_that_continues_stops_and_resumes(runs, folders, tmp_path):
    config = _config([folders["c"]], runs / "first")
    train(config, output=tmp_path)
    before = (tmp_path / "learner" / "model.safetensors").read_bytes()
    train(FreeConfig.from_yaml(tmp_path / "config.yaml"), output=tmp_path, resume=True)
    assert (tmp_path / "learner" / "model.safetensors").read_bytes() == before


def test_teachers_that_the_learner_knows_already_are_pointed_out(runs, folders, tmp_path, caplog):
    with caplog.at_level("WARNING", logger="hf_free"):
        train(_config([folders["a"], folders["c"]], runs / "first"), output=tmp_path)
    said = [record.message for record in caplog.records if "already" in record.message]
    assert said == [f"the learner has learned from {folders['a']} already: asked again, nothing is added"]


def test_one_new_teacher_is_enough_only_for_a_learner(folders, tmp_path):
    with pytest.raises(RunError, match="fewer than two tasks"):
        train(_config([folders["c"]]), output=tmp_path)
    config = _config([folders["c"]], "timm:test_resnet")
    config = replace(config, learner=replace(config.learner, backbone="test_resnet"))
    with pytest.raises(RunError, match="fewer than two tasks"):
        train(config, output=tmp_path)


def test_a_start_from_timms_weights_is_named_not_data_free(hub, run_client, folders, tmp_path):
    import timm
    from safetensors.torch import save

    with torch.random.fork_rng():
        torch.manual_seed(3)
        weights = timm.create_model("test_resnet").state_dict()
    hub.add_repo("timm/test_resnet.r160_in1k", {"model.safetensors": save(weights), "config.json": b"{}"})
    start = {"backbone": "test_resnet", "image_size": 32, "init_from": "timm:test_resnet"}
    config = _config([folders["a"], folders["b"]], learner=start, trainer={"steps": 2, "warmup_steps": 0})
    (tmp_path / "run.yaml").write_text(config.to_yaml())
    code = f"""
import json, torch; torch.set_num_threads(1)
from dataclasses import replace
from pathlib import Path
from hf_free.config.tree import FreeConfig
from hf_free.evaluation.datasets import LabeledImages
from hf_free.evaluation.evaluate import EpisodeSettings, evaluate
from hf_free.training.trainer import train
run = Path({str(tmp_path / "run")!r})
learner = train(FreeConfig.from_yaml({str(tmp_path / "run.yaml")!r}), output=run)
pictures = LabeledImages(torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8), torch.arange(8) // 4, ["x", "y"])
rows = evaluate(learner, pictures, EpisodeSettings(n_way=2, k_shots=(1,), n_query=2, episodes=2)).rows
card = (run / "learner" / "README.md").read_text()
print(json.dumps([learner.record.data_free, learner.mean.flatten().tolist(), card, rows[0].method]))
"""
    data_free, mean, card, method = run_client(code).json
    assert data_free is False
    assert mean == [0.5, 0.5, 0.5]  # what timm's weights are used to; the teachers have 0.5, 0.4, 0.3
    assert "**Not data-free.** It started from weights that were trained on pictures (timm:test_resnet)" in card
    assert "data-free" not in card.partition("\n---\n")[0]  # no such tag
    assert method == "learner (not data-free)"
