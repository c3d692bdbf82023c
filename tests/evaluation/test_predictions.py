"""Rows of a classifier's answers about files."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
import torch
from learners import LABELS, as_pil, make, pictures

from hf_free.evaluation import predictions
from hf_free.evaluation.picture_sources import NamedPicture
from hf_free.evaluation.predictions import Prediction, as_csv, predict_files


@pytest.fixture
def files(tmp_path):
    for index, picture in enumerate(as_pil(pictures(7, 20, seed=5))):
        picture.save(tmp_path / f"{index}.png")
    (tmp_path / "3.png").write_bytes(b"no picture")
    return [NamedPicture(path, path.name) for path in sorted(tmp_path.iterdir())]


@pytest.mark.parametrize("kind", [{}, {"batchnorm": "transductive"}])
def test_files_in_parts_are_answered_as_at_once_and_in_their_order(files, monkeypatch, kind):
    classifier = make(**kind).adapt(pictures(), LABELS)
    readable = [str(file.path) for file in files if file.name != "3.png"]
    expected = classifier.predict_proba(readable)
    monkeypatch.setattr(predictions, "PICTURES_AT_ONCE", 2)
    found = predict_files(classifier, files)
    assert [row.image for row in found.rows] == [file.name for file in files]
    assert [row.image for row in found.unread] == ["3.png"]
    probabilities = [list(row.probabilities.values()) for row in found.rows if row.probabilities]
    torch.testing.assert_close(torch.tensor(probabilities), expected, rtol=1e-4, atol=1e-6)


def test_cells_that_begin_like_a_formula_are_disarmed_and_no_others():
    nasty = ["=1+1", "+1", "-x", "@x", "a=b", "plain, with a comma", 'quo"te']
    rows = [Prediction(name, Path(name), label=name, probabilities={name: 1.0}, top=((name, 1.0),)) for name in nasty]
    read = list(csv.DictReader(io.StringIO(as_csv(rows, 1), newline="")))
    for row, name in zip(read, nasty, strict=True):
        expected = f"'{name}" if name in ("=1+1", "-x", "@x") else name
        assert (row["image"], row["label"]) == (expected, expected)
    number = Prediction("a", Path("a"), label=-3, probabilities={-3: 1.0}, top=((-3, 1.0),))
    assert "a,-3,1.0000," in as_csv([number])
