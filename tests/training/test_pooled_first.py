"""`trainer.pool_first`: strong teachers are pooled, and one network learns from that."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from pico import pico_folder
from rich.console import Console

from hf_free import ConfigError, FreeConfig, MetaLearner, RunError, distill, pool, train
from hf_free.cli.main import main
from hf_free.cli.tables import plan_tables
from hf_free.evaluation import flops
from hf_free.pooling.imitation import PictureBank
from hf_free.runtime.interrupts import Stopped
from hf_free.teachers.loader import load_teacher
from hf_free.training.asking_time import RATES
from hf_free.training.folder import RunFolder, learner_of_run
from hf_free.training.plan import plan
from hf_free.training.pooled_first import pools_first

FIVE = {"images_per_class": 2, "latent_dim": 8, "width": 4, "inner_steps": 1}
READ = """
from hf_free import FreeConfig
from hf_free.training.pooled_first import pools_first
for pair in {pairs}:
    print(pools_first(FreeConfig.from_dict(dict(models=pair.split()))))
"""
SHORT = {"max_minutes": 0.02, "device": "cpu", "pool_first": True}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("teachers")
    kinds = {"strong": (16, 10), "weak": (16, 3), "other": (16, 4), "large": (96, 12)}
    return {
        name: str(pico_folder(root / name, size=size, num_classes=classes)) for name, (size, classes) in kinds.items()
    }


@pytest.fixture(autouse=True)
def _few_pictures(monkeypatch):
    for name, count in {"FIRST_PICTURES": 64, "HELD_OUT": 64, "PICTURES_AT_ONCE": 16}.items():
        monkeypatch.setattr(f"hf_free.training.distill.{name}", count)


def config_of(folders, *names, **sections):
    """A configuration of half an hour, as it comes but for what is given."""
    return FreeConfig.from_dict({"models": [folders[name] for name in names], **sections})


def test_it_is_done_unasked_where_a_teacher_is_strong_and_nothing_else_is_asked_for(folders, tmp_path):
    usual = config_of(folders, "strong", "weak")
    assert usual.trainer.max_minutes >= 10
    assert pools_first(usual)
    assert not pools_first(config_of(folders, "weak", "other"))
    assert pools_first(config_of(folders, "strong", "large")), "pictures of 96 pixels, of a small network"
    assert not pools_first(config_of(folders, "strong"))
    assert not pools_first(usual, resume=True), "the run that goes on says what it does"
    assert not pools_first(usual, in_memory=True)
    assert not pools_first(usual, is_watched=True)
    seen = {"learner": {"views": ["identity"], "head": "logistic"}, "five": {"flip": False}}
    assert pools_first(config_of(folders, "strong", "weak", **seen))
    for section, values in {
        "trainer": {"max_minutes": 9},
        "learner": {"backbone": "resnet12_small"},
        "bell": {"batch_size": 64},
        "memory": {"drawn_per_step": 64},
        "hub": {"push_generator": True},
    }.items():
        assert not pools_first(config_of(folders, "strong", "weak", **{section: values})), section
    assert not pools_first(config_of(folders, "strong", "weak", method="paper"))
    assert not pools_first(config_of(folders, "strong", "weak", trainer={"steps": 5}))
    assert not pools_first(config_of(folders, "strong", "weak", trainer={"pool_first": False}))
    part = tmp_path / "list.yaml"
    part.write_text(f"teachers:\n- {{id: {folders['strong']}, classes: 0-4}}\n- {folders['weak']}\n")
    assert not pools_first(FreeConfig.from_dict({"models": [str(part)]})), "five of its classes only"


def test_large_pictures_are_a_question_of_how_long_they_take(folders, monkeypatch):
    large, small = config_of(folders, "strong", "large"), config_of(folders, "strong", "weak")
    pictures = 1024 + 1024 + 2048 + 512  # pooled, to find the best, to learn from, held out
    operations = flops.count(load_teacher(folders["large"])).forward_flops
    threads, seconds = torch.get_num_threads(), 0.3 * 60 * large.trainer.max_minutes
    for factor, expected in ((1.01, True), (0.99, False)):
        monkeypatch.setitem(RATES, "cpu", factor * pictures * operations / (seconds * threads))
        on_cpu = replace(large, trainer=replace(large.trainer, device="cpu"))
        assert pools_first(on_cpu) is expected
        assert pools_first(small)
    twice = config_of(folders, "strong", "large", trainer={"threads": 2 * threads, "device": "cpu"})
    assert pools_first(twice)


def test_a_teachers_classes_are_read_from_the_hub_as_from_a_folder(folders, hub, run_client):
    for name in ("strong", "weak"):
        files = {path.name: path.read_bytes() for path in sorted(Path(folders[name]).iterdir())}
        hub.add_repo(f"alice/pool-first-{name}", files)
    pairs = [
        "alice/pool-first-strong alice/pool-first-weak",
        f"alice/pool-first-weak {folders['other']}",
        f"alice/pool-first-none {folders['other']}",
    ]
    done = run_client(READ.format(pairs=pairs))
    assert done.stdout.split() == ["True", "False", "False"], done.stderr


@pytest.mark.parametrize(
    ("sections", "named"),
    [
        ({"method": "paper"}, "method paper"),
        ({"trainer": {"pool_first": True, "steps": 50}}, "50 steps"),
        ({"learner": {"init_from": "timm:resnet18.a1_in1k"}}, "learner.init_from"),
        ({"trainer": {"pool_first": True, "log_with": ["tensorboard"]}}, "trainer.log_with"),
        ({"trainer": {"pool_first": True, "memory": "4GiB"}}, "trainer.memory"),
        ({"learner": {"head": "maml"}}, "the head maml"),
    ],
)
def test_what_does_not_go_with_it_is_refused_by_name(folders, tmp_path, sections, named):
    config = config_of(folders, "strong", "weak", **{"trainer": {"pool_first": True}, **sections})
    with pytest.raises(ConfigError, match=named) as refused:
        train(config, output=tmp_path / "run")
    assert "--no-pool-first" in refused.value.action
    assert not (tmp_path / "run").exists()


def test_a_run_leaves_both_learners_and_says_what_the_small_one_started_from(folders, tmp_path, capsys):
    run = tmp_path / "run"
    words = ["train", "--models", folders["strong"], folders["weak"], "--pool-first", "--max-minutes", "0.02"]
    words += [
        "--device",
        "cpu",
        "--output",
        str(run),
        "--set",
        *(f"five.{key}={value}" for key, value in FIVE.items()),
    ]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "Pooling the teachers first" in said.err
    assert f"--compare {run / 'pooled'}" in said.err
    made, pooled = (MetaLearner.from_pretrained(run / name) for name in ("learner", "pooled"))
    assert (pooled.full_record().is_pooled, made.full_record().is_pooled) == (True, False)
    done = made.record.imitation
    assert made.record.teachers[done.started_from].reference in said.err
    assert FreeConfig.from_yaml(run / "config.yaml").trainer.pool_first is True
    assert learner_of_run(run) == run / "learner"
    weights = (run / "learner" / "model.safetensors").read_bytes()
    assert main(["train", "--resume", "--output", str(run)]) == 0, "a run that is finished stays as it is"
    assert (run / "learner" / "model.safetensors").read_bytes() == weights
    assert main(["report", str(run), "--no-map"]) == 0
    assert (run / "report.html").is_file()


def test_where_no_teacher_may_be_started_from_it_learns_from_nothing(folders, tmp_path):
    teachers = {}
    for name in ("strong", "weak"):
        teachers[name] = str(tmp_path / name)
        os.makedirs(teachers[name])
        for file in ("config.json", "model.safetensors"):
            os.link(os.path.join(folders[name], file), os.path.join(teachers[name], file))
        (tmp_path / name / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    config = config_of(teachers, "strong", "weak", trainer=SHORT, five=FIVE)
    made = train(config, output=tmp_path / "run")
    assert made.config.backbone == "conv4_384"
    assert made.record.imitation.started_from is None
    own = config_of(folders, "strong", "weak", trainer=SHORT, five=FIVE, learner={"backbone": "conv4_32"})
    assert train(own, output=tmp_path / "own").config.backbone == "conv4_32", "the network that was asked for"


def test_stopped_while_it_learns_it_goes_on(folders, tmp_path, monkeypatch):
    run, grow = RunFolder(tmp_path / "run"), PictureBank.grow
    longer = {**SHORT, "max_minutes": 1.0}
    config = config_of(folders, "strong", "weak", trainer=longer, five=FIVE)

    def fail(*_, **__):
        raise RunError("of another kind")

    def grow_and_stop(bank, count):
        grow(bank, count)
        if count < 64:  # not while the first pictures are drawn
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as stopping:
        stopping.setattr(PictureBank, "grow", grow_and_stop)
        with pytest.raises(Stopped):
            train(config, output=run.root)
    assert run.can_go_on()
    assert "hf-free train --resume" in run.way_to_finish()
    assert "learned so far" in run.way_to_finish()
    pooled = (run.pooled / "hf_free.safetensors").stat().st_mtime_ns
    saved, kept = FreeConfig.load(run.config, values={"trainer": {"max_minutes": 0.02}}), run.config.read_bytes()
    with monkeypatch.context() as failing:
        failing.setattr("hf_free.training.pooled_first.distill", fail)
        with pytest.raises(RunError, match="of another kind"):
            train(saved, output=run.root, resume=True)
    assert run.config.read_bytes() == kept, "new settings that fail at once are not written down"
    train(saved, output=run.root, resume=True)
    assert (run.pooled / "hf_free.safetensors").stat().st_mtime_ns == pooled, "pooled once"
    assert run.is_finished_from_pooled()


def test_stopped_while_it_pools_nothing_is_in_the_way_of_the_same_command(folders, tmp_path, monkeypatch, capsys):
    words = ["train", "--models", folders["strong"], folders["weak"], "--pool-first", "--max-minutes", "0.02"]
    words += ["--device", "cpu", "--output", str(tmp_path / "run")]
    words += ["--set", *(f"five.{key}={value}" for key, value in FIVE.items())]

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as stopping:
        stopping.setattr("hf_free.training.pooled_first.pool", interrupted)
        assert main(words) == 130
    assert "type the same command again" in capsys.readouterr().err
    assert main(words) == 0


def test_a_run_that_was_killed_before_its_first_checkpoint_goes_on_from_the_pooled_learner(folders, tmp_path):
    config = config_of(folders, "strong", "weak", trainer=SHORT, five=FIVE)
    run = RunFolder(tmp_path / "run")
    run.begin(config.to_yaml(), resume=False)
    pool(config.models, output=run.pooled, five=config.five, rounds=0, device="cpu")
    (run.learner / "checkpoints").mkdir(parents=True)
    (run.learner / "left.lock").write_text("")
    assert "hf-free train --resume" in run.way_to_finish()
    made = train(config, output=run.root, resume=True)
    alone = distill(run.pooled, tmp_path / "alone", minutes=0.01, start_from="best", device="cpu")
    assert made.record.imitation.started_from == alone.record.imitation.started_from
    assert run.is_finished_from_pooled()


def test_a_plan_says_so_in_place_of_measuring_steps(folders):
    planned = plan(config_of(folders, "strong", "weak"))
    assert any("pooled first" in note for note in planned.notes)
    assert planned.pools_first
    assert planned.step_seconds is None
    console = Console(width=200, file=StringIO())
    console.print(plan_tables(planned))
    assert "30 min: the teachers are pooled" in console.file.getvalue()
    assert "outer step" not in console.file.getvalue()
    assert not any("hf-free distill makes one network" in note for note in planned.notes)
