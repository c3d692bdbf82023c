"""A save that is killed leaves the old product or the new one, whole, and the next call tidies up.

`python tests/support/killed_saves.py --kills 20` is the long form, for all verbs that write files.
"""

from __future__ import annotations

import json
import os

import pytest
from forked import run_script


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills what it forks")
def test_killed_saves_of_invert_leave_the_old_picture_or_the_new_one(forks):
    done = run_script(forks, "killed_saves.py", "--kills", "3", "--only", "invert")
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(done.stdout)
    assert (counts["verb"], counts["mixed"], counts["left"]) == ("invert", 0, 0)
    assert counts["killed"] >= 2  # one by the clock may come too late
