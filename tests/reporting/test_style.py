"""What all figures share: no display, text that is only text."""

from __future__ import annotations

import sys

from hf_free.reporting.style import plain_text


def test_long_names_lose_their_middle():
    assert plain_text("abcdefghij", 10) == "abcdefghij"
    assert plain_text("abcdefghijk", 10) == "abcde…hijk"
    assert plain_text("abcdefghijk", 7) == "abc…ijk"


def test_drawing_needs_no_display_and_no_pyplot(tmp_path):
    import subprocess

    code = (
        "import sys, torch; from hf_free.reporting.loss_curves import loss_curves;"
        f"loss_curves([dict(step=1, loss=1.0)], {str(tmp_path / 'x.png')!r});"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], env={"PATH": ""}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
