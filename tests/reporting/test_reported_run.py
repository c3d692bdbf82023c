"""What a page shows of a run."""

from __future__ import annotations

import numpy as np
import pytest
import records

from hf_free.provenance.learner_record import LearnerRecord
from hf_free.reporting.reported_run import GAP, TILE, ClassPictures, ReportedRun


def test_a_strip_holds_the_pictures_and_room_for_more():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    strip = ClassPictures("teacher", "cat", pixels).strip(3)
    assert strip.shape == (8, 3 * 8 + 2 * GAP, 4)
    assert (strip[:, :8, :3] == pixels[0]).all()
    assert (strip[:, 8 + GAP : 16 + GAP, :3] == pixels[1]).all()
    assert strip[0, :, 3].tolist() == [255] * 8 + [0] * GAP + [255] * 8 + [0] * (GAP + 8)


@pytest.mark.parametrize(("side", "shown"), [(TILE, TILE), (TILE + 1, 49), (224, 75)])
def test_large_pictures_are_reduced_by_a_whole_factor(side, shown):
    pixels = np.full((1, side, side, 3), 90, np.uint8)
    strip = ClassPictures("teacher", "cat", pixels).strip(1)
    assert strip.shape == (shown, shown, 4)
    assert (strip[..., :3] == 90).all()


def test_a_notebook_shows_a_run_without_private_names():
    record = LearnerRecord.from_dict(records.record(results=[records.report()]))
    shown = ReportedRun("<run>", record)._repr_html_()
    assert "<caption>Run &lt;run&gt;</caption>" in shown
    assert "3-way 1-shot 61.2 ± 0.8 %" in shown
    assert "not finished" in ReportedRun("x", record, is_finished=False)._repr_html_()
