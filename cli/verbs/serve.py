"""`hf-free serve`: a teacher or a classifier behind HTTP."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from hf_free.cli import options
from hf_free.cli.console import output_console, plain, print_made, say, warn, write_json

EXAMPLES = options.examples(
    "hf-free serve ./pets",
    "hf-free serve org/model --port 8000",
    "hf-free serve org/model --port 0 --json",
    "curl --data-binary @cat.jpg http://127.0.0.1:8000",
)

TOKEN_VARIABLE = "HF_FREE_SERVE_TOKEN"
"""Environment variable with the token that requests have to carry."""


def serve(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A classifier of `hf-free adapt`; or a teacher: a Hub id or a folder."),
    ],
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen at; 0.0.0.0 lets other machines ask.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(parser=options.whole(0, 65535), metavar="INTEGER", help="0 takes any free one.")
    ] = 8000,
    revision: options.Revision = None,
    device: options.Device = None,
    own_networks: options.Import = None,
    token: options.Token = None,
    cache_dir: options.CacheDir = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Answer the Hub's image-classification protocol over HTTP, until Ctrl-C.

    Only this machine can ask unless --host says otherwise. With HF_FREE_SERVE_TOKEN set, requests need that token.
    """
    from hf_free.backbones.custom import import_networks
    from hf_free.runtime.interrupts import StopNoted, ended_like_ctrl_c
    from hf_free.serving.served_model import open_model
    from hf_free.serving.server import ModelServer, check_token
    from hf_free.training.location import learner_location

    wanted = os.environ.get(TOKEN_VARIABLE) or None
    check_token(wanted)
    import_networks([own_networks] if own_networks else [])
    place, device = learner_location(model), options.torch_device(device)
    served = open_model(place, revision=revision, token=token, cache_dir=cache_dir, device=device)
    with ended_like_ctrl_c(), StopNoted() as stop, ModelServer(served, host=host, port=port, token=wanted) as server:
        if as_json:
            write_json({"address": server.address, "model": served.name, "labels": list(served.labels)})
        elif quiet:
            print_made(server.address)
        else:
            output_console().print(plain(f"Address: {server.address}"), soft_wrap=True)
        if not server.is_local and wanted is None:
            warn(f"whoever reaches {server.address} can ask; set {TOKEN_VARIABLE} to ask for a token")
        say(f"Answers pictures with {len(served.labels)} labels. Ctrl-C ends it.")
        stop.wait()
        say(f"Stopped after {server.answered} pictures.")
