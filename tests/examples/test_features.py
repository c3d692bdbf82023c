"""The examples of single features: short, with public names only, and they run."""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path

import pytest
import torch
from pico import pico_folder
from PIL import Image

import hf_free

EXAMPLES = Path(__file__).parents[2] / "examples"
FEATURES = sorted(EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("path", FEATURES, ids=lambda path: path.stem)
def test_an_example_is_short_and_uses_public_names_only(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    for node in ast.walk(ast.parse(text)):
        modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module] if isinstance(node, ast.ImportFrom) else []
        for module in modules:
            assert not module.startswith("hf_free."), f"{module} is not public"
        if isinstance(node, ast.ImportFrom) and node.module == "hf_free":
            assert {alias.name for alias in node.names} <= set(hf_free.__all__)


SMALL = (
    *("trainer.steps=2", "trainer.warmup_steps=0", "trainer.device=cpu", "trainer.picture_every=1000"),
    *("five.min_teacher_accuracy=0", "five.min_diversity=0", "five.images_per_class=4", "five.inner_steps=1"),
    *("five.latent_dim=8", "five.width=4", "memory.drawn_per_step=8", "memory.held_out_images=8"),
    *("bell.batch_size=16", "bell.updates_per_step=1", "learner.backbone=conv4_32", "learner.image_size=16"),
)
"""A run of a second."""


def run(monkeypatch, name, *arguments):
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_from_teachers_to_a_learner_that_is_measured_and_continued(monkeypatch, tmp_path, capsys):
    torch.set_num_threads(1)
    teachers = [pico_folder(tmp_path / f"t{seed}", size=16, num_classes=3, seed=seed) for seed in range(3)]
    for label in ("left", "right"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for index in range(20):
            Image.new("RGB", (16, 16), (12 * index, 200 if label == "left" else 20, 90)).save(
                tmp_path / "data" / label / f"{index}.png"
            )
    run(monkeypatch, "quickstart.py", *teachers[:2], "--output", tmp_path / "first", "--set", *SMALL)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("5 examples of each of 7, 8, 9: ")
    assert last.endswith(" of 518 others named right")  # 533 sevens, eights and nines, 15 of them shown

    measured = (tmp_path / "first" / "learner", tmp_path / "data", "--n-way", 2, "--episodes", 3)
    run(monkeypatch, "measure.py", *measured)
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows[:4]] == ["learner", "learner", "untrained", "untrained"]

    more = (tmp_path / "first", teachers[2], "--output", tmp_path / "second", "--set", *SMALL)
    run(monkeypatch, "add_teachers.py", *more)
    assert capsys.readouterr().out.splitlines()[-1] == "3 teachers now, 2 of them from before"
