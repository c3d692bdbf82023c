"""The loss that every inverter lowers: its terms by name, their weights, and their sum."""

from __future__ import annotations

import torch
from torch import Tensor

from hf_free.config.recipes import Defects
from hf_free.config.sections import INVERSION_TERMS, FiveConfig
from hf_free.data.augment import shift_and_flip
from hf_free.inversion.base import InversionTarget, Student, Terms
from hf_free.inversion.batchnorm_statistics import collected_distances
from hf_free.inversion.differentiable import check_gradient
from hf_free.inversion.losses import (
    canvas_distance,
    cross_entropy,
    disagreement,
    feature_norm,
    similarity_hinge,
    total_variation,
    weighted_sum,
)
from hf_free.runtime.device import Precision
from hf_free.runtime.random_streams import GLOBAL, Stream
from hf_free.teachers.teacher import Teacher


class InversionLoss:
    """Scores how well pictures fit a teacher's classes.

    Args:
        config: Weights of the terms, and augmentation.
        device: Where it computes.
        precision: Autocast type and memory format.
        defects: Defects of the released code to reproduce; None for none.
    """

    def __init__(
        self, config: FiveConfig, *, device: torch.device, precision: Precision, defects: Defects | None = None
    ) -> None:
        self.config, self.device, self.precision = config, device, precision
        self.defects = defects or Defects()

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each loss term."""
        return {name: getattr(self.config, name) for name in INVERSION_TERMS}

    def terms(
        self,
        pictures: Tensor,
        target: InversionTarget,
        teacher: Teacher,
        index: int = 0,
        student: Student | None = None,
        donor: Teacher | None = None,
        canvas: Tensor | None = None,
        stream: Stream = GLOBAL,
    ) -> Terms:
        """The named terms for pictures (N, C, H, W) in [0, 1]; all fp32 scalars.

        Args:
            pictures: (N, C, H, W) in [0, 1].
            target: What they were made for.
            teacher: The teacher that is inverted.
            index: Its place in the pool, which the student is asked with.
            student: See `hf_free.inversion.base.Inverter.step`.
            donor: A teacher that lends its BatchNorm statistics to one without.
            canvas: (N, C, H, W) that the pictures are painted over, if any.
            stream: Random numbers for shifts and flips.
        """
        config, seen = self.config, pictures
        if config.augment:
            seen = shift_and_flip(pictures, flip=config.flip, stream=stream)
        terms: Terms = {}
        layers = teacher.batchnorm_layers() if config.batchnorm else []
        with self.precision.autocast(self.device), collected_distances(layers) as distances:
            logits, features = self._ask(teacher, self.precision.layout(seen))
        check_gradient(pictures, logits, teacher.record.reference)
        logits = logits[:, list(target.classes)]
        terms["cross_entropy"] = cross_entropy(logits, target.labels)
        if distances:
            terms["batchnorm"] = torch.stack(distances).mean()
        if config.canvas_distance and canvas is not None:
            terms["canvas_distance"] = canvas_distance(pictures, canvas)
        if not teacher.record.has_batchnorm:
            terms |= self._substitutes(pictures, seen, features, donor)
        if config.similarity_hinge and features is not None:
            terms["similarity_hinge"] = similarity_hinge(features, target.labels, config.similarity_margin)
        count = teacher.record.num_classes
        if student is not None and config.adversarial and count <= config.max_classes:
            with self.precision.autocast(self.device):
                answer = student(seen, index)[:, :count]
            if answer.shape[1] == count:  # else the student answers for fewer classes than the teacher has
                answer = answer if len(target.classes) == count else answer[:, list(target.classes)]
                released = self.defects.divergence_of_probabilities
                answer = answer.detach() if released else answer  # as released: no gradient through the student
                terms["adversarial"] = disagreement(logits, answer, of_probabilities=released)
        return terms

    def total(self, terms: Terms) -> Tensor:
        """The weighted sum that an inversion follows; statistics count as far as the pictures are recognized. With a
        fixed weight, five steps do not suffice for both with every teacher: a high weight leaves a deep one
        unconvinced, a low one leaves the pictures of a shallow one glaring (docs/experiments).
        """
        if self.config.recognition_first and "batchnorm" in terms:
            recognized = terms["cross_entropy"].detach().neg().exp()  # geometric mean of the wanted probabilities
            terms = {**terms, "batchnorm": recognized * terms["batchnorm"]}
        return weighted_sum(terms, self.weights)

    def _ask(self, teacher: Teacher, pictures: Tensor) -> tuple[Tensor, Tensor | None]:
        """The teacher's logits, and its features where a term needs them."""
        wants_norm = self.config.feature_norm and not teacher.record.has_batchnorm
        if not (wants_norm or self.config.similarity_hinge):
            return teacher.logits(pictures), None
        output = teacher(pictures)
        return output.logits, output.features

    def _substitutes(self, pictures: Tensor, seen: Tensor, features: Tensor | None, donor: Teacher | None) -> Terms:
        """Terms that stand in for BatchNorm statistics where a teacher has none."""
        config, terms = self.config, {}
        if config.total_variation:
            terms["total_variation"] = total_variation(pictures)
        if config.feature_norm and features is not None:
            terms["feature_norm"] = feature_norm(features)
        if config.donor_batchnorm and donor is not None:
            with self.precision.autocast(self.device), collected_distances(donor.batchnorm_layers()) as distances:
                donor.logits(self.precision.layout(seen))
            terms["donor_batchnorm"] = torch.stack(distances).mean()
        return terms
