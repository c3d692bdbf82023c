"""Flags that several verbs share, spelled as in the `hf` command line."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from hf_free.errors import ConfigError
from hf_free.runtime.allocator import import_torch
from hf_free.runtime.given import real_path

HUB = "Hub"
DATA = "Data"
EPISODES = "Episodes"
LEARNER = "Learner"
LENGTH = "Length and hardware"
OUTPUT = "Output"
PUBLISH = "Publishing"


def whole(minimum: int, maximum: int | None = None) -> Callable[[str], int]:
    """A reader of whole numbers whose refusal names what was given; Typer's own says only what is allowed."""
    rule = f"a whole number of at least {minimum}" + (f" and at most {maximum}" if maximum is not None else "")

    def integer(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise typer.BadParameter(f"{text!r} is not {rule}") from None
        if value < minimum or (maximum is not None and value > maximum):
            raise typer.BadParameter(f"{value} is not {rule}")
        return value

    return integer


def minutes(text: str) -> float:
    """A reader of numbers of minutes; whether one is long enough is for the verb to say."""
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a number of minutes, e.g. 30") from None


def share(text: str) -> float:
    """A reader of numbers above 0 and below 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise typer.BadParameter(f"{text!r} is not a number above 0 and below 1")
    return value


def height_and_width(text: str, flag: str) -> tuple[int, int]:
    """Read the value of a flag as a height and a width, e.g. 480x640."""
    height, x, width = text.lower().partition("x")
    if not (x and height.isdecimal() and width.isdecimal()):
        raise typer.BadParameter(f"{text!r} is not a height and a width, e.g. 480x640", param_hint=flag)
    return int(height), int(width)


Token = Annotated[
    str | None,
    typer.Option(
        metavar="TOKEN",
        rich_help_panel=HUB,
        help="A Hub access token. Safer in HF_TOKEN or `hf auth login`: other users can see a command line.",
    ),
]
CacheDir = Annotated[Path | None, typer.Option(metavar="DIR", rich_help_panel=HUB, help="Download cache folder.")]
Revision = Annotated[
    str | None,
    typer.Option(metavar="REV", rich_help_panel=HUB, help="Branch, tag or commit to read; the same as ID@REV."),
]
Private = Annotated[
    bool | None,
    typer.Option(
        "--private/--no-private",
        rich_help_panel=PUBLISH,
        help="Visibility of the repository, if it has to be created.",
    ),
]
CommitMessage = Annotated[
    str | None, typer.Option(metavar="TEXT", rich_help_panel=PUBLISH, help="Title of the commit.")
]
CreatePr = Annotated[
    bool | None,
    typer.Option(
        "--create-pr/--no-create-pr", rich_help_panel=PUBLISH, help="Open a pull request instead of committing."
    ),
]
MarkPredecessor = Annotated[
    bool | None,
    typer.Option(
        "--mark-predecessor/--no-mark-predecessor",
        rich_help_panel=PUBLISH,
        help="Also write new_version into the card of the learner on the Hub that --from continued.",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", rich_help_panel=OUTPUT, help="Print JSON to stdout; messages stay on stderr.")
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        rich_help_panel=OUTPUT,
        help="Print only the path, id or address of what was made; --json wins.",
    ),
]
QuietList = Annotated[
    bool,
    typer.Option("--quiet", "-q", rich_help_panel=OUTPUT, help="Print only ids, one on each line; --json wins."),
]
Device = Annotated[
    str | None, typer.Option(metavar="DEVICE", rich_help_panel=LENGTH, help="auto, cpu, cuda, cuda:1 or mps.")
]
Seed = Annotated[int, typer.Option(parser=whole(0, 2**32 - 1), metavar="INTEGER", help="Random seed.")]
Background = Annotated[
    str,
    typer.Option(
        metavar="COLOR", rich_help_panel=DATA, help="What transparent images are laid on: a name, or '#rrggbb'."
    ),
]
Reject = Annotated[
    float | None,
    typer.Option(
        parser=share,
        metavar="SHARE",
        rich_help_panel=OUTPUT,
        help="Answer with no class for images of none. The threshold rejects this share of the example images "
        "when each is left out in turn, such as 0.1.",
    ),
]
TransductiveHead = Annotated[
    str | None,
    typer.Option(
        "--transductive",
        metavar="NAME",
        rich_help_panel=OUTPUT,
        help="Let images that are classified together help each other: centered, soft-kmeans, centered-soft-kmeans, "
        "transport, balanced-transport (as many images of each class).",
    ),
]
Import = Annotated[
    Path | None,
    typer.Option(
        "--import",
        metavar="FILE.py",
        rich_help_panel=HUB,
        help="Python file that registers your own networks with timm.",
    ),
]
Pictures = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        rich_help_panel=DATA,
        help="Ask the teachers about your own pictures, too; no labels are needed. The learner is not data-free then.",
    ),
]
LearnerFolder = Annotated[
    Path, typer.Option(metavar="DIR", rich_help_panel=OUTPUT, help="Folder of the learner: a new or empty one.")
]
OverwriteLearner = Annotated[
    bool, typer.Option("--overwrite", rich_help_panel=OUTPUT, help="Replace the learner in --output.")
]
SectionKeys = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE...", help="Another key of these sections: learner.head=logistic."),
]
License = Annotated[
    str | None, typer.Option("--license", metavar="ID", rich_help_panel=PUBLISH, help="The learner's license.")
]
NumProcesses = Annotated[
    int | None,
    typer.Option(
        parser=whole(1),
        metavar="INTEGER",
        rich_help_panel=LENGTH,
        help="Processes on this machine that share the work, one per GPU or a part of the CPU's cores each.",
    ),
]
QueryBudget = Annotated[
    str | None,
    typer.Option(
        metavar="INTEGER",
        rich_help_panel=DATA,
        help="Most pictures that all black boxes (endpoint:https://...) together may be asked about.",
    ),
]
EndpointToken = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TOKEN...",
        rich_help_panel=DATA,
        help="The token of the black boxes, or HOST=TOKEN for several hosts. Safer in HF_FREE_ENDPOINT_TOKEN.",
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        rich_help_panel=LENGTH,
        help="Memory that the run may take, such as 6GiB. Default: half of what is free.",
    ),
]
TeacherMemory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE", rich_help_panel=LENGTH, help="Memory limit for teachers' weights, e.g. 500MB or 4GiB."
    ),
]


def examples(*commands: str) -> str:
    """The examples below a verb's help, one command per line."""
    lines = [f"[dim]$[/dim] {command.replace('[', chr(92) + '[')}" for command in commands]
    return "\n\n".join(["[bold]Examples[/bold]", *lines])


MODEL_FILES = frozenset(
    {"config.json", "preprocessor_config.json", "processor_config.json", "classifier.json"}  # of a model
    | {"teachers.json", "record.json", "log.jsonl", "state.json", "manifest.json"}  # of a run and its checkpoints
)
"""Names that results may not be written over: without such a file a model or run cannot be opened or gone on with."""


def check_publishes(
    publishes: object,
    *,
    private: bool | None,
    create_pr: bool | None,
    message: str | None,
    flag: str = "--push-to-hub",
) -> None:
    """Refuse flags about a publication where nothing is published.

    Raises:
        ConfigError: with the first of them.
    """
    given = {"--private": private, "--create-pr": create_pr, "--commit-message": message}
    useless = next((name for name, value in given.items() if value), None)
    if not publishes and useless is not None:
        raise ConfigError(f"{useless} without {flag}", action=f"add {flag}, or leave {useless} out")


def check_assignments(assignments: Sequence[str] | None, sections: Sequence[str], instead: Mapping[str, str]) -> None:
    """Refuse a `--set` that a verb has no use for.

    Args:
        assignments: Texts `section.key=value`, read already: their keys are known ones.
        sections: What the verb reads: sections and keys.
        instead: What to do in place of a key that it does not read, though it may be one of such a section.

    Raises:
        ConfigError: with the first key that it does not read.
    """
    for text in assignments or ():
        key = text.partition("=")[0].strip()
        if key in instead or (key not in sections and key.partition(".")[0] not in sections):
            raise ConfigError(
                f"--set {key} is of no use here",
                allowed=f"keys of {', '.join(sections)}",
                action=instead.get(key, "leave it out: hf-free train reads it"),
            )


def check_output_file(path: Path, suffixes: tuple[str, ...], flag: str = "--output") -> None:
    """Refuse an output file that cannot be written, before minutes of work.

    Raises:
        ConfigError: another suffix, a folder, a folder that does not exist, or a file that a model is made of.
    """
    example = f"e.g. {flag} results{suffixes[0]}"
    if path.name in MODEL_FILES and path.exists():
        raise ConfigError(f"{flag} {path} is a part of a model or run", allowed="another name", action=example)
    if path.suffix.lower() not in suffixes:
        named = f"{flag} {path.with_suffix(suffixes[0])}" if path.name else example
        raise ConfigError(f"{flag} {path}", allowed=f"a file that ends in {' or '.join(suffixes)}", action=named)
    if real_path(path).is_symlink():
        raise ConfigError(f"{flag} {path} is a link that leads in a circle", allowed="a file", action=example)
    if path.is_dir() or not real_path(path).parent.is_dir():
        problem = "is a folder" if path.is_dir() else "lies in a folder that does not exist"
        raise ConfigError(f"{flag} {path} {problem}", allowed="a file in an existing folder", action=example)


def torch_device(text: str | None) -> str:
    """The device of `--device`; without the flag `auto`.

    Raises:
        ConfigError: a device that is not on this machine.
    """
    import_torch()
    from hf_free.runtime.device import choose_device

    return str(choose_device(text or "auto"))
