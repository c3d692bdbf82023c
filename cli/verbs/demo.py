"""`hf-free demo`: the whole path on one computer, in minutes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from hf_free.cli import options
from hf_free.cli.console import output_console, print_made, progress_console, write_json

EXAMPLES = options.examples("hf-free demo", "hf-free demo --seed 1 --output runs/demo-1")


def demo(
    output: Annotated[Path, typer.Option(metavar="DIR", rich_help_panel=options.OUTPUT, help="Run folder.")] = Path(
        "runs/demo"
    ),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", rich_help_panel=options.OUTPUT, help="Replace the run in --output.")
    ] = False,
    seed: options.Seed = 0,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """See it all work: teachers of digits 0 to 6, a learner made without their data, tested on digits 7 to 9.

    Nothing leaves this computer: the Hub is a small server on 127.0.0.1. Takes about three minutes on two cores.
    """
    from hf_free.training.folder import RunFolder
    from hf_free.training.run_lock import RunLock

    run = RunFolder(output)
    run.check_usable(overwrite=overwrite)
    with RunLock(output):  # a place that cannot be written to is found out before minutes of training
        pass
    from hf_free.demo.walkthrough import run_demo

    with run.set_aside(overwrite=overwrite):  # its `hf-free train` locks the folder
        if as_json or quiet:  # the story and what the commands print go to stderr
            results = run_demo(output, seed, progress_console(), commands_to=sys.stderr)
        else:
            results = run_demo(output, seed, output_console())
    if as_json:
        write_json({"output": str(output), "results": results})
    elif quiet:
        print_made(output)
