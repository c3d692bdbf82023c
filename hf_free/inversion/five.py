"""FIVE: one meta-generator that adapts to any teacher in a few inner steps, and learns to do so better.

Inner loop, a teacher: a copy of the meta-generator and fresh latents take k Adam steps on the inversion loss.
Outer step: the gradients met on the way, at the copies' weights, move the meta-generator (first-order MAML, Finn
et al. 2017). Fast-Datafree (Fang et al. 2022) accumulates them over all inner steps and keeps one outer Adam; the
released FREE code takes the last step's gradient only and makes a new Adam for every outer step.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from hf_free.config.recipes import Defects
from hf_free.config.sections import INVERSION_TERMS, FiveConfig
from hf_free.data.augment import shift_and_flip
from hf_free.errors import RunError
from hf_free.inversion.base import InversionTarget, Student
from hf_free.inversion.batchnorm_statistics import collected_distances
from hf_free.inversion.canvas import draw_canvases, give_to_classes
from hf_free.inversion.generator import MetaGenerator
from hf_free.inversion.gradients import WINDOW, comparable_scales, joint_norm
from hf_free.inversion.losses import (
    canvas_distance,
    cross_entropy,
    disagreement,
    feature_norm,
    similarity_hinge,
    total_variation,
    weighted_sum,
)
from hf_free.inversion.task import RecoveredTask, failed_task, finish_task
from hf_free.runtime.device import Precision, is_out_of_memory
from hf_free.runtime.memory_order import keep_memory_order
from hf_free.teachers.teacher import Teacher

logger = logging.getLogger(__name__)

BETAS = (0.5, 0.999)
"""Adam's betas for generator and latents (FREE, Fast-Datafree)."""

OUT_OF_MEMORY = "its inversion needs more memory than there is"
"""Why a teacher too large for the machine is left out."""


class TaskSize(NamedTuple):
    """How many pictures one inversion makes."""

    images_per_class: int
    classes: int

    @classmethod
    def of(cls, config: FiveConfig, num_classes: int) -> TaskSize:
        """What the configuration asks for, of a teacher of so many classes."""
        return cls(config.images_per_class, min(num_classes, config.max_classes))

    @property
    def images(self) -> int:
        """All pictures."""
        return self.images_per_class * self.classes

    def within(self, images: int | None) -> TaskSize:
        """The size with so many pictures at most, None for any number: fewer a class at first, then fewer classes.

        Two classes of two pictures are the least that there is.
        """
        if images is None or self.images <= images:
            return self
        each = min(self.images_per_class, max(2, images // self.classes))
        return TaskSize(each, min(self.classes, max(2, images // each)))


class Five:
    """The meta-generator with its inner and outer loop.

    Args:
        config: Steps, rates and loss weights.
        image_size: Height and width of recovered pictures.
        channels: 1 or 3.
        device: Where it computes.
        precision: Autocast type and memory format.
        defects: Defects of the released code to reproduce; None for none.
    """

    def __init__(
        self,
        config: FiveConfig,
        *,
        image_size: int,
        channels: int = 3,
        device: torch.device | str = "cpu",
        precision: Precision | None = None,
        defects: Defects | None = None,
    ) -> None:
        self.config, self.defects = config, defects or Defects()
        self.device, self.precision = torch.device(device), precision or Precision()
        self.generator = MetaGenerator(
            image_size, channels, config.latent_dim, config.width, config.max_classes if config.conditional else 0
        ).to(self.device)
        self.generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._fast = copy.deepcopy(self.generator)
        self.optimizer = self._outer_optimizer()
        self._noted: set[str] = set()
        self.most_images: int | None = None
        """Pictures of one inversion at most, where memory is short; None leaves their number to the configuration."""
        self.pause: Callable[[], None] = lambda: None
        """Called before each inner step; what it raises ends the outer step, and the meta-generator has not moved."""

    def task_size(self, teacher: Teacher) -> TaskSize:
        """Classes and pictures of an inversion of this teacher."""
        return TaskSize.of(self.config, teacher.record.num_classes).within(self.most_images)

    def compile(self) -> None:
        """Have torch.compile compile the generator of the inner loop; its first steps take a minute then."""
        self._fast.compile()

    def outer_step(
        self,
        teachers: Sequence[tuple[int, Teacher]],
        student: Student | None = None,
        lender: Teacher | None = None,
    ) -> tuple[list[RecoveredTask], dict[str, float]]:
        """Recover a task from each teacher and move the meta-generator once.

        Args:
            teachers: (index in the pool, teacher), one graph alive at a time.
            student: The meta-learner, for the adversarial term; None leaves the term out.
            lender: A teacher with BatchNorm that lends its statistics to those without; None leaves the term out.

        Returns:
            The tasks, and the mean loss terms at the last inner step, without those of teachers gone wrong. A teacher
            that needs more memory than there is gives a task without pictures, with the problem in its health. Of the
            teachers' gradients see `hf_free.inversion.gradients`.
        """
        tasks, found = [], []
        for index, teacher in teachers:
            own = [torch.zeros_like(p) for p in self.generator.parameters()]
            task, terms = self._recover(teacher, index, student, own, lender)
            tasks.append(task)
            if task.health.problem is None:
                found.append((task.reference, own, terms))
        logged = self._follow(found)
        names = {name for terms in logged for name in terms}
        means = {n: torch.stack([terms[n] for terms in logged if n in terms]).mean().item() for n in sorted(names)}
        return tasks, means

    def _follow(self, found: Sequence[tuple[str, list[Tensor], dict[str, Tensor]]]) -> list[dict[str, Tensor]]:
        """Move the meta-generator by teachers' gradients, made comparable; the loss terms of those that took part."""
        norms = [joint_norm(own) for _, own, _ in found]
        past = [] if self.defects.outer_optimizer_reborn else self._past_norms()
        gradients, taken = [torch.zeros_like(p) for p in self.generator.parameters()], []
        for (reference, own, terms), norm, scale in zip(found, norms, comparable_scales(norms, past), strict=True):
            self._note_gradient(reference, norm, scale)
            if scale:
                torch._foreach_add_(gradients, own if scale == 1 else torch._foreach_mul(own, scale))
                taken.append(terms)
        past[:] = [*past, *filter(math.isfinite, norms)][-WINDOW:]
        if taken:
            self._apply_outer(gradients)
        return taken

    def _past_norms(self) -> list[float]:
        """Norms of earlier steps, kept with the optimiser's own memory and so in checkpoints."""
        return self.optimizer.param_groups[0].setdefault("teacher_norms", [])

    def _note_gradient(self, reference: str, norm: float, scale: float) -> None:
        """Say once of a teacher that its gradient is no longer taken as it is."""
        if scale == 1 or reference in self._noted:
            return
        self._noted.add(reference)
        what = (
            "is left out: it is not finite"
            if not scale
            else f"is {1 / scale:.3g} times the usual and counts as a usual one"
        )
        logger.warning("the gradient of %s %s; hf-free inspect --measure says more", reference, what)

    def _recover(
        self, teacher: Teacher, index: int, student: Student | None, gradients: list[Tensor], lender: Teacher | None
    ) -> tuple[RecoveredTask, dict[str, Tensor]]:
        """One task and its last loss terms; a task with a problem where memory does not suffice."""
        borrows = lender is not None and not teacher.record.has_batchnorm
        for tried in [lender, None] if borrows else [None]:  # a lender that is too large is not the teacher's fault
            try:
                images, wanted, terms = self.adapt(teacher, index, student, gradients, lender=tried)
                return finish_task(images, wanted.labels, wanted.classes, teacher, index), terms
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            torch._foreach_zero_(gradients)
        return failed_task(teacher, index, OUT_OF_MEMORY), {}

    def adapt(
        self,
        teacher: Teacher,
        index: int = 0,
        student: Student | None = None,
        gradients: list[Tensor] | None = None,
        *,
        steps: int | None = None,
        lender: Teacher | None = None,
    ) -> tuple[Tensor, InversionTarget, dict[str, Tensor]]:
        """The inner loop for one teacher, in which nothing waits for the device.

        Args:
            teacher: Whom to invert.
            index: Its place in the pool, which the student is asked with.
            student: See `outer_step`.
            gradients: One tensor a generator parameter, to which the outer gradient is added.
            steps: Inner steps; None takes the configuration's.
            lender: See `outer_step`.

        Returns:
            Pictures (N, C, H, W) in [0, 1], what they were made for, and the last step's loss terms.
        """
        steps = steps or self.config.inner_steps
        wanted = self.targets_for(teacher)
        latents = torch.randn(len(wanted.labels), self.config.latent_dim, device=self.device, requires_grad=True)
        with torch.no_grad():
            torch._foreach_copy_(list(self._fast.parameters()), list(self.generator.parameters()))
        weights = list(self._fast.parameters())
        groups: list[dict[str, Any]] = [{"params": weights}, {"params": [latents], "lr": self.config.latent_lr}]
        optimizer = torch.optim.Adam(groups, lr=self.config.inner_lr, betas=BETAS, fused=True)
        canvas = self._canvas(teacher, wanted) if self.config.canvas else None
        pictures, terms = torch.empty(0), {}
        for step in range(steps):
            self.pause()
            optimizer.zero_grad(set_to_none=True)
            with self.precision.autocast(self.device):
                pictures = self._fast(latents, wanted.labels, canvas)
            terms = self.loss_terms(pictures, wanted, teacher, index, student, lender, canvas)
            loss = self.total_loss(terms)
            loss.backward(inputs=[*weights, latents])  # a student's weights want no gradients here
            is_counted = step == steps - 1 or not self.defects.last_step_gradient_only
            if gradients is not None and is_counted:
                torch._foreach_add_(gradients, [w.grad for w in weights if w.grad is not None])
            optimizer.step()
        if not self.defects.images_before_last_step:
            with torch.no_grad(), self.precision.autocast(self.device):
                pictures = self._fast(latents, wanted.labels, canvas)
        return pictures.detach(), wanted, {name: term.detach() for name, term in terms.items()}

    def loss_terms(
        self,
        pictures: Tensor,
        wanted: InversionTarget,
        teacher: Teacher,
        index: int = 0,
        student: Student | None = None,
        lender: Teacher | None = None,
        canvas: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The inversion loss's named terms for pictures (N, C, H, W) in [0, 1]; all fp32 scalars."""
        config, seen = self.config, pictures
        if config.augment:
            seen = shift_and_flip(pictures, flip=config.flip)
        terms: dict[str, Tensor] = {}
        layers = teacher.batchnorm_layers() if config.batchnorm else []
        with self.precision.autocast(self.device), collected_distances(layers) as distances:
            logits, features = self._ask(teacher, self.precision.layout(seen))
        logits = logits[:, list(wanted.classes)]
        terms["cross_entropy"] = cross_entropy(logits, wanted.labels)
        if distances:
            terms["batchnorm"] = torch.stack(distances).mean()
        if config.canvas_distance and canvas is not None:
            terms["canvas_distance"] = canvas_distance(pictures, canvas)
        if not teacher.record.has_batchnorm:
            terms |= self._substitutes(pictures, seen, features, lender)
        if config.diversity and features is not None:
            terms["diversity"] = similarity_hinge(features, wanted.labels, config.diversity_margin)
        count = teacher.record.num_classes
        if student is not None and config.adversarial and count <= config.max_classes:
            with self.precision.autocast(self.device):
                answer = student(seen, index)[:, :count]
            if answer.shape[1] == count:  # else the student answers for fewer classes than the teacher has
                answer = answer if len(wanted.classes) == count else answer[:, list(wanted.classes)]
                released = self.defects.divergence_of_probabilities
                answer = answer.detach() if released else answer  # as released: no gradient through the student
                terms["adversarial"] = disagreement(logits, answer, of_probabilities=released)
        return terms

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each loss term."""
        return {name: getattr(self.config, name) for name in INVERSION_TERMS}

    def total_loss(self, terms: dict[str, Tensor]) -> Tensor:
        """The weighted sum that the inner loop follows; statistics count as far as the pictures are recognised.

        In five steps both cannot be had from any teacher: a high weight for the statistics alone leaves a deep one
        unconvinced, a low one leaves the pictures of a shallow one glaring (docs/experiments.md).
        """
        if self.config.recognition_first and "batchnorm" in terms:
            recognised = terms["cross_entropy"].detach().neg().exp()  # geometric mean of the wanted probabilities
            terms = {**terms, "batchnorm": recognised * terms["batchnorm"]}
        return weighted_sum(terms, self.weights)

    def _ask(self, teacher: Teacher, pictures: Tensor) -> tuple[Tensor, Tensor | None]:
        """The teacher's logits, and its features where a term needs them."""
        wants_norm = self.config.feature_norm and not teacher.record.has_batchnorm
        if not (wants_norm or self.config.diversity):
            return teacher.logits(pictures), None
        output = teacher(pictures)
        return output.logits, output.features

    def _substitutes(
        self, pictures: Tensor, seen: Tensor, features: Tensor | None, lender: Teacher | None
    ) -> dict[str, Tensor]:
        """Terms that stand in for BatchNorm statistics where a teacher has none."""
        config, terms = self.config, {}
        if config.total_variation:
            terms["total_variation"] = total_variation(pictures)
        if config.feature_norm and features is not None:
            terms["feature_norm"] = feature_norm(features)
        if config.borrowed_batchnorm and lender is not None:
            with self.precision.autocast(self.device), collected_distances(lender.batchnorm_layers()) as distances:
                lender.logits(self.precision.layout(seen))
            terms["borrowed_batchnorm"] = torch.stack(distances).mean()
        return terms

    def state_dict(self) -> dict[str, object]:
        """Generator and outer optimiser."""
        return {"generator": self.generator.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, dict]) -> None:
        """Restore what `state_dict` gave."""
        self.generator.load_state_dict(state["generator"])
        self.optimizer.load_state_dict(state["optimizer"])

    def targets_for(self, teacher: Teacher) -> InversionTarget:
        """Labels of the pictures: all classes, or a random subset of a large head's."""
        count = teacher.record.num_classes
        chosen = list(range(count))
        size = self.task_size(teacher)
        if count > size.classes:
            chosen = sorted(torch.randperm(count)[: size.classes].tolist())
        labels = torch.arange(len(chosen), device=self.device).repeat(size.images_per_class)
        return InversionTarget(labels, tuple(chosen))

    def _canvas(self, teacher: Teacher, wanted: InversionTarget) -> Tensor:
        """Pictures to paint over, one for each label."""
        size, channels = self.generator.image_size, self.generator.to_picture.out_channels
        drawn = draw_canvases(teacher, len(wanted.labels), size=size, channels=channels, device=self.device)
        return give_to_classes(drawn, *wanted, teacher, self.precision) if self.config.match_canvas else drawn

    def _outer_optimizer(self) -> torch.optim.Optimizer:
        rate = self.config.outer_lr
        return keep_memory_order(torch.optim.Adam(self.generator.parameters(), lr=rate, betas=BETAS, fused=True))

    def _apply_outer(self, gradients: list[Tensor]) -> None:
        if self.defects.outer_optimizer_reborn:
            self.optimizer = self._outer_optimizer()
        for weight, gradient in zip(self.generator.parameters(), gradients, strict=True):
            weight.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def invert_teacher(
    teacher: Teacher,
    *,
    steps: int,
    images_per_class: int = 10,
    generator: Path | None = None,
    seed: int = 0,
    config: FiveConfig | None = None,
) -> RecoveredTask:
    """Recover one task from one teacher, from a fresh or a meta-trained generator.

    Args:
        teacher: Whom to invert.
        steps: Inner steps.
        images_per_class: Pictures a class.
        generator: Run folder whose trained meta-generator to start from; None starts afresh.
        seed: Seed of generator and latents.
        config: Rates and loss weights; None takes those of the run, or the defaults.

    Raises:
        RunError: a run folder without a meta-generator.
    """
    from hf_free.training.folder import RunFolder

    torch.manual_seed(seed)
    image_size, channels = max(teacher.record.input_size[1:]), teacher.record.input_size[0]
    weights = None
    if generator is not None:
        run = RunFolder(Path(generator))
        if not run.generator.is_file():
            problem = f"{generator} holds no meta-generator"
            raise RunError(problem, allowed="the output folder of hf-free train", action="train one")
        settings = run.read_config()
        config = config or settings.five
        image_size, channels = settings.learner.image_size, settings.learner.channels
        weights = load_file(run.generator)
    values = {**vars(config or FiveConfig()), "images_per_class": images_per_class}
    five = Five(
        FiveConfig(**{k: v for k, v in values.items() if not k.startswith("_")}),
        image_size=image_size,
        channels=channels,
        device=teacher.device,
        precision=Precision.choose("auto", teacher.device),
    )
    if weights is not None:
        five.generator.load_state_dict(weights)
    images, wanted, _ = five.adapt(teacher, steps=steps)
    return finish_task(images, wanted.labels, wanted.classes, teacher, 0)
