"""The tutorial, docs/index.md: its blocks are run in their order, as a reader would, and its promise is kept."""

from __future__ import annotations

import re
import shlex
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from forked import Forks

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.compile(r"^```(python|bash)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def _run_command(forks: Forks, line: str) -> None:
    """One command line of the tutorial; it must succeed."""
    program = Path(sys.executable).parent / "hf-free"
    words = shlex.split(line)
    assert words[0] == "hf-free"
    done = forks.run([sys.executable, str(program), *words[1:]])
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


@pytest.mark.long
def test_tutorial_runs_as_written(forks, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "index.md").read_text()
    blocks = BLOCKS.findall(page)
    assert [kind for kind, _ in blocks].count("python") >= 3
    names: dict[str, object] = {}
    printed = StringIO()
    for kind, code in blocks:
        if kind == "python":
            with redirect_stdout(printed):
                exec(compile(code, "docs/index.md", "exec"), names)
        else:
            for line in code.replace("\\\n", " ").splitlines():
                _run_command(forks, line)
    right = int(re.search(r"(\d+)% of 120 new images are right", printed.getvalue())[1])
    assert right > 50, "three classes: guessing gives 33 %"
