"""Strong teachers: they are pooled, and one network learns what the pooled learner says (`trainer.pool_first`).

    teachers -> pooled learner in RUN/pooled -> one network in RUN/learner, from a teacher's weights where it may be

To recover pictures from deep networks takes most of a run, and leaves little of it to learn. To ask them about drawn
pictures is cheap, their features say more than their answers, and one of them knows already what real pictures look
like (docs/experiments/few-teachers.md).
"""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import torch

from hf_free.backbones.custom import import_networks
from hf_free.config.sections import BellConfig, LearnerConfig, TrainerConfig
from hf_free.config.tree import FreeConfig, departures
from hf_free.errors import ConfigError, HfFreeError
from hf_free.learner.meta_learner import MetaLearner
from hf_free.pooling.pictures import Progress
from hf_free.runtime.files import remove_folder
from hf_free.runtime.interrupts import Stopped
from hf_free.runtime.progress import counting_bar
from hf_free.teachers.config_check import check_config
from hf_free.teachers.listing import resolve
from hf_free.teachers.reference import TeacherReference
from hf_free.teachers.source import FILES, is_single_file, read_config
from hf_free.training.absolute_paths import absolute_config
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

LARGEST_PICTURES = 64
"""Pixels up to which it is done unasked: larger pictures take longer to ask about than such a run may take."""


def pools_first(
    config: FreeConfig,
    *,
    processes: int = 1,
    resume: bool = False,
    in_memory: bool = False,
    is_watched: bool = False,
    token: str | None = None,
) -> bool:
    """Whether a run pools its teachers and has one network learn from that: as `trainer.pool_first` says; with null
    in a run of `LEAST_MINUTES` or more that is otherwise as it comes, with a strong teacher, all of small pictures.

    Args:
        config: The run's configuration.
        processes: Processes of the run.
        resume: Whether an earlier run goes on, whose configuration says what it does.
        in_memory: Whether teachers are given in memory.
        is_watched: Whether something is to be called after each step.
        token: Hub token, for the configurations of private and gated teachers.

    Raises:
        ConfigError: it is asked for together with something that does not go with it.
    """
    wanted = config.trainer.pool_first
    in_the_way = _in_the_way(config, processes, in_memory=in_memory, is_watched=is_watched)
    if wanted and in_the_way:
        raise ConfigError(
            f"trainer.pool_first together with {' and '.join(in_the_way)}",
            allowed="one process, minutes, and the default method: teachers that are pooled first teach one network",
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
    is_small = all(one.pixels <= LARGEST_PICTURES for one in known)
    return is_small and any(one.classes >= STRONG_CLASSES for one in known)


def train_from_pooled(
    config: FreeConfig, folder: RunFolder, *, resume: bool, token: str | None, console: Console | None
) -> MetaLearner:
    """Pool the teachers into `folder.pooled` and have one network learn from that, into `folder.learner`.

    Args:
        config: The run's configuration.
        folder: The run's folder, claimed by this process.
        resume: Whether an earlier run goes on.
        token: Hub token.
        console: Where progress is shown; None shows nothing.

    Raises:
        Stopped: a signal asked for it; the learner holds what was learned so far, and `resume` goes on.
    """
    config = absolute_config(replace(config, trainer=replace(config.trainer, pool_first=True)))
    trainer, minutes = config.trainer, config.trainer.max_minutes
    assert minutes is not None, "refused before"
    import_networks(config.imports)
    if trainer.threads is not None:
        torch.set_num_threads(trainer.threads)
    if resume and folder.is_finished_from_pooled():
        return MetaLearner.from_pretrained(folder.learner, token=token, cache_dir=config.hub.cache_dir)
    before = folder.config.read_text(encoding="utf-8") if resume else None
    folder.begin(config.to_yaml(), resume=resume)
    with counting_bar(console) as show:
        pooled = _pooled(config, folder, minutes, token=token, console=console, show=show)
        left = max(LEAST_SHARE * minutes, minutes - (pooled.record.training.minutes or 0.0))
        starts = config.learner.backbone == LearnerConfig().backbone and has_one_to_start_from(pooled)
        usual = USUAL_FROM_A_TEACHER if starts else USUAL
        goes_on = bool(folder.learning.folders())
        if not goes_on and folder.learner.exists():  # of a process that was killed before its first checkpoint
            remove_folder(folder.learner)
        newest = folder.learning.folders()[:1]
        try:
            made = distill(
                pooled,
                folder.learner,
                minutes=left,
                learner=None if starts else _network(config.learner),
                keep_views=True,
                bell=_rates(config.bell, usual),
                hub=config.hub,
                resume=goes_on,
                start_from="best" if starts else None,
                seed=config.seed,
                device=trainer.device,
                mixed_precision=trainer.mixed_precision,
                token=token,
                progress=show,
            )
        except HfFreeError:
            if before is not None and folder.learning.folders()[:1] == newest:  # new settings that fail at once
                folder.write_text(folder.config, before)
            raise
    if folder.learning.folders():
        raise Stopped
    return made


def _in_the_way(config: FreeConfig, processes: int, *, in_memory: bool, is_watched: bool) -> list[str]:
    """What is asked for that only a run of steps can do."""
    usual, trainer = TrainerConfig(), config.trainer
    named = {
        f"method {config.method}": config.method != "default",
        f"inversion {config.inversion}": config.inversion is not None,
        "defects": bool(config.defects),
        f"bell.objective {config.bell.objective}": not config.bell.distills,
        f"learner.init_from {config.learner.init_from}": config.learner.init_from is not None,
        f"{trainer.steps} steps": trainer.steps is not None,
        f"{processes} processes": processes > 1,
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
    seen = {"learner.views", "learner.channels", "learner.head"}
    return not [key for key in departures(config.to_dict()) if not key.startswith("five.") and key not in seen]


class _Known(NamedTuple):
    """What a teacher's configuration says of it."""

    classes: int
    pixels: float
    """Height or width of its pictures, whichever is larger; infinite where it is not said."""


def _known_of(reference: TeacherReference, token: str | None, cache_dir: str | None) -> _Known:
    """Number of classes and size of pictures of a teacher; of one whose configuration cannot be read, nothing."""
    from hf_free.hub.snapshot import fetch_snapshot

    unknown = _Known(0, math.inf)
    if reference.is_endpoint:
        return unknown
    try:
        if reference.is_local:
            path = Path(reference.location).expanduser()
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
    return _Known(classes, max(spec.input_size[1:]))


def _pooled(
    config: FreeConfig,
    folder: RunFolder,
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
            recover_minutes=RECOVERING_SHARE * minutes,
            seed=config.seed,
            device=config.trainer.device,
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
