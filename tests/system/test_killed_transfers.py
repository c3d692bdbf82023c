"""A push or a fetch that is killed leaves whole versions, and trying again ends well.

`python tests/support/killed_transfers.py --kills 50` is the long form.
"""

from __future__ import annotations

import json
import os

import pytest
from forked import run_script


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills what it forks")
@pytest.mark.parametrize("count", [2, pytest.param(5, marks=pytest.mark.long)])
def test_killed_pushes_and_fetches_end_well_at_the_next_try(forks, count):
    done = run_script(forks, "killed_transfers.py", "--kills", str(count))
    assert done.returncode == 0, done.stdout + done.stderr
    push, fetch = (json.loads(line) for line in done.stdout.splitlines())
    assert (push["mixed"], push["not mended"]) == (0, 0)
    assert (fetch["wrong"], fetch["left"]) == (0, 0)
    assert push["killed"] == fetch["killed"] == count
