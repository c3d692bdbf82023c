"""What a launcher (torchrun, accelerate launch) tells each process that it starts: its rank, and how many there
are."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from hf_free.errors import ConfigError, RunError

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
"""Environment variables that torch's launchers set."""


PR_SET_PDEATHSIG = 1
"""Option of Linux's prctl(2): the signal that a process gets when its parent dies."""


@dataclass(frozen=True)
class Launched:
    """A process among those of one run; by default the only one."""

    rank: int = 0
    """Its number among all."""
    count: int = 1
    """All processes of the run."""
    local_rank: int = 0
    """Its number on this machine."""
    local_count: int = 1
    """Those on this machine."""

    @classmethod
    def here(cls, environment: Mapping[str, str] = os.environ) -> Launched:
        """This process, as its environment says.

        Raises:
            RunError: variables of a launcher that contradict each other, or of which some are missing.
        """
        given = {name: environment[name] for name in NAMES if environment.get(name)}
        numbers = {name: int(text) for name, text in given.items() if text.isdigit()}
        rank, count = numbers.get("RANK", 0), numbers.get("WORLD_SIZE", 1)
        local_rank, local_count = numbers.get("LOCAL_RANK", 0), numbers.get("LOCAL_WORLD_SIZE", count)
        is_whole = "RANK" in numbers and "LOCAL_RANK" in numbers if count > 1 else True
        if len(numbers) == len(given) and is_whole and rank < count and local_rank < local_count <= count:
            return cls(rank, count, local_rank, local_count)
        raise RunError(
            f"a launcher's environment variables make no sense: {', '.join(f'{k}={v}' for k, v in given.items())}",
            allowed="RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE as torchrun and accelerate launch set them, or "
            "none of them",
            action=f"start it with --num-processes, or unset {' '.join(given)}",
        )

    @property
    def machines(self) -> int:
        """How many machines the run has, where each has as many processes as this one."""
        return -(-self.count // self.local_count)

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes, prints and publishes."""
        return self.rank == 0

    def __str__(self) -> str:
        return f"rank {self.rank} of {self.count}"


def check_processes(wanted: int | None, here: Launched) -> None:
    """Refuse `--num-processes` in a process that a launcher has started, unless both mean the same number.

    Raises:
        ConfigError: they contradict each other.
    """
    if wanted is not None and here.count not in (1, wanted):
        raise ConfigError(
            f"--num-processes {wanted}, and a launcher has started {here.count} processes",
            allowed="one of the two, or the same number",
            action="leave out --num-processes",
        )


def end_with_launcher() -> None:
    """Have this process stopped (SIGTERM) when the one that started it dies, however it dies; Linux only.

    A launcher that is killed would leave its processes to themselves otherwise.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
