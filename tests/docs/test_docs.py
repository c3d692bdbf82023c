"""What README and docs say can be done as written: every command's verb and flags, every link, every constant."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from hf_free.cli.main import app
from hf_free.config.recipes import RELEASED_DEFECTS, recipe_values
from hf_free.config.tree import FreeConfig, known_keys

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _commands():
    """Every `hf-free` command line of the pages' fenced blocks, continuation lines joined."""
    for page in PAGES:
        blocks = re.findall(r"^```(?:bash|console)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
        for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
            command = line.strip().removeprefix("$ ")
            if command.startswith("hf-free "):
                yield pytest.param(command, id=f"{page.name}: {command[:60]}")


@pytest.mark.parametrize("line", list(_commands()))
def test_commands_name_verbs_and_flags_that_exist(line):
    words = shlex.split(line, comments=True)[1:]
    program = get_command(app)
    verb = program.commands.get(words[0])
    flags = {flag for option in (verb or program).params for flag in (*option.opts, *option.secondary_opts)}
    assert verb is not None or words[0] in flags, f"no verb {words[0]!r}"
    unknown = [word for word in words if word.startswith("--") and word not in flags | {"--help"}]
    assert not unknown, f"{words[0]} has no {unknown}"


def test_the_readmes_table_of_verbs_says_what_may_be_left_out():
    rows = re.findall(r"^\| `hf-free (\S+)([^`]*)` \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    commands = get_command(app).commands
    for verb, words in rows:
        arguments = [each for each in commands[verb].params if each.param_type_name == "argument"]
        first = words.split()[0] if words else "--"
        needed = bool(arguments) and arguments[0].required
        assert (not first.startswith(("[", "--"))) == needed, f"hf-free {verb}{words}"
    assert {verb for verb, _ in rows} == set(commands)


def test_assignments_name_keys_that_exist():
    keys = {key for page in PAGES for key in re.findall(r"[\w]+\.[\w]+(?==)", page.read_text()) if key[0].islower()}
    sections = {key.partition(".")[0] for key in known_keys() if "." in key}
    used = {key for key in keys if key.partition(".")[0] in sections}
    assert used, "README and docs show how --set is used"
    assert used <= set(known_keys())


def test_the_readme_opens_with_a_small_picture():
    first_screen = (ROOT / "README.md").read_text().partition("## Results")[0]
    (picture,) = re.findall(r"!\[[^]]+\]\(([^)]+)\)", first_screen)
    content = (ROOT / picture).read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) < 150_000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text())
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


def test_constants_are_those_of_the_recipes():
    """A row that fails here: the code has changed since; write the new value and its source."""
    text = (ROOT / "docs/methods/constants.md").read_text()
    rows = re.findall(r"^\| `(\w+)\.(\w+)` \| ([^|]+) \|[^|]*\| ([^|]+) \|", text, re.MULTILINE)
    assert len(rows) > 30
    for position, name in ((2, "paper"), (3, "default")):
        values = FreeConfig(method=name).to_dict()
        written = {f"{row[0]}.{row[1]}": yaml.safe_load(row[position]) for row in rows}
        assert written == {key: values[key.partition(".")[0]][key.partition(".")[2]] for key in written}
    stated = {f"{row[0]}.{row[1]}" for row in rows}
    paper = recipe_values("paper")
    changed = {f"{s}.{k}" for s, part in paper.items() if isinstance(part, dict) for k in part}
    assert changed - stated <= {"bell.n_way", "bell.k_shot", "learner.views"}


def test_every_defect_is_explained():
    named = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/methods/constants.md").read_text(), re.MULTILINE)
    assert set(RELEASED_DEFECTS) <= set(named)


def test_every_package_is_in_the_design():
    text = (ROOT / "docs/design.md").read_text()
    packages = sorted(path.parent.name for path in (ROOT / "hf_free").glob("*/__init__.py"))
    assert [name for name in packages if f"| `{name}` |" not in text] == []


def test_every_experiment_is_in_the_index():
    index = (ROOT / "docs" / "experiments" / "index.md").read_text()
    pages = sorted(path.name for path in (ROOT / "docs/experiments").glob("*.md") if path.name != "index.md")
    assert pages
    assert [name for name in pages if f"({name})" not in index] == []


def test_reference_is_what_the_code_says(forks):
    command = [sys.executable, str(ROOT / "docs/generate_reference.py"), "--check"]
    done = forks.run(command)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def run_example(forks):
    """Run one of the examples as its reader does."""
    return lambda script, *arguments: forks.run([sys.executable, str(ROOT / "examples" / script), *arguments])


def test_example_says_what_is_missing(run_example, tmp_path):
    done = run_example("benchmark", "single", "--zoo", str(tmp_path / "nowhere"))
    assert done.returncode == 1
    assert f"{tmp_path / 'nowhere'} holds 0 teacher(s), 2 are wanted: give their folder with --zoo" in done.stderr


def test_quickstart_explains_itself(run_example):
    done = run_example("quickstart.py", "--help")
    assert done.returncode == 0
    assert "From a few classifiers to a learner of new classes" in done.stdout


def test_every_promise_of_the_security_page_names_a_test_that_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs" / "security.md").read_text())
    assert len(named) > 20
    for file, function in named:
        assert f"def {function}" in (ROOT / file).read_text(), f"{file}::{function}"
