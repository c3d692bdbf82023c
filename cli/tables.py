"""The tables that the program prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from hf_free.cli.console import plain

if TYPE_CHECKING:
    from hf_free.provenance.results import EvaluationReport


def results_table(report: EvaluationReport) -> Table:
    """One row per method and shot, accuracy in percent with its 95 % interval; what all rows share is in the title."""
    first = report.rows[0]
    episodes = f"{first.n_way}-way, {first.n_query} queries per class, {first.episodes} episodes"
    table = Table(title=plain(f"{report.dataset}, split {report.split}: {episodes}"), title_justify="left")
    table.add_column("Method", overflow="fold")
    for title in ("Shot", "Accuracy", "95 % interval", "Seconds (scoring)"):
        table.add_column(title, justify="right", no_wrap=True)
    notes = ["; ".join(part for part in ("" if r.inductive else "transductive", r.note) if part) for r in report.rows]
    if any(notes):
        table.add_column("Note", overflow="fold")
    for row, note in zip(report.rows, notes, strict=True):
        cells = (
            row.method,
            row.k_shot,
            "-" if row.accuracy is None else f"{row.accuracy:.2f}",
            "-" if row.interval is None else f"± {row.interval:.2f}",
            f"{row.seconds:.1f} ({row.scoring_seconds:.1f})",
            *([note] if any(notes) else []),
        )
        table.add_row(*map(plain, cells))
    return table
