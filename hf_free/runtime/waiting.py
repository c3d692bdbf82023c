"""How long torch's threads wait awake for each other before they sleep: GNU OpenMP, that of torch on Linux.

A thread that waits awake holds its core. By default it does so for 300,000 turns, several milliseconds, so that on a
machine with other work it often keeps the core that the thread it waits for could have had.
"""

from __future__ import annotations

import os

TURNS = 30_000
"""Turns of waiting awake. Measured for a training step of a Conv-4 (128 pictures, bf16, two threads, two cores;
docs/experiments/speed.md): 0.96 of the time with idle cores, about 0.76 and 0.61 with one and two other programs."""

_TURNS, _POLICY = "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"
"""Variables of the GNU OpenMP manual by which a user chooses herself."""


def wait_briefly() -> None:
    """Let this process's threads, and those of programs that it starts, wait awake for a moment only.

    To be called before torch is imported, which reads it then; a choice of the user's own stays.
    """
    if _POLICY not in os.environ:
        os.environ.setdefault(_TURNS, str(TURNS))
