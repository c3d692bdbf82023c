"""The output folder of a run: never overwritten by accident, never lost by a failure."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from hf_free.cli.console import say, warn
from hf_free.errors import RunError

CONFIG_FILE = "config.yaml"
"""The file that marks a folder as a run of hf-free."""


class Interrupted(Exception):
    """A run that was stopped by the user; the message says how to go on."""


def default_output(recipe: str) -> Path:
    """A new folder's name from the recipe and the local time."""
    return Path("runs") / f"{recipe}-{datetime.now():%Y%m%d-%H%M%S}"


def check_output(folder: Path, *, overwrite: bool, resume: bool) -> None:
    """Refuse an output folder that cannot be used as asked. Nothing is changed.

    Raises:
        RunError: the folder is in use and neither flag is given; both are; there is nothing to resume; or
            --overwrite names something that is no run of hf-free.
    """
    if overwrite and resume:
        raise RunError("--overwrite and --resume together", allowed="one of the two", action="leave one out")
    is_run = (folder / CONFIG_FILE).is_file()
    if resume and not is_run:
        raise RunError(
            f"nothing to resume in {folder}",
            allowed=f"a folder of an earlier run, with its {CONFIG_FILE}",
            action="leave out --resume, or name the run with --output",
        )
    if folder.exists() and not folder.is_dir():
        raise RunError(f"the output {folder} is a file", allowed="a folder", action="give another --output")
    if resume or not folder.is_dir() or not any(folder.iterdir()):
        return
    if overwrite and not is_run:
        raise RunError(
            f"the output folder {folder} holds something that is no run of hf-free",
            allowed="--overwrite replaces earlier runs only",
            action="give another --output",
        )
    if not overwrite:
        raise RunError(
            f"the output folder {folder} is in use",
            allowed="a new or empty folder",
            action="give another --output" + (", or --resume or --overwrite" if is_run else ""),
        )


@contextmanager
def replacing(folder: Path, *, overwrite: bool) -> Iterator[None]:
    """Set an earlier run aside while the new one is made, and put it back where the new one comes to nothing.

    "Nothing" is no checkpoint and no learner. Where the new run has one but did not finish, both are kept.
    """
    aside = folder.with_name(folder.name + ".previous")
    if not overwrite or not folder.is_dir() or not any(folder.iterdir()):
        yield
        return
    if aside.exists():
        raise RunError(
            f"{aside} is in the way of --overwrite", allowed="no such folder", action="move or remove it first"
        )
    folder.rename(aside)
    try:
        yield
    except BaseException:
        if any((folder / part).exists() for part in ("checkpoint", "learner")):
            warn(f"the run before is kept in {aside}")
        else:
            if folder.exists():
                shutil.rmtree(folder)
            aside.rename(folder)
            say(f"{folder} is as it was before.")
        raise
    shutil.rmtree(aside)
