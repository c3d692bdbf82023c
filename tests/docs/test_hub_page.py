"""What the Hub and agents are told: every verb and exit code, the file that is counted, Python that can be read."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import yaml
from learners import LABELS, make, pictures
from typer.main import get_command

import hf_free
from hf_free.cli.console import RESUME_CODE
from hf_free.cli.main import app

DOCS = Path(__file__).parents[2] / "docs"
HUB, SKILL = (DOCS / name for name in ("hub.md", "SKILL.md"))


def test_the_skill_names_every_verb_with_flags_that_exist():
    text = SKILL.read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front)["name"] == "hf-free"
    commands, named = get_command(app).commands, set()
    for line in re.findall(r"`hf-free ([^`]+)`", body):
        verb, *words = shlex.split(line)
        if verb == "VERB":
            continue
        named.add(verb)
        flags = {flag for option in commands[verb].params for flag in (*option.opts, *option.secondary_opts)}
        assert {word for word in words if word.startswith("-")} <= flags, line
    assert named == set(commands)
    assert f" {RESUME_CODE} stopped" in body


def test_the_file_that_is_counted_is_in_learners_and_classifiers_once(tmp_path):
    (counted,) = re.findall(r'countDownloads: `path:"([^"]+)"`', HUB.read_text(encoding="utf-8"))
    learner = make()
    learner.save_pretrained(tmp_path / "learner")
    learner.adapt(pictures(), LABELS).save_pretrained(tmp_path / "classifier")
    for name in ("learner", "classifier"):
        assert [path.name for path in (tmp_path / name).rglob(counted)] == [counted]


def test_the_snippet_is_python_and_takes_names_that_exist():
    (snippet,) = re.findall(r"=> \[\n\t`(.*?)`,\n\]", HUB.read_text(encoding="utf-8"), re.DOTALL)
    tree = ast.parse(snippet.replace("${model.id}", "org/name"))
    imported = [name.name for node in tree.body if isinstance(node, ast.ImportFrom) for name in node.names]
    assert all(hasattr(hf_free, name) for name in imported)
