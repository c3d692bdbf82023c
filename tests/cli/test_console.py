"""Errors on stderr: what a user sees of them."""

from __future__ import annotations

import pytest

import hf_free.runtime.device  # noqa: F401  torch is there, as in every verb that computes
from hf_free.cli.console import where_published
from hf_free.cli.main import main


def test_what_was_published_is_named_where_its_hub_may_be_gone():
    here = "http://127.0.0.1:3200/org/name"
    assert where_published(here, "org/name") == "org/name"
    assert where_published(f"{here}/discussions/3", "org/name") == "org/name, pull request 3"
    assert where_published("https://huggingface.co/org/name/discussions/3", "org/name").endswith("/discussions/3")


def test_a_users_mistake_is_three_lines_and_exit_1(program, capsys):
    assert main(["mistake"], program) == 1
    assert capsys.readouterr() == ("", "Error: given [1]\n  allowed: this\n  to do:   do that\n")


def test_an_unexpected_error_is_two_lines_without_a_traceback(program, capsys):
    assert main(["unexpected"], program) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Unexpected error: ZeroDivisionError: one two\n  to do:   run again with --debug")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "said",
    [
        "",
        "unable to mmap 9 bytes from file <x>: Cannot allocate memory (12)",
        "[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.",
    ],
)
def test_too_little_memory_is_one_message(program, capsys, said):
    assert main(["memory", *said.split()], program) == 1
    err = capsys.readouterr().err
    assert err.startswith("Error: this takes more memory than there is")
    assert said in err
    assert "\n  to do:   end other programs, raise the limit" in err
