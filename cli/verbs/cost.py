"""`hf-free cost`: operations of a picture's forward and backward pass, for any teacher and for the paper's table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from hf_free.cli import options
from hf_free.cli.console import output_console, say, write_json
from hf_free.cli.rows import Rows
from hf_free.cli.teacher_rows import fail_if_none_is_usable, say_unusable, teacher_rows
from hf_free.errors import ConfigError
from hf_free.hub.names import ENDPOINT
from hf_free.provenance.reading import Json

if TYPE_CHECKING:
    from hf_free.teachers.teacher import Teacher

EXAMPLES = options.examples(
    "hf-free cost",
    "hf-free cost timm/test_resnet.r160_in1k ./local-model",
    "hf-free cost @teachers.txt --json",
)
INCLUDED = (
    "Counted: matrix products and convolutions, two operations a multiply-add. Backward: toward the picture only, as "
    "teachers are frozen. Not counted: normalization, activations, pooling, resizing."
)


def cost(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help="Hub ids, folders, @list.txt or list.yaml. Default: the paper's networks."),
    ] = None,
    own_networks: options.Import = None,
    revision: options.Revision = None,
    token: options.Token = None,
    cache_dir: options.CacheDir = None,
    as_json: options.Json = False,
) -> None:
    """Count the operations per image of a teacher; without an ID, compare our count with the paper's table."""
    if not models:
        given = {"--import": own_networks, "--revision": revision, "--token": token, "--cache-dir": cache_dir}
        if useless := next((flag for flag, value in given.items() if value is not None), None):
            raise ConfigError(f"{useless} without an ID", action=f"name a model, or leave {useless} out")
        from hf_free.evaluation.flops import published_rows

        published = published_rows()
        _show(published, _published_table(published), as_json=as_json)
        return
    if address := next((model for model in models if model.startswith(ENDPOINT)), None):
        raise _black_box(address)
    rows = teacher_rows(models, _count, own_networks=own_networks, revision=revision, token=token, cache_dir=cache_dir)
    if not as_json:
        say_unusable(rows)
    usable = [row for row in rows if row["usable"]]
    if usable or as_json:
        _show(rows, _models_table(usable), as_json=as_json)
    fail_if_none_is_usable(rows)


def _black_box(address: str) -> ConfigError:
    return ConfigError(
        f"{address} is a black box: what it computes is not known",
        allowed="models whose weights are available",
        action="hf-free inspect says what a black box answers",
    )


def _show(rows: Sequence[Json], table: Table | Rows, *, as_json: bool) -> None:
    if as_json:
        write_json(rows)
        return
    output_console().print(table)
    say(INCLUDED)


def _count(teacher: Teacher) -> Json:
    from hf_free.evaluation.flops import count

    if teacher.record.answers_only:  # of a list
        raise _black_box(teacher.record.reference)
    passes = count(teacher)
    return {
        "architecture": teacher.record.architecture,
        "parameters": teacher.record.parameters,
        "input_size": list(teacher.record.input_size),
        "forward_flops": passes.forward_flops,
        "backward_flops": passes.backward_flops,
    }


def _models_table(rows: Sequence[Json]) -> Rows:
    from hf_free.evaluation.flops import operations
    from hf_free.runtime.text import count_text

    listed = [
        (
            row["reference"],
            row["architecture"],
            count_text(row["parameters"]),
            "x".join(map(str, row["input_size"])),
            operations(row["forward_flops"]),
            operations(row["backward_flops"]),
        )
        for row in rows
    ]
    columns = ("Model", "Architecture", "Parameters", "Input", "Forward", "Backward")
    return Rows(columns, listed, numbers=frozenset(columns[2:]))


def _published_table(rows: Sequence[Json]) -> Table:
    sizes = sorted({row["image_size"] for row in rows})
    table = Table(title="GFLOPs of one picture's backward pass: published / counted", title_justify="left")
    table.add_column("Network")
    table.add_column("Counted on")
    for size in sizes:
        table.add_column(f"{size}x{size}", justify="right")
    for name in dict.fromkeys(row["network"] for row in rows):
        of_name = {row["image_size"]: row for row in rows if row["network"] == name}
        cells = [f"{of_name[size]['published']:.2f} / {of_name[size]['counted']:.2f}" for size in sizes]
        table.add_row(name, of_name[sizes[0]]["architecture"], *cells)
    return table
