"""examples/benchmark: whole on pico teachers, and its store, goals and switches."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import pytest
import torch
from pico import pico_folder
from PIL import Image

from hf_free import FreeConfig, MetaLearner
from hf_free.evaluation.datasets import load_labeled_images
from hf_free.evaluation.evaluate import EpisodeSettings, evaluate
from hf_free.learner.embedding import Embedding
from hf_free.learner.gating import TeacherGate
from hf_free.learner.inputs import InputSettings
from hf_free.learner.shared_classes import SharedClasses
from hf_free.metalearning.embedding_fit import fit_whitening

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

import benchmark.store as store_module
from benchmark import run as benchmark_run
from benchmark.ablation import SWITCHES, USES, switched
from benchmark.store import Episodes, Store, measured_run
from benchmark.tables import Line, Table, goal, lines_of, mean_over_seeds

TINY = {
    "learner": {"backbone": "conv4_32", "image_size": 16},
    "five": {"width": 8, "images_per_class": 2, "inner_steps": 1, "min_teacher_accuracy": 0.0},
    "memory": {"drawn_per_step": 8, "held_out_images": 8},
    "bell": {"batch_size": 8, "updates_per_step": 1},
    "trainer": {"steps": 4, "warmup_steps": 0, "checkpoint_every": 2, "log_every": 1, "device": "cpu"},
}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo")
    for seed in range(3):
        pico_folder(folder / f"{seed:03d}", size=16, seed=seed)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Five classes of 20 noisy pictures in one split."""
    folder, generator = tmp_path_factory.mktemp("data"), torch.Generator().manual_seed(0)
    for label in range(5):
        (folder / "validation" / f"class{label}").mkdir(parents=True)
        for index in range(20):
            noise = torch.randint(0, 200, (16, 16, 3), generator=generator)
            noise[..., label % 3] += 10 * label
            Image.fromarray(noise.to(torch.uint8).numpy()).save(folder / f"validation/class{label}/{index:02d}.png")
    return folder


def config_of(zoo, **changes):
    models = [str(path) for path in sorted(zoo.iterdir())]
    return FreeConfig.from_dict({**TINY, "models": models, **changes})


@pytest.fixture
def benchmark(zoo, data, capsys):
    """Runs the program: exit code or message, standard output, standard error."""

    def run(output, *arguments, zoo=zoo):
        command = [*arguments, "--quick", "--zoo", str(zoo), "--mixed-zoo", str(zoo), "--teachers", "3"]
        command += ["--data", str(data), "--output", str(output), "--device", "cpu", "--minutes", "5"]
        command += ["--set", "learner.backbone=conv4_32", "learner.image_size=16", "five.inner_steps=1"]
        try:
            benchmark_run.main(command)
        except SystemExit as end:
            return end.code, *capsys.readouterr()
        return 0, *capsys.readouterr()

    return run


@pytest.mark.long
def test_the_parts_make_tables_and_are_skipped_the_second_time(benchmark, data, tmp_path):
    output, found = tmp_path / "out", tmp_path / "found.json"
    code, printed, told = benchmark(output, "headline", "paper", "mixed", "plot", "--json", str(found))
    assert code == 0, told
    tables = json.loads(found.read_text())["tables"]
    assert list(tables) == ["paper", "headline", "mixed", "plot"]
    methods = [line["method"] for line in tables["headline"]["lines"]]
    assert methods[-5:] == [
        "**default**, conv4_32, seed 0",
        "**default**, conv4_32, seed 1",
        *(line["method"] for line in tables["paper"]["lines"]),
        "**default**, mean over 2 seeds",
    ]
    assert {"pixels (8x8)", "untrained conv4_32", "all 3 teachers' features, concatenated"} <= set(methods)
    first, second, *_, total = (line["accuracy"] for line in tables["headline"]["lines"][-5:])
    assert tables["headline"]["lines"][-3:-1] == tables["paper"]["lines"]
    assert total["5"] == pytest.approx((first["5"] + second["5"]) / 2)
    assert [line["method"] for line in tables["paper"]["lines"]] == [
        "paper, inductive (statistics of the support pictures only)",
        "paper, transductive (as published)",
    ]
    assert "It reached 4 of its 1,000 epochs" in tables["paper"]["remarks"][0]
    assert not tables["headline"]["goals"]  # which are for the 100 teachers
    assert "Goals are for 100 teachers and whole runs: not judged here." in tables["headline"]["remarks"]
    assert tables["mixed"]["goals"][0].startswith("at least as good as the best single teacher")
    assert (output / "time_to_accuracy.png").stat().st_size > 10_000

    run = next((output / "runs").glob("headline-seed-1-*"))
    rows = evaluate(
        MetaLearner.from_pretrained(run / "learner"), load_labeled_images(data), EpisodeSettings(episodes=10)
    ).rows
    assert second == {str(row.k_shot): pytest.approx(row.accuracy, abs=1e-3) for row in rows}

    before = {path: path.stat().st_mtime_ns for path in (output / "results").glob("*.json")}
    code, again, told = benchmark(output, "headline", "paper", "mixed", "plot")
    assert (code, again, told) == (0, printed, "")
    assert benchmark(output, "mixed", "--json", str(found))[0] == 0
    assert json.loads(found.read_text())["tables"] == tables  # the other parts stay
    assert {path: path.stat().st_mtime_ns for path in (output / "results").glob("*.json")} == before


@pytest.mark.long
def test_a_row_that_fails_is_said_and_the_others_go_on(benchmark, tmp_path):
    code, printed, told = benchmark(tmp_path, "headline", "--seeds", "0", "--set", "trainer.warmup_steps=9")
    assert code == "Failed: headline seed 0"
    assert "all of them warm-up" in told
    assert "| pixels (8x8) |" in printed
    assert "Recipe paper is not trained yet" in printed


def test_no_teachers_are_said(benchmark, tmp_path):
    code, *_ = benchmark(tmp_path / "out", "headline", zoo=tmp_path)
    assert code.startswith(f"Error: {tmp_path} holds 0 teacher(s), 3 are wanted: give their folder with --zoo")


@pytest.mark.long
def test_a_stopped_run_goes_on_from_its_checkpoint(zoo, data, tmp_path, monkeypatch):
    store, config, where = Store(tmp_path), config_of(zoo), Episodes(str(data), "validation", 4, "cpu")

    class Killed(BaseException):
        pass

    def dying(*_):
        seen = []

        def watch(learner, minutes):
            seen.append(minutes)
            if len(seen) == 3:
                raise Killed

        return watch

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "_snapshots", dying)
        with pytest.raises(Killed):
            measured_run(store, "row", config, where)
    assert not list(tmp_path.glob("results/*.json"))
    before = store.run("row", config).read_log()
    result = measured_run(store, "row", config, where)
    after = store.run("row", config).read_log()
    assert [row["step"] for row in after] == [1, 2, 3, 4]
    assert after[:2] == before[:2]  # not computed again
    assert result["training"]["steps"] == 4
    assert measured_run(store, "row", config, where) == result


def test_results_are_made_once_by_several_at_a_time(tmp_path):
    made = []

    def ask(settings):
        Store(tmp_path).result("a row", settings, lambda: {"value": made.append(settings) or len(made)})

    threads = [threading.Thread(target=ask, args=({"minutes": minutes},)) for minutes in (1, 1, 1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(settings["minutes"] for settings in made) == [1, 2]
    assert len(list(tmp_path.glob("results/*.json"))) == 2


def test_nothing_is_left_of_a_result_that_failed(tmp_path):
    def fail():
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        Store(tmp_path).result("a row", {}, fail)
    assert not Store(tmp_path).finished("a row", {})


def test_learners_are_kept_on_the_way_once_a_stretch_of_time(tmp_path):
    learner = MetaLearner(FreeConfig.from_dict(TINY).learner)
    watch = store_module._snapshots(tmp_path, 3.0)
    for minutes in (0.5, 2.9, 3.1, 4.0, 5.9, 9.2):
        with torch.no_grad():
            next(learner.backbone.parameters()).fill_(minutes)
        watch(learner, minutes)
    store_module._snapshots(tmp_path, 3.0)(learner, 9.3)  # gone on: that stretch has its learner
    folders = sorted(path for path in tmp_path.iterdir())
    assert [float(path.name) for path in folders] == [3.1, 9.2]
    weights = next(MetaLearner.from_pretrained(folders[0]).backbone.parameters())
    assert torch.equal(weights, torch.full_like(weights, 3.1))


def line(one, five, method="x"):
    return Line(method, {1: one, 5: five}, {1: 0.9, 5: 0.8}, 600, minutes=30.0, steps=500)


@pytest.mark.parametrize(
    ("found", "margin", "word"),
    [
        ((43.0, 58.0), {}, "met"),
        ((42.9, 60.0), {}, "not met"),
        ((44.0, 57.9), {}, "not met"),
        ((43.5, 58.5), {1: 0.6, 5: 0.1}, "not met"),
        ((43.5, 58.5), {1: 0.4, 5: 0.4}, "met"),
    ],
)
def test_a_goal_is_met_where_both_shots_reach_it(found, margin, word):
    text = goal("At least five", dict(zip((1, 5), found, strict=True)), {1: 43.0, 5: 58.0}, margin)
    assert f"**{word}** with {found[0]:.1f} / {found[1]:.1f}" in text


def test_the_mean_over_seeds_has_the_deviation_between_them():
    total = mean_over_seeds([line(46.0, 61.0), line(47.0, 62.0), line(48.0, 63.0)], "mean")
    assert total.accuracy == {1: pytest.approx(47.0), 5: pytest.approx(62.0)}
    assert total.interval == {1: pytest.approx(1.0), 5: pytest.approx(1.0)}
    assert (total.seeds, total.minutes) == (3, 30.0)


def test_rows_without_a_figure_and_transductive_ones_are_marked():
    row = {"method": "learner", "k_shot": 1, "accuracy": 40.0, "interval": 1.0, "episodes": 9, "inductive": False}
    broken = {**row, "method": "teacher gone", "accuracy": None, "interval": None, "inductive": True}
    result = {"rows": [{**row, "note": ""}, {**broken, "note": "not available: gone"}]}
    lines = lines_of(result, "default")
    assert lines[0].markdown() == "| default | 40.0 ± 1.0 | - | 9 | 1 |  |  | transductive |"
    assert lines[1].markdown() == "| teacher gone | - | - | 9 | 1 |  |  | not available: gone |"
    assert "| teacher gone |" in Table("a part", lines).markdown()


def test_each_switch_changes_the_default_whichever_way_that_is():
    base = FreeConfig()
    rows = dict(switched(switch, base) for switch in SWITCHES)
    assert len(rows) == len(SWITCHES)
    bare = FreeConfig.from_dict({"five": {"canvas": False}})
    assert switched(next(s for s in SWITCHES if "canvas" in s.without[0]), bare) == ("canvas", ["five.canvas=true"])


def test_relevance_without_shared_classes_is_what_would_have_been_learned():
    """The same likelihood of each teacher, though the features are longer beside fewer dimensions."""
    torch.manual_seed(0)
    learner = MetaLearner(
        FreeConfig.from_dict(TINY).learner, embedding=Embedding(torch.nn.Linear(32, 10), (5, 5))
    ).eval()
    learner.embedding.shared_classes = SharedClasses(torch.arange(10) % 7, (5, 5))
    learner.embedding.gate = TeacherGate((5, 5), learner.backbone_dim, learner.embedding.shared_classes.groups)
    images, teachers = torch.rand(60, 3, 16, 16), torch.arange(60) % 2
    learner.embedding.gate.fit(learner.embed(images), teachers)
    USES["no damping, embedding: no shared classes"](learner)
    expected = TeacherGate((5, 5), learner.backbone_dim)
    expected.fit(learner.embed(images), teachers)
    torch.testing.assert_close(learner.embedding.gate.weight, expected.weight, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(learner.embedding.gate.bias, expected.bias, rtol=1e-2, atol=1e-2)


def test_each_use_changes_what_a_trained_learner_says():
    torch.manual_seed(0)
    images = torch.rand(6, 3, 16, 16)
    for name, change in USES.items():
        learner = MetaLearner(
            FreeConfig.from_dict(TINY).learner,
            embedding=Embedding(torch.nn.Linear(32, 10), (5, 5)),
            inputs=InputSettings(("identity", "flip")),
        ).eval()
        learner.embedding.shared_classes = SharedClasses(torch.arange(10) % 7, (5, 5))
        learner.embedding.gate = TeacherGate((5, 5), learner.backbone_dim, learner.embedding.shared_classes.groups)
        learner.embedding.whitening = fit_whitening(learner.embed(torch.rand(100, 3, 16, 16)), 60.0)
        before, head, relevance = learner.embed(images), learner.config.head, learner.embedding.gate
        change(learner)
        after = learner.embed(images)
        same = before.shape == after.shape and torch.allclose(before, after)
        unchanged = ("head: ", "all teachers count alike")
        assert same == (name.startswith(unchanged) or name == "no damping"), name
        keeps_whitening = name.startswith(("head: ", "one view", "all teachers"))
        assert (learner.embedding.whitening is not None) == keeps_whitening, name
        kept = ("head: ", "one view", "no damping")
        assert (learner.embedding.gate is relevance) == name.startswith(kept), name
        assert learner.embedding.gate is None or learner.embedding.gate(after[None]).shape == (1, after.shape[1]), name
        assert (learner.config.head != head) == name.startswith("head: "), name
