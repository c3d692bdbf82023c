"""`hf-free push`: a learner's folder to the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_free.cli import options
from hf_free.cli.console import output_console, plain, print_made, say, write_json
from hf_free.training.location import learner_folder

if TYPE_CHECKING:
    from hf_free.publishing.new_version import NewVersion

EXAMPLES = options.examples(
    "hf-free push runs/first me/few-shot",
    "hf-free push runs/first/learner me/few-shot --private --commit-message 'First learner'",
    "hf-free push runs/first org/few-shot --create-pr",
    "hf-free push runs/first me/few-shot --dry-run",
    "hf-free push runs/second me/few-shot-2 --mark-predecessor",
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
    mark_predecessor: options.MarkPredecessor = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            rich_help_panel=options.OUTPUT,
            help="Only show what would be uploaded, and, if there is a token, whether it may.",
        ),
    ] = False,
    token: options.Token = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Publish a trained learner with its card."""
    learner = learner_folder(folder)
    from hf_free.learner.push import plan_mark_of, plan_push_of, push_learner
    from hf_free.publishing.push import check_push

    new_version = (
        plan_mark_of(
            learner, repo_id, token=token, private=bool(private), create_pr=bool(create_pr), revision=revision
        )
        if mark_predecessor
        else None
    )
    if dry_run:
        files = plan_push_of(
            learner, repo_id, token=token, private=bool(private), create_pr=bool(create_pr), revision=revision
        )
        _show(learner, repo_id, files, new_version, as_json=as_json, quiet=quiet)
        return
    check_push(
        repo_id, token=token, revision=revision, commit_message=commit_message, create_pr=bool(create_pr)
    )  # before a word of uploading
    say(f"Uploading to {repo_id}")
    url = push_learner(
        learner,
        repo_id,
        token=token,
        private=bool(private),
        commit_message=commit_message,
        create_pr=bool(create_pr),
        revision=revision,
        new_version=new_version,
    )
    if new_version is not None:
        say(f"{'Proposed' if create_pr else 'Written'}: {new_version.said}")
    if as_json:
        write_json({"learner": str(learner), "repo_id": repo_id, "url": url, **_marked(new_version)})
    elif quiet:
        print_made(url)
    else:
        output_console().print(plain(f"Published: {url}"), soft_wrap=True)


def _marked(new_version: NewVersion | None) -> dict[str, str]:
    """What JSON says of the predecessor."""
    return {} if new_version is None else {"new_version_of": new_version.predecessor}


def _show(
    learner: Path,
    repo_id: str,
    files: dict[str, int],
    new_version: NewVersion | None,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Print what a push would upload."""
    from hf_free.runtime.text import decimal_size_text

    if as_json:
        write_json({"learner": str(learner), "repo_id": repo_id, "files": files, **_marked(new_version)})
        return
    for name, size in files.items():
        line = name if quiet else f"{name}  {decimal_size_text(size)}"
        output_console().print(plain(line), soft_wrap=True)
    if new_version is not None:
        say(f"There would be {new_version.said}.")
    say(f"{repo_id} would get {decimal_size_text(sum(files.values()))} in {len(files)} files; nothing was uploaded.")
