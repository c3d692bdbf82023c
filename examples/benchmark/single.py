"""Train on 100 CIFAR-FS teachers without their data, then measure on classes that none of them knows.

    python examples/benchmark single                                  # recipe default, 30 minutes, seed 0
    python examples/benchmark single --method paper --seed 1
    python examples/benchmark single --teachers 5 --minutes 5 --baselines none

Run it in the repository's folder. The teachers are model repositories as timm writes them (config.json and
model.safetensors), one per folder; the data set is whatever `datasets` reads. Run again, it goes on where it was
stopped, and skips what is finished. Leaves the run (with the learner in learner/) and results.json in --output.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmark.parts import CONCATENATIONS
from benchmark.store import Episodes, made_with, measure, teacher_folders
from hf_free import FreeConfig, MetaLearner, train
from hf_free.errors import HfFreeError
from hf_free.training.folder import RunFolder


def main() -> None:
    """Train, evaluate, print the table."""
    options = read_options()
    try:
        folders = teacher_folders(options.zoo, options.teachers)
        if not options.data.is_dir():
            sys.exit(f"{options.data} is not there: give a data set's folder with --data")
        name = f"cifar_fs-{options.recipe}-{len(folders)}-teachers-{options.minutes:g}-minutes-seed-{options.seed}"
        run = RunFolder(options.output or Path("runs") / name)
        learner = train_or_load(run, folders, options)
        results = measure_or_load(run, learner, folders, options)
    except HfFreeError as error:
        sys.exit(f"Error: {error}")
    print(markdown(results))
    print(f"\nLearner: {run.learner}\nResults: {run.root / 'results.json'}")


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, default=Path("../shared/zoo/cifar_fs_conv4"), help="folder of teachers")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cifar_fs"), help="data set")
    parser.add_argument("--split", default="validation", help="classes to measure on")
    parser.add_argument("--teachers", type=int, help="take only the first N teachers")
    parser.add_argument(
        "--method", "--recipe", dest="recipe", choices=("default", "paper", "released"), default="default"
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="training time at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--baselines", choices=("none", "untrained", "all"), default="all")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="any other key of the configuration")
    parser.add_argument("--output", type=Path, help="folder of the run")
    return parser.parse_args()


def train_or_load(run: RunFolder, folders: list[str], options: argparse.Namespace) -> MetaLearner:
    """The learner of the run; trained now, or further, if it is not finished."""
    chosen = {
        "method": options.recipe,
        "models": folders,
        "seed": options.seed,
        "trainer": {"max_minutes": options.minutes, "device": options.device},
    }
    config = FreeConfig.load(values=chosen, assignments=options.set)
    if run.config.is_file() and run.read_config() != config:
        sys.exit(f"{run.root} holds a run with other settings: give another --output")
    if (run.learner / "config.json").is_file():
        print(f"{run.learner} is trained already")
        return MetaLearner.from_pretrained(run.learner)
    resume = run.last_step() is not None
    if run.config.is_file() and not resume:
        shutil.rmtree(run.root)  # stopped before its first checkpoint
    return train(config, output=run.root, resume=resume, console=Console(stderr=True))


def measure_or_load(
    run: RunFolder, learner: MetaLearner, folders: list[str], options: argparse.Namespace
) -> dict[str, Any]:
    """Accuracy on the unseen classes, beside baselines; read from results.json if it was measured alike before."""
    path = run.root / "results.json"
    asked = {"data": str(options.data), "split": options.split, "episodes": options.episodes}
    asked |= {"baselines": options.baselines}
    if path.is_file() and json.loads(path.read_text(encoding="utf-8"))["asked"] == asked:
        return json.loads(path.read_text(encoding="utf-8"))
    where = Episodes(str(options.data), options.split, options.episodes, options.device)
    teachers = folders if options.baselines == "all" else ()
    results = {
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "machine": made_with()["machine"],
        "asked": asked,
        "training": learner.record.training.to_dict(),
        "recovered": learner.record.recovered.to_dict(),
        "rows": measure(learner, where, baselines=options.baselines, teachers=teachers, concatenations=CONCATENATIONS),
    }
    run.write_json(path, results)
    return results


def markdown(results: dict[str, Any]) -> str:
    """The rows as a Markdown table: one line per method, one column per number of shots."""
    cells: dict[str, dict[int, str]] = {}
    for row in results["rows"]:
        found = "-" if row["accuracy"] is None else f"{row['accuracy']:.1f} ± {row['interval']:.1f}"
        cells.setdefault(row["method"], {})[row["k_shot"]] = found
    shots = sorted({row["k_shot"] for row in results["rows"]})
    training = results["training"]
    lines = [
        f"{results['command']}: {training['steps']} steps in {training['minutes']:g} minutes "
        f"on {training['device']}, {results['machine']}",
        "",
        f"| {results['asked']['split']} classes, 5-way | " + " | ".join(f"{shot}-shot" for shot in shots) + " |",
        "|---|" + "---|" * len(shots),
    ]
    lines += [f"| {name} | " + " | ".join(found[shot] for shot in shots) + " |" for name, found in cells.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
