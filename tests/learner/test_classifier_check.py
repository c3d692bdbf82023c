"""Attributes of a classifier that are put in by hand: they fit, or one message names them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from learners import LABELS, as_pil, make, pictures

from hf_free.errors import HfFreeError, LearnerError
from hf_free.learner.classifier import FewShotClassifier
from hf_free.learner.support import SupportSet


def adapted() -> FewShotClassifier:
    return make().adapt(as_pil(pictures()), LABELS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("classes", value) for value in (3, None, "abc", {"a"}, ["a", "b"], ["a", "b", "b"])],
        *[("classes", value) for value in (["a", "b", None], [True, 1, 2], ["a", "b", "\ud800"], [1.5, 2, 3])],
        *[("support", value) for value in (3, "x", ["a"], torch.zeros(3))],
        ("support", SupportSet(("a", "b"), torch.tensor([0, 1]), torch.zeros(2, 8))),
        ("support", SupportSet(("a", "b", "c"), torch.tensor([0, 1, 1]), torch.zeros(3, 64))),
        ("support", SupportSet(("a", "b", "c"), [0, 1, 2], None)),
        *[("weight", value) for value in (None, [[1.0]], torch.zeros(3), torch.zeros(3, 2), torch.zeros(0, 0))],
        *[("bias", value) for value in (None, torch.zeros(2), torch.zeros(3, dtype=torch.long))],
        *[(name, 3) for name in ("embedder", "transductive", "background", "record", "origin")],
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_what_does_not_fit_is_named_wherever_it_is_used(tmp_path, name, value):
    classifier = adapted()
    setattr(classifier, name, value)
    calls = {
        "predict": lambda: classifier.predict(as_pil(pictures())),
        "top_k": lambda: classifier.top_k(as_pil(pictures()), 2),
        "add": lambda: classifier.add_class("dog", as_pil(pictures())),
        "remove": lambda: classifier.remove_class("ant"),
        "calibrate": classifier.calibrate_rejection,
        "save": lambda: classifier.save_pretrained(tmp_path / "saved"),
    }
    for call in calls.values():
        with pytest.raises(HfFreeError, match=name[:5]):
            call()
    assert name[:5] in repr(classifier)
    assert not (tmp_path / "saved").exists()


def test_classes_that_get_other_names_keep_them_in_files_and_when_more_are_learned(tmp_path):
    classifier = adapted()
    expected = [{"cat": "Cat"}.get(label, label) for label in classifier.predict(as_pil(pictures()))]
    classifier.classes[classifier.classes.index("cat")] = "Cat"
    assert classifier.predict(as_pil(pictures())) == expected
    loaded = FewShotClassifier.from_pretrained(classifier.save_pretrained(tmp_path / "saved"))
    assert loaded.predict(as_pil(pictures())) == expected
    classifier.add_class("dog", as_pil(pictures(seed=2)))
    assert sorted(classifier.classes) == ["Cat", "ant", "bee", "dog"]


def test_numbers_of_numpy_and_names_of_colors_are_saved_as_what_they_are(tmp_path):
    classifier = adapted()
    classifier.classes, classifier.background = tuple(np.arange(3)), "black"
    loaded = FewShotClassifier.from_pretrained(classifier.save_pretrained(tmp_path / "saved"))
    assert (loaded.classes, loaded.background) == ([0, 1, 2], (0, 0, 0))
    with pytest.raises(LearnerError, match="there is a class 2 already"):
        classifier.add_class(2, as_pil(pictures()))
