"""The methods by name, and what adding one takes: a file and a line."""

from __future__ import annotations

import json
import re
import runpy
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from pico import pico_run, pico_teacher

from hf_free.cli.main import main
from hf_free.config.recipes import RECIPES
from hf_free.config.tree import FreeConfig
from hf_free.errors import ConfigError
from hf_free.methods.registry import METHODS, list_methods, register
from hf_free.teachers.pool import TeacherPool
from hf_free.training.trainer import train

ROOT = Path(__file__).resolve().parents[2]


def test_each_stands_under_its_own_name_once():
    assert all(name == method.name for name, method in METHODS.items())
    assert len({method.title for method in list_methods()}) == len(METHODS)
    assert list_methods()[0].name == "default", "what is taken where nothing is said comes first"
    with pytest.raises(ValueError, match="there is a method 'paper' already"):
        register(METHODS["paper"])


FILE, LINE, *_ = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/methods/adding.md").read_text(), re.M | re.S)
"""The example of the documentation."""


@pytest.fixture
def smaller(tmp_path):
    """A method that is added in one file and one line, those of the documentation."""
    (tmp_path / "smaller.py").write_text(FILE)
    spec = spec_from_file_location("smaller", tmp_path / "smaller.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    exec(LINE, {"register": register, "smaller": module})
    yield module.SMALLER
    del METHODS["smaller"], RECIPES["smaller"]


def test_a_method_of_one_file_and_one_line_is_in_card_list_and_documentation(smaller, tmp_path, capsys):
    values = pico_run()
    del values["bell"], values["five"]["width"]
    config = FreeConfig.from_dict({"method": "smaller", **values})
    assert (config.five.width, config.bell.updates_per_step) == (4, 3), "its constants lie below what is given"
    pool = TeacherPool.from_teachers([pico_teacher("conv4", size=16, num_classes=3, seed=seed) for seed in range(2)])
    learner = train(config, output=tmp_path / "run", pool=pool, progress=False)
    assert learner.record.method == smaller.facts
    card = (tmp_path / "run" / "learner" / "README.md").read_text(encoding="utf-8")
    assert "Method: FREE with a small generator. Paper: Nobody: A Small Generator, nowhere 2026" in card
    assert "(<https://example.org/smaller>)" in card
    assert "- the generator has four channels" in card
    assert "Settings that are not those of the method smaller: " in card

    capsys.readouterr()
    assert main(["methods", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[-1] == {**smaller.facts.to_dict(), "needs": "gradients"}
    page = runpy.run_path(str(ROOT / "docs" / "generate_reference.py"))["methods_markdown"]()
    assert "| `smaller` | FREE with a small generator | [Nobody: A Small Generator, nowhere 2026]" in page
    assert "- the generator has four channels" in page


def test_a_name_that_is_not_registered_is_refused():
    names = [f"'{name}'" for name in METHODS]
    rule = f"{', '.join(names[:-1])} or {names[-1]}"
    with pytest.raises(ConfigError, match=rf"method = 'smaller'[\s\S]*{rule}"):
        FreeConfig.from_dict({"method": "smaller"})
