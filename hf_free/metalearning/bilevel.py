"""Bi-level distillation (BiDf-MKD, ICML 2023): teachers' soft labels at both levels of MAML, then replay.

The learner is trained so that a few steps on a task's support pictures, toward its teacher's answers, also bring it
close to the teacher's answers about the query pictures. Then it replays cross-task episodes from the memory, as BELL
does.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from hf_free.inversion.base import Student
from hf_free.inversion.task import RecoveredTask
from hf_free.learner.batchnorm import answering, batch_statistics
from hf_free.metalearning.base import BY_ITSELF, Moment
from hf_free.metalearning.bell import Aligner
from hf_free.metalearning.episodic import distillation_loss


class BilevelDistiller(Aligner):
    """BiDf-MKD's learner; see `Aligner` for its arguments."""

    def adapted(self, support: RecoveredTask) -> Student:
        """The learner after the inner steps on a support set: who its teacher's boundary queries are sought against.

        Where the set came to nothing, or has more classes than the head, the learner as it is. Nothing is learned.
        """
        if support.health.problem or len(support.images) < 2 or not self.fitting([support]):
            return self.student
        device = self.learner.device
        self.network.train()
        with batch_statistics(self.learner), torch.enable_grad():
            found = adapt_to_answers(
                self.network,
                support.images.to(device).float() / 255,
                support.soft_labels.to(device),
                steps=self.config.distilled_steps,
                lr=self.config.replay_inner_lr,
                of_probabilities=self.defects.divergence_of_probabilities,
                differentiable=False,
            )
        weights = {name: weight.detach() for name, weight in found.items()}

        def student(images: Tensor, teacher: int) -> Tensor:
            with answering(self.network, self.learner):
                return functional_call(self.network, weights, (images,))

        return student

    def _align(self, tasks: Sequence[RecoveredTask], moment: Moment) -> dict[str, float]:
        """One update on the pairs of support and query that the tasks are."""
        pairs = pairs_of(tasks)
        if not pairs:
            return {}
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.learner.device)
        for support, query in pairs:
            loss = self._pair_loss(support, query, self.network, moment) / len(pairs)
            loss.backward()
            total += loss.detach()
        self.optimizer.step()
        return {"distillation": total.item()}

    def _task_loss(self, task: RecoveredTask, network: nn.Module, moment: Moment = BY_ITSELF) -> Tensor:
        """One update on a pair of tasks of that size, to measure what it takes."""
        return self._pair_loss(task, task, network, moment)

    def _pair_loss(self, support: RecoveredTask, query: RecoveredTask, network: nn.Module, moment: Moment) -> Tensor:
        moment.pause()
        device = self.learner.device
        return distilled_query_loss(
            network,
            support.images.to(device).float() / 255,
            support.soft_labels.to(device),
            query.images.to(device).float() / 255,
            query.soft_labels.to(device),
            steps=self.config.distilled_steps,
            lr=self.config.replay_inner_lr,
            of_probabilities=self.defects.divergence_of_probabilities,
        )


def pairs_of(tasks: Sequence[RecoveredTask]) -> list[tuple[RecoveredTask, RecoveredTask]]:
    """Support and query of each teacher: its first and second task, or the halves of its only one.

    A task of fewer than two pictures per half is left out: BatchNorm needs two.
    """
    by_teacher: dict[int, list[RecoveredTask]] = {}
    for task in tasks:
        by_teacher.setdefault(task.teacher, []).append(task)
    pairs = []
    for own in by_teacher.values():
        if len(own) > 1 and own[0].classes == own[1].classes:
            pairs.append((own[0], own[1]))
        else:
            pairs += [_halves(task) for task in own]
    return [pair for pair in pairs if min(len(part.images) for part in pair) > 1]


def _halves(task: RecoveredTask) -> tuple[RecoveredTask, RecoveredTask]:
    """The first half of each class's pictures, and the second."""
    order = torch.argsort(task.labels, stable=True)
    rank = torch.empty_like(order)
    starts = torch.bincount(task.labels, minlength=len(task.classes)).cumsum(0).roll(1)
    starts[0] = 0
    rank[order] = torch.arange(len(order)) - starts[task.labels[order]]
    counts = torch.bincount(task.labels, minlength=len(task.classes))[task.labels]
    is_first = rank < (counts + 1) // 2
    return _part(task, is_first), _part(task, ~is_first)


def _part(task: RecoveredTask, chosen: Tensor) -> RecoveredTask:
    return RecoveredTask(
        task.images[chosen],
        task.labels[chosen],
        task.soft_labels[chosen],
        task.classes,
        task.teacher,
        task.reference,
        task.health,
    )


@sdpa_kernel(SDPBackend.MATH)  # the fused attention of vision transformers has no second derivative
def adapt_to_answers(
    network: nn.Module,
    support: Tensor,
    answers: Tensor,
    *,
    steps: int,
    lr: float,
    of_probabilities: bool = False,
    differentiable: bool = True,
) -> dict[str, Tensor]:
    """Plain gradient steps toward a teacher's answers about the support: KL(teacher || learner), mean over pictures.

    Args:
        network: Pictures in [0, 1] -> logits (B, m); the first n columns are the task's classes.
        support: (S, C, H, W) in [0, 1].
        answers: (S, n) the teacher's probabilities.
        steps: Inner steps (BiDf-MKD: 10).
        lr: Their rate (BiDf-MKD: 0.01).
        of_probabilities: See `hf_free.metalearning.episodic.distillation_loss`.
        differentiable: Whether a gradient can be taken through the steps.

    Returns:
        The network's weights after them, by name.
    """
    weights: dict[str, Tensor] = dict(network.named_parameters())
    names = list(weights)
    for _ in range(steps):
        logits = functional_call(network, weights, (support,))[:, : answers.shape[1]]
        loss = distillation_loss(logits.float(), answers, of_probabilities=of_probabilities)
        own = list(weights.values())
        gradients = torch.autograd.grad(loss, own, create_graph=differentiable, allow_unused=True)
        weights = {
            name: weights[name] if gradient is None else weights[name] - lr * gradient
            for name, gradient in zip(names, gradients, strict=True)
        }
        if not differentiable:
            weights = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
    return weights


@sdpa_kernel(SDPBackend.MATH)
def distilled_query_loss(
    network: nn.Module,
    support: Tensor,
    support_answers: Tensor,
    query: Tensor,
    query_answers: Tensor,
    *,
    steps: int,
    lr: float,
    of_probabilities: bool = False,
) -> Tensor:
    """Adapt toward a teacher's answers about the support; the loss is on its answers about the query.

    Both losses are KL(teacher || learner), mean over pictures; differentiable twice.

    Args:
        network: As for `adapt_to_answers`, whose arguments the support, the steps and their rate are too.
        support: (S, C, H, W) in [0, 1].
        support_answers: (S, n) the teacher's probabilities.
        query: (Q, C, H, W) in [0, 1].
        query_answers: (Q, n).
        steps: Inner steps.
        lr: Their rate.
        of_probabilities: Of both losses, see `hf_free.metalearning.episodic.distillation_loss`.
    """
    weights = adapt_to_answers(
        network, support, support_answers, steps=steps, lr=lr, of_probabilities=of_probabilities
    )
    logits = functional_call(network, weights, (query,))[:, : query_answers.shape[1]]
    return distillation_loss(logits.float(), query_answers, of_probabilities=of_probabilities)
