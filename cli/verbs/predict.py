"""`hf-free predict`: one folder per class in, one label per picture out."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Annotated

import typer

from hf_free.backbones.custom import import_networks
from hf_free.cli import options
from hf_free.cli.console import progress_bar, say, warn, write_json
from hf_free.errors import DatasetError
from hf_free.runtime.files import write_text
from hf_free.runtime.text import spreadsheet_cell
from hf_free.training.location import learner_location

EXAMPLES = options.examples(
    "hf-free predict me/few-shot --support ./shots --images ./new",
    "hf-free predict runs/first --support ./shots --images ./new --output labels.csv",
    "hf-free predict me/few-shot --support ./shots --images ./new --json",
)

SUPPORT_SPLITS = ("train", "validation", "test")
"""Split of a support folder that has splits: the first of these."""


def predict(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="The learner: a Hub id, a run folder or a saved learner.")
    ],
    support: Annotated[
        Path,
        typer.Option(
            metavar="DIR", rich_help_panel=options.DATA, help="Example images: one folder per class, named after it."
        ),
    ],
    images: Annotated[
        Path,
        typer.Option(
            metavar="DIR", rich_help_panel=options.DATA, help="Images to classify, in the folder or its sub-folders."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=options.OUTPUT,
            help="A .csv or .json file. Default: CSV on stdout.",
        ),
    ] = None,
    background: options.Background = "white",
    as_json: options.Json = False,
    device: options.Device = None,
    own_networks: options.Import = None,
    revision: options.Revision = None,
    token: options.Token = None,
    cache_dir: options.CacheDir = None,
) -> None:
    """Classify images from a few example images per class; nothing is trained.

    An image that cannot be read has a row without a label that says why; the exit code is 1 then.
    """
    if output is not None:
        options.check_output_file(output, (".csv", ".json"))
    import_networks([own_networks] if own_networks else [])
    rows = _predict(
        model,
        support,
        images,
        background=background,
        device=device,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
    )
    if output is not None:
        text = json.dumps(rows, indent=2, ensure_ascii=False) if output.suffix.lower() == ".json" else as_csv(rows)
        write_text(output, text)
        say(f"{sum(row['label'] is not None for row in rows)} labels: {output}")
    if as_json:
        write_json(rows)
    elif output is None:
        typer.echo(as_csv(rows), nl=False)
    unread = [row for row in rows if row["error"]]
    if unread:
        warn(f"{len(unread)} of {len(rows)} pictures could not be read and have no label; {unread[0]['error']}")
        raise typer.Exit(1)


def _predict(
    model: str,
    support: Path,
    images: Path,
    *,
    background: str,
    device: str | None,
    revision: str | None,
    token: str | None,
    cache_dir: Path | None,
) -> list[dict[str, object]]:
    """One row per picture: its path below the folder, label, and probability of each class, or what is wrong."""
    from hf_free.data.decoding import parse_color
    from hf_free.data.images import read_batch
    from hf_free.evaluation.dataset_columns import DataFlags
    from hf_free.evaluation.datasets import load_folder_images, load_labeled_images
    from hf_free.learner.meta_learner import MetaLearner

    ground = parse_color(background)
    if not support.exists() and not Path(str(support).rpartition(":")[0] or "?").is_dir():
        raise DatasetError(f"{support} is not a folder", action="give a folder of class folders with --support")
    # read as evaluate reads a data set, so that both see the same classes and pictures
    flags = DataFlags(split="--support DIR/NAME", image_column="", label_column="")
    shots, new = load_labeled_images(support, splits=SUPPORT_SPLITS, flags=flags), load_folder_images(images)
    learner = MetaLearner.from_pretrained(
        learner_location(model),
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        map_location=options.torch_device(device),
    )
    labels = [shots.class_names[i] for i in shots.labels.tolist()]
    classifier = learner.adapt(shots.images, labels, background=ground)
    with progress_bar() as progress:
        read = read_batch(new.images, learner.preprocessing, background=ground, progress=progress, keep_going=True)
    if read.more_frames:
        warn(f"{read.more_frames} files hold several frames: only the first of each is seen")
    probabilities = classifier.predict_proba(read.images).tolist() if len(read.images) else []
    answers = dict(zip(read.places.tolist(), probabilities, strict=True))
    rows = []
    for place, path in enumerate(new.paths):
        error = read.errors.get(place)
        by_class = None if error else dict(zip(classifier.classes, answers[place], strict=True))
        label = None if by_class is None else max(by_class, key=by_class.__getitem__)
        rows.append(
            {
                "image": path.relative_to(images).as_posix(),
                "label": label,
                "probability": None if by_class is None or label is None else by_class[label],
                "probabilities": by_class,
                "error": None if error is None else error.given,
            }
        )
    return rows


def as_csv(rows: list[dict[str, object]]) -> str:
    """The columns image, label, probability and error as CSV with a header; a picture has a label or an error.

    Names that a spreadsheet would run as formulas begin with an apostrophe; the JSON form has them as they are.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["image", "label", "probability", "error"])
    for row in rows:
        probability = "" if row["probability"] is None else f"{row['probability']:.4f}"
        texts = [spreadsheet_cell(row[key] or "") for key in ("image", "label", "error")]
        writer.writerow([*texts[:2], probability, texts[2]])
    return buffer.getvalue()
