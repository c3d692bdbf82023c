"""What `inspect` and `cost` share: one row per teacher named on the command line, and messages about unusable ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from hf_free.backbones.custom import import_networks
from hf_free.cli.arguments import expand_list_files
from hf_free.cli.console import say, warn
from hf_free.errors import HfFreeError, TeacherReferenceError
from hf_free.provenance.reading import Json
from hf_free.teachers.listing import Resolver, resolve_without_hub

if TYPE_CHECKING:
    from pathlib import Path

    from hf_free.teachers.reference import TeacherReference
    from hf_free.teachers.teacher import Teacher


def one_reference(text: str, revision: str | None) -> TeacherReference:
    """The reference of one teacher; `revision` fills in where the text has none of its own.

    Raises:
        TeacherReferenceError: a text that names no teacher, or several.
    """
    references = resolve_without_hub([text])
    if len(references) > 1:
        raise TeacherReferenceError(
            f"{text!r} stands for {len(references)} teachers", allowed="one teacher", action=f"e.g. {references[0]}"
        )
    return at_revision(references[0], revision)


def at_revision(reference: TeacherReference, revision: str | None) -> TeacherReference:
    """The reference; `revision` fills in where it has none of its own."""
    if revision is not None and reference.is_local:
        warn(f"{reference} is a folder: it has no revision {revision!r}")
    if revision is None or reference.is_local or reference.revision is not None:
        return reference
    return replace(reference, revision=revision)


def teacher_rows(
    models: Sequence[str],
    describe: Callable[[Teacher], Mapping[str, object]],
    *,
    own_networks: Path | None,
    revision: str | None,
    token: str | None,
    cache_dir: Path | None,
) -> list[Json]:
    """Load the models one after the other and describe each.

    Args:
        models: Hub ids, folders, `@list.txt`, YAML lists, collections.
        describe: What a row says of a model that can be used.
        own_networks: A file that registers networks with timm.
        revision: Revision of models that are named without one.
        token: Hub token.
        cache_dir: Folder of the download cache.

    Returns:
        One row per model: `reference`, `usable`, `reason` (None where it can be used), and what `describe` says.
    """
    from hf_free.teachers.loader import load_teacher

    import_networks([own_networks] if own_networks else [])
    rows, resolver = [], Resolver(token=token)
    for text in expand_list_files(models):
        try:
            references = resolver.references(text)
        except TeacherReferenceError as error:
            rows.append({"reference": text, "usable": False, "reason": str(error)})
            continue
        for reference in references:
            row: Json = {"reference": str(reference), "usable": True, "reason": None}
            try:
                teacher = load_teacher(at_revision(reference, revision), token=token, cache_dir=cache_dir)
                row |= describe(teacher)
            except HfFreeError as error:
                row |= {"usable": False, "reason": str(error)}
            rows.append(row)
    return rows


def say_unusable(rows: Sequence[Mapping[str, object]]) -> None:
    """Say for each unusable model why it cannot be used."""
    for row in rows:
        if not row["usable"]:
            say(f"{row['reference']} cannot be used: {row['reason']}")


def fail_if_none_is_usable(rows: Sequence[Mapping[str, object]]) -> None:
    """End the program with 1 unless at least one model can be used."""
    if not any(row["usable"] for row in rows):
        raise typer.Exit(1)
