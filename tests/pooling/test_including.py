"""Which teachers' weights may be handed on, and as what."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from pico import pico_folder, pico_teacher

from hf_free.errors import ConfigError, TeacherError
from hf_free.pooling.including import check_may_include, include_teachers
from hf_free.teachers.listing import resolve_without_hub
from hf_free.teachers.loader import load_teacher

RECORD = pico_teacher("conv4", size=16).record


def test_permissive_licenses_will_do():
    check_may_include([replace(RECORD, license="Apache-2.0"), replace(RECORD, license="mit")])


@pytest.mark.parametrize("changes", [{"license": None}, {"license": "gpl-3.0"}, {"license": "mit", "private": True}])
def test_others_are_refused_by_name(changes):
    with pytest.raises(ConfigError, match="pico/conv4"):
        check_may_include([replace(RECORD, license="mit", reference="fine"), replace(RECORD, **changes)])


def test_what_a_list_says_of_a_teacher_is_in_its_copy(tmp_path):
    pico_folder(tmp_path / "given", "conv4", size=16)
    listed = tmp_path / "teachers.yaml"
    listed.write_text("teachers:\n  - name: own\n    path: given\n    mean: [0.1, 0.2, 0.3]\n    classes: [0, 2]\n")
    references = resolve_without_hub([str(listed)])
    record = load_teacher(references[0]).record
    included = include_teachers(references, [record], tmp_path / "learner")
    config = json.loads((tmp_path / "learner" / "teachers" / "00" / "config.json").read_text())
    assert config["pretrained_cfg"]["mean"] == [0.1, 0.2, 0.3]
    copied = load_teacher(tmp_path / "learner" / "teachers" / "00").record
    assert copied.sha256 == included[0].sha256
    assert copied.mean == record.mean
    assert included[0].classes == (0, 2)


def test_weights_that_changed_since_they_were_read_are_not_handed_on(tmp_path):
    pico_folder(tmp_path / "given", "conv4", size=16)
    references = resolve_without_hub([str(tmp_path / "given")])
    record = load_teacher(references[0]).record
    pico_folder(tmp_path / "given", "conv4", size=16, seed=5)
    with pytest.raises(TeacherError, match="have changed"):
        include_teachers(references, [record], tmp_path / "learner")
