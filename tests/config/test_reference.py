"""The page of all settings, written from the code."""

from __future__ import annotations

import re
from pathlib import Path

from hf_free.config.reference import configuration_markdown


def test_the_configuration_page_is_up_to_date():
    page = Path(__file__).parents[2] / "docs" / "reference" / "configuration.md"
    assert page.read_text(encoding="utf-8") == configuration_markdown(), "run python -m hf_free.config.reference"


def test_the_configuration_page_names_every_key():
    from hf_free.config.tree import known_keys

    rows = re.findall(r"^\| `([a-z_.]+)` \|", configuration_markdown(), flags=re.MULTILINE)
    assert rows == sorted(known_keys(), key=rows.index)
    assert len(rows) == len(set(rows)) == len(known_keys())
