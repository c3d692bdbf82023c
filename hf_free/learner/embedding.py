"""From a backbone's features to the space that new classes are told apart in.

A new part of the embedding touches two files: one of its own, as `hf_free.learner.whitening` is, and this one, which
says what `config.json` holds of it (`EmbeddingSpec`) and where it acts (`Embedding`). Saving, strict loading,
evaluation, adaptation and copies side by side follow from these. A run fits it in
`hf_free.metalearning.embedding_fit`, where a setting asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_free.errors import LearnerError
from hf_free.learner.features_beside import FeaturesBeside
from hf_free.learner.format import CONFIG, EXTRA_WEIGHTS, load_strictly, take_part
from hf_free.learner.gating import TeacherGate
from hf_free.learner.heads import Head, LinearClassifier, fit_weighted, normalize_features, weigh
from hf_free.learner.pooled_teachers import PooledSpec, PooledTeachers, read_pooled
from hf_free.learner.shared_classes import SharedClasses, rebuild_shared_classes
from hf_free.learner.values import MAX_WIDTH, demand, is_list_of, whole
from hf_free.learner.whitening import Whitening, rebuild_whitening
from hf_free.provenance.reading import JsonView


def hellinger_embedding(logits: Tensor, sizes: Sequence[int], temperature: float = 1.0) -> Tensor:
    """Square roots of each teacher's probabilities, side by side: (B, A) -> (B, A).

    Euclidean distance between such vectors is the Hellinger distance between the teachers' verdicts, summed over
    the teachers (Hellinger kernel: Jebara et al., "Probability Product Kernels", 2004), so that a teacher that is
    unsure about a picture says little and one that is certain cannot drown the others.
    """
    if len(set(sizes)) == 1:  # one tensor operation instead of one per teacher
        return F.softmax(logits.unflatten(1, (len(sizes), sizes[0])) / temperature, -1).sqrt().flatten(1)
    parts = [F.softmax(part / temperature, 1).sqrt() for part in logits.split(list(sizes), 1)]
    return torch.cat(parts, 1)


def joint_embedding(
    answers: Tensor, features: Tensor, sizes: Sequence[int], shared: SharedClasses | None = None
) -> Tensor:
    """Predicted answers and the features they are made of, side by side, each of the length sqrt(its dimensions).

    Many teachers' answers tell new classes apart better than features do, a few teachers' answers worse, since they
    have few dimensions; when each dimension weighs alike, both cases are served (docs/experiments). The probabilities
    of shared classes, if there are any, stand between the two and weigh alike as well.

    Args:
        answers: (B, A) predicted logits.
        features: (B, D) the backbone's.
        sizes: Number of answers of each teacher.
        shared: Finds the probabilities of shared classes, G of them; None leaves them out.

    Returns:
        (B, A + G + D).
    """
    parts = [hellinger_embedding(answers.float(), sizes), features.float()]
    if shared is not None:
        parts.insert(1, shared(answers))
    return torch.cat([F.normalize(part, dim=1, eps=1e-8) * part.shape[1] ** 0.5 for part in parts], 1)


class Embedding(nn.Module):
    """What stands between a backbone's features and a head.

    Without any part it is the identity. All parts are attributes and may be exchanged.

    Args:
        projection: Linear map from the backbone's features to the teachers' logits, or to any space; None leaves the
            features as they are.
        sizes: Number of logits of each teacher in the projection's output; with them the embedding joins predicted
            logits and features (`joint_embedding`), else it is the projection's output.
        center: (D,) subtracted from L2-normalized features before the head sees them; None subtracts nothing.
        gate: Weighs the teachers by an episode's support; None lets all count alike.
        whitening: Lets directions in which recovered images differ most count less; None does not.
        shared_classes: Scores the classes that teachers share as one, beside each teacher's logits; None does not.
        pooled: Weighs what the teachers themselves say, which is then what the backbone gives; None for a learner that
            has a network of its own.
        beside: Puts the features beside the projection's output; None does not.

    Raises:
        LearnerError: a center and a gate; pooled teachers and a projection; features beside no projection, or beside
            one whose outputs are logits, which have them beside them anyhow.
    """

    center: Tensor | None

    def __init__(
        self,
        projection: nn.Linear | None = None,
        sizes: Sequence[int] | None = None,
        *,
        center: Tensor | None = None,
        gate: TeacherGate | None = None,
        whitening: Whitening | None = None,
        shared_classes: SharedClasses | None = None,
        pooled: PooledTeachers | None = None,
        beside: FeaturesBeside | None = None,
    ) -> None:
        super().__init__()
        if beside is not None and (projection is None or sizes):
            raise LearnerError("features beside no projection", allowed="a projection whose outputs are no logits")
        if pooled is not None and projection is not None:
            raise LearnerError("pooled teachers and a projection", allowed="one of them")
        if gate is not None and center is not None:
            raise LearnerError("a center and a relevance", allowed="one of them: relevance needs features of length 1")
        self.projection = projection
        self.sizes = None if sizes is None else tuple(sizes)
        self.gate, self.whitening, self.shared_classes = gate, whitening, shared_classes
        self.pooled, self.beside = pooled, beside
        self.register_buffer("center", center)

    def forward(self, features: Tensor) -> Tensor:
        """The backbone's features (B, d) -> (B, D), not normalized."""
        if self.pooled is not None:
            return self.pooled(features)
        if self.beside is not None:
            return torch.cat([self.logits(features), self.beside(features)], -1)
        if self.projection is None or self.sizes is None:
            return self.logits(features)
        return joint_embedding(self.logits(features), features, self.sizes, self.shared_classes)

    def logits(self, features: Tensor) -> Tensor:
        """The projection's output (B, A), or the features themselves (B, d) without one."""
        return features if self.projection is None else self.projection(features)

    def prepare(self, embedded: Tensor) -> Tensor:
        """Normalize what `forward` gives, (..., D), to length 1 and subtract the center, as every head expects it."""
        embedded = normalize_features(embedded)
        return embedded if self.center is None else embedded - self.center

    def fit_head(self, head: Head, support: Tensor, labels: Tensor, n_way: int) -> LinearClassifier:
        """Fit a head to weighted support features; the factors move into its weights.

        Args:
            head: The head.
            support: Prepared features (E, S, D).
            labels: (E, S), 0..n_way-1.
            n_way: Number of classes.

        Returns:
            Classifiers of prepared features, each episode's own.
        """
        return fit_weighted(head, support, labels, n_way, self._factors(support), self.whitening)

    def weigh(self, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """Prepared features of support (E, S, D) and queries (E, Q, D), weighted for a head that sees both."""
        factors = self._factors(support)
        return weigh(support, factors, self.whitening), weigh(query, factors, self.whitening)

    def _factors(self, support: Tensor) -> Tensor | None:
        if self.pooled is not None:
            return self.pooled.relevance(support)
        return None if self.gate is None else self.gate(support)

    def stop_weighing(self) -> None:
        """Leave out gate and whitening, which are fitted to features of one BatchNorm mode."""
        self.gate = self.whitening = None

    def width(self, features: int) -> int:
        """Width D of the embedding of so many features."""
        return self.spec.width(features)

    @property
    def spec(self) -> EmbeddingSpec:
        """Which parts it has, and how large they are."""
        projection = self.projection
        return EmbeddingSpec(
            projection=None if projection is None else (projection.out_features, projection.in_features),
            projection_bias=projection is not None and projection.bias is not None,
            sizes=self.sizes,
            is_centered=self.center is not None,
            has_gate=self.gate is not None,
            directions=None if self.whitening is None else len(self.whitening.factors),
            groups=None if self.shared_classes is None else len(self.shared_classes),
            pooled=None if self.pooled is None else self.pooled.spec,
            has_features=self.beside is not None,
        )

    def config(self) -> dict[str, object]:
        """What config.json says of it, see `EmbeddingSpec.describe`."""
        return self.spec.describe()


@dataclass(frozen=True)
class EmbeddingSpec:
    """Which parts an embedding has and how large they are: read from config.json, and written there.

    Attributes:
        projection: Outputs and inputs.
        projection_bias: Whether it has one.
        sizes: Number of logits of each teacher.
        is_centered: Whether there is a center.
        has_gate: Whether teachers are weighed.
        directions: Number of directions that are whitened.
        groups: Number of classes that the teachers know between them.
        pooled: How large what the pooled teachers say is.
        has_features: Whether the features stand beside the projection's output.
    """

    projection: tuple[int, int] | None = None
    projection_bias: bool = False
    sizes: tuple[int, ...] | None = None
    is_centered: bool = False
    has_gate: bool = False
    directions: int | None = None
    groups: int | None = None
    pooled: PooledSpec | None = None
    has_features: bool = False

    REQUIRED_KEYS: ClassVar = ("projection", "centered")
    OPTIONAL_KEYS: ClassVar = ("answer_sizes", "relevance", "damping", "shared_classes", "pooled", "features")

    @classmethod
    def read(cls, described: JsonView, source: str) -> EmbeddingSpec:
        """Check what a learner's config.json says of its embedding.

        Args:
            described: Its `hf_free.learner`, with all of `REQUIRED_KEYS`.
            source: The learner's name, for errors.

        Raises:
            LearnerError: a value that is not allowed, or parts that do not go together.
        """
        projection, has_bias = _projection(described["projection"], source)
        sizes = described.get("answer_sizes")
        if sizes is not None:
            demand(is_list_of(sizes, whole(1, MAX_WIDTH)) and sizes, source, "answer_sizes", sizes, "whole numbers")
            outputs = None if projection is None else projection[0]
            rule = f"a sum of {outputs}, the projection's outputs"
            demand(sum(sizes) == outputs, source, "answer_sizes", sizes, rule)
        directions, groups = described.get("damping"), described.get("shared_classes")
        for key, value in (("damping", directions), ("shared_classes", groups)):
            rule = "a whole number of at least 1"
            demand(value is None or whole(1, MAX_WIDTH)(value), source, key, value, rule)
        needs_answers = groups is not None or described.get("relevance", False) is True
        demand(sizes or not needs_answers, source, "answer_sizes", sizes, "sizes, for relevance or shared_classes")
        for key in ("centered", "relevance", "features"):
            value = described.get(key, False)
            demand(isinstance(value, bool), source, key, value, "true or false")
        is_weighed = described["centered"] and described.get("relevance", False)
        demand(not is_weighed, source, "centered", True, "false beside relevance")
        has_features = described.get("features", False)
        rule = "false, without a projection or beside answer_sizes"
        demand(not has_features or (projection and not sizes), source, "features", has_features, rule)
        pooled = read_pooled(described.get("pooled"), source)
        demand(pooled is None or projection is None, source, "projection", projection, "null beside pooled")
        return cls(
            projection=projection,
            projection_bias=has_bias,
            sizes=None if sizes is None else tuple(sizes),
            is_centered=described["centered"],
            has_gate=described.get("relevance", False),
            directions=directions,
            groups=groups,
            pooled=pooled,
            has_features=has_features,
        )

    def describe(self) -> dict[str, object]:
        """The keys of format 1 that `read` reads; those of later parts only where the part is used, so that older
        versions of hf-free can read a learner without it."""
        shape = self.projection
        return {
            "projection": None if shape is None else {"bias": self.projection_bias, "shape": list(shape)},
            "answer_sizes": None if self.sizes is None else list(self.sizes),
            "centered": self.is_centered,
            **({"relevance": True} if self.has_gate else {}),
            **({} if self.directions is None else {"damping": self.directions}),
            **({} if self.groups is None else {"shared_classes": self.groups}),
            **({} if self.pooled is None else {"pooled": self.pooled.describe()}),
            **({"features": True} if self.has_features else {}),
        }

    def width(self, features: int) -> int:
        """Width D of the embedding of so many features."""
        if self.pooled is not None:
            return features + len(self.pooled.features)
        if self.projection is None:
            return features
        outputs, _ = self.projection
        if self.has_features:
            return outputs + features
        return outputs if self.sizes is None else outputs + (self.groups or 0) + features

    def check_widths(self, features: int, feature_dim: int, backbone: str, source: str) -> None:
        """Compare what config.json says with the backbone's own width.

        Args:
            features: That width.
            feature_dim: The embedding's, as config.json says.
            backbone: The backbone's name, for errors.
            source: The learner's name, likewise.

        Raises:
            LearnerError: they do not fit.
        """
        inputs = features if self.projection is None else self.projection[1]
        derived = self.width(features)
        if inputs != features or derived != feature_dim:
            raise LearnerError(
                f"{source}: {CONFIG} says feature_dim {feature_dim} with a projection of {inputs} features and "
                f"{self.groups or 0} shared_classes",
                allowed=f"{derived} and {features}: backbone {backbone} gives {features} features",
                action="save or push the learner again",
            )
        if self.directions is not None and self.directions > feature_dim:
            raise LearnerError(
                f"{source} whitens {self.directions} directions", allowed=f"1 to {feature_dim}, its features' width"
            )

    def tensors(self, features: int) -> dict[str, Tensor]:
        """Names, shapes and types of its tensors for a backbone of so many features; they take no memory."""
        sizes, width = self.sizes or (), self.width(features)
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            blank = Embedding(
                self._projection(),
                sizes,
                pooled=None if self.pooled is None else self.pooled.build(),
                center=torch.empty(width) if self.is_centered else None,
                gate=TeacherGate(sizes, features) if self.has_gate else None,
                whitening=None if self.directions is None else Whitening(self.directions, width),
                beside=FeaturesBeside(features) if self.has_features else None,
            )
            tensors = dict(blank.state_dict())
            if self.groups is not None:
                tensors["shared_classes.groups"] = torch.empty(sum(sizes), dtype=torch.long)
        return tensors

    def build(self, features: int, tensors: dict[str, Tensor], source: str) -> Embedding:
        """The embedding with these tensors.

        Args:
            features: Width of the backbone's features.
            tensors: Those that `tensors` names; taken out of the dictionary.
            source: The learner's name, for errors.

        Raises:
            LearnerError: tensors that do not fit.
        """
        weights_of, sizes = f"{source} ({EXTRA_WEIGHTS})", self.sizes or ()
        projection, gate, whitening, shared_classes = self._projection(), None, None, None
        if projection is not None:
            load_strictly(projection, take_part(tensors, "projection"), weights_of)
        if self.groups is not None:
            groups = take_part(tensors, "shared_classes")
            shared_classes = rebuild_shared_classes(self.groups, sizes, groups, source)
        if self.has_gate:
            gate = TeacherGate(sizes, features, None if shared_classes is None else shared_classes.groups)
            load_strictly(gate, take_part(tensors, "gate"), weights_of)
        if self.directions is not None:
            part = take_part(tensors, "whitening")
            whitening = rebuild_whitening(self.directions, self.width(features), part, weights_of)
        pooled = None if self.pooled is None else self.pooled.build()
        if pooled is not None:
            load_strictly(pooled, take_part(tensors, "pooled"), weights_of)
        beside = FeaturesBeside(features) if self.has_features else None
        if beside is not None:
            load_strictly(beside, take_part(tensors, "beside"), weights_of)
        return Embedding(
            projection,
            self.sizes,
            center=tensors.pop("center", None),
            gate=gate,
            whitening=whitening,
            shared_classes=shared_classes,
            pooled=pooled,
            beside=beside,
        )

    def _projection(self) -> nn.Linear | None:
        if self.projection is None:
            return None
        outputs, inputs = self.projection
        return nn.Linear(inputs, outputs, bias=self.projection_bias)


def _projection(declared: Any, source: str) -> tuple[tuple[int, int] | None, bool]:
    if declared is None:
        return None, False
    rule = "its bias, true or false, and its shape, two whole numbers"
    good = isinstance(declared, dict) and declared.keys() == {"bias", "shape"} and isinstance(declared["bias"], bool)
    good = good and is_list_of(declared["shape"], whole(1, MAX_WIDTH)) and len(declared["shape"]) == 2
    demand(good, source, "projection", declared, rule)
    outputs, inputs = declared["shape"]
    return (outputs, inputs), declared["bias"]
