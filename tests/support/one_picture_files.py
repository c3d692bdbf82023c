"""What the tests of exported files that take one picture of one size have in common."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from learners import LABELS, SIZE, make, pictures
from torch import Tensor

import hf_free
from hf_free.learner.classifier import FewShotClassifier
from hf_free.learner.export import Exported
from hf_free.learner.rejection import Rejection

KINDS = [
    ({}, None),
    ({"views": ("identity", "flip")}, (48, 31)),
    ({"channels": 1}, None),
    ({}, (5, 3)),
]
"""Settings of a learner, and the size of the picture that its file takes; None: the learner's own."""


def small_classifier(**kind: object) -> FewShotClassifier:
    """A classifier that can reject pictures."""
    classifier = make("conv4_32", model_args={"width": 8}, head="ridge", **kind).adapt(pictures(), LABELS)
    classifier.rejection = Rejection(1.5)
    return classifier


def check_file(
    done: Exported,
    classifier: FewShotClassifier,
    size: tuple[int, int] | None,
    ask: Callable[[Tensor], tuple[Tensor, Tensor]],
) -> None:
    """Check an exported file, what lies beside it, and its answers in its own runtime.

    Args:
        done: What the export told of it.
        classifier: What was exported.
        size: Height and width that were asked for.
        ask: uint8 (1, 3, H, W) -> probabilities (1, N) and confidence (1,).
    """
    height, width = size or (SIZE, SIZE)
    assert (done.input_size, done.resizes) == ((height, width), size is not None)
    assert sorted(path.name for path in done.path.parent.iterdir()) == [done.path.name, done.labels.name]
    assert done.bytes == done.path.stat().st_size
    about = json.loads(done.labels.read_text())
    assert about["labels"] == classifier.classes
    assert about["input_size"] == [height, width]
    assert ("the file resizes" in about["input"]) == (size is not None)
    images = torch.randint(
        0, 256, (4, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(3)
    )
    answers = classifier.answers(classifier.embed(images))
    for place, expected in enumerate(classifier.predict_proba(images)):
        probabilities, confidence = ask(images[place : place + 1])
        # without a resize only sums are in another order; with one a value may be rounded to the other gray level
        tolerance = 1e-5 if size is None else 2e-3
        torch.testing.assert_close(probabilities[0], expected, rtol=0, atol=tolerance)
        torch.testing.assert_close(float(confidence[0]), float(answers.confidence[place]), rtol=0, atol=2e-2)
    content = done.path.read_bytes()
    for here in (Path(hf_free.__file__).parents[1], done.path.parent, sys.prefix, Path.home()):
        assert str(here).encode() not in content
