"""Tampered records: whatever stands in place of an entry, what reads them gets on."""

from __future__ import annotations

import copy
import random

import pytest
from records import local_teacher, record, report, secret_teacher, teacher

from hf_free.provenance.learner_record import LearnerRecord
from hf_free.provenance.mending import MOST_LEVELS, mended
from hf_free.publishing.card import write_card


def _nested(levels, wrap):
    value = "x"
    for _ in range(levels):
        value = wrap(value)
    return value


STRANGE = {
    "nothing": None,
    "true": True,
    "number": 3,
    "nan": float("nan"),
    "text": "x",
    "empty": "",
    "list": [],
    "list of nothing": [None],
    "object": {},
    "object of nothing": {"a": None},
    "400 digits": 10**400,
    "5000 digits": 10**5000,
    "long": "y" * 10_000,
    "null byte": "a\0b",
    "half a pair": "\ud800",
    "front matter": "a\n---\nb",
    "deep list": _nested(5000, lambda value: [value]),
    "deep object": _nested(5000, lambda value: {"a": value}),
}
BASE = record(
    teachers=[teacher("lab/a"), secret_teacher(), local_teacher("./x/y")],
    results=[report()],
    learner={"init_from": "timm:resnet18"},
)


def _paths(value, path=()):
    if path:
        yield path
    if isinstance(value, dict):
        for key in value:
            yield from _paths(value[key], (*path, key))
    elif isinstance(value, list) and value:
        yield from _paths(value[0], (*path, 0))


def test_a_whole_record_stays_as_it_is():
    assert mended(BASE) == BASE
    assert mended({}) == {}


@pytest.mark.parametrize("place", [*((key,) for key in BASE), ("teachers", 0), ("results", 0), ("results", 0, "rows")])
def test_a_card_is_written_whatever_stands_in_place_of_a_part(tmp_path, place):
    for value in STRANGE.values():
        _tampered_card(tmp_path, place, value)


def test_a_card_is_written_whatever_stands_in_place_of_a_value(tmp_path):
    """A fixed share of all places and values."""
    draw = random.Random(0)
    for place in draw.sample(sorted(_paths(BASE), key=str), 40):
        _tampered_card(tmp_path, place, draw.choice(list(STRANGE.values())))


def _tampered_card(folder, place, value):
    block = copy.deepcopy(BASE)
    holder = block
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    write_card(folder, LearnerRecord.from_dict(block))
    assert (folder / "README.md").read_text(encoding="utf-8").startswith("---\n")


def test_what_is_too_deep_is_cut():
    cut = mended({"a": _nested(100, lambda value: [value])})["a"]
    levels = 0
    while isinstance(cut, list):
        cut, levels = cut[0], levels + 1
    assert levels == MOST_LEVELS - 1
    assert cut is None
