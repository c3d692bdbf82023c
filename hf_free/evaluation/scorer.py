"""Features -> rows of accuracy, all on the same episodes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from hf_free.data.episodes import EpisodeBatch
from hf_free.evaluation.features import FeatureSet
from hf_free.learner.scoring import mean_and_interval, score_episodes
from hf_free.provenance.results import EvaluationReport, ResultRow


@dataclass
class Scorer:
    """Turns features into rows over the same episodes, one batch of episodes per number of shots."""

    episodes: dict[int, EpisodeBatch]
    head: str
    report: EvaluationReport

    def add(self, found: FeatureSet, *, head: str | None = None, transductive: str | None = None) -> None:
        """Append a row per number of shots for a set of features, and, if asked for, one for the best of them.

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
        best = []
        for k_shot, batch in self.episodes.items():
            start = time.perf_counter()
            score = partial(score_episodes, transductive=transductive, embedding=found.embedding)
            scored = [score(features, batch, head) for features in found.features]
            accuracies = torch.stack(scored)  # (teachers, E)
            scoring, features = time.perf_counter() - start, found.seconds
            mean, note = accuracies.mean(0), found.note
            self.append(found.method, k_shot, mean, scoring, features, inductive=transductive is None, note=note)
            best.append((k_shot, accuracies[accuracies.mean(1).argmax()], scoring, features))
        if found.best_method:
            for k_shot, accuracies, scoring, features in best:
                self.append(found.best_method, k_shot, accuracies, scoring, features)

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
            )
        )
