"""Heads and MAML in a caller's autocast block answer as they do outside."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hf_free.config.sections import LearnerConfig
from hf_free.learner.batchnorm import BatchNormMode
from hf_free.learner.gating import TeacherGate
from hf_free.learner.heads import HEADS, LinearClassifier, fit_weighted, scores
from hf_free.learner.inputs import InputSettings
from hf_free.learner.meta_learner import MetaLearner
from hf_free.learner.shared_classes import SharedClasses
from hf_free.learner.transductive import TRANSDUCTIVE
from hf_free.learner.whitening import Whitening

LABELS = torch.arange(10) % 5


def features(seed: int = 0) -> Tensor:
    return nn.functional.normalize(torch.randn(2, 10, 12, generator=torch.Generator().manual_seed(seed)), dim=-1)


def in_autocast() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.parametrize("name", HEADS)
def test_a_head_and_its_scores_are_the_same_inside_and_outside(name: str) -> None:
    labels = LABELS.expand(2, -1)
    outside = HEADS[name](features(), labels, 5)
    with in_autocast():
        inside = HEADS[name](features(), labels, 5)
        scored = scores(inside, features(1))
    assert inside.weight.dtype == scored.dtype == torch.float32
    assert torch.equal(inside.weight, outside.weight)
    assert torch.equal(inside.bias, outside.bias)
    assert torch.equal(scored, scores(outside, features(1)))


def test_low_precision_features_are_raised_first() -> None:
    labels = LABELS.expand(2, -1)
    given = features().bfloat16()
    found, expected = HEADS["ridge"](given, labels, 5), HEADS["ridge"](given.float(), labels, 5)
    assert torch.equal(found.weight, expected.weight)
    assert scores(LinearClassifier(*expected), given).dtype == torch.float32


def test_double_precision_stays() -> None:
    assert HEADS["ridge"](features().double(), LABELS.expand(2, -1), 5).weight.dtype == torch.float64


def test_weighing_damping_and_transductive_heads_too() -> None:
    torch.manual_seed(0)
    labels = LABELS.expand(2, -1)
    relevance, damping = TeacherGate((3, 4), 5), Whitening(3, 12)
    relevance.fit(torch.randn(40, 12), torch.arange(40) % 2)
    damping.fit(torch.randn(200, 12), 10.0)
    shared = SharedClasses(torch.tensor([0, 1, 2, 0, 1, 3, 4]), (3, 4))

    def everything() -> list[Tensor]:
        factors = relevance(features())
        fitted = fit_weighted(HEADS["ridge"], features(), labels, 5, factors, damping)
        together = [head(features(), labels, features(1), 5, HEADS["ridge"]) for head in TRANSDUCTIVE.values()]
        return [factors, *fitted, *together, shared(features()[0, :, :7])]

    outside = everything()
    with in_autocast():
        inside = everything()
    assert all(torch.equal(*pair) for pair in zip(inside, outside, strict=True))


def learner(head: str, batchnorm: BatchNormMode = "running") -> MetaLearner:
    torch.manual_seed(0)
    made = MetaLearner(
        LearnerConfig(backbone="conv4_32", image_size=16, head=head),  # type: ignore[arg-type]
        inputs=InputSettings(batchnorm=batchnorm),
        backbone={"width": 8},
    )
    with torch.no_grad():
        made.train().features(torch.rand(16, 3, 16, 16))
    return made.eval()


PICTURES = torch.rand(10, 3, 16, 16, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("batchnorm", ["running", "support", "transductive"])
def test_maml_adapts_the_same_inside_and_outside(batchnorm: BatchNormMode) -> None:
    """In the block weights would be cached as bf16 once, and every step be taken from the first ones."""
    made = learner("maml", batchnorm)
    outside = made.adapt(PICTURES, LABELS)
    with in_autocast():
        inside = made.adapt(PICTURES, LABELS)
        inside.predict(PICTURES)
    assert torch.equal(inside.weight, outside.weight)
    own = outside.embedder.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in inside.embedder.state_dict().items())
    assert torch.equal(inside.predict_proba(PICTURES), outside.predict_proba(PICTURES))


def test_ridge_of_pictures_embedded_in_the_block_is_fitted_in_full_precision() -> None:
    made = learner("ridge")
    with in_autocast():
        embedded = made.embed(PICTURES)
        classifier = made.adapt(PICTURES, LABELS)
        probabilities = classifier.predict_proba(PICTURES)
    expected = HEADS["ridge"](embedded[None].float(), LABELS[None], 5)
    torch.testing.assert_close(classifier.weight, expected.weight[0], rtol=1e-5, atol=1e-5)  # in another order
    by_hand = scores(expected, embedded[None].float())[0].softmax(-1)
    torch.testing.assert_close(probabilities, by_hand, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("head", ["ridge", "maml"])
def test_pictures_of_every_floating_type_are_learned_and_predicted(dtype: torch.dtype, head: str) -> None:
    made = learner(head)
    expected = made.adapt(PICTURES.to(dtype).float(), LABELS).predict_proba(PICTURES.to(dtype).float())
    found = made.adapt(PICTURES.to(dtype), LABELS).predict_proba(list(PICTURES.to(dtype)))
    torch.testing.assert_close(found, expected)
    with torch.no_grad():
        torch.testing.assert_close(made.features(PICTURES.to(dtype)), made.features(PICTURES.to(dtype).float()))
