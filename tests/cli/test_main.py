"""The program as a user meets it: help, errors, output folders, layers of configuration."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from hf_free import __version__
from hf_free.cli.arguments import rewrite
from hf_free.cli.console import Interrupted
from hf_free.cli.main import app, grammars, main
from hf_free.cli.verbs import cost, demo, evaluate, inspect, invert, predict, push, search, sweep, train
from hf_free.config.reference import configuration_markdown
from hf_free.errors import HfFreeError

VERBS = {
    module.__name__.rpartition(".")[2]: module
    for module in (train, evaluate, predict, inspect, invert, search, sweep, cost, push, demo)
}
HEAVY = {"torch", "timm", "datasets", "huggingface_hub", "matplotlib", "numpy", "PIL", "accelerate"}


@pytest.fixture(autouse=True)
def _wide_and_plain(monkeypatch):
    """Rich measures the terminal and looks for colours in the environment."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("HF_FREE_DEBUG", raising=False)


def run(capsys, *words: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr of one command line."""
    code = main(list(words))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refused(capsys, *words: str, code: int = 1) -> str:
    """The message of a refused command line: exit code, empty stdout and no traceback are checked."""
    got, out, err = run(capsys, *words)
    assert got == code, err
    assert out == ""
    assert "Traceback" not in err
    return err


def process(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hf_free.cli.main", *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environment}
    )


# ---- help, version, completion


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_examples(capsys, verb):
    code, out, _ = run(capsys, verb, "--help")
    assert code == 0
    assert f"hf-free {verb}" in out
    assert "Examples" in out


@pytest.mark.parametrize("verb", VERBS)
def test_the_examples_can_be_typed(verb):
    """Each example is read by the program's own parser: a flag renamed in the code fails here."""
    examples = [line.partition("[/dim] ")[2] for line in VERBS[verb].EXAMPLES.splitlines() if "[dim]" in line]
    assert examples
    for example in examples:
        words = shlex.split(example.replace("\\[", "["))
        assert words[:2] == ["hf-free", verb]
        rewritten = rewrite(words[1:], grammars())
        command = typer.main.get_command(app).commands[verb]
        command.make_context(verb, rewritten[1:])


def test_help_loads_nothing_heavy_and_not_much_else():
    """What takes its time: `python examples/benchmark_help.py` measures it, 0.7 s is the promise."""
    code = (
        "import sys; from hf_free.cli.main import main\n"
        f"code = main(['train', '--help']); heavy = {HEAVY!r} & set(sys.modules)\n"
        "print(len(sys.modules), file=sys.stderr); sys.exit(f'loaded {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stderr) < 560  # 480 today, Python's own, Typer, Rich, Pydantic and PyYAML among them


def test_version(capsys):
    assert run(capsys, "--version") == (0, f"hf-free {__version__}\n", "")


def test_no_verb_shows_help(capsys):
    code, out, err = run(capsys)
    assert code == 2
    assert "train" in out + err


def test_shell_completion_offers_flags():
    done = process(_HF_FREE_COMPLETE="complete_bash", COMP_WORDS="hf-free train --mod", COMP_CWORD="2")
    assert "--models" in done.stdout.split()


def test_list_flags_are_read_off_the_program():
    found = grammars()
    assert found["train"].lists == {"--models", "--set"}
    assert found["evaluate"].integer_lists == {"--k-shot"}
    assert found["evaluate"].positionals == 1
    assert found["push"].positionals == 2
    assert found["inspect"].positionals is None
    assert {"--seed", "--output", "--token"} <= found["train"].values
    assert not {"--overwrite", "--private", "--no-private", "--models"} & found["train"].values


# ---- what main does with the ways a verb can end


@pytest.fixture
def program():
    """A program of the same make whose verbs end in every way."""
    small = typer.Typer(pretty_exceptions_enable=False)

    @small.command()
    def mistake():
        raise HfFreeError("given [1]", allowed="this", action="do that")

    @small.command()
    def unexpected():
        raise ZeroDivisionError("one\ntwo")

    @small.command()
    def stopped():
        raise Interrupted("Resume with: hf-free train --resume --output x")

    @small.command()
    def interrupted():
        raise KeyboardInterrupt

    @small.command()
    def leave():
        raise typer.Exit(3)

    return small


def test_a_users_mistake_is_three_lines_and_exit_1(program, capsys):
    assert main(["mistake"], program) == 1
    assert capsys.readouterr() == ("", "Error: given [1]\n  allowed: this\n  to do:   do that\n")


def test_an_unexpected_error_is_two_lines_without_a_traceback(program, capsys):
    assert main(["unexpected"], program) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Unexpected error: ZeroDivisionError: one two\n  to do:   run again with --debug")
    assert "Traceback" not in err


@pytest.mark.parametrize("words", [["unexpected", "--debug"], ["--debug", "unexpected"]])
def test_debug_shows_the_traceback_wherever_it_stands(program, capsys, words):
    assert main(words, program) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("value", "shown"), [("1", True), ("0", False), ("", False)])
def test_debug_by_environment(program, capsys, monkeypatch, value, shown):
    monkeypatch.setenv("HF_FREE_DEBUG", value)
    main(["unexpected"], program)
    assert ("Traceback" in capsys.readouterr().err) is shown


def test_an_interrupted_run_says_how_to_resume(program, capsys):
    assert main(["stopped"], program) == 130
    assert capsys.readouterr().err == "Interrupted. Resume with: hf-free train --resume --output x\n"


def test_exit_codes_pass_through(program):
    assert main(["interrupted"], program) == 130
    assert main(["leave"], program) == 3


# ---- bad input


def test_unknown_verb(capsys):
    assert "No such command 'trian'" in refused(capsys, "trian", code=2)


def test_unknown_flag(capsys):
    message = refused(capsys, "train", "--modles", "a", code=2)
    assert "stray" not in message
    assert "--modles" in message
    assert "--models" in message


def test_stray_word(capsys):
    message = refused(capsys, "train", "--models", "org/a", "org/b", "--seed", "1", "stray", code=2)
    assert "stray word 'stray'" in message
    assert "teachers follow --models" in message


MODELS = ("--models", "org/a", "org/b")


def test_flag_value_of_the_wrong_kind(capsys):
    assert "trainer.steps = 'many'" in refused(capsys, "train", *MODELS, "--steps", "many")
    assert "'many'" in refused(capsys, "evaluate", "org/m", "--dataset", "d", "--k-shot", "many", code=2)
    assert "'some'" in refused(capsys, "evaluate", "org/m", "--dataset", "d", "--baselines", "some", code=2)


def test_numbers_out_of_range(capsys):
    assert "1 is not a whole number of at least 2" in refused(
        capsys, "evaluate", "org/m", "--dataset", "d", "--n-way", "1", code=2
    )
    assert "--k-shot" in refused(capsys, "evaluate", "org/m", "--dataset", "d", "--k-shot", "0", code=2)
    assert "--k-shot" in refused(capsys, "evaluate", "org/m", "--dataset", "d", "--k-shot", "-1", code=2)


def test_missing_arguments(capsys):
    assert "MODEL" in refused(capsys, "evaluate", "--dataset", "d", code=2)
    assert "--dataset" in refused(capsys, "evaluate", "org/m", code=2)
    assert "ID" in refused(capsys, "inspect", code=2)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--steps", "0"], ["trainer.steps = '0'", "greater than or equal to 1"]),
        (["--seed", "-1"], ["seed = '-1'"]),
        (["--recipe", "best"], ["recipe = 'best'", "'default', 'paper' or 'released'"]),
        (["--mixed-precision", "fp16"], ["trainer.mixed_precision = 'fp16'", "allowed: 'auto', 'no' or 'bf16'"]),
        (["--set", "defects=[x]"], ["defects holds 'x'", "--set defects=[...]"]),
        (["--set", "five.images_per_class=1"], ["allowed: a value greater than or equal to 2"]),
        (["--set", "five.inner_step=3"], ["'five.inner_step'", "did you mean five.inner_steps"]),
        (["--set", "unknown=3"], ["unknown configuration key 'unknown'"]),
        (["--set", "five.inner_steps=many"], ["five.inner_steps = 'many'"]),
        (["--set", "five.inner_steps"], ["--set 'five.inner_steps'", "section.key=value"]),
        (["--config", "missing.yaml"], ["missing.yaml", "give an existing file"]),
        (["--resume"], ["--resume without --output", "hf-free train --resume --output DIR"]),
    ],
)
def test_impossible_settings(capsys, words, parts):
    message = refused(capsys, "train", *MODELS, *words)
    for part in parts:
        assert part in message


def test_a_recovered_picture_names_the_folder_without_its_path(tmp_path):
    from hf_free.cli.verbs.invert import name_without_path
    from hf_free.teachers.reference import TeacherReference

    (tmp_path / "pets").mkdir()
    assert name_without_path(TeacherReference.parse(str(tmp_path / "pets"))) == "pets"
    assert name_without_path(TeacherReference.parse("org/pets@v2")) == "org/pets@v2"


def test_a_backbone_that_does_not_exist_is_refused_before_anything_is_fetched_or_written(capsys, tmp_path):
    output = tmp_path / "run"  # the teachers do not exist either, and are not what is complained about
    words = ["--set", "learner.backbone=nonet", "--max-minutes", "1"]
    for more in (["--output", str(output)], ["--dry-run"]):
        assert "backbone 'nonet' cannot be built" in refused(capsys, "train", *MODELS, *words, *more)
    assert not output.exists()


def test_broken_configuration_files(capsys, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("five: [unclosed")
    assert "is not valid YAML" in refused(capsys, "train", *MODELS, "--config", str(path))
    path.write_text("- a\n- b\n")
    assert "a mapping of keys to values" in refused(capsys, "train", *MODELS, "--config", str(path))
    path.write_text("fvie:\n  inner_steps: 3\n")
    assert "unknown configuration key 'fvie'" in refused(capsys, "train", *MODELS, "--config", str(path))
    path.write_text("five: 3\n")
    assert "five = 3" in refused(capsys, "train", *MODELS, "--config", str(path))


def test_no_models(capsys):
    message = refused(capsys, "train", "--seed", "1")
    assert "no models given" in message
    assert "hf-free train --models" in message


@pytest.mark.parametrize("models", [["org/a"], ["org/a", "org/a"]])
def test_fewer_than_two_tasks(capsys, models):
    message = refused(capsys, "train", "--models", *models)
    assert "fewer than two tasks: the only teacher is org/a" in message
    assert "two or more different teachers" in message


def test_malformed_teacher(capsys):
    assert "'resnet18' names 'resnet18' without an organisation" in refused(
        capsys, "train", "--models", "org/a", "resnet18"
    )
    assert "'./nowhere' is a local folder that does not exist" in refused(
        capsys, "train", "--models", "org/a", "./nowhere"
    )


def test_missing_list_file(capsys):
    assert "cannot read the list @nowhere.txt" in refused(capsys, "train", "--models", "@nowhere.txt", code=2)


def test_other_verbs_refuse_before_they_work(capsys, tmp_path):
    assert ".png" in refused(capsys, "invert", "org/a", "--output", "grid.gif")
    assert "is no folder" in refused(capsys, "invert", "org/a", "--generator", str(tmp_path / "none"))
    assert "holds no learner" in refused(capsys, "push", str(tmp_path), "org/name")
    assert "there is no folder" in refused(capsys, "push", str(tmp_path / "none"), "org/name")
    for output in (tmp_path, tmp_path / "none" / "r.json"):
        assert "--output" in refused(capsys, "evaluate", "org/m", "--dataset", "d", "--output", str(output))


# ---- output folders


def snapshot(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def earlier(tmp_path):
    """A folder as an earlier run left it."""
    folder = tmp_path / "run"
    (folder / "learner").mkdir(parents=True)
    (folder / "config.yaml").write_text("seed: 7\n")
    (folder / "learner" / "model.safetensors").write_text("weights")
    return folder


def test_an_output_folder_in_use_is_refused_and_untouched(capsys, earlier):
    before = snapshot(earlier)
    message = refused(capsys, "train", *MODELS, "--output", str(earlier))
    assert f"the output folder {earlier} is in use" in message
    assert "--resume or --overwrite" in message
    assert snapshot(earlier) == before


def test_only_runs_are_overwritten(capsys, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    for flags in ([], ["--overwrite"]):
        message = refused(capsys, "train", *MODELS, "--output", str(tmp_path), *flags)
        assert "give another --output" in message
    assert snapshot(tmp_path) == {"thesis.txt": "years of work"}


def test_a_file_is_no_output_folder(capsys, tmp_path):
    path = tmp_path / "file"
    path.write_text("kept")
    assert "is a file" in refused(capsys, "train", *MODELS, "--output", str(path))
    assert path.read_text() == "kept"


def test_nothing_to_resume(capsys, tmp_path):
    assert "nothing to resume" in refused(capsys, "train", *MODELS, "--output", str(tmp_path), "--resume")


def test_overwrite_and_resume_exclude_each_other(capsys, earlier):
    message = refused(capsys, "train", *MODELS, "--output", str(earlier), "--resume", "--overwrite")
    assert "--overwrite and --resume together" in message


# ---- documentation


def test_the_configuration_page_is_up_to_date():
    page = Path(__file__).parents[2] / "docs" / "reference" / "configuration.md"
    assert page.read_text(encoding="utf-8") == configuration_markdown(), "run python -m hf_free.config.reference"


def test_the_configuration_page_names_every_key():
    from hf_free.config.tree import known_keys

    rows = re.findall(r"^\| `([a-z_.]+)` \|", configuration_markdown(), flags=re.MULTILINE)
    assert rows == sorted(known_keys(), key=rows.index)
    assert len(rows) == len(set(rows)) == len(known_keys())
