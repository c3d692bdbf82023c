"""The report page, read as a browser reads it: complete, escaped, nothing to fetch, usable without eyes."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
import records

from hf_free.provenance.against_teachers import BEST_TEACHER
from hf_free.provenance.learner_record import LearnerRecord
from hf_free.reporting.report_page import report_page
from hf_free.reporting.reported_run import ClassMap, ClassPictures, ReportedRun

EVIL = "<script>alert(1)</script>\"'&{{ 7*7 }}\x1b[2J"
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Elements in their order; tags that do not match are counted."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.wrong, self.texts = [], [], 0, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        self.wrong += not self.open or self.open.pop() != tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def _run(name="first", *, hostile="cat", **changes):
    teachers = [records.teacher("lab/a", license=hostile), records.teacher("lab/b")]
    values = records.record(
        teachers=teachers,
        results=[records.report(hostile, warnings=[hostile])],
        skipped=[{"reference": hostile, "reason": hostile}],
        left_out={hostile: 3},
        versions={"hf_free": hostile},
    )
    rows = [{"step": step, "answers": 1 / step, hostile: 0.5 * step} for step in range(1, 5)]
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    run = ReportedRun(
        name=name,
        record=LearnerRecord.from_dict(values),
        log=rows,
        recovered=[ClassPictures(hostile, hostile, pixels), ClassPictures("lab/b", "dog", pixels[:2])],
        classes_in_all=9,
        pictures_in_all=90,
        class_map=ClassMap(np.eye(4)[:, :2], np.array([0, 0, 1, 1]), [hostile, "dog"]),
        views=b"\x89PNG",
        teachers=[hostile, "lab/b"],
    )
    return replace(run, **changes)


def test_a_page_shows_every_part_of_a_run():
    page = Page(report_page([_run()]))
    for text in (
        "Learning curves", "BELL: error of the answers", "At the end: 0.25",
        "Shown: 5 pictures of 2 classes, of 90 pictures of 9 classes",
        "cat, split test", "61.24 ± 0.83", "pixels (8x8)", "3-way 5-shot", "seed 0",
        "1.5 minutes", "cpu, 2 threads", "92.5 %", "lab/b", "conv4_32", "28.5 k", "mit", "01234567",
        "3 recovered tasks", "The whole configuration of first", "method: default",
    ):  # fmt: skip
        assert text in page.text, text
    assert len([svg for svg in page.all("svg") if svg.get("role") == "img"]) == 3


@pytest.mark.parametrize("runs", [1, 3])
def test_a_page_needs_nothing_but_itself(runs):
    text = report_page([_run(f"run {place}") for place in range(runs)])
    page = Page(text)
    assert (page.wrong, page.open) == (0, [])
    assert not {tag for tag, _ in page.elements} & {"script", "link", "iframe", "object", "form", "base"}
    addresses = [v for _, a in page.elements for k, v in a.items() if k in ("src", "href", "srcset", "data", "action")]
    assert addresses
    assert all(value.startswith(("data:image/png;base64,", "#")) for value in addresses)
    assert "url(" not in text
    assert "@import" not in text
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]


def test_what_repositories_say_stays_text():
    page = Page(report_page([_run(EVIL, hostile=EVIL), _run("second", hostile=EVIL)]))
    assert (page.wrong, page.open) == (0, [])
    assert not page.all("script")
    assert page.text.count("<script>alert(1)</script>") > 10
    assert "49" not in [cell.strip() for cell in page.texts]
    assert "\x1b" not in "".join(page.texts)


def test_a_page_is_usable_without_eyes():
    page = Page(report_page([_run(), _run("second")]))
    assert page.all("html")[0]["lang"] == "en"
    levels = [int(tag[1]) for tag, _ in page.elements if tag in ("h1", "h2", "h3", "h4")]
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))
    assert all(image["alt"].strip() for image in page.all("img"))
    assert all(cell.get("scope") in ("col", "row") for cell in page.all("th"))
    drawings = [svg for svg in page.all("svg") if svg.get("aria-hidden") != "true"]
    assert all(svg["role"] == "img" and svg["aria-labelledby"] for svg in drawings)
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names))
    wanted = {link["href"][1:] for link in page.all("a")} | {
        name for _, a in page.elements for name in a.get("aria-labelledby", "").split()
    }
    assert wanted <= set(names)
    regions = [a["aria-label"] for a in page.all("div") if a.get("role") == "region"]
    assert len(regions) == len(set(regions))


def test_runs_stand_side_by_side():
    faster = _run("second", log=[{"step": 1, "answers": 0.9}])
    page = Page(report_page([_run(), faster]))
    heads = page.text.split("Kind")[0]
    assert "Fact first second" in heads
    assert "first: learner" in page.text
    assert "second: learner" in page.text
    assert "At the end: first 0.25; second 0.9" in page.text


def test_whether_a_run_beats_its_teachers_stands_below_the_results():
    rows = [records.row(), records.row(BEST_TEACHER, ahead=2.04, ahead_interval=0.5)]
    shown = _run(record=LearnerRecord.from_dict(records.record(results=[records.report(rows=rows)])))
    said = "beats its best teacher, chosen on other episodes (3-way 1-shot +2.0 ± 0.5)"
    assert f"The learner {said}" in Page(report_page([shown])).text


def test_an_unfinished_and_a_bare_run_are_shown_too():
    nothing = ReportedRun("bare", LearnerRecord.from_dict({}), is_finished=False)
    page = Page(report_page([nothing]))
    assert "Not finished" in page.text
    assert "Nothing was measured yet" in page.text
    assert "Learning curves" not in page.text


def test_many_teachers_are_folded_and_their_pictures_share_one_grid():
    teachers = [records.teacher(f"lab/{number}") for number in range(30)]
    pixels = np.zeros((1, 4, 4, 3), np.uint8)
    recovered = [ClassPictures(f"lab/{number}", "cat", pixels) for number in range(30)]
    record = LearnerRecord.from_dict(records.record(teachers=teachers))
    run = ReportedRun("many", record, recovered=recovered, teachers=[f"lab/{number}" for number in range(30)])
    page = Page(report_page([run]))
    assert "All 30 teachers" in page.text
    assert "lab/7: cat" in page.text
    assert not page.all("h4")
