"""Accuracy of episodes from features."""

from __future__ import annotations

import torch
from torch import Tensor

from hf_free.data.episodes import EpisodeBatch
from hf_free.errors import DatasetError
from hf_free.learner.embedding import Embedding
from hf_free.learner.heads import get_head, normalize_features, scores_of_normalized
from hf_free.learner.transductive import get_transductive
from hf_free.runtime.side_by_side import in_order

_NEAR_CACHE, _GATHERED_FLOATS = 2**21, 2**25
"""Most features gathered at once when scoring, on a CPU and elsewhere (8 and 128 MiB); wide features get smaller
batches of episodes. On a CPU batches of 100 episodes, 1,189 features each, take 1.6 times as long
(docs/experiments/speed.md)."""


def score_episodes(
    features: Tensor,
    episodes: EpisodeBatch,
    head: str = "nearest_mean",
    batch: int = 100,
    *,
    transductive: str | None = None,
    embedding: Embedding | None = None,
) -> Tensor:
    """Accuracy of each episode from features extracted once.

    Args:
        features: (N, D); L2-normalized here.
        episodes: Positions among the N.
        head: Name of a head that works on features.
        batch: Episodes scored at once, at most.
        transductive: Name of a transductive head, which sees all queries of an episode; None sees each alone.
        embedding: The embedding that made the features, which weights them; None leaves them unweighted.

    Returns:
        (E,) shares of right answers, on the CPU.
    """
    fit, n_way, embedding = get_head(head), episodes.n_way, embedding or Embedding()
    features = normalize_features(features)
    support_labels = episodes.labels("support").to(features.device)
    query_labels = episodes.labels("query").to(features.device)
    gathered = (len(support_labels) + len(query_labels)) * features.shape[1]
    most = _NEAR_CACHE if features.device.type == "cpu" else _GATHERED_FLOATS
    batch = max(1, min(batch, most // gathered))

    def score(places: tuple[Tensor, Tensor]) -> Tensor:
        support, query = (features[part.flatten(1).to(features.device)] for part in places)  # (E, n_way * count, D)
        labels = support_labels.expand(len(support), -1)
        if transductive is not None:
            support, query = embedding.weigh(support, query)
            found = get_transductive(transductive)(support, labels, query, n_way, fit)
        else:
            found = scores_of_normalized(embedding.fit_head(fit, support, labels, n_way), query)
        return (found.argmax(-1) == query_labels).float().mean(1)

    parts = zip(episodes.support.split(batch), episodes.query.split(batch), strict=True)
    workers = None if features.device.type == "cpu" else 1
    return torch.cat(list(in_order(score, parts, workers))).cpu()


def mean_and_interval(accuracies: Tensor) -> tuple[float, float]:
    """Mean and half-width of its 95 % interval, 1.96 * standard deviation / sqrt(E), of (E,) accuracies.

    Raises:
        DatasetError: fewer than two episodes, which have no deviation.
    """
    count = len(accuracies)
    if count < 2:
        raise DatasetError(f"{count} episode(s)", allowed="at least 2, for an interval", action="--episodes 600")
    values = accuracies.double()
    return values.mean().item(), (1.96 * values.std() / count**0.5).item()
