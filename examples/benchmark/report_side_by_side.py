"""One page about methods side by side: what `python examples/benchmark run` left in its --output, finished or not.

    python examples/benchmark report runs/smoke --page page.html    # one file with curves and pictures
    python examples/benchmark report runs/smoke --page page.md      # the tables

It shows accuracy with intervals, inductive and transductive lines apart, what each row cost (time, operations,
pictures, queries), accuracy against time, recovered pictures by method, the teachers' views of the same pictures, and
which published accuracies are reproduced. Nothing is computed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmark.comparison_page import Curves, PageTable, Picture, Section, as_html, as_markdown
from benchmark.literature import NOT_TO_BE_HAD, Ours, over_data, published, verdicts
from benchmark.run_side_by_side import COPY
from benchmark.side_by_side import Cell, Plan, cells_of, config_of, read_plan, settings_of
from benchmark.store import Store
from benchmark.tables import provenance
from hf_free import read_run
from hf_free.config.recipes import recipe_values
from hf_free.config.tree import FreeConfig, departures
from hf_free.errors import HfFreeError
from hf_free.reporting.report_page import data_uri, png_uri
from hf_free.runtime.files import write_text
from hf_free.training.estimate import CostEstimate

CLASSES = 2
"""Classes of a row whose pictures are shown."""

NOTHING = "–"


@dataclass(frozen=True)
class Found:
    """A finished cell and its result."""

    cell: Cell
    result: Mapping[str, Any]


class Report:
    """Makes the sections of the page.

    Args:
        plan: What was to be compared.
        store: Its results.
    """

    def __init__(self, plan: Plan, store: Store) -> None:
        self.plan, self.store = plan, store
        self.cells = cells_of(plan)
        known = [(cell, store.known(cell.name, settings_of(plan, cell))) for cell in self.cells]
        self.found = [Found(cell, result) for cell, result in known if result is not None]

    def sections(self) -> list[Section]:
        """All of them, as far as there is something to show."""
        parts = [self._conditions()]
        for scenario in self.plan.scenarios:
            parts += [self._scenario(scenario)] if self._of(scenario) else []
        parts += [*self._curves(), *self._pictures(), *self._views(), self._literature()]
        return parts

    def _of(self, scenario: str) -> list[Found]:
        return [found for found in self.found if found.cell.scenario == scenario]

    # ---- what was done, and what not

    def _conditions(self) -> Section:
        plan = self.plan
        texts = [
            f"{plan.minutes:g} minutes of training for every row that trains, {plan.episodes} episodes of "
            f"{plan.split} classes, 5-way, 15 queries, {_seeds(plan.seeds)}. Accuracy in percent with its 95 % "
            "interval over episodes; of several seeds the mean and the standard deviation between them.",
            f"{len(self.found)} of {len(self.cells)} cells are finished.",
        ]
        texts += [provenance([found.result for found in self.found])] if self.found else []
        rows = [(name, self._teachers_in_words(name), ", ".join(one.data)) for name, one in plan.scenarios.items()]
        tables = [PageTable("Scenarios", ("scenario", "teachers", "new classes of"), rows)]
        methods = [(name, *self._row_in_words(name)) for name in plan.methods]
        tables.append(PageTable("Rows", ("row", "what it is", "set beside the method's constants"), methods))
        missing = list(self._missing())
        tables += [PageTable("Not there", ("cell", "why"), missing)] if missing else []
        return Section("What was compared", texts, tables)

    def _teachers_in_words(self, scenario: str) -> str:
        said = []
        for part in self.plan.scenarios[scenario].teachers:
            made = f"made from {', '.join(part.made_from)} ({', '.join(part.architectures)}, {part.epochs} epochs)"
            said.append(f"{part.count} {f'of {part.zoo}' if part.zoo else made}")
        return ", ".join(said)

    def _row_in_words(self, name: str) -> tuple[str, str]:
        row = self.plan.methods[name]
        kinds = {
            "pool": "the teachers as one learner, not trained",
            "distill": "one network that learned the pooled learner, which is not in its minutes",
            "baselines": "the untrained network, and the teachers alone and together",
        }
        said = kinds.get(row.kind) or f"method {row.method or name}"
        said += f", inversion {row.inversion}" if row.inversion else ""
        said += f", {row.served} teacher(s) behind hf-free serve" if row.served else ""
        return said, " ".join(row.set) or NOTHING

    def _missing(self) -> Iterator[tuple[str, str]]:
        finished = {found.cell for found in self.found}
        for cell in self.cells:
            if cell not in finished:
                failure = self._failure(cell)
                why = "not run yet" if failure is None else "; ".join(map(str.strip, failure["why"].splitlines()))
                yield cell.name, " ".join(why.split())

    def _failure(self, cell: Cell) -> dict[str, Any] | None:
        return self.store.failure(cell.name, settings_of(self.plan, cell))

    # ---- accuracy and cost

    def _scenario(self, scenario: str) -> Section:
        data = self.plan.scenarios[scenario].data
        columns = [(name, shot) for name in data for shot in self.plan.shots]
        lines: dict[tuple[bool, str], dict[tuple[str, int], list[tuple[float, float]]]] = {}
        for found in self._of(scenario):
            for name, rows in found.result["measured"].items():
                for row in rows:
                    place = (not row["inductive"], _label(found, row["method"]))
                    line = lines.setdefault(place, {})
                    if row["accuracy"] is not None:
                        line.setdefault((name, row["k_shot"]), []).append((row["accuracy"], row["interval"]))
        ordered = sorted(lines.items(), key=lambda entry: entry[0][0])  # inductive ones first, as they were run
        rows = [
            (label, "together" if is_joint else "each by itself", *(_accuracy(line.get(at)) for at in columns))
            for (is_joint, label), line in ordered
        ]
        titles = [f"{name} {shot}-shot" if len(data) > 1 else f"{shot}-shot" for name, shot in columns]
        accuracy = PageTable("Accuracy on new classes", ("row", "queries are seen", *titles), rows)
        return Section(f"Scenario {scenario}", (), [accuracy, self._costs(scenario)])

    def _costs(self, scenario: str) -> PageTable:
        columns = ("row", "minutes", "steps", "recovered", "GFLOP a step", "GFLOP in all", "queries", "s to measure")
        rows = [(_cell_label(found.cell), *_cost_cells(found.result)) for found in self._of(scenario)]
        for cell in self.cells:  # what a refused row would have cost says why it was refused
            failure = (
                self.store.failure(cell.name, settings_of(self.plan, cell)) if cell.scenario == scenario else None
            )
            if failure and failure["cost"]:
                rows.append((f"{_cell_label(cell)} (failed)", *_cost_cells({"cost": failure["cost"]})))
        return PageTable("What it cost; operations are counted, not measured, and the least there are", columns, rows)

    # ---- curves and pictures

    def _curves(self) -> list[Section]:
        sections = []
        for scenario, parts in self.plan.scenarios.items():
            drawn = [found for found in self._of(scenario) if found.result["curve"]]
            panels = []
            for data in parts.data if drawn else ():
                for shot in self.plan.shots:
                    points = {
                        _cell_label(found.cell): [
                            (60 * point["minutes"], point[str(shot)])
                            for point in found.result["curve"].get(data, ())
                            if str(shot) in point
                        ]
                        for found in drawn
                    }
                    if any(points.values()):
                        panels.append(Curves(f"{scenario}, {data}, {shot}-shot", points))
            if panels:
                note = (
                    f"{self.plan.curve_episodes} episodes a point; the last point is the learner that the run chose."
                )
                sections.append(Section(f"Accuracy against time: {scenario}", [note], curves=panels))
        return sections

    def _runs(self) -> Iterator[tuple[Found, Path]]:
        """Runs whose folders are still there, the first seed of each row and scenario."""
        seen = set()
        for found in self.found:
            folder = self.store.root / "runs" / found.result["run"]
            at = (found.cell.scenario, found.cell.row)
            if found.result["run"] and at not in seen and folder.is_dir():
                seen.add(at)
                yield found, folder

    def _pictures(self) -> list[Section]:
        shown, rows = [], set()
        for found, folder in self._runs():
            if found.cell.row in rows:
                continue  # one scenario of each row
            rows.add(found.cell.row)
            for one in read_run(folder, draws_map=False).recovered[:CLASSES]:
                caption = f"{found.cell.row}, {found.cell.scenario}: {one.label} of {one.teacher}"
                alt = f"Pictures recovered by {caption}"
                shown.append(Picture(png_uri(one.strip(len(one.pixels))), caption, alt))
        return [Section("Recovered pictures by row", (), pictures=shown)] if shown else []

    def _views(self) -> list[Section]:
        views: dict[str, Picture] = {}
        for found, folder in self._runs():
            scenario = found.cell.scenario
            drawn = b"" if scenario in views else read_run(folder, draws_map=False).views
            if drawn:
                alt = f"A map (t-SNE) of the same recovered pictures for each of several teachers of {scenario}"
                views[scenario] = Picture(data_uri(drawn), f"{scenario}, pictures of {found.cell.row}", alt)
        note = "Teachers of different tasks order the same pictures differently; near means alike, far means little."
        title = "The same pictures as the teachers see them"
        return [Section(title, [note], views=list(views.values()))] if views else []

    # ---- the literature

    def _literature(self) -> Section:
        rows = [
            (
                one.published.work,
                f"{one.published.scenario}, {', '.join(one.published.data)}, {one.published.shot}-shot",
                f"{one.published.accuracy:.2f}",
                NOTHING if one.ours is None else f"{one.ours.row}: {one.ours.accuracy:.1f} ± {one.ours.interval:.1f}",
                one.words,
                one.published.source,
            )
            for one in verdicts(published(), list(self._ours()))
        ]
        columns = ("work", "table", "published", "here", "verdict", "where it was found")
        tables = [PageTable("Published accuracies beside ours", columns, rows)]
        return Section("What of the literature is reproduced", [NOT_TO_BE_HAD], tables)

    def _ours(self) -> Iterator[Ours]:
        for found in self.found:
            result, cell = found.result, found.cell
            if result["kind"] != "train":
                continue
            config = config_of(self.plan, cell)
            for transductive in (False, True):
                for shot in cell.shots:
                    values = [
                        (row["accuracy"], row["interval"])
                        for rows in result["measured"].values()
                        for row in rows
                        if row["k_shot"] == shot and row["inductive"] != transductive and row["accuracy"] is not None
                    ]
                    if len(values) != len(result["measured"]):
                        continue
                    accuracy, interval = over_data(values)
                    yield Ours(
                        method=result["method"],
                        row=_cell_label(cell) + (", transductive" if transductive else ""),
                        scenario=cell.scenario,
                        data=tuple(result["measured"]),
                        shot=shot,
                        accuracy=accuracy,
                        interval=interval,
                        teachers=result["teachers"],
                        split=self.plan.split,
                        episodes=self.plan.episodes,
                        steps=result.get("training", {}).get("steps") or 0,
                        published_steps=FreeConfig.from_dict(recipe_values(result["method"])).trainer.steps,
                        own_settings=len(_own_settings(config)),
                    )


def _own_settings(config: FreeConfig) -> list[str]:
    """Settings in which a run differs from its method, besides what the benchmark itself sets."""
    own = ("models", "seed", "trainer.max_minutes", "trainer.device", "bell.k_shot")
    return [key for key in departures(config.to_dict()) if key not in own]


def _label(found: Found, method: str) -> str:
    """A measured line's name: the cell's, where it is the learner's."""
    if found.result["kind"] == "baselines":
        return method
    return found.cell.row + method.removeprefix("learner")


def _cell_label(cell: Cell) -> str:
    said = cell.row + (f", seed {cell.seed}" if cell.seed else "")
    return said + (f", for {cell.shots[0]}-shot" if cell.is_per_shot else "")


def _accuracy(values: Sequence[tuple[float, float]] | None) -> str:
    if not values:
        return NOTHING
    accuracies = [value for value, _ in values]
    spread = stdev(accuracies) if len(accuracies) > 1 else values[0][1]
    return f"{mean(accuracies):.1f} ± {spread:.1f}" + (f" ({len(accuracies)} seeds)" if len(accuracies) > 1 else "")


def _cost_cells(result: Mapping[str, Any]) -> tuple[str, ...]:
    """Minutes, steps, recovered pictures, GFLOP a step and in all, queries, seconds of measuring."""
    training, seconds = result.get("training") or {}, result.get("seconds") or {}
    minutes, steps, queries = (training.get(key) for key in ("minutes", "steps", "queries"))
    if seconds and result["kind"] != "train":
        minutes = seconds["learner"] / 60
    step, total = NOTHING, NOTHING
    if result["cost"]:
        cost = dict(result["cost"])
        share = cost.pop("recover_share")
        counted = CostEstimate(**cost)
        step = _giga(counted.total(1, 1.0))
        total = NOTHING if steps is None else _giga(counted.total(steps, share))
    return (
        NOTHING if minutes is None else f"{minutes:.2f}",
        NOTHING if steps is None else f"{steps:,}",
        f"{(result.get('recovered') or {}).get('images') or 0:,}",
        step,
        total,
        NOTHING if queries is None else f"{queries:,}",
        f"{seconds['measuring']:.1f}" if seconds else NOTHING,
    )


def _giga(operations: float) -> str:
    return f"{operations / 1e9:,.0f}"


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="the --output of `run`")
    parser.add_argument("--page", type=Path, required=True, help="file to write: .html or .md")
    parser.add_argument("--title", default="Methods side by side")
    options = parser.parse_args()
    if options.page.suffix not in (".html", ".md"):
        parser.error(f"--page {options.page}: a name that ends in .html or .md is wanted")
    try:
        sections = Report(read_plan(options.output / COPY), Store(options.output)).sections()
        as_page = as_html if options.page.suffix == ".html" else as_markdown
        write_text(options.page, as_page(options.title, sections))
    except HfFreeError as error:
        sys.exit(f"Error: {error}")
    print(f"Written: {options.page}")


if __name__ == "__main__":
    main()
