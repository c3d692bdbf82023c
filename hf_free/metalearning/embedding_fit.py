"""Fitting the embedding at the end of a run: shared classes, gating, whitening; or leaving the answers out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hf_free.config.sections import LearnerConfig
from hf_free.data.class_matching import MIN_CLASS_IMAGES, group_classes, likeness
from hf_free.data.logits import LogitLayout
from hf_free.learner.embedder import Embedder
from hf_free.learner.embedding import Embedding
from hf_free.learner.gating import TeacherGate
from hf_free.learner.shared_classes import MAX_SHARED_LOGITS, SharedClasses
from hf_free.learner.whitening import DIRECTIONS, MIN_IMAGES, Whitening

if TYPE_CHECKING:
    from hf_free.memory.bank import TaskMemory

MAX_IMAGES = 2048
"""Most recovered pictures that a part is fitted to."""


def fit_embedding(
    learner: Embedder,
    layout: LogitLayout,
    memory: TaskMemory,
    config: LearnerConfig,
    *,
    without: Sequence[int] = (),
    most: int = MAX_IMAGES,
    at_once: int = 256,
) -> None:
    """Fit the parts of a trained learner's embedding that the configuration asks for; the others are left out.

    Each is fitted to the output of those before it, in the order shared classes, gate, whitening. The first two need
    predicted answers: without these there is the whitening alone.

    Args:
        learner: Trained.
        layout: Which columns of the memory's answers are whose.
        memory: Recovered pictures with all teachers' answers.
        config: Says which parts.
        without: Teachers whose answers the learner has lost.
        most: Most recovered pictures that it is shown.
        at_once: Pictures that are embedded together.
    """
    if not config.answers:
        learner.embedding = Embedding(center=learner.embedding.center)
    embedding = learner.embedding
    embedding.shared_classes = fit_shared_classes(learner, layout, memory, without) if config.shared_classes else None
    recovered = embed_recovered(learner, memory, most=most, at_once=at_once)
    embedding.gate = fit_gate(learner, layout, recovered, without) if config.gating else None
    embedding.whitening = fit_whitening(recovered[0], config.whitening) if config.whitening else None
    learner.to(learner.device)


def drop_teachers(learner: Embedder, layout: LogitLayout, gone: Sequence[int]) -> None:
    """Take away the learner's predictions of teachers that never answered: they are noise it was never taught."""
    embedding = learner.embedding
    if not gone or embedding.projection is None:
        return
    columns = torch.arange(layout.width)
    kept = [columns[block.columns] for block in layout.blocks if not set(block.teachers) & set(gone)]
    old, rows = embedding.projection, torch.cat(kept)
    projection = nn.Linear(old.in_features, len(rows), device=old.weight.device)
    with torch.no_grad():
        projection.weight.copy_(old.weight[rows])
        projection.bias.copy_(old.bias[rows])
    embedding.projection, embedding.sizes = projection, tuple(len(group) for group in kept)


@torch.no_grad()
def fit_shared_classes(
    learner: Embedder, layout: LogitLayout, memory: TaskMemory, without: Sequence[int] = ()
) -> SharedClasses | None:
    """Find the classes that teachers share by their answers in the memory.

    Args:
        learner: Trained to predict the answers.
        layout: Which columns of the memory's answers are whose.
        memory: Pictures with all teachers' answers.
        without: Teachers whose answers the learner has lost.

    Returns:
        None where no two teachers share a class, or where there are too few pictures, or too many answers, to tell.
    """
    sizes = learner.embedding.sizes
    if sizes is None or len(memory) < MIN_CLASS_IMAGES or sum(sizes) > MAX_SHARED_LOGITS:
        return None
    pictures, recovered_from = memory.recovered()
    teachers = torch.full((len(memory),), -1)
    teachers[pictures] = layout.without(without).places(recovered_from)
    kept = [not set(block.teachers) & set(without) for block in layout.blocks]
    groups = group_classes(likeness(memory.said().to(torch.device("cpu")).keeping(kept), teachers))
    is_shared = int(groups.max()) + 1 < len(groups)
    return SharedClasses(groups, sizes).to(learner.device) if is_shared else None


def fit_gate(
    learner: Embedder, layout: LogitLayout, recovered: tuple[Tensor, Tensor], without: Sequence[int] = ()
) -> TeacherGate | None:
    """Learn from recovered pictures which teachers they came from.

    Args:
        learner: Trained; it has embedded the pictures.
        layout: Which columns of its answers are whose.
        recovered: What `embed_recovered` gives.
        without: Teachers whose answers the learner has lost.

    Returns:
        None where there is nothing to tell apart: a learner without answers, or pictures of fewer than two teachers.
    """
    embedding = learner.embedding
    if embedding.sizes is None:
        return None
    embeddings, teachers = recovered[0], layout.without(without).places(recovered[1])
    embeddings, teachers = embeddings[teachers >= 0], teachers[teachers >= 0]
    if len(teachers.unique()) < 2:
        return None
    groups = None if embedding.shared_classes is None else embedding.shared_classes.groups.cpu()
    gate = TeacherGate(embedding.sizes, learner.backbone_dim, groups)
    gate.fit(embeddings, teachers)
    return gate.to(learner.device)


def embed_recovered(
    learner: Embedder, memory: TaskMemory, *, most: int = MAX_IMAGES, at_once: int = 256
) -> tuple[Tensor, Tensor]:
    """The learner's embeddings (N, D) of recovered pictures, `most` at most, and the teacher (N,) of each.

    There are none where a learner's features depend on the batch. Of a continued learner's old teachers there are no
    pictures.
    """
    pictures, teachers = memory.recovered()
    if learner.batchnorm != "running" or not len(pictures):
        return torch.empty(0, learner.feature_dim), torch.empty(0, dtype=torch.long)
    chosen = torch.linspace(0, len(pictures) - 1, min(most, len(pictures))).long()
    embedded = [learner.embed(memory.images[part.to(memory.device)]).cpu() for part in pictures[chosen].split(at_once)]
    return torch.cat(embedded), teachers[chosen]


def fit_whitening(features: Tensor, half: float) -> Whitening | None:
    """Learn from features (N, D) of recovered pictures, see `Whitening.fit`; None where there are fewer than
    `MIN_IMAGES`."""
    if len(features) < MIN_IMAGES:
        return None
    whitening = Whitening(min(DIRECTIONS, *features.shape), features.shape[1])
    whitening.fit(features, half)
    return whitening.to(features.device)
