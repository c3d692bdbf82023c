"""The contact sheet of predictions."""

from __future__ import annotations

import numpy as np
from PIL import Image

from hf_free.reporting.contact_sheet import Shown, contact_sheet


def test_pictures_stand_in_a_grid_with_their_colors_and_shapes(tmp_path):
    colors = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
    for name, color in colors.items():
        Image.new("RGB", (60, 20) if name == "red" else (20, 20), color).save(tmp_path / f"{name}.png")
    (tmp_path / "broken.png").write_bytes(b"x")
    shown = [Shown(tmp_path / f"{name}.png", name, "99 %", 0.99) for name in colors]
    path = contact_sheet([*shown, Shown(tmp_path / "broken.png", "cannot be read")], tmp_path / "s.png", title="$x$")
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    for name, color in colors.items():
        rows, columns = np.nonzero((abs(pixels - color) < 3).all(2))
        tall, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert (wide > 2.5 * tall) == (name == "red"), "a picture keeps its shape"
        assert wide > 100


def test_what_is_left_out_is_said(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    few = contact_sheet([Shown(tmp_path / "a.png", "a")] * 3, tmp_path / "few.png", title="t", most=2)
    all_of_them = contact_sheet([Shown(tmp_path / "a.png", "a")] * 3, tmp_path / "all.png", title="t", most=3)
    assert Image.open(few).size != Image.open(all_of_them).size
