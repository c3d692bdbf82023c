"""How many chains a run has, and what each of them needs; see `hf_free.runtime.chains`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from hf_free.config.recipes import Defects
from hf_free.config.sections import BellConfig, FiveConfig
from hf_free.errors import ConfigError, RunError
from hf_free.runtime.chains import check_even
from hf_free.training.workload import Workload

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Division:
    """In how many parts, by how many processes, a run has done its steps so far."""

    chains: int = 1
    processes: int = 1

    @classmethod
    def of(cls, state: Mapping[str, object] | None) -> Division:
        """What a checkpoint's `state.json` says; one that is older than chains had one."""
        found = {name: (state or {}).get(name) for name in ("chains", "processes")}
        return cls(**{name: value for name, value in found.items() if isinstance(value, int)})


def number_of_chains(wanted: int | None, processes: int, begun: Division | None = None) -> int:
    """The chains of a run; where one is resumed otherwise than it was begun, that is said once.

    Args:
        wanted: `trainer.chains`.
        processes: Processes there are.
        begun: How it did its steps before, where it is resumed.

    Returns:
        What is wanted; else as many as before, if the processes can share them out, so that the run goes on with the
        same numbers; else one per process.
    """
    if begun is None:
        return wanted or processes
    count = wanted or (begun.chains if begun.chains % processes == 0 else processes)
    if count != begun.chains:
        logger.warning(
            "the run was begun with %d chain(s) of work and goes on with %d: other random numbers and parts of "
            "batches from here on, as with another seed",
            begun.chains,
            count,
        )
    elif processes != begun.processes:
        logger.warning(
            "the run was begun with %d process(es) and goes on with %d, which do the same %d chain(s) of work",
            begun.processes,
            processes,
            count,
        )
    return count


def check_chains(five: FiveConfig, bell: BellConfig, defects: Defects, chains: int) -> None:
    """Refuse more chains than a step has work for.

    Raises:
        ConfigError: a chain would have no teacher, fewer than two images of a batch, or no episode to do; or a defect
            of the released code that one process alone has.
    """
    if chains == 1:
        return
    rules = [("five.teachers_per_step", five.teachers_per_step, chains)]
    rules += [("bell.batch_size", bell.batch_size, 2 * chains)] if bell.distills else []
    rules += [("bell.replay_tasks", bell.replay_tasks, chains)] if not bell.distills else []
    for key, value, least in rules:
        if value < least:
            raise ConfigError(
                f"{key} is {value}, and a step is cut into {chains} chains",
                allowed=f"at least {least} of it, to give each chain its part",
                action=f"--set {key}={least}, or fewer --num-processes and --chains",
            )
    if defects.student_keeps_replay_weights:
        raise ConfigError(
            f"the defect student_keeps_replay_weights with {chains} chains",
            allowed="one chain: the weights that it keeps are those of the last episode alone",
            action="one process, without --chains",
        )


_SECOND = "its updates take gradients of gradients, which a sharded network refuses or, worse, leaves out silently"

_NOT_SHARDED = {
    "align": "its steps are taken by a copy of the network, and its replay takes gradients of gradients, which a "
    "sharded network refuses or, worse, leaves out silently",
    "regularize": _SECOND,
    "episodes": f"MAML: {_SECOND}",
    "bilevel": _SECOND,
}
"""Why a learner cannot be shared out, by objective."""


def check_shared_learner(bell: BellConfig, chains: int, processes: int, *, compiles: bool = False) -> None:
    """Refuse to share out a learner that cannot be.

    Args:
        bell: Whether it is to be, and how it learns.
        chains: Of the run.
        processes: Of the run.
        compiles: Whether the learner is to be compiled.

    Raises:
        ConfigError: another objective than `distill`, more chains than processes, or `trainer.compile`.
    """
    if not bell.shard_learner:
        return
    if not bell.distills:
        raise ConfigError(
            f"bell.shard_learner with bell.objective = {bell.objective!r}: {_NOT_SHARDED[bell.objective]}",
            allowed="bell.objective=distill, whose updates take first derivatives alone",
            action="--set bell.shard_learner=false, or bell.objective=distill",
        )
    if compiles:
        raise ConfigError(
            "bell.shard_learner with trainer.compile: what is trained would not be what is compiled",
            allowed="one of the two",
            action="--set trainer.compile=false",
        )
    if chains > processes > 1:
        raise ConfigError(
            f"bell.shard_learner with {chains} chains in {processes} processes",
            allowed="one chain in each process",
            action="leave out --chains",
        )


def check_scaled(bell: BellConfig, precision: str) -> None:
    """Refuse fp16 where no loss is scaled.

    Raises:
        ConfigError: another objective than `distill`.
    """
    if precision == "fp16" and not bell.distills:
        raise ConfigError(
            f"trainer.mixed_precision = 'fp16' with bell.objective = {bell.objective!r}, whose inner steps do not "
            "scale their losses: small gradients would be zero",
            allowed="fp16 with bell.objective=distill; auto, no or bf16 with any",
            action="--mixed-precision bf16 or no",
        )


def check_processes(work: Workload, defects: Defects, *, processes: int, teachers: int) -> None:
    """Refuse what a run of so many processes would.

    Raises:
        ConfigError, RunError: see `check_chains`, `check_chains_of_teachers` and `check_shared_learner`; chains that
            the processes cannot share out evenly.
    """
    chains = number_of_chains(work.trainer.chains, processes)
    check_even(chains, processes)
    check_chains(work.five, work.bell, defects, chains)
    check_chains_of_teachers(chains, teachers)
    check_shared_learner(work.bell, chains, processes, compiles=work.trainer.compile)


def check_chains_of_teachers(chains: int, teachers: int) -> None:
    """Refuse chains without a teacher.

    Raises:
        RunError: there are more chains than teachers.
    """
    if chains > teachers:
        raise RunError(
            f"{chains} chains of work for {teachers} teachers",
            allowed="at least one teacher per chain, and one chain per process",
            action=f"--num-processes {teachers} at most, or more teachers",
        )
