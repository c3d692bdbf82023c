"""What teachers cost that only answer: the same teachers, all with weights and some behind an address.

    python examples/benchmark black-boxes ZOO --teachers 20 --black 2 --minutes 3 --dataset DATA --variant black

Three variants, a line of JSON each with the accuracy of every episode: `white` has the weights of all teachers,
`black` asks the first ones through `hf-free serve` on this machine, a process each, and `fewer` does without them.
`--compare A.json B.json` prints the paired difference of two, with its interval.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from hf_free import FreeConfig, MetaLearner, train
from hf_free.data.episodes import sample_episodes
from hf_free.errors import RunError
from hf_free.evaluation.datasets import load_labeled_images
from hf_free.learner.scoring import mean_and_interval, score_episodes
from hf_free.runtime.launched import end_with_launcher


@contextmanager
def served(folders: list[str], first_port: int = 0) -> Iterator[list[str]]:
    """Addresses of teachers behind `hf-free serve`, a process each.

    Args:
        folders: The teachers.
        first_port: The first one's port, those of the others follow; 0 takes any that are free.

    Raises:
        RunError: one does not start.
    """
    running = []
    for place, folder in enumerate(folders):
        port = str(first_port and first_port + place)
        words = [sys.executable, "-m", "hf_free.cli.main", "serve", "--port", port, folder]
        # where this program is killed they end with it
        running.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True, preexec_fn=end_with_launcher))
    try:
        said = [process.stdout.readline().split() for process in running if process.stdout]
        for folder, words in zip(folders, said, strict=True):
            if not words:
                raise RunError(f"{Path(folder).name} cannot be served", action="see its message above")
        yield [f"endpoint:{words[-1]}" for words in said]
    finally:
        for process in running:
            process.terminate()
            process.wait()


def accuracies(learner: MetaLearner, dataset: str, split: str, episodes: int) -> dict[str, list[float]]:
    """Accuracy of each episode, by number of shots; the episodes depend on their number alone."""
    data = load_labeled_images(dataset, split=split)
    features, found = learner.embed(data.images), {}
    for k_shot in (1, 5):
        drawn = sample_episodes(
            data.labels,
            n_way=5,
            k_shot=k_shot,
            n_query=15,
            episodes=episodes,
            generator=torch.Generator().manual_seed(1),
        )
        scored = score_episodes(features, drawn, learner.config.head, embedding=learner.embedding)
        found[str(k_shot)] = scored.tolist()
    return found


def compare(first: Path, second: Path) -> None:
    """The paired difference of two variants."""
    one, other = (json.loads(path.read_text(encoding="utf-8")) for path in (first, second))
    for k_shot in one["accuracies"]:
        pair = [torch.tensor(values["accuracies"][k_shot]) for values in (one, other)]
        mean, interval = mean_and_interval(pair[0] - pair[1])
        means = " ".join(f"{100 * values.mean():.2f}" for values in pair)
        print(f"{k_shot}-shot: {means}, difference {100 * mean:+.2f} ± {100 * interval:.2f}")


def main() -> None:
    """Train one variant, or compare two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo", type=Path, nargs="?", help="folder with teachers' folders")
    parser.add_argument("--compare", type=Path, nargs=2, metavar="JSON")
    parser.add_argument("--variant", choices=("white", "black", "fewer"), default="black")
    parser.add_argument("--teachers", type=int, default=20)
    parser.add_argument("--black", type=int, default=2)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--dataset", help="folder or id of labeled pictures")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--episodes", type=int, default=2000)
    parser.add_argument("--output", type=Path, default=Path("black_boxes.json"))
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="any other setting")
    options = parser.parse_args()
    if options.compare:
        compare(*options.compare)
        return
    folders = [str(path.parent) for path in sorted(options.zoo.glob("*/config.json"))[: options.teachers]]
    hidden, known = folders[: options.black], folders[options.black :]
    with tempfile.TemporaryDirectory() as scratch, served(hidden if options.variant == "black" else []) as addresses:
        models = {"white": [*hidden, *known], "black": [*addresses, *known], "fewer": known}[options.variant]
        values = {
            "models": models,
            "trainer": {"max_minutes": options.minutes},
            "queries": {"pictures_per_request": 64},
        }
        learner = train(
            FreeConfig.load(values=values, assignments=options.set), output=Path(scratch) / "run", progress=False
        )
    found = {
        "variant": options.variant,
        "training": learner.record.training.to_dict(),
        "accuracies": accuracies(learner, options.dataset, options.split, options.episodes),
    }
    options.output.write_text(json.dumps(found), encoding="utf-8")
    means = {k_shot: round(100 * sum(values) / len(values), 2) for k_shot, values in found["accuracies"].items()}
    print(json.dumps({**found, "accuracies": means}))


if __name__ == "__main__":
    main()
