"""A teacher's own network as the one that imitates a pooled learner: its weights, and a linear map that fits at once.

A network that starts from nothing has to learn from drawn pictures what real ones look like to it; a teacher's network
knows. Of its features a linear map predicts a good part of what the pooled learner says before anything is learned
(docs/experiments/few-teachers.md). What comes out is derived from that teacher's weights, so its license has to allow
that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hf_free.backbones.model_args import ModelArgs
from hf_free.config.sections import LearnerConfig
from hf_free.errors import ConfigError
from hf_free.learner.inputs import InputSettings
from hf_free.learner.meta_learner import MetaLearner
from hf_free.learner.pooled_backbone import PooledBackbone
from hf_free.learner.pooled_teachers import PooledTeachers
from hf_free.pooling.imitation import Directions, imitation_loss, in_one_vector
from hf_free.provenance.recorded_teacher import RecordedTeacher
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.publishing.metadata import PERMISSIVE
from hf_free.runtime.device import deviation
from hf_free.runtime.given import from_home, real_path
from hf_free.runtime.memory_budget import pictures_at_once
from hf_free.runtime.text import listed
from hf_free.teachers.loader import read_spec
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.teacher import Teacher

BEST = "best"
"""Asks for the teacher whose features predict best what the pooled learner says."""

LARGEST_SHARE = 0.5
"""Share of all teachers' operations that the one chosen as best takes at most: the network is to be cheaper."""

PIXEL_STEP = 16
"""Smaller pictures have a multiple of so many pixels. Half of the operations is 0.7 of height and width: an ImageNet
network of 224 pixels loses 0.3 to 1.2 points at 160 (docs/experiments/few-teachers.md)."""

FEWEST_PIXELS = 64
"""Height and width that smaller pictures have at least: networks for small pictures have no pixels to spare."""

ASKED = 1024
"""Pictures by which teachers are compared."""

ALLOWED = (
    f"timm's networks: folders that state no other license, and public repositories under one of "
    f"{', '.join(sorted(PERMISSIVE))}"
)
"""What a network can start from."""

TRIED = 0.25
"""Share of them that the maps are not fitted to."""

PENALTY = 0.01
"""Ridge penalty of the map, in mean variances of a feature."""

MAX_DEVIATION = 0.01
"""Relative difference allowed between the features of the teacher and of its network without a classifier; those of
timm's networks are equal up to rounding."""


class Start(NamedTuple):
    """What a network starts from.

    Attributes:
        place: The teacher's, in the pooled learner's order.
        pixels: Height and width of the network's pictures, at most the teacher's own.
    """

    place: int
    pixels: int


@dataclass(frozen=True)
class Access:
    """How a teacher's configuration is read again.

    Attributes:
        token: Hub token.
        cache_dir: Folder of the download cache.
    """

    token: str | None = None
    cache_dir: str | None = None


def place_of(name: str, records: Sequence[TeacherRecord], channels: int) -> int:
    """The place of the teacher that a user names, in a pooled learner's order.

    Args:
        name: Its Hub id or folder, with or without what the pooled learner's list says beside it.
        records: What `known_of` says of the teachers.
        channels: Of the network's pictures.

    Raises:
        ConfigError: no teacher, or several, of that name; or one that a network cannot start from.
    """
    wanted = {name, name.rstrip("/"), _whole_path(name)}
    found = [place for place, record in enumerate(records) if wanted & set(_names(record))]
    exactly = [place for place in found if records[place].reference == name]
    found = exactly if len(exactly) == 1 else found
    if len(found) != 1:
        meant = [records[place].reference for place in found] or [record.reference for record in records]
        raise ConfigError(
            f"{f'{len(found)} teachers' if found else 'no teacher'} of the name {name!r} in the pooled learner",
            allowed=f"{BEST}, or one of {listed(meant)}",
            action="name one of them as it stands there",
        )
    record = records[found[0]]
    if reason := why_not(record, channels):
        raise ConfigError(
            f"a network that starts from {record.reference}: {reason}",
            allowed=ALLOWED,
            action=f"name another teacher, or {BEST}",
        )
    return found[0]


def _names(record: TeacherRecord) -> Iterable[str]:
    yield record.reference
    if record.repo_id is not None:
        yield record.repo_id
    else:
        yield _whole_path(record.reference)


def _whole_path(text: str) -> str:
    """A path without links, `~` and `..`; a text that cannot be a path stays as it is."""
    try:
        return str(real_path(from_home(text)))
    except (OSError, ValueError):  # a zero byte
        return text


def known_of(pool: TeacherPool, recorded: Sequence[RecordedTeacher]) -> list[TeacherRecord]:
    """The teachers as they were loaded, with what the pooled learner's record knows of where they come from.

    A teacher whose files lie with the learner is loaded from a folder, which has neither its repository nor its
    license.

    Args:
        pool: The teachers.
        recorded: The same, in the learner's record.
    """
    return [
        record
        if record.repo_id is not None
        else replace(
            record,
            repo_id=entry.repo_id,
            license=entry.license or record.license,
            private=entry.private,
            gated=entry.gated,
        )
        for record, entry in zip(pool.records, recorded, strict=True)
    ]


def why_not(record: TeacherRecord, channels: int) -> str | None:
    """Why a network cannot start from a teacher; None where it can.

    Args:
        record: The teacher.
        channels: Of the network's pictures.
    """
    of_teacher, height, width = record.input_size
    if record.answers_only:
        return "it is a black box, whose weights are not known"
    if record.transformers_version:
        return "a learner is a network of timm's, and this one is transformers'"
    if height != width or of_teacher != channels:
        return f"it takes pictures of {record.input_size}, a learner square ones of {channels} channels"
    if record.is_hidden:
        return "its repository is private or gated"
    stated = (record.license or "").strip().lower()
    is_own = record.repo_id is None and not stated  # a folder that says nothing of others' rights
    if not is_own and stated not in PERMISSIVE:
        return f"its license ({record.license or 'none stated'}) does not plainly allow derived weights"
    return None


def able_starts(
    network: PooledBackbone, records: Sequence[TeacherRecord], channels: int, flops: Sequence[int]
) -> list[Start]:
    """What `best_start` chooses among: teachers that a network can start from, at their own size of pictures or at a
    smaller one that makes them cheap enough.

    Args:
        network: The teachers.
        records: What `known_of` says of them.
        channels: Of the network's pictures.
        flops: Operations of each teacher for a picture.
    """
    starts = []
    for place, record in enumerate(records):
        pixels = affordable_pixels(record, flops[place], sum(flops))
        if pixels is not None and network.feature_sizes[place] and why_not(record, channels) is None:
            starts.append(Start(place, pixels))
    return starts


def affordable_pixels(record: TeacherRecord, flops: int, total: int) -> int | None:
    """Height and width at which a teacher takes at most `LARGEST_SHARE` of all teachers' operations: its own where
    that is so, else a smaller one. None where it takes pictures of one size only, or ones that would be too small.

    Args:
        record: The teacher.
        flops: Its operations for a picture of its own size; they grow with the number of pixels.
        total: Those of all teachers.
    """
    own, most = max(record.input_size[1:]), LARGEST_SHARE * total
    if flops <= most:
        return own
    pixels = int(own * math.sqrt(most / flops)) // PIXEL_STEP * PIXEL_STEP
    return None if record.fixed_input_size or pixels < FEWEST_PIXELS else pixels


@torch.no_grad()
def best_start(
    pool: TeacherPool,
    network: PooledBackbone,
    teachers: PooledTeachers,
    records: Sequence[TeacherRecord],
    images: Tensor,
    flops: Sequence[int],
) -> Start:
    """The teacher whose features predict best, by a linear map, what the pooled learner says of drawn pictures.

    Args:
        pool: The teachers.
        network: The same, as the pooled learner asks them.
        teachers: Their weights.
        records: What `known_of` says of them.
        images: (N, C, S, S) as bytes, of which a quarter is kept aside.
        flops: Operations of each teacher for a picture.

    Raises:
        ConfigError: a network can start from none of them.
    """
    able = able_starts(network, records, images.shape[1], flops)
    if not able:
        why = (
            why_not(records[0], images.shape[1])
            or f"it takes more than {LARGEST_SHARE:.0%} of all teachers' operations"
        )
        raise ConfigError(
            f"no teacher that is {BEST} to start from; of {records[0].reference}: {why}",
            allowed=f"{ALLOWED}; for {BEST} with at most {LARGEST_SHARE:.0%} of all teachers' operations, if need be "
            f"for smaller pictures, of {FEWEST_PIXELS} pixels or more",
            action="name one of these teachers, however large, or leave out --start-from",
        )
    device, at_once = teachers.center.device, pictures_at_once(images.shape[-1])
    asked = torch.cat([network(part.to(device).float() / 255) for part in images.split(at_once)])
    said = in_one_vector(teachers, asked)
    said = Directions(said)(said)
    features = asked.split([*network.feature_sizes, sum(network.answer_sizes)], 1)
    tried, losses = int(TRIED * len(images)), dict[Start, float]()
    for start in able:
        own = features[start.place]
        if start.pixels != max(records[start.place].input_size[1:]):
            teacher = _at(pool[start.place], start.pixels)
            parts = [teacher(part.to(teacher.device).float() / 255).features for part in images.split(at_once)]
            own = torch.cat(parts).flatten(1).float().to(device)
        fitted = fitted_map(own[tried:], said[tried:])
        losses[start] = float(imitation_loss(fitted(own[:tried]), said[:tried]))
    return min(losses, key=losses.__getitem__)


def _at(teacher: Teacher, pixels: int) -> Teacher:
    """A teacher's network, asked about pictures of another height and width."""
    record = replace(teacher.record, input_size=(teacher.record.input_size[0], pixels, pixels))
    return teacher if record == teacher.record else Teacher(teacher.network, record)


@torch.no_grad()
def fitted_map(features: Tensor, said: Tensor) -> nn.Linear:
    """The linear map that predicts (N, D) from features (N, d) by ridge regression."""
    rows, wanted = features.double(), said.double()
    center, mean = rows.mean(0), wanted.mean(0)
    rows, wanted = rows - center, wanted - mean
    gram = rows.T @ rows
    gram.diagonal().add_(PENALTY * gram.diagonal().mean().clamp_min(1e-12))
    weight = torch.linalg.solve(gram, rows.T @ wanted).T
    fitted = nn.Linear(features.shape[1], said.shape[1], device=features.device)
    fitted.weight.copy_(weight)
    fitted.bias.copy_(mean - weight @ center)
    return fitted


@torch.no_grad()
def own_part(teachers: PooledTeachers, place: int) -> nn.Linear:
    """The linear map from a teacher's features to its part of a pooled embedding, before that has length 1: centered
    and whitened, (B, d) -> (B, d).

    Args:
        teachers: Their weights.
        place: The teacher, one whose features are there.
    """
    sizes = teachers.feature_sizes
    whitening = teachers.each_whitening()[sum(size > 0 for size in sizes[:place])]
    center = teachers.center.split([size for size in sizes if size])[sum(size > 0 for size in sizes[:place])]
    own = nn.Linear(sizes[place], sizes[place], device=center.device)
    own.weight.copy_(whitening(torch.eye(sizes[place], device=center.device)).T)
    own.bias.copy_(whitening(-center[None])[0])
    return own


def network_of(pool: TeacherPool, start: Start, config: LearnerConfig, access: Access = Access()) -> MetaLearner:
    """A learner, still without an embedding, whose backbone is a teacher's network with its weights.

    Args:
        pool: The teachers.
        start: Which of them, and the size of the learner's pictures.
        config: Of the learner; its architecture is the teacher's.
        access: How its configuration is read again.

    Raises:
        ConfigError: the network gives other features without its classifier.
    """
    teacher, record = _at(pool[start.place], start.pixels), pool.records[start.place]
    spec = read_spec(pool.references[start.place], token=access.token, cache_dir=access.cache_dir)
    own = replace(config, backbone=spec.architecture, image_size=start.pixels)
    learner = MetaLearner(
        own,
        inputs=InputSettings(config.views, mean=record.mean, std=record.std),
        backbone=_without_classifier(spec.model_args),
    )
    weights, mine = teacher.network.state_dict(), learner.backbone.state_dict()
    if all(name in weights and weights[name].shape == tensor.shape for name, tensor in mine.items()):
        learner.backbone.load_state_dict({name: weights[name] for name in mine})
        if _are_equal(learner, teacher):
            return learner
    raise ConfigError(
        f"a network that starts from {record.reference}: {spec.architecture} gives other features without its "
        "classifier",
        allowed="another teacher, by its Hub id or folder",
        action="name another, or leave out --start-from",
    )


def _without_classifier(arguments: ModelArgs) -> ModelArgs:
    """What timm builds the network from, less what a learner sets itself."""
    return {key: value for key, value in arguments.items() if key not in ("num_classes", "in_chans", "img_size")}


def _are_equal(learner: MetaLearner, teacher: Teacher) -> bool:
    """Whether a learner's features are the teacher's, on noise."""
    images = torch.rand(2, *teacher.record.input_size, generator=torch.Generator().manual_seed(0))
    training = learner.training
    learner.eval()
    with torch.no_grad():
        own = learner.raw_answers(images.to(learner.device))
        of_teacher = teacher(images.to(teacher.device)).features.flatten(1)
    learner.train(training)
    return own.shape == of_teacher.shape and deviation(own.cpu(), of_teacher.cpu()) < MAX_DEVIATION
