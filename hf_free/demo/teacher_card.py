"""The card of a teacher that hf-free trained itself: what it knows, how well, how it was trained, on whose data."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from hf_free.demo.small_teachers import TrainedClassifier

NOT_STATED = "not stated"


def teacher_card(
    trained: TrainedClassifier, label_names: Sequence[str], *, data: str, data_license: str | None = None
) -> str:
    """Write a teacher's README.md.

    Args:
        trained: The network and its recipe.
        label_names: Name of each class, in the order of the outputs.
        data: What it was trained on.
        data_license: License of those data; None where it is not known. The network gets none: that is its
            publisher's choice.

    Returns:
        Markdown with the Hub's metadata on top.
    """
    recipe, (channels, height, width) = trained.recipe, trained.input_size
    arguments = f" with `{json.dumps(recipe.model_args)}`" if recipe.model_args else ""
    augmentation = [f"shifts of up to {recipe.shift} pixels"] if recipe.shift else []
    augmentation += ["mirroring"] if recipe.flip else []
    measured = "not measured" if trained.accuracy != trained.accuracy else f"{100 * trained.accuracy:.1f} %"
    lines = [
        "---",
        "library_name: timm",
        "pipeline_tag: image-classification",
        "tags: [image-classification, timm, hf-free-teacher]",
        "---",
        "",
        f"# {recipe.architecture}, {len(label_names)} classes",
        "",
        "A small classifier trained from scratch as a teacher for hf-free's",
        "experiments. It knows these classes and nothing else.",
        "",
        f"- Classes: {', '.join(_plain(name) for name in label_names)}",
        f"- Accuracy on held-out pictures of these classes: {measured}",
        f"- Architecture: timm's `{recipe.architecture}`{arguments}, {channels} x {height} x {width} pixels",
        f"- Training: AdamW, one-cycle learning rate up to {recipe.lr:g}, weight decay {recipe.weight_decay:g}, "
        f"{recipe.epochs} epoch{'' if recipe.epochs == 1 else 's'}, batches of {recipe.batch_size}, "
        f"label smoothing {recipe.label_smoothing:g}, "
        f"augmentation: {' and '.join(augmentation) or 'none'}, seed {recipe.seed}",
        f"- Data: {_plain(data)}",
        f"- License of the data: {data_license or NOT_STATED}",
        "- License of these weights: not chosen by whoever trained them",
        "",
    ]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """One line without Markdown's and HTML's marks."""
    return re.sub(r"[\s<>|`*\[\]]+", " ", text).strip()
