"""What a run is made of: checks, layout of logits, learner, objective."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch
from torch import nn

from hf_free.backbones.custom import import_networks
from hf_free.config.init_from import InitFrom
from hf_free.config.recipes import Defects
from hf_free.config.tree import FreeConfig
from hf_free.data.logits import LogitLayout
from hf_free.data.procedural.mixture import picture_colours
from hf_free.errors import ConfigError
from hf_free.inversion.five import Five
from hf_free.learner.backbone import build_backbone, check_takes_pictures, check_timm_start
from hf_free.learner.batchnorm import BatchNormMode
from hf_free.learner.embedding import Embedding
from hf_free.learner.inputs import InputSettings
from hf_free.learner.meta_learner import MetaLearner
from hf_free.learner.precision import FP32_NOTE, fitting_precision
from hf_free.metalearning.base import Objective
from hf_free.metalearning.bell import Aligner
from hf_free.metalearning.continual import ContinuedLayout, PreviousLearner
from hf_free.metalearning.distill import Distiller
from hf_free.runtime.device import Precision, check_can_compile
from hf_free.teachers.label_names import is_placeholder
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.soft_labels import SoftLabels


def check_backbone(config: FreeConfig) -> None:
    """Refuse a backbone that cannot be built or does not take the learner's pictures, before any teacher is fetched.

    One picture is run through it. A continued learner has its own.

    Raises:
        LearnerError: there is no such backbone, or not for pictures of that size; no weights to start from.
        ConfigError: a file of `imports` that cannot be imported.
    """
    import_networks(config.imports)
    start = config.learner.init_from
    architecture = None if start is None else InitFrom.parse(start).architecture
    if start is not None and architecture is not None:
        check_timm_start(start)
        if architecture != config.learner.backbone:
            raise ConfigError(
                f"learner.backbone is {config.learner.backbone!r}, {start!r} has the weights of a {architecture!r}",
                allowed="weights of the backbone itself",
                action=f"--backbone {architecture}",
            )
    if not config.continues_learner:
        channels = config.learner.channels
        network = build_backbone(config.learner, {}, (0.5,) * channels, (0.25,) * channels)
        check_takes_pictures(network, config.learner, {})


def make_soft_labels(
    config: FreeConfig, pool: TeacherPool, elder: PreviousLearner | None, device: torch.device
) -> SoftLabels:
    """Where whose answers stand; an old learner goes to the device."""
    if elder is None:
        return SoftLabels([record.num_classes for record in pool.records], seed=config.seed)
    elder.learner.to(device)
    return ContinuedLayout(elder, pool.records, seed=config.seed)


def make_learner(config: FreeConfig, pool: TeacherPool, sheet: LogitLayout, token: str | None) -> MetaLearner:
    """The untrained learner, or the one that a run starts from."""
    batchnorm: BatchNormMode = "running"
    if Defects.named(config.defects).transductive_batchnorm:
        batchnorm = "transductive"
    elif config.bell.objective == "align":
        batchnorm = "support"  # the paper's learner has no running statistics; inductive all the same
    inputs = InputSettings(config.learner.views, batchnorm=batchnorm)
    if config.learner.init_from is None:  # else as the weights it starts from are used to
        mean, std = _teachers_colours(pool, config.learner.channels)
        inputs = replace(inputs, mean=mean, std=std)
    cache_dir = config.hub.cache_dir
    # a learner that is continued gets an embedding of its own: what it was fitted to changes
    learner = MetaLearner.create(
        config.learner, embedding=Embedding(), inputs=inputs, token=token, cache_dir=cache_dir
    )
    if config.bell.objective == "distill":
        projection = nn.Linear(learner.backbone_dim, sheet.width)
        grown = sheet.grow(projection) if isinstance(sheet, ContinuedLayout) else projection
        learner.embedding = Embedding(grown, sheet.sizes)
    return learner


def _teachers_colours(pool: TeacherPool, channels: int) -> tuple[list[float], list[float]]:
    """Mean and deviation a channel of the teachers' pictures, averaged over the teachers of that many channels."""
    colours = [picture_colours(record.mean, record.std) for record in pool.records if record.input_size[0] == channels]
    if not colours:
        return [0.5] * channels, [0.25] * channels
    means, deviations = zip(*colours, strict=True)
    return torch.tensor(means).mean(0).tolist(), torch.tensor(deviations).mean(0).tolist()


def learners_precision(learner: MetaLearner, precision: Precision) -> Precision:
    """See `fitting_precision`; a run says so where it is another one."""
    fitting = fitting_precision(learner, precision)
    if fitting != precision:
        logging.getLogger(__name__).warning(FP32_NOTE.format(precision=precision.name))
    return fitting


def make_objective(
    config: FreeConfig, learner: MetaLearner, pool: TeacherPool, sheet: LogitLayout, precision: Precision
) -> Objective:
    """The configuration's way to learn."""
    if config.bell.objective == "distill":
        return Distiller(learner, sheet, config.bell, precision)
    names = {
        (teacher, index): name
        for teacher, record in enumerate(pool.records)
        for index, name in enumerate(record.label_names or ())
        if config.bell.match_label_names and not is_placeholder(name)
    }
    asked = None if len(names) == sum(record.num_classes for record in pool.records) else sheet
    flip = config.five.flip
    return Aligner(
        learner,
        config.bell,
        precision,
        class_names=names,
        sheet=asked,
        flip=flip,
        defects=Defects.named(config.defects),
    )


def compile_if_asked(five: Five, learner: MetaLearner, config: FreeConfig, device: torch.device) -> None:
    """Compile what can be compiled, where the configuration asks for it."""
    if not config.trainer.compile:
        return
    check_can_compile(device)
    five.compile()
    if config.bell.objective == "distill":  # what torch.compile makes has no second derivative, which replay takes
        learner.backbone.compile()


def set_threads(config: FreeConfig) -> None:
    """Compute with as many threads as the configuration says; None leaves it."""
    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)


def check_has_end(config: FreeConfig) -> None:
    """Refuse a run that neither steps nor minutes end.

    Raises:
        ConfigError: both are unset.
    """
    if config.trainer.steps is None and config.trainer.max_minutes is None:
        raise ConfigError(
            "a run without an end: trainer.steps and trainer.max_minutes are both unset",
            allowed="at least one of the two",
            action="--steps 1000 or --max-minutes 30; a recipe sets one unless null is given",
        )
