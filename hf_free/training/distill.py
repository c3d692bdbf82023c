"""`distill`: one small network that stands for a pooled learner.

    pooled learner -> drawn pictures, and what it says of them -> a network that predicts it -> learner

Half of the time goes into asking the teachers about new pictures, half into learning from all that were asked.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from hf_free.config.sections import BellConfig, HubConfig, LearnerConfig
from hf_free.errors import ConfigError
from hf_free.evaluation.flops import count
from hf_free.learner.inputs import InputSettings
from hf_free.learner.meta_learner import MetaLearner
from hf_free.learner.pooled_backbone import PooledBackbone
from hf_free.learner.pooled_teachers import PooledTeachers
from hf_free.metalearning.muon import muon_or_adamw
from hf_free.pooling.imitation import PictureBank, imitating_embedding, imitation_loss, likeness
from hf_free.pooling.pictures import MOST_PIXELS, Progress
from hf_free.provenance.learner_record import LearnerRecord
from hf_free.provenance.run_record import Imitation, Training
from hf_free.publishing.card import write_card
from hf_free.runtime.device import Precision, choose_device
from hf_free.runtime.distributed import seed_everything
from hf_free.runtime.interrupts import StopBetweenSteps
from hf_free.runtime.memory_budget import pictures_at_once
from hf_free.runtime.random_streams import RandomStreams
from hf_free.teachers.pool import TeacherPool
from hf_free.training.pool import check_output

logger = logging.getLogger(__name__)

NETWORK = "conv4_384"
"""What imitates best for its cost (docs/experiments/few-teachers.md)."""

USUAL = BellConfig(batch_size=128, lr=2e-3, matrix_lr=0.02)
"""Pictures per update and rates where no others are asked for: `train` has twice as many pictures and larger steps,
which imitate worse in the same time (docs/experiments/few-teachers.md)."""

FIRST_PICTURES = 2048
"""Pictures that are drawn before anything is learned."""

PICTURES_AT_ONCE = 512
"""Pictures of one turn of asking."""

HELD_OUT = 512
"""Pictures that are drawn for the report in the end, and not learned from."""

ROOM = 2**29
"""Bytes of pictures that are kept to learn from, at most."""

WARM_UP = 0.05
"""Share of the time in which the learning rate rises."""


def distill(
    pooled: MetaLearner | str | Path,
    output: str | Path,
    *,
    minutes: float = 30.0,
    learner: LearnerConfig | None = None,
    bell: BellConfig | None = None,
    hub: HubConfig | None = None,
    overwrite: bool = False,
    seed: int = 0,
    device: str = "auto",
    mixed_precision: str = "auto",
    token: str | None = None,
    progress: Progress | None = None,
) -> MetaLearner:
    """Make one network that imitates a pooled learner: less accurate, far cheaper (docs/guides/pooled.md).

    No real picture is used: the network sees pictures that a program draws in the teachers' colors, and learns what
    the pooled learner's embedding of them is. Ctrl-C ends the learning and keeps what was learned.

    Args:
        pooled: What `pool` made: the learner, its folder, or its Hub id.
        output: Folder to save it to, new or empty.
        minutes: How long it asks and learns; loading, the last measurements and saving come on top.
        learner: The network, the size of its pictures, its views and head; None takes `NETWORK` and 32 pixels with
            the pooled learner's views and head.
        bell: Batch size, learning rates and weight decay; None takes `USUAL`.
        hub: Cache, and what is published later.
        overwrite: Whether an earlier learner in `output` is replaced.
        seed: Of everything random.
        device: Where to compute.
        mixed_precision: `auto`, `no` or `bf16`.
        token: Hub token, for private and gated teachers.
        progress: Told what is done, and how many seconds of how many.

    Raises:
        ConfigError: a learner that is not a pooled one, or settings that do not fit.
        LearnerError: a network that does not exist or does not take pictures of this size.
        RunError: an output folder that is not empty.
    """
    started = time.monotonic()
    bell, hub = bell or USUAL, hub or HubConfig()
    folder = Path(output).expanduser().absolute()
    check_output(folder, overwrite=overwrite)
    _check_settings(learner, minutes, mixed_precision)
    seed_everything(seed)
    where = choose_device(device)
    source, network, weights, pool = _opened(pooled, where, token=token, cache_dir=hub.cache_dir)

    # ---- the network, and what it learns from
    config = learner or LearnerConfig(backbone=NETWORK, views=source.config.views, head=source.config.head)
    config = replace(config, channels=source.config.channels)
    student = MetaLearner(config, inputs=InputSettings(config.views)).to(where)
    width = student.backbone_dim
    precision = Precision.choose(mixed_precision, where)
    student.backbone.to(memory_format=torch.channels_last)
    side, streams = min(source.config.image_size, MOST_PIXELS), RandomStreams(seed)
    size = (config.channels, side)
    room = max(FIRST_PICTURES, ROOM // (config.channels * side**2))
    drawn = streams.stream("pictures")
    bank = PictureBank(network, weights, pool, size, room=room, stream=drawn, precision=precision, device=where)
    asking_since = time.monotonic()
    bank.grow(FIRST_PICTURES)
    held_out = bank.draw(HELD_OUT)
    projection = nn.Linear(width, held_out[1].shape[1]).to(where)

    # ---- asking and learning in turn
    loop = _Loop(student, projection, bank, bell, precision, streams)
    with StopBetweenSteps(inside=False) as stop:
        loop.run(asking_since, 60 * minutes, stop, progress)

    # ---- the learner
    student.eval()
    student.backbone.to(memory_format=torch.contiguous_format)  # as one that is opened: equal answers
    features = loop.features(bank.images[-FIRST_PICTURES:])
    of_held_out = loop.features(held_out[0])
    student.embedding = imitating_embedding(projection, features)
    student.eval()
    with torch.no_grad():
        imitated = student.prepare_features(student.embedding(of_held_out)).cpu()
    agreed = likeness(imitated, held_out[1].float())
    logger.info("agreement with the pooled learner on new drawn pictures: %.2f of 1", agreed)
    done = replace(
        costs_of(student, pool),
        pictures=bank.seen,
        agreement=round(agreed, 4),
        loss=round(loop.loss, 4) if loop.updates else None,
    )
    student.record = _record(source, config, hub, loop, done, seed=seed, seconds=time.monotonic() - started)
    student.save_pretrained(folder)
    write_card(folder, student.full_record())
    return student


class _Loop:
    """Asks the teachers about new pictures and learns from all of them, in turn.

    Args:
        student: Its backbone learns.
        projection: Predicts what the teachers say.
        bank: The pictures.
        config: Batch size and rates.
        precision: Autocast type.
        streams: Where random numbers come from.
    """

    def __init__(
        self,
        student: MetaLearner,
        projection: nn.Linear,
        bank: PictureBank,
        config: BellConfig,
        precision: Precision,
        streams: RandomStreams,
    ) -> None:
        self.student, self.projection, self.bank = student, projection, bank
        self.config, self.precision, self.updates = config, precision, 0
        self._mean_loss: Tensor | None = None  # on the device: read only where it is shown
        self._batches, self._at_once = streams.stream("batches"), pictures_at_once(student.config.image_size)
        self._optimizer = muon_or_adamw(
            student.backbone.parameters(), config, student.device, last=projection.parameters()
        )
        self._peaks = [group["lr"] for group in self._optimizer.param_groups]

    @property
    def loss(self) -> float:
        """Running mean of the loss; nan before the first update."""
        return math.nan if self._mean_loss is None else self._mean_loss.item()

    def run(self, begun: float, seconds: float, stop: StopBetweenSteps, progress: Progress | None) -> None:
        """Ask and learn until the time is over or a stop is wanted.

        Args:
            begun: When the time began, by `time.monotonic`; until now teachers were asked.
            seconds: The time.
            stop: Whether one is wanted.
            progress: Told what is done.
        """
        asked = time.monotonic() - begun
        while (spent := time.monotonic() - begun) < seconds and not stop.wanted:
            if asked < spent / 2:
                at = time.monotonic()
                self.bank.grow(PICTURES_AT_ONCE)
                asked += time.monotonic() - at
            else:
                self._update(spent / seconds)
            if progress is not None and (self.updates % 10 == 0):
                what = f"distilling, {self.bank.seen:,} pictures, disagreement {self.loss:.3f} (falls)"
                progress(what, int(spent), int(seconds))

    def features(self, images: Tensor) -> Tensor:
        """What the student makes of pictures as bytes (N, C, S, S), without gradients: (N, d), later (N, d + 1)."""
        device = self.student.device
        parts = [self.precision.layout(part.to(device).float() / 255) for part in images.split(self._at_once)]
        with torch.no_grad(), self.precision.autocast(device):
            return torch.cat([self.student.raw_answers(part) for part in parts]).float()

    def _update(self, done: float) -> None:
        rate = min(done / WARM_UP, 0.5 * (1 + math.cos(math.pi * done)))
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * rate
        images, said = self.bank.sample(self.config.batch_size, self._batches)
        self.student.train()
        self._optimizer.zero_grad(set_to_none=True)
        device = self.student.device
        now = torch.zeros((), device=device)
        # in parts, where whole it would not fit; BatchNorm then sees each part alone
        for shown, wanted in zip(images.split(self._at_once), said.split(self._at_once), strict=True):
            with self.precision.autocast(device):
                features = self.student.raw_answers(self.precision.layout(shown.to(device).float() / 255))
            loss = imitation_loss(self.projection(features.float()), wanted.to(device)) * (len(shown) / len(images))
            loss.backward()
            now += loss.detach()
        self._optimizer.step()
        self.updates += 1
        self._mean_loss = now if self._mean_loss is None else self._mean_loss.lerp(now, 0.02)


def _check_settings(learner: LearnerConfig | None, minutes: float, mixed_precision: str) -> None:
    if mixed_precision == "fp16":
        raise ConfigError(
            "mixed precision fp16 with distill, which does not scale its loss",
            allowed="auto, no or bf16",
            action="--mixed-precision no",
        )
    if not 0 < minutes < math.inf:
        raise ConfigError(f"minutes of {minutes}", allowed="more than 0", action="--max-minutes 30")
    if learner is not None and learner.init_from is not None:
        raise ConfigError(
            f"learner.init_from {learner.init_from} with distill, which begins with an untrained network",
            allowed="null",
            action="leave it out",
        )


def _opened(
    pooled: MetaLearner | str | Path, device: torch.device, *, token: str | None, cache_dir: str | None
) -> tuple[MetaLearner, PooledBackbone, PooledTeachers, TeacherPool]:
    """The pooled learner, its network, its weights and its teachers."""
    source = (
        pooled
        if isinstance(pooled, MetaLearner)
        else MetaLearner.from_pretrained(pooled, token=token, cache_dir=cache_dir, map_location=str(device))
    )
    network, weights = source.backbone, source.embedding.pooled
    if not isinstance(network, PooledBackbone) or weights is None or not isinstance(network.classifiers, TeacherPool):
        raise ConfigError(
            f"{'this learner' if source is pooled else pooled} is one network already",
            allowed="a pooled learner",
            action="make one first: hf-free pool --models ID ... --output DIR",
        )
    return source, network, weights, network.classifiers


def costs_of(student: MetaLearner, pool: TeacherPool) -> Imitation:
    """What one view of a picture costs the network, and what it costs all teachers."""
    size = student.config.image_size
    counted: dict[tuple[object, ...], int] = {}  # networks built alike are counted once
    total = 0
    for place, record in enumerate(pool.records):
        kind = (record.architecture, record.input_size, record.parameters)
        if kind not in counted:
            counted[kind] = count(pool[place]).forward_flops
        total += counted[kind]
    return Imitation(
        flops=count(student.backbone, (student.config.channels, size, size)).forward_flops,
        pooled_flops=total,
        parameters=sum(parameter.numel() for parameter in student.parameters()),
        pooled_parameters=sum(record.parameters for record in pool.records),
    )


def _record(
    source: MetaLearner,
    config: LearnerConfig,
    hub: HubConfig,
    loop: _Loop,
    done: Imitation,
    *,
    seed: int,
    seconds: float,
) -> LearnerRecord:
    """The pooled learner's provenance, with what this run did."""
    settings = {**source.record.config, "seed": seed, "learner": asdict(config), "hub": asdict(hub)}
    training = Training(
        minutes=round(seconds / 60, 2),
        steps=loop.updates,
        device=source.device.type,
        threads=torch.get_num_threads(),
        mixed_precision=loop.precision.name,
    )
    return source.record.of_imitation(settings, training, done)
