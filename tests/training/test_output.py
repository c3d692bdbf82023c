"""The name of a run's folder where none is given."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from hf_free.training.output import default_output


def test_a_folder_is_named_by_method_and_local_time():
    before = datetime.now().replace(microsecond=0)
    path = default_output("paper")
    assert path.parent == Path("runs")
    named, _, when = path.name.partition("-")
    assert named == "paper"
    assert before <= datetime.strptime(when, "%Y%m%d-%H%M%S") <= datetime.now()
