"""What the benchmark measures, as experiments/matrix.yaml has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

EXPERIMENTS = Path(__file__).parent / "experiments"
"""Folder of the data that say what is measured, and what the README shows of it."""


def read_experiment(name: str) -> dict[str, Any]:
    """One of the files there, by its name without ending."""
    return yaml.safe_load((EXPERIMENTS / f"{name}.yaml").read_text(encoding="utf-8"))


MATRIX = read_experiment("matrix")
"""Methods, scenarios, shots, seeds, goals, and the rows of the ablation."""
