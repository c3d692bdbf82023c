"""`hf-free app`: a page to try a learner on one's own pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_free.cli import options
from hf_free.cli.console import output_console, plain, print_made, say, write_json
from hf_free.errors import ConfigError

EXAMPLES = options.examples(
    "hf-free app runs/first",
    "hf-free app me/few-shot --port 7861 --mcp",
    "hf-free app me/few-shot --space me/few-shot-demo --output few-shot-space",
)


def app(
    model: Annotated[
        str, typer.Argument(metavar="LEARNER", help="A learner: a Hub id, a run's folder or its own folder.")
    ],
    host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            rich_help_panel=options.OUTPUT,
            help="0.0.0.0 lets other computers in; default: 127.0.0.1.",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            parser=options.whole(1, 65535),
            metavar="INTEGER",
            rich_help_panel=options.OUTPUT,
            help="Default: the first free one from 7860 on.",
        ),
    ] = None,
    mcp: Annotated[
        bool,
        typer.Option(
            "--mcp",
            rich_help_panel=options.OUTPUT,
            help="Serve the app's tools to MCP clients too, at /gradio_api/mcp/ (extra `mcp`).",
        ),
    ] = False,
    space: Annotated[
        str | None,
        typer.Option(
            metavar="ORG/NAME",
            rich_help_panel=options.PUBLISH,
            help="Serve nothing: make a Space of this name that serves the learner, and upload it.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", rich_help_panel=options.PUBLISH, help="Folder of the Space; default: its name."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", rich_help_panel=options.PUBLISH, help="Write the Space's folder, upload nothing."),
    ] = False,
    private: options.Private = None,
    token: options.Token = None,
    device: options.Device = None,
    own_networks: options.Import = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Drop pictures into classes and ask about a new one, in the browser; needs the extra `app`."""
    if space is None and (output is not None or dry_run):
        flag = "--dry-run" if dry_run else "--output"
        raise ConfigError(f"{flag} without --space", action=f"name the Space, or leave {flag} out")
    if space is None:
        from hf_free.backbones.custom import import_networks

        import_networks([own_networks] if own_networks else [])
        _serve(model, host or "127.0.0.1", port, device, mcp=mcp)
        return
    here = {"--host": host, "--port": port, "--mcp": mcp, "--device": device, "--import": own_networks}
    if useless := [flag for flag, value in here.items() if value]:
        raise ConfigError(
            f"{', '.join(useless)} with --space, which serves nothing here",
            action=f"leave out {', '.join(useless)}, or --space",
        )
    from hf_free.demo.space import push_space, write_space

    folder = output or Path(space.rpartition("/")[2])
    files = write_space(folder, model, space)
    url = None
    if not dry_run:
        say(f"Uploading to {space}")
        url = push_space(folder, model, space, token=token, private=bool(private))
    if as_json:
        write_json({"space": space, "folder": str(folder), "files": [str(file) for file in files], "url": url})
    elif quiet:
        print_made(url or folder)
    else:
        output_console().print(plain(f"Space: {url or folder}"), soft_wrap=True)


def _serve(model: str, host: str, port: int | None, device: str | None, *, mcp: bool) -> None:
    from hf_free.demo.app import check_installed, serve
    from hf_free.training.location import learner_location

    check_installed(mcp=mcp)
    where = options.torch_device(device)
    say(f"Opening {model}")
    serve(
        learner_location(model),
        host=host,
        port=port,
        device=where,
        mcp=mcp,
        started=lambda address: say(f"Serving at {address} Ctrl-C ends it."),
    )
