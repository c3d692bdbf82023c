"""`hf-free report`: a page about one or more runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_free.cli import options
from hf_free.cli.console import output_console, plain, print_made, say, write_json
from hf_free.runtime.text import decimal_size_text

EXAMPLES = options.examples(
    "hf-free report runs/first",
    "hf-free report runs/first runs/second --output compared.html",
    "hf-free report pooled --results results.json",
)


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", help="Run folders, or learners' folders; several stand side by side."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=options.OUTPUT,
            help="A .html file. Default: report.html in the first RUN; of a learner, beside its folder.",
        ),
    ] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="JSON",
            rich_help_panel=options.DATA,
            help="Further results of the first RUN, from hf-free evaluate --output; its own results.json is found.",
        ),
    ] = None,
    draws_map: Annotated[
        bool,
        typer.Option("--map/--no-map", rich_help_panel=options.OUTPUT, help="Draw how the learner sees its classes."),
    ] = True,
    own_networks: options.Import = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a page about runs: curves, recovered pictures, teachers, results, configuration, cost.

    It is one file that needs no network and no scripts. Private teachers are not named on it.
    """
    if output is not None:
        options.check_output_file(output, (".html", ".htm"))
    from hf_free.backbones.custom import import_networks
    from hf_free.training.report import default_page
    from hf_free.training.report import report as write_report

    import_networks([own_networks] if own_networks else [])
    file = output or default_page(runs[0])
    say("Reading")
    written = write_report(runs, file, results=results or (), draws_map=draws_map)
    size = written.stat().st_size
    if as_json:
        write_json({"report": str(written), "bytes": size, "runs": [str(run) for run in runs]})
    elif quiet:
        print_made(written)
    else:
        output_console().print(plain(f"Report: {written}, {decimal_size_text(size)}"), soft_wrap=True)
