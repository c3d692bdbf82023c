"""What a notebook's cell shows: text as text, and never an error."""

from __future__ import annotations

from hf_free.runtime.notebook import cell_html


def test_texts_stay_texts():
    shown = cell_html("<i>", lambda: [("a & b", "<script>\x1b[1m")])
    assert shown == (
        "<table><caption>&lt;i&gt;</caption><tbody>"
        '<tr><th scope="row">a &amp; b</th><td>&lt;script&gt;\N{REPLACEMENT CHARACTER}[1m</td></tr></tbody></table>'
    )


def test_what_cannot_be_read_is_said_and_not_raised():
    def broken():
        yield "fine", "so far"
        raise ZeroDivisionError("<secret>")

    assert "It cannot be shown: ZeroDivisionError" in cell_html("x", broken)
    assert "secret" not in cell_html("x", broken)
