"""PURER's learning: second-order MAML on episodes of recovered pictures, and episodes that are made harder for it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hf_free.inversion.learned_pixels import LivePictures
from hf_free.inversion.task import RecoveredTask
from hf_free.learner.batchnorm import batch_statistics
from hf_free.memory.bank import TaskMemory
from hf_free.metalearning.base import Moment
from hf_free.metalearning.episodic import EpisodicObjective
from hf_free.metalearning.replay import maml_query_loss
from hf_free.runtime.random_streams import Stream


class Episodes(EpisodicObjective):
    """A few updates a step on cross-task episodes of the memory; nothing is distilled.

    It is made as `hf_free.metalearning.episodic.EpisodicObjective` is. PURER (Hu et al. 2023) calls what `challenge`
    does episode curriculum inversion, and when it does it the gradient switch: once after `bell.challenge_after`
    updates, then whenever the accuracy on episodes has not risen for `bell.replay_patience` of them. Accuracies
    count from the update after the first switch on, and each later switch forgets the best of them, for episodes are
    harder from there on (main.py of its code).
    """

    needs_new_tasks = False
    _updates, _waited, _best, _is_on = 0, 0, -math.inf, False

    @property
    def most_updates(self) -> float:  # type: ignore[override]
        """As many as are asked for."""
        return self.config.updates_per_step

    def step(self, tasks: Sequence[RecoveredTask], memory: TaskMemory, moment: Moment) -> dict[str, float]:
        """The updates, and whether the pictures are to be made harder before the next."""
        terms = super().step(tasks, memory, moment)
        if "replay_updates" in terms and self.config.challenge:
            self._note(terms["replay_accuracy"], int(terms["replay_updates"]))
            terms["made_harder"] = float(self._is_on)
        return terms

    def challenge(self, live: Sequence[LivePictures], stream: Stream) -> Tensor | None:
        """What live pictures should descend to become harder: minus the outer loss of an episode of them, weighed.

        Args:
            live: Pictures of each teacher that is inverted, through which gradients flow.
            stream: By which numbers the episode is drawn.

        Returns:
            A scalar; None while the switch is off, or where there are too few classes or pictures for an episode.
        """
        episode = self._live_episode(live, stream) if self._is_on else None
        self._is_on = False
        if episode is None:
            return None
        with batch_statistics(self.learner):
            config = self.config
            loss, _, _ = maml_query_loss(
                self.network, *episode, steps=config.replay_inner_steps, lr=config.replay_inner_lr
            )
        return -config.challenge * loss

    def tensors(self) -> dict[str, Tensor]:
        """Where the curriculum is, beside what every way of learning by episodes keeps."""
        state = torch.tensor([self._updates, self._waited, self._best, self._is_on], dtype=torch.float64)
        return {**super().tensors(), "curriculum": state}

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` gave."""
        rest = dict(tensors)
        if "curriculum" in rest:
            updates, waited, self._best, is_on = rest.pop("curriculum").tolist()
            self._updates, self._waited, self._is_on = int(updates), int(waited), bool(is_on)
        super().load_tensors(rest)

    def _note(self, accuracy: float, updates: int) -> None:
        before, self._updates = self._updates, self._updates + updates
        first = self.config.challenge_after
        if before < first:
            self._is_on = self._updates >= first
            return
        self._best, self._waited = (accuracy, 0) if accuracy > self._best else (self._best, self._waited + updates)
        if self._waited >= self.config.replay_patience:
            self._is_on, self._best, self._waited = True, -math.inf, 0

    def _live_episode(
        self, live: Sequence[LivePictures], stream: Stream
    ) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
        """Support pictures and labels, query pictures and labels; of two classes of one name, one is drawn."""
        config, each = self.config, self.config.k_shot + self.config.n_query
        rows: dict[object, Tensor] = {}
        for one in live:
            for label, index in enumerate(one.classes):
                pictures = one.images[one.labels == label]
                if len(pictures) >= each:
                    rows.setdefault(self.class_names.get((one.teacher, index), (one.teacher, index)), pictures)
        if len(rows) < config.n_way:
            return None
        keys = list(rows)
        chosen = torch.randperm(len(keys), generator=stream.on("cpu"))[: config.n_way].tolist()
        support, query = [], []
        for place in chosen:
            pictures = rows[keys[place]]
            order = torch.randperm(len(pictures), generator=stream.on("cpu"))[:each].to(pictures.device)
            support.append(pictures[order[: config.k_shot]])
            query.append(pictures[order[config.k_shot :]])
        labels = torch.arange(config.n_way, device=self.learner.device)
        return (
            torch.cat(support),
            labels.repeat_interleave(config.k_shot),
            torch.cat(query),
            labels.repeat_interleave(config.n_query),
        )
