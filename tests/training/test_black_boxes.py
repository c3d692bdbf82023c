"""What a run does with teachers that only answer, for real: a server, a run, a kill."""

from __future__ import annotations

import json
import re

import pytest
import torch
from pico import pico_folder, pico_teacher
from runs import TINY
from safetensors.torch import load_file

from hf_free.config.reading import merge
from hf_free.config.tree import FreeConfig
from hf_free.errors import ConfigError, QueryBudgetError, RunError
from hf_free.methods.registry import METHODS
from hf_free.serving.served_model import ServedTeacher
from hf_free.serving.server import ModelServer
from hf_free.training.folder import RunFolder
from hf_free.training.plan import plan
from hf_free.training.trainer import train

PER_REQUEST = {"queries": {"pictures_per_request": 64}}


@pytest.fixture(scope="module")
def server():
    torch.set_num_threads(1)
    names = ["ant", "bee", "cat", "dog", "eel"]
    with ModelServer(ServedTeacher(pico_teacher("conv4", size=16, seed=7, label_names=names))) as running:
        yield running


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("teachers")
    names = ["ant", "fox", "gnu"]
    options = {"size": 16, "num_classes": 3, "label_names": names}
    return [str(pico_folder(root / f"t{seed}", seed=seed, **options)) for seed in range(2)]


def config(models, *more) -> FreeConfig:
    values = merge(TINY, merge(PER_REQUEST, {"models": models}))
    for one in more:
        values = merge(values, one)
    return FreeConfig.from_dict(values)


def test_a_black_box_is_a_teacher_of_default_and_its_address_stays_here(server, folders, tmp_path):
    name, before = f"endpoint:{server.address}", server.answered
    learner = train(config([*folders, name]), output=tmp_path / "run", progress=False)
    assert learner.embedding.projection.out_features == 3 + 3 + 5
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    asked = record["training"]["queries"]
    assert asked == server.answered - before > 4 + 2 * 8
    rows = RunFolder(tmp_path / "run").read_log()
    assert rows[-1]["queries"] == asked
    assert "queries_left" not in rows[-1]
    address = server.address.split("/")[2]
    published = [path for path in (tmp_path / "run" / "learner").rglob("*") if path.is_file()]
    assert not [path for path in published if address.encode() in path.read_bytes()]
    assert "a private teacher" in (tmp_path / "run" / "learner" / "README.md").read_text()


def test_a_killed_run_goes_on_and_asks_nothing_twice(server, folders, tmp_path):
    name, before = f"endpoint:{server.address}", server.answered
    train(config([*folders, name]), output=tmp_path / "whole", progress=False)
    paid, answered = server.answered - before, server.answered

    def cut(learner: object, minutes: float) -> None:
        if len(RunFolder(tmp_path / "cut").read_log()) == 5:
            raise SystemError("power cut")  # two steps after the checkpoint of step 3

    with pytest.raises(SystemError):
        train(config([*folders, name]), output=tmp_path / "cut", progress=False, watch=cut)
    until_then = server.answered - answered
    train(config([*folders, name]), output=tmp_path / "cut", progress=False, resume=True)
    assert server.answered - answered == paid
    assert until_then > paid / 2
    one, other = (load_file(tmp_path / run / "learner" / "model.safetensors") for run in ("whole", "cut"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_run_whose_answers_are_lost_says_so_and_counts_what_it_had_spent(server, folders, tmp_path, caplog):
    names, run = [*folders, f"endpoint:{server.address}"], tmp_path / "run"
    train(config(names, {"trainer": {"steps": 3}}), output=run, progress=False)
    paid = RunFolder(run).read_log()[-1]["queries"]
    (ledger,) = (run / "answers").iterdir()
    longer = {"trainer": {"steps": 4}}
    whole = ledger.read_bytes()
    ledger.write_bytes(b"")  # as a loss of power leaves it
    before = server.answered
    with pytest.raises(QueryBudgetError, match=r"0 of \d+ queries are left"):
        train(config(names, longer, {"queries": {"budget": int(paid)}}), output=run, progress=False, resume=True)
    assert server.answered == before
    caplog.clear()
    ledger.write_bytes(whole[: len(whole) // 2])
    train(config(names, longer), output=run, progress=False, resume=True)
    again = server.answered - before
    row = RunFolder(run).read_log()[-1]
    assert row["queries"] == paid + again
    assert json.loads((run / "record.json").read_text())["training"]["queries"] == paid + again
    assert re.search(
        rf"\d+ of the {paid:.0f} queries that this run has spent are in no file of .*answers", caplog.text
    )
    assert "is gone or empty" not in caplog.text
    ledger.unlink()
    RunFolder(run).log.unlink()
    caplog.clear()
    train(config(names, {"trainer": {"steps": 5}}), output=run, progress=False, resume=True)
    assert f"{ledger} is gone or empty, though its black box was asked" in caplog.text
    assert RunFolder(run).read_log()[-1]["queries"] == paid + server.answered - before


def test_within_a_budget_the_run_goes_on_without_further_answers(server, folders, tmp_path, caplog):
    before = server.answered
    name = f"endpoint:{server.address}"
    train(config([*folders, name], {"queries": {"budget": 30}}), output=tmp_path / "run", progress=False)
    assert server.answered - before == 30
    row = RunFolder(tmp_path / "run").read_log()[-1]
    assert (row["queries"], row["queries_left"]) == (30, 0)
    training = json.loads((tmp_path / "run" / "record.json").read_text())["training"]
    assert (training["queries"], training["query_budget"]) == (30, 30)
    assert "were asked 30 times, of 30 queries" in (tmp_path / "run" / "learner" / "README.md").read_text()
    assert caplog.text.count("query budget is spent") == 1


def test_black_boxes_alone_are_asked_about_drawn_pictures(server, tmp_path):
    with ModelServer(ServedTeacher(pico_teacher("conv4", size=16, num_classes=3))) as other:
        names = [f"endpoint:{one.address}" for one in (server, other)]
        learner = train(config(names), output=tmp_path / "run", progress=False)
    assert learner.embedding.projection.out_features == 5 + 3
    row = RunFolder(tmp_path / "run").read_log()[-1]
    assert row["memory"] > 8
    assert row["answers"] > 0


def test_a_method_that_needs_gradients_refuses_it_by_name(server, folders):
    name = f"endpoint:{server.address}"

    def reason(method):
        try:
            plan(FreeConfig.from_dict({"method": method, **merge(TINY, {"models": [*folders, name]})}), measure=False)
        except ConfigError as error:
            return str(error)
        return ""

    refusals = {method: text for method in METHODS if (text := reason(method))}
    assert list(refusals) == ["paper", "released", "purer", "tgr"], "default asks it, bidf-mkd needs answers alone"
    for method, text in refusals.items():
        assert f"{name} only answers, and --method {method} inverts every teacher" in text
        assert METHODS[method].needs.startswith("gradients")


def test_a_plan_says_what_a_step_asks(server, folders):
    planned = plan(config([*folders, f"endpoint:{server.address}"], {"queries": {"budget": 100}}), measure=False)
    (note,) = [note for note in planned.notes if note.startswith("black boxes: ")]
    assert note.endswith("96 queries are left")
    assert "a step that makes pictures asks each about 32 of them" in note  # two tasks of three classes, drawn 8


BIDF = {
    "method": "bidf-mkd",
    "five": {"inner_steps": 2, "teachers_per_step": 1, "images_per_class": 4, "recover_share": 1.0},
    "bell": {"replay_tasks": 1, "replay_patience": 1, "n_way": 5, "n_query": 2, "distilled_steps": 2},
    "queries": {"directions": 5, "smoothing": 0.5, "pictures_per_request": 256},
    "trainer": {"steps": 2, "warmup_steps": 0, "checkpoint_every": 100},
}


def test_black_boxes_are_inverted_by_queries_within_a_budget(server, tmp_path, caplog):
    before = server.answered
    with ModelServer(ServedTeacher(pico_teacher("conv4", size=16, num_classes=3))) as other:
        names = [f"endpoint:{one.address}" for one in (server, other)]
        values = merge(TINY, merge(BIDF, {"models": names, "queries": {"budget": 5000}}))
        train(FreeConfig.from_dict(values), output=tmp_path / "run", progress=False)
        spent = server.answered - before + other.answered
    rows = RunFolder(tmp_path / "run").read_log()
    assert rows[-1]["queries"] == spent <= 5000
    assert rows[-1]["distillation"] > 0
    assert {"cross_entropy", "teacher_accuracy", "adversarial"} <= set(rows[-1])
    assert rows[-1]["memory"] > 0


def test_an_inversion_that_the_budget_is_too_small_for_is_not_begun(server, folders, tmp_path, caplog):
    name, before = f"endpoint:{server.address}", server.answered
    values = merge(
        TINY, merge(BIDF, {"models": [*folders, name], "queries": {"budget": 50}, "five": {"teachers_per_step": 3}})
    )
    train(FreeConfig.from_dict(values), output=tmp_path / "run", progress=False)
    assert server.answered - before == 4  # names say which classes are one: nobody else's pictures are shown
    skipped = json.loads((tmp_path / "run" / "record.json").read_text())["skipped"]
    assert [entry["reference"] for entry in skipped] == [name]
    assert "its inversion takes 260 queries, and 46 are left" in skipped[0]["reason"]


def test_a_run_that_is_left_with_one_teacher_for_its_budget_says_so(server, folders, tmp_path):
    name = f"endpoint:{server.address}"
    values = merge(TINY, merge(BIDF, {"models": [folders[0], name], "queries": {"budget": 50}}))
    with pytest.raises(RunError, match="fewer than two tasks") as refused:
        train(FreeConfig.from_dict(values), output=tmp_path / "run", progress=False)
    assert "46 are left" in refused.value.given
    assert refused.value.action.startswith("a higher --query-budget; ")
