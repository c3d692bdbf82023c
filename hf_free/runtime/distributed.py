"""The one place where Accelerate is set up: the processes of a run, and what they say to each other.

Nothing is wrapped. FIVE and BELL take gradients of gradients, which a DistributedDataParallel or sharded module gives
wrongly, some without an error; so every process has whole networks of its own, and what was found by each is combined
by hand, once per step (`hf_free.runtime.chains`).
"""

from __future__ import annotations

import atexit
import gc
import importlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator as Accelerator
from accelerate.utils import InitProcessGroupKwargs, set_seed
from torch import Tensor, nn

from hf_free.errors import ConfigError, FailedElsewhere, RunError
from hf_free.runtime.launched import Launched, end_with_launcher
from hf_free.runtime.meeting import meet
from hf_free.runtime.processes import available_cores
from hf_free.runtime.text import listed, others_words

T = TypeVar("T")

TIMEOUT_MINUTES = 30
"""Minutes that a process waits for the others, which may have larger teachers to load."""

STORE_SECONDS = 5.0
"""Seconds that the store through which the processes have met is given to say who is behind."""

_TALKS = "hf_free/talks/"
"""Prefix of the keys under which each process notes how often it has talked."""

SETTINGS = {
    "ACCELERATE_MIXED_PRECISION": ("no", "trainer.mixed_precision"),
    "ACCELERATE_DYNAMO_BACKEND": ("no", "trainer.compile"),
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": ("1", "bell.gradient_accumulation_steps"),
    "ACCELERATE_USE_FSDP": ("false", "bell.shard_learner"),
    "ACCELERATE_USE_DEEPSPEED": ("false", None),
    "ACCELERATE_USE_MEGATRON_LM": ("false", None),
    "ACCELERATE_TORCH_DEVICE": ("", "trainer.device"),
}
"""Environment variables by which Accelerate would deviate from config.yaml: their allowed values, and the key to use
instead."""


class LostRank(RunError):
    """Another process of the run has ended, and has said why itself."""


@dataclass
class Ranks:
    """The processes of a run, as one of them sees them; by itself the only one."""

    launched: Launched = field(default_factory=Launched)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    seconds: float = 0.0
    """Time spent in communication, including waiting for the slowest process."""
    talks: int = 0
    """How often they have communicated, which tells a process that stands still from those that wait for it."""

    @property
    def count(self) -> int:
        """All processes."""
        return self.launched.count

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes, prints and publishes."""
        return self.launched.is_first

    def gather(self, value: T) -> list[T]:
        """What each process says, in the order of their ranks; anything that can be pickled.

        Raises:
            LostRank: one of them has ended.
        """
        if self.count == 1:
            return [value]
        found = [value] * self.count
        self._talk(lambda: dist.all_gather_object(found, value))
        return found

    def first(self, value: T) -> T:
        """What the first process says, on all of them."""
        told = [value]
        if self.count > 1:
            self._talk(lambda: dist.broadcast_object_list(told, src=0))
        return told[0]

    def wait(self) -> None:
        """Go on when all have come here."""
        self.gather(None)

    def rows(self, tensor: Tensor) -> Tensor:
        """Each process's tensor (n, ...), contiguous and of one shape and type on all -> (count x n, ...)."""
        if self.count == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.count)]
        self._talk(lambda: dist.all_gather(parts, tensor.contiguous()))
        return torch.cat(parts)

    @torch.no_grad()
    def copy_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Give tensors the values that they have on the first process, in place."""
        if self.count > 1:
            kept = list(tensors)
            values = self.first([tensor.cpu() for tensor in kept] if self.is_first else [])
            for tensor, value in zip(kept, values, strict=True):
                tensor.copy_(value)

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """Within the block the first process to fail says why; the others end without a word.

        Raises:
            FailedElsewhere: another process failed first.
        """
        try:
            yield
        except Exception as error:
            if self.count > 1 and not self._is_first_to_fail():
                raise FailedElsewhere(f"{self.launched} ends because another has failed") from error
            raise

    def _is_first_to_fail(self) -> bool:
        """Whether nobody has failed before, by a note in the store through which the processes have met."""
        own = str(self.launched.rank)
        try:
            store = dist.distributed_c10d._get_default_store()
            return store.compare_set("hf_free/failed", "", own).decode() == own
        except RuntimeError:  # the store has gone with its process
            return True

    def _behind(self) -> list[str]:
        """The processes that have talked less often than this one, by the notes in the store."""
        found: list[str] = []

        def look() -> None:
            with suppress(RuntimeError):  # the store has gone with its process
                store = dist.distributed_c10d._get_default_store()
                for rank in range(self.count):
                    key = f"{_TALKS}{rank}"
                    if not store.check([key]) or int(store.get(key)) < self.talks:
                        found.append(f"rank {rank}")

        asking = threading.Thread(target=look, daemon=True)  # a store whose process stands still does not answer
        asking.start()
        asking.join(STORE_SECONDS)
        return found

    def _talk(self, say: Callable[[], object]) -> None:
        begun = time.perf_counter()
        self.talks += 1
        with suppress(RuntimeError):  # the store has gone with a launcher that was killed; the processes go on without
            dist.distributed_c10d._get_default_store().set(f"{_TALKS}{self.launched.rank}", str(self.talks))
        try:
            say()
        except RuntimeError as error:  # gloo and NCCL have no kinds of errors: whatever it is, the group is dead
            reason = others_words(error).split(". ")[0]  # gloo goes on with advice to its own developers
            behind = self._behind()
            who = f": {listed(behind)} did not come to where it waited" if behind else ""
            raise LostRank(
                f"{self.launched} has lost the others{who} ({reason})",
                allowed=f"processes that all reach the same point within {TIMEOUT_MINUTES} minutes",
                action="see what the others say; then --resume goes on from the last checkpoint",
            ) from error
        finally:
            self.seconds += time.perf_counter() - begun


ALONE = Ranks()
"""One process."""


@contextmanager
def quiet_unless(is_first: bool) -> Iterator[None]:
    """Within the block hf-free's notes and warnings are those of the first process alone; errors are everybody's."""
    logger = logging.getLogger("hf_free")
    before = logger.level
    if not is_first:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's random numbers."""
    set_seed(seed)


def make_accelerator(device: torch.device) -> Accelerator:
    """Accelerate's view of this process, on a device that is chosen already."""
    return Accelerator(cpu=device.type == "cpu")


def remember(
    accelerator: Accelerator, models: Sequence[nn.Module], optimizers: Iterable[torch.optim.Optimizer]
) -> None:
    """Have a checkpoint of Accelerate's hold these. Nothing is moved or wrapped: the run goes on with its own."""
    for model in models:
        accelerator.prepare_model(model, device_placement=False, evaluation_mode=True)
    for optimizer in optimizers:
        accelerator.prepare_optimizer(optimizer, device_placement=False)


def connect(
    launched: Launched, device: str, *, threads: int | None = None, environment: Mapping[str, str] = os.environ
) -> Ranks:
    """Meet the other processes of the run, and say how many threads this one computes with.

    Args:
        launched: What the launcher said.
        device: `trainer.device`: with several processes `auto`, `cpu` or `cuda`, of which each takes its own.
        threads: `trainer.threads`; None shares the processor's cores out over the processes of this machine.
        environment: This process's.

    Raises:
        ConfigError: an environment variable that contradicts the configuration, or a device for one process alone.
        RunError: the others cannot be met, or there are more processes than GPUs.
    """
    check_environment(environment)
    if launched.count == 1:
        return ALONE
    end_with_launcher()
    # its functions take the group of their import as a default; imported later it would keep ours past its end
    importlib.import_module("torch.distributed.nn.functional")
    own = _own_device(launched, device)
    torch.set_num_threads(threads or threads_of_a_rank(launched.local_count))
    patience = InitProcessGroupKwargs(timeout=timedelta(minutes=TIMEOUT_MINUTES))
    try:
        if environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and not dist.is_initialized():
            _meet_in_the_launchers_store(launched, own, environment)
        accelerator = Accelerator(cpu=own.type == "cpu", kwargs_handlers=[patience])
    except (RuntimeError, ValueError) as error:  # of torch's: a port that is taken, an address that nobody answers at
        at = f"{environment.get('MASTER_ADDR', '?')}:{environment.get('MASTER_PORT', '?')}"
        raise RunError(
            f"{launched} cannot meet the others at {at} ({others_words(error)})",
            allowed="an address of the first machine that all can reach, and a port that is free there",
            action="another --main_process_port (accelerate launch) or --master-port (torchrun)",
        ) from error
    if accelerator.num_processes != launched.count:
        raise RunError(
            f"Accelerate sees {accelerator.num_processes} process(es), and the launcher started {launched.count}",
            allowed="as many of one as of the other",
            action="hf-free train --num-processes, torchrun, or accelerate launch --multi_gpu (on CPUs, too)",
        )
    atexit.unregister(_leave)
    atexit.register(_leave)
    return Ranks(launched, own)


def _leave() -> None:
    """Take the group apart, and with it gloo's threads, while Python still runs.

    One of them may yet have to let go of what it sent last, for which it needs Python's lock. One that asks for it
    while the interpreter ends, ends the process with SIGABRT (seen with torch 2.14 and Python 3.11).
    """
    if dist.is_initialized() and dist.get_backend() == "gloo":  # NCCL could wait there for one that has failed
        dist.destroy_process_group()
        gc.collect()  # an error that was caught in a talk has the group in its traceback


def _meet_in_the_launchers_store(launched: Launched, device: torch.device, environment: Mapping[str, str]) -> None:
    """Form the group that Accelerate then takes over, in a store that knows earlier attempts of the run."""
    patience = timedelta(minutes=TIMEOUT_MINUTES)
    address, port = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
    store = dist.TCPStore(address, port, launched.count, is_master=False, timeout=patience)
    own_part = meet(store, launched.rank, launched.count, patience)
    backend = "gloo" if device.type == "cpu" else "nccl"
    dist.init_process_group(backend, store=own_part, rank=launched.rank, world_size=launched.count, timeout=patience)


def check_environment(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse environment variables by which a run would not be what its configuration says.

    Raises:
        ConfigError: one of `SETTINGS`.
    """
    for name, (plain, key) in SETTINGS.items():
        text = environment.get(name, "").lower()
        if text and text != plain:
            raise ConfigError(
                f"the environment variable {name} is {environment[name]!r}",
                allowed=f"{repr(plain) + ' or ' if plain else ''}none: what a run computes stands in its config.yaml",
                action=f"unset it{'' if key is None else f', and use --set {key}=...'}; accelerate launch sets it by "
                "its flags and by the file that accelerate config writes",
            )


def threads_of_a_rank(local_count: int) -> int:
    """Threads with which each of so many processes of this machine computes, so that they do not fight for cores."""
    return max(1, min(torch.get_num_threads(), available_cores() // local_count))


def _own_device(launched: Launched, name: str) -> torch.device:
    kind = torch.device("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else torch.device(name)
    if kind.type == "cpu":
        return kind
    if kind.type != "cuda" or kind.index is not None:
        raise ConfigError(
            f"trainer.device is {name!r}, and there are {launched.count} processes",
            allowed="auto, cpu or cuda: each process takes a device of its own",
            action="--device auto",
        )
    if launched.local_count > torch.cuda.device_count():
        raise RunError(
            f"{launched.local_count} processes on a machine with {torch.cuda.device_count()} GPU(s)",
            allowed="at most one process per GPU",
            action=f"--num-processes {max(1, torch.cuda.device_count())}, or --device cpu",
        )
    return torch.device("cuda", launched.local_rank)
