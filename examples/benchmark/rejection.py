"""How well a kept classifier says None: false rejections and acceptances on classes that no teacher knows.

    python examples/benchmark rejection runs/first/learner --data FOLDER --split validation

Each episode has five known classes with some support pictures, and five unknown ones; 15 queries of each. The
threshold is calibrated from the support alone, as `FewShotClassifier.calibrate_rejection` does.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from hf_free import MetaLearner, load_labeled_images
from hf_free.data.episodes import sample_episodes
from hf_free.learner.heads import get_head, scores
from hf_free.learner.rejection import confidence, threshold_for
from hf_free.learner.scoring import mean_and_interval

KNOWN, UNKNOWN, QUERIES = 5, 5, 15


def main() -> None:
    """Print one table."""
    options = read_options()
    learner = MetaLearner.from_pretrained(options.learner)
    data = load_labeled_images(options.data, split=options.split)
    features = torch.cat([learner.embed(part) for part in data.at_size(learner.config.image_size).split(256)])
    head, embedding = get_head(learner.config.head), learner.embedding
    print(
        "| shots | asked for | false rejections | false acceptances | right, of those kept | right, of all | AUROC |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    for k_shot in options.shots:
        drawn = sample_episodes(
            data.labels,
            n_way=KNOWN + UNKNOWN,
            k_shot=k_shot,
            n_query=QUERIES,
            episodes=options.episodes,
            generator=torch.Generator().manual_seed(options.seed),
        )
        figures: dict[float, list[list[float]]] = {share: [] for share in options.shares}
        for shown, asked in zip(drawn.support[:, :KNOWN].flatten(1), drawn.query, strict=True):
            labels = torch.arange(KNOWN).repeat_interleave(k_shot)
            support = features[shown]
            classifier = embedding.fit_head(head, support[None], labels[None], KNOWN)
            logits = scores(classifier, features[asked.flatten()][None])[0]
            sure, known = confidence(logits), KNOWN * QUERIES
            right = logits[:known].argmax(1) == torch.arange(KNOWN).repeat_interleave(QUERIES)
            for share in options.shares:
                threshold = threshold_for(embedding, head, support, labels, share)
                kept = sure[:known] >= threshold
                figures[share].append(
                    [
                        1 - kept.float().mean().item(),
                        (sure[known:] >= threshold).float().mean().item(),
                        right[kept].float().mean().item() if kept.any() else 0.0,
                        right.float().mean().item(),
                        auroc(sure[:known], sure[known:]),
                    ]
                )
        for share, rows in figures.items():
            cells = []
            for column in torch.tensor(rows).T:
                mean, interval = mean_and_interval(column)
                cells.append(f"{100 * mean:.1f} ± {100 * interval:.1f}")
            print(f"| {k_shot} | {100 * share:.0f} % | {' | '.join(cells)} |")


def auroc(known: Tensor, unknown: Tensor) -> float:
    """Share of pairs in which the known picture is the surer one; half of them without any knowledge."""
    return (known[:, None] > unknown[None]).float().mean().item()


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("learner", help="a Hub id or a learner's folder")
    parser.add_argument("--data", required=True, help="a data set, as hf-free evaluate takes it")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--shots", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.3])
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
