"""The losses of three steps on a CPU, kept: a change of the numbers is meant, or it is found here.

Regenerate after a change that is meant: `python tests/training/test_golden_losses.py`. They are of fp32; sums are
taken in another order by other processors and numbers of threads, which moves them by less than `TOLERANCE`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from pico import pico_folder
from runs import TINY

import hf_free.training.finishing
from hf_free import FreeConfig, train
from hf_free.config.reading import merge
from hf_free.training.folder import RunFolder

GOLDEN = Path(__file__).with_name("golden_losses.json")

TOLERANCE = 5e-3
"""Relative. Twenty times what other vector instructions (none, AVX2, AVX-512) in torch and oneDNN do to them."""

RECIPES = {"default": {}, "align": {"bell": {"objective": "align", "replay_tasks": 1, "n_way": 2, "n_query": 2}}}


def losses(folder: Path, values) -> list[dict[str, float]]:
    """The log of three steps without its times."""
    models = [str(pico_folder(folder / f"teacher{seed}", seed=seed)) for seed in range(2)]
    own = {"models": models, "seed": 7, "five": {"inner_steps": 2}, "trainer": {"steps": 3}}
    settings = merge(merge(TINY, own), values)
    train(FreeConfig.from_dict(settings), output=folder / "run", progress=False)
    rows = RunFolder(folder / "run").read_log()
    return [{name: value for name, value in row.items() if name != "minutes"} for row in rows]


@pytest.mark.parametrize("name", RECIPES)
def test_three_steps_have_the_losses_they_had(tmp_path, name):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = losses(tmp_path, RECIPES[name])
    torch.set_num_threads(threads)
    expected = json.loads(GOLDEN.read_text())[name]
    assert [row.keys() for row in found] == [row.keys() for row in expected]
    for row, kept in zip(found, expected, strict=True):
        assert row == pytest.approx(kept, rel=TOLERANCE, abs=1e-4)


def write() -> None:
    """Write the losses of this machine into the file."""
    for drawn in ("draw_pictures", "draw_heterogeneity"):
        setattr(hf_free.training.finishing, drawn, lambda *_, **__: None)
    torch.set_num_threads(1)
    kept = {}
    for name, values in RECIPES.items():
        with tempfile.TemporaryDirectory() as scratch:
            kept[name] = losses(Path(scratch), values)
    (Path(sys.argv[1]) if len(sys.argv) > 1 else GOLDEN).write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    write()
