"""A report on runs: one HTML page that needs no network, no script and no other file.

What runs and repositories say is text: Jinja escapes all of it, and the page's own policy lets nothing be loaded.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import groupby

import jinja2
import numpy as np
import yaml
from markupsafe import Markup
from PIL import Image

from hf_free.config.tree import departures
from hf_free.provenance.against_teachers import against_teachers
from hf_free.provenance.recorded_teacher import RecordedTeacher
from hf_free.provenance.results import EvaluationReport, ResultRow
from hf_free.publishing.facts import Fact, record_facts
from hf_free.publishing.results import is_own_row
from hf_free.reporting.loss_curves import TITLES, log_curves
from hf_free.reporting.reported_run import ClassPictures, ReportedRun
from hf_free.reporting.vector_plots import SERIES, curves_svg, dashes, map_svg, shape
from hf_free.runtime.text import count_text, format_classes, one_line, printable
from hf_free.version import __version__

_MOST_GROUPS = 12
"""Up to this many teachers have headings of their own above their pictures; with more, each caption names its
teacher."""
_LONG_TABLE = 20
"""Teachers above which the table is folded."""
_NONE = "–"


def report_page(runs: Sequence[ReportedRun]) -> str:
    """The page as text.

    Args:
        runs: At least one; several stand side by side.
    """
    title = f"hf-free report: {', '.join(one_line(run.name) for run in runs)}"
    panels = _panels(runs)
    sections = [("overview", "Overview"), ("results", "Results")]
    sections += [("curves", "Learning curves")] if panels else []
    sections += [(f"run-{place}", one_line(run.name)) for place, run in enumerate(runs)]
    template = files("hf_free.reporting.templates").joinpath("report.html.jinja").read_text(encoding="utf-8")
    return render_page(
        template,
        title=title,
        subtitle="A few-shot learner and its teachers" if len(runs) == 1 else f"{len(runs)} runs side by side",
        sections=sections,
        facts=_facts(runs),
        results=list(_results(runs)),
        panels=panels,
        curves_note=_curves_note(runs),
        run_marks=[(line_mark(place), run.name) for place, run in enumerate(runs) if run.log],
        runs=[_shown(run, place) for place, run in enumerate(runs)],
    )


def render_page(template: str, **values: object) -> str:
    """A page in the style of the reports; texts are escaped, `Markup` is not.

    Args:
        template: Jinja's, with `style` and `version` besides the values.
        values: What it shows.
    """
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else printable(value, keep="\n"),
    )
    style = files("hf_free.reporting.templates").joinpath("report.css").read_text(encoding="utf-8")
    return environment.from_string(template).render(version=__version__, style=Markup(style), **values)


# ---- overview


def _facts(runs: Sequence[ReportedRun]) -> list[tuple[str, list[str]]]:
    """Rows of the overview, a value per run."""
    each = [dict(_facts_of(run)) for run in runs]
    names = max(each, key=len) | {name: "" for facts in each for name in facts}
    return [(name, [facts.get(name, _NONE) for facts in each]) for name in names]


def _facts_of(run: ReportedRun) -> list[Fact]:
    facts = record_facts(run.record)
    return facts if run.is_finished else [("Kind", "not finished"), *facts[1:]]


# ---- results


@dataclass(frozen=True)
class _Table:
    """Accuracies on one data set."""

    place: str
    caption: str
    columns: list[str]
    methods: list[tuple[str, bool, list[str]]]
    notes: list[str]


def _results(runs: Sequence[ReportedRun]) -> Iterable[_Table]:
    """A table per data set: rows of methods, columns of ways and shots; several runs' rows bear their names."""
    found: dict[str, list[tuple[str, EvaluationReport]]] = {}
    for run in runs:
        for report in run.record.results:
            if report.rows:
                found.setdefault(report.place, []).append((run.name, report))
    for place, reports in found.items():
        prefix = len(runs) > 1
        columns = sorted({(row.n_way, row.k_shot) for _, report in reports for row in report.rows})
        methods: dict[tuple[str, str], dict[tuple[int, int], ResultRow]] = {}
        for name, report in reports:
            for row in report.rows:
                methods.setdefault((name, row.method), {})[row.n_way, row.k_shot] = row
        yield _Table(
            place,
            f"Accuracy in percent with 95 % interval; {'; '.join(dict.fromkeys(_episodes(r) for _, r in reports))}",
            [f"{way}-way {shot}-shot" for way, shot in columns],
            [
                (
                    f"{name}: {method}" if prefix else method,
                    is_own_row(method),
                    [_accuracy(rows.get(column)) for column in columns],
                )
                for (name, method), rows in methods.items()
            ],
            list(dict.fromkeys(_notes(reports, prefix))),
        )


def _episodes(report: EvaluationReport) -> str:
    counts = sorted({(row.episodes, row.n_query) for row in report.rows})
    said = ", ".join(f"{episodes} episodes with {queries} queries per class" for episodes, queries in counts)
    return said + ("" if report.seed is None else f", seed {report.seed}")


def _notes(reports: Iterable[tuple[str, EvaluationReport]], prefix: bool) -> Iterable[str]:
    for name, report in reports:
        whose = f"{name}: " if prefix else ""
        for row in report.rows:
            if row.note:
                yield f"{whose}{row.method}: {row.note}"
            if row.seen_together:
                yield f"{whose}{row.seen_together}"
        if verdict := against_teachers(report):
            yield f"{whose}{verdict}"
        yield from (f"{whose}Mind: {warning}" for warning in report.warnings)


def _accuracy(row: ResultRow | None) -> str:
    if row is None or row.accuracy is None:
        return _NONE
    return f"{row.accuracy:.2f}" + ("" if row.interval is None else f" ± {row.interval:.2f}")


# ---- curves


def _panels(runs: Sequence[ReportedRun]) -> list[tuple[str, Markup, str]]:
    """(name, figure, last values) of each number that a log holds."""
    curves = [log_curves(run.log) for run in runs]
    names = list(dict.fromkeys(name for found in curves for name in found))
    empty = (np.empty(0), np.empty(0))
    panels = []
    for place, name in enumerate(names):
        series = {run.name: found.get(name, empty) for run, found in zip(runs, curves, strict=True)}
        ends = [(run, values[-1]) for run, (_, values) in series.items() if len(values)]
        last = "; ".join(f"{value:.3g}" if len(runs) == 1 else f"{run} {value:.3g}" for run, value in ends)
        title = TITLES.get(name, name.replace("_", " "))
        svg = curves_svg(f"{title}, by step", series, key=f"curve{place}")
        panels.append((title, Markup(svg), f"At the end: {last}"))
    return panels


def _curves_note(runs: Sequence[ReportedRun]) -> str:
    note = "Each panel shows a number of the log against the step."
    return f"{note} The thin line is each value, the thick one a running mean." if len(runs) == 1 else note


def line_mark(place: int) -> Markup:
    """The legend's mark of the run at that place."""
    line = (
        '<svg viewBox="0 0 26 14" aria-hidden="true"><path class="s{} curve" stroke-dasharray="{}" d="M0 7H26"/></svg>'
    )
    return Markup(line).format(place % SERIES, dashes(place))


# ---- a run


@dataclass(frozen=True)
class _Teacher:
    name: str
    architecture: str
    parameters: str
    input: str
    classes: str
    normalization: str
    license: str
    commit: str


@dataclass(frozen=True)
class _Shown:
    """A run's section, ready to print."""

    name: str
    anchor: str
    is_finished: bool
    method: str
    groups: list[tuple[str, list[tuple[str, str, str, int, int]]]]
    pictures_note: str
    map: Markup | None
    map_marks: list[tuple[Markup, str]]
    views: str
    views_alt: str
    teachers: list[_Teacher]
    is_folded: bool
    skipped: list[tuple[str, str]]
    tasks_left_out: list[tuple[str, str]]
    departures: list[tuple[str, str]]
    configuration: str


def _shown(run: ReportedRun, place: int) -> _Shown:
    record, drawn = run.record, run.class_map
    system, config = record.method, record.config
    figure = None
    if drawn is not None:
        figure = Markup(map_svg("Map of classes", drawn.points, drawn.labels, drawn.names, key=f"map{place}"))
    skipped = [
        (
            entry.reference,
            one_line(entry.reason) + (" (asked about every picture all the same)" if entry.asked else ""),
        )
        for entry in record.skipped
    ]
    return _Shown(
        name=run.name,
        anchor=f"run-{place}",
        is_finished=run.is_finished,
        method=f"{system.title}. {system.paper}".strip(". ") if system.title else "",
        groups=_groups(run.recovered),
        pictures_note=_pictures_note(run),
        map=figure,
        map_marks=[(_point_mark(at), name) for at, name in enumerate(drawn.names)] if drawn is not None else [],
        views=data_uri(run.views) if run.views else "",
        views_alt=f"A map (t-SNE) of the same recovered pictures for each of several teachers of {run.name}: "
        "teachers of different tasks order them differently",
        teachers=[_teacher(*pair) for pair in zip(record.teachers, run.teachers, strict=True)],
        is_folded=len(record.teachers) > _LONG_TABLE,
        skipped=list(dict.fromkeys(skipped)),
        tasks_left_out=[(_tasks(count), one_line(why)) for why, count in record.left_out.items()],
        departures=[(key, str(value)) for key, value in departures(config).items()] if not run.is_pooled else [],
        configuration=yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=100) if config else "",
    )


def _tasks(count: object) -> str:
    return f"{count} recovered task{'' if count == 1 else 's'}"


def _teacher(teacher: RecordedTeacher, name: str) -> _Teacher:
    chosen = f", classes {format_classes(teacher.classes)}" if teacher.classes is not None else ""
    return _Teacher(
        name=name + chosen,
        architecture=teacher.architecture or _NONE,
        parameters=_NONE if teacher.parameters is None else count_text(teacher.parameters),
        input="×".join(teacher.input_size) or _NONE,
        classes=_NONE if teacher.num_classes is None else str(teacher.num_classes),
        normalization=", ".join(f"{number} × {kind}" for kind, number in teacher.normalization.items()) or "none",
        license=teacher.license or "none stated",
        commit=teacher.commit[:8] or _NONE,
    )


def _pictures_note(run: ReportedRun) -> str:
    if not run.recovered:
        return "Its pictures were not kept." if run.record.recovered.images or run.classes_in_all else ""
    classes, pictures = len(run.recovered), sum(len(one.pixels) for one in run.recovered)
    shown = f"{pictures} pictures of {classes} class{'' if classes == 1 else 'es'}"
    return (
        f"Made from the teachers' weights by model inversion, from no data. Shown: {shown}, "
        f"of {run.pictures_in_all} pictures of {run.classes_in_all} classes that were kept."
    )


def _groups(recovered: Sequence[ClassPictures]) -> list[tuple[str, list[tuple[str, str, str, int, int]]]]:
    """Teacher -> (class, PNG, alternative text, width, height) of its classes."""
    widest = max((len(one.pixels) for one in recovered), default=0)
    groups = []
    is_one_group = len({one.teacher for one in recovered}) > _MOST_GROUPS
    for teacher, members in groupby(recovered, key=lambda one: "" if is_one_group else one.teacher):
        strips = []
        for one in members:
            pixels = one.strip(widest)
            count = len(one.pixels)
            alt = f"{count} picture{'' if count == 1 else 's'} recovered from {one.teacher} for its class {one.label}"
            label = f"{one.teacher}: {one.label}" if is_one_group else one.label
            strips.append((label, png_uri(pixels), one_line(alt), pixels.shape[1], pixels.shape[0]))
        groups.append((teacher, strips))
    return groups


def png_uri(pixels: np.ndarray) -> str:
    """Pixels (h, w, 3 or 4) uint8 as the address of an `<img>`."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="png", optimize=True)
    return data_uri(file.getvalue())


def data_uri(png: bytes) -> str:
    """A PNG file as the address of an `<img>`."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _point_mark(place: int) -> Markup:
    mark = '<svg viewBox="-13 -7 26 14" aria-hidden="true"><path class="s{} mark" d="{}"/></svg>'
    return Markup(mark).format(place % SERIES, shape(place))
