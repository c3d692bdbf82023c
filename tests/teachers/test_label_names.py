"""Which class names are names: those that only count link no classes of different teachers."""

from __future__ import annotations

import pytest
import torch

from hf_free.config.sections import LearnerConfig
from hf_free.evaluation.datasets import LabeledImages
from hf_free.evaluation.evaluate import EpisodeSettings, evaluate
from hf_free.learner.meta_learner import MetaLearner
from hf_free.provenance.learner_record import LearnerRecord
from hf_free.teachers.label_names import is_placeholder


@pytest.mark.parametrize(
    "name", ["LABEL_0", "label_12", "class_3", "Class 3", "class3", "category-7", "7", "007", " 4 "]
)
def test_names_that_only_count_are_placeholders(name):
    assert is_placeholder(name)


@pytest.mark.parametrize(
    "name", ["n01440764", "cat", "boeing 747", "747-400", "class", "first class", "label", "5 o'clock", "3d", ""]
)
def test_names_with_a_word_are_names(name):
    assert not is_placeholder(name)


def test_placeholders_are_no_classes_that_a_data_set_shares_with_the_teachers():
    learner = MetaLearner.create(LearnerConfig(backbone="conv4_32", image_size=16))
    learner.record = LearnerRecord.from_dict({"teachers": [{"label_names": ["LABEL_0", "1", "owl"]}]})
    pictures = torch.randint(0, 256, (12, 3, 16, 16), dtype=torch.uint8)
    data = LabeledImages(pictures, torch.arange(3).repeat(4), ["label 0", "1", "Owl"])
    report = evaluate(learner, data, EpisodeSettings(n_way=2, k_shots=(1,), n_query=2, episodes=2))
    assert [warning.partition(":")[0] for warning in report.warnings] == [
        "1 of 3 classes of the data set also occur among the teachers' label names (Owl)"
    ]
