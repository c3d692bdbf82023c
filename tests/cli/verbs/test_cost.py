"""`hf-free cost`: operations of a pass."""

from __future__ import annotations

from program import refused

from hf_free.cli.main import main


def test_cost_without_a_model_prints_the_papers_table(capsys):
    assert main(["cost"]) == 0
    out = capsys.readouterr().out
    for row in ("0.03 / 0.03", "7.87 / 7.8", "128.34 / 127."):
        assert row in out


def test_flags_about_a_model_are_refused_without_one(capsys):
    assert "--revision without an ID" in refused(capsys, "cost", "--revision", "v1")


def test_a_black_box_has_no_operations_to_count(capsys):
    assert main(["cost", "endpoint:http://127.0.0.1:9/x"]) == 1
    assert "is a black box" in capsys.readouterr().err
