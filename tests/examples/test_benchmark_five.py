"""The benchmark: its arithmetic against values by hand, and the script from end to end at tiny sizes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from pico import pico_folder
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

from benchmark import measuring  # noqa: E402
from benchmark.inversion_report import goals, mean_of_learners, summarize  # noqa: E402
from benchmark.inversion_speed import main, make_digit_teachers  # noqa: E402

TINY = [
    *("tasks=3", "fresh_tasks=2", "pixel_tasks=2", "held_out=1", "meta_steps=2", "fresh_steps=6", "pixel_steps=8"),
    *("curve_steps=12", "updates=3", "batch_size=8", "episodes=4", "rounds=1", "learner_seeds=2"),
    *("five.width=4", "five.latent_dim=8", "five.images_per_class=3"),
]


# ---- arithmetic


def test_amortized_cost_by_hand():
    assert measuring.amortized(200.0, 0.5, 100) == 2.5
    assert measuring.amortized(200.0, 0.5, 1000) == 0.7


@pytest.mark.parametrize(
    ("meta", "own", "rival", "expected"),
    [
        (200.0, 0.5, 20.5, 10),
        (201.0, 0.5, 20.5, 11),
        (0.0, 0.5, 20.5, 1),
        (200.0, 2.0, 2.0, None),
        (1.0, 3.0, 2.0, None),
    ],
)
def test_break_even_by_hand(meta, own, rival, expected):
    assert measuring.break_even(meta, own, rival) == expected
    if expected:  # one task fewer has not paid off
        assert measuring.amortized(meta, own, expected) <= rival
        assert expected == 1 or measuring.amortized(meta, own, expected - 1) > rival


def _task(seconds):
    return {"seconds": seconds, "images": 100, "accuracy": 0.5, "loss": 1.0, "diversity": 0.2, "load": 1.0}


def test_summary_by_hand():
    tasks = {"five": [_task(0.4), _task(0.6)], "fresh": [_task(20.0)], "pixels": [_task(40.0), _task(60.0)]}
    found = summarize(tasks, 200.0)
    five = found["methods"]["five"]
    assert five["seconds"] == 0.5
    assert five["images_per_second"] == 200
    assert five["amortized_seconds"] == {"100": 2.5, "1000": 0.7}
    assert found["speedup"]["fresh"] == {"without": 40.0, "100": 8.0, "1000": pytest.approx(20 / 0.7)}
    assert found["speedup"]["pixels"]["100"] == 20.0
    assert found["break_even"] == {"fresh": 11, "pixels": 5}  # 200 / 19.5, 200 / 49.5


def _results(*, fresh_seconds=20.0, accuracies=(45.0, 45.5), ratios=(1.1, 1.2), losses=(1.0, 1.5, 1.2)):
    tasks = {"five": [_task(0.5)], "fresh": [_task(fresh_seconds)], "pixels": [_task(50.0)]}
    results = summarize(tasks, 200.0)
    for method, accuracy in zip(("five", "fresh"), accuracies, strict=True):
        rows = [{"k_shot": 1, "accuracy": accuracy, "interval": 0.8, "n_way": 5}]
        results["methods"][method]["few_shot"] = {"rows": rows, "pictures": 100}
    meta, fresh, joint = losses
    results["curves"] = {"k": 5, "after_k": {"meta": meta, "fresh": fresh, "joint": joint}}
    results["curves"]["meta_is_lower_on"] = {"fresh": 1, "joint": 1}
    results["teachers"] = {"held out": 1}
    results["speed"] = {"alone": {"ratio": ratios[0]}, "with learner": {"ratio": ratios[1]}}
    return results


def test_learners_of_a_method_become_one_by_hand():
    def learner(one, five):
        rows = [
            {"k_shot": k, "accuracy": accuracy, "interval": interval, "n_way": 5}
            for k, accuracy, interval in ((1, one, 0.8), (5, five, 0.6))
        ]
        return {"tasks": 2, "pictures": 18, "rows": rows}

    found = mean_of_learners([learner(44.0, 60.0), learner(46.0, 61.0)])
    assert found["rows"] == [
        {"k_shot": 1, "accuracy": 45.0, "interval": pytest.approx(0.8), "n_way": 5, "accuracies": [44.0, 46.0]},
        {"k_shot": 5, "accuracy": 60.5, "interval": pytest.approx(0.6), "n_way": 5, "accuracies": [60.0, 61.0]},
    ]
    assert (found["tasks"], found["pictures"], found["learners"]) == (2, 18, 2)


@pytest.mark.parametrize(
    ("change", "met"),
    [
        ({}, [True] * 6),
        ({"fresh_seconds": 13.9}, [False, True, True, True, True, True]),
        ({"accuracies": (45.0, 46.0)}, [True, False, True, True, True, True]),
        ({"ratios": (1.26, 1.2)}, [True, True, False, True, True, True]),
        ({"ratios": (1.1, 1.3)}, [True, True, True, False, True, True]),
        ({"losses": (1.3, 1.5, 1.2)}, [True, True, True, True, True, False]),
        ({"losses": (1.6, 1.5, 1.7)}, [True, True, True, True, False, True]),
    ],
)
def test_each_goal_is_judged_by_its_own_figure(change, met):
    assert [goal["met"] for goal in goals(_results(**change))] == met


# ---- measuring


# ---- the script


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Four teachers of three classes, and pictures of three others."""
    root = tmp_path_factory.mktemp("tiny")
    for seed in range(4):
        pico_folder(root / "zoo" / f"{seed:03d}", "conv4", size=16, seed=seed, num_classes=3)
    torch.manual_seed(0)
    for label in range(3):
        folder = root / "data" / "validation" / f"class {label}"
        folder.mkdir(parents=True)
        for number in range(20):
            pixels = (torch.rand(16, 16, 3) * 150 + 40 * label).to(torch.uint8).numpy()
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def _exit_message(monkeypatch, *arguments):
    """What the script says when it gives up, in this process: starting another takes seconds."""
    monkeypatch.setattr(sys, "argv", ["inversion", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return str(stopped.value)


@pytest.mark.long
def test_the_script_measures_prints_resumes_and_refuses_other_settings(forks, tiny, monkeypatch, capsys):
    given = ["--zoo", tiny / "zoo", "--data", tiny / "data", "--output", tiny / "out", "--set", *TINY]
    arguments = [str(EXAMPLES / "benchmark"), "inversion", "--json", tiny / "found.json", *given]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), "PYTHONPATH": str(EXAMPLES.parent)}
    done = forks.run([sys.executable, *map(str, arguments)], env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads((tiny / "found.json").read_text())
    methods = found["methods"]
    assert {method: values["tasks"] for method, values in methods.items()} == {"five": 3, "fresh": 2, "pixels": 2}
    assert {values["images_per_task"] for values in methods.values()} == {9}
    # equal pictures teach the learners
    assert [values["few_shot"]["pictures"] for values in methods.values()] == [18, 18, 18]
    assert all(len(values["few_shot"]["rows"]) == 2 for values in methods.values())
    assert found["meta_training"]["tasks"] == 6  # two outer steps of all three teachers
    assert [len(found["curves"]["mean"][start]) for start in ("meta", "joint", "fresh")] == [13, 13, 13]
    assert found["teachers"] == {"trained on": 3, "held out": 1}
    assert "| FIVE, 5 steps | 3 |" in done.stdout
    assert done.stdout.count("met") >= 6
    for name in ("losses.png", "costs.png"):
        assert Image.open(tiny / "out" / name).size[0] > 500

    parts = 3 + 7 + 1 + 8  # speed, meta, joint; tasks; one held-out teacher; two learners a method and of drawn ones
    assert len(list((tiny / "out" / "parts").glob("*.json"))) == parts
    (tiny / "out" / "parts" / "task-fresh-001.json").unlink()
    monkeypatch.setattr(sys, "argv", ["inversion", *map(str, given)])
    main()
    printed = capsys.readouterr()
    assert printed.err == f"measuring task-fresh-001 ({parts} of {parts})\n"
    five = next(line for line in done.stdout.splitlines() if line.startswith("| FIVE, 5 steps"))
    assert five in printed.out.splitlines()

    message = _exit_message(monkeypatch, "--seed", 1, *given)
    assert message == f"{tiny / 'out'} holds a benchmark with other settings: give another --output"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--zoo", "nowhere"], "nowhere holds 0 teacher(s), at least 3 are wanted: give their folder with --zoo"),
        (["--set", "task=3"], "--set task: not known; tasks, fresh_tasks"),
        (["--set", "tasks=0"], "--set tasks=0: a whole number of at least 1 is wanted"),
        (["--set", "five.width=-1"], "Error: five.width = -1 cannot be used"),
        (["--device", "cuda:99"], "Error: device 'cuda:99' cannot be used"),
    ],
)
def test_mistakes_are_named(tmp_path, monkeypatch, arguments, message):
    given = ["--data", tmp_path, "--output", tmp_path / "out", *arguments]
    assert _exit_message(monkeypatch, *given).startswith(message)
    assert not (tmp_path / "out").exists()


def test_digit_teachers_are_made_once(tmp_path):
    make_digit_teachers(tmp_path, 1, 0, epochs=1, copies=1)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/model.safetensors")}
    assert len(written) == 1
    make_digit_teachers(tmp_path, 1, 0, epochs=1, copies=1)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/model.safetensors")} == written
    known = json.loads((tmp_path / "000" / "config.json").read_text())
    assert known["num_classes"] == 5
