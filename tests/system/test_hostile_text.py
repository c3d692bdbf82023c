"""What a stranger wrote, wherever it is shown: it is text, and does nothing."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from rich.table import Table

from hf_free.cli.console import plain, say, show_error, warn, write_json
from hf_free.errors import HubError
from hf_free.evaluation.predictions import Prediction, as_csv
from hf_free.provenance.learner_record import LearnerRecord
from hf_free.publishing.card import write_card
from hf_free.reporting.style import new_figure, plain_text

HOSTILE = {
    "color": "cat\x1b[31m",
    "clear": "\x1b[2J\x1b]0;title\x07cat",
    "one-byte command": "cat\x9b31m",
    "backwards": "cat\u202egnp.exe",
    "invisible": "c\u200ba\u2066t\ufeff",
    "lines": "cat\r\nlicense: mit\u2028base_model: evil/x\x85y\x0bz",
    "null": "cat\x00dog",
    "rich": "[red]cat[/red][link=https://evil.example]x[/link]",
    "html": "<script>alert(1)</script><img src=x onerror=y>",
    "link": "[cat](javascript:alert(1)) ![x](https://evil.example/p.png)",
    "cell": "cat | dog || `x` *b* _i_ # h",
    "fence": "```\n---\nlicense: mit\n---\n```",
    "jinja": "{{ 7 * 7 }}{% raw %}",
    "mathematics": r"$\frac{cat}{0}$ $",
    "formula": '=HYPERLINK("https://evil.example","x")',
    "formula with a sign": "+cmd|' /C calc'!A0",
    "formula with an at": "@SUM(1+1)",
    "formula after a blank": "\t=1+1",
    "half a pair": "cat\ud800",
    "YAML": "!!python/object/apply:os.system [x]",
    "anchor": "&a [*a]",
    "long": "x" * 5000,
}


def _commands(text: str) -> set[str]:
    """The characters of a text that steer what shows it."""
    return {char for char in text if char != "\n" and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")}


@pytest.fixture(params=HOSTILE, ids=list(HOSTILE))
def name(request) -> str:
    return HOSTILE[request.param]


def test_terminal(name, capsys):
    say(name)
    warn(name)
    show_error(HubError(name, allowed=name, action=name))
    table = Table()
    table.add_column("x", overflow="fold")
    table.add_row(plain(name))
    console = Console(file=io.StringIO(), force_terminal=False, width=80)
    console.print(table)
    shown = capsys.readouterr().err + console.file.getvalue()
    assert not _commands(shown)
    if "[red]" in name:
        assert "[red]cat[/red]" in shown


def test_json(name, capsys):
    write_json({"label_names": [name]})
    out = capsys.readouterr().out
    assert not _commands(out)
    assert json.loads(out) == {"label_names": [name]}, "escaped, not changed"


def test_csv(name):
    rows = [Prediction(name, Path(name), label=name, probabilities={name: 0.5}, error=name)]
    text = as_csv(rows)
    header, row = csv.reader(io.StringIO(text))
    assert header == ["image", "label", "probability", "error"]
    assert not _commands(text)
    assert row[2] == "0.5000"
    for cell in (row[0], row[1], row[3]):
        assert cell[:1] not in tuple("=+-@\t\r")


@pytest.mark.parametrize("number", ["-1", "+2.5", "-1e-3", "0"])
def test_csv_keeps_numbers(number):
    row = Prediction("a.png", Path("a.png"), label=number, probabilities={number: 1.0})
    assert f"a.png,{number},1.0000," in as_csv([row])


def test_figures(name):
    shown = plain_text(name)
    assert not _commands(shown)
    assert not re.search(r"(?<!\\)\$", shown)
    new_figure(2, 1, name).canvas.draw()


def test_card(name, tmp_path):
    """In YAML the name is one text where it stands; in Markdown it is letters on one line."""
    teacher = {"reference": name, "architecture": name, "license": name, "label_names": [name], "num_classes": 1}
    skipped = {"reference": name, "reason": name}
    rows = [{"method": name, "n_way": 5, "k_shot": 1, "n_query": 1, "episodes": 1, "accuracy": 50.0, "interval": 1.0}]
    results = [{"dataset": name, "split": name, "rows": rows, "warnings": [name]}]
    config = {"models": [name], "learner": {"backbone": name}}
    block = {"teachers": [teacher], "skipped": [skipped], "results": results, "versions": {name: name}}
    text = write_card(tmp_path, LearnerRecord.from_dict({**block, "config": config})).read_text(encoding="utf-8")
    assert not _commands(text)
    _, front, body = re.split(r"^---$", text, maxsplit=2, flags=re.MULTILINE)
    metadata = yaml.safe_load(front)
    assert not {"base_model: evil/x", "evil/x"} & set(map(str, metadata.values()))
    assert metadata.get("license") != "mit"
    outside = re.sub(r"^(`{3,})yaml\n.*?^\1$", "", body, flags=re.MULTILINE | re.DOTALL)
    assert not re.search(r"(?<!\\)<(script|img)|(?<!\\)\]\((javascript|https://evil)", outside)
    assert "49" not in outside if "7 * 7" in name else True
