"""`pool`: a learner that is its teachers. Nothing is distilled, so that it takes minutes."""

from __future__ import annotations

import glob
import logging
import math
import os
import platform
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Literal

import timm
import torch

from hf_free.config.sections import FiveConfig, HubConfig, LearnerConfig
from hf_free.config.tree import check_sections
from hf_free.errors import ConfigError, RunError
from hf_free.inversion.base import TaskSize
from hf_free.inversion.five import Five
from hf_free.inversion.task import RecoveredTask
from hf_free.learner.embedding import Embedding
from hf_free.learner.inputs import InputSettings
from hf_free.learner.meta_learner import MetaLearner
from hf_free.learner.pooled_backbone import KIND, PooledBackbone
from hf_free.learner.pooled_teachers import PooledTeachers
from hf_free.pooling.fit import fit_pooled
from hf_free.pooling.including import check_may_include, include_teachers
from hf_free.pooling.keeping import most_alike
from hf_free.pooling.pictures import MOST_PIXELS, Progress, Said, ask_all, pictures_of, recover_from_all
from hf_free.provenance.learner_record import LearnerRecord
from hf_free.provenance.recorded_teacher import LeftOut, RecordedTeacher
from hf_free.provenance.run_record import Energy, PoolRecord, Recovered, Training
from hf_free.publishing.card import write_card
from hf_free.publishing.opening import check_can_be_opened
from hf_free.runtime.device import Precision, choose_device
from hf_free.runtime.distributed import seed_everything
from hf_free.runtime.energy import EnergyMeter
from hf_free.runtime.files import made_folder, sync_all
from hf_free.runtime.given import (
    TOLD,
    check_flags,
    check_function,
    check_minutes,
    check_texts,
    given_path,
    given_seed,
    real_path,
    whole_number,
)
from hf_free.runtime.owners import is_abandoned, owned_tag
from hf_free.runtime.random_streams import RandomStreams
from hf_free.runtime.saved_kind import LEARNER, holds_learner, in_use
from hf_free.runtime.side_by_side import workers_for
from hf_free.runtime.storage import storage_explained
from hf_free.runtime.text import listed
from hf_free.teachers.in_memory import OwnTeacher, given_teachers, pool_in_memory
from hf_free.teachers.listing import check_teachers
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.reference import existing_path
from hf_free.training.absolute_paths import absolute_texts
from hf_free.training.notices import license_notes, notes_on_writing, privacy_notes, twice_notes
from hf_free.training.own_pictures import read_own_pictures
from hf_free.training.run_lock import LOCK_FILE, RunLock, check_free
from hf_free.training.sized_inversions import images_that_fit
from hf_free.version import __version__

logger = logging.getLogger(__name__)

PICTURES = 1024
"""Number of pictures, none of them real, that all teachers are asked about; half of them are recovered."""

ROUNDS = 2
"""How often each teacher is inverted: the generator learns from the first round, the pictures of the second are
kept."""


def pool(
    models: Sequence[OwnTeacher],
    *,
    output: str | Path | None = None,
    overwrite: bool = False,
    include_weights: bool = False,
    learner: LearnerConfig | None = None,
    five: FiveConfig | None = None,
    hub: HubConfig | None = None,
    pictures: str | Path | None = None,
    rounds: int = ROUNDS,
    keep: int | None = None,
    recover_minutes: float | None = None,
    seed: int = 0,
    device: str = "auto",
    token: str | None = None,
    progress: Progress | None = None,
) -> MetaLearner:
    """Make a learner of the teachers themselves: their features, each teacher weighted by its agreement with the
    others.

    No real picture is used, but for `pictures`: centers, whitening and weights come from pictures recovered from the
    teachers and drawn by a program (`hf_free.pooling.fit`). The learner adapts and is measured, saved and published
    like any other. What is saved names the teachers by commit and SHA-256, and holds their weights only with
    `include_weights`.

    Args:
        models: Teachers: Hub ids `org/name[@revision][:classes]`, folders, YAML lists, collections; or networks in
            memory (see `hf_free.teachers.in_memory`), whose learner is not saved.
        output: Folder to save it to, new or empty; None saves nothing.
        overwrite: Whether an earlier learner in `output` is replaced.
        include_weights: Whether the teachers' files are copied into `output`; their licenses have to allow it.
        learner: Its views and head; backbone and picture size come from the teachers and are not read.
        five: How pictures are recovered.
        hub: Cache, memory for the teachers' weights, and what is published.
        pictures: Folder of pictures of your own, without labels, that stand for half of the drawn ones; the learner
            is not data-free then. None uses no real picture.
        rounds: How often each teacher is inverted; 0 uses drawn pictures alone.
        keep: How many teachers are kept: those that together say most of what all say (`hf_free.pooling.keeping`), so
            that a picture costs less. None keeps all.
        recover_minutes: How long recovering may take; a step that has begun is finished. None sets no end.
        seed: Of everything random.
        device: Where to compute.
        token: Hub token, for private and gated teachers.
        progress: Told what is done, how many of it are done, and how many there are.

    Raises:
        ConfigError: no teachers, a head that adapts a network of its own, licenses that forbid what is asked for.
        HubError: files that cannot be fetched.
        TeacherError: a checkpoint that cannot serve as a teacher.
        RunError: an output folder in use, or no usable teacher.
    """
    started = time.monotonic()
    learner = LearnerConfig() if learner is None else learner
    five, hub = FiveConfig() if five is None else five, HubConfig() if hub is None else hub
    check_sections({"learner": (learner, LearnerConfig), "five": (five, FiveConfig), "hub": (hub, HubConfig)})
    rounds, seed = whole_number(rounds, "rounds", least=0), given_seed(seed)
    keep = None if keep is None else whole_number(keep, "keep", least=1)
    check_flags(overwrite=overwrite, include_weights=include_weights)
    check_texts(token=token)
    check_minutes(recover_minutes, "recover_minutes")
    check_function(progress, "progress", TOLD)
    folder = None if output is None else given_path(output, "output", for_weights=True).absolute()
    seen = None if pictures is None else str(given_path(pictures, "pictures").absolute())
    models = given_teachers(models)
    texts = [model for model in models if isinstance(model, str)]
    if len(texts) == len(models):
        check_teachers(texts, least=1)
        if folder is not None:
            check_apart(folder, texts)
    elif folder is not None:
        raise ConfigError(
            "an output for a pooled learner of networks in memory, which a folder cannot name",
            allowed="teachers that are folders or repositories",
            action="hf_free.save_teacher(network, FOLDER), and give the folder",
        )
    _check_settings(learner, folder, include_weights=include_weights, overwrite=overwrite)
    seed_everything(seed)
    where = choose_device(device)

    # a folder that cannot be written to, or that another process is to write, is found out before minutes are spent
    with nullcontext() if folder is None else RunLock(folder), EnergyMeter() as energy:
        teachers = _load(models, texts, where, hub, learner.views, token=token)
        records = teachers.records
        if keep is not None and keep > len(records):
            raise ConfigError(
                f"keep={keep} of {len(records)} teachers", allowed=f"1 to {len(records)}, or all without it"
            )
        if include_weights:
            check_may_include(records)
        elif hub.push_to_hub:  # before minutes are spent; the learner itself is looked at again when it is made
            known = {"teachers": [record.to_dict() for record in records], "config": {"hub": asdict(hub)}}
            check_can_be_opened(LearnerRecord.from_dict({**known, "learner": {"pooled": {}}}))

        # ---- pictures that are not real, and what the teachers say of them
        channels: Literal[1, 3] = 3 if any(record.input_size[0] == 3 for record in records) else 1
        largest = max(max(record.input_size[1:]) for record in records)
        size = min(largest, MOST_PIXELS)
        own = read_own_pictures(seen, (channels, size), flip=five.flip)
        streams, precision = RandomStreams(seed), Precision.choose("auto", where)
        inverter = Five(five, image_size=size, channels=channels, device=where, precision=precision, streams=streams)
        tasks = recover_from_all(
            inverter,
            teachers,
            five,
            _rounds_that_fit(inverter, teachers, rounds),
            progress,
            is_over=_over_after(recover_minutes),
            streams=streams,
        )
        said = ask_all(teachers, pictures_of(tasks, teachers, PICTURES, (channels, size), own), progress)

        # ---- the learner
        kinds = [(record.architecture, record.input_size, record.num_features) for record in records]
        pooled, left_out = fit_pooled(said, kinds), [LeftOut(*one) for one in teachers.skipped]
        if keep is not None:
            pooled, unneeded = _thinned(pooled, said, teachers, keep)
            left_out += unneeded
            largest = max(max(record.input_size[1:]) for record in teachers.records)
        backbone = PooledBackbone(teachers, pooled.feature_sizes, pooled.answer_sizes, channels=channels)
        config = replace(learner, backbone=KIND, image_size=largest, channels=channels, init_from=None)
        inputs = InputSettings(learner.views, mean=(0.0,) * channels, std=(1.0,) * channels)
        made = MetaLearner(config, embedding=Embedding(pooled=pooled), inputs=inputs, backbone=backbone)
        spent, seconds = energy.spent(), time.monotonic() - started
    recovered = _recovered(tasks, rounds)
    record = _record(
        texts, teachers, left_out, config, five, hub, recovered, seen, keep, seed=seed, seconds=seconds, energy=spent
    )
    made.record = LearnerRecord.of(record)
    made = made.to(where).eval()
    if folder is not None:
        if include_weights:
            _save_with_teachers(made, backbone, teachers, folder, token=token, cache_dir=hub.cache_dir)
        else:
            made.save_pretrained(folder)
            write_card(folder, made.full_record(), redacts=False)
    if hub.push_to_hub:
        check_can_be_opened(made.full_record())
    return made


def _load(
    models: Sequence[OwnTeacher],
    texts: Sequence[str],
    device: torch.device,
    hub: HubConfig,
    views: Sequence[str],
    *,
    token: str | None,
) -> TeacherPool:
    """The teachers, once it is sure that they can be pooled; what is left out and what to know of them is said."""
    if len(texts) < len(models):
        teachers = pool_in_memory(models, device=device, token=token, cache_dir=hub.cache_dir)
    else:
        teachers = TeacherPool(
            absolute_texts(texts),
            budget=hub.teacher_memory,
            device=device,
            token=token,
            cache_dir=hub.cache_dir,
            strict=True,
        )
    for reference, reason in teachers.skipped:
        logger.warning("left out: %s: %s", reference, reason)
    records = teachers.records
    if names := [records[place].reference for place in teachers.black_boxes]:
        raise ConfigError(
            f"{listed(names)} only answer{'s' if len(names) == 1 else ''}: a pooled learner computes its teachers' "
            "features for every picture",
            allowed="teachers whose weights are available",
            action="hf-free train asks black boxes once, and its learner needs none of them",
        )
    if not records:
        raise RunError("no usable teacher", allowed="one or more", action="hf-free inspect ID... says why not")
    named = [(record.reference, record.license) for record in records]
    notes = [*twice_notes(records), *license_notes(named), *privacy_notes(records, hub)]
    for note in [*notes, *notes_on_writing(views, records)]:
        logger.warning("%s", note)
    return teachers


def _thinned(
    pooled: PooledTeachers, said: Said, teachers: TeacherPool, count: int
) -> tuple[PooledTeachers, list[LeftOut]]:
    """The teachers that stand best for all, which `teachers` goes on with; and the others, each with the reason."""
    kept, every = most_alike(pooled, said, count), teachers.records
    reason = f"the {count} that were kept agree with all {len(every)} to {kept.agreement:.2f} of 1"
    teachers.keep(kept.places)
    logger.warning("%d of %d teachers kept, which agree with all to %.2f of 1", count, len(every), kept.agreement)
    unneeded = [
        LeftOut(record.reference, reason, is_known_public=record.repo_id is not None and not record.is_hidden)
        for place, record in enumerate(every)
        if place not in kept.places
    ]
    return pooled.only(kept.places, kept.shares), unneeded


def _over_after(minutes: float | None) -> Callable[[], bool]:
    """Says whether so many minutes have passed since this call; never with None."""
    end = math.inf if minutes is None else time.monotonic() + 60 * minutes
    return lambda: time.monotonic() >= end


def _rounds_that_fit(inverter: Five, teachers: TeacherPool, rounds: int) -> int:
    """`rounds`, each inversion with as many pictures as memory allows; 0 where it allows too few.

    Several teachers are inverted at once where there is room for all of their pictures.
    """
    if not rounds:
        return 0
    images = images_that_fit(inverter, teachers)
    full = max(TaskSize.of(inverter.config, record.num_classes).images for record in teachers.records)
    if images is not None and inverter.inverts_beside:
        inverter.at_once = min(workers_for(inverter.config.teachers_per_step), max(1, images // full))
    if images is None:
        logger.warning("all pictures are drawn: recovering some from these teachers takes more memory than there is")
        return 0
    inverter.most_images = images
    return rounds


def _save_with_teachers(
    made: MetaLearner,
    backbone: PooledBackbone,
    teachers: TeacherPool,
    folder: Path,
    *,
    token: str | None,
    cache_dir: str | None,
) -> None:
    """Save a learner with its teachers' files; a new folder appears whole, or, if this is killed, not at all."""
    with storage_explained(folder), made_folder(folder.parent):
        prefix = f".{folder.name}.saving-"
        for left in folder.parent.glob(f"{glob.escape(prefix)}*"):
            if is_abandoned(left):
                shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(
            dir=folder.parent, prefix=f"{prefix}{owned_tag()}-", ignore_cleanup_errors=True
        ) as scratch:
            built = Path(scratch) / "learner"
            built.mkdir()
            included = include_teachers(teachers.references, teachers.records, built, token=token, cache_dir=cache_dir)
            made.record = made.record.with_teachers(included)
            backbone.included = built
            is_new = not folder.exists() or not any(folder.iterdir())
            place = built if is_new else folder
            made.save_pretrained(place)
            write_card(place, made.full_record(), redacts=False)
            if is_new:
                sync_all(built)
                os.replace(built, folder)
    backbone.included = folder


def _check_settings(learner: LearnerConfig, folder: Path | None, *, include_weights: bool, overwrite: bool) -> None:
    if learner.head == "maml":
        raise ConfigError(
            "head 'maml' adapts the network, and a pooled learner's are its teachers",
            allowed="nearest_mean, ridge, logistic, anil",
            action="--set learner.head=ridge",
        )
    if include_weights and folder is None:
        raise ConfigError("--include-weights without --output", action="name the folder that they are copied to")
    if folder is not None:
        check_free(folder, overwrite=overwrite, resume=False)
        check_output(folder, overwrite=overwrite)


def check_output(folder: Path, *, overwrite: bool) -> None:
    """Refuse an output folder that holds anything but a learner that may be replaced.

    Raises:
        RunError: it is not empty.
    """
    if not folder.exists() and not folder.is_symlink():  # a link that leads nowhere would be found out at the end
        return
    is_own = holds_learner(folder)
    if not folder.exists():
        raise RunError(f"the output {folder} is a link that leads nowhere", action="give another --output")
    is_empty = folder.is_dir() and all(path.name == LOCK_FILE for path in folder.iterdir())  # of one that was killed
    if not is_empty and not (overwrite and is_own):
        raise in_use(folder, LEARNER, is_own=is_own, error=RunError)


def check_apart(folder: Path, used: Iterable[str]) -> None:
    """Refuse an output that would replace what it is made of.

    Args:
        folder: The output.
        used: What it is made of, as it was named: Hub ids among them are passed over.

    Raises:
        RunError: one of them is that folder, or lies in it.
    """
    for name in used:
        path = existing_path(name)
        if path is not None and real_path(folder) in (real_path(path), *real_path(path).parents):
            raise RunError(
                f"the output {folder} would replace {name}, which it is made of",
                allowed="a folder apart from all that is read",
                action="give another --output",
            )


def _recovered(tasks: Sequence[RecoveredTask], rounds: int) -> Recovered:
    healths = [task.health for task in tasks]
    return Recovered(
        tasks=len(tasks),
        images=sum(len(task.images) for task in tasks),
        teacher_accuracy=round(fmean([health.accuracy for health in healths] or [0.0]), 4),
        diversity=round(fmean([health.diversity for health in healths] or [0.0]), 4),
        rounds=rounds,
    )


def _record(
    models: Sequence[str],
    teachers: TeacherPool,
    left_out: Sequence[LeftOut],
    learner: LearnerConfig,
    five: FiveConfig,
    hub: HubConfig,
    recovered: Recovered,
    pictures: str | None,
    keep: int | None,
    *,
    seed: int,
    seconds: float,
    energy: Energy,
) -> PoolRecord:
    """The learner's provenance; see `hf_free.training.results.run_record` for a run's."""
    return PoolRecord(
        config={
            "models": list(models),
            "seed": seed,
            **{"learner": asdict(learner), "five": asdict(five), "hub": asdict(hub)},
            **({} if pictures is None else {"memory": {"pictures": pictures}}),
            **({} if keep is None else {"keep": keep}),
        },
        teachers=list(map(RecordedTeacher.of, teachers.records)),
        skipped=left_out,
        licenses=Counter(record.license or "none stated" for record in teachers.records),
        recovered=recovered,
        training=Training(minutes=round(seconds / 60, 2), threads=torch.get_num_threads(), energy=energy),
        versions={
            "hf_free": __version__,
            "torch": torch.__version__,
            "timm": timm.__version__,
            "python": platform.python_version(),
        },
        data_free=pictures is None,
    )
