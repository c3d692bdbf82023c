"""What the tests of the verbs share."""

from __future__ import annotations

import sys

PROGRAM = [sys.executable, "-m", "hf_free.cli.main"]


COLORS = {"blue": (20, 30, 220), "green": (20, 200, 40), "red": (230, 20, 30)}
