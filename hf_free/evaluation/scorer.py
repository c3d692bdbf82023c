"""Features -> rows of accuracy, all on the same episodes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from hf_free.data.episodes import EpisodeBatch
from hf_free.evaluation.features import FeatureSet
from hf_free.learner.scoring import mean_and_interval, score_episodes
from hf_free.provenance.results import EvaluationReport, ResultRow


@dataclass
class Scorer:
    """Turns features into rows over the same episodes, one batch of episodes per number of shots.

    The learner's own row comes first; each later one says how far the learner is ahead of it.
    """

    episodes: dict[int, EpisodeBatch]
    head: str
    report: EvaluationReport
    own: dict[int, Tensor] = field(default_factory=dict)
    """Accuracies (E,) of the learner's own row, by the number of shots."""

    def add(self, found: FeatureSet, *, head: str | None = None, transductive: str | None = None) -> None:
        """Append a row per number of shots for a set of features, and, if asked for, those for the best of them.

        Args:
            found: What to score.
            head: The head; None takes the scorer's own.
            transductive: Name of a transductive head; None sees each query alone.
        """
        if not found.features:
            for k_shot in self.episodes:
                self.append(found.method, k_shot, None, 0.0, note=found.note)
            return
        head = head or self.head
        best: dict[str, list[tuple[int, Tensor, float]]] = {found.best_method: [], found.chosen_method: []}
        for k_shot, batch in self.episodes.items():
            start = time.perf_counter()
            score = partial(score_episodes, transductive=transductive, embedding=found.embedding)
            scored = [score(features, batch, head) for features in found.features]
            accuracies = torch.stack(scored)  # (teachers, E)
            scoring, inductive = time.perf_counter() - start, transductive is None
            self.append(
                found.method, k_shot, accuracies.mean(0), scoring, found.seconds, inductive=inductive, note=found.note
            )
            best[found.best_method].append((k_shot, accuracies[accuracies.mean(1).argmax()], scoring))
            best[found.chosen_method].append((k_shot, best_on_other_half(accuracies), scoring))
        for method in filter(None, best):
            for k_shot, accuracies, scoring in best[method]:
                self.append(method, k_shot, accuracies, scoring, found.seconds)

    def append(
        self,
        method: str,
        k_shot: int,
        accuracies: Tensor | None,
        scoring: float,
        features: float = 0.0,
        *,
        inductive: bool = True,
        note: str = "",
    ) -> None:
        """Append one row; accuracies (E,) as shares, None where there are none; seconds of scoring and of features."""
        batch = self.episodes[k_shot]
        mean, interval = (None, None) if accuracies is None else mean_and_interval(accuracies)
        ahead, ahead_interval = None, None
        if accuracies is not None and k_shot in self.own:
            ahead, ahead_interval = mean_and_interval(self.own[k_shot] - accuracies.cpu())
        elif accuracies is not None and inductive and method == self._first_method(method):
            self.own[k_shot] = accuracies.cpu()
        self.report.rows.append(
            ResultRow(
                method=method,
                n_way=batch.n_way,
                k_shot=k_shot,
                n_query=batch.query.shape[2],
                episodes=len(batch),
                accuracy=None if mean is None else 100 * mean,
                interval=None if interval is None else 100 * interval,
                inductive=inductive,
                seconds=round(scoring + features, 3),
                scoring_seconds=round(scoring, 3),
                note=note,
                ahead=None if ahead is None else 100 * ahead,
                ahead_interval=None if ahead_interval is None else 100 * ahead_interval,
            )
        )

    def _first_method(self, method: str) -> str:
        """Whose rows come first: the learner's own; a report without rows gets them now."""
        return self.report.rows[0].method if self.report.rows else method


def best_on_other_half(accuracies: Tensor) -> Tensor:
    """Accuracies (E,) of the best of several, chosen fairly: each episode counts for one that others chose.

    Args:
        accuracies: (M, E) of M candidates on the same E episodes, at least 2.
    """
    half = torch.arange(accuracies.shape[1], device=accuracies.device) % 2
    chosen = [accuracies[:, half != side].mean(1).argmax() for side in (0, 1)]
    return torch.where(half == 0, accuracies[chosen[0]], accuracies[chosen[1]])
