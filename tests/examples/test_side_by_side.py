"""`python examples/benchmark run` and `report`: the YAML file, resuming, and the page out of results."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from benchmark import report_side_by_side, run_side_by_side
from benchmark.literature import Ours, Published, over_data, verdicts
from benchmark.report_side_by_side import Report
from benchmark.side_by_side import Cell, cells_of, config_of, read_plan, settings_of
from benchmark.store import Store
from pico import pico_folder
from PIL import Image

from hf_free import pool
from hf_free.config.recipes import RECIPES
from hf_free.errors import ConfigError

EXAMPLES = Path(__file__).parents[2] / "examples" / "benchmark"

TINY = (
    "[learner.backbone=conv4_32, learner.image_size=16, five.width=8, five.images_per_class=2, five.inner_steps=1, "
    "five.min_teacher_accuracy=0, memory.drawn_per_step=8, memory.held_out_images=8, bell.batch_size=8, "
    "bell.updates_per_step=1, trainer.warmup_steps=0, trainer.steps=2, trainer.log_every=1]"
)
SCENARIOS = "scenarios: {SS: {teachers: [{zoo: pico, count: 2}], data: [noise]}}\n"


@pytest.fixture
def plan_of(tmp_path):
    """Reads a plan from text."""

    def read(text):
        path = tmp_path / "matrix.yaml"
        path.write_text(text, encoding="utf-8")
        return read_plan(path)

    return read


@pytest.mark.parametrize("name", ["smoke", "two_hours", "papers"])
def test_the_committed_plans_can_be_read(name):
    plan = read_plan(EXAMPLES / f"{name}.yaml")
    cells = cells_of(plan)
    assert len({cell.name for cell in cells}) == len(cells)
    assert {"default", "paper", "purer"} <= set(plan.methods)


def test_the_papers_plan_has_every_method_in_their_scenarios_with_both_shots_and_three_seeds():
    plan = read_plan(EXAMPLES / "papers.yaml")
    cells = cells_of(plan)
    assert {config_of(plan, cell).method for cell in cells} == set(RECIPES)
    for scenario in ("SS", "SH", "multi-domain", "MH"):
        for row in plan.methods:
            met = [
                (cell.seed, shot)
                for cell in cells
                if (cell.scenario, cell.row) == (scenario, row)
                for shot in cell.shots
            ]
            seeds = [0] if plan.methods[row].kind == "baselines" else [0, 1, 2]
            assert sorted(met) == [(seed, shot) for seed in seeds for shot in (1, 5)]
    of = {name: scenario.teachers[0] for name, scenario in plan.scenarios.items()}
    assert len(of["SS"].made_from) == len(of["SH"].made_from) == len(of["SS"].architectures) == 1
    assert len(of["SH"].architectures) > 1  # FREE's multi-architecture
    assert len(of["multi-domain"].made_from) == len(of["MH"].made_from) == 3
    assert {part.count / len(part.made_from) for part in of.values()} == {100}


@pytest.mark.parametrize(
    ("text", "given", "rule"),
    [
        ("methods: {default: {}}\nepisods: 3\n", "unknown key 'episods'", "did you mean 'episodes'"),
        ("methods: {default: {sett: [a]}}\n", "unknown key 'methods.default.sett'", "did you mean 'set'"),
        ("methods: {default: {}}\nepisodes: 1\n", "episodes = 1", "greater than or equal to 2"),
        ("methods: {default: {}}\nshots: [1, 3]\n", "shots.1 = 3", "1 or 5"),
        ("methods: {ours: {}}\n", "the method 'ours'", "default, paper, released"),
        ("methods: {default: {set: [five.wdth=8]}}\n", "'five.wdth'", "five.width"),
        ("methods: {default: {inversion: six}}\n", "inversion = 'six'", "'pixels'"),
        ("methods: {default: {transductive: [all]}}\n", "'all'", "soft-kmeans"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_rule_and_the_way_out(plan_of, text, given, rule):
    with pytest.raises(ConfigError) as refused:
        plan_of("minutes: 1\n" + SCENARIOS + text)
    assert given in refused.value.given
    assert rule in refused.value.allowed
    assert refused.value.action


@pytest.mark.parametrize(
    ("scenario", "given", "rule"),
    [
        ("{teachers: [{zoo: a, made_from: [b], count: 2}], data: [c]}", "teachers.0", "either zoo"),
        ("{teachers: [{zoo: a, count: 2, epoch: 3}], data: [c]}", "teachers.0.epoch", "did you mean 'epochs'"),
        ("{teachers: [{zoo: a, count: 2}], data: [c], methods: [paper]}", "'paper'", "rows of methods: default"),
        ("{teachers: [{zoo: a, count: 2}]}", "scenarios.SS.data is missing", "data is needed"),
    ],
)
def test_scenarios_are_checked_too(plan_of, scenario, given, rule):
    with pytest.raises(ConfigError) as refused:
        plan_of(f"minutes: 1\nmethods: {{default: }}\nscenarios: {{SS: {scenario}}}\n")
    assert given in refused.value.given
    assert rule in refused.value.allowed


def test_no_file_and_no_mapping_are_said(tmp_path, plan_of):
    with pytest.raises(ConfigError, match="cannot read"):
        read_plan(tmp_path / "gone.yaml")
    with pytest.raises(ConfigError, match="holds a list"):
        plan_of("[1]")
    with pytest.raises(ConfigError, match="not valid YAML"):
        plan_of("a: [")


def test_cells_are_rows_by_scenarios_by_seeds_by_shots_of_training(plan_of):
    plan = plan_of(
        "minutes: 2\nseeds: [0, 3]\nlearner_per_shot: true\n"
        "methods: {default: , paper: , base: {kind: baselines}}\n"
        "scenarios:\n"
        "  SS: {teachers: [{zoo: a, count: 2}], data: [x], set: [five.width=8]}\n"
        "  SH: {teachers: [{zoo: b, count: 2}], data: [x], methods: [default]}\n"
    )
    assert [(cell.name, cell.shots) for cell in cells_of(plan)] == [
        ("SS default seed 0", (1, 5)),  # its learner predicts answers: it is the same for any shots
        ("SS paper seed 0 1-shot", (1,)),
        ("SS paper seed 0 5-shot", (5,)),
        ("SS base seed 0", (1, 5)),
        ("SH default seed 0", (1, 5)),
        ("SS default seed 3", (1, 5)),
        ("SS paper seed 3 1-shot", (1,)),
        ("SS paper seed 3 5-shot", (5,)),
        ("SH default seed 3", (1, 5)),
    ]
    configs = {cell.name: config_of(plan, cell) for cell in cells_of(plan)}
    assert {config.trainer.max_minutes for config in configs.values()} == {2.0}  # equal minutes for all
    five_shots = configs["SS paper seed 3 5-shot"]
    assert (five_shots.method, five_shots.seed, five_shots.bell.k_shot, five_shots.five.width) == ("paper", 3, 5, 8)
    assert configs["SH default seed 0"].five.width != 8


def test_a_list_of_inversions_makes_a_row_for_each(plan_of):
    plan = plan_of(
        "minutes: 1\nmethods: {default: {inversion: [five, pixels]}, tgr: }\n"
        "scenarios: {SS: {teachers: [{zoo: a, count: 2}], data: [x], methods: [tgr, default]}}\n"
    )
    ways = {cell.row: config_of(plan, cell).inversion for cell in cells_of(plan)}
    assert ways == {"tgr": None, "default, five": "five", "default, pixels": "pixels"}
    with pytest.raises(ConfigError) as refused:
        plan_of("minutes: 1\nmethods: {default: {inversion: [five, six]}}\n" + SCENARIOS)
    assert "'six'" in refused.value.given


# ---- running


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Two teachers, and five classes of noisy pictures."""
    folder, generator = tmp_path_factory.mktemp("shared"), torch.Generator().manual_seed(0)
    for seed in range(3):
        pico_folder(folder / "pico" / f"{seed}", size=16, seed=seed)
    for label in range(5):
        (folder / "noise" / "validation" / f"class{label}").mkdir(parents=True)
        for index in range(20):
            noise = torch.randint(0, 200, (16, 16, 3), generator=generator).to(torch.uint8).numpy()
            Image.fromarray(noise).save(folder / f"noise/validation/class{label}/{index:02d}.png")
    return folder


@pytest.fixture
def command(shared, tmp_path, monkeypatch, capsys):
    """Runs `run` or `report` as the entry does: exit message (None: all is well), standard output."""

    def call(program, *words):
        given = [str(word) for word in words]
        given += ["--zoos", str(shared), "--data-root", str(shared), "--device", "cpu"] * (program is run_side_by_side)
        monkeypatch.setattr(sys, "argv", ["benchmark", *given])
        try:
            program.main()
        except SystemExit as end:
            return end.code, capsys.readouterr().out
        return None, capsys.readouterr().out

    return call


def test_finished_cells_are_skipped_and_failed_ones_are_tried_again(command, tmp_path):
    matrix, output = tmp_path / "matrix.yaml", tmp_path / "out"
    head = "minutes: 5\nepisodes: 2\ncurve_episodes: 2\n" + SCENARIOS
    rows = f"  default: {{transductive: [soft-kmeans], set: {TINY}}}\n  base: {{kind: baselines}}\n"
    broken = f"  broken: {{method: default, set: {TINY.replace('warmup_steps=0', 'warmup_steps=9')}}}\n"
    matrix.write_text(f"{head}methods:\n{rows}{broken}")
    said, printed = command(run_side_by_side, matrix, "--output", output)
    assert said is None
    assert "2 of 3 cells are finished; 1 could not be made: SS broken seed 0." in printed
    plan, store = read_plan(matrix), Store(output)
    default, base, failed = cells_of(plan)
    result = store.known(default.name, settings_of(plan, default))
    assert [row["k_shot"] for row in result["measured"]["noise"]] == [1, 5, 1, 5]
    assert result["training"]["steps"] == 2
    assert result["cost"]["five_step"] > 0
    lines = store.known(base.name, settings_of(plan, base))["measured"]["noise"]
    assert not any(row["method"].startswith("learner") for row in lines)
    assert "all of them warm-up" in store.failure(failed.name, settings_of(plan, failed))["why"]

    before = {path: path.stat().st_mtime_ns for path in (output / "results").glob("*.json")}
    said, printed = command(run_side_by_side, matrix, "--output", output)
    assert [line for line in printed.splitlines() if line.startswith("[")] == ["[3/3] SS broken seed 0"]
    assert {path: path.stat().st_mtime_ns for path in (output / "results").glob("*.json")} == before

    page = tmp_path / "page.html"
    assert command(report_side_by_side, output, "--page", page)[0] is None
    html = page.read_text(encoding="utf-8")
    assert "all of them warm-up" in html
    assert html.count('class="strip" src="data:image/png') == 2
    assert '<svg role="img"' in html
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", html)  # nothing is loaded


def test_a_pooled_learner_is_made_once_for_all_rows_that_need_it(command, tmp_path, monkeypatch):
    made = []

    def counted(models, **options):
        made.append(options["output"])
        return pool(models, **{**options, "rounds": 0})  # drawn pictures alone: a test's time

    monkeypatch.setattr(run_side_by_side, "pool", counted)
    matrix, output = tmp_path / "matrix.yaml", tmp_path / "out"
    small = "[learner.backbone=conv4_32, learner.image_size=16, bell.batch_size=8]"
    rows = f"methods: {{pooled: {{kind: pool}}, distilled: {{kind: distill, set: {small}}}}}\n"
    matrix.write_text(f"minutes: 0.001\nepisodes: 2\n{rows}{SCENARIOS}")
    said, printed = command(run_side_by_side, matrix, "--output", output)
    assert (said, len(made)) == (None, 1)
    assert "2 of 2 cells are finished." in printed
    plan = read_plan(matrix)
    page = report_side_by_side.as_markdown("Title", Report(plan, Store(output)).sections())
    assert re.search(r"^\| pooled \| each by itself \| \d+\.\d ± \d+\.\d \| \d", page, re.MULTILINE)
    assert re.search(r"^\| distilled \| each by itself \| \d+\.\d ± \d+\.\d \| \d", page, re.MULTILINE)


def test_a_dry_run_lists_the_cells_and_writes_nothing(command, tmp_path):
    matrix = tmp_path / "matrix.yaml"
    matrix.write_text("minutes: 5\nseeds: [0, 1]\nmethods: {default: }\n" + SCENARIOS)
    said, printed = command(run_side_by_side, matrix, "--output", tmp_path / "out", "--dry-run")
    assert said is None
    assert printed.splitlines() == [
        "SS default seed 0: 2 teachers, 1-shot and 5-shot on new classes of noise",
        "SS default seed 1: 2 teachers, 1-shot and 5-shot on new classes of noise",
        "2 cells of 5 minutes at most; nothing was computed.",
    ]
    assert not (tmp_path / "out").exists()


def test_too_few_teachers_and_too_little_time_are_said(command, tmp_path):
    matrix = tmp_path / "matrix.yaml"
    matrix.write_text(
        "minutes: 5\nepisodes: 2\nmethods: {base: {kind: baselines}}\n" + SCENARIOS.replace("count: 2", "count: 9")
    )
    said, printed = command(run_side_by_side, matrix, "--output", tmp_path / "out")
    assert "0 of 1 cells are finished" in printed
    plan = read_plan(matrix)
    failure = Store(tmp_path / "out").failure("SS base seed 0", settings_of(plan, cells_of(plan)[0]))
    assert "pico holds 3 teachers, 9 are wanted" in failure["why"]
    said, printed = command(run_side_by_side, matrix, "--output", tmp_path / "out", "--stop-after", "-1")
    assert said == "Stopped before cell 1 of 1; the same command goes on."
    said, printed = command(run_side_by_side, matrix, "--output", tmp_path / "out", "--scenarios", "SH")
    assert said.startswith("Error: --scenarios 'SH' is none of the file\n  allowed: 'SS'")
    assert command(run_side_by_side, tmp_path / "gone.yaml", "--output", tmp_path)[0].startswith("Error: cannot read")


# ---- the page


def canned(cell, rows, **more):
    """A result as `run` writes it."""
    return {
        "cell": vars(cell),
        "kind": "train",
        "method": "paper",
        "inversion": None,
        "teachers": 2,
        "served": 0,
        "measured": {"noise": rows},
        "curve": {},
        "seconds": {"learner": 60.0, "measuring": 1.5},
        "cost": {},
        "run": "",
        **more,
    }


def measured(k_shot, accuracy, *, method="learner", inductive=True):
    """A line of a report of `evaluate`."""
    return {
        "method": method,
        "k_shot": k_shot,
        "accuracy": accuracy,
        "interval": 0.5,
        "inductive": inductive,
        "note": "",
    }


COST = {
    "five_step": 3_000_000_000,
    "five_images": 100,
    "one_answer": 5,
    "answers_a_step": 1_000_000_000,
    "bell_update": 500_000_000,
    "bell_updates": 2,
    "teachers_bytes": 1,
    "memory_bytes": 1,
    "recover_share": 0.5,
}


def test_the_page_has_intervals_costs_queries_and_what_is_missing(plan_of, tmp_path):
    plan = plan_of("minutes: 1\nepisodes: 600\nseeds: [0, 1]\nmethods: {paper: , tgr: }\n" + SCENARIOS)
    store = Store(tmp_path / "out")
    first, refused, second, waiting = cells_of(plan)
    for cell, one, five in ((first, 40.0, 50.0), (second, 42.0, 53.0)):
        joint = measured(1, 60.0, method="learner, transductive BatchNorm", inductive=False)
        result = canned(
            cell,
            [joint, measured(1, one), measured(5, five)],
            training={"minutes": 1.0, "steps": 10, "queries": 1234},
            recovered={"images": 4000},
            cost=COST,
            curve={"noise": [{"minutes": 0.5, "1": 33.0, "5": 44.0}, {"minutes": 1.0, "1": one, "5": five}]},
        )
        store.result(cell.name, settings_of(plan, cell), lambda made=result: made)
    store.fail(refused.name, settings_of(plan, refused), {"why": "too slow\n  allowed: more", "cost": COST})

    page = report_side_by_side.as_markdown("A title", Report(plan, store).sections())
    lines = page.splitlines()
    assert lines[0] == "# A title"
    assert "2 of 4 cells are finished." in lines
    assert "| SS tgr seed 0 | too slow; allowed: more |" in lines
    assert f"| {waiting.name} | not run yet |" in lines
    inductive = lines.index("| paper | each by itself | 41.0 ± 1.4 (2 seeds) | 51.5 ± 2.1 (2 seeds) |")
    joint = lines.index("| paper, transductive BatchNorm | together | 60.0 ± 0.0 (2 seeds) | – |")
    assert inductive < joint
    # 10 steps, half of them recovering: 5 x (3 + 1) + 10 x 2 x 0.5 GFLOP
    assert "| paper | 1.00 | 10 | 4,000 | 5 | 30 | 1,234 | 1.5 |" in lines
    assert "| tgr (failed) | – | – | 0 | 5 | – | – | – |" in lines
    assert "| paper, seed 1 | 33.0 at 30 s, 42.0 at 60 s |" in lines

    results = next((tmp_path / "out" / "results").glob("ss-paper-seed-0*.json"))
    assert json.loads(results.read_text())["measured"]["noise"][1]["accuracy"] == 40.0
    results.unlink()
    assert "1 of 4 cells are finished." in report_side_by_side.as_markdown("A title", Report(plan, store).sections())


def test_a_set_may_hold_another_rows_list(plan_of):
    plan = plan_of(
        "minutes: 1\nmethods:\n  default: {set: &small [five.width=8]}\n"
        "  more: {method: default, set: [*small, five.inner_steps=3]}\n" + SCENARIOS
    )
    assert plan.methods["more"].set == ["five.width=8", "five.inner_steps=3"]


def test_of_another_plan_nothing_is_shown(plan_of, tmp_path):
    """Results of other settings lie in the same folder and are not these."""
    text = "minutes: {}\nmethods: {{paper: }}\n" + SCENARIOS.replace("{", "{{").replace("}", "}}")
    store, plan = Store(tmp_path / "out"), plan_of(text.format(1))
    cell = cells_of(plan)[0]
    store.result(cell.name, settings_of(plan, cell), lambda: canned(cell, [measured(1, 40.0)]))
    assert len(Report(plan, store).found) == 1
    assert not Report(plan_of(text.format(2)), store).found


def ours(**changes):
    values = {
        "method": "paper",
        "row": "paper",
        "scenario": "SS",
        "data": ("cifar_fs",),
        "shot": 1,
        "accuracy": 39.5,
        "interval": 0.6,
        "teachers": 100,
        "split": "test",
        "episodes": 600,
        "steps": 1000,
        "published_steps": 1000,
        "own_settings": 0,
    }
    return Ours(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "reproduced"),
        ({"accuracy": 41.0}, "not reproduced: +1.9 points"),
        ({"split": "validation"}, "not comparable: validation classes, not test classes"),
        ({"teachers": 12, "steps": 3}, "not comparable: 12 of 100 teachers; 3 of 1,000 steps"),
        (
            {"episodes": 100, "own_settings": 2},
            "not comparable: 100 of 600 episodes; settings that are not the method's: 2",
        ),
        ({"shot": 5}, "not run"),
        ({"method": "purer"}, "not run"),
        ({"data": ("cifar_fs", "cub200_2010")}, "not run"),
    ],
)
def test_a_published_accuracy_is_reproduced_only_under_its_own_conditions(changes, words):
    known = Published("FREE", ("released", "paper"), "SS", ("cifar_fs",), 1, 39.13, 100, "somewhere")
    (verdict,) = verdicts([known], [ours(**changes)])
    assert verdict.words == words


def test_the_mean_over_data_sets_has_their_intervals_together():
    assert over_data([(30.0, 0.3), (40.0, 0.4)]) == (pytest.approx(35.0), pytest.approx(0.25))
    assert Cell("a", "SS", 0, (1, 5)).name == "SS a seed 0"
