"""What people write into a card stays when hf-free writes its sections anew."""

from __future__ import annotations

import pytest
import yaml
from huggingface_hub import ModelCard
from records import record, report, teacher

from hf_free.publishing.edits import has_sections, is_edited, with_fresh_sections


def by_hand(text):
    """The card, edited in all the ways that people edit one."""
    text = text.replace("tags:\n", "language: en\ntags:\n- owls\n").replace("license: mit", "license: apache-2.0")
    text = text.replace(
        "<!-- hf-free: use begins -->", "## Mind the owls\n\nThey bite.\n\n<!-- hf-free: use begins -->"
    )
    before, _, after = text.partition("<!-- hf-free: citation begins -->")
    assert after
    return before + "The end.\n"


def test_a_card_is_all_sections_until_somebody_writes_between_them(card):
    text = card(record(results=[report()]))
    assert has_sections(text)
    assert not is_edited(text)
    assert is_edited(by_hand(text))
    assert not has_sections("# Mine\n")
    assert is_edited("---\nlicense: mit\n---\n# Mine\n")


def test_results_come_in_and_what_was_written_by_hand_stays(card):
    old, fresh = card(record()), card(record(results=[report()]))
    merged = with_fresh_sections(by_hand(old), fresh)
    for kept in ("## Mind the owls\n\nThey bite.\n\n<!-- hf-free: use begins -->", "The end.\n"):
        assert merged.count(kept) == 1
    assert "3-way 5-shot 73.0" in merged
    assert "Not measured yet" not in merged
    assert "## Citation" not in merged, "a section that was deleted stays so"
    data, written = ModelCard(merged).data.to_dict(), ModelCard(fresh).data.to_dict()
    assert data["language"] == "en"
    assert data["tags"] == ["owls", *written["tags"]]
    assert {**data, "language": None, "tags": None} == {**written, "language": None, "tags": None}
    assert with_fresh_sections(merged, fresh) == merged, "once is enough"


def test_what_is_no_longer_true_goes(card):
    old = card(record(results=[report()]))
    merged = with_fresh_sections(old, card(record([teacher("lab/c", license="cc-by-4.0")])))
    data = ModelCard(merged).data.to_dict()
    assert data["base_model"] == ["lab/c"]
    assert data["license"] == "cc-by-4.0"
    assert not {"model-index", "metrics"} & data.keys()
    assert "73.0" not in merged


def test_a_card_of_ones_own_gets_its_results_at_the_end(card):
    merged = with_fresh_sections("# Mine\n\nWritten by me.\n", card(record(results=[report()])))
    body = merged.split("\n---\n", 1)[1].strip()
    assert body.startswith("# Mine\n\nWritten by me.\n\n<!-- hf-free: results begins -->\n## Results")
    assert body.endswith("<!-- hf-free: results ends -->")


@pytest.mark.parametrize(
    "block",
    ["[a: b", "- a list", "a: 2020-13-45", "a: " + "1" * 5000, "a: " + "[" * 400],
    ids=["open", "list", "no day", "digits", "deep"],
)
def test_metadata_that_cannot_be_read_are_written_anew_and_it_is_said(card, block, caplog):
    fresh = card(record())
    merged = with_fresh_sections(f"---\n{block}\n---\n# Mine\n", fresh)
    assert yaml.safe_load(merged.split("---\n")[1]) == yaml.safe_load(fresh.split("---\n")[1])
    assert "# Mine" in merged
    assert "the metadata of a card are written anew" in caplog.text
