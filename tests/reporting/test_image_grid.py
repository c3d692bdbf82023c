"""Pictures: what is drawn where, read back from the files' pixels; nothing global is touched."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from hf_free.reporting.image_grid import recovered_grid
from hf_free.reporting.loss_curves import loss_curves, range_of_steps, running_mean
from hf_free.reporting.style import plain_text
from hf_free.reporting.tsne import feature_map, in_plane


def pixels(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB")).astype(int)


def solid(colors, size=8):
    """One image a colour."""
    return torch.tensor(colors, dtype=torch.uint8)[:, :, None, None].expand(-1, -1, size, size).contiguous()


def share(canvas, color):
    """Share of the picture's pixels that have exactly a colour."""
    return (canvas == np.array(color)).all(-1).mean()


def boxes(canvas, color):
    """First and last row and column that hold a colour."""
    rows, columns = np.nonzero((canvas == np.array(color)).all(-1))
    return rows.min(), rows.max(), columns.min(), columns.max()


RED, GREEN, BLUE = (200, 10, 10), (10, 200, 10), (10, 10, 200)


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


def test_grid_takes_grey_images_and_limits_rows_and_columns(tmp_path):
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


def test_long_names_lose_their_middle():
    assert plain_text("abcdefghij", 10) == "abcdefghij"
    assert plain_text("abcdefghijk", 10) == "abcde…hijk"
    assert plain_text("abcdefghijk", 7) == "abc…ijk"


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


def test_loss_curves_draw_a_panel_for_each_finite_number(tmp_path):
    rows = [{"step": step, "minutes": step / 60, "loss": 1 / (step + 1), "phase": "warm"} for step in range(50)]
    one = pixels(loss_curves(rows, tmp_path / "one.png"))
    more = [{**row, "other": 2.0, "third": float("nan") if row["step"] % 2 else 1.0, "flag": True} for row in rows]
    three = pixels(loss_curves(more, tmp_path / "three.png"))
    assert three.shape[0] == one.shape[0]
    assert 2.5 < three.shape[1] / one.shape[1] < 3
    four = pixels(loss_curves([{**row, "fourth": 1} for row in more], tmp_path / "four.png"))
    assert four.shape[1] == three.shape[1]
    assert four.shape[0] > 1.5 * three.shape[0]


def test_panels_have_one_range_of_steps():
    first, last = range_of_steps([np.arange(0.0, 101.0), np.arange(10.0, 31.0)])
    assert (first, last) == (-5, 105)
    assert range_of_steps([np.array([3.0])]) == (2, 4)


def test_the_size_of_the_memory_is_no_curve(tmp_path):
    rows = [{"step": step, "loss": 1.0} for step in range(3)]
    plain, beside = tmp_path / "a.png", tmp_path / "b.png"
    loss_curves(rows, plain)
    loss_curves([{**row, "memory": 7} for row in rows], beside)
    assert plain.read_bytes() == beside.read_bytes()


@pytest.mark.parametrize(
    "rows", [[], [{"step": 1, "phase": "x"}], [{"loss": 1.0}], [{"step": 3, "loss": float("inf")}]]
)
def test_loss_curves_of_short_logs_are_drawn(rows, tmp_path):
    assert pixels(loss_curves(rows, tmp_path / "x.png")).min() < 200  # something is said


def test_running_mean_is_the_mean_of_the_neighbours():
    values = np.random.default_rng(0).normal(size=30)
    expected = [values[max(0, i - 4) : i + 5].mean() for i in range(30)]
    assert running_mean(values, 4) == pytest.approx(expected)


def test_feature_map_separates_what_a_teacher_separates(tmp_path):
    labels = torch.arange(3).repeat_interleave(12)
    noise = torch.randn(36, 6, generator=torch.Generator().manual_seed(0))
    apart = noise + 20 * torch.eye(6)[labels]
    points = in_plane(apart, seed=0)
    distances = torch.cdist(torch.tensor(points), torch.tensor(points)) + 1e9 * torch.eye(36)
    assert (labels[distances.argmin(1)] == labels).all()
    assert np.array_equal(points, in_plane(apart, seed=0))

    path = feature_map({"knows": apart, "does not": noise[:, :2]}, labels, tmp_path / "x.png", class_names=list("abc"))
    canvas = pixels(path)
    for color in ((31, 119, 180), (255, 127, 14), (44, 160, 44)):  # tab10's first three, a class each
        assert (np.abs(canvas - np.array(color)).sum(-1) < 110).mean() > 0.0005


def test_feature_map_refuses_sets_that_do_not_match(tmp_path):
    with pytest.raises(ValueError, match="features of all 5 images"):
        feature_map({"a": torch.rand(4, 2)}, torch.zeros(5), tmp_path / "x.png")
    with pytest.raises(ValueError, match="0 teachers"):
        feature_map({}, torch.zeros(5), tmp_path / "x.png")


def test_drawing_needs_no_display_and_no_pyplot(tmp_path):
    import subprocess

    code = (
        "import sys, torch; from hf_free.reporting.loss_curves import loss_curves;"
        f"loss_curves([dict(step=1, loss=1.0)], {str(tmp_path / 'x.png')!r});"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], env={"PATH": ""}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
