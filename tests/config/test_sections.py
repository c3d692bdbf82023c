"""The sections: bounds, lists of one, and texts as they were written."""

from __future__ import annotations

import ast
import inspect
from dataclasses import fields

import pytest
from pydantic import ValidationError

from hf_free.config import sections
from hf_free.config.sections import (
    FITTED,
    INVERSION_TERMS,
    BellConfig,
    FiveConfig,
    HubConfig,
    LearnerConfig,
    MemoryConfig,
    TrainerConfig,
    as_wanted,
)
from hf_free.config.yaml_reading import read_written

ALL = (FiveConfig, MemoryConfig, BellConfig, LearnerConfig, TrainerConfig, HubConfig)


@pytest.mark.parametrize(
    ("section", "values"),
    [
        (FiveConfig, {"inner_steps": 0}),
        (FiveConfig, {"images_per_class": 1}),
        (BellConfig, {"objective": "both"}),
        (LearnerConfig, {"channels": 2}),
        (LearnerConfig, {"views": ["mirror"]}),
        (LearnerConfig, {"whitening": 0}),
        (TrainerConfig, {"steps": 0}),
        (TrainerConfig, {"mixed_precision": "fp8"}),
        (HubConfig, {"base_model_relation": "child"}),
        (MemoryConfig, {"of_another_version": 1}),
    ],
)
def test_impossible_values_and_unknown_keys_are_refused(section, values):
    with pytest.raises(ValidationError):
        section(**values)


def test_a_name_stands_for_a_list_of_it_and_an_unquoted_no_for_the_word():
    assert LearnerConfig(views="identity").views == ["identity"]
    assert TrainerConfig(mixed_precision=False).mixed_precision == "no"


def test_every_term_of_the_inversion_has_its_weight():
    weights = {entry.name for entry in fields(FiveConfig)}
    assert set(INVERSION_TERMS) <= weights


def test_a_saved_network_says_nothing_of_what_a_run_fits_at_its_end():
    known = LearnerConfig(calibration_steps=1).of_network()
    assert "calibration_steps" not in LearnerConfig().of_network(), "older readers know no such key"
    assert not known.keys() & set(FITTED)
    assert {*known, *FITTED} == {entry.name for entry in fields(LearnerConfig)}


@pytest.mark.parametrize("section", ALL)
def test_every_field_says_what_it_is_for(section):
    # of the module: Python 3.13 no longer knows the lines of a class that pydantic has made anew
    classes = [node for node in ast.parse(inspect.getsource(sections)).body if isinstance(node, ast.ClassDef)]
    (node,) = (node for node in classes if node.name == section.__name__)
    for entry, below in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(entry, ast.AnnAssign):
            assert isinstance(below, ast.Expr), f"{section.__name__}.{entry.target.id} has no text below it"
    assert inspect.getdoc(section)
    assert section.__module__ == sections.__name__


def test_texts_stay_as_they_were_written_and_numbers_become_numbers():
    written = read_written("{backbone: 1.0, image_size: 0x20, views: [identity], init_from: ~, head: ridge}")
    wanted = as_wanted(written, LearnerConfig)
    assert wanted == {
        "backbone": "1.0", "image_size": 32, "views": ["identity"], "init_from": None, "head": "ridge",
    }  # fmt: skip
