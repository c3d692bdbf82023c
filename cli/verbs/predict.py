"""`hf-free predict`: pictures in, one label per picture out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_free.backbones.custom import import_networks
from hf_free.cli import options
from hf_free.cli.arguments import read_list
from hf_free.cli.console import progress_bar, say, warn, write_json, write_line
from hf_free.cli.verbs.adapt import adapt_to_folder
from hf_free.errors import ConfigError
from hf_free.runtime.allocator import import_torch
from hf_free.runtime.files import write_text
from hf_free.runtime.given import real_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_free.evaluation.picture_sources import NamedPicture
    from hf_free.evaluation.predictions import Prediction
    from hf_free.learner.classifier import FewShotClassifier

EXAMPLES = options.examples(
    "hf-free predict pets --images ./new --top-k 3",
    "hf-free predict me/few-shot --support ./shots --images ./new --output labels.csv",
    "hf-free predict me/pets --images './new/*.jpg' ./more --sheet sheet.png",
    "hf-free predict pets --images - --reject 0.1 --json",
)


def predict(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A classifier of `hf-free adapt`; or a learner, with --support."),
    ],
    images: Annotated[
        list[str],
        typer.Option(
            metavar="DIR_OR_FILE...",
            rich_help_panel=options.DATA,
            help="Images to classify: folders with their sub-folders, files, patterns, or - for a list on stdin.",
        ),
    ],
    support: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", rich_help_panel=options.DATA, help="Example images: one folder per class, named after it."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=options.OUTPUT,
            help="A .csv or .json file. Default: CSV on stdout.",
        ),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            parser=options.whole(1),
            metavar="INTEGER",
            rich_help_panel=options.OUTPUT,
            help="Name this many of the most likely classes.",
        ),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(metavar="PNG", rich_help_panel=options.OUTPUT, help="Draw the images with their labels."),
    ] = None,
    reject: options.Reject = None,
    transductive: options.TransductiveHead = None,
    background: Annotated[
        str | None,
        typer.Option(
            metavar="COLOR",
            rich_help_panel=options.DATA,
            help="What transparent images are laid on: a name, or '#rrggbb'. Default: the classifier's own, or white.",
        ),
    ] = None,
    as_json: options.Json = False,
    device: options.Device = None,
    own_networks: options.Import = None,
    revision: options.Revision = None,
    token: options.Token = None,
    cache_dir: options.CacheDir = None,
) -> None:
    """Classify images with a kept classifier, or from a few example images per class; nothing is trained.

    An image that cannot be read has a row without a label that says why; the exit code is 1 then.
    """
    if output is not None:
        options.check_output_file(output, (".csv", ".json"))
    if sheet is not None:
        options.check_output_file(sheet, (".png",), flag="--sheet")
    import_torch()
    import_networks([own_networks] if own_networks else [])
    from hf_free.evaluation.picture_sources import LIST, find_pictures
    from hf_free.evaluation.predictions import as_csv, predict_files

    pictures = find_pictures(images, read_list(sys.stdin) if LIST in images else ())
    if sheet is not None and sheet.exists():
        _check_is_no_image(sheet, pictures, support)
    if support is not None:
        classifier = adapt_to_folder(
            model,
            support,
            background=background or "white",
            transductive=transductive,
            reject=reject,
            device=device,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
        )
    else:
        classifier = _kept(model, device, revision, token, cache_dir)
        _set(classifier, background, transductive, reject)
    with progress_bar() as progress:
        found = predict_files(classifier, pictures, progress=progress)
    rows = found.rows
    if found.more_frames:
        warn(f"{found.more_frames} files hold several frames: only the first of each is seen")
    listed = [row.to_dict(top_k) for row in rows]
    if output is not None:
        is_json = output.suffix.lower() == ".json"
        write_text(output, json.dumps(listed, indent=2, ensure_ascii=False) if is_json else as_csv(rows, top_k or 1))
        say(f"{sum(row.label is not None for row in rows)} labels: {output}")
    if sheet is not None:
        _draw(rows, sheet, f"{Path(model).name}: {len(classifier.classes)} classes")
        say(f"Sheet: {sheet}")
    if as_json:
        write_json(listed)
    elif output is None:
        write_line(as_csv(rows, top_k or 1), end="")
    if found.unread:
        first = found.unread[0].error
        warn(f"{len(found.unread)} of {len(rows)} pictures could not be read and have no label; {first}")
        raise typer.Exit(1)


def _check_is_no_image(sheet: Path, pictures: Sequence[NamedPicture], support: Path | None) -> None:
    is_example = support is not None and real_path(sheet).is_relative_to(real_path(support))
    if is_example or any(picture.path.exists() and sheet.samefile(picture.path) for picture in pictures):
        raise ConfigError(f"--sheet {sheet} is one of the images", allowed="another file", action="--sheet sheet.png")


def _kept(
    model: str, device: str | None, revision: str | None, token: str | None, cache_dir: Path | None
) -> FewShotClassifier:
    """A classifier that was adapted before."""
    from hf_free.errors import LearnerError, MissingFilesError
    from hf_free.learner.classifier import FewShotClassifier

    where = options.torch_device(device)
    try:
        return FewShotClassifier.from_pretrained(
            model, revision=revision, token=token, cache_dir=cache_dir, device=where
        )
    except (LearnerError, MissingFilesError) as error:
        if "classifier.json" in error.given and "hf_free.safetensors" not in error.given:  # else it is no learner
            error.action = "give --support DIR with example images of your classes, or hf-free adapt the learner first"
        raise


def _set(
    classifier: FewShotClassifier, background: str | None, transductive: str | None, reject: float | None
) -> None:
    """Let the flags override what the classifier was saved with."""
    from hf_free.data.decoding import parse_color
    from hf_free.learner.transductive import get_transductive

    if background is not None:
        classifier.background = parse_color(background)
    if transductive is not None:
        get_transductive(transductive)
        classifier.transductive = transductive
    if reject is not None:
        classifier.calibrate_rejection(reject)


def _draw(rows: Sequence[Prediction], sheet: Path, title: str) -> None:
    from hf_free.reporting.contact_sheet import Shown, contact_sheet

    shown = []
    for row in rows:
        if row.error is not None:
            shown.append(Shown(row.path, "cannot be read"))
        elif row.label is None:
            shown.append(Shown(row.path, "none of these", f"nearest: {row.top[0][0]}"))
        else:
            shown.append(Shown(row.path, str(row.label), f"{100 * row.top[0][1]:.0f} %", row.top[0][1]))
    contact_sheet(shown, sheet, title=title)
