"""What is said before a run: licenses, limits, runs that come to nothing."""

from __future__ import annotations

import io
import json
import re
from functools import partial
from pathlib import Path

import pytest
from pico import pico_folder
from rich.console import Console

from hf_free.cli.tables import plan_tables
from hf_free.config.reading import merge
from hf_free.config.sections import QueriesConfig
from hf_free.config.tree import FreeConfig
from hf_free.teachers.loader import read_record
from hf_free.training.notices import start_notes
from hf_free.training.plan import plan as measured_plan

plan = partial(measured_plan, measure=False)


def _config(**values):
    small = {"five": {"latent_dim": 16, "width": 8}, "learner": {"backbone": "conv4_32", "image_size": 32}}
    return FreeConfig.from_dict(merge(small, values))


def _shown(planned, width=200):
    console = Console(file=io.StringIO(), width=width)
    console.print(plan_tables(planned))
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("card", "note"),
    [
        ("license: apple-amlr", r"non-commercial license: \S+ \(apple-amlr\)"),
        ("license: other\nlicense_name: apple-amlr", r"non-commercial license: \S+ \(other \(apple-amlr\)\)"),
        ("license: other\nlicense_name: deep mind", r"license unclear: \S+ \(other \(deep mind\)\)"),
        ("license: other", r"license unclear: \S+ \(other\)"),
        ("license: unknown", r"license unclear: \S+ \(unknown\)"),
        ("license: [mit, cc-by-nc-4.0]", r"non-commercial license: \S+ \(mit, cc-by-nc-4.0\)"),
        ("tags: [timm]", "no license stated"),
        ("license: bsl-1.0\nlicense_name: research", None),
    ],
)
def test_risky_licenses_are_named_before_training(tmp_path, card, note):
    models = [str(pico_folder(tmp_path / f"t{seed}", seed=seed)) for seed in range(2)]
    for model, text in zip(models, (card, "license: mit"), strict=True):
        (Path(model) / "README.md").write_text(f"---\n{text}\n---\n")
    notes = [note for note in plan(_config(models=models, trainer={"max_minutes": 1})).notes if "license" in note]
    assert len(notes) == (note is not None)
    assert note is None or re.match(note, notes[0])


def test_writing_that_would_be_mirrored_is_pointed_out(tmp_path):
    inked = [str(pico_folder(tmp_path / f"t{seed}", seed=seed)) for seed in range(2)]
    for folder in inked:
        config = json.loads((Path(folder) / "config.json").read_text())
        config["pretrained_cfg"] |= {"mean": [0.13] * 3, "std": [0.31] * 3}  # MNIST's
        (Path(folder) / "config.json").write_text(json.dumps(config))
    photographs = str(pico_folder(tmp_path / "t2", seed=2))

    def notes(models, **learner):
        found = plan(_config(models=models, learner=learner, trainer={"max_minutes": 1})).notes
        return [note for note in found if "those of writing" in note]

    (note,) = notes(inked)
    assert "learner.views=[identity,up_left,up_right,down_left,down_right]" in note
    assert not notes(inked, views=["identity"])
    assert not notes([*inked, photographs])


def test_runs_that_come_to_nothing_or_never_end_are_pointed_out(tmp_path):
    models = [str(pico_folder(tmp_path / f"t{seed}", seed=seed)) for seed in range(2)]
    (tmp_path / "again").symlink_to(models[0])
    twice = plan(_config(models=[*models, str(tmp_path / "again")], trainer={"max_minutes": 1}))
    assert any(note.startswith(f"the same teacher more than once: {models[0]}, ") for note in twice.notes)
    endless = plan(_config(models=models, trainer={"steps": None, "max_minutes": None}))
    assert "nothing ends this run" in " ".join(endless.notes)
    assert "no end" in _shown(endless)
    warm = plan(_config(models=models, trainer={"steps": 20, "max_minutes": 1.5}))
    assert "all 20 steps are warm-up" in " ".join(warm.notes)
    assert "20 outer steps or 1.5 min, whichever ends first" in _shown(warm)
    start = {"backbone": "test_resnet", "init_from": "timm:test_resnet"}
    real = plan(_config(models=models, learner=start, trainer={"max_minutes": 1}))
    assert any(note.startswith("not data-free: the learner starts from timm:test_resnet") for note in real.notes)
    assert real.total_flops is None
    assert "1 min, as many outer steps as fit in" in _shown(real)


def test_few_or_unlike_teachers_are_better_pooled_and_many_of_one_kind_are_not(tmp_path, monkeypatch):
    alike = [str(pico_folder(tmp_path / f"alike{seed}", seed=seed)) for seed in range(3)]
    other = str(pico_folder(tmp_path / "other", "resnet"))

    def advised(models, **settings):
        run = _config(**merge({"models": models, "trainer": {"max_minutes": 1}}, settings))
        return any("hf-free pool" in note for note in plan(run).notes)

    assert advised(alike)
    assert not advised(alike, method="paper"), "which is asked for by name"
    monkeypatch.setattr("hf_free.provenance.forecast.FEW_TEACHERS", 2)
    assert not advised(alike)
    assert advised([*alike, other])


def test_teachers_too_wide_for_the_head_of_align_are_pointed_out(tmp_path):
    models = [str(pico_folder(tmp_path / f"classes{n}", num_classes=n)) for n in (5, 6)]
    values = {"models": models, "bell": {"objective": "align"}, "trainer": {"max_minutes": 1}}
    (note,) = (note for note in plan(_config(**values)).notes if "n_way" in note)
    assert note.startswith(f"more than bell.n_way=5 classes: {models[1]}; nothing is distilled from them")
    wide = [str(pico_folder(tmp_path / f"wide{n}", num_classes=n)) for n in (6, 7)]
    (note,) = (note for note in plan(_config(**merge(values, {"models": wide}))).notes if "n_way" in note)
    assert note.startswith("nothing is distilled at all: every teacher has more than bell.n_way=5 classes")
    for other in ({"five": {"max_classes": 5}}, {"bell": {"n_way": 6}}, {"bell": {"objective": "distill"}}):
        assert not any("n_way" in note for note in plan(_config(**merge(values, other))).notes)


def test_too_few_classes_for_an_episode_are_pointed_out(tmp_path):
    """Classes of one name are one; names that only count, like LABEL_0, make no two classes one."""
    bell = {"objective": "align", "match_label_names": True}
    names = {"same": ["cat", "dog", "owl"], "counted": ["LABEL_0", "LABEL_1", "LABEL_2"]}
    for kind, labels in names.items():
        models = [str(pico_folder(tmp_path / f"{kind}{n}", seed=n, num_classes=3, label_names=labels)) for n in (0, 1)]
        values = {"models": models, "bell": bell, "trainer": {"max_minutes": 1}}
        notes = [note for note in plan(_config(**values)).notes if note.startswith("no episodes")]
        told = ["no episodes are replayed: the teachers know 3 classes in all, fewer than bell.n_way=5; "]
        assert [note.partition("--set")[0] for note in notes] == (told if kind == "same" else [])
        for other in ({"n_way": 3}, {"objective": "distill"}):
            found = plan(_config(**merge(values, {"bell": other}))).notes
            assert not any(note.startswith("no episodes") for note in found)


def test_what_a_run_has_no_use_for_and_known_classes_are_said(tmp_path):
    record = read_record(str(pico_folder(tmp_path / "t", label_names=["Ant", "bee", "cat", "dog", "eel"])))
    queries = QueriesConfig(budget=3)
    assert start_notes(queries, [record], ["ant", "owl"], has_tokens=False) == [
        "no teacher is a black box: the query budget and the endpoints' tokens are of no use",
        "1 of 2 classes of the validation set are classes of the teachers (ant): it should be of others",
    ]
    assert not start_notes(QueriesConfig(), [record], ["owl"], has_tokens=False)
