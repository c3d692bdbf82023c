"""Grids of recovered images: pixels are read back from the PNGs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawn import pixels

from hf_free.reporting.image_grid import recovered_grid

RED, GREEN, BLUE = (200, 10, 10), (10, 200, 10), (10, 10, 200)


def solid(colors, size=8):
    """One image a color."""
    return torch.tensor(colors, dtype=torch.uint8)[:, :, None, None].expand(-1, -1, size, size).contiguous()


def share(canvas, color):
    """Share of the picture's pixels that have exactly a color."""
    return (canvas == np.array(color)).all(-1).mean()


def boxes(canvas, color):
    """First and last row and column that hold a color."""
    rows, columns = np.nonzero((canvas == np.array(color)).all(-1))
    return rows.min(), rows.max(), columns.min(), columns.max()


def test_grid_puts_classes_in_rows_and_the_most_confident_first(tmp_path):
    path = recovered_grid(
        solid([RED, GREEN, BLUE]),
        torch.tensor([0, 1, 1]),
        class_names=["a", "b"],
        confidence=torch.tensor([0.5, 0.2, 0.9]),
        path=tmp_path / "new" / "grid.png",
        title="Recovered",
    )
    assert path == tmp_path / "new" / "grid.png"
    canvas = pixels(path)
    red, green, blue = (boxes(canvas, color) for color in (RED, GREEN, BLUE))
    assert red[1] < green[0]  # class 0 lies above class 1
    assert green[:2] == blue[:2]  # one row
    assert blue[3] < green[2]  # more confident comes first
    assert abs(red[2] - blue[2]) <= 1  # columns are aligned
    for top, bottom, left, right in (red, green, blue):
        assert abs((bottom - top) - (right - left)) <= 1  # square


def test_grid_frames_show_the_confidence(tmp_path):
    def drawn(confidence):
        path = recovered_grid(
            solid([GREEN]), torch.tensor([0]), class_names=["a"], confidence=confidence, path=tmp_path / "x.png",
            title="",
        )  # fmt: skip
        return pixels(path)

    orange, teal = (234, 88, 12), (15, 118, 110)
    assert share(drawn(torch.tensor([0.0])), orange) > 0.002
    assert share(drawn(torch.tensor([1.0])), teal) > 0.002
    assert share(drawn(torch.tensor([1.0])), orange) == 0
    for unframed in (None, torch.tensor([float("nan")])):
        assert share(drawn(unframed), orange) == share(drawn(unframed), teal) == 0


def test_grid_takes_gray_images_and_limits_rows_and_columns(tmp_path):
    images = torch.full((6, 1, 8, 8), 60, dtype=torch.uint8)
    options = {"class_names": ["a", "b", "c"], "path": tmp_path / "x.png", "title": "t"}
    everything = pixels(recovered_grid(images, torch.tensor([0, 0, 1, 1, 2, 2]), **options))
    one_column = pixels(recovered_grid(images, torch.tensor([0, 0, 1, 1, 2, 2]), per_class=1, **options))
    one_row = pixels(recovered_grid(images, torch.tensor([0, 0, 1, 1, 2, 2]), max_classes=1, **options))
    cells = [share(canvas, (60, 60, 60)) * canvas[..., 0].size for canvas in (everything, one_column, one_row)]
    assert cells[1] / cells[0] == pytest.approx(1 / 2, abs=0.02)
    assert cells[2] / cells[0] == pytest.approx(1 / 3, abs=0.02)


def test_grid_is_as_wide_as_its_pictures(tmp_path):
    images, title = torch.full((4, 3, 8, 8), 60, dtype=torch.uint8), "a title that is much longer than two pictures"
    drawn = recovered_grid(
        images, torch.tensor([0, 0, 1, 1]), class_names=["a", "b"], path=tmp_path / "x.png", title=title
    )
    canvas = pixels(drawn)
    assert canvas.shape[1] - boxes(canvas, (60, 60, 60))[3] < canvas.shape[1] * 0.35
    written = np.flatnonzero((canvas < 100).all(-1).any(0))
    assert written[-1] < canvas.shape[1] - 10  # the title stays within


@pytest.mark.filterwarnings("ignore:Glyph")  # DejaVu Sans has no Chinese; empty boxes are drawn
def test_grid_draws_strange_names_as_text(tmp_path):
    names = ["$x^2", r"\frac{", "a very long name of a class that does not fit", "line\nbreak", "数字"]
    recovered_grid(
        solid([RED] * 6), torch.arange(6), class_names=names, path=tmp_path / "x.png", title="$ {unclosed"
    )  # the sixth class has no name at all
    assert share(pixels(tmp_path / "x.png"), RED) > 0.05


@pytest.mark.parametrize(
    ("images", "labels", "confidence"),
    [
        (torch.rand(2, 3, 8, 8), torch.zeros(2), None),
        (torch.zeros(2, 4, 8, 8, dtype=torch.uint8), torch.zeros(2), None),
        (torch.zeros(0, 3, 8, 8, dtype=torch.uint8), torch.zeros(0), None),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(3), None),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2), torch.zeros(1)),
    ],
)
def test_grid_refuses_what_it_cannot_draw(images, labels, confidence, tmp_path):
    with pytest.raises(ValueError, match=r"images (are|need)"):
        recovered_grid(images, labels, class_names=["a"], confidence=confidence, path=tmp_path / "x.png", title="")
    assert not (tmp_path / "x.png").exists()
