"""`hf-free search`: find models on the Hub that could be teachers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from hf_free.cli import options
from hf_free.cli.console import output_console, print_made, say, write_json
from hf_free.cli.rows import Rows

EXAMPLES = options.examples(
    "hf-free search food",
    "hf-free search --author timm --limit 50",
    "hf-free search birds --json",
    "hf-free search birds -q",
)


def search(
    query: Annotated[str | None, typer.Argument(metavar="QUERY", help="Words to find in repository names.")] = None,
    author: Annotated[str | None, typer.Option(metavar="NAME", help="A user or an organization.")] = None,
    tag: Annotated[str | None, typer.Option(metavar="TAG", help="A tag the repository carries.")] = None,
    library: Annotated[str, typer.Option(metavar="NAME", help="The library of the models.")] = "timm",
    limit: Annotated[
        int, typer.Option(parser=options.whole(1, 1000), metavar="INTEGER", help="Maximum number of models.")
    ] = 20,
    token: options.Token = None,
    as_json: options.Json = False,
    quiet: options.QuietList = False,
) -> None:
    """Find image classifiers on the Hub; `hf-free inspect ID` then says whether one can be used.

    Sizes are numbers of parameters and the bytes they take.
    """
    from hf_free.hub.search import search_models
    from hf_free.runtime.text import count_text, decimal_size_text

    found = search_models(query=query, author=author, tag=tag, library=library, limit=limit, token=token)
    if as_json:
        write_json([asdict(model) for model in found])
        return
    if not found:
        say("No model found; try another word, or --author.")
        return
    if quiet:
        for model in found:
            print_made(model.repo_id)
        return
    rows = []
    for model in found:
        access = "private" if model.private else "gated" if model.gated else "public"
        size = "-"
        if model.parameters is not None and model.weight_bytes is not None:
            size = f"{count_text(model.parameters)}, {decimal_size_text(model.weight_bytes)}"
        usable = {True: "yes", False: "no", None: "-"}[model.looks_usable]
        counts = (count_text(model.downloads), count_text(model.likes))
        rows.append((model.repo_id, size, *counts, usable, model.license or "not given", access))
    columns = ("Model", "Size", "Downloads", "Likes", "Looks usable", "License", "Access")
    output_console().print(Rows(columns, rows, numbers=frozenset(columns[1:4])))
