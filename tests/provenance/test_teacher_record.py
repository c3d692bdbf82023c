"""What a teacher is, written and read."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from pico import pico_teacher
from records import teacher

from hf_free.provenance.teacher_record import TeacherRecord


def test_a_record_survives_json_and_later_keys_are_left_out():
    record = replace(pico_teacher("resnet", label_names="abcde").record, classes=(4, 2), notes=("a note",))
    values = json.loads(json.dumps({**record.to_dict(), "of_a_later_version": 1}))
    assert TeacherRecord.from_dict(values) == record


def test_a_record_of_an_older_version_has_defaults():
    record = pico_teacher("conv4").record
    later = {"classes", "label_descriptions", "weight_bytes", "weight_dtype", "fp32_only", "crop", "notes"}
    old = {key: value for key, value in record.to_dict().items() if key not in later}
    read = TeacherRecord.from_dict(old)
    assert (read.classes, read.crop, read.weight_dtype, read.fp32_only, read.notes) == (
        None,
        None,
        "float32",
        False,
        (),
    )


@pytest.mark.parametrize(("kind", "has"), [("conv4", True), ("resnet", True), ("vit", False), ("groupnorm", False)])
def test_batchnorm_is_known_by_its_layers(kind, has):
    assert pico_teacher(kind).record.has_batchnorm == has


@pytest.mark.parametrize(("private", "gated"), [(False, False), (True, False), (False, True), (True, True)])
def test_private_or_gated_is_hidden(private, gated):
    assert replace(pico_teacher("conv4").record, private=private, gated=gated).is_hidden == (private or gated)


@pytest.mark.parametrize("change", [{"reference": {"a": {}}}, {"label_names": {"a": {}}}, {"normalization": []}])
def test_a_value_of_another_type_is_refused_by_its_name(change):
    with pytest.raises(TypeError, match=f"{next(iter(change))} is "):
        TeacherRecord.from_dict({**teacher(), **change})
