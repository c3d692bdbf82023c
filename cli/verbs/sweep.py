"""`hf-free sweep`: which of timm's architectures can be teachers on this machine, tried out one by one."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_free.cli import options
from hf_free.cli.console import output_console, print_made, progress_bar, say, write_json
from hf_free.cli.rows import Rows
from hf_free.errors import ConfigError
from hf_free.runtime.files import read_bounded
from hf_free.runtime.storage import storage_explained

if TYPE_CHECKING:
    from hf_free.evaluation.timm_sweep import SweepRow

MOST_BYTES = 2**26
"""Most that is read of an earlier sweep: a row has some hundred bytes, and timm some hundred modules."""

BEGIN = b'{"module": "'
"""What each row begins with, by which one that was cut short is known."""

EXAMPLES = options.examples(
    "hf-free sweep resnet vision_transformer convnext",
    "hf-free sweep --output sweep.jsonl",
    "hf-free sweep --output sweep.jsonl --resume --strict",
)


def sweep(
    modules: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODULE", help="Module names, as timm.list_modules() gives them. Default: all."),
    ] = None,
    max_parameters: Annotated[
        int,
        typer.Option(
            parser=options.whole(1),
            metavar="INTEGER",
            help="A module whose smallest model is larger is tested with a reduced one.",
        ),
    ] = 30_000_000,
    output: Annotated[
        Path | None,
        typer.Option(metavar="JSONL", rich_help_panel=options.OUTPUT, help="Write one line per module to this file."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", rich_help_panel=options.OUTPUT, help="Skip modules that are in --output already."),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", rich_help_panel=options.OUTPUT, help="Fail if any module fails.")
    ] = False,
    as_json: options.Json = False,
    quiet: options.QuietList = False,
) -> None:
    """Test one small model of each timm module as a teacher: loading, answers, one step of FIVE and of BELL.

    With --quiet the modules that passed are named.
    """
    if output is not None:
        options.check_output_file(output, (".jsonl",))
    if resume and output is None:
        raise ConfigError("--resume without --output", action="name the file: hf-free sweep --output FILE --resume")
    if output is not None and output.exists() and not output.is_file():  # a pipe would be waited for
        raise ConfigError(f"--output {output} is no regular file", allowed="a new file", action="name another one")
    if output is not None and output.is_file() and not resume:
        raise ConfigError(f"{output} exists", allowed="a new file", action="add --resume, or remove it")
    from hf_free.evaluation.timm_sweep import list_modules
    from hf_free.evaluation.timm_sweep import sweep as run_sweep

    known = list_modules()
    unknown = [name for name in modules or () if name not in known]
    if unknown:
        raise ConfigError(f"timm has no module {unknown[0]!r}", allowed=", ".join(known))
    rows: list[SweepRow] = []
    if output is not None and output.is_file():
        rows = _read(output)
        _cut_torn_line(output)
    done = {row.module for row in rows}
    wanted = [name for name in dict.fromkeys(modules or known) if name not in done]
    with progress_bar() as show:
        for row in run_sweep(
            wanted,
            max_parameters=max_parameters,
            begin=lambda name: show(name, wanted.index(name), len(wanted)),
        ):
            rows.append(row)
            if output is not None:
                _append(output, row)
    rows = [row for row in rows if not modules or row.module in modules]  # --output may hold others
    if as_json:
        write_json([row.to_dict() for row in rows])
    elif quiet:
        _name_passed(rows)
    else:
        _show(rows)
    if strict and any(row.outcome == "failed" for row in rows):
        raise typer.Exit(1)


def _read(path: Path) -> list[SweepRow]:
    """The rows of an earlier sweep; a last line that was cut short is left out.

    Raises:
        ConfigError: a file that no sweep wrote.
    """
    from hf_free.evaluation.timm_sweep import SweepRow

    try:
        lines = read_bounded(path, max_bytes=MOST_BYTES).splitlines(keepends=True)
        rows = [SweepRow.from_dict(json.loads(line)) for line in lines if line.endswith(b"\n")]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ConfigError(f"{path} is not a result of hf-free sweep", action="name another file") from None
    torn = b"".join(line for line in lines if not line.endswith(b"\n")).rstrip(b"\0")  # zeros: power was lost
    if not torn.startswith(BEGIN[: len(torn)]):
        raise ConfigError(f"the end of {path} is not of hf-free sweep", action="name another file")
    return rows


def _cut_torn_line(path: Path) -> None:
    """Remove a last line that was cut short, or the next row would be appended to it."""
    whole = path.read_bytes().rfind(b"\n") + 1
    with path.open("r+b") as file:
        file.truncate(whole)


def _append(path: Path, row: SweepRow) -> None:
    """Add a row; where there is no space for it the file is as it was, and is not there where it was not.

    Raises:
        StorageError: it cannot be written there.
    """
    line = (json.dumps(row.to_dict()) + "\n").encode()
    whole = path.stat().st_size if path.exists() else None
    safe = "the rows before are whole: the same command with --resume goes on after them" if whole else ""
    try:
        with storage_explained(path, needed=len(line), safe=safe), path.open("ab") as file:
            file.write(line)
    except BaseException:
        with suppress(OSError):
            if whole is None:
                path.unlink(missing_ok=True)
            else:
                os.truncate(path, whole)
        raise


def _name_passed(rows: Sequence[SweepRow]) -> None:
    for row in rows:
        if row.outcome == "passed":
            print_made(row.module)


def _show(rows: Sequence[SweepRow]) -> None:
    listed = []
    for row in sorted(rows, key=lambda row: row.outcome != "passed"):
        model = row.model or ""
        if row.model_args:
            model += " (" + ", ".join(f"{key} {value}" for key, value in row.model_args.items()) + ")"
        listed.append(
            (
                row.module,
                model,
                f"{row.parameters / 1e6:.2f} M" if row.parameters else "",
                "x".join(map(str, row.input_size)),
                ", ".join(f"{count} {name}" for name, count in row.normalization.items()),
                row.outcome,
                f"{sum(row.seconds.values()):.1f}",
            )
        )
    columns = ("Module", "Model", "Parameters", "Input", "Normalization", "Result", "Seconds")
    output_console().print(Rows(columns, listed, numbers=frozenset({"Parameters", "Seconds"})))
    for row in rows:
        if row.outcome != "passed":
            say(f"{row.module}: {row.outcome}" + (f" ({row.model})" if row.model else "") + f": {row.reason}")
    counts = Counter(row.outcome for row in rows)
    say(", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()))
