"""Heads that see all queries at once, beside the one that does not, on the same episodes with paired intervals.

    python examples/benchmark transductive runs/first/learner --data FOLDER --split validation

Prints accuracy in percent, the difference to the learner's own head with its 95 % interval over the episodes, and
milliseconds an episode. `--unequal` draws queries of unequal numbers per class (30, 20, 15, 7, 3), which is what a
head that assumes equal numbers is wrong about.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor

from hf_free import MetaLearner, load_labeled_images
from hf_free.data.episodes import EpisodeBatch, sample_episodes
from hf_free.learner.heads import get_head, normalize_features, scores
from hf_free.learner.scoring import mean_and_interval
from hf_free.learner.transductive import IN_WORDS, TRANSDUCTIVE, get_transductive

UNEQUAL = (30, 20, 15, 7, 3)
AT_ONCE = 50


def main() -> None:
    """Print one table."""
    options = read_options()
    learner = MetaLearner.from_pretrained(options.learner)
    data = load_labeled_images(options.data, split=options.split)
    features = torch.cat([learner.embed(part) for part in data.at_size(learner.config.image_size).split(256)])
    print(f"| head | {' | '.join(f'{k}-shot | difference | ms' for k in options.shots)} |")
    print(f"|---|{'---:|---:|---:|' * len(options.shots)}")
    columns = dict.fromkeys((learner.config.head, *TRANSDUCTIVE), "")
    for k_shot in options.shots:
        generator = torch.Generator().manual_seed(options.seed)
        n_query = max(UNEQUAL) if options.unequal else 15
        drawn = sample_episodes(
            data.labels, n_way=5, k_shot=k_shot, n_query=n_query, episodes=options.episodes, generator=generator
        )
        own = None
        for name in columns:
            start = time.perf_counter()
            right = accuracies(learner, features, drawn, name, UNEQUAL if options.unequal else (15,) * 5)
            each = 1000 * (time.perf_counter() - start) / len(drawn)
            own = right if own is None else own
            mean, interval = mean_and_interval(right)
            gain, of_gain = mean_and_interval(right - own)
            difference = "-" if right is own else f"{100 * gain:+.1f} ± {100 * of_gain:.1f}"
            columns[name] += f" {100 * mean:.1f} ± {100 * interval:.1f} | {difference} | {each:.1f} |"
    for name, cells in columns.items():
        print(f"| {IN_WORDS.get(name, f'{name} (inductive)')} |{cells}")


def accuracies(
    learner: MetaLearner, features: Tensor, drawn: EpisodeBatch, name: str, counts: tuple[int, ...]
) -> Tensor:
    """Accuracy (E,) of a head, inductive or not, with so many of each class's queries."""
    features, fit, embedding = normalize_features(features), get_head(learner.config.head), learner.embedding
    labels = drawn.labels("support")
    truth = torch.tensor([index for index, count in enumerate(counts) for _ in range(count)])
    found = []
    for support_at, query_at in zip(drawn.support.split(AT_ONCE), drawn.query.split(AT_ONCE), strict=True):
        support = features[support_at.flatten(1)]
        kept = torch.cat([query_at[:, index, :count] for index, count in enumerate(counts)], 1)
        query, names = features[kept], labels.expand(len(support), -1)
        if name in TRANSDUCTIVE:
            shown, asked = embedding.weigh(support, query)
            answers = get_transductive(name)(shown, names, asked, drawn.n_way, fit)
        else:
            answers = scores(embedding.fit_head(fit, support, names, drawn.n_way), query)
        found.append((answers.argmax(-1) == truth).float().mean(1))
    return torch.cat(found)


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("learner", help="a Hub id or a learner's folder")
    parser.add_argument("--data", required=True, help="a data set, as hf-free evaluate takes it")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--unequal", action="store_true", help="queries of unequal numbers per class")
    return parser.parse_args()


if __name__ == "__main__":
    main()
