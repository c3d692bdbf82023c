"""`hf-free app`: a page to try a learner on one's own pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_free.cli import options
from hf_free.cli.console import output_console, print_made, say, write_json
from hf_free.errors import ConfigError

EXAMPLES = options.examples(
    "hf-free app runs/first",
    "hf-free app me/few-shot --port 7861",
    "hf-free app me/few-shot --space me/few-shot-demo --output few-shot-space",
)


def app(
    model: Annotated[
        str, typer.Argument(metavar="LEARNER", help="A learner: a Hub id, a run's folder or its own folder.")
    ],
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", rich_help_panel=options.OUTPUT, help="0.0.0.0 lets other computers in.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            parser=options.whole(1, 65535),
            metavar="INTEGER",
            rich_help_panel=options.OUTPUT,
            help="Default: the first free one from 7860 on.",
        ),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(
            metavar="ORG/NAME",
            rich_help_panel=options.PUBLISH,
            help="Serve nothing: write the folder of a Space of this name, to be uploaded.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", rich_help_panel=options.PUBLISH, help="Folder of the Space; default: its name."),
    ] = None,
    device: options.Device = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Drop pictures into classes and ask about a new one, in the browser; needs the extra `app`."""
    if space is None and output is not None:
        raise ConfigError("--output without --space", action="name the Space, or leave --output out")
    if space is None:
        _serve(model, host, port, device)
        return
    from hf_free.demo.space import write_space

    folder = output or Path(space.rpartition("/")[2])
    files = write_space(folder, model, space)
    if as_json:
        write_json({"space": space, "folder": str(folder), "files": [str(file) for file in files]})
    elif quiet:
        print_made(folder)
    else:
        output_console().print(f"Space: {folder}", soft_wrap=True, markup=False)
        say(f"Upload it: hf upload {space} {folder} . --repo-type space")


def _serve(model: str, host: str, port: int | None, device: str | None) -> None:
    from hf_free.demo.app import check_installed, serve
    from hf_free.training.location import learner_location

    check_installed()
    where = options.torch_device(device)
    say(f"Serving at http://{host}:{port or 7860} or the next free port; Ctrl-C ends it.")
    serve(learner_location(model), host=host, port=port, device=where)
