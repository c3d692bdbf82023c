"""Whole small runs: of networks in memory, of one teacher alone, and of transformers' families."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from pico import pico_folder, pico_network, pico_run
from torch import nn

from hf_free.cli.main import main
from hf_free.config.reading import merge
from hf_free.config.sections import FiveConfig
from hf_free.config.tree import FreeConfig
from hf_free.errors import ConfigError, HubError, LearnerError, RunError
from hf_free.teachers.in_memory import as_teacher
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.transformers_loader import is_installed
from hf_free.training.checkpoint import teachers_to_resume
from hf_free.training.folder import RunFolder
from hf_free.training.pool import pool
from hf_free.training.screening import check_enough
from hf_free.training.setup import prepare
from hf_free.training.state import RunState
from hf_free.training.step import take_step
from hf_free.training.trainer import train

TEN = (
    "beit", "convnext", "deit-two", "dinov2", "efficientnet", "levit", "mobilenet_v2", "resnet", "swin", "vit",
)  # fmt: skip

needs_transformers = pytest.mark.skipif(not is_installed(), reason="the extra transformers is not installed")


def _config(models=(), **changes):
    return FreeConfig.from_dict(merge({**pico_run(), "models": list(models)}, changes))


def test_networks_in_memory_teach_beside_named_teachers_of_both_kinds(tmp_path):
    named = [str(pico_folder(tmp_path / "timm", "conv4", size=16))]
    if is_installed():
        from pico_transformers import pico_folder_of

        named += [str(pico_folder_of(tmp_path / family, family)) for family in ("vit", "resnet")]
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    models = [
        pico_network("conv4", size=16, seed=1),
        as_teacher(nn.Sequential(*layers).eval(), input_size=(3, 16, 16), mean=[0.5] * 3, std=[0.5] * 3),
        *named,
    ]
    learner = train(_config(), models=models, output=tmp_path / "run", progress=False)
    assert [teacher.reference for teacher in learner.record.teachers] == ["(in memory 1)", "(in memory)", *named]
    assert all(torch.isfinite(parameter).all() for parameter in learner.parameters())
    pooled = pool(models[:1], rounds=0)
    assert pooled.backbone(torch.rand(2, 3, 16, 16)).shape[0] == 2
    with pytest.raises(ConfigError, match="which a folder cannot name"):
        pool(models, output=tmp_path / "pooled")


def _own(seed, scale=1.0):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    network[-1].weight.data *= scale
    shown = np.full(3, 0.5, dtype=np.float32)
    return as_teacher(network.eval(), input_size=(3, 16, 16), mean=shown, std=torch.tensor([0.5] * 3), name="mine")


def test_a_run_of_networks_in_memory_goes_on_with_the_same_ones_only(tmp_path, capsys):
    named, run = str(pico_folder(tmp_path / "timm", "conv4", size=16)), tmp_path / "run"
    train(_config(trainer={"steps": 2}), models=[_own(1), named], output=run, progress=False)
    before = sorted((path.name, path.read_bytes()) for path in run.iterdir() if path.is_file())
    assert main(["train", "--resume", "--output", str(run), "--steps", "3"]) == 1
    assert "networks in memory, which no file holds: mine" in capsys.readouterr().err
    records = teachers_to_resume(RunFolder(run), [])
    named_alike = [replace(records[0], reference=named), records[1]]  # its name is that of a folder
    for left_out in (TeacherPool(records), TeacherPool(named_alike)):
        assert [reason for _, reason in left_out.skipped] == [
            "was given as a network in memory, which no file holds (allowed: teachers of the Hub or of folders)"
        ]
    longer = _config(trainer={"steps": 3})
    again = r"(?s)to do:   give all its teachers again, in their order: .*models=\[\.\.\.\], resume=True"
    for models, said in (
        (None, "networks in memory, which no file holds: mine"),
        ([_own(2), named], r"another network than mine \(teacher 1\)"),
        ([_own(1, scale=1.01), named], r"another network than mine \(teacher 1\)"),
        ([_own(1), _own(2)], r"another network than mine \(teacher 2\)"),
        ([named, _own(1)], "another network than"),
        ([_own(1), named, _own(2)], "begun with 2 teachers, and 3"),
    ):
        with pytest.raises(RunError, match=said) as raised:
            train(longer, models=models, output=run, resume=True, progress=False)
        assert re.search(again, str(raised.value))
    assert sorted((path.name, path.read_bytes()) for path in run.iterdir() if path.is_file()) == before
    learner = train(longer, models=[_own(1), named], output=run, resume=True, progress=False)
    assert learner.record.training.steps == 3


def test_a_folder_beside_networks_in_memory_has_to_be_as_it_was(tmp_path):
    folder, run = pico_folder(tmp_path / "timm", "conv4", size=16), tmp_path / "run"
    train(_config(trainer={"steps": 2}), models=[_own(1), str(folder)], output=run, progress=False)
    pico_folder(tmp_path / "timm", "conv4", size=16, seed=5)
    with pytest.raises(RunError, match=r"another network than .*\(teacher 2\)"):
        train(_config(trainer={"steps": 3}), models=[_own(1), str(folder)], output=run, resume=True, progress=False)


def test_a_pooled_learner_of_named_networks_in_memory_is_neither_saved_nor_published(tmp_path):
    learner = pool([_own(1), str(pico_folder(tmp_path / "timm", "conv4", size=16))], rounds=0)
    with pytest.raises(LearnerError, match="networks in memory cannot be saved: mine"):
        learner.save_pretrained(tmp_path / "saved")
    with pytest.raises(HubError, match=r"(?s)networks in memory cannot be published: mine\n.*save_teacher"):
        learner.push_to_hub("me/pooled", token="hf_x")


@pytest.mark.parametrize("kind", ["timm", pytest.param("transformers", marks=needs_transformers)])
def test_a_teacher_of_many_classes_alone_is_many_tasks(kind, tmp_path):
    if kind == "timm":
        folder = pico_folder(tmp_path / "one", "conv4", num_classes=60, size=16)
    else:
        from pico_transformers import pico_folder_of

        folder = pico_folder_of(tmp_path / "one", "vit", num_classes=60)
    config = _config([str(folder)], memory={"max_images": 400}, trainer={"steps": 8})
    run = prepare(config, RunFolder(tmp_path / "run"))
    for step in (1, 2, 3):
        run.state.step = step
        run.streams.begin(step)
        take_step(run, {})
    tasks = 20  # classes of each
    assert len(run.memory.classes) > tasks + 5, "each task is of classes drawn anew"
    assert {key.teacher for key in run.memory.classes} == {0}


def test_few_classes_alone_are_one_task():
    from pico import pico_teacher

    few = TeacherPool.from_teachers([pico_teacher("conv4", num_classes=39, size=16)])
    with pytest.raises(RunError, match="fewer than two tasks: 1 usable") as told:
        check_enough(few, RunState(), 2, 20)
    assert "one of 40 classes" in told.value.allowed
    check_enough(TeacherPool.from_teachers([pico_teacher("conv4", num_classes=40, size=16)]), RunState(), 2, 20)


@needs_transformers
@pytest.mark.long
@pytest.mark.parametrize("family", TEN)
def test_transformers_families_through_a_whole_run(family, tmp_path):
    from pico_transformers import pico_folder_of

    folders = [str(pico_folder_of(tmp_path / str(seed), family, seed=seed)) for seed in (0, 1)]
    learner = train(_config(folders), output=tmp_path / "run", progress=False)
    assert len(learner.record.teachers) == 2
    assert {teacher.as_loaded().timm_version for teacher in learner.record.teachers} == {""}
    assert all(torch.isfinite(parameter).all() for parameter in learner.parameters())


@needs_transformers
def test_a_pooled_learner_of_transformers_is_opened_again_with_its_files(tmp_path):
    from pico_transformers import pico_folder_of

    from hf_free.learner.meta_learner import MetaLearner

    folders = [pico_folder_of(tmp_path / family, family) for family in ("vit", "resnet")]
    for folder in folders:
        (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    made = pool(
        [str(folder) for folder in folders], output=tmp_path / "pooled", include_weights=True, rounds=0,
        five=FiveConfig(**pico_run()["five"]),
    )  # fmt: skip
    for folder in folders:
        (folder / "config.json").unlink()
    made.save_pretrained(tmp_path / "copy")
    opened = MetaLearner.from_pretrained(tmp_path / "copy")
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(opened.backbone(images), made.backbone(images))
