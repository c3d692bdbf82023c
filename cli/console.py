"""Where the command line writes: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from urllib.parse import urlsplit

from rich.console import Console
from rich.text import Text

from hf_free.cli.encoding import can_write
from hf_free.errors import HfFreeError
from hf_free.runtime.text import printable

_WIDTH_OF_A_FILE = 160
"""Columns of a table that goes to a file or a pipe, where there is no window to wrap to."""


def output_console() -> Console:
    """The console of results (stdout)."""
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDTH_OF_A_FILE
    return console


def progress_console() -> Console:
    """The console of progress, warnings and errors (stderr)."""
    return Console(stderr=True, highlight=False)


def plain(value: object) -> Text:
    """Any text as it is: what a repository says is neither Rich's markup nor a command to the terminal."""
    return Text(printable(value, keep="\n"))


def progress_bar() -> AbstractContextManager[Callable[[str, int, int], None]]:
    """A bar on stderr, or lines; see `hf_free.runtime.progress.counting_bar`."""
    from hf_free.runtime.progress import counting_bar  # slow to import

    return counting_bar(progress_console())


def write_json(value: object) -> None:
    """Write one JSON document to stdout, without colors or wrapping; what a terminal would obey is escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    if not can_write(sys.stdout, text):
        text = json.dumps(value, indent=2)
    write_line("".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text))


def say(message: str) -> None:
    """One plain line on stderr."""
    progress_console().print(plain(message), soft_wrap=True)


def warn(message: str) -> None:
    """One warning on stderr."""
    progress_console().print(Text.assemble(("Warning: ", "bold yellow"), plain(message)), soft_wrap=True)


def write_line(text: str, end: str = "\n") -> None:
    """Text on stdout as it is: no colors, no wrapping. (Click's own echo writes UTF-8 to a terminal of ASCII.)"""
    sys.stdout.write(text + end)
    sys.stdout.flush()


def print_made(made: object) -> None:
    """What `--quiet` leaves on stdout: the path or the id of what was made, on a line of its own."""
    write_line(printable(made))


def where_published(url: str, repo_id: str) -> str:
    """What to tell of a published repository or a pull request: its address; or its id and number, where the Hub is a
    program on this computer.

    Such a Hub, as the demo's, may be gone before anybody opens the address.
    """
    parts = urlsplit(url)
    if parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        return url
    _, discussions, number = parts.path.rpartition("/discussions/")
    return f"{repo_id}, pull request {number}" if discussions else repo_id


def show_error(error: HfFreeError, *, of: str = "") -> None:
    """An error a user caused: what was given, what is allowed, what to do; `of` which of several processes."""
    whose = plain(f"{of}: " if of else "")
    progress_console().print(Text.assemble(whose, ("Error: ", "bold red"), plain(error)), soft_wrap=True)


RESUME_CODE = 75
"""Exit code of a run that was stopped and has a checkpoint: the same run goes on with --resume. It is EX_TEMPFAIL of
sysexits.h, "try again later"."""


class Interrupted(Exception):
    """A run that was stopped by a signal; the message says how to go on.

    Args:
        message: How to go on.
        code: Exit code: `RESUME_CODE`, or 128 and the signal's number where there is nothing to resume.
    """

    def __init__(self, message: str, code: int = 128 + signal.SIGINT) -> None:
        super().__init__(message)
        self.code = code
