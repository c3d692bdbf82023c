"""One network that imitates a pooled learner: what it is shown, its loss, and the embedding that comes out.

The network predicts, by a linear map of its features, what the pooled learner's embedding of a picture is: the
teachers' whitened features and the square roots of their probabilities, each with its teacher's weight. It learns
features in this way, where `hf-free train` learns logits (docs/experiments/few-teachers.md).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_free.data.own_pictures import OwnPictures
from hf_free.learner.embedding import Embedding
from hf_free.learner.features_beside import FeaturesBeside
from hf_free.learner.pooled_backbone import PooledBackbone
from hf_free.learner.pooled_teachers import PooledTeachers
from hf_free.memory.filling import draw_beside
from hf_free.pooling.agreement import agreement
from hf_free.runtime.device import Precision
from hf_free.runtime.distributed import ALONE, Ranks
from hf_free.runtime.memory_budget import pictures_at_once
from hf_free.runtime.random_streams import Stream
from hf_free.teachers.pool import TeacherPool

IN_32_BITS = Precision()
"""Precision of the teachers where no other is asked for."""

MOST_DIMENSIONS = 512
"""Most dimensions of the pooled embedding that are predicted, those in which pictures differ most: a hundred teachers
have tens of thousands, most of them combinations of others."""


def said_in_one_vector(network: PooledBackbone, teachers: PooledTeachers, images: Tensor) -> Tensor:
    """What pooled teachers say of images (B, C, H, W) in [0, 1], one view, in the space that heads work in -> (B, D).

    The columns by which teachers are weighted anew in each episode are left out.
    """
    return in_one_vector(teachers, network(images))


def in_one_vector(teachers: PooledTeachers, asked: Tensor) -> Tensor:
    """The same of what the network gave, (B, all features, then all logits) -> (B, D)."""
    embedded = teachers(asked)
    return embedded[:, : embedded.shape[1] - len(teachers.feature_sizes)]


class Directions:
    """The directions in which an embedding varies most, by which it is made narrower without changing inner products.

    Args:
        embedded: (N, D) of pictures; of more than `MOST_DIMENSIONS` columns those directions are found.
    """

    def __init__(self, embedded: Tensor) -> None:
        self.basis: Tensor | None = None
        if embedded.shape[1] > MOST_DIMENSIONS:
            rows = embedded.double()
            values, vectors = torch.linalg.eigh(rows @ rows.T)  # quicker than a decomposition of wide rows
            kept = values > values[-1] * 1e-9
            strongest = (vectors[:, kept] / values[kept].sqrt()).flip(1)[:, :MOST_DIMENSIONS]
            self.basis = (rows.T @ strongest).float()  # (D, at most 512), columns of length 1

    @classmethod
    def along(cls, basis: Tensor | None) -> Directions:
        """Those that were found before, (D, at most `MOST_DIMENSIONS`); None stands for all as they are."""
        known = cls(torch.empty(0, 0))
        known.basis = basis
        return known

    def __call__(self, embedded: Tensor) -> Tensor:
        """(B, D) -> (B, D) or (B, at most `MOST_DIMENSIONS`)."""
        return embedded if self.basis is None else embedded @ self.basis


class PictureBank:
    """Drawn pictures with what the pooled learner says of them; when it is full the oldest go.

    Several processes of one run hold the same pictures: each asks its teachers about a part of the new ones.

    Args:
        network: The teachers.
        teachers: Their weights.
        pool: The teachers again, whose colors the drawn pictures have.
        size: Channels, and height and width of the pictures.
        room: Most pictures that are kept.
        stream: Random numbers for the pictures.
        precision: The teachers' precision.
        device: Where their weights are.
        ranks: The processes of the run; all of them draw and grow alike, and together.
        own: Pictures of the user's own, which stand for a part of the drawn ones.
    """

    def __init__(
        self,
        network: PooledBackbone,
        teachers: PooledTeachers,
        pool: TeacherPool,
        size: tuple[int, int],
        *,
        room: int,
        stream: Stream,
        precision: Precision = IN_32_BITS,
        device: torch.device | str = "cpu",
        ranks: Ranks = ALONE,
        own: OwnPictures | None = None,
    ) -> None:
        self._own = own
        self._network, self._teachers, self._pool, self._ranks = network, teachers, pool, ranks
        self._size, self._room, self._stream = size, room, stream
        self._precision, self._device = precision, torch.device(device)
        self._directions: Directions | None = None
        self.images = torch.empty(0, size[0], size[1], size[1], dtype=torch.uint8)
        self.targets = torch.empty(0)
        self.seen = 0
        """Pictures that were drawn in all."""

    def __len__(self) -> int:
        return len(self.images)

    @torch.no_grad()
    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Draw pictures and ask the teachers about them: bytes (count, C, S, S), and what is to be predicted."""
        drawn_at_once = pictures_at_once(self._size[1])
        counts = [min(drawn_at_once, count - begun) for begun in range(0, count, drawn_at_once)]
        images = torch.cat([draw_beside(self._pool, part, self._size, self._stream, own=self._own) for part in counts])
        asked_at_once = pictures_at_once(max(max(record.input_size[1:]) for record in self._pool.records))
        own = images.tensor_split(self._ranks.count)[self._ranks.launched.rank]
        said = torch.cat([self._ask(part) for part in own.split(asked_at_once)])
        if self._directions is None:
            every = torch.cat(self._ranks.gather(said))
            # of one process: on another machine the same directions may point the other way
            self._directions = Directions.along(self._ranks.first(Directions(every).basis))
        self.seen += count
        return images, torch.cat(self._ranks.gather(self._directions(said).half()))

    def _ask(self, images: Tensor) -> Tensor:
        with self._precision.autocast(self._device):
            said = said_in_one_vector(self._network, self._teachers, images.to(self._device).float() / 255)
        return said.float().cpu()

    def grow(self, count: int) -> None:
        """Draw pictures and keep them."""
        images, targets = self.draw(count)
        if not len(self):
            self.targets = targets[:0]
        self.images = torch.cat([self.images, images])[-self._room :]
        self.targets = torch.cat([self.targets, targets])[-self._room :]

    def tensors(self) -> dict[str, Tensor]:
        """All that the bank holds, by name, for `load_tensors`."""
        basis = None if self._directions is None else self._directions.basis
        found = {"images": self.images, "targets": self.targets, "seen": torch.tensor(self.seen)}
        return found if basis is None else {**found, "basis": basis}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Hold what another bank of the same teachers held."""
        self.images, self.targets, self.seen = tensors["images"], tensors["targets"], int(tensors["seen"])
        self._directions = Directions.along(tensors.get("basis"))

    def sample(self, count: int, stream: Stream) -> tuple[Tensor, Tensor]:
        """Pictures at random: bytes (count, C, S, S), and what is to be predicted (count, D) in 32 bits."""
        places = torch.randint(len(self), (count,), generator=stream.on("cpu"))
        return self.images[places], self.targets[places].float()


def imitation_loss(predicted: Tensor, said: Tensor) -> Tensor:
    """Mean of 1 - cosine of predictions (B, D) and what the teachers say: heads see directions only."""
    return 1 - F.cosine_similarity(predicted, said, dim=1).mean()


@torch.no_grad()
def imitating_embedding(projection: nn.Linear, features: Tensor) -> Embedding:
    """Predictions and centered features, which weigh alike: side by side or as one map, whichever has fewer weights.

    Args:
        projection: Predicts, from features.
        features: (N, d) of pictures, to center and to measure lengths by.
    """
    if projection.out_features > projection.in_features:
        return Embedding(joined_projection(projection, features))
    beside = FeaturesBeside(projection.in_features).to(features.device)
    beside.fit(features, projection(features))
    return Embedding(projection, beside=beside)


@torch.no_grad()
def joined_projection(projection: nn.Linear, features: Tensor) -> nn.Linear:
    """A linear map whose outputs have the inner products of the predictions and the centered features together.

    Both are scaled to the same mean length, so that they weigh alike. Side by side they are A f + c with the
    features f (B, d), a matrix A (D + d, d) and a constant c. Of [A, c] = Q R the upper triangle R has the same inner
    products, in d + 1 dimensions.

    Args:
        projection: Predicts, from features.
        features: (N, d) of pictures, to center and to measure lengths by.
    """
    center = features.mean(0)
    length = projection(features).norm(dim=1).mean() / (features - center).norm(dim=1).mean().clamp_min(1e-8)
    width = features.shape[1]
    matrix = torch.cat([projection.weight, length * torch.eye(width, device=features.device)])
    constant = torch.cat([projection.bias, -length * center]).unsqueeze(1)
    triangle = torch.linalg.qr(torch.cat([matrix, constant], 1).double()).R.float()
    joined = nn.Linear(width, width + 1)
    joined.weight.copy_(triangle[:, :width])
    joined.bias.copy_(triangle[:, width])
    return joined.to(features.device)


@torch.no_grad()
def likeness(one: Tensor, other: Tensor) -> float:
    """How much two embeddings of the same pictures agree, (N, any width) each: their RV coefficient, 0 to 1."""
    return float(agreement([one, other])[0, 1])
