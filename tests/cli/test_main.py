"""The program: help, grammar, exit codes, documentation."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import typer
from pico import pico_folder
from program import MODELS, refused, run
from typer.main import get_command

from hf_free import __version__
from hf_free.cli.arguments import rewrite
from hf_free.cli.console import write_line
from hf_free.cli.main import app, grammars, main
from hf_free.cli.verbs import adapt, cost, demo, evaluate, export, inspect, invert, predict, push, search, sweep, train

VERBS = {
    module.__name__.rpartition(".")[2]: module
    for module in (train, evaluate, adapt, predict, export, inspect, invert, search, sweep, cost, push, demo)
}


HEAVY = {"torch", "timm", "datasets", "huggingface_hub", "matplotlib", "numpy", "PIL", "accelerate", "transformers"}


def process(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hf_free.cli.main", *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=False, env={**os.environ, **environment}
    )


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
    """What takes its time: `python examples/benchmark help-time` measures it, 0.7 s is the promise."""
    code = (
        "import sys; from hf_free.cli.main import main\n"
        f"code = main(['train', '--help']); heavy = {HEAVY!r} & set(sys.modules)\n"
        "print(len(sys.modules), file=sys.stderr); sys.exit(f'loaded {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False)
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
    assert found["train"].lists == {"--models", "--set", "--log-with", "--endpoint-token"}
    assert found["evaluate"].integer_lists == {"--k-shot"}
    assert found["evaluate"].positionals == 1
    assert found["push"].positionals == 2
    assert found["inspect"].positionals is None
    assert {"--seed", "--output", "--token"} <= found["train"].values
    assert not {"--overwrite", "--private", "--no-private", "--models"} & found["train"].values


@pytest.mark.parametrize("words", [["unexpected", "--debug"], ["--debug", "unexpected"]])
def test_debug_shows_the_traceback_wherever_it_stands(program, capsys, words):
    assert main(words, program) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("value", "shown"), [("1", True), ("0", False), ("", False)])
def test_debug_by_environment(program, capsys, monkeypatch, value, shown):
    monkeypatch.setenv("HF_FREE_DEBUG", value)
    main(["unexpected"], program)
    assert ("Traceback" in capsys.readouterr().err) is shown


@pytest.mark.parametrize(("count", "words", "level"), [("2", [], "ERROR"), ("1", [], None), ("2", ["--debug"], None)])
def test_torch_shows_no_stack_where_another_process_has_gone(program, monkeypatch, count, words, level):
    monkeypatch.setenv("WORLD_SIZE", count)
    monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", "x")  # so that it is as it was afterwards
    monkeypatch.delenv("TORCH_CPP_LOG_LEVEL")
    main(["unexpected", *words], program)
    assert os.environ.get("TORCH_CPP_LOG_LEVEL") == level


def test_a_command_that_is_told_to_end_does_so_in_order(capsys, monkeypatch):
    program = typer.Typer()
    program.callback()(lambda: None)
    folders = []

    @program.command()
    def copy() -> None:
        with tempfile.TemporaryDirectory() as folder:
            folders.append(Path(folder))
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.delenv("WORLD_SIZE", raising=False)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert main(["copy"], program) == 128 + signal.SIGTERM
    signal.signal(signal.SIGTERM, before)
    assert capsys.readouterr().err == "Interrupted.\n"
    assert not folders[0].exists()


def test_a_limit_that_a_library_does_not_fit_below_is_one_of_memory(capsys):
    program = typer.Typer()
    program.callback()(lambda: None)

    @program.command()
    def load() -> None:
        raise ImportError("lib.so: failed to map segment from shared object")

    assert main(["load"], program) == 1
    assert "this takes more memory than there is" in capsys.readouterr().err


def test_an_interrupted_run_says_how_to_resume(program, capsys):
    assert main(["stopped"], program) == 130
    assert capsys.readouterr().err == "Interrupted. Resume with: hf-free train --resume --output x\n"


def test_ctrl_c_in_a_verb_is_said(program, capsys):
    assert main(["interrupted"], program) == 130
    assert capsys.readouterr().err == "Interrupted.\n"


def test_exit_codes_pass_through(program):
    assert main(["leave"], program) == 3


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


def test_other_verbs_refuse_before_they_work(capsys, tmp_path):
    assert ".png" in refused(capsys, "invert", "org/a", "--output", "grid.gif")
    assert "is not a folder" in refused(capsys, "invert", "org/a", "--generator", str(tmp_path / "none"))
    assert "holds no learner" in refused(capsys, "push", str(tmp_path), "org/name")
    assert "there is no folder" in refused(capsys, "push", str(tmp_path / "none"), "org/name")
    for output in (tmp_path, tmp_path / "none" / "r.json"):
        assert "--output" in refused(capsys, "evaluate", "org/m", "--dataset", "d", "--output", str(output))


@pytest.mark.parametrize("name", ["HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"])
def test_a_variable_that_is_no_number_is_named(capsys, monkeypatch, name):
    monkeypatch.setenv(name, "soon")
    code, _, err = run(capsys, "methods")
    assert code == 1
    assert f"{name} is 'soon'" in err
    monkeypatch.setenv(name, "20")
    assert run(capsys, "methods")[0] == 0


def test_a_folder_that_is_gone_is_one_message(tmp_path):
    code = (
        "import os, sys; from hf_free.cli.main import main; os.rmdir(os.getcwd());"
        "sys.exit(main(['train', '--models', sys.argv[1], sys.argv[2]]))"
    )
    (tmp_path / "gone").mkdir()
    teachers = [str(pico_folder(tmp_path / name, size=16)) for name in ("a", "b")]
    done = subprocess.run(
        [sys.executable, "-c", code, *teachers], cwd=tmp_path / "gone", capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "the folder that hf-free was started in is gone" in done.stderr
    assert "Unexpected" not in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="closes stdout in a shell")
def test_a_closed_stdout_is_written_to_like_one_that_nobody_reads():
    command = ["sh", "-c", 'exec "$0" -m hf_free.cli.main methods --json >&-', sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("redirection", "code", "said"),
    [(">/dev/full", 1, "Error: the results cannot be written to stdout: no space left"), ("| true", 141, "")],
)
def test_an_output_that_cannot_be_written(redirection, code, said):
    """The reader has gone before the first byte: it starts no interpreter."""
    command = f'"$0" -m hf_free.cli.main --version {redirection}; exit "${{PIPESTATUS[0]}}"'
    ended = subprocess.run(["bash", "-c", command, sys.executable], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr.split("\n")[0][: len(said) or None]) == (code, said)


def test_code_that_ends_the_process_is_named(program, capsys):
    """Such as a network of one's own; Typer's own end stays what it is."""

    @program.command()
    def ends() -> None:
        exec(compile("raise SystemExit(0)", "mine.py", "exec"), {"__name__": "mine"})

    assert main(["ends"], program) == 1
    assert "Error: mine.py, line 1, has ended the command: SystemExit: 0" in capsys.readouterr().err


def test_a_stdout_that_is_closed_meanwhile_is_said(program, capsys, monkeypatch):
    @program.command()
    def closes() -> None:
        sys.stdout.close()
        write_line("x")

    monkeypatch.setattr(sys, "stdout", open(os.devnull, "w"))  # noqa: SIM115  (the verb closes it)
    assert main(["closes"], program) == 1
    assert "cannot be written to stdout: something has closed it meanwhile" in capsys.readouterr().err


def test_an_address_of_the_hub_that_is_none_is_named(capsys, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:99999")  # huggingface_hub cannot even be imported
    assert "the environment variable HF_ENDPOINT is 'http://127.0.0.1:99999'" in refused(capsys, "inspect", "org/x")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1\a")
    assert "the environment variable HF_ENDPOINT is 'http://127.0.0.1\\x07'" in refused(capsys, "search", "x")


def test_figures_need_no_backend_of_windows(monkeypatch, capsys):
    monkeypatch.setenv("MPLBACKEND", "bogus")
    assert main(["methods", "--json"]) == 0
    assert os.environ["MPLBACKEND"] == "agg"


def test_ctrl_c_before_a_verb_has_begun_shows_no_traceback(capsys, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hf_free.cli.main.grammars", interrupted)
    assert main(["methods"]) == 130
    assert capsys.readouterr().err == "Interrupted.\n"


def test_every_verb_answers_programs_too():
    without = [
        name
        for name, verb in get_command(app).commands.items()
        if not any("--json" in option.opts for option in verb.params)
    ]
    assert without == []
