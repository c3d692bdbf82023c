"""The card of an adapted classifier."""

from __future__ import annotations

import json

import yaml
from huggingface_hub import ModelCard
from learners import LABELS, make, pictures
from records import record, secret_teacher, teacher

from hf_free.learner.persistence import Origin
from hf_free.publishing.classifier_card import write_classifier_card


def card_of(folder, *, origin=None, labels=LABELS, source=None, **kind):
    learner = make(record=source or record(teachers=[teacher()], results=[]), **kind)
    learner.origin = origin
    classifier = learner.adapt(pictures(), labels)
    classifier.calibrate_rejection(0.2)
    classifier.save_pretrained(folder)
    return write_classifier_card(folder, repo_id="me/pets").read_text(encoding="utf-8")


def test_it_names_its_learner_its_classes_and_what_the_repository_holds(tmp_path):
    text = card_of(tmp_path, origin=Origin("me/learner", "c0ffee", private=False))
    front = yaml.safe_load(text.split("---")[1])
    assert front["pipeline_tag"] == "image-classification"
    assert front["base_model"] == ["me/learner"]
    for part in (
        "# pets\n",
        "[me/learner](https://huggingface.co/me/learner/tree/c0ffee)",
        "| cat | 3 |",
        'FewShotClassifier.from_pretrained("me/pets")',
        "classifier.add_class",
        "rejected 20 % of the support pictures",
        "holds the features of the support pictures",
    ):
        assert part in text
    assert ModelCard(text).data.library_name == "hf-free"


def test_a_private_learner_and_hidden_teachers_go_unnamed(tmp_path):
    source = record(teachers=[secret_teacher()], results=[])
    text = card_of(tmp_path, origin=Origin("me/secret", "c0ffee", private=True), source=source)
    assert "a private learner" in text
    assert "me/secret" not in text
    assert "base_model" not in text
    config = json.loads((tmp_path / "config.json").read_text())
    assert secret_teacher()["reference"] not in json.dumps(config)


def test_names_of_classes_stay_in_their_cells(tmp_path):
    nasty = ["a | b\n# c", "<b>x</b>"] * 3
    text = card_of(tmp_path, labels=nasty, batchnorm="support")
    assert "| a \\| b \\# c | 3 |" in text
    assert "<b>" not in text
    assert "classifier.add_class" not in text, "its pictures were not saved, so that no class can be added"
