"""The space that new classes are told apart in: predicted answers and features, joined."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from hf_free.config.sections import LearnerConfig
from hf_free.learner.embedding import joint_embedding
from hf_free.learner.meta_learner import MetaLearner


@pytest.fixture
def learner() -> MetaLearner:
    torch.manual_seed(0)
    learner = MetaLearner(LearnerConfig(backbone="conv4_32"), views=["identity", "flip"], answer_sizes=(3, 2))
    learner.projection = nn.Linear(learner.backbone_dim, 5)
    return learner.eval()


def test_joint_embedding_equals_a_loop() -> None:
    torch.manual_seed(0)
    answers, features = torch.randn(4, 5), torch.randn(4, 7)
    joined = joint_embedding(answers, features, (3, 2))
    for row, (logits, feature) in enumerate(zip(answers, features, strict=True)):
        roots = [math.sqrt(p) for part in (logits[:3], logits[3:]) for p in torch.softmax(part, 0).tolist()]
        length = math.sqrt(sum(r * r for r in roots))  # the probabilities of two teachers add up to 2
        assert length == pytest.approx(math.sqrt(2), rel=1e-5)
        expected = [r / length * math.sqrt(5) for r in roots]  # five answers and seven features weigh as many
        expected += [v / feature.norm().item() * math.sqrt(7) for v in feature.tolist()]
        assert joined[row].tolist() == pytest.approx(expected, abs=1e-5)


def test_features_average_the_views_before_embedding(learner: MetaLearner) -> None:
    pictures = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        views = [learner.backbone((p - learner.mean) / learner.std) for p in (pictures, pictures.flip(3))]
        mean = (views[0] + views[1]) / 2
        expected = joint_embedding(learner.projection(mean), mean, (3, 2))
        torch.testing.assert_close(learner.features(pictures), expected, rtol=1e-4, atol=1e-5)


def test_feature_dim_counts_both_halves(learner: MetaLearner) -> None:
    assert learner.feature_dim == 5 + learner.backbone_dim == learner.features(torch.rand(1, 3, 32, 32)).shape[1]


def test_a_learner_with_answers_survives_saving(learner: MetaLearner, tmp_path) -> None:
    pictures = torch.rand(3, 3, 32, 32)
    learner.save_pretrained(tmp_path)
    loaded = MetaLearner.from_pretrained(tmp_path)
    assert loaded.answer_sizes == (3, 2)
    assert torch.equal(loaded.embed(pictures), learner.embed(pictures))
