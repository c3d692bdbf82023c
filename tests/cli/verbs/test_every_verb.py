"""What all verbs promise: JSON on request, one line on request, and no terminal too poor for them."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len
from typer.main import get_command

from hf_free.cli.main import app, main

MAKERS = {"adapt", "app", "demo", "distill", "export", "invert", "pool", "push", "report", "serve", "train"}
"""Verbs that make something."""

LISTS = {"inspect", "methods", "search", "sweep"}
"""Verbs that list things with names; the others answer with figures or labels."""

COMMANDS = get_command(app).commands


def _flags(verb):
    return {flag for option in COMMANDS[verb].params for flag in (*option.opts, *option.secondary_opts)}


@pytest.mark.parametrize("verb", sorted(COMMANDS))
def test_every_verb_has_json_and_those_that_make_or_list_something_a_quiet_mode(verb):
    assert "--json" in _flags(verb)
    assert ({"--quiet", "-q"} <= _flags(verb)) is (verb in MAKERS | LISTS)


@pytest.fixture(scope="module")
def places(learner_run, pictures, teacher_folder, tmp_path_factory) -> dict[str, Path]:
    """A run, a data set, a teacher and a folder to write to, with names that no ASCII terminal can show."""
    root = tmp_path_factory.mktemp("ascii") / "Größe"
    shutil.copytree(learner_run, root / "übung")
    shutil.copytree(pictures / "train", root / "bilder")
    (root / "bilder" / "red").rename(root / "bilder" / "röt ±")
    for name in ("lehrer", "lehrerin"):
        shutil.copytree(teacher_folder, root / name)
    return {"run": root / "übung", "data": root / "bilder", "teacher": root / "lehrer", "root": root}


WORDS = {
    "methods": ["methods"],
    "cost": ["cost", "{teacher}"],
    "inspect": ["inspect", "{teacher}"],
    "inspect-json": ["inspect", "{teacher}", "--json"],
    "plan": ["train", "--models", "{teacher}", "{root}/lehrerin", "--dry-run", "--image-size", "16", "--set",
             "five.images_per_class=2", "bell.batch_size=8", "memory.drawn_per_step=4"],
    "invert": ["invert", "{teacher}", "--steps", "1", "--images-per-class", "2", "--output", "{root}/p.png"],
    "adapt": ["adapt", "{run}", "--support", "{data}", "--output", "{root}/kept", "--overwrite"],
    "predict": ["predict", "{run}", "--support", "{data}", "--images", "{data}"],
    "evaluate": ["evaluate", "{run}", "--dataset", "{data}", "--n-way", "2", "--k-shot", "1", "--episodes", "3",
                 "--n-query", "2", "--baselines", "none"],
    "report": ["report", "{run}", "--output", "{root}/seite.html"],
    "export": ["export", "{root}/kept", "--output", "{root}/datei.pt2"],
    "app": ["app", "me/few-shot", "--space", "me/space", "--output", "{root}/raum", "--dry-run"],
    "pool": ["pool", "--models", "{teacher}", "{root}/lehrerin", "--output", "{root}/vereint", "--overwrite"],
    "push": ["push", "{root}/nichts", "me/learner"],
    "distill": ["distill", "{root}/nichts", "--output", "{root}/klein"],
    "serve": ["serve", "{root}/nichts"],
    "refusal": ["report", "{root}/nichts"],
    "help": ["train", "--help"],
}  # fmt: skip


REFUSED = {"refusal", "push", "distill", "serve"}
SLOW = {"pool", "export"}
ALL = [pytest.param(name, marks=pytest.mark.long) if name in SLOW else name for name in WORDS]


@pytest.mark.parametrize("name", ALL)
def test_a_terminal_of_ascii_is_enough(name, places, monkeypatch):
    if name == "export":
        assert main([word.format(**places) for word in WORDS["adapt"]]) == 0  # what is exported
    streams = {
        kind: io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict") for kind in ("stdout", "stderr")
    }
    for kind, stream in streams.items():
        monkeypatch.setattr(sys, kind, stream)
    code = main([word.format(**places) for word in WORDS[name]])
    written = {}
    for kind, stream in streams.items():
        stream.flush()
        written[kind] = stream.buffer.getvalue().decode("ascii")
    assert code == (1 if name in REFUSED else 0), written
    assert "Traceback" not in written["stderr"]
    assert "Unexpected" not in written["stderr"]
    assert "".join(written.values()).strip()
    if name == "evaluate":
        assert "+-" in written["stdout"]
    if name == "predict":
        assert "r\\xf6t +-" in written["stdout"]
    if name == "inspect-json":
        assert json.loads(written["stdout"])[0]["reference"] == str(places["teacher"])


def _words(text):
    """Words without digits, which times have, and without the marks of a table or a paragraph around them.

    A table's titles are left out: where a row is a paragraph, its first column has none.
    """
    lines = [line for line in text.splitlines() if "┃" not in line]
    found = re.split(r"[\s─-╿]+", "\n".join(lines))
    return {word.strip(":;") for word in found if word and not re.search(r"\d", word)}


@pytest.mark.long
@pytest.mark.parametrize("name", ["methods", "cost", "paper", "inspect", "plan", "evaluate"])
def test_no_table_cuts_a_word_that_the_window_has_room_for(name, places, monkeypatch, capsys):
    words = [word.format(**places) for word in {**WORDS, "paper": ["cost"]}[name]]
    shown = {}
    for width in (400, 160, 100, 80):
        monkeypatch.setenv("COLUMNS", str(width))
        assert main(words) == 0
        shown[width] = capsys.readouterr().out
    for width in (160, 100, 80):
        assert max(map(cell_len, shown[width].splitlines())) <= width
        whole = {word for word in _words(shown[400]) if len(word) <= width - 4}
        assert len(whole) > 2
        assert whole - _words(shown[width]) == set(), f"cut at {width} columns"
        assert "…" not in shown[width]


@pytest.mark.parametrize("name", ["adapt", "invert", "report"])
def test_a_quiet_verb_prints_what_it_made_and_nothing_else(name, places, capsys):
    assert main([*(word.format(**places) for word in WORDS[name]), "-q"]) == 0
    made = WORDS[name][WORDS[name].index("--output") + 1].format(**places)
    assert capsys.readouterr().out == f"{made}\n"
    assert Path(made).exists()


HOMELESS = "~nobody-here/x"
NO_HOME = {
    "train": ["--models", "{teacher}", "{root}/lehrerin", "--output", HOMELESS],
    "train config": ["--config", HOMELESS],
    "train import": ["--models", "{teacher}", "{root}/lehrerin", "--import", HOMELESS + ".py", "--output", "{root}/n"],
    "train pictures": ["--models", "{teacher}", "{root}/lehrerin", "--pool-first", "--max-minutes", "1",
                       "--set", "memory.pictures=" + HOMELESS, "--output", "{root}/n"],
    "train from": ["--models", "{teacher}", "--from", HOMELESS, "--output", "{root}/n"],
    "pool": ["--models", "{teacher}", "{root}/lehrerin", "--pictures", HOMELESS, "--output", "{root}/n"],
    "distill": [HOMELESS, "--output", "{root}/n"],
    "evaluate": [HOMELESS, "--dataset", "{data}"],
    "report": [HOMELESS],
    "serve": [HOMELESS],
    "predict": ["{run}", "--support", "{data}", "--images", HOMELESS],
}  # fmt: skip
"""Verb, and what is given -> words that name a folder in the home of a user that does not exist."""


@pytest.mark.parametrize("name", NO_HOME)
def test_the_home_of_nobody_is_one_message(name, places, capsys):
    words = [word.format(**places) for word in NO_HOME[name]]
    assert main([name.partition(" ")[0], *words]) == 1
    said = capsys.readouterr().err
    assert "Unexpected" not in said
    assert "nobody-here" in said
