"""Settings under old names: read from files, flags and records, said once, and never written again."""

from __future__ import annotations

import logging

import pytest
import yaml

from hf_free.config.tree import FreeConfig, departures
from hf_free.errors import ConfigError
from hf_free.provenance.learner_record import LearnerRecord
from hf_free.provenance.renamed import RENAMED, with_new_names

OLD = {
    "recipe": "paper",
    "bell": {"damping": 5.0, "relevance": False, "shared_classes": False, "lr": 0.5},
    "five": {"borrowed_batchnorm": 0.5, "diversity": 2.0, "diversity_margin": 0.4},
}
NEW = {
    "method": "paper",
    "bell": {"lr": 0.5},
    "learner": {"whitening": 5.0, "gating": False, "shared_classes": False},
    "five": {"donor_batchnorm": 0.5, "similarity_hinge": 2.0, "similarity_margin": 0.4},
}


def test_old_names_become_new_ones_and_the_rest_stays():
    assert with_new_names(OLD) == (NEW, RENAMED)
    assert OLD["bell"]["damping"] == 5.0, "what is given is left alone"
    assert with_new_names(NEW) == (NEW, {})
    assert with_new_names({"learner": {"gating": True}, "bell": {"relevance": False}})[0]["learner"] == {
        "gating": True
    }


def test_a_file_with_old_names_is_read_and_what_is_written_has_the_new_ones(tmp_path, caplog):
    path = tmp_path / "old.yaml"
    path.write_text(yaml.safe_dump(OLD))
    with caplog.at_level(logging.WARNING):
        config = FreeConfig.from_yaml(path)
    assert config == FreeConfig.from_dict(NEW)
    (notice,) = caplog.messages
    assert all(f"{old} is now {new}" in notice for old, new in RENAMED.items())
    written = config.to_dict()
    assert with_new_names(written) == (written, {})
    assert FreeConfig(recipe="paper") == FreeConfig(method="paper")


def test_the_last_layer_wins_under_either_name(tmp_path):
    path = tmp_path / "old.yaml"
    path.write_text("recipe: paper\nlearner: {whitening: 7}\n")
    config = FreeConfig.load(path, values={"method": "default"}, assignments=["recipe=released", "bell.damping=9"])
    assert (config.method, config.learner.whitening) == ("released", 9.0)


def test_an_impossible_value_is_refused_under_the_new_name():
    with pytest.raises(ConfigError, match=r"learner\.whitening = -1"):
        FreeConfig.from_dict({"bell": {"damping": -1}})


def test_an_old_learners_record_speaks_of_todays_settings():
    record = LearnerRecord.from_dict({"config": OLD})
    assert record.config == NEW
    assert record.setting("learner", "whitening") == 5.0
    assert record.block == {"config": OLD}, "the block itself stays as it was written"
    assert departures(OLD) == departures(NEW) != {}
