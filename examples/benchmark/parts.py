"""The parts of the benchmark: each makes one table out of results that a store keeps."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmark.ablation import SWITCHES, USES, switched
from benchmark.matrix import MATRIX
from benchmark.store import Episodes, Store, curve, made_with, measure, measured_run, teacher_folders
from benchmark.tables import SHOTS, Line, Table, goal, lines_of, mean_over_seeds, plot_curves
from benchmark.zoos import made_zoo
from hf_free import FreeConfig, MetaLearner
from hf_free.config.recipes import RELEASED_DEFECTS
from hf_free.data.episodes import sample_episodes
from hf_free.errors import HfFreeError
from hf_free.learner.heads import HEADS
from hf_free.learner.scoring import score_episodes

CONCATENATIONS = tuple(MATRIX["concatenations"])
GOALS = {text: tuple(least[shot] for shot in SHOTS) for text, least in MATRIX["goals"]["least"].items()}
GOALS_TEACHERS = MATRIX["goals"]["teachers"]
DOMAINS = tuple(MATRIX["scenarios"]["domains"]["data"])
PAPER_EPOCHS = MATRIX["paper_epochs"]
SHORT_MINUTES, SHORT = MATRIX["short"]["minutes"], tuple(MATRIX["short"]["set"])
PAPER = tuple(MATRIX["methods"]["paper"])
QUICK = tuple(MATRIX["quick"]["set"])


class Benchmark:
    """The parts; each makes one table out of results that the store keeps.

    Args:
        options: The command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.store = options, Store(options.output)
        self.where = self.episodes_on(options.data)
        self.used: list[dict[str, Any]] = []
        self.failed: list[str] = []

    def episodes_on(self, data: Path) -> Episodes:
        """The episodes of the command line on a data set."""
        return Episodes(str(data), self.options.split, self.options.episodes, self.options.device)

    def config(
        self,
        teachers: Sequence[str],
        *,
        recipe: str = "default",
        seed: int = 0,
        minutes: float,
        sets: Sequence[str] = (),
    ) -> FreeConfig:
        """A run's configuration; --set comes last."""
        chosen = {
            "method": recipe,
            "models": list(teachers),
            "seed": seed,
            "trainer": {"max_minutes": minutes, "device": self.options.device},
        }
        assignments = [*sets, *(QUICK if self.options.quick else ()), *self.options.set]
        return FreeConfig.load(values=chosen, assignments=assignments)

    def row(
        self, name: str, config: FreeConfig, where: Episodes | None = None, **options: Any
    ) -> dict[str, Any] | None:
        """One trained and measured row; None where it failed: that is said, and tried again next time."""
        return self._attempt(name, lambda: measured_run(self.store, name, config, where or self.where, **options))

    def baselines(
        self, name: str, config: FreeConfig, teachers: Sequence[str], where: Episodes
    ) -> dict[str, Any] | None:
        """Rows that need no training: pixels, an untrained backbone, the teachers in every combination.

        They are scored with the head of the learner that they stand beside.
        """

        def make() -> dict[str, Any]:
            untrained = MetaLearner(config.learner)
            rows = measure(untrained, where, baselines="all", teachers=teachers, concatenations=CONCATENATIONS)
            return {"rows": [row for row in rows if not row["method"].startswith("learner")]}

        settings = {"teachers": list(teachers), "where": vars(where), "learner": asdict(config.learner)}
        return self._attempt(name, lambda: self.store.result(name, settings, make))

    def _attempt(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        try:
            self.used.append(make())
        except HfFreeError as error:
            self.failed.append(name)
            print(f"{name}: {error}", file=sys.stderr)
            return None
        return self.used[-1]

    def zoo(self) -> list[str]:
        """The teachers of headline, paper and ablation."""
        return teacher_folders(self.options.zoo, self.options.teachers)

    def headline_config(self, seed: int) -> FreeConfig:
        """A run of the headline."""
        return self.config(self.zoo(), seed=seed, minutes=self.options.minutes)

    def paper_config(self) -> FreeConfig:
        """The run of the part `paper`."""
        options = self.options
        return self.config(self.zoo(), recipe="paper", seed=options.seeds[0], minutes=options.minutes, sets=PAPER)

    def headline(self) -> Table:
        """The default recipe beside its baselines."""
        teachers, table = self.zoo(), Table(f"headline: recipe default, {self.options.minutes:g} minutes a seed")
        known = self.baselines("baselines", self.headline_config(0), teachers, self.where)
        table.lines += lines_of(known) if known else []
        seeds = []
        for seed in self.options.seeds:
            config = self.headline_config(seed)
            found = self.row(f"headline seed {seed}", config)
            seeds += lines_of(found, f"**default**, {config.learner.backbone}, seed {seed}") if found else []
        table.lines += [*seeds, *self._paper_lines(table)]
        if not seeds:
            return table
        total = mean_over_seeds(seeds, f"**default**, mean over {len(seeds)} seeds") if len(seeds) > 1 else seeds[0]
        table.lines += [total] if len(seeds) > 1 else []
        if self.options.quick or len(teachers) != GOALS_TEACHERS:
            table.remarks.append(f"Goals are for {GOALS_TEACHERS} teachers and whole runs: not judged here.")
            return table
        for name, wanted in GOALS.items():
            table.goals.append(goal(f"At least {name}", total.accuracy, dict(zip(SHOTS, wanted, strict=True)), {}))
        everyone = [line for line in table.lines if line.method.startswith("all ") and "features" in line.method]
        for line in everyone:
            text = "Beyond the concatenation of all as measured here, by more than one learner's interval"
            table.goals.append(goal(text, total.accuracy, line.accuracy, seeds[0].interval))
        return table

    def paper(self) -> Table:
        """The paper's recipe for the same minutes."""
        table = Table(f"paper: recipe paper, {self.options.minutes:g} minutes")
        found = self._paper_row()
        if found is None:
            return table
        table.lines += _lines_of_paper(found)
        training = found["training"]
        reached = f"It reached {training['steps']} of its {PAPER_EPOCHS:,} epochs in {training['minutes']:g} minutes"
        table.remarks.append(f"{reached}; its head is MAML.")
        return table

    def _paper_row(self) -> dict[str, Any] | None:
        return self.row(f"paper seed {self.options.seeds[0]}", self.paper_config(), transductive=("batchnorm",))

    def _paper_lines(self, table: Table) -> list[Line]:
        """Lines of the part `paper`, on the same episodes, if its run is finished; else a remark."""
        name, config = f"paper seed {self.options.seeds[0]}", self.paper_config()
        if not (self.store.run(name, config).learner / "config.json").is_file():
            table.remarks.append("Recipe paper is not trained yet: its row comes here once the part `paper` is done.")
            return []
        found = self._paper_row()
        return _lines_of_paper(found) if found else []

    def ablation(self) -> Table:
        """One thing of the default recipe changed at a time."""
        minutes, seed = self.options.ablation_minutes, self.options.seeds[0]
        table = Table(f"ablation: recipe default, {minutes:g} minutes per row, seed {seed}")
        short = _short(minutes)
        base = self.config(self.zoo(), seed=seed, minutes=minutes, sets=short)
        table.remarks += [f"All rows: {' '.join(short)}."] if short else []
        found = self.row("ablation default", base)
        table.lines += lines_of(found, "**default**") if found else []
        for switch in SWITCHES:
            name, sets = switched(switch, base)
            config = self.config(self.zoo(), seed=seed, minutes=minutes, sets=[*short, *sets])
            found = self.row(f"ablation {name}", config)
            table.lines += lines_of(found, name, note=" ".join(sets)) if found else []
        for name, change in USES.items() if base.bell.objective == "distill" else ():
            found = self.row("ablation default", base, use=name, change=change)
            table.lines += lines_of(found, name, note="the default's learner, used otherwise") if found else []
        return table

    def defects(self) -> Table:
        """The paper's recipe with one defect of the released code at a time."""
        minutes, seed = self.options.ablation_minutes, self.options.seeds[0]
        table = Table(f"defects: recipe paper, {minutes:g} minutes per row, seed {seed}")
        for defect in (None, *RELEASED_DEFECTS):
            sets = [*PAPER, *([f"defects=[{defect}]"] if defect else [])]
            config = self.config(self.zoo(), recipe="paper", seed=seed, minutes=minutes, sets=sets)
            found = self.row(f"defects {defect or 'none'}", config)
            table.lines += lines_of(found, f"paper, {defect or 'no defect'}") if found else []
        return table

    def mixed(self) -> Table:
        """Teachers of several architectures."""
        teachers = teacher_folders(self.options.mixed_zoo, self.options.teachers)
        table = Table(f"mixed: {len(teachers)} teachers of several architectures, {self.options.minutes:g} minutes")
        minutes = self.options.minutes
        config = self.config(teachers, seed=self.options.seeds[0], minutes=minutes, sets=_short(minutes))
        self._beside_teachers(table, "mixed", config, teachers, self.where)
        return table

    def domains(self) -> Table:
        """One learner for teachers of several data sets, against the best single teacher of each."""
        options = self.options
        table = Table(f"domains: {options.domain_teachers} teachers a data set, {options.minutes:g} minutes for all")
        zoos = {domain: self._domain_zoo(domain) for domain in DOMAINS}
        teachers = [teacher for zoo in zoos.values() for teacher in zoo]
        unmirrored = MATRIX["scenarios"]["domains"]["set"]
        sets = [*unmirrored, *_short(options.minutes)]
        config = self.config(teachers, seed=options.seeds[0], minutes=options.minutes, sets=sets)
        table.remarks.append(
            f"Set for all data sets, beside the recipe: {' '.join(sets)}; mirrored letters and signs are others, so "
            "nothing is mirrored, in FIVE or in use. Teachers of every data set are trained without mirroring."
        )
        for domain, zoo in zoos.items():
            self._beside_teachers(table, "domains", config, zoo, self.episodes_on(options.data_root / domain), domain)
        return table

    def _beside_teachers(
        self, table: Table, name: str, config: FreeConfig, teachers: Sequence[str], where: Episodes, domain: str = ""
    ) -> None:
        """A learner on one data set beside the teachers of that data set, and whether it is as good as the best."""
        start = f"{domain}: " if domain else ""
        known = self.baselines(f"{name} {domain} baselines", config, teachers, where)
        found = self.row(name, config, where)
        lines = [*(lines_of(known) if known else []), *(lines_of(found, "**default**") if found else [])]
        table.lines += [Line(**{**vars(line), "method": start + line.method}) for line in lines]
        best = next((line for line in lines if line.method.startswith("best single teacher")), None)
        if best is not None and found:
            text = f"{start}at least as good as the best single teacher, which is chosen on these very episodes"
            table.goals.append(goal(text, lines[-1].accuracy, best.accuracy, {}))

    def _domain_zoo(self, domain: str) -> list[str]:
        """Teachers of one data set's training classes, made where they are missing."""
        count, epochs = self.options.domain_teachers, self.options.domain_epochs
        folder = self.store.root / "zoo" / f"{domain}-{epochs}-epochs"
        options = ("--epochs", str(epochs), "--batch-size", "32", "--no-flip", "--device", self.options.device)
        return made_zoo(folder, [self.options.data_root / domain], count, *options)

    def heads(self) -> Table:
        """Seconds that scoring takes once features are there; random features as wide as the learner's."""
        table = Table(f"heads: seconds for {self.options.episodes} 5-way episodes with 15 queries, features given")
        width = 5 * 100 + 256  # the answers of 100 teachers and the features of conv4_64
        labels = torch.arange(16).repeat_interleave(200)
        features = torch.randn(len(labels), width, generator=torch.Generator().manual_seed(0))
        table.remarks += [
            f"{made_with()['machine']}, {width} features:",
            "",
            "| head | 1-shot | 5-shot |",
            "|---|---|---|",
        ]
        for head in (*HEADS, "soft k-means"):
            seconds = []
            for k_shot in SHOTS:
                generator = torch.Generator().manual_seed(0)
                drawn = sample_episodes(
                    labels, n_way=5, k_shot=k_shot, n_query=15, episodes=self.options.episodes, generator=generator
                )
                start = time.perf_counter()
                if head in HEADS:
                    score_episodes(features, drawn, head)
                else:
                    score_episodes(features, drawn, transductive="soft-kmeans")
                seconds.append(time.perf_counter() - start)
            table.remarks.append(f"| {head} | {' | '.join(f'{value:.2f}' for value in seconds)} |")
        return table

    def plot(self) -> Table:
        """Minutes against accuracy."""
        where = Episodes(**{**vars(self.where), "episodes": min(self.where.episodes, self.options.curve_episodes)})
        table = Table(f"plot: minutes against accuracy, {where.episodes} episodes a point")
        runs = [("default", f"headline seed {seed}", self.headline_config(seed)) for seed in self.options.seeds]
        runs.append(("paper (inductive)", f"paper seed {self.options.seeds[0]}", self.paper_config()))
        curves: dict[str, list[list[dict[str, float]]]] = {}
        for recipe, name, config in runs:
            if not (self.store.run(name, config).learner / "config.json").is_file():
                table.remarks.append(f"{name} is not finished and left out.")
                continue
            found = self._attempt(name, partial(curve, self.store, name, config, where))
            if found is None:
                continue
            curves.setdefault(recipe, []).append(found["points"])
            for point in found["points"]:
                accuracy = {shot: point[str(shot)] for shot in SHOTS}
                interval = {shot: point[f"{shot} interval"] for shot in SHOTS}
                table.lines.append(Line(name, accuracy, interval, where.episodes, minutes=point["minutes"]))
        if curves:
            levels = {name: dict(zip(SHOTS, values, strict=True)) for name, values in GOALS.items()}
            path = self.store.root / "time_to_accuracy.png"
            plot_curves(curves, levels, path)
            table.remarks.append(f"Picture: {path}. The last point of a run is the learner it chose in the end.")
        return table


def _short(minutes: float) -> tuple[str, ...]:
    """What a row of so few minutes sets."""
    return SHORT if minutes <= SHORT_MINUTES else ()


def _lines_of_paper(found: Mapping[str, Any]) -> list[Line]:
    """Both rows of recipe paper, named by what they see."""
    names = {
        ", BatchNorm of the support": "paper, inductive (statistics of the support pictures only)",
        ", transductive BatchNorm": "paper, transductive (as published)",
    }
    named = [(names.get(line.method.removeprefix("learner"), line.method), line) for line in lines_of(found)]
    return [Line(**{**vars(line), "method": name}) for name, line in named]
