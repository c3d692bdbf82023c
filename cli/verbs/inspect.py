"""`hf-free inspect`: what a teacher is, and whether it can be used."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from hf_free.cli import options
from hf_free.cli.console import output_console, plain, print_made, say, write_json
from hf_free.cli.rows import Rows
from hf_free.cli.teacher_rows import fail_if_none_is_usable, say_unusable, teacher_rows
from hf_free.provenance.reading import Json
from hf_free.runtime.text import figure_text

if TYPE_CHECKING:
    from hf_free.provenance.teacher_record import TeacherRecord
    from hf_free.teachers.teacher import Teacher

EXAMPLES = options.examples(
    "hf-free inspect timm/test_resnet.r160_in1k timm/test_vit.r160_in1k",
    "hf-free inspect org/model@v2 ./local-model --json",
    "hf-free inspect @teachers.txt --measure",
    "hf-free inspect @found.txt -q > teachers.txt",
    "hf-free inspect ./my-model --import my_networks.py",
)
_UNKNOWN = "unknown"
"""What is shown of a fact that a black box does not tell; null in JSON."""

_NAMES_SHOWN = 6
"""Label names in a row of the table; --json has them all."""


def inspect(
    models: Annotated[list[str], typer.Argument(metavar="ID", help="Hub ids, folders, @list.txt or list.yaml.")],
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Also rate how well each can be inverted; takes some seconds per model."),
    ] = False,
    own_networks: options.Import = None,
    revision: options.Revision = None,
    token: options.Token = None,
    cache_dir: options.CacheDir = None,
    as_json: options.Json = False,
    quiet: options.QuietList = False,
) -> None:
    """Show what each model is and whether it can serve as a teacher. Fails only if none can.

    With --quiet the models that can are named.
    """
    found = teacher_rows(
        models,
        partial(describe, measure=measure),
        own_networks=own_networks,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
    )
    rows = [{"record": None, **row} for row in found]
    if as_json:
        write_json(rows)
    elif quiet:
        for row in rows:
            if row["usable"]:
                print_made(row["reference"])
        say_unusable(rows)
    else:
        if any(row["usable"] for row in rows):
            output_console().print(_table(rows))
        if measure and any(row["usable"] for row in rows):
            output_console().print(_inversion_table(rows))
        elif any(row["usable"] for row in rows):
            say("--measure inverts each for a few steps and says how well that goes.")
        say_unusable(rows)
    fail_if_none_is_usable(rows)


def describe(teacher: Teacher, *, measure: bool = False) -> Json:
    """A model's row: its record, its cost, and with `measure` how well it can be inverted.

    Of a black box parameters, layers, operations and commit are None: it answers, and computes elsewhere.
    """
    from hf_free.evaluation.flops import count

    record, cost = teacher.record, count(teacher)
    row = {"record": record.to_dict(), **_summary(record)}
    row |= {"forward_flops": cost.forward_flops, "backward_flops": cost.backward_flops}
    if record.answers_only:
        hidden = ("parameters", "normalization", "batchnorm", "forward_flops", "backward_flops")
        return row | dict.fromkeys(hidden)
    if measure:
        from hf_free.evaluation.invertibility import measure_invertibility

        row["inversion"] = measure_invertibility(teacher).to_dict()
    return row


def _summary(record: TeacherRecord) -> Json:
    channels, height, width = record.input_size
    described = [text.split(",")[0] for text in record.label_descriptions or ()]  # ImageNet's names are numbers
    names = described or list(record.label_names or ())
    shown = ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
    return {
        "architecture": record.architecture,
        "parameters": record.parameters,
        "input": f"{height}x{width}" + (" (fixed)" if record.fixed_input_size else ""),
        "channels": channels,
        "classes": record.num_classes,
        "labels": shown,
        "normalization": ", ".join(f"{count} {name}" for name, count in record.normalization.items()),
        "batchnorm": record.has_batchnorm,
        "license": record.license,
        "commit": record.commit,
        "access": "private" if record.private else "gated" if record.gated else "public",
    }


def _inversion_table(rows: Sequence[Json]) -> Rows:
    """Results of five steps of inversion from a fresh generator, one row per model."""
    from hf_free.evaluation.invertibility import LEGEND

    listed = []
    for row in rows:
        found = row.get("inversion")
        if found is None:
            continue
        loss = "not finite" if found["loss"] is None else figure_text(found["loss"])
        facts = {
            "Recognized": f"{found['recognized']:.0%}",
            "Loss (chance)": f"{loss} ({found['chance']:.2f})",
            "Diversity": "-" if found["diversity"] is None else f"{found['diversity']:.2f}",
            "BatchNorm distance": "-" if found["statistics"] is None else figure_text(found["statistics"]),
            "Steps": found["steps"],
            "Pictures": found["images"],
        }
        listed.append((row["reference"], found["verdict"], _lines(facts)))
    columns = ("Model", "Verdict", "What was found")
    return Rows(columns, listed, "Inverted from a fresh generator", LEGEND, lines=True)


def _lines(facts: Json) -> Text:
    return plain("\n".join(f"{name}: {value}" for name, value in facts.items()))


def _table(rows: Sequence[Json]) -> Rows:
    listed = [
        (
            row["reference"],
            Text("yes", style="green") if row["usable"] else Text("no", style="red"),
            _lines(_facts(row)) if row["usable"] else "see below",
        )
        for row in rows
    ]
    caption = "Cost: of one picture, forward + back to the picture (hf-free cost says what is counted)"
    return Rows(("Model", "Usable", "What was found"), listed, caption=caption, lines=True)


def _facts(row: Json) -> dict[str, str]:
    """The cell of a usable model, one line per fact; notes say which parts of its config.json are not used."""
    from hf_free.evaluation.flops import operations
    from hf_free.inversion.differentiable import NO_GRADIENT
    from hf_free.runtime.text import count_text

    costs = None if row["forward_flops"] is None else (row["forward_flops"], row["backward_flops"])
    notes = [*row["record"]["notes"], *([] if costs is None or costs[1] else [f"{NO_GRADIENT}: it is not inverted"])]
    layers = (row["normalization"] or "none") + ("" if row["batchnorm"] else " (no BatchNorm)")
    return {
        "Architecture": row["architecture"],
        "Parameters": _UNKNOWN if row["parameters"] is None else count_text(row["parameters"]),
        "Cost": _UNKNOWN if costs is None else " + ".join(map(operations, costs)),
        "Input": f"{row['channels']}x{row['input']}",
        "Classes": str(row["classes"]),
        "Labels": row["labels"] or "no names",
        "Normalization": _UNKNOWN if row["normalization"] is None else layers,
        "License": row["license"] or "not given",
        "Commit": _UNKNOWN if row["record"]["answers_only"] else (row["commit"] or "local")[:8],
        **({"Note": "; ".join(notes)} if notes else {}),
    }
