"""Strong teachers: they are pooled, and one network learns what the pooled learner says (`trainer.pool_first`).

    teachers -> pooled learner in RUN/pooled -> one network in RUN/learner, from a teacher's weights where it may be

To recover pictures from deep networks takes most of a run, and leaves little of it to learn. To ask them about drawn
pictures is cheap, their features say more than their answers, and one of them knows already what real pictures look
like (docs/experiments/few-teachers.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import NamedTuple

import torch

from hf_free.backbones.custom import import_networks
from hf_free.config.sections import BellConfig, LearnerConfig, TrainerConfig
from hf_free.config.tree import FreeConfig, departures
from hf_free.errors import ConfigError, HfFreeError
from hf_free.learner.meta_learner import MetaLearner
from hf_free.pooling.pictures import Progress
from hf_free.provenance.teacher_record import FILES
from hf_free.runtime.device import choose_device
from hf_free.runtime.distributed import ALONE, TIMEOUT_MINUTES, Ranks
from hf_free.runtime.files import remove_folder
from hf_free.runtime.given import from_home
from hf_free.runtime.interrupts import Stopped
from hf_free.runtime.progress import counting_bar
from hf_free.teachers.config_check import TeacherSpec, check_config
from hf_free.teachers.listing import resolve
from hf_free.teachers.reference import TeacherReference
from hf_free.teachers.source import is_single_file, read_config
from hf_free.training.absolute_paths import absolute_config
from hf_free.training.asking_time import asking_seconds
from hf_free.training.distill import NETWORK, USUAL, USUAL_FROM_A_TEACHER, distill, has_one_to_start_from
from hf_free.training.folder import RunFolder
from hf_free.training.pool import pool
from hf_free.training.progress import Console, say

STRONG_CLASSES = 10
"""A teacher that tells so many classes apart counts as strong. With such ones among its teachers a network that
learns from the pooled learner was 6 points above one that learns from recovered tasks, in two of two sets; without, 4
to 7 points below in two of three (docs/experiments/few-teachers.md)."""

MOST_ASKED = 30
"""Most teachers on a Hub whose configurations are read before the run begins."""

LEAST_MINUTES = 10.0
"""Fewest minutes of a run that pools its teachers unasked: pooling takes some of them."""

LEAST_SHARE = 0.5
"""Share of a run's minutes in which the network learns, at least, however long pooling takes."""

RECOVERING_SHARE = 0.3
"""Share of a run's minutes in which pictures are recovered for pooling, at most."""

PATIENCE = TIMEOUT_MINUTES / 2
"""Minutes in which pictures are recovered at most while other processes wait for that."""

SMALL_PICTURES = 64
"""Pixels up to which teachers are asked in a minute or two, whatever they are. Of larger pictures it is estimated."""

ASKING_SHARE = 0.3
"""Share of a run's minutes in which the teachers may be asked about the first pictures, where it is done unasked."""


def pools_first(
    config: FreeConfig,
    *,
    resume: bool = False,
    in_memory: bool = False,
    is_watched: bool = False,
    token: str | None = None,
) -> bool:
    """Whether a run pools its teachers and has one network learn from that: as `trainer.pool_first` says; with null
    in a run of `LEAST_MINUTES` or more that is otherwise as it comes, with a strong teacher, where all teachers can be
    asked in a part of its minutes.

    Args:
        config: The run's configuration.
        resume: Whether an earlier run goes on, whose configuration says what it does.
        in_memory: Whether teachers are given in memory.
        is_watched: Whether something is to be called after each step.
        token: Hub token, for the configurations of private and gated teachers.

    Raises:
        ConfigError: it is asked for together with something that does not go with it.
    """
    wanted = config.trainer.pool_first
    in_the_way = _in_the_way(config, in_memory=in_memory, is_watched=is_watched)
    if wanted and in_the_way:
        raise ConfigError(
            f"trainer.pool_first together with {' and '.join(in_the_way)}",
            allowed="minutes, and the default method: teachers that are pooled first teach one network",
            action="leave one of them out (--no-pool-first recovers tasks instead)",
        )
    if wanted is not None or resume:
        return bool(wanted)
    minutes = config.trainer.max_minutes
    if in_the_way or minutes is None or minutes < LEAST_MINUTES or not _is_as_it_comes(config):
        return False
    try:
        import_networks(config.imports)
        references = resolve(config.models, token=token)
    except HfFreeError:  # the run will say so
        return False
    if len(references) < 2 or sum(one.is_on_hub for one in references) > MOST_ASKED:
        return False
    known = [_known_of(one, token, config.hub.cache_dir) for one in references]
    if not any(one.classes >= STRONG_CLASSES for one in known):
        return False
    return _seconds_to_ask(known, config.trainer) <= ASKING_SHARE * 60 * minutes


def train_from_pooled(
    config: FreeConfig,
    folder: RunFolder,
    *,
    ranks: Ranks = ALONE,
    resume: bool,
    token: str | None,
    console: Console | None,
) -> MetaLearner:
    """Pool the teachers into `folder.pooled` and have one network learn from that, into `folder.learner`.

    Args:
        config: The run's configuration.
        folder: The run's folder, claimed by its first process.
        ranks: The processes of the run: the first pools, and all of them ask and learn.
        resume: Whether an earlier run goes on.
        token: Hub token.
        console: Where progress is shown; None shows nothing.

    Raises:
        Stopped: a signal asked for it; the learner holds what was learned so far, and `resume` goes on.
    """
    config = absolute_config(replace(config, trainer=replace(config.trainer, pool_first=True)))
    trainer = config.trainer
    import_networks(config.imports)
    if trainer.threads is not None:
        torch.set_num_threads(trainer.threads)
    if resume and ranks.first(folder.is_finished_from_pooled()):
        return MetaLearner.from_pretrained(folder.learner, token=token, cache_dir=config.hub.cache_dir)
    before = folder.config.read_text(encoding="utf-8") if resume and ranks.is_first else None
    with counting_bar(console) as show:
        begun = None
        if ranks.is_first:
            folder.begin(config.to_yaml(), resume=resume)
            begun = _begun(config, folder, ranks, token=token, console=console, show=show)
        pooled, plan = (None, None) if begun is None else begun
        plan = ranks.first(plan)
        assert plan is not None, "the first process says it"
        newest = folder.learning.folders()[:1]
        try:
            made = distill(
                pooled if pooled is not None and ranks.count == 1 else folder.pooled,
                folder.learner,
                minutes=plan.minutes,
                learner=None if plan.starts_from_best else _network(config.learner),
                keep_views=True,
                bell=_rates(config.bell, USUAL_FROM_A_TEACHER if plan.starts_from_best else USUAL),
                hub=config.hub,
                pictures=config.memory.pictures,
                resume=plan.goes_on,
                start_from="best" if plan.starts_from_best else None,
                seed=config.seed,
                device=trainer.device,
                mixed_precision=trainer.mixed_precision,
                token=token,
                progress=show if ranks.is_first else None,
            )
        except HfFreeError:
            if before is not None and folder.learning.folders()[:1] == newest:  # new settings that fail at once
                folder.write_text(folder.config, before)
            raise
    if folder.learning.folders():
        raise Stopped
    return made


class _Learning(NamedTuple):
    """How the network learns from the pooled learner."""

    minutes: float
    starts_from_best: bool
    goes_on: bool
    """Whether there is a checkpoint of it."""


def _begun(
    config: FreeConfig, folder: RunFolder, ranks: Ranks, *, token: str | None, console: Console | None, show: Progress
) -> tuple[MetaLearner, _Learning]:
    """The pooled learner of the run, and how its network is to learn: by its first process alone."""
    minutes = config.trainer.max_minutes
    assert minutes is not None, "refused before"
    with _threads_of_all(ranks):
        pooled = _pooled(config, folder, ranks, minutes, token=token, console=console, show=show)
    left = max(LEAST_SHARE * minutes, minutes - (pooled.record.training.minutes or 0.0))
    starts = config.learner.backbone == LearnerConfig().backbone and has_one_to_start_from(pooled)
    goes_on = bool(folder.learning.folders())
    if not goes_on and folder.learner.exists():  # of a process that was killed before its first checkpoint
        remove_folder(folder.learner)
    return pooled, _Learning(left, starts, goes_on)


@contextmanager
def _threads_of_all(ranks: Ranks) -> Iterator[None]:
    """Within the block this process has the threads of all processes of its machine, which wait for it."""
    own = torch.get_num_threads()
    torch.set_num_threads(own * ranks.launched.local_count)
    try:
        yield
    finally:
        torch.set_num_threads(own)


def _in_the_way(config: FreeConfig, *, in_memory: bool, is_watched: bool) -> list[str]:
    """What is asked for that only a run of steps can do."""
    usual, trainer = TrainerConfig(), config.trainer
    named = {
        f"method {config.method}": config.method != "default",
        f"inversion {config.inversion}": config.inversion is not None,
        "defects": bool(config.defects),
        f"bell.objective {config.bell.objective}": not config.bell.distills,
        f"learner.init_from {config.learner.init_from}": config.learner.init_from is not None,
        f"{trainer.steps} steps": trainer.steps is not None,
        "the head maml": config.learner.head == "maml",
        "teachers in memory": in_memory,
        "watch, which is called after each step": is_watched,
        "hub.push_checkpoints": config.hub.push_checkpoints is not None,
        "hub.push_generator": config.hub.push_generator,
        "no trainer.max_minutes": trainer.max_minutes is None,
        "mixed precision fp16": trainer.mixed_precision == "fp16",
    }
    only_steps = ("validation_dataset", "validation_split", "log_with", "compile", "chains", "memory")
    named |= {f"trainer.{name}": getattr(trainer, name) != getattr(usual, name) for name in only_steps}
    return [name for name, is_given in named.items() if is_given]


def _is_as_it_comes(config: FreeConfig) -> bool:
    """Whether nothing is set of how the learner learns; how it sees pictures and adapts may be."""
    seen = {"learner.views", "learner.channels", "learner.head", "memory.pictures"}
    return not [key for key in departures(config.to_dict()) if not key.startswith("five.") and key not in seen]


class _Known(NamedTuple):
    """What a teacher's configuration says of it."""

    classes: int
    spec: TeacherSpec | None
    """None where it cannot be read."""


def _seconds_to_ask(known: Sequence[_Known], trainer: TrainerConfig) -> float:
    """Seconds of asking all teachers about the first pictures: none of small pictures, infinitely many where a
    teacher's configuration cannot be read.
    """
    specs = [one.spec for one in known if one.spec is not None]
    if len(specs) < len(known):
        return math.inf
    large = [spec for spec in specs if max(spec.input_size[1:]) > SMALL_PICTURES]
    if not large:
        return 0.0
    try:
        return asking_seconds(large, choose_device(trainer.device), trainer.threads or torch.get_num_threads())
    except HfFreeError:  # the run will say so
        return math.inf


def _known_of(reference: TeacherReference, token: str | None, cache_dir: str | None) -> _Known:
    """Number of classes and configuration of a teacher; of one whose configuration cannot be read, nothing."""
    from hf_free.hub.snapshot import fetch_snapshot

    unknown = _Known(0, None)
    if reference.is_endpoint:
        return unknown
    try:
        if reference.is_local:
            path = from_home(reference.location)
            folder = path.parent if is_single_file(reference) else path
        else:
            folder = fetch_snapshot(
                reference.location,
                revision=reference.revision,
                required=FILES[:1],
                token=token,
                cache_dir=cache_dir,
            ).folder
        spec = check_config(read_config(reference, folder), str(reference))
    except (HfFreeError, OSError):  # the run will say so; those of transformers are not measured either
        return unknown
    classes = spec.num_classes if reference.classes is None else len(reference.classes)
    return _Known(classes, spec)


def _pooled(
    config: FreeConfig,
    folder: RunFolder,
    ranks: Ranks,
    minutes: float,
    *,
    token: str | None,
    console: Console | None,
    show: Progress,
) -> MetaLearner:
    """The pooled learner of the run: the one that is there, or a new one."""
    if folder.has_pooled():
        return MetaLearner.from_pretrained(folder.pooled, token=token, cache_dir=config.hub.cache_dir)
    say(
        console,
        "Pooling the teachers first; one network learns what they say together (--no-pool-first recovers tasks "
        "instead)",
    )
    if folder.pooled.exists():  # of a process that was killed while it wrote
        remove_folder(folder.pooled)
    try:
        return pool(
            config.models,
            output=folder.pooled,
            learner=config.learner,
            five=config.five,
            hub=replace(config.hub, push_to_hub=None),
            pictures=config.memory.pictures,
            recover_minutes=RECOVERING_SHARE * minutes
            if ranks.count == 1
            else min(RECOVERING_SHARE * minutes, PATIENCE),
            seed=config.seed,
            device=config.trainer.device if ranks.count == 1 else str(ranks.device),
            token=token,
            progress=show,
        )
    except BaseException:
        folder.config.unlink(missing_ok=True)  # nothing is there to go on from: the same command begins anew
        raise


def _network(learner: LearnerConfig) -> LearnerConfig:
    """The network that learns from nothing: the one that is asked for, else what imitates best for its cost."""
    return learner if learner.backbone != LearnerConfig().backbone else replace(learner, backbone=NETWORK)


def _rates(bell: BellConfig, usual: BellConfig) -> BellConfig:
    """Batch size and rates of imitation, with what is set otherwise than a run of steps has it."""
    of_steps = asdict(FreeConfig().bell)
    return replace(usual, **{name: value for name, value in asdict(bell).items() if value != of_steps[name]})
