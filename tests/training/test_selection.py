"""Which state of a run is the one published."""

from __future__ import annotations

import math
from types import SimpleNamespace

import timm
import torch

from hf_free.config.sections import BellConfig, LearnerConfig, TrainerConfig
from hf_free.evaluation.datasets import LabeledImages
from hf_free.learner.batchnorm import batchnorm_layers
from hf_free.learner.meta_learner import MetaLearner
from hf_free.training.folder import RunFolder
from hf_free.training.selection import Selector, keep_best, make_selector, restore_best
from hf_free.training.state import RunState


def test_a_learner_that_gets_worse_is_not_the_one_published(tmp_path):
    learner, state, run = (
        MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16)),
        RunState(),
        RunFolder(tmp_path),
    )
    scores = iter([-math.inf, 0.1, 0.5, 0.2])
    judge = Selector(lambda: next(scores), lambda: "a list")
    for state.step in (1, 2, 3, 4):
        torch.nn.init.constant_(learner.backbone.get_parameter("blocks.0.conv.weight"), state.step)
        keep_best(judge, learner, state, run)
    restore_best(learner, state, run)
    assert (state.best_step, state.best_score) == (3, 0.5)
    assert (learner.backbone.get_parameter("blocks.0.conv.weight") == 3).all()


def test_a_backbone_that_keeps_tables_of_its_weights_answers_by_the_restored_ones(tmp_path):
    small = {"embed_dim": (16, 24, 32), "depth": (1, 1, 1), "num_heads": (1, 1, 2), "key_dim": 8, "img_size": 64}
    learner, state, run = MetaLearner(LearnerConfig(backbone="conv4_32")), RunState(), RunFolder(tmp_path)
    learner.backbone = timm.create_model("levit_128s", num_classes=0, **small)  # TinyViT and others do so, too
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    tables = [value for name, value in learner.backbone.named_parameters() if name.endswith("attention_biases")]
    judge, answers = Selector(iter([0.5, 0.2]).__next__, lambda: "a list"), []
    learner.eval()
    for seed in (0, 1):
        for table in tables:
            torch.nn.init.normal_(table, std=5, generator=torch.Generator().manual_seed(seed))
        learner.train().eval()
        with torch.no_grad():
            answers.append(learner.backbone(images))
        keep_best(judge, learner, state, run)
    restore_best(learner, state, run)
    with torch.no_grad():
        restored = learner.backbone(images)
    assert not learner.training
    assert not torch.equal(answers[0], answers[1])
    assert torch.equal(restored, answers[0])


def test_scores_on_other_pictures_are_not_compared(tmp_path):
    learner, state, run = (
        MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16)),
        RunState(),
        RunFolder(tmp_path),
    )
    scores, pictures_now = iter([0.9, 0.1, 0.3, 0.2, math.nan]), [10]
    judge = Selector(lambda: next(scores), lambda: "pictures", lambda: pictures_now[0])
    for state.step, pictures_now[0] in zip((1, 2, 3, 4, 5), (10, 20, 20, 20, 30), strict=True):
        keep_best(judge, learner, state, run)
    assert (state.best_step, state.best_score, state.best_on) == (3, 0.3, 20)  # 0.9 was a score on others, NaN is none


def test_a_learner_whose_features_are_no_numbers_scores_nothing_on_a_validation_set():
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16))
    with torch.no_grad():
        batchnorm_layers(learner)[0].running_var.fill_(-1.0)
    images = torch.zeros(40, 3, 16, 16, dtype=torch.uint8)
    validation = LabeledImages(images, torch.arange(40) % 2, ["a", "b"])
    objective, setting = SimpleNamespace(learner=learner), BellConfig(n_way=2)
    judge = make_selector(TrainerConfig(validation_episodes=2), setting, objective, None, validation)
    assert math.isnan(judge.score())
    with torch.no_grad():
        batchnorm_layers(learner)[0].running_var.fill_(1.0)
    assert judge.score() >= 0
