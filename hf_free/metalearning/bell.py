"""BELL as published: aligned sequential steps on recovered tasks, then cross-task replay from the memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from hf_free.data.augment import shift_and_flip
from hf_free.inversion.task import RecoveredTask
from hf_free.memory.bank import TaskMemory
from hf_free.metalearning.base import BY_ITSELF, Moment
from hf_free.metalearning.episodic import EpisodicObjective, distillation_loss
from hf_free.metalearning.gradient_alignment import interpolate, pairwise_cosine, sequential_steps

RELEASED_GAIN = 67.0
"""Factor on theta - theta' in the released code, taken over from Fast-Datafree; no reason is given."""


class Aligner(EpisodicObjective):
    """The paper's BELL: sequential steps over the tasks of several teachers, then replay of cross-task episodes.

    It is made as `hf_free.metalearning.episodic.EpisodicObjective` is.
    """

    def learn(self, tasks: Sequence[RecoveredTask], memory: TaskMemory, moment: Moment) -> dict[str, float]:
        """One alignment over the tasks."""
        return self._align(self.fitting(tasks), moment)

    def rehearse(self, task: RecoveredTask, network: nn.Module) -> None:
        """One task's gradient."""
        self._task_loss(task, network).backward()

    def _task_loss(self, task: RecoveredTask, network: nn.Module, moment: Moment = BY_ITSELF) -> Tensor:
        moment.pause()
        device = self.learner.device
        images = shift_and_flip(
            task.images.to(device).float() / 255, flip=self.flip, stream=self.streams.stream("alignment")
        )
        with self.precision.autocast(device):
            logits = network(images)[:, : len(task.classes)].float()
        target = task.soft_labels.to(device)
        return distillation_loss(
            logits,
            target,
            temperature=self.config.temperature,
            of_probabilities=self.defects.divergence_of_probabilities,
        )

    def _align(self, tasks: Sequence[RecoveredTask], moment: Moment) -> dict[str, float]:
        if not tasks:
            return {}
        stream = self.streams.stream("alignment")
        order = torch.randperm(len(tasks), generator=stream.on("cpu")).tolist()  # for the identity of align.py
        losses = [partial(self._task_loss, tasks[i], moment=moment) for i in order]
        terms: dict[str, float] = {}
        if moment.is_logged and len(tasks) > 1:
            with stream.kept():
                terms["gradient_cosine"] = pairwise_cosine(self.network, losses).item()
        make: Callable[[list[nn.Parameter]], torch.optim.Optimizer] = partial(
            torch.optim.Adam, lr=self.config.inner_lr
        )
        moved, seen = sequential_steps(self.network, losses, make)
        if self.defects.reptile_gradient_through_adam:
            for parameter, other in zip(self.network.parameters(), moved.parameters(), strict=True):
                parameter.grad = RELEASED_GAIN * (parameter.detach() - other.detach())
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        else:
            interpolate(self.network, moved, self.config.interpolation)
        terms["distillation"] = torch.stack(seen).mean().item()
        return terms
