"""Random numbers by purpose: a seeded stream for each, begun anew at every step of a run.

With one global generator every number depends on all that was drawn before it: one more teacher, or one more picture
in the log, changes everything, and two processes with one seed do the same work twice. Here a stream is fixed by the
run's seed, what it is for, a number (of a teacher, or of one of several chains of work) and the step. Nothing of it
has to be saved: a run that goes on from step 100 draws what it would have drawn.

The global generators are seeded as well, for code that is not ours (dropout, the initial weights of a timm network),
and nothing of ours draws from them in a run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

STRANGERS = "strangers"
"""Purpose of the numbers that code that is not ours draws from the global generators."""


class Stream:
    """Random numbers for one purpose, on whatever device they are wanted.

    Args:
        seed: Where it begins; None stands for torch's global generators.
    """

    def __init__(self, seed: int | None) -> None:
        self._seed = seed
        self._generators: dict[str, torch.Generator] = {}

    def on(self, device: torch.device | str) -> torch.Generator | None:
        """The generator to hand to torch's functions; None, as there, is the global one."""
        if self._seed is None:
            return None
        name = torch.device(device).type  # "cuda" and "cuda:0" are one: a process computes on one device
        if name not in self._generators:
            self._generators[name] = torch.Generator(device).manual_seed(self._seed)
        return self._generators[name]

    def fresh(self) -> torch.Generator:
        """A CPU generator of its own, for a function that draws much: one number of this stream is its seed."""
        seed = torch.randint(2**31, (), generator=self.on("cpu"))
        return torch.Generator().manual_seed(int(seed.item()))

    def states(self) -> dict[str, torch.Tensor]:
        """Where the generators are, by kind of device, for `load_states`; nothing of the global ones."""
        return {name: generator.get_state() for name, generator in self._generators.items()}

    def load_states(self, states: Mapping[str, torch.Tensor]) -> None:
        """Go on where a stream of the same purpose was."""
        for name, state in states.items():
            generator = self.on(name)
            if generator is not None:
                generator.set_state(state)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Numbers that the block draws are drawn again after it; this does not hold for the global generators, see
        `fork_rng`."""
        before = self.states()
        try:
            yield
        finally:
            self._generators = {name: self._generators[name] for name in before}
            self.load_states(before)


GLOBAL = Stream(None)
"""Torch's global generators, for what is no part of a run."""


class RandomStreams:
    """The streams of a run.

    Args:
        seed: The run's; None hands out `GLOBAL` for every purpose.
    """

    def __init__(self, seed: int | None) -> None:
        self._seed, self._step = seed, 0
        self._begun: dict[tuple[str, int], Stream] = {}

    def begin(self, step: int) -> None:
        """Begin all streams anew for a step, and the global generators for code that is not ours."""
        self._step = step
        self._begun.clear()
        self.seed_strangers()

    def seed_strangers(self, number: int = 0) -> None:
        """Seed torch's global generators for this step and the chain of work of that number, otherwise each time."""
        if self._seed is not None:
            drawn = torch.randint(2**31, (), generator=self.stream(STRANGERS, number).on("cpu"))
            torch.manual_seed(int(drawn.item()))

    def stream(self, purpose: str, number: int = 0) -> Stream:
        """The stream for a purpose; asked for again in the same step, it goes on where it is.

        Args:
            purpose: What the numbers are for, in a word.
            number: Tells streams of one purpose apart: a teacher's index, or a chain's.
        """
        if self._seed is None:
            return GLOBAL
        if (purpose, number) not in self._begun:
            self._begun[purpose, number] = Stream(self._seed_of(purpose, number))
        return self._begun[purpose, number]

    @contextmanager
    def seeding(self, purpose: str, number: int = 0) -> Iterator[None]:
        """Within the block torch's global CPU generator is seeded for a purpose; after it, it is as it was before.

        For initial weights, which torch and timm draw from there.
        """
        if self._seed is None:
            yield
            return
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(self._seed_of(purpose, number))
            yield

    def _seed_of(self, purpose: str, number: int) -> int:
        name = f"{self._seed}/{purpose}/{number}/{self._step}"
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1  # 63 bits: torch takes no more


UNSEEDED = RandomStreams(None)
"""No streams: everything is drawn from torch's global generators, for what is no part of a run."""
