"""Two logs compared step by step: equal is exit code 0, anything else 1."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from benchmark.compare_runs import compare, main
from pico import pico_folder
from runs import TINY

from hf_free import FreeConfig
from hf_free.config.reading import merge

ROWS = [{"step": 1, "minutes": 0.1, "answers": 1.0}, {"step": 2, "minutes": 0.2, "answers": 0.5, "memory": 8}]


def _log(path: Path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("changed", "tolerance", "differing"),
    [
        ({"minutes": 9.0}, 0.0, []),
        ({"answers": 0.500001}, 0.0, ["answers"]),
        ({"answers": 0.500001}, 1e-5, []),
        ({"answers": float("nan")}, 1e-5, ["answers"]),
        ({"memory": 9}, 0.0, ["memory"]),
        ({"new": 1.0}, 0.0, ["new"]),
    ],
)
def test_what_differs_is_found(tmp_path, changed, tolerance, differing):
    first, second = _log(tmp_path / "a", ROWS), _log(tmp_path / "b", [ROWS[0], {**ROWS[1], **changed}])
    compared, found = compare(first, second, tolerance)
    assert [difference.name for difference in found] == differing
    assert compared >= 5


def test_a_missing_step_is_a_difference(tmp_path):
    _, found = compare(_log(tmp_path / "a", ROWS), _log(tmp_path / "b", ROWS[:1]))
    assert {difference.step for difference in found} == {2}


@pytest.mark.long
def test_two_settings_are_run_and_compared(tmp_path, monkeypatch, capsys):
    models = [str(pico_folder(tmp_path / f"t{seed}", seed=seed)) for seed in range(2)]
    config = FreeConfig.from_dict(merge(TINY, {"models": models}))
    (tmp_path / "run.yaml").write_text(config.to_yaml())
    words = ["compare_runs", "--config", str(tmp_path / "run.yaml"), "--steps", "3"]
    monkeypatch.setattr(sys, "argv", [*words, "--second", "trainer.deterministic=true"])
    assert main() == 0
    shown = capsys.readouterr().out
    assert "of 0 numbers" not in shown
    assert re.search(r"seconds a step: [\d.]+ and [\d.]+ \([\d.]+ times\)", shown)
    monkeypatch.setattr(sys, "argv", [*words, "--second", "bell.lr=0.02"])
    assert main() == 1
    assert "step 3  answers: " in capsys.readouterr().out


@pytest.mark.long
def test_two_commits_are_run_and_compared(tmp_path, monkeypatch, capsys):
    """Of a repository with this one's files, whose second commit learns faster."""
    import benchmark.compare_runs

    root, new = tmp_path / "repository", "    lr: float = Field(default=0.02"
    shutil.copytree(Path(__file__).parents[2] / "hf_free", root / "hf_free")
    monkeypatch.setattr(benchmark.compare_runs, "ROOT", root)
    sections = root / "hf_free" / "config" / "sections.py"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(root)]
    for step in ("first", "second"):
        if step == "second":
            sections.write_text(sections.read_text().replace("    lr: float = Field(default=1e-2", new))
        for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", step], ["tag", step]):
            subprocess.run([*git, *words], check=True)
    models = [str(pico_folder(tmp_path / f"t{seed}", seed=seed)) for seed in range(2)]
    values = merge(TINY, {"models": models})
    (tmp_path / "run.yaml").write_text(json.dumps(values))
    words = ["compare_runs", "--config", str(tmp_path / "run.yaml"), "--steps", "3", "--commits", "first", "second"]
    monkeypatch.setattr(sys, "argv", words)
    assert main() == 1
    assert "step 3  answers: " in capsys.readouterr().out
