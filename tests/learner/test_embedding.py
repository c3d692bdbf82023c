"""The space that new classes are told apart in: predicted answers and features, joined."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from hf_free.config.sections import LearnerConfig
from hf_free.learner.embedding import Embedding, EmbeddingSpec, joint_embedding
from hf_free.learner.gating import TeacherGate
from hf_free.learner.heads import HEADS, scores_of_normalized
from hf_free.learner.inputs import InputSettings
from hf_free.learner.meta_learner import MetaLearner
from hf_free.learner.shared_classes import SharedClasses
from hf_free.learner.whitening import Whitening


@pytest.fixture
def learner() -> MetaLearner:
    torch.manual_seed(0)
    config, inputs = LearnerConfig(backbone="conv4_32"), InputSettings(["identity", "flip"])
    learner = MetaLearner(config, embedding=Embedding(sizes=(3, 2)), inputs=inputs)
    learner.embedding.projection = nn.Linear(learner.backbone_dim, 5)
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
        expected = joint_embedding(learner.embedding.projection(mean), mean, (3, 2))
        torch.testing.assert_close(learner.features(pictures), expected, rtol=1e-4, atol=1e-5)


def test_feature_dim_counts_both_halves(learner: MetaLearner) -> None:
    assert learner.feature_dim == 5 + learner.backbone_dim == learner.features(torch.rand(1, 3, 32, 32)).shape[1]


def test_a_learner_with_answers_survives_saving(learner: MetaLearner, tmp_path) -> None:
    pictures = torch.rand(3, 3, 32, 32)
    learner.save_pretrained(tmp_path)
    loaded = MetaLearner.from_pretrained(tmp_path)
    assert loaded.embedding.sizes == (3, 2)
    assert torch.equal(loaded.embed(pictures), learner.embed(pictures))


def _parts(sizes: tuple[int, ...], features: int) -> Embedding:
    """An embedding with every part there is, none of them without effect."""
    torch.manual_seed(0)
    groups = torch.tensor([0, 1, 2, 0, 3])
    shared = SharedClasses(groups, sizes)
    gate = TeacherGate(sizes, features, shared.groups)
    width = sum(sizes) + len(shared) + features
    gate.fit(torch.randn(40, width), torch.arange(40) % 2)
    whitening = Whitening(3, width)
    whitening.fit(torch.randn(60, width), 1.0)
    return Embedding(nn.Linear(features, sum(sizes)), sizes, gate=gate, whitening=whitening, shared_classes=shared)


def test_config_has_the_keys_of_format_1_and_rebuilds_it() -> None:
    embedding = _parts((3, 2), 7)
    assert embedding.config() == {
        "projection": {"bias": True, "shape": [5, 7]},
        "answer_sizes": [3, 2],
        "centered": False,
        "relevance": True,
        "damping": 3,
        "shared_classes": 4,
    }
    spec = EmbeddingSpec.read(embedding.config(), "here")
    wanted = spec.tensors(7)
    state = embedding.state_dict()
    assert {n: (v.shape, v.dtype) for n, v in wanted.items()} == {n: (v.shape, v.dtype) for n, v in state.items()}
    assert all(tensor.is_meta for tensor in wanted.values())
    again = spec.build(7, dict(state), "here")
    features, support = torch.randn(4, 7), torch.randn(2, 6, spec.width(7))
    with torch.no_grad():
        assert torch.equal(again(features), embedding(features))
        assert again(features).shape[1] == spec.width(7) == embedding.width(7)
    labels = torch.arange(6).expand(2, -1) % 3
    for one, other in zip(
        again.fit_head(HEADS["ridge"], support, labels, 3),
        embedding.fit_head(HEADS["ridge"], support, labels, 3),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_an_embedding_without_parts_is_the_identity() -> None:
    plain, features = Embedding(), torch.randn(2, 6, 5)
    assert plain.config() == {"projection": None, "answer_sizes": None, "centered": False}
    assert plain.width(5) == 5
    assert torch.equal(plain(features), features)
    assert torch.equal(plain.weigh(features, features)[1], features)
    torch.testing.assert_close(plain.prepare(features).norm(dim=-1), torch.ones(2, 6))
    assert not plain.state_dict()


def test_a_fitted_head_scores_plain_features_as_the_head_scores_weighed_ones() -> None:
    """(w M) . x = w . (M x), for the symmetric map M of gate and whitening, which depends on the support alone."""
    embedding = _parts((3, 2), 7)
    support, query = (embedding.prepare(torch.randn(2, n, embedding.width(7))) for n in (6, 4))
    labels = torch.arange(6).expand(2, -1) % 3
    found = scores_of_normalized(embedding.fit_head(HEADS["ridge"], support, labels, 3), query)
    weighed_support, weighed_query = embedding.weigh(support, query)
    plain = HEADS["ridge"](weighed_support, labels, 3)
    torch.testing.assert_close(found, scores_of_normalized(plain, weighed_query), rtol=1e-4, atol=1e-4)
    embedding.stop_weighing()
    unweighed = scores_of_normalized(embedding.fit_head(HEADS["ridge"], support, labels, 3), query)
    assert (found - unweighed).abs().max() > 0.1
