"""Figures as SVG: what is drawn lies where the numbers say, and texts stay texts."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from hf_free.reporting.vector_plots import curves_svg, map_svg


def _points(path):
    return [tuple(map(float, pair.split())) for pair in path.attrib["d"].strip("M").split("L")]


def _texts(root):
    return [(float(e.attrib["x"]), float(e.attrib["y"]), float(e.text)) for e in root.iter("text")]


def test_a_curve_goes_through_its_values():
    steps, values = np.array([1.0, 10.0, 20.0]), np.array([0.5, 2.0, 1.0])
    root = ET.fromstring(curves_svg("loss", {"run": (steps, values)}, key="k"))
    drawn = _points(next(path for path in root.iter("path") if "curve" in path.attrib["class"]))
    ticks = [(y, value) for x, y, value in _texts(root) if x < 60 and y < 180]
    scale = np.polyfit(
        [y - 4 for y, _ in ticks], [value for _, value in ticks], 1
    )  # the baseline lies 4 below the line
    assert np.polyval(scale, [y for _, y in drawn]) == pytest.approx(values, abs=0.02)
    lefts = [x for x, _ in drawn]
    assert (lefts[1] - lefts[0]) / (lefts[2] - lefts[0]) == pytest.approx(9 / 19, abs=0.01)


def test_runs_differ_in_more_than_color_and_the_description_names_their_ends():
    series = {name: (np.array([1.0, 2.0]), np.array([1.0, end])) for name, end in (("one", 3.0), ("<two>", 4.0))}
    series["none"] = (np.empty(0), np.empty(0))
    root = ET.fromstring(curves_svg("a & b", series, key="k"))
    assert len({path.attrib["stroke-dasharray"] for path in root.iter("path")}) == 2
    assert root.attrib["role"] == "img"
    assert root.find("title").text == "a & b"
    assert root.find("desc").text == "one: 1 at step 1, 3 at step 2. <two>: 1 at step 1, 4 at step 2"
    in_time = ET.fromstring(curves_svg("a", {"one": series["one"]}, key="k", unit="second"))
    assert in_time.find("desc").text == "one: 1 at second 1, 3 at second 2"
    assert root.attrib["aria-labelledby"].split() == [root.find("title").attrib["id"], root.find("desc").attrib["id"]]


@pytest.mark.parametrize("values", [[2.0], [0.0], [3.0, 3.0], [-1e9, 1e-9], [1e30, 2e30], [5e-324, 1e-323]])
def test_odd_ranges_are_drawn(values):
    svg = curves_svg("x", {"run": (np.arange(len(values), dtype=float), np.array(values))}, key="k")
    assert "nan" not in svg
    assert all(0 <= y <= 190 for path in ET.fromstring(svg).iter("path") for _, y in _points(path))


def test_a_map_marks_each_picture_by_its_class():
    points, labels = np.array([[0.0, 0.0], [1.0, 2.0], [2.0, 1.0]]), np.array([0, 1, 1])
    root = ET.fromstring(map_svg("map", points, labels, ["cat", "<b>"], key="m"))
    marks = list(root.iter("path"))
    shapes = [mark.attrib["d"] for mark in marks]
    assert shapes[1] == shapes[2] != shapes[0]
    placed = [tuple(map(float, re.findall(r"[\d.]+", mark.attrib["transform"]))) for mark in marks]
    assert placed == [(12.0, 12.0), (170.0, 328.0), (328.0, 170.0)]
    assert root.find("desc").text == "3 pictures of 2 classes: cat, <b>"
