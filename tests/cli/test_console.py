"""Errors on stderr: what a user sees of them."""

from __future__ import annotations

from hf_free.cli.main import main


def test_a_users_mistake_is_three_lines_and_exit_1(program, capsys):
    assert main(["mistake"], program) == 1
    assert capsys.readouterr() == ("", "Error: given [1]\n  allowed: this\n  to do:   do that\n")


def test_an_unexpected_error_is_two_lines_without_a_traceback(program, capsys):
    assert main(["unexpected"], program) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Unexpected error: ZeroDivisionError: one two\n  to do:   run again with --debug")
    assert "Traceback" not in err
