"""A backbone's features beside what a linear map makes of them."""

from __future__ import annotations

import json

import pytest
import torch
from learners import make, pictures
from torch import nn

from hf_free.errors import LearnerError
from hf_free.learner.embedding import Embedding
from hf_free.learner.features_beside import FeaturesBeside
from hf_free.learner.meta_learner import MetaLearner


def test_it_centers_features_and_gives_them_the_predictions_mean_length():
    torch.manual_seed(0)
    features, predicted = torch.randn(50, 6) + 2, 3 * torch.randn(50, 4)
    beside = FeaturesBeside(6)
    beside.fit(features, predicted)
    found = beside(features)
    torch.testing.assert_close(found.mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    assert found.norm(dim=1).mean() == pytest.approx(predicted.norm(dim=1).mean().item(), rel=1e-5)
    turned = nn.functional.normalize(found[0] - found[1], dim=0)
    torch.testing.assert_close(turned, nn.functional.normalize(features[0] - features[1], dim=0))


def beside_learner() -> MetaLearner:
    torch.manual_seed(1)
    learner = make()
    width = learner.backbone_dim
    beside, projection = FeaturesBeside(width), nn.Linear(width, 5)
    beside.fit(torch.randn(30, width), torch.randn(30, 5))
    learner.embedding = Embedding(projection, beside=beside)
    return learner.eval()


def test_a_learner_with_it_is_saved_opened_and_asked_as_before(tmp_path):
    learner = beside_learner()
    assert learner.feature_dim == 5 + learner.backbone_dim
    images = pictures() / 255
    with torch.no_grad():
        features = learner.backbone((images - learner.mean) / learner.std)
        expected = torch.cat([learner.embedding.projection(features), learner.embedding.beside(features)], 1)
        torch.testing.assert_close(learner.features(images), expected)
    learner.save_pretrained(tmp_path)
    opened = MetaLearner.from_pretrained(tmp_path)
    assert torch.equal(opened.embed(images), learner.embed(images))


@pytest.mark.parametrize("change", [{"features": "yes"}, {"features": True, "projection": None}])
def test_a_tampered_one_is_refused(tmp_path, change):
    beside_learner().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    content = json.loads(path.read_text())
    content["hf_free"]["learner"].update(change)
    path.write_text(json.dumps(content))
    with pytest.raises(LearnerError, match="features"):
        MetaLearner.from_pretrained(tmp_path)


def test_features_stand_beside_a_projection_only():
    with pytest.raises(LearnerError, match="features beside"):
        Embedding(beside=FeaturesBeside(3))
    with pytest.raises(LearnerError, match="features beside"):
        Embedding(nn.Linear(3, 4), [2, 2], beside=FeaturesBeside(3))
