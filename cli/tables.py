"""The tables that the program prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from hf_free.cli.console import plain
from hf_free.cli.rows import Rows
from hf_free.provenance.against_teachers import against_teachers
from hf_free.runtime.text import decimal_size_text

if TYPE_CHECKING:
    from hf_free.provenance.results import EvaluationReport
    from hf_free.training.plan import TrainingPlan


def results_table(report: EvaluationReport) -> Group:
    """One row per method and shot, accuracy in percent with its 95 % interval; notes for the reader stand below.

    The last line says whether the learner beats its teachers, where they were measured.
    """
    first = report.rows[0]
    episodes = f"{first.n_way}-way, {first.n_query} queries per class, {first.episodes} episodes"
    rows = [
        (
            row.method,
            row.k_shot,
            "-" if row.accuracy is None else f"{row.accuracy:.2f}",
            "-" if row.interval is None else f"± {row.interval:.2f}",
            f"{row.seconds:.1f} ({row.scoring_seconds:.1f})",
        )
        for row in report.rows
    ]
    columns = ("Method", "Shot", "Accuracy", "95 % interval", "Seconds (scoring)")
    title = f"{report.dataset}, split {report.split}: {episodes}"
    said = [plain(sentence)] if (sentence := against_teachers(report)) else []
    return Group(Rows(columns, rows, title, numbers=frozenset(columns[1:])), *_notes(report), *said)


def _notes(report: EvaluationReport) -> list[Text]:
    """One line per note on the rows, with the shots that it is about."""
    shots: dict[tuple[str, str], list[str]] = {}
    for row in report.rows:
        if row.note:
            shots.setdefault((row.method, row.note), []).append(str(row.k_shot))
    notes = [f"{method}, {' and '.join(of)} shot: {note}" for (method, note), of in shots.items()]
    together = dict.fromkeys(row.seen_together for row in report.rows if row.seen_together)
    return [plain(note) for note in (*notes, *together)]


def plan_tables(planned: TrainingPlan) -> Group:
    """A table of the teachers, then what is left out, length, cost, memory and notes."""
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="bold", no_wrap=True)
    rows.add_column(overflow="fold")
    for reference, reason in planned.skipped:
        rows.add_row("Left out", plain(f"{reference}: {reason}"))
    rows.add_row("Length", _length(planned))
    each = "" if planned.processes == 1 else f"{planned.processes} processes, each on "
    rows.add_row("Device", f"{each}{planned.device}, mixed precision {planned.mixed_precision}")
    rows.add_row("Cost", "\n".join(_cost(planned)))
    rows.add_row("Memory", _memory(planned))
    for note in planned.notes:
        rows.add_row("Note", plain(note))
    return Group(_teachers_table(planned), rows)


def _teachers_table(planned: TrainingPlan) -> Rows:
    """One teacher per row."""
    count = f"{len(planned.teachers)} teacher{'' if len(planned.teachers) == 1 else 's'}"
    rows = []
    for record in planned.teachers:
        layers = ", ".join(f"{number} {name}" for name, number in record.normalization.items())
        size, is_hidden = "x".join(map(str, record.input_size)), record.answers_only  # a black box, which does not say
        rows.append(
            (
                record.reference,
                "unknown" if is_hidden else (record.commit or "local")[:8],
                f"{record.architecture}, {size}" + ("" if is_hidden else f", {layers or 'no normalization'}"),
                record.num_classes,
                "unknown" if is_hidden else decimal_size_text(record.weight_bytes),
                record.license or "not given",
            )
        )
    columns = ("Teacher", "Commit", "Network", "Classes", "Weights", "License")
    return Rows(columns, rows, f"{count}, method {planned.method}", numbers=frozenset({"Classes", "Weights"}))


def _length(planned: TrainingPlan) -> str:
    if planned.pools_first:
        return f"{planned.max_minutes:g} min: the teachers are pooled, then one network learns from that"
    limits = [] if planned.steps is None else [f"{planned.steps:,} outer steps"]
    limits += [] if planned.max_minutes is None else [f"{planned.max_minutes:g} min"]
    if not limits:
        return "no end"
    if planned.steps is None:
        fit = "as many" if planned.predicted_steps is None else f"about {planned.predicted_steps:,}"
        return f"{limits[0]}, {fit} outer steps" + (" as fit in" if planned.predicted_steps is None else "")
    return " or ".join(limits) + (", whichever ends first" if len(limits) > 1 else "")


def _cost(planned: TrainingPlan) -> list[str]:
    from hf_free.evaluation.flops import operations  # torch is slow to import

    cost = planned.cost
    if planned.pools_first:
        pooled = f"{operations(cost.pooled_view)}, {decimal_size_text(cost.pooled_bytes)}"
        asked = f"asking all teachers: {operations(cost.one_answer)} a picture"
        return [
            asked,
            f"the pooled learner, per view of a picture: {pooled}; the network's follow from what it starts from",
        ]
    several = "" if planned.processes == 1 else " in one process; what they say to each other comes on top"
    measured = [] if planned.step_seconds is None else [f"{planned.step_seconds:.3g} s an outer step, measured here"]
    measured = [f"{line}{several}" for line in measured]
    inverting = f"FIVE: {operations(cost.five_step)} an outer step, for about {cost.five_images:,} pictures"
    lines = [*measured, inverting]
    asks_all = cost.answers_a_step > 0
    if asks_all:
        asked = f"{operations(cost.one_answer)} a picture, {operations(cost.answers_a_step)} an outer step"
        lines += [f"asking all teachers: {asked}"]
    least = "" if asks_all else " at least"
    lines += [f"BELL: {operations(cost.bell_update)} an update,{least} {cost.bell_updates} an outer step"]
    one = f"{operations(cost.learner_view)}, {decimal_size_text(cost.learner_bytes)}"
    pooled = f"{operations(cost.pooled_view)}, {decimal_size_text(cost.pooled_bytes)} (hf-free pool)"
    lines += [f"the learner, per view of a picture: {one}" + (f"; pooled: {pooled}" if cost.pooled_view else "")]
    if planned.total_flops is not None:
        lines += [f"all steps together: {operations(planned.total_flops)}"]
    return lines


def _memory(planned: TrainingPlan) -> str:
    weights, images = decimal_size_text(planned.cost.teachers_bytes), decimal_size_text(planned.cost.memory_bytes)
    parts = f"teachers' weights {weights}, recovered pictures up to {images}"
    if planned.peak_memory is None:
        return f"{parts}; activations come on top"
    each = "" if planned.processes == 1 else " in each process"
    return f"about {decimal_size_text(planned.peak_memory)}{each} at its peak, measured here; of it {parts}"
