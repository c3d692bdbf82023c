"""Which learner is likely to be the most accurate."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hf_free.provenance.forecast import FEW_TEACHERS, forecast

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "pooled.md"


@pytest.mark.parametrize(
    ("architectures", "likely"),
    [
        (["conv4_32"] * 7, "pooled"),
        (["resnet20", "resnet56", "vgg"], "pooled"),
        (["conv4_32"] * FEW_TEACHERS, "pooled"),
        (["conv4_32"] * 100, "trained"),
        (["conv4_32"] * 100 + ["resnet20"] * 6, "pooled"),
    ],
)
def test_few_or_unlike_teachers_are_pooled(architectures, likely):
    found = forecast(architectures)
    assert found.likely == likely
    assert f"{found.right} of {found.measured}" in found.text


def test_it_would_have_been_right_about_each_set_in_the_guides_table():
    sets = {"7 of": 7, "6 strong": 6, "these and": 106, "the 100": 100, "30 Conv-4": 30, "the same, on letters": 30}
    measured = {"pooled": 0, "trained": 0}
    for line in GUIDE.read_text(encoding="utf-8").splitlines():
        count = next((number for words, number in sets.items() if line.startswith(f"| {words}")), None)
        if count is None:
            continue
        *_, pooled, _, _, trained = (part.strip(" *") for part in line.strip("| ").split("|"))
        one, other = (float(re.findall(r"[\d.]+", part)[0]) for part in (pooled, trained))
        kinds = ["conv4"] * 100 + ["resnet"] * 6 if count == 106 else ["conv4"] * count
        found = forecast(kinds)
        assert found.likely == ("pooled" if one > other else "trained"), line
        measured[found.likely] += 1
    assert measured == {"pooled": forecast(["conv4"]).measured, "trained": forecast(["conv4"] * 100).measured}
