"""The report page in a real browser: legible at two widths, light and dark, and nothing for axe to find."""

from __future__ import annotations

import io
from dataclasses import replace

import browsing
import numpy as np
import pytest
import records
from PIL import Image

from hf_free.provenance.learner_record import LearnerRecord
from hf_free.reporting.report_page import report_page
from hf_free.reporting.reported_run import ClassMap, ClassPictures, ReportedRun

pytestmark = [
    pytest.mark.browser,
    pytest.mark.long,
    pytest.mark.skipif(bool(browsing.why_not()), reason=browsing.why_not() or "-"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    """A page of three runs, one with names as long as they get."""
    rng = np.random.default_rng(0)
    long = "a-name-without-any-blank-" * 6
    teachers = [records.teacher(f"lab/{name}") for name in ("a", long, "c")]
    values = records.record(
        teachers=teachers,
        results=[records.report(), records.report(f"org/{long}", warnings=[long])],
        skipped=[{"reference": long, "reason": "why " * 60}],
        left_out={"the teacher recognizes too few": 3},
    )
    pixels = rng.integers(0, 256, (6, 32, 32, 3), np.uint8)
    Image.new("RGB", (1500, 560), "white").save(wide := io.BytesIO(), format="PNG")
    run = ReportedRun(
        name="first",
        record=LearnerRecord.from_dict(values),
        log=[{"step": step, "answers": 1 / step, "teacher_accuracy": 1 - 1 / step} for step in range(1, 40)],
        recovered=[ClassPictures(name, label, pixels) for name in ("a", "b") for label in ("cat", long, "dog")],
        classes_in_all=9,
        pictures_in_all=90,
        class_map=ClassMap(
            rng.normal(size=(60, 2)), np.arange(60) % 10, [f"class {n} of {long[:40]}" for n in range(10)]
        ),
        views=wide.getvalue(),
        teachers=["a", long, "c"],
    )
    runs = [run, replace(run, name=long), replace(run, name="third", is_finished=False, log=run.log[:9])]
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(report_page(runs), encoding="utf-8")
    return path.as_uri()


def test_the_page_is_legible_everywhere_and_axe_finds_nothing(address, tmp_path):
    with browsing.browser(tmp_path / "profile") as chromium:
        papers = set()
        for width, height, scheme in browsing.VIEWS:
            window = chromium.new_context(
                viewport={"width": width, "height": height}, color_scheme=scheme, offline=True, bypass_csp=True
            )
            page = window.new_page()
            asked, said = [], []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.on("console", lambda message, said=said: said.append(message.text))
            page.goto(address)
            view = f"{width} {scheme}"
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
                f"{view}: wider than the window"
            )
            assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
            assert said == [], view
            shown = page.evaluate("document.querySelector('img.views').getBoundingClientRect().width")
            assert shown >= 700, f"{view}: a figure of four maps is too small to read"
            papers.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            curve = page.evaluate("getComputedStyle(document.querySelector('.curve')).stroke")
            assert curve not in ("none", "rgb(0, 0, 0)"), view
            page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
            assert browsing.violations(page) == [], view
            window.close()
        assert len(papers) == 2, "dark is another paper than light"


def test_the_page_is_whole_without_scripts(address, tmp_path):
    with browsing.browser(tmp_path / "profile") as chromium:
        window = chromium.new_context(java_script_enabled=False, offline=True)
        page = window.new_page()
        page.goto(address)
        assert page.locator("h1").inner_text().startswith("hf-free report")
        assert page.locator("figure img").count() == 18
        page.locator("summary").first.click()
        assert page.locator("details pre").first.is_visible()
