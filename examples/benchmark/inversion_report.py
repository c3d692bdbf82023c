"""What `inversion_speed.py` makes of its figures: sums, goals, a Markdown table, two drawings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from benchmark.measuring import amortized, break_even

SHARED_BY = (100, 1000)
"""Numbers of tasks that share the cost of meta-training."""

SPEED_GOAL, STEP_GOAL = 20.0, 1.25
"""Times that FIVE, with meta-training at 1,000 tasks, is faster than fresh generators; step over bare passes."""

COLORS = {"meta": "#0f766e", "joint": "#9333ea", "fresh": "#ea580c", "five": "#0f766e", "pixels": "#6b7280"}


def summarize(tasks: dict[str, list[dict[str, Any]]], meta_seconds: float) -> dict[str, Any]:
    """Means over each method's tasks, and what meta-training adds.

    Args:
        tasks: Method -> its tasks: `seconds`, `images`, `accuracy`, `loss`, `diversity`, `load`.
        meta_seconds: Time of meta-training.

    Returns:
        `methods`, `break_even` (rival -> tasks from which on FIVE has cost less, None if never), `speedup` (rival ->
        number of tasks or `without` -> how many times faster FIVE is).
    """
    methods = {}
    for method, done in tasks.items():
        seconds = fmean(task["seconds"] for task in done)
        methods[method] = {
            "tasks": len(done),
            "images_per_task": done[0]["images"],
            "seconds": seconds,
            "median_seconds": median(task["seconds"] for task in done),
            "images_per_second": done[0]["images"] / seconds,
            **{key: fmean(task[key] for task in done) for key in ("accuracy", "loss", "diversity")},
        }
    five = methods["five"]
    five["amortized_seconds"] = {str(n): amortized(meta_seconds, five["seconds"], n) for n in SHARED_BY}
    costs = {"without": five["seconds"], **five["amortized_seconds"]}
    others = {method: values["seconds"] for method, values in methods.items() if method != "five"}
    return {
        "methods": methods,
        "break_even": {m: break_even(meta_seconds, five["seconds"], seconds) for m, seconds in others.items()},
        "speedup": {m: {n: seconds / cost for n, cost in costs.items()} for m, seconds in others.items()},
    }


def mean_of_learners(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """One method's learners as one: mean accuracy, and the mean of their intervals over the same episodes.

    Args:
        parts: A learner each: `pictures`, `tasks`, and `rows` with `k_shot`, `accuracy`, `interval`, `n_way`.
    """
    rows = []
    for same in zip(*(part["rows"] for part in parts), strict=True):  # the learners' rows of one number of shots
        means = {key: fmean(row[key] for row in same) for key in ("accuracy", "interval")}
        rows.append({**same[0], **means, "accuracies": [row["accuracy"] for row in same]})
    return {"tasks": parts[0]["tasks"], "pictures": parts[0]["pictures"], "learners": len(parts), "rows": rows}


def goals(results: dict[str, Any]) -> list[dict[str, Any]]:
    """What was aimed at: its name, the figure, whether it is met."""
    speedup = results["speedup"]["fresh"][str(SHARED_BY[-1])]
    rows = {m: results["methods"][m]["few_shot"]["rows"] for m in ("five", "fresh")}
    lost = [
        {"shots": a["k_shot"], "lost": b["accuracy"] - a["accuracy"], "interval": a["interval"]}
        for a, b in zip(rows["five"], rows["fresh"], strict=True)
    ]
    pictures = {m: results["methods"][m]["few_shot"]["pictures"] for m in ("five", "fresh")}
    speed = results["speed"]
    found = [
        (
            f"FIVE with meta-training at {SHARED_BY[-1]:,} tasks at least {SPEED_GOAL:g} times faster than a fresh "
            "generator a teacher",
            f"{speedup:.1f} times",
            speedup >= SPEED_GOAL,
        ),
        (
            f"no accuracy lost beyond the interval against the fresh generator ({pictures['five']:,} and "
            f"{pictures['fresh']:,} pictures)",
            ", ".join(
                f"{0.0 - row['lost']:+.1f} (interval {row['interval']:.1f}) {row['shots']}-shot" for row in lost
            ),
            all(row["lost"] <= row["interval"] for row in lost),
        ),
        *(
            (
                f"an inner step within {STEP_GOAL} of the bare passes, {name}",
                f"{speed[name]['ratio']:.2f}",
                speed[name]["ratio"] <= STEP_GOAL,
            )
            for name in ("alone", "with learner")
        ),
    ]
    curves = results["curves"]
    loss, total = curves["after_k"], results["teachers"]["held out"]
    for start, words in (("fresh", "a fresh generator"), ("joint", "a generator trained jointly")):
        found.append(
            (
                f"{curves['k']} steps from the meta-generator reach a lower loss on held-out teachers than "
                f"from {words}",
                f"{loss['meta']:.3f} against {loss[start]:.3f}, lower on "
                f"{curves['meta_is_lower_on'][start]} of {total}",
                loss["meta"] < loss[start],
            )
        )
    return [{"goal": goal, "found": text, "met": met} for goal, text, met in found]


def markdown(results: dict[str, Any]) -> str:
    """Everything as Markdown."""
    machine, settings, meta = results["machine"], results["settings"], results["meta_training"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    plan, five = settings["plan"], results["methods"]["five"]
    lines = [
        f"`{results['command']}`",
        "",
        f"{machine['processor']} ({machine['system']}, {machine['cpu_capability']}), device {machine['device']}, "
        f"{machine['threads']} of {machine['cores']} threads; {versions}; precision {settings['precision']}, "
        f"compile {'on' if settings['compile'] else 'off'}, seed {settings['seed']}.",
        f"Teachers: {settings['zoo']}, {results['teachers']['trained on']} to invert, "
        f"{results['teachers']['held out']} held out; meta-training: {meta['steps']} outer steps, {meta['tasks']} "
        f"tasks, {meta['seconds']:.1f} s; load of the machine {results['load']['least']:g} to "
        f"{results['load']['most']:g} (1 is this process alone on one thread).",
    ]
    if settings["quick"]:
        lines.append("Quick form: fewer tasks than the 50 per method of the full one, see the column.")
    lines += ["", *_methods_table(results), "", *_costs_table(results), "", *_speed_table(results)]
    peak = ", ".join(f"{where} {size / 2**20:,.0f} MiB" for where, size in results["peak_memory"].items())
    lines += ["", f"Peak memory: {peak}.", "", *_curve_table(results)]
    lines += ["", "| goal | found | |", "|---|---|---|"]
    for goal in results["goals"]:
        verdict = "too quick to say" if settings["quick"] else "met" if goal["met"] else "**not met**"
        lines.append(f"| {goal['goal']} | {goal['found']} | {verdict} |")
    lines += [
        "",
        f"A task is {five['images_per_task']} pictures with answers and health. All methods share loss (no "
        "adversarial term), labels, sizes and precision; their tasks alternate, teacher by teacher. Accuracy is the "
        f"mean of {plan['learner_seeds']} learner(s) a method, the same first weights for each method, "
        f"{plan['updates']} updates on that method's pictures alone: no dead-leaves pictures in its memory. Intervals "
        "are those of the episodes, which all learners share. Tasks recovered during meta-training are counted as "
        "thrown away.",
    ]
    return "\n".join(lines)


def name_of(method: str, results: dict[str, Any]) -> str:
    """A method in words, with its steps."""
    settings = results["settings"]
    return {
        "five": f"FIVE, {settings['five']['inner_steps']} steps",
        "fresh": f"a fresh generator a teacher, {settings['plan']['fresh_steps']} steps",
        "pixels": f"pixels directly, {settings['plan']['pixel_steps']:,} steps",
    }[method]


def _methods_table(results: dict[str, Any]) -> list[str]:
    shots = [row["k_shot"] for row in results["methods"]["five"]["few_shot"]["rows"]]
    n_way = results["methods"]["five"]["few_shot"]["rows"][0]["n_way"]
    heads = [
        "method",
        "tasks",
        "s a task",
        "pictures/s",
        "teacher accuracy",
        "loss",
        "diversity",
        "learner's pictures",
    ]
    heads += [f"{n_way}-way {shot}-shot" for shot in shots]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for method, m in results["methods"].items():
        cells = [name_of(method, results), str(m["tasks"]), f"{m['seconds']:.2f}", f"{m['images_per_second']:.1f}"]
        cells += [f"{100 * m['accuracy']:.1f} %", f"{m['loss']:.3f}", f"{m['diversity']:.3f}"]
        cells += [f"{m['few_shot']['pictures']:,}"]
        cells += [f"{row['accuracy']:.1f} ± {row['interval']:.1f}" for row in m["few_shot"]["rows"]]
        lines.append("| " + " | ".join(cells) + " |")
    drawn = results["drawn"]
    cells = ["drawn pictures, nothing recovered", *["-"] * 6, f"{drawn['pictures']:,}"]
    cells += [f"{row['accuracy']:.1f} ± {row['interval']:.1f}" for row in drawn["rows"]]
    lines.append("| " + " | ".join(cells) + " |")
    return lines


def _costs_table(results: dict[str, Any]) -> list[str]:
    five = results["methods"]["five"]
    lines = ["| FIVE's meta-training | s a task | pictures/s | faster than (b) fresh | faster than (c) pixels |"]
    lines.append("|---|---|---|---|---|")
    costs = {"not counted": ("without", five["seconds"])}
    costs |= {f"shared by {int(n):,} tasks": (n, seconds) for n, seconds in five["amortized_seconds"].items()}
    for words, (key, seconds) in costs.items():
        times = " | ".join(f"{results['speedup'][rival][key]:.1f} times" for rival in ("fresh", "pixels"))
        lines.append(f"| {words} | {seconds:.2f} | {five['images_per_task'] / seconds:.1f} | {times} |")
    even = {rival: "never" if n is None else f"{n:,} tasks" for rival, n in results["break_even"].items()}
    lines.append(f"| has paid off after | | | {even['fresh']} | {even['pixels']} |")
    return lines


def _speed_table(results: dict[str, Any]) -> list[str]:
    speed, precision = results["speed"], results["settings"]["precision"]
    peak = speed["matmul_peak"]
    name = {"no": "fp32"}.get(precision, precision)
    lines = [
        f"| {speed['images']} pictures, {name} | inner step | bare forward and backward | ratio | operations | "
        f"achieved | of the matrix-multiply peak, {peak / 1e9:,.0f} GFLOP/s |",
        "|---|---|---|---|---|---|---|",
    ]
    for key in ("alone", "with learner"):
        s = speed[key]
        words = "generator and teacher" + (" and learner" if key == "with learner" else "")
        lines.append(
            f"| {words} | {1e3 * s['step_seconds']:.1f} ms | {1e3 * s['bare_seconds']:.1f} ms | {s['ratio']:.2f} | "
            f"{s['flops'] / 1e9:.1f} GFLOP | {s['flops_per_second'] / 1e9:,.0f} GFLOP/s | "
            f"{s['flops_per_second'] / peak:.1%} (bare: {s['bare_flops_per_second'] / peak:.1%}) |"
        )
    return lines


def _curve_table(results: dict[str, Any]) -> list[str]:
    curves = results["curves"]
    k = curves["k"]
    lines = [
        f"| start | loss on held-out teachers at first | after {k} steps | steps to reach the meta-generator's |",
        "|---|---|---|---|",
    ]
    words = {"meta": "meta-generator", "joint": "trained jointly, as many gradients", "fresh": "fresh generator"}
    for start, name in words.items():
        mean = curves["mean"][start]
        needed = k if start == "meta" else curves["steps_to_match"][start]
        text = f"more than {len(mean) - 1}" if needed is None else str(needed)
        lines.append(f"| {name} | {mean[0]:.3f} | {mean[k]:.3f} | {text} |")
    return lines


def draw_losses(results: dict[str, Any], path: Path) -> None:
    """Loss against steps on held-out teachers, from each start."""
    curves = results["curves"]
    figure, axes = _axes("Inversion loss on teachers that nothing was trained on")
    words = {"meta": "meta-generator", "joint": "trained jointly", "fresh": "fresh generator"}
    for start, mean in curves["mean"].items():
        axes.plot(range(len(mean)), mean, color=COLORS[start], label=words[start], linewidth=1.8)
    k = curves["k"]
    axes.plot([k], [curves["after_k"]["meta"]], "o", color=COLORS["meta"])
    axes.axhline(curves["after_k"]["meta"], color=COLORS["meta"], linewidth=0.8, linestyle=":")
    match = curves["steps_to_match"]["fresh"]
    if match is not None:
        axes.plot([match], [curves["mean"]["fresh"][match]], "o", color=COLORS["fresh"])
        point = (match, curves["mean"]["fresh"][match])
        box = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
        axes.annotate(f"{match} fresh steps", point, (8, 14), textcoords="offset points", fontsize=9, bbox=box)
    axes.set(xscale="symlog", yscale="log", xlabel=f"steps (k = {k})", ylabel="loss")
    _plain_numbers(axes, (0, 1, 2, 5, 10, 20, 50, 100, 200))
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def draw_costs(results: dict[str, Any], path: Path) -> None:
    """Seconds a task against the number of tasks, with the number at which meta-training has paid off."""
    figure, axes = _axes("Seconds a recovered task, meta-training included")
    meta, methods = results["meta_training"]["seconds"], results["methods"]
    numbers = [10 ** (exponent / 10) for exponent in range(41)]
    costs = [amortized(meta, methods["five"]["seconds"], n) for n in numbers]
    axes.plot(numbers, costs, color=COLORS["five"], label=name_of("five", results), linewidth=1.8)
    for rival in ("fresh", "pixels"):
        seconds, even = methods[rival]["seconds"], results["break_even"][rival]
        axes.axhline(seconds, color=COLORS[rival], label=name_of(rival, results), linewidth=1.8)
        if even is not None:
            axes.plot([even], [amortized(meta, methods["five"]["seconds"], even)], "o", color=COLORS[rival])
            axes.annotate(f" {even} tasks", (even, seconds), va="bottom", fontsize=9)
    axes.set(xscale="log", yscale="log", xlabel="tasks", ylabel="seconds a task")
    _plain_numbers(axes, (1, 10, 100, 1_000, 10_000))
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def _plain_numbers(axes: Any, places: Sequence[float]) -> None:
    """Ticks of logarithmic axes as people write numbers."""
    axes.set_xticks(places, [f"{place:,}" for place in places], minor=False)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _axes(title: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(7, 4), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
