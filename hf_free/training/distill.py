"""`distill`: one small network that stands for a pooled learner.

    pooled learner -> drawn pictures, and what it says of them -> a network that predicts it -> learner

Half of the time goes into asking the teachers about new pictures, half into learning from all that were asked; more
into asking where many teachers answer slowly, so that pictures are not learned by heart. A checkpoint every few
minutes holds all of it; a run that was stopped or killed goes on from the last one.

Several processes (`--num-processes`, torchrun) hold the same pictures and the same network: each asks about a part of
the new pictures, and learns from a part of every batch. So a checkpoint is any process's, and goes on in any number.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hf_free.config.sections import GIVEN, BellConfig, HubConfig, LearnerConfig
from hf_free.config.tree import check_sections
from hf_free.data.own_pictures import OwnPictures
from hf_free.errors import ConfigError, RunError
from hf_free.evaluation.flops import count
from hf_free.learner.backbone import check_can_learn
from hf_free.learner.batchnorm import batchnorm_layers
from hf_free.learner.embedding import Embedding
from hf_free.learner.inputs import InputSettings
from hf_free.learner.meta_learner import MetaLearner
from hf_free.learner.pooled_backbone import PooledBackbone
from hf_free.learner.pooled_teachers import UNKNOWN, PooledTeachers
from hf_free.memory.filling import draw_beside
from hf_free.metalearning.muon import muon_or_adamw
from hf_free.pooling.imitation import PictureBank, imitating_embedding, imitation_loss, likeness
from hf_free.pooling.pictures import MOST_PIXELS, Progress
from hf_free.pooling.starting import (
    ASKED,
    BEST,
    Access,
    Start,
    able_starts,
    affordable_pixels,
    best_start,
    fitted_map,
    known_of,
    network_of,
    own_part,
    place_of,
)
from hf_free.provenance.learner_record import LearnerRecord
from hf_free.provenance.reading import Json, whole_of
from hf_free.provenance.run_record import Imitation, Training
from hf_free.publishing.card import write_card
from hf_free.runtime.chains import Chains
from hf_free.runtime.device import Precision, choose_device
from hf_free.runtime.distributed import Ranks, connect, quiet_unless, seed_everything
from hf_free.runtime.energy import EnergyMeter
from hf_free.runtime.files import remove_folder
from hf_free.runtime.given import (
    TOLD,
    check_flags,
    check_function,
    check_kind,
    check_minutes,
    check_texts,
    from_home,
    given_path,
    given_seed,
    short_form,
)
from hf_free.runtime.interrupts import StopBetweenSteps, ended_like_ctrl_c
from hf_free.runtime.launched import Launched
from hf_free.runtime.memory_budget import pictures_at_once
from hf_free.runtime.memory_order import keep_memory_order
from hf_free.runtime.random_streams import RandomStreams
from hf_free.runtime.saved_kind import is_run
from hf_free.runtime.text import listed
from hf_free.teachers.pool import TeacherPool
from hf_free.training.checkpoint_store import CheckpointStore, WholeCheckpoint
from hf_free.training.distill_checkpoint import Done, Parts, load_parts, read_held_out, write_checkpoint
from hf_free.training.manifest import Manifest, Topology
from hf_free.training.own_pictures import read_own_pictures
from hf_free.training.pool import check_apart, check_output
from hf_free.training.resuming import check_configuration, check_topology
from hf_free.training.run_lock import RunLock, check_free
from hf_free.training.schedule import CheckpointClock

logger = logging.getLogger(__name__)

NETWORK = "conv4_384"
"""What imitates best for its cost (docs/experiments/few-teachers.md)."""

USUAL = BellConfig(batch_size=128, lr=2e-3, matrix_lr=0.02)
"""Pictures per update and rates where no others are asked for: `train` has twice as many pictures and larger steps,
which imitate worse in the same time (docs/experiments/few-teachers.md)."""

USUAL_FROM_A_TEACHER = replace(USUAL, matrix_lr=0.005)
"""The same for a network that starts from a teacher's weights, which larger steps would undo."""

FIRST_PICTURES = 2048
"""Pictures that are drawn before anything is learned."""

PICTURES_AT_ONCE = 512
"""Pictures of one turn of asking."""

MOST_USES = 4
"""How often a picture is learned from, on average, at most: with 10 instead of 4 the network learns its pictures by
heart, and loses a point (docs/experiments/few-teachers.md)."""

HELD_OUT = 512
"""Pictures that are drawn for the report in the end, and not learned from."""

ROOM = 2**29
"""Bytes of pictures that are kept to learn from, at most."""

CHECKPOINT_MINUTES = 5.0
"""Minutes between two checkpoints, at most; they hold all pictures, up to about 700 MB."""

WARM_UP = 0.05
"""Share of the time in which the learning rate rises."""


def distill(
    pooled: MetaLearner | str | Path,
    output: str | Path,
    *,
    minutes: float = 30.0,
    learner: LearnerConfig | None = None,
    keep_views: bool = False,
    bell: BellConfig | None = None,
    hub: HubConfig | None = None,
    pictures: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    start_from: str | None = None,
    seed: int = 0,
    device: str = "auto",
    mixed_precision: str = "auto",
    token: str | None = None,
    progress: Progress | None = None,
) -> MetaLearner:
    """Make one network that imitates a pooled learner: less accurate, far cheaper (docs/guides/pooled.md).

    No real picture is used: the network sees pictures that a program draws in the teachers' colors, and learns what
    the pooled learner's embedding of them is. Ctrl-C or SIGTERM ends the learning after the update under way: what was
    learned is a whole learner, and `resume` goes on with it.

    Started by torchrun or accelerate launch, each of the run's processes calls this; the first alone writes and shows
    anything, and all come to the same learner. Each loads all the teachers.

    Args:
        pooled: What `pool` made: the learner, its folder, or its Hub id.
        output: Folder to save it to, new or empty.
        minutes: How long it asks and learns, over all resumptions; loading, the last measurements and saving come on
            top.
        learner: The network, the size of its pictures, its views and head; None takes `NETWORK` and 32 pixels with
            the pooled learner's views and head.
        keep_views: Whether the network has the pooled learner's views in place of those of `learner`.
        bell: Batch size, learning rates and weight decay; None takes `USUAL`, or `USUAL_FROM_A_TEACHER`.
        hub: Cache, and what is published later.
        pictures: Folder of pictures of your own, without labels, that stand for half of the drawn ones; the learner
            is not data-free then. None uses no real picture.
        overwrite: Whether an earlier learner in `output`, or one that was not finished, is replaced.
        resume: Whether to go on from the last checkpoint in `output`, with the same arguments; `minutes` may differ.
        start_from: A teacher, by its Hub id or folder, whose network learns on, with its own size of pictures; `best`
            takes the one whose features predict best what the pooled learner says. None starts with an untrained
            network. What is made is derived from that teacher's weights.
        seed: Of everything random.
        device: Where to compute.
        mixed_precision: `auto`, `no` or `bf16`.
        token: Hub token, for private and gated teachers.
        progress: Told what is done, and how many seconds of how many.

    Raises:
        ConfigError: a learner that is not a pooled one, settings that do not fit, or a teacher that a network cannot
            start from.
        LearnerError: a network that does not exist or does not take pictures of this size.
        RunError: an output folder that is not empty or that another process writes to, nothing to resume, or a
            checkpoint of other settings.
        FailedElsewhere: another process of the run has failed, and said why.
        StorageError: the output cannot be written to, or is full; the last checkpoint stays as it was.
    """
    usual = USUAL if start_from is None else USUAL_FROM_A_TEACHER
    bell, hub = usual if bell is None else bell, HubConfig() if hub is None else hub
    check_sections(
        {
            "learner": (LearnerConfig() if learner is None else learner, LearnerConfig),
            "bell": (bell, BellConfig),
            "hub": (hub, HubConfig),
        }
    )
    folder, seed = given_path(output, "output", for_weights=True).absolute(), given_seed(seed)
    seen = None if pictures is None else str(given_path(pictures, "pictures").absolute())
    check_flags(keep_views=keep_views, overwrite=overwrite, resume=resume)
    check_texts(token=token)
    rule = "what hf_free.pool returned, its folder, or its Hub id"
    check_kind(pooled, "pooled", (MetaLearner, str, Path), allowed=rule, optional=False)
    check_function(progress, "progress", TOLD)
    store = checkpoints_of(folder)
    ranks = connect(Launched.here(), device)
    with ranks.failing_together(), quiet_unless(ranks.is_first):
        if ranks.is_first:
            check_request(
                folder,
                minutes=minutes,
                learner=learner,
                mixed_precision=mixed_precision,
                overwrite=overwrite,
                resume=resume,
                start_from=start_from,
            )
            if not isinstance(pooled, MetaLearner):
                check_apart(folder, [str(pooled)])
        seed_everything(seed)
        where = choose_device(device) if ranks.count == 1 else ranks.device
        opened = _opened(pooled, where, token=token, cache_dir=hub.cache_dir)
        if not resume and (note := note_of_kinds(opened.weights)):
            logger.warning("%s", note)
        meter = EnergyMeter(active=ranks.is_first, machines=ranks.launched.machines)
        with RunLock(folder) if ranks.is_first else nullcontext(), meter as energy:
            if ranks.is_first and not resume and store.root.exists():
                remove_folder(store.root)
            ranks.wait()  # until the first process has the folder
            if learner is not None and keep_views:
                learner = replace(learner, views=opened.source.config.views)
            made = _distilled(
                opened,
                folder,
                store,
                ranks,
                chosen=_chosen(store) if resume else None,
                minutes=minutes,
                learner=learner,
                bell=bell,
                hub=hub,
                pictures=seen,
                start_from=start_from,
                access=Access(token, hub.cache_dir),
                seed=seed,
                precision=Precision.choose(mixed_precision, where),
                progress=progress if ranks.is_first else None,
                energy=energy,
            )
            ranks.wait()  # until it is saved
            return made


def check_request(
    output: str | Path,
    *,
    minutes: float,
    learner: LearnerConfig | None,
    mixed_precision: str,
    overwrite: bool,
    resume: bool,
    start_from: str | None = None,
) -> None:
    """Refuse what `distill` would refuse of these arguments, before anything is loaded or made.

    Raises:
        ConfigError: settings that do not fit.
        RunError: an output folder that is not empty or that another process writes to, or nothing to resume.
    """
    folder = from_home(output).absolute()
    _check_folder(folder, checkpoints_of(folder), overwrite=overwrite, resume=resume)
    _check_settings(learner, minutes, mixed_precision, start_from)


def has_one_to_start_from(pooled: MetaLearner) -> bool:
    """Whether `start_from="best"` finds a teacher that a network can start from.

    Args:
        pooled: A pooled learner.

    Raises:
        ConfigError: it is none.
    """
    opened = _opened(pooled, pooled.device, token=None, cache_dir=None)
    known = known_of(opened.pool, pooled.record.teachers)
    return bool(able_starts(opened.network, known, pooled.config.channels, operations_of(opened.pool)))


def note_of_kinds(weights: PooledTeachers) -> str:
    """What to know where teachers of several kinds are weighed by each support, which one network does not do; empty
    where they are not. It costs up to 24 points on road signs (docs/experiments/few-teachers.md)."""
    pairs = set(zip(weights.groups.tolist(), weights.kinds.tolist(), strict=True))
    count = sum(kind != UNKNOWN for _, kind in pairs)
    if count < 2:
        return ""
    return (
        f"the teachers know {count} kinds of pictures, which a pooled learner tells apart by each support, and one "
        "network does not; hf-free pool --keep N makes a pooled learner of fewer teachers"
    )


def checkpoints_of(output: Path) -> CheckpointStore:
    """Where the checkpoints of a learner lie that is still being distilled; none are left of one that is finished."""
    return CheckpointStore(output / "checkpoints")


def _distilled(
    opened: _Opened,
    folder: Path,
    store: CheckpointStore,
    ranks: Ranks,
    *,
    chosen: WholeCheckpoint | None,
    minutes: float,
    learner: LearnerConfig | None,
    bell: BellConfig,
    hub: HubConfig,
    pictures: str | None,
    start_from: str | None,
    access: Access,
    seed: int,
    precision: Precision,
    progress: Progress | None,
    energy: EnergyMeter,
) -> MetaLearner:
    started = time.monotonic()
    source, network, weights, pool, where = opened

    # ---- the network, and what it learns from
    config = learner or LearnerConfig(backbone=NETWORK, views=source.config.views, head=source.config.head)
    config = replace(config, channels=source.config.channels)
    side, streams = min(source.config.image_size, MOST_PIXELS), RandomStreams(seed)
    size = (config.channels, side)
    at = time.monotonic()
    own = read_own_pictures(pictures, size, flip="flip" in config.views)
    start = None if start_from is None else _start(start_from, chosen, opened, size, streams, precision, ranks, own)
    place = None if start is None else start.place
    student = _begun(config, start, pool, access).to(where)
    check_can_learn(student.backbone, student.config)
    width, began = student.backbone_dim, _copied(student.backbone)
    student.backbone.to(memory_format=torch.channels_last)
    room = max(FIRST_PICTURES, ROOM // (config.channels * side**2))
    drawn = streams.stream("pictures")
    bank = PictureBank(
        network, weights, pool, size, room=room, stream=drawn, precision=precision, device=where, ranks=ranks, own=own
    )
    settings = {
        "seed": seed,
        "learner": asdict(config),
        "bell": asdict(bell),
        "pooled": _fingerprint(source),
        "start_from": place,
        **({} if pictures is None else {"pictures": pictures}),
    }
    tensors = dict[str, Tensor]()
    if chosen is None:
        bank.grow(FIRST_PICTURES)
        held_out = bank.draw(HELD_OUT)
    else:
        for line in (*_what_differs(chosen, settings), *check_topology(chosen, Topology.here(where))):
            logger.warning("%s", line)
        tensors, held_out = read_held_out(chosen)
    asked = time.monotonic() - at
    projection = nn.Linear(width, held_out[1].shape[1]).to(where)
    loop = _Loop(student, projection, bank, bell, precision, streams, ranks, keeps_statistics=place is not None)
    if place is not None and chosen is None:
        student.eval()
        projection.load_state_dict(fitted_map(loop.features(bank.images), bank.targets.float()).state_dict())
    ranks.copy_from_first([*student.backbone.state_dict().values(), *projection.state_dict().values()])

    # ---- asking and learning in turn
    parts = Parts(
        student.backbone,
        projection,
        loop.optimizer,
        bank,
        held_out,
        streams={"pictures": drawn, "batches": loop.batches},
    )
    if chosen is None:
        loop.done = Done(seconds=asked, asking=asked)
    else:
        loop.done = load_parts(chosen, tensors, parts)
        energy.before = loop.done.energy
        logger.info("going on from %s: %d updates done", chosen.folder, loop.done.updates)
    before = loop.done.seconds

    def save() -> None:
        if ranks.is_first:
            _check_finite(torch.tensor(loop.done.loss or 0.0), loop)  # the checkpoint before stays as it was
            loop.done.energy = energy.spent()
            here = Topology.here(where, ranks.count)
            write_checkpoint(store, parts, loop.done, Manifest(loop.done.updates, settings, here))

    with ended_like_ctrl_c(), StopBetweenSteps(inside=False) as stop:
        is_stopped = loop.run(60 * minutes, stop, progress, save)
        if is_stopped:
            save()

    # ---- the learner
    student.eval()
    student.backbone.to(memory_format=torch.contiguous_format)  # as one that is opened: equal answers
    features = loop.features(bank.images[-FIRST_PICTURES:])
    of_held_out = loop.features(held_out[0])
    student.embedding = imitating_embedding(projection, features) if place is None else Embedding(projection)
    student.eval()
    imitated = _embedded(student, of_held_out)
    _check_finite(imitated, loop)
    said = held_out[1].float()
    agreed, is_as_it_was = likeness(imitated, said), False
    if place is not None and network.feature_sizes[place]:
        learned, embedding = _copied(student.backbone), student.embedding
        student.backbone.load_state_dict(began)
        student.embedding = Embedding()
        student.eval()
        of_teacher = loop.features(held_out[0])
        student.embedding = Embedding(own_part(weights, place).to(where))
        student.eval()
        at_first = likeness(_embedded(student, of_teacher), said)
        logger.info("agreement with the pooled learner before anything was learned: %.2f of 1", at_first)
        if is_as_it_was := ranks.first(at_first > agreed):
            agreed = at_first
        else:
            student.backbone.load_state_dict(learned)
            student.embedding = embedding
    logger.info("agreement with the pooled learner on new drawn pictures: %.2f of 1", agreed)
    done = replace(
        costs_of(student, pool),
        pictures=bank.seen,
        agreement=round(agreed, 4),
        loss=None if loop.done.loss is None else round(loop.done.loss, 4),
        started_from=place,
        as_it_was=is_as_it_was,
    )
    spent = time.monotonic() - started + (before if chosen else 0.0)
    loop.done.energy = energy.spent()
    student.record = _record(source, config, hub, loop, done, pictures, seed=seed, minutes=minutes, seconds=spent)
    if ranks.is_first:
        student.save_pretrained(folder)
        write_card(folder, student.full_record())
        if not is_stopped and store.root.exists():
            remove_folder(store.root)
    return student


@torch.no_grad()
def _embedded(student: MetaLearner, features: Tensor) -> Tensor:
    """What heads see of pictures with these features (N, d)."""
    return student.prepare_features(student.embedding(features)).cpu()


def _copied(network: nn.Module) -> dict[str, Tensor]:
    """A network's weights and statistics as they are now."""
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def _start(
    start_from: str,
    chosen: WholeCheckpoint | None,
    opened: _Opened,
    size: tuple[int, int],
    streams: RandomStreams,
    precision: Precision,
    ranks: Ranks,
    own: OwnPictures | None,
) -> Start:
    """The teacher that the network starts from; of a run that is resumed the one that was found to be the best."""
    known = known_of(opened.pool, opened.source.record.teachers)
    if start_from != BEST:
        place = place_of(start_from, known, size[0])
        return Start(place, known[place].input_size[1])
    flops = operations_of(opened.pool)
    begun = None if chosen is None else whole_of(chosen.manifest.config.get("start_from"))
    if begun is not None and 0 <= begun < len(known):
        pixels = affordable_pixels(known[begun], flops[begun], sum(flops))
        return Start(begun, known[begun].input_size[1] if pixels is None else pixels)
    if not ranks.is_first:
        return Start(*ranks.first((0, 0)))
    images = draw_beside(opened.pool, ASKED, size, streams.stream("start"), own=own)
    with precision.autocast(opened.device):
        found = best_start(opened.pool, opened.network, opened.weights, known, images, flops)
    return Start(*ranks.first(tuple(found)))


def _begun(config: LearnerConfig, start: Start | None, pool: TeacherPool, access: Access) -> MetaLearner:
    """An untrained network, or that of a teacher with its weights."""
    if start is None:
        return MetaLearner(config, inputs=InputSettings(config.views))
    record = pool.records[start.place]
    is_smaller = start.pixels != record.input_size[1]
    logger.info(
        "starting from the weights of %s%s", record.reference, f", at {start.pixels} pixels" if is_smaller else ""
    )
    return network_of(pool, start, config, access)


class _Loop:
    """Asks the teachers about new pictures and learns from all of them, in turn.

    Args:
        student: Its backbone learns.
        projection: Predicts what the teachers say.
        bank: The pictures.
        config: Batch size and rates.
        precision: Autocast type.
        streams: Where random numbers come from.
        ranks: The processes of the run, each of which learns from a part of every batch.
        keeps_statistics: Whether BatchNorm goes on normalizing by the statistics it came with: a teacher's are of real
            pictures, and those of drawn ones cost half a point (docs/experiments/few-teachers.md).
    """

    def __init__(
        self,
        student: MetaLearner,
        projection: nn.Linear,
        bank: PictureBank,
        config: BellConfig,
        precision: Precision,
        streams: RandomStreams,
        ranks: Ranks,
        *,
        keeps_statistics: bool,
    ) -> None:
        self.student, self.projection, self.bank = student, projection, bank
        self.config, self.precision, self._ranks = config, precision, ranks
        self._chains = Chains(ranks.count, ranks=ranks, streams=streams)
        self._learning = nn.ModuleList([student.backbone, projection])
        self._mean_loss: Tensor | None = None  # on the device: read only where it is shown
        self._keeps_statistics = keeps_statistics
        self.batches, self._at_once = streams.stream("batches"), pictures_at_once(student.config.image_size)
        self.optimizer = keep_memory_order(
            muon_or_adamw(student.backbone.parameters(), config, student.device, last=projection.parameters())
        )
        self._peaks = [group["lr"] for group in self.optimizer.param_groups]
        self._done = Done()

    @property
    def done(self) -> Done:
        """How far it is."""
        self._done.loss = None if self._mean_loss is None else self._mean_loss.item()
        return self._done

    @done.setter
    def done(self, done: Done) -> None:
        self._done = done
        self._mean_loss = None if done.loss is None else torch.tensor(done.loss, device=self.student.device)

    def run(self, seconds: float, stop: StopBetweenSteps, progress: Progress | None, save: Callable[[], None]) -> bool:
        """Ask and learn until the time is over or a stop is wanted; all processes by the first one's clock.

        Args:
            seconds: The time, with what is spent already.
            stop: Whether one is wanted.
            progress: Told what is done.
            save: Writes a checkpoint.

        Returns:
            Whether a stop was wanted, by any of them.
        """
        done = self._done
        due = CheckpointClock(CHECKPOINT_MINUTES, seconds / 60, done.seconds)
        while True:
            told = self._ranks.gather((stop.wanted, done.seconds, done.asking))
            _, done.seconds, done.asking = told[0]
            if is_stopped := any(wanted for wanted, _, _ in told):
                return is_stopped
            if done.seconds >= seconds:
                return False
            worn = done.updates * self.config.batch_size > MOST_USES * self.bank.seen
            at, asks = time.monotonic(), worn or done.asking < done.seconds / 2
            if asks:
                self.bank.grow(PICTURES_AT_ONCE)
            else:
                self._update(done.seconds / seconds)
            took = time.monotonic() - at
            done.seconds += took
            done.asking += took if asks else 0.0
            if due.is_due(done.seconds):
                at = time.monotonic()
                save()
                due.written(done.seconds, took=time.monotonic() - at)
            if progress is not None and (done.updates % 10 == 0):
                loss = math.nan if self._mean_loss is None else self._mean_loss.item()
                what = f"distilling, {self.bank.seen:,} pictures, disagreement {loss:.3f} (falls)"
                progress(what, int(min(done.seconds, seconds)), int(seconds))

    def features(self, images: Tensor) -> Tensor:
        """What the student makes of pictures as bytes (N, C, S, S), without gradients: (N, d)."""
        device = self.student.device
        parts = [self.precision.layout(part.to(device).float() / 255) for part in images.split(self._at_once)]
        with torch.no_grad(), self.precision.autocast(device):
            return torch.cat([self.student.raw_answers(part) for part in parts]).float()

    def _update(self, done: float) -> None:
        rate = min(done / WARM_UP, 0.5 * (1 + math.cos(math.pi * done)))
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * rate
        images, said = self.bank.sample(self.config.batch_size, self.batches)
        self.student.train()
        if self._keeps_statistics:
            for layer in batchnorm_layers(self.student.backbone):
                layer.eval()
        self.optimizer.zero_grad(set_to_none=True)
        device, total, count = self.student.device, len(images), self._chains.count

        def learn(chain: int) -> Tensor:
            """Gradients of a chain's part of the batch, and its part of the loss. Again in parts, where whole it would
            not fit; BatchNorm sees each part alone."""
            now = torch.zeros((), device=device)
            parts = (tensor.tensor_split(count)[chain].split(self._at_once) for tensor in (images, said))
            for shown, wanted in zip(*parts, strict=True):
                with self.precision.autocast(device):
                    features = self.student.raw_answers(self.precision.layout(shown.to(device).float() / 255))
                loss = imitation_loss(self.projection(features.float()), wanted.to(device)) * (len(shown) / total)
                loss.backward()
                now += loss.detach()
            return now

        now = self._chains.step(self._learning, learn)
        self.optimizer.step()
        self._done.updates += 1
        self._mean_loss = now if self._mean_loss is None else self._mean_loss.lerp(now, 0.02)


def _check_finite(numbers: Tensor, loop: _Loop) -> None:
    """Refuse a network that has learned itself to pieces, before it or a checkpoint of it is saved.

    On CPUs PyTorch 2.14 leaves a stride-2 convolution's weight gradient in bf16 unset where its picture is one pixel.
    """
    if not torch.isfinite(numbers).all():
        raise RunError(
            f"what the network answers is not a number any more after {loop.done.updates:,} updates",
            allowed="a network whose weights stay finite",
            action="begin again with --set trainer.mixed_precision=no, larger pictures or a lower bell.matrix_lr, "
            "and --overwrite",
        )


def _check_settings(
    learner: LearnerConfig | None, minutes: float, mixed_precision: str, start_from: str | None
) -> None:
    check_minutes(minutes, "minutes", ends=True)
    if start_from is not None and not isinstance(start_from, str):
        raise ConfigError(
            f"start_from={short_form(start_from)}", allowed="best, or a teacher's Hub id or folder, as a text"
        )
    if mixed_precision not in ("auto", "no", "bf16", "fp16"):
        raise ConfigError(f"mixed_precision={short_form(mixed_precision)}", allowed="auto, no or bf16", action="auto")
    if mixed_precision == "fp16":
        raise ConfigError(
            "mixed precision fp16 with distill, which does not scale its loss",
            allowed="auto, no or bf16",
            action="--set trainer.mixed_precision=no",
        )
    if learner is not None and learner.init_from is not None:
        raise ConfigError(
            f"learner.init_from {learner.init_from} with distill",
            allowed="null",
            action="leave it out; --start-from TEACHER starts from the weights of one of the teachers",
        )
    given = getattr(learner, GIVEN, frozenset[str]())
    if start_from is not None and (set_too := sorted({"backbone", "image_size"} & given)):
        raise ConfigError(
            f"{listed([f'learner.{key}' for key in set_too])} and a network that starts from {start_from}",
            allowed="one of the two: the network and the size of its pictures are the teacher's",
            action="leave out the setting, or --start-from",
        )


def _check_folder(folder: Path, store: CheckpointStore, *, overwrite: bool, resume: bool) -> None:
    check_free(folder, overwrite=overwrite, resume=resume)
    if is_run(folder):  # its checkpoints lie where those of distill do, and would be removed
        raise RunError(
            f"the output {folder} holds a run of hf-free train",
            allowed="a new or empty folder, or one of hf-free distill",
            action="give another --output",
        )
    if resume:
        _chosen(store)
    elif not store.folders():
        check_output(folder, overwrite=overwrite)
    elif not overwrite:
        raise RunError(
            f"the output {folder} holds a learner that is not finished",
            allowed="a new or empty folder",
            action="--resume goes on with it, --overwrite replaces it; or give another --output",
        )


def _chosen(store: CheckpointStore) -> WholeCheckpoint:
    """The checkpoint to go on from."""
    found = store.newest(contents=True)
    if found is None:
        there = [folder.name for folder in store.folders()]
        damaged = f"no whole checkpoint to resume in {store.root.parent}; damaged: {', '.join(there)}"
        raise RunError(
            damaged if there else f"no checkpoint to resume in {store.root.parent}",
            allowed="an output folder of hf-free distill, stopped before its time was over",
            action="leave out --resume, or name that folder",
        )
    for line in found.passed_over:
        logger.warning("%s", line)
    return found


def _what_differs(chosen: WholeCheckpoint, settings: Json) -> list[str]:
    """What differs from a checkpoint's settings and may; other teachers or another network are refused."""
    if chosen.manifest.config.get("pooled") != settings["pooled"]:
        raise RunError(
            f"the checkpoint {chosen.folder} is of another pooled learner",
            allowed="the one that it was begun with",
            action="name that one, or give another --output",
        )
    if chosen.manifest.config.get("start_from") != settings["start_from"]:
        raise RunError(
            f"the checkpoint {chosen.folder} started from other weights",
            allowed="the same --start-from while a run goes on",
            action="give the flag as it was, or another --output",
        )
    return check_configuration(chosen, settings)


def _fingerprint(source: MetaLearner) -> str:
    """SHA-256 of a pooled learner's weights, by which it is recognized."""
    digest = hashlib.sha256()
    for name, value in sorted(source.embedding.state_dict().items()):
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class _Opened(NamedTuple):
    """A pooled learner, its network, its weights, its teachers, and where they are."""

    source: MetaLearner
    network: PooledBackbone
    weights: PooledTeachers
    pool: TeacherPool
    device: torch.device


def _opened(
    pooled: MetaLearner | str | Path, device: torch.device, *, token: str | None, cache_dir: str | None
) -> _Opened:
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
    return _Opened(source, network, weights, network.classifiers, device)


def costs_of(student: MetaLearner, pool: TeacherPool) -> Imitation:
    """What one view of a picture costs the network, and what it costs all teachers."""
    size = student.config.image_size
    return Imitation(
        flops=count(student.backbone, (student.config.channels, size, size)).forward_flops,
        pooled_flops=sum(operations_of(pool)),
        parameters=sum(parameter.numel() for parameter in student.parameters()),
        pooled_parameters=sum(record.parameters for record in pool.records),
    )


def operations_of(pool: TeacherPool) -> list[int]:
    """What a picture costs each teacher."""
    counted: dict[tuple[object, ...], int] = {}  # networks built alike are counted once
    operations = []
    for place, record in enumerate(pool.records):
        kind = (record.architecture, record.input_size, record.parameters)
        if kind not in counted:
            counted[kind] = count(pool[place]).forward_flops
        operations.append(counted[kind])
    return operations


def _record(
    source: MetaLearner,
    config: LearnerConfig,
    hub: HubConfig,
    loop: _Loop,
    done: Imitation,
    pictures: str | None,
    *,
    seed: int,
    minutes: float,
    seconds: float,
) -> LearnerRecord:
    """The pooled learner's provenance, with what this run did."""
    network = asdict(config)
    if done.started_from is not None:  # the teacher's; whoever repeats the run may not set them
        del network["backbone"], network["image_size"]
    made = {"learner": network, "bell": asdict(loop.config), "hub": asdict(hub)}
    settings = {**source.record.config, "seed": seed, **made, "trainer": {"max_minutes": minutes}}
    if pictures is not None:
        settings["memory"] = {"pictures": pictures}
    training = Training(
        minutes=round(seconds / 60, 2),
        steps=loop.done.updates,
        device=source.device.type,
        threads=torch.get_num_threads(),
        mixed_precision=loop.precision.name,
        energy=loop.done.energy,
    )
    return source.record.of_imitation(settings, training, done)
