"""Tables, goals and the plot of the benchmark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmark.matrix import MATRIX

SHOTS = tuple(MATRIX["shots"])


@dataclass(frozen=True)
class Line:
    """One line of a table: percent by number of shots, each with what stands behind the plus-minus sign."""

    method: str
    accuracy: Mapping[int, float]
    interval: Mapping[int, float]
    episodes: int
    seeds: int = 1
    minutes: float | None = None
    steps: int | None = None
    note: str = ""

    def markdown(self) -> str:
        """The line in Markdown."""
        found = [
            f"{self.accuracy[shot]:.1f} ± {self.interval[shot]:.1f}" if shot in self.accuracy else "-"
            for shot in SHOTS
        ]
        minutes = "" if self.minutes is None else f"{self.minutes:.1f}"
        steps = "" if self.steps is None else str(self.steps)
        cells = [self.method, *found, str(self.episodes), str(self.seeds), minutes, steps, self.note]
        return f"| {' | '.join(cells)} |"


@dataclass
class Table:
    """A part of the benchmark: its lines, and its goals with whether they are met."""

    title: str
    lines: list[Line] = field(default_factory=list)
    goals: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """Title, table, goals and remarks."""
        parts = [f"## {self.title}", ""]
        if self.lines:
            parts += ["| method | 1-shot | 5-shot | episodes | seeds | minutes | steps | note |"]
            parts += ["|---|---|---|---|---|---|---|---|", *(line.markdown() for line in self.lines), ""]
        parts += [f"- {goal}" for goal in self.goals]
        return "\n".join([*parts, *([""] if self.goals else []), *self.remarks]).strip()

    def to_dict(self) -> dict[str, Any]:
        """The table as plain JSON types."""
        return asdict(self)


def lines_of(result: Mapping[str, Any], name: str = "", note: str = "") -> list[Line]:
    """The lines of a result, one per method; `name` takes the place of the word "learner" at a method's start."""
    methods: dict[str, list[dict[str, Any]]] = {}
    for row in result["rows"]:
        methods.setdefault(row["method"], []).append(row)
    training = result.get("training", {})
    lines = []
    for method, rows in methods.items():
        is_learner = method.startswith("learner")
        known = [row for row in rows if row["accuracy"] is not None]
        remarks = [note if is_learner else "", rows[0]["note"]]
        if not rows[0]["inductive"] and "transductive" not in method:
            remarks.append("transductive")
        lines.append(
            Line(
                name + method.removeprefix("learner") if is_learner and name else method,
                {row["k_shot"]: row["accuracy"] for row in known},
                {row["k_shot"]: row["interval"] for row in known},
                rows[0]["episodes"],
                minutes=training.get("minutes") if is_learner else None,
                steps=training.get("steps") if is_learner else None,
                note="; ".join(filter(None, remarks)),
            )
        )
    return lines


def mean_over_seeds(lines: Sequence[Line], method: str) -> Line:
    """The mean of several seeds' lines, plus or minus the standard deviation between the seeds."""
    accuracy = {shot: mean(line.accuracy[shot] for line in lines) for shot in SHOTS}
    spread = {shot: stdev(line.accuracy[shot] for line in lines) if len(lines) > 1 else math.nan for shot in SHOTS}
    minutes = max((line.minutes or 0.0) for line in lines)
    note = "± standard deviation between seeds; minutes of the longest"
    return Line(method, accuracy, spread, lines[0].episodes, len(lines), minutes, note=note)


def goal(text: str, found: Mapping[int, float], wanted: Mapping[int, float], margin: Mapping[int, float]) -> str:
    """A goal in words: met where both shots are at least what is wanted plus the margin."""
    gaps = [found[shot] - wanted[shot] for shot in SHOTS]
    is_met = all(gap >= margin.get(shot, 0.0) for shot, gap in zip(SHOTS, gaps, strict=True))
    values = " / ".join(f"{found[shot]:.1f}" for shot in SHOTS)
    limits = " / ".join(f"{wanted[shot]:.1f}" for shot in SHOTS)
    by = " / ".join(f"{gap:+.1f}" for gap in gaps)
    return f"{text} ({limits}): **{'met' if is_met else 'not met'}** with {values}, that is {by}"


def provenance(results: Iterable[Mapping[str, Any]]) -> str:
    """Machines, devices, versions and commits of the results, each once."""
    machines: dict[str, None] = {}
    versions: dict[str, None] = {}
    for result in results:
        made, device = result["made"], result.get("training", {}).get("device")
        machines[made["machine"]] = None
        if device not in (None, "cpu"):
            machines[device] = None
        if "versions" in result:
            versions[", ".join(f"{name} {value}" for name, value in result["versions"].items())] = None
        versions[f"commit {made['commit']}"] = None
    return f"Machine: {'; '.join(machines)}. Versions: {'; '.join(versions)}."


def plot_curves(
    curves: Mapping[str, Sequence[Sequence[Mapping[str, float]]]],
    levels: Mapping[str, Mapping[int, float]],
    path: Path,
) -> None:
    """Minutes against accuracy, a picture a number of shots.

    Args:
        curves: Points of each seed, by recipe; the last of a seed is the learner that it chose in the end.
        levels: Accuracies drawn as dashed lines, by name.
        path: PNG file to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.8), layout="constrained")
    figure.suptitle("Time to accuracy; a line a seed, a star the learner that it chose in the end")
    for axes, shot in zip(figure.subplots(1, 2), SHOTS, strict=True):
        for number, (recipe, seeds) in enumerate(curves.items()):
            for index, points in enumerate(seeds):
                minutes, accuracies = zip(*((point["minutes"], point[str(shot)]) for point in points), strict=True)
                style = {"color": f"C{number}", "linestyle": ("-", "--", ":", "-.")[index % 4]}
                label = f"{recipe}, {len(seeds)} seed{'' if len(seeds) == 1 else 's'}" if index == 0 else None
                if len(points) > 1:
                    axes.plot(minutes[:-1], accuracies[:-1], marker=".", label=label, alpha=0.8, **style)
                    label = None
                axes.plot(minutes[-1], accuracies[-1], marker="*", markersize=10, label=label, **style)
        for number, (name, accuracy) in enumerate(levels.items()):
            axes.axhline(accuracy[shot], linestyle="--", linewidth=1, color=str(0.3 + 0.2 * number), label=name)
        axes.set(title=f"5-way {shot}-shot, new classes", xlabel="minutes of training", ylabel="accuracy in percent")
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
