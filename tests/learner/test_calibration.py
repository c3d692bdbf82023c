"""Calibration at test time: the contrastive loss by hand, recovered pictures that are recognized, the same twice."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from learners import LABELS, make, pictures

from hf_free.learner.calibration import calibrate, recover_like, supervised_contrastive
from hf_free.learner.heads import scores
from hf_free.learner.maml import fine_tune
from hf_free.learner.meta_learner import MetaLearner
from hf_free.learner.parallel_episodes import episodes_at_once

NUMBERS = torch.tensor([0, 1, 0, 2, 1, 2])


def test_the_loss_is_that_of_khosla_et_al():
    features, labels, total = torch.randn(6, 4), torch.tensor([0, 0, 1, 1, 1, 0]), 0.0
    directions = features / features.norm(dim=1, keepdim=True)
    for i in range(6):
        others = [j for j in range(6) if j != i]
        below = sum((directions[i] @ directions[j] / 0.1).exp() for j in others)
        same = [j for j in others if labels[j] == labels[i]]
        total += -sum(((directions[i] @ directions[j] / 0.1).exp() / below).log() for j in same) / len(same)
    assert supervised_contrastive(features, labels).item() == pytest.approx((total / 6).item(), rel=1e-5)


def test_recovered_pictures_are_recognized_and_stay_pictures():
    network, classifier = fine_tune(make("conv4_32"), pictures().float() / 255, NUMBERS, 3)
    found = recover_like(network, classifier, pictures().float() / 255, NUMBERS)
    assert found.shape == (6, 3, 16, 16)
    assert 0 <= found.min() <= found.max() <= 1
    with torch.no_grad():
        answers = scores(classifier, network.prepare_features(network.features(found))[None])[0].argmax(1)
    assert torch.equal(answers, NUMBERS)


def test_it_brings_real_and_recovered_pictures_of_a_class_together_the_same_way_each_time():
    images, losses, weights = pictures().float() / 255, [], []
    for steps in (0, 10, 10):
        network, classifier = fine_tune(make("conv4_32"), images, NUMBERS, 3)
        recovered = recover_like(network, classifier, images, NUMBERS)
        calibrate(network, classifier, images, NUMBERS, steps=steps)
        both = torch.cat([images, recovered])
        with torch.no_grad():
            features = network.prepare_features(network.features(both))
        losses.append(supervised_contrastive(features, NUMBERS.repeat(2)).item())
        weights.append(torch.cat([p.flatten() for p in network.parameters()]))
        assert not any(parameter.requires_grad for parameter in network.parameters())
    assert losses[1] < losses[0]
    assert torch.equal(weights[1], weights[2])


def test_adapting_does_it_where_the_learner_says_so_and_a_saved_one_says_so_still(tmp_path):
    learner, query = make("conv4_32", head="maml"), pictures(seed=2)
    plain = learner.adapt(pictures(), LABELS).predict_proba(query)
    learner.config = replace(learner.config, calibration_steps=5)
    calibrated = learner.adapt(pictures(), LABELS).predict_proba(query)
    assert abs(calibrated - plain).max() > 1e-4
    assert episodes_at_once(learner, 100) == 1, "each episode for itself"
    learner.save_pretrained(tmp_path)
    block = json.loads((tmp_path / "config.json").read_text())["hf_free"]["learner"]
    assert block["calibration_steps"] == 5
    again = MetaLearner.from_pretrained(tmp_path).adapt(pictures(), LABELS).predict_proba(query)
    assert abs(again - calibrated).max() < 1e-5


def test_other_heads_do_without(tmp_path):
    learner = make("conv4_32", head="ridge")
    plain = learner.adapt(pictures(), LABELS).predict_proba(pictures(seed=2))
    learner.config = replace(learner.config, calibration_steps=5)
    assert (learner.adapt(pictures(), LABELS).predict_proba(pictures(seed=2)) == plain).all()
