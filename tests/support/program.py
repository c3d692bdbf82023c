"""The program run in this process or in one of its own."""

from __future__ import annotations

from hf_free.cli.main import main


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


MODELS = ("--models", "org/a", "org/b")
