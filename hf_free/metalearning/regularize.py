"""TGR's learning: steps on groups of unlike teachers with their gradients' dispersion as a penalty, then replay."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from hf_free.data.augment import shift_and_flip
from hf_free.inversion.task import RecoveredTask
from hf_free.memory.bank import TaskMemory
from hf_free.metalearning.base import BY_ITSELF, Moment
from hf_free.metalearning.dispersion import Loss, regularized_step
from hf_free.metalearning.episodic import EpisodicObjective, distillation_loss
from hf_free.metalearning.task_groups import BATCH, BATCHES, embed_teacher, train_probe, unlike_groups
from hf_free.runtime.random_streams import Stream

NO_GROUP = -1
"""Group number of a teacher without a group, which goes with any."""


class Regularizer(EpisodicObjective):
    """Task Groupings Regularization (ICML 2024).

    It is made as `hf_free.metalearning.episodic.EpisodicObjective` is. At first tasks are recovered from every teacher
    once and nothing is learned; then a probe embeds the teachers and they are grouped. From there on each step's
    teachers are of one group, drawn uniformly. The step and the replay after it share one Adam.
    """

    _groups: Tensor | None = None
    """(T,) the group of each teacher, once there are any."""
    _met: frozenset[int] = frozenset()
    """Teachers that tasks were recovered from."""
    _all_met: bool = False
    """Whether every teacher has been met."""

    def preferred(self, usable: Sequence[int], stream: Stream) -> Sequence[int]:
        """At first the teachers not met yet; later those of one group."""
        if self._groups is None:
            waiting = [index for index in usable if index not in self._met]
            self._all_met = not waiting
            return waiting or usable
        group_of = dict(enumerate(self._groups.tolist()))
        present = sorted({group_of.get(index, NO_GROUP) for index in usable} - {NO_GROUP})
        if not present:
            return usable
        chosen = present[int(torch.randint(len(present), (), generator=stream.on("cpu")))]
        return [index for index in usable if group_of.get(index, NO_GROUP) in (chosen, NO_GROUP)]

    def step(self, tasks: Sequence[RecoveredTask], memory: TaskMemory, moment: Moment) -> dict[str, float]:
        """Wait for all teachers, form groups, then learn; see `hf_free.metalearning.base.Objective`."""
        self._met |= {task.teacher for task in tasks}
        if self._groups is None:
            if not (self._all_met or len(self._met) == self.teachers):
                return {"teachers_met": float(len(self._met))}
            self._groups = self._form_groups(memory, moment)
        return super().step(tasks, memory, moment)

    def learn(self, tasks: Sequence[RecoveredTask], memory: TaskMemory, moment: Moment) -> dict[str, float]:
        """One update on the new tasks, in fp32: lambda times a difference of gradients is lost in bf16."""
        fitting = self.fitting(tasks)
        if not fitting:
            return {}
        losses = [self._loss(task, self.network, moment) for task in fitting]
        weights = dict(self.network.named_parameters())
        found = regularized_step(weights, losses, self.config.dispersion, second_order=self.config.second_order)
        for name, parameter in weights.items():
            parameter.grad = found.gradient[name]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {"task_loss": found.losses.mean().item(), "dispersion": found.dispersion.item()}

    def rehearse(self, task: RecoveredTask, network: nn.Module) -> None:
        """One task's part of a step."""
        losses, weights = [self._loss(task, network)], dict(network.named_parameters())
        regularized_step(weights, losses, self.config.dispersion, second_order=self.config.second_order)

    def tensors(self) -> dict[str, Tensor]:
        """The teachers met and the groups, besides what every way of learning by episodes keeps."""
        groups = {} if self._groups is None else {"groups": self._groups}
        return {**super().tensors(), "met": torch.tensor(sorted(self._met), dtype=torch.long), **groups}

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` gave."""
        rest = dict(tensors)
        self._met = frozenset(rest.pop("met").tolist()) if "met" in rest else frozenset()
        self._groups = rest.pop("groups", None)
        super().load_tensors(rest)

    def _loss(self, task: RecoveredTask, network: nn.Module, moment: Moment = BY_ITSELF) -> Loss:
        """Cross-entropy to the labels and divergence from the teacher, each of weight 1, on pictures shifted once."""
        device = self.learner.device
        images = shift_and_flip(
            task.images.to(device).float() / 255, flip=self.flip, stream=self.streams.stream("alignment")
        )
        labels, soft = task.labels.to(device), task.soft_labels.to(device)

        def loss(weights: dict[str, Tensor]) -> Tensor:
            moment.pause()
            logits = functional_call(network, weights, (images,))[:, : len(task.classes)]
            return F.cross_entropy(logits, labels) + distillation_loss(
                logits,
                soft,
                temperature=self.config.temperature,
                of_probabilities=self.defects.divergence_of_probabilities,
            )

        return loss

    def _form_groups(self, memory: TaskMemory, moment: Moment) -> Tensor:
        """The groups (T,) of the teachers whose pictures are in memory."""
        generator = self.streams.stream("probe").fresh()
        places, owners = memory.recovered()
        found = []
        for teacher in sorted(set(owners.tolist())):
            own = places[owners == teacher]
            order = torch.randperm(len(own), generator=generator)[: BATCH * BATCHES]
            found.append((teacher, own[order]))
        shown = torch.cat([own for _, own in found])
        images, labels = memory.images[shown].cpu(), memory.class_ids[shown].cpu()
        probe = train_probe(images, labels, device=self.learner.device, generator=generator, pause=moment.pause)
        ends = [len(own) for _, own in found]
        parts = zip(images.split(ends), labels.split(ends), strict=True)
        embeddings = [embed_teacher(probe, *part) for part in parts]
        seed = int(torch.randint(2**31, (), generator=generator))
        groups = torch.full((max(self.teachers, max(teacher for teacher, _ in found) + 1),), NO_GROUP)
        groups[[teacher for teacher, _ in found]] = torch.tensor(
            unlike_groups(embeddings, self.config.groups, seed=seed)
        )
        return groups
