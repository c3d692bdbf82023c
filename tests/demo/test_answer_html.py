"""The app's answer as HTML: exact numbers, every gray level of the pictures, and no name that is taken for markup."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from learners import as_pil, pictures
from PIL import Image

from hf_free.demo.answer_html import answer_html, in_letters
from hf_free.demo.class_sessions import Answer, Near

ODD = "<b>${value} {{x}} é"


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "one.png"
    as_pil(pictures(1, size=24))[0].save(path)
    return path


def test_it_says_class_numbers_and_nearest_pictures(picture):
    answer = Answer(ODD, {"ant": 1 / 3, ODD: 2 / 3}, [Near(picture, ODD, 0.9876)])
    page = ElementTree.fromstring(f"<div>{answer_html(answer, picture)}</div>")
    assert "".join(page.find("h3").itertext()) == f"{ODD}, 66.7 %"
    rows = [["".join(cell.itertext()) for cell in row] for row in page.iter("tr")]
    assert rows == [["Class", "Probability"], [ODD, "66.7 %"], ["ant", "33.3 %"]]
    assert page.find(".//figcaption").text == f"{ODD}, similarity 0.988"
    assert json.loads(page.find(".//pre").text) == answer.probabilities
    for image in page.iter("img"):
        kind, content = image.get("src").split(",")
        assert kind == "data:image/png;base64"
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
        np.testing.assert_array_equal(shown, np.asarray(Image.open(picture).convert("RGB")))
        assert image.get("alt") is not None


def test_none_of_the_classes_is_said(picture):
    assert "<h3>None of these</h3>" in answer_html(Answer(None, {"a": 0.5, "b": 0.5}, []), picture)


def test_no_letter_of_a_name_is_markup_or_template():
    written = in_letters(ODD)
    assert html.unescape(written) == ODD
    assert not re.search(r"[<>${}]", written)
