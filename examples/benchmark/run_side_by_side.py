"""Methods side by side on the same teachers, episodes and seeds, for the same minutes: what a YAML file lists.

    python examples/benchmark run examples/benchmark/smoke.yaml --output runs/smoke
    python examples/benchmark report runs/smoke --page smoke.html

The file names methods, inversions, scenarios, shots, seeds and minutes (benchmark/side_by_side.py says which keys
there are). Each cell is a JSON file in results/ of the output, whole or not there; a cell that is finished is not
computed again, one that was stopped goes on from its run's last checkpoint, one that failed is tried again. Two
commands may work in the same --output at once. After a change of the code or of the teachers, give another one.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmark.black_boxes import served
from benchmark.side_by_side import Cell, Plan, Teachers, cells_of, config_of, read_plan, settings_of
from benchmark.store import Episodes, Store, curve, locked, measure, teacher_folders
from benchmark.zoos import made_zoo
from hf_free import FreeConfig, MetaLearner, distill, pool
from hf_free import plan as dry_run
from hf_free.errors import ConfigError, HfFreeError, RunError
from hf_free.runtime.files import write_text

COPY = "matrix.yaml"
"""The file in the output that says what is compared; `report` reads it."""


class SideBySide:
    """Computes the cells of a plan.

    Args:
        plan: What the YAML file says.
        options: The command line.
    """

    def __init__(self, plan: Plan, options: argparse.Namespace) -> None:
        self.plan, self.options, self.store = plan, options, Store(options.output)
        self._teachers: dict[str, list[str]] = {}

    def compute(self, cell: Cell) -> dict[str, Any] | None:
        """A cell's result, read or made; None where it failed, which is said and kept."""
        settings, costs = settings_of(self.plan, cell), dict[str, Any]()
        try:
            return self.store.result(cell.name, settings, partial(self._make, cell, costs))
        except HfFreeError as error:
            print(f"{cell.name}: {error}", file=sys.stderr, flush=True)
            self.store.fail(cell.name, settings, {"cell": asdict(cell), "why": str(error), "cost": costs})
            return None

    def _make(self, cell: Cell, costs: dict[str, Any]) -> dict[str, Any]:
        row, scenario, device = self.plan.methods[cell.row], self.plan.scenarios[cell.scenario], self.options.device
        teachers = self.teachers(cell.scenario)
        with _behind_addresses(teachers, row.served, row.port) as models:
            config = config_of(self.plan, cell, tuple(models), device)
            if row.kind == "train":
                costs |= _cost(config)
            if row.kind == "distill":
                self._pooled(cell, config)  # whose time is the pooled row's
            started = time.monotonic()
            learner = self._learner(cell, config)
        made, measured, curves = time.monotonic(), dict[str, Any](), dict[str, Any]()
        for data in scenario.data:
            where = self._episodes(data, self.plan.episodes)
            rows = measure(
                learner,
                where,
                baselines="all" if row.kind == "baselines" else "none",
                teachers=teachers if row.kind == "baselines" else (),
                transductive=row.transductive,
                k_shots=cell.shots,
            )
            measured[data] = [
                one for one in rows if row.kind != "baselines" or not one["method"].startswith("learner")
            ]
        seconds = {"learner": made - started, "measuring": time.monotonic() - made}
        if row.kind == "train" and self.plan.curve_episodes:
            for data in scenario.data:
                where = self._episodes(data, self.plan.curve_episodes)
                curves[data] = curve(self.store, cell.name, config, where)["points"]
        record = learner.record or {}
        return {
            "cell": asdict(cell),
            "kind": row.kind,
            "method": config.method,
            "inversion": config.inversion,
            "teachers": len(teachers),
            "served": row.served,
            "measured": measured,
            "curve": curves,
            "seconds": seconds,
            "cost": costs,
            "run": self.store.run(cell.name, config).root.name if row.kind == "train" else "",
            **{part: record[part] for part in ("training", "recovered", "versions") if record.get(part)},
        }

    def _learner(self, cell: Cell, config: FreeConfig) -> MetaLearner:
        kind = self.plan.methods[cell.row].kind
        if kind == "train":
            return self.store.trained(cell.name, config)
        if kind == "baselines":
            return MetaLearner(config.learner)
        pooled = self._pooled(cell, config)
        if kind == "pool":
            return pooled
        return distill(
            pooled,
            self.store.place("distilled", cell.name, settings_of(self.plan, cell)),
            minutes=self.plan.minutes,
            learner=config.learner,
            bell=config.bell,
            overwrite=True,  # what a stopped command left
            seed=cell.seed,
            device=self.options.device,
        )

    def _pooled(self, cell: Cell, config: FreeConfig) -> MetaLearner:
        """The pooled learner of a scenario and seed, made once for all rows that need it."""
        parts = {"models": config.models, "five": asdict(config.five), "seed": cell.seed}
        parts |= {"views": list(config.learner.views), "head": config.learner.head}
        folder = self.store.place("pooled", f"{cell.scenario} seed {cell.seed}", parts)
        with locked(folder):
            if not (folder / "config.json").is_file():
                pool(
                    config.models,
                    output=folder,
                    overwrite=True,
                    learner=config.learner,
                    five=config.five,
                    seed=cell.seed,
                    device=self.options.device,
                )
            return MetaLearner.from_pretrained(folder)

    def _episodes(self, data: str, episodes: int) -> Episodes:
        return Episodes(str(self.options.data_root / data), self.plan.split, episodes, self.options.device)

    def teachers(self, scenario: str) -> list[str]:
        """The teachers of a scenario; those that are missing are made."""
        if scenario not in self._teachers:
            parts = self.plan.scenarios[scenario].teachers
            self._teachers[scenario] = [folder for part in parts for folder in self._part(part)]
        return self._teachers[scenario]

    def _part(self, part: Teachers) -> list[str]:
        if part.zoo:
            return spread(teacher_folders(self.options.zoos / part.zoo), part.count, part.zoo)
        names = "-".join([*part.made_from, *part.architectures])
        folder = self.store.root / "zoo" / f"{names}-{part.image_size}-{part.epochs}-epochs"
        words = ["--epochs", str(part.epochs), "--image-size", str(part.image_size), "--device", self.options.device]
        words += ["--architectures", *part.architectures]
        return made_zoo(folder, [self.options.data_root / data for data in part.made_from], part.count, *words)


def spread(folders: list[str], count: int, zoo: str) -> list[str]:
    """So many of a zoo's teachers at equal distances, for those of one architecture stand side by side.

    Raises:
        RunError: there are fewer.
    """
    if len(folders) < count:
        raise RunError(
            f"{zoo} holds {len(folders)} teachers, {count} are wanted",
            allowed=f"count at most {len(folders)}",
            action="lower count in the YAML file, or give the folder of a larger zoo with --zoos",
        )
    return [folders[place * len(folders) // count] for place in range(count)]


def _cost(config: FreeConfig) -> dict[str, Any]:
    """Operations of a step of a run, counted without training."""
    found = dry_run(config, measure=False)
    return {**vars(found.cost), "recover_share": config.five.recover_share}


@contextmanager
def _behind_addresses(teachers: list[str], count: int, port: int) -> Iterator[list[str]]:
    """The teachers, the first ones by the addresses at which they answer."""
    with served(teachers[:count], port) as addresses:
        yield [*addresses, *teachers[count:]]


def main() -> None:
    """Compute what is missing."""
    options = read_options()
    try:
        plan = read_plan(options.matrix)
        if options.dry_run:
            _list(plan, options.scenarios)
            return
        write_text(options.output / COPY, options.matrix.read_text(encoding="utf-8"))
        work, failed = SideBySide(plan, options), list[str]()
        cells = _chosen_cells(plan, options.scenarios)
        started = time.monotonic()
        for place, cell in enumerate(cells, 1):
            if not work.store.finished(cell.name, settings_of(plan, cell)):
                if options.stop_after is not None and time.monotonic() - started > 60 * options.stop_after:
                    sys.exit(f"Stopped before cell {place} of {len(cells)}; the same command goes on.")
                print(f"[{place}/{len(cells)}] {cell.name}", flush=True)
                if work.compute(cell) is None:
                    failed.append(cell.name)
    except KeyboardInterrupt:  # a run under way makes a checkpoint first and raises a kind of it
        sys.exit("Stopped; the same command goes on.")
    except HfFreeError as error:
        sys.exit(f"Error: {error}")
    said = f"; {len(failed)} could not be made: {', '.join(failed)}" if failed else ""
    print(f"{len(cells) - len(failed)} of {len(cells)} cells are finished{said}.")
    print(f"Next: python examples/benchmark report {os.path.relpath(options.output)} --page page.html")


def _list(plan: Plan, scenarios: list[str] | None) -> None:
    """Say what would be computed; every cell's configuration was checked when the file was read."""
    cells = _chosen_cells(plan, scenarios)
    for cell in cells:
        shots = " and ".join(f"{shot}-shot" for shot in cell.shots)
        data = ", ".join(plan.scenarios[cell.scenario].data)
        teachers = sum(part.count for part in plan.scenarios[cell.scenario].teachers)
        print(f"{cell.name}: {teachers} teachers, {shots} on new classes of {data}")
    print(f"{len(cells)} cells of {plan.minutes:g} minutes at most; nothing was computed.")


def _chosen_cells(plan: Plan, scenarios: list[str] | None) -> list[Cell]:
    chosen = _chosen(plan, scenarios)
    return [cell for cell in cells_of(plan) if cell.scenario in chosen]


def _chosen(plan: Plan, names: list[str] | None) -> list[str]:
    """The scenarios that are run.

    Raises:
        ConfigError: the file has no such one.
    """
    for name in names or ():
        if name not in plan.scenarios:
            raise ConfigError(
                f"--scenarios {name!r} is none of the file",
                allowed=", ".join(map(repr, plan.scenarios)),
                action="name some of them, or leave the flag out",
            )
    return names or list(plan.scenarios)


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("matrix", type=Path, metavar="YAML", help="what to compare")
    parser.add_argument("--output", type=Path, required=True, help="folder of results and runs")
    parser.add_argument("--zoos", type=Path, default=Path("../shared/zoo"), help="folder of the zoos that it names")
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("--scenarios", nargs="+", metavar="NAME", help="run these alone, e.g. one on each GPU")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dry-run", action="store_true", help="check the file and list its cells; compute nothing")
    parser.add_argument("--stop-after", type=float, metavar="MINUTES", help="begin no cell after that long")
    return parser.parse_args()


if __name__ == "__main__":
    main()
