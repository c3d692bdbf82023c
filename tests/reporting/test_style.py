"""What all figures share: no display, text that is only text."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from hf_free.reporting.style import new_figure, plain_text, save_figure


def test_long_names_lose_their_middle():
    assert plain_text("abcdefghij", 10) == "abcdefghij"
    assert plain_text("abcdefghijk", 10) == "abcde…hijk"
    assert plain_text("abcdefghijk", 7) == "abc…ijk"


def test_drawing_needs_no_display_and_no_pyplot(forks, tmp_path):
    code = (
        "import sys, torch; from hf_free.reporting.loss_curves import loss_curves;"
        f"loss_curves([dict(step=1, loss=1.0)], {str(tmp_path / 'x.png')!r});"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if "DISPLAY" not in name}
    done = forks.run([sys.executable, "-c", code], env={**environment, "OMP_NUM_THREADS": "1"}, imports=True)
    assert done.returncode == 0, done.stderr


def test_a_figure_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    path = save_figure(new_figure(1, 1, "first"), tmp_path / "losses.png")
    before = path.read_bytes()
    figure = new_figure(1, 1, "second")

    def half(place, **_):
        Path(place).write_bytes(b"half of it")
        raise OSError("no space is left")

    monkeypatch.setattr(figure, "savefig", half)
    with pytest.raises(OSError, match="no space"):
        save_figure(figure, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["losses.png"]
