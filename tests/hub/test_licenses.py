"""What a license's identifier says."""

from __future__ import annotations

import pytest

from hf_free.hub.licenses import is_non_commercial, is_unclear, stated_license


@pytest.mark.parametrize("text", ["cc-by-nc-4.0", "CC-BY-NC-SA-3.0", "h-research", "apple-amlr", "noncommercial"])
def test_non_commercial(text):
    assert is_non_commercial(text)
    assert not is_unclear(text)


@pytest.mark.parametrize("text", ["mit", "apache-2.0", "ncsa", "cc-by-4.0", None])
def test_any_use(text):
    assert not is_non_commercial(text)
    assert not is_unclear(text)


@pytest.mark.parametrize("text", ["unknown", "Other", "other (my own)"])
def test_unclear(text):
    assert is_unclear(text)


@pytest.mark.parametrize(
    ("metadata", "stated"),
    [
        ({}, None),
        ({"license": " "}, None),
        ({"license": 7}, None),
        ({"license": "mit"}, "mit"),
        ({"license": ["mit", "apache-2.0"]}, "mit, apache-2.0"),
        ({"license": "other"}, "other"),
        ({"license": "other", "license_name": "my\n own"}, "other (my own)"),
        ({"license": "mit", "license_name": "ignored"}, "mit"),
    ],
)
def test_what_a_card_states(metadata, stated):
    assert stated_license(metadata) == stated


def test_a_card_whose_anchors_multiply_stays_small():
    value: object = "mit"
    for _ in range(40):  # 2 to the power of 40 texts, if anybody wrote them out
        value = [value, value]
    assert stated_license({"license": value}) is None
    assert len(stated_license({"license": "x" * 10_000}) or "") == 300
