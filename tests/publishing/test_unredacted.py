"""The record that a run keeps for itself."""

from __future__ import annotations

import json

import pytest

from hf_free.errors import RunError
from hf_free.provenance.learner_record import LearnerRecord
from hf_free.publishing.unredacted import RUN_RECORD, unredacted

PUBLISHED = LearnerRecord.from_dict({"teachers": [{"reference": "a private teacher"}]})


def test_a_runs_own_record_names_what_its_learner_does_not(tmp_path, monkeypatch):
    (tmp_path / "run" / "learner").mkdir(parents=True)
    (tmp_path / "run" / RUN_RECORD).write_text(json.dumps({"teachers": [{"reference": "lab/hush"}]}))
    monkeypatch.chdir(tmp_path / "run")
    for location in (tmp_path / "run", tmp_path / "run" / "learner", "learner"):
        assert [one.reference for one in unredacted(location, PUBLISHED).teachers] == ["lab/hush"]


def test_elsewhere_the_learners_own_record_is_all_there_is(tmp_path, monkeypatch):
    (tmp_path / "learner").mkdir()
    assert unredacted(tmp_path / "learner", PUBLISHED) is PUBLISHED
    (tmp_path / RUN_RECORD).write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert unredacted("org/learner", PUBLISHED) is PUBLISHED, "an id is no folder"


@pytest.mark.parametrize("text", ["{", "[" * 100_000])
def test_a_damaged_record_is_refused_with_its_path(tmp_path, text):
    (tmp_path / RUN_RECORD).write_text(text)
    with pytest.raises(RunError, match=r"record\.json cannot be read: "):
        unredacted(tmp_path, PUBLISHED)
