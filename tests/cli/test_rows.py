"""Tables that fit: at no width is a word cut that the window has room for."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console
from rich.text import Text

from hf_free.cli.rows import Rows

LONG = "timm/convnext_base.clip_laion2b_augreg_ft_in12k_in1k"
TABLE = Rows(
    ("Model", "Network", "Classes", "License"),
    [
        (LONG, "convnext_base, 3x224x224, 20 LayerNorm, 6 LayerNorm2d", 1000, "cc-by-nc-4.0"),
        ("lab/x", Text("conv4_32"), 5, "[b]not given[/b]"),
    ],
    title="[i]two",
    caption="below",
    numbers=frozenset({"Classes"}),
)


def _shown(rows, width):
    console = Console(file=io.StringIO(), width=width)
    console.print(rows)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_every_word_is_whole_and_no_line_too_long(width):
    text = _shown(TABLE, width)
    words = re.split(r"[\s│]+", text)
    for word in (
        LONG,
        "convnext_base,",
        "3x224x224,",
        "LayerNorm2d",
        "1000",
        "cc-by-nc-4.0",
        "[b]not",
        "[i]two",
        "below",
    ):
        assert word.strip(";") in [found.strip(";") for found in words], word
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text


def test_a_wide_window_has_a_table_and_a_narrow_one_a_paragraph_each():
    assert "┃ Model" in _shown(TABLE, 160)
    assert "┃" not in _shown(TABLE, 60)
    assert _shown(TABLE, 60).splitlines()[1] == LONG
    assert _shown(TABLE, 60).splitlines()[2].rstrip() == "  Network: convnext_base, 3x224x224, 20 LayerNorm, 6"


def test_the_widest_column_is_narrowed_first_and_numbers_stand_right():
    table = Rows(("A", "B"), [("one two three four five six", "7")], numbers=frozenset({"B"}))
    lines = _shown(table, 22).splitlines()
    assert lines[3:5] == ["│ one two three  │ 7 │", "│ four five six  │   │"]


def test_facts_on_several_lines_stay_lines_in_a_paragraph():
    text = _shown(Rows(("Model", "Found"), [("a" * 30, "one: 1\ntwo: 2")]), 24)
    assert text.splitlines()[2:] == ["  one: 1                ", "  two: 2                "]
