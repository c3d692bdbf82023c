"""`hf-free push`: a learner's folder to the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_free.cli import options
from hf_free.cli.console import output_console, print_made, say, write_json
from hf_free.training.location import learner_folder

EXAMPLES = options.examples(
    "hf-free push runs/first me/few-shot",
    "hf-free push runs/first/learner me/few-shot --private --commit-message 'First learner'",
    "hf-free push runs/first org/few-shot --create-pr",
)


def push(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder or a saved learner.")],
    repo_id: Annotated[str, typer.Argument(metavar="ORG/NAME", help="The repository; created if it does not exist.")],
    revision: Annotated[
        str | None,
        typer.Option(metavar="BRANCH", rich_help_panel=options.PUBLISH, help="Branch to commit to."),
    ] = None,
    private: options.Private = None,
    commit_message: options.CommitMessage = None,
    create_pr: options.CreatePr = None,
    token: options.Token = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Publish a trained learner with its card."""
    learner = learner_folder(folder)
    from hf_free.learner.push import push_learner

    say(f"Uploading to {repo_id}")
    url = push_learner(
        learner,
        repo_id,
        token=token,
        private=bool(private),
        commit_message=commit_message,
        create_pr=bool(create_pr),
        revision=revision,
    )
    if as_json:
        write_json({"learner": str(learner), "repo_id": repo_id, "url": url})
    elif quiet:
        print_made(url)
    else:
        output_console().print(f"Published: {url}", soft_wrap=True, markup=False)
