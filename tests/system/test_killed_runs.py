"""Runs killed with SIGKILL at any moment lose at most the steps since their last checkpoint, and end to the bit alike.

`python tests/support/killed_runs.py --kills 50` is the long form.
"""

from __future__ import annotations

import json
import os

import pytest
from forked import run_script


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills what it forks")
@pytest.mark.parametrize("count", [2, pytest.param(5, marks=pytest.mark.long)])
def test_killed_runs_end_like_one_that_was_left_alone(forks, count):
    done = run_script(forks, "killed_runs.py", "--kills", str(count))
    *kills, _ = done.stdout.splitlines() or [""]
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(kills) == count
    assert all(json.loads(kill)["killed"] for kill in kills)
