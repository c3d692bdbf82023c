"""FREE's halves, as the configuration asks for them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pico import pico_teacher

from hf_free.config.recipes import Defects
from hf_free.config.tree import FreeConfig
from hf_free.data.logits import LogitLayout
from hf_free.learner.meta_learner import MetaLearner
from hf_free.metalearning.bell import Aligner
from hf_free.metalearning.distill import Distiller
from hf_free.methods.base import MethodSettings
from hf_free.methods.free import make_bell, make_five
from hf_free.runtime.device import Precision

SMALL = {"five": {"latent_dim": 8, "width": 4}, "learner": {"backbone": "conv4_32", "image_size": 16}}
RECORDS = [pico_teacher("conv4", size=16, num_classes=3, seed=seed).record for seed in (0, 1)]
NAMED = [replace(record, label_names=tuple(f"{place} {i}" for i in range(3))) for place, record in enumerate(RECORDS)]


def bell(records: list, **values: object) -> Aligner | Distiller:
    config = FreeConfig.from_dict({**SMALL, **values})
    layout = LogitLayout.of([record.num_classes for record in records])
    learner = MetaLearner(config.learner)
    learner.projection = torch.nn.Linear(learner.backbone_dim, layout.width)
    return make_bell(MethodSettings.of(config), learner, layout, records, Precision())


def test_distillation_asks_every_teacher_and_needs_no_new_tasks():
    objective = bell(RECORDS)
    assert isinstance(objective, Distiller)
    assert objective.asks_teachers
    assert not objective.needs_new_tasks


@pytest.mark.parametrize(
    ("records", "match", "asks"), [(NAMED, True, False), (NAMED, False, True), ([NAMED[0], RECORDS[1]], True, True)]
)
def test_bell_asks_the_teachers_unless_every_class_has_a_name_to_be_trusted(records, match, asks):
    objective = bell(records, bell={"objective": "align", "match_label_names": match})
    assert isinstance(objective, Aligner)
    assert objective.asks_teachers is asks
    assert objective.needs_new_tasks
    assert len(objective.class_names) == (sum(r.label_names is not None for r in records) * 3 if match else 0)


def test_five_has_the_learners_pictures_and_the_defects():
    values = {**SMALL, "learner": {"image_size": 24, "channels": 1}, "defects": ["last_step_gradient_only"]}
    five = make_five(MethodSettings.of(FreeConfig.from_dict(values)), torch.device("cpu"), Precision())
    assert (five.image_size, five.channels) == (24, 1)
    assert five.defects == Defects(last_step_gradient_only=True)
