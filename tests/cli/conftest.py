"""Fixtures of the program's tests."""

from __future__ import annotations

from typing import Annotated

import pytest
import typer

from hf_free.cli.console import Interrupted
from hf_free.errors import HfFreeError


@pytest.fixture(autouse=True)
def _wide_and_plain(monkeypatch):
    """Rich measures the terminal and looks for colors in the environment."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("HF_FREE_DEBUG", raising=False)


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
    def memory(words: Annotated[list[str] | None, typer.Argument()] = None):
        raise RuntimeError(" ".join(words)) if words else MemoryError()

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
