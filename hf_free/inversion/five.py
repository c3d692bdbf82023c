"""FIVE: one meta-generator that adapts to any teacher in a few inner steps, and learns to do so better.

Inner loop, for each teacher: a copy of the meta-generator and fresh latents take k Adam steps on the inversion loss.
Outer step: the gradients met on the way, at the copies' weights, move the meta-generator (first-order MAML, Finn
et al. 2017). Fast-Datafree (Fang et al. 2022) accumulates them over all inner steps and keeps one outer Adam; the
released FREE code takes the last step's gradient only and makes a new Adam for every outer step.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor, nn

from hf_free.config.recipes import Defects
from hf_free.config.sections import FiveConfig
from hf_free.errors import RunError
from hf_free.inversion.base import (
    INVERSION,
    InversionTarget,
    Share,
    StepsAlone,
    Student,
    Terms,
    gathered,
    mean_terms,
    recover_if_it_fits,
    targets_for,
)
from hf_free.inversion.canvas import draw_canvases, give_to_classes
from hf_free.inversion.generator import MetaGenerator, start_afresh
from hf_free.inversion.gradients import WINDOW, comparable_scales, joint_norm
from hf_free.inversion.inversion_loss import InversionLoss
from hf_free.inversion.task import RecoveredTask, finish_task
from hf_free.runtime.chains import ONE_CHAIN, Chains
from hf_free.runtime.device import Precision
from hf_free.runtime.memory_order import keep_memory_order
from hf_free.runtime.random_streams import UNSEEDED, RandomStreams, Stream
from hf_free.runtime.side_by_side import MOST_PIXELS_BESIDE, in_order
from hf_free.teachers.teacher import Teacher

logger = logging.getLogger(__name__)

BETAS = (0.5, 0.999)
"""Adam's betas for generator and latents (FREE, Fast-Datafree)."""


@dataclass(frozen=True)
class TrainedGenerator:
    """A meta-generator that a run has trained, and what it was trained for."""

    weights: Mapping[str, Tensor]
    config: FiveConfig
    image_size: int
    channels: int


@dataclass(frozen=True)
class _Inversion:
    """What the outer step needs from a teacher's inner loop."""

    reference: str
    gradients: list[Tensor]
    terms: Terms

    def seen(self) -> tuple[str, float, Terms]:
        """What other processes need: the teacher, the norm of its gradient, its loss terms."""
        return self.reference, joint_norm(self.gradients), {name: term.cpu() for name, term in self.terms.items()}


class Five(StepsAlone):
    """The meta-generator with its inner and outer loop.

    Args:
        config: Steps, rates and loss weights.
        image_size: Height and width of recovered pictures.
        channels: 1 or 3.
        device: Where it computes.
        precision: Autocast type and memory format.
        defects: Defects of the released code to reproduce; None for none.
        streams: Where random numbers come from.
        chains: The parts of a step's work.
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
        streams: RandomStreams = UNSEEDED,
        chains: Chains = ONE_CHAIN,
    ) -> None:
        self.config, self.defects = config, defects or Defects()
        self.device, self.precision = torch.device(device), precision or Precision()
        self.image_size, self.channels, self.streams = image_size, channels, streams
        self.chains = chains
        self.loss = InversionLoss(config, device=self.device, precision=self.precision, defects=self.defects)
        self.generator = self._new_generator().to(self.device)
        self.generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._copies = [copy.deepcopy(self.generator)]
        """For inner loops, each of which has one of its own; there are as many as were needed at once."""
        self._is_compiled = False
        self.optimizer = self._outer_optimizer()
        self._noted: set[str] = set()
        self.most_images: int | None = None
        """Most pictures of one inversion, where memory is short; None leaves their number to the configuration."""
        self.at_once = 1
        """Teachers that a step inverts at once, a thread each, where it `inverts_beside`."""
        self.pause: Callable[[], None] = lambda: None
        """Called before each inner step; what it raises ends the outer step, and the meta-generator has not moved."""

    @property
    def inverts_beside(self) -> bool:
        """Whether a step can invert several teachers at once: on a CPU, small pictures, with random numbers that do
        not depend on who draws first."""
        is_small = self.image_size <= MOST_PIXELS_BESIDE
        is_seeded = self.streams is not UNSEEDED
        return self.device.type == "cpu" and is_small and is_seeded and not self._is_compiled

    def compile(self) -> None:
        """Have torch.compile compile the generator of the inner loop; its first steps take a minute then."""
        self._is_compiled = True
        self._copies[0].compile()

    def renew(self, index: int = 0) -> None:
        """Give the generator new random weights, for the teacher of that index alone."""
        fresh = self._new_generator(index)
        with self.streams.seeding("fresh generator", index):
            start_afresh(fresh)
        self.generator.load_state_dict(fresh.state_dict())

    def step_shares(
        self, shares: Sequence[Share], student: Student | None = None
    ) -> tuple[list[RecoveredTask], dict[str, float]]:
        """One outer step over all chains: recover a task from each teacher and move the meta-generator once.

        The teachers' gradients are added up (`hf_free.inversion.gradients`); see `hf_free.inversion.base.Inverter`.

        A CPU's cores take a teacher each. To share out each operation of small networks over them takes longer than
        many of the operations, and where other programs run, they wait for each other at every one
        (docs/experiments/speed.md).
        """
        tasks, found = [], []
        for _, share in zip(self.chains.each(), shares, strict=True):
            invert = partial(self._invert, student=student, donor=share.donor)
            workers = min(self._at_once(share), len(share.teachers)) or 1
            each = max(1, torch.get_num_threads() // workers)
            of_chain = list(in_order(invert, share.teachers, workers, threads_each=each))
            tasks.append([task for task, _ in of_chain])
            found.append([inversion for task, inversion in of_chain if task.health.problem is None])
        return gathered(tasks, self.chains), mean_terms(self._follow(found))

    def recover(
        self,
        teacher: Teacher,
        index: int = 0,
        student: Student | None = None,
        *,
        steps: int | None = None,
        donor: Teacher | None = None,
    ) -> RecoveredTask:
        """Recover one task; the meta-generator does not move. See `hf_free.inversion.base.Inverter`."""
        images, target, _ = self.adapt(teacher, index, student, steps=steps, donor=donor)
        return finish_task(images, target.labels, target.classes, teacher, index)

    def modules(self) -> dict[str, nn.Module]:
        """The meta-generator."""
        return {"generator": self.generator}

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimizer of the outer step."""
        return [self.optimizer]

    def _at_once(self, share: Share) -> int:
        """Teachers of a share that are inverted at once; of those that are one network, or ask one, each waits."""
        networks = {id(teacher.network) for _, teacher in share.teachers}
        can_be_beside = self.inverts_beside and share.donor is None and len(networks) == len(share.teachers)
        return self.at_once if can_be_beside else 1

    @contextmanager
    def _copy(self) -> Iterator[MetaGenerator]:
        """A copy of the meta-generator for one inner loop."""
        try:
            fast = self._copies.pop()
        except IndexError:
            fast = copy.deepcopy(self.generator)
        try:
            with torch.no_grad():
                torch._foreach_copy_(list(fast.parameters()), list(self.generator.parameters()))
            yield fast
        finally:
            self._copies.append(fast)

    def _invert(
        self, numbered: tuple[int, Teacher], student: Student | None, donor: Teacher | None
    ) -> tuple[RecoveredTask, _Inversion]:
        index, teacher = numbered
        gradients = [torch.zeros_like(p) for p in self.generator.parameters()]
        task, terms = self._recover(teacher, index, student, gradients, donor)
        return task, _Inversion(task.reference, gradients, terms)

    def _follow(self, found: Sequence[Sequence[_Inversion]]) -> list[Terms]:
        """Move the meta-generator by teachers' gradients, made comparable; the loss terms of those that took part."""
        of_chains = self.chains.gather([[one.seen() for one in of_chain] for of_chain in found])
        seen = [one for of_chain in of_chains for one in of_chain]
        norms = [norm for _, norm, _ in seen]
        past = [] if self.defects.outer_optimizer_reborn else self._past_norms()
        scales = comparable_scales(norms, past)
        for (reference, norm, _), scale in zip(seen, scales, strict=True):
            self._note_gradient(reference, norm, scale)
        taken = [terms for (_, _, terms), scale in zip(seen, scales, strict=True) if scale]
        past[:] = [*past, *filter(math.isfinite, norms)][-WINDOW:]
        if taken:
            ends = list(accumulate(map(len, of_chains), initial=0))
            own = [scales[ends[chain] : ends[chain + 1]] for chain in self.chains.own]
            self._apply_outer(self.chains.add_up([self._sum_of(*pair) for pair in zip(found, own, strict=True)]))
        return taken

    def _sum_of(self, found: Sequence[_Inversion], scales: Sequence[float]) -> list[Tensor]:
        """The sum of gradients, each times its scale; one of scale 0 may hold anything."""
        total = [torch.zeros_like(p) for p in self.generator.parameters()]
        for one, scale in zip(found, scales, strict=True):
            if scale:
                own = one.gradients
                torch._foreach_add_(total, own if scale == 1 else torch._foreach_mul(own, scale))
        return total

    def _past_norms(self) -> list[float]:
        """Norms of earlier steps, kept with the optimizer's own memory and so in checkpoints."""
        return self.optimizer.param_groups[0].setdefault("teacher_norms", [])

    def _note_gradient(self, reference: str, norm: float, scale: float) -> None:
        """Warn once that a teacher's gradient is no longer taken as it is."""
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
        self, teacher: Teacher, index: int, student: Student | None, gradients: list[Tensor], donor: Teacher | None
    ) -> tuple[RecoveredTask, Terms]:
        """One task and its last loss terms; the outer gradient goes into `gradients`."""
        return recover_if_it_fits(
            lambda tried: self.adapt(teacher, index, student, gradients, donor=tried),
            teacher,
            index,
            donor,
            again=lambda: torch._foreach_zero_(gradients),
        )

    def adapt(
        self,
        teacher: Teacher,
        index: int = 0,
        student: Student | None = None,
        gradients: list[Tensor] | None = None,
        *,
        steps: int | None = None,
        donor: Teacher | None = None,
    ) -> tuple[Tensor, InversionTarget, Terms]:
        """The inner loop for one teacher, in which nothing waits for the device; several threads may be in it.

        Args:
            teacher: The teacher to invert.
            index: Its place in the pool, which the student is asked with.
            student: See `step`.
            gradients: One tensor per generator parameter, to which the outer gradient is added.
            steps: Inner steps; None takes the configuration's.
            donor: See `step`.

        Returns:
            Pictures (N, C, H, W) in [0, 1], what they were made for, and the last step's loss terms.
        """
        with self._copy() as fast:
            return self._adapt(fast, teacher, index, student, gradients, steps or self.config.inner_steps, donor)

    def _adapt(
        self,
        fast: MetaGenerator,
        teacher: Teacher,
        index: int,
        student: Student | None,
        gradients: list[Tensor] | None,
        steps: int,
        donor: Teacher | None,
    ) -> tuple[Tensor, InversionTarget, Terms]:
        stream = self.streams.stream(INVERSION, index)
        wanted = targets_for(teacher, self.task_size(teacher), self.device, stream)
        drawn = torch.randn(
            len(wanted.labels), self.config.latent_dim, device=self.device, generator=stream.on(self.device)
        )
        latents = drawn.requires_grad_()
        weights = list(fast.parameters())
        groups: list[dict[str, object]] = [{"params": weights}, {"params": [latents], "lr": self.config.latent_lr}]
        optimizer = torch.optim.Adam(groups, lr=self.config.inner_lr, betas=BETAS, fused=True)
        canvas = self._canvas(teacher, wanted, stream) if self.config.canvas else None
        pictures, terms = torch.empty(0), {}
        for step in range(steps):
            self.pause()
            optimizer.zero_grad(set_to_none=True)
            with self.precision.autocast(self.device):
                pictures = fast(latents, wanted.labels, canvas)
            terms = self.loss.terms(pictures, wanted, teacher, index, student, donor, canvas, stream)
            loss = self.loss.total(terms)
            with teacher.failing_by_name():
                loss.backward(inputs=[*weights, latents])  # a student's weights want no gradients here
            is_counted = step == steps - 1 or not self.defects.last_step_gradient_only
            if gradients is not None and is_counted:
                torch._foreach_add_(gradients, [w.grad for w in weights if w.grad is not None])
            optimizer.step()
        if not self.defects.images_before_last_step:
            with torch.no_grad(), self.precision.autocast(self.device):
                pictures = fast(latents, wanted.labels, canvas)
        return pictures.detach(), wanted, {name: term.detach() for name, term in terms.items()}

    def state_dict(self) -> dict[str, object]:
        """Generator and outer optimizer."""
        return {"generator": self.generator.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, dict]) -> None:
        """Restore what `state_dict` gave."""
        self.generator.load_state_dict(state["generator"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _canvas(self, teacher: Teacher, wanted: InversionTarget, stream: Stream) -> Tensor:
        """Pictures to paint over, one for each label."""
        size, channels = self.generator.image_size, self.generator.to_picture.out_channels
        count = len(wanted.labels)
        drawn = draw_canvases(teacher, count, size=size, channels=channels, device=self.device, stream=stream)
        return give_to_classes(drawn, *wanted, teacher, self.precision) if self.config.match_canvas else drawn

    def _new_generator(self, index: int = 0) -> MetaGenerator:
        config = self.config
        slots = config.max_classes if config.conditional else 0
        with self.streams.seeding("generator", index):
            return MetaGenerator(self.image_size, self.channels, config.latent_dim, config.width, slots)

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
    generator: TrainedGenerator | None = None,
    seed: int = 0,
    config: FiveConfig | None = None,
    pause: Callable[[], None] = lambda: None,
) -> RecoveredTask:
    """Recover one task from one teacher, from a fresh or a meta-trained generator.

    Args:
        teacher: The teacher to invert.
        steps: Inner steps.
        images_per_class: Pictures per class.
        generator: A trained meta-generator to start from, see `hf_free.training.folder.RunFolder.read_generator`;
            None starts afresh.
        seed: Seed of generator and latents.
        config: Rates and loss weights; None takes those of the generator's run, or the defaults.
        pause: Called before each step.

    Raises:
        RunError: a generator that is not of the run whose configuration it comes with.
    """
    image_size, channels = max(teacher.record.input_size[1:]), teacher.record.input_size[0]
    if generator is not None:
        config = config or generator.config
        image_size, channels = generator.image_size, generator.channels
    five = Five(
        replace(config or FiveConfig(), images_per_class=images_per_class),
        image_size=image_size,
        channels=channels,
        device=teacher.device,
        precision=Precision.choose("auto", teacher.device),
        streams=RandomStreams(seed),
    )
    if generator is not None:
        try:
            five.generator.load_state_dict(dict(generator.weights))
        except RuntimeError:
            raise RunError(
                "the meta-generator does not fit its run's configuration: its weights are of other sizes",
                allowed="generator.safetensors and config.yaml of one run",
                action="restore both from a copy, or leave out --generator",
            ) from None
    five.pause = pause
    return five.recover(teacher, steps=steps)
