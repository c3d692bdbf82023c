"""Teachers' files in a pooled learner's own folder, where their licenses allow redistribution."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hf_free.errors import ConfigError, TeacherError
from hf_free.hub.snapshot import fetch_snapshot
from hf_free.learner.pooled_files import teacher_folder
from hf_free.provenance.teacher_record import FILES, PIXEL_FILES, TeacherRecord
from hf_free.publishing.metadata import PERMISSIVE
from hf_free.runtime.files import sha256_of
from hf_free.runtime.given import from_home
from hf_free.runtime.text import listed
from hf_free.teachers.reference import TeacherReference
from hf_free.teachers.source import read_config, weights_name


def check_may_include(records: Sequence[TeacherRecord]) -> None:
    """Refuse to redistribute teachers' weights unless the license of each allows it.

    Raises:
        ConfigError: with the teachers whose licenses do not say so.
    """
    others = [
        f"{record.reference} ({record.license or 'no license stated'})"
        for record in records
        if (record.license or "").lower() not in PERMISSIVE or record.is_hidden
    ]
    if others:
        raise ConfigError(
            f"--include-weights would hand on {listed(others)}",
            allowed=f"public teachers under one of {', '.join(sorted(PERMISSIVE))}",
            action="leave it out: the learner then names its teachers, and whoever loads it fetches them",
        )


def include_teachers(
    references: Sequence[TeacherReference],
    records: Sequence[TeacherRecord],
    folder: Path,
    *,
    token: str | None = None,
    cache_dir: str | Path | None = None,
) -> list[TeacherRecord]:
    """Copy the files of all teachers below a learner's folder.

    Args:
        references: Where each comes from; those of the Hub with their commit.
        records: What each is.
        folder: The learner's.
        token: Hub token.
        cache_dir: Folder of the download cache.

    Returns:
        The records, with the hashes of the files as they lie there: what a YAML list says of a teacher is written into
        its config.json.

    Raises:
        TeacherError: weights that are not those the learner was fitted to.
    """
    included = []
    for place, (reference, record) in enumerate(zip(references, records, strict=True)):
        target = folder / teacher_folder(place)
        target.mkdir(parents=True, exist_ok=True)
        if reference.is_local:
            path = from_home(reference.location)
            source = path if path.is_dir() else path.parent
        else:
            location, commit = reference.location, reference.revision
            source = fetch_snapshot(
                location, revision=commit, optional=PIXEL_FILES, token=token, cache_dir=cache_dir
            ).folder
        config, weights = (target / name for name in FILES)
        shutil.copyfile(source / weights_name(reference), weights)
        if reference.config is None:
            shutil.copyfile(source / FILES[0], config)
        else:
            config.write_text(json.dumps(read_config(reference, source), indent=2) + "\n", encoding="utf-8")
        pixels = [target / name for name in PIXEL_FILES if name in record.sha256]
        for path in pixels:
            shutil.copyfile(source / path.name, path)
        hashes = {path.name: sha256_of(path) for path in (config, weights, *pixels)}
        if hashes[weights.name] != record.sha256.get(weights_name(reference), hashes[weights.name]):
            raise TeacherError(
                f"{record.reference}: its weights have changed since they were read",
                action="pool again, and leave its files alone meanwhile",
            )
        included.append(replace(record, sha256=hashes))
    return included
