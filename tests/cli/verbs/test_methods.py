"""`hf-free methods`, and `--recipe` as an older word for `--method`."""

from __future__ import annotations

import json

from hf_free.cli.main import main
from hf_free.methods.registry import METHODS


def test_every_method_is_listed_with_its_paper(capsys):
    assert main(["methods"]) == 0
    shown = capsys.readouterr().out
    for method in METHODS.values():
        assert method.name in shown
        assert method.url in shown
        assert method.title.split(":")[0] in shown


def test_json_has_the_facts_and_no_code(capsys):
    assert main(["methods", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in found] == list(METHODS)
    assert set(found[0]) == {"name", "title", "paper", "url", "needs", "departures"}
    assert found[0]["departures"] == list(METHODS["default"].departures)
    assert main(["methods", "-q"]) == 0
    assert capsys.readouterr().out.split() == list(METHODS)


def test_method_is_another_word_for_recipe(capsys, tmp_path):
    words = ["train", "--models", "a/b", "c/d", "--output", str(tmp_path / "run")]
    for flag in ("--method", "--recipe"):
        assert main([*words, flag, "best"]) == 1
        assert "method = 'best'" in capsys.readouterr().err
