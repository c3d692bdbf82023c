"""`hf-free adapt`: a folder per class in, a classifier to keep out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_free.cli import options
from hf_free.cli.console import output_console, plain, print_made, say, where_published, write_json
from hf_free.errors import ConfigError, DatasetError, HubError, PushError
from hf_free.runtime.allocator import import_torch
from hf_free.runtime.saved_kind import CLASSIFIER, holds_classifier, in_use
from hf_free.runtime.text import printable
from hf_free.training.location import learner_location

if TYPE_CHECKING:
    from hf_free.learner.classifier import FewShotClassifier

EXAMPLES = options.examples(
    "hf-free adapt me/few-shot --support ./shots --output pets",
    "hf-free adapt runs/first --support ./shots --output pets --reject 0.1",
    "hf-free adapt me/few-shot --support ./shots --push-to-hub me/pets",
)


def adapt(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="The learner: a Hub id, a run folder or a saved learner.")
    ],
    support: Annotated[
        Path,
        typer.Option(
            metavar="DIR", rich_help_panel=options.DATA, help="Example images: one folder per class, named after it."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", rich_help_panel=options.OUTPUT, help="Folder to save the classifier in."),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", rich_help_panel=options.OUTPUT, help="Replace the classifier in --output."),
    ] = False,
    push_to_hub: Annotated[
        str | None,
        typer.Option(
            metavar="ORG/NAME", rich_help_panel=options.PUBLISH, help="Publish the classifier to this repository."
        ),
    ] = None,
    reject: options.Reject = None,
    transductive: options.TransductiveHead = None,
    with_pictures: Annotated[
        bool,
        typer.Option(
            "--with-pictures",
            rich_help_panel=options.OUTPUT,
            help="Keep the example images too, if changing the classes later needs them.",
        ),
    ] = False,
    background: options.Background = "white",
    private: options.Private = None,
    commit_message: options.CommitMessage = None,
    create_pr: options.CreatePr = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    device: options.Device = None,
    own_networks: options.Import = None,
    revision: options.Revision = None,
    token: options.Token = None,
    cache_dir: options.CacheDir = None,
) -> None:
    """Adapt a learner to new classes and keep the classifier; nothing is trained."""
    if output is None and push_to_hub is None:
        raise ConfigError("nowhere to keep the classifier", action="--output DIR, --push-to-hub ORG/NAME, or both")
    options.check_publishes(push_to_hub, private=private, create_pr=create_pr, message=commit_message)
    if output is not None:
        _check_output(output, overwrite)
    if push_to_hub is not None:
        from hf_free.hub.upload import check_can_push

        check_can_push(push_to_hub, token, private=bool(private), create_pr=bool(create_pr))
    from hf_free.backbones.custom import import_networks

    import_networks([own_networks] if own_networks else [])
    classifier = adapt_to_folder(
        model,
        support,
        background=background,
        transductive=transductive,
        reject=reject,
        device=device,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
    )
    if output is not None:
        classifier.save_pretrained(output, with_pictures=with_pictures)
        say(f"Classifier: {output}")
    url = None
    if push_to_hub is not None:
        say(f"Uploading to {push_to_hub}")
        with (
            nullcontext()
            if output is None
            else _kept(
                output, push_to_hub, private=bool(private), create_pr=bool(create_pr), commit_message=commit_message
            )
        ):
            url = classifier.push_to_hub(
                push_to_hub,
                token=token,
                private=bool(private),
                create_pr=bool(create_pr),
                with_pictures=with_pictures,
                commit_message=commit_message,
            )
    shown = {} if classifier.support is None else classifier.support.counts
    if as_json:
        rejection = classifier.rejection
        write_json(
            {
                "output": None if output is None else str(output),
                "url": url,
                "classes": [{"name": name, "images": count} for name, count in shown.items()],
                "threshold": None if rejection is None else rejection.threshold,
                "transductive": classifier.transductive,
            }
        )
        return
    if quiet:
        print_made(push_to_hub if output is None else output)
        return
    listed = ", ".join(f"{printable(name)} ({count})" for name, count in shown.items())
    output_console().print(plain(f"{len(shown)} classes: {listed}"), soft_wrap=True)
    if url is not None and push_to_hub is not None:
        output_console().print(plain(f"Published: {where_published(url, push_to_hub)}"), soft_wrap=True)
    kept = push_to_hub if output is None else output
    output_console().print(plain(f"Next: hf-free predict {kept} --images ./new"), soft_wrap=True)


@contextmanager
def _kept(folder: Path, repo_id: str, *, private: bool, create_pr: bool, commit_message: str | None) -> Iterator[None]:
    """Within the block an upload that fails says that the classifier is kept, and how to publish it.

    Raises:
        PushError: it fails.
    """
    try:
        yield
    except HubError as error:
        from hf_free.hub.upload import push_command

        cause = error.cause if isinstance(error, PushError) else error
        again = push_command(
            folder, repo_id, private=private, commit_message=commit_message, create_pr=create_pr, revision=None
        )
        raise PushError(cause, folder=folder, again=again) from None


def adapt_to_folder(
    model: str,
    support: Path,
    *,
    background: str,
    transductive: str | None,
    reject: float | None,
    device: str | None,
    revision: str | None,
    token: str | None,
    cache_dir: Path | None,
) -> FewShotClassifier:
    """A learner adapted to a folder of class folders, read as evaluate reads a data set, so that both see the same."""
    import_torch()
    from hf_free.data.decoding import parse_color
    from hf_free.evaluation.dataset_columns import DataFlags
    from hf_free.evaluation.datasets import SUPPORT_SPLITS, load_labeled_images
    from hf_free.learner.meta_learner import MetaLearner

    ground = parse_color(background)
    if not support.exists() and not Path(str(support).rpartition(":")[0] or "?").is_dir():
        raise DatasetError(f"{support} is not a folder", action="give a folder of class folders with --support")
    flags = DataFlags(split="--support DIR/NAME", image_column="", label_column="")
    shots = load_labeled_images(support, splits=SUPPORT_SPLITS, flags=flags)
    learner = MetaLearner.from_pretrained(
        learner_location(model),
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        map_location=options.torch_device(device),
    )
    labels = [shots.class_names[index] for index in shots.labels.tolist()]
    classifier = learner.adapt(shots.images, labels, background=ground, transductive=transductive)
    if reject is not None:
        classifier.calibrate_rejection(reject)
    return classifier


def _check_output(output: Path, overwrite: bool) -> None:
    """Refuse a folder that holds anything but a classifier, or a classifier that is not to be replaced."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not ((is_own := holds_classifier(output)) and overwrite):
        raise in_use(output, CLASSIFIER, is_own=is_own, error=ConfigError)
