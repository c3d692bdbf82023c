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


def test_it_is_as_often_right_about_the_sets_in_the_guides_table_as_it_says():
    sets = {"7 of": ["conv4"] * 7, "6 strong": ["resnet"] * 6, "these and": ["conv4"] * 100 + ["resnet"] * 6}
    sets |= {"the 100": ["conv4"] * 100, "30 Conv-4": ["conv4"] * 30, "the same, on letters": ["conv4"] * 30}
    sets |= {"18 weak": [f"kind-{place // 3}" for place in range(18)]}
    right, measured = {"pooled": 0, "trained": 0}, {"pooled": 0, "trained": 0}
    for line in GUIDE.read_text(encoding="utf-8").splitlines():
        kinds = next((kinds for words, kinds in sets.items() if line.startswith(f"| {words}")), None)
        if kinds is None:
            continue
        *_, pooled, _, _, trained = (part.strip(" *") for part in line.strip("| ").split("|"))
        one, other = (float(re.findall(r"[\d.]+", part)[0]) for part in (pooled, trained))
        found = forecast(kinds)
        measured[found.likely] += 1
        right[found.likely] += found.likely == ("pooled" if one > other else "trained")
    for kinds in (["conv4"], ["conv4"] * 100):
        said = forecast(kinds)
        assert (right[said.likely], measured[said.likely]) == (said.right, said.measured)
