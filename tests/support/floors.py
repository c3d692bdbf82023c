"""The lowest versions that pyproject.toml allows, a requirement a line, for `make test-floors`."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

TESTING = ("dev", "onnx")
"""Extras that the tests need besides the dependencies."""


def floors(project: dict) -> list[str]:
    """`name==floor` of every dependency; what the tests are run with is taken as new as pip has it."""
    wanted = [text.replace(">=", "==") for text in project["dependencies"]]
    extras = [text for name in TESTING for text in project["optional-dependencies"][name]]
    return wanted + [text for text in extras if not text.startswith(project["name"])]


if __name__ == "__main__":
    read = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    sys.stdout.write("\n".join(floors(read["project"])) + "\n")
