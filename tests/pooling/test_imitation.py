"""What a network that imitates a pooled learner is shown, its loss, and the embedding that comes out."""

from __future__ import annotations

import pytest
import torch
from pico import pico_folder
from torch import nn

from hf_free.learner.pooled_backbone import PooledBackbone
from hf_free.pooling import imitation
from hf_free.pooling.fit import fit_pooled
from hf_free.pooling.imitation import (
    Directions,
    PictureBank,
    imitating_embedding,
    imitation_loss,
    joined_projection,
    likeness,
)
from hf_free.pooling.pictures import ask_all
from hf_free.runtime.random_streams import RandomStreams
from hf_free.teachers.pool import TeacherPool


@pytest.fixture(scope="module")
def bank_of(tmp_path_factory):
    root = tmp_path_factory.mktemp("teachers")
    pool = TeacherPool(
        [str(pico_folder(root / "a", "conv4", size=16)), str(pico_folder(root / "b", "resnet", size=24))]
    )
    pictures = torch.randint(256, (300, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    weights = fit_pooled(ask_all(pool, pictures), ["a", "b"])
    network = PooledBackbone(pool, weights.feature_sizes, weights.answer_sizes)

    def made(room):
        stream = RandomStreams(0).stream("pictures")
        return PictureBank(network, weights, pool, (3, 16), room=room, stream=stream), network, weights

    return made


def test_targets_are_what_the_pooled_learner_says_of_the_very_pictures(bank_of):
    bank, network, weights = bank_of(10)
    bank.grow(6)
    with torch.no_grad():
        whole = weights(network(bank.images.float() / 255))
    torch.testing.assert_close(bank.targets.float(), whole[:, :-2], atol=2e-3, rtol=1e-2)
    assert whole.shape[1] == network.num_features + 2, "the last columns weigh the two teachers and are no target"


def test_a_full_bank_loses_its_oldest_pictures(bank_of):
    bank, _, _ = bank_of(10)
    bank.grow(6)
    first = bank.images.clone()
    bank.grow(6)
    assert (len(bank), bank.seen) == (10, 12)
    bank.grow(4)
    assert (len(bank), bank.seen) == (10, 16)
    left = {picture.numpy().tobytes() for picture in bank.images}
    assert len(left) == 10
    assert not left & {picture.numpy().tobytes() for picture in first}
    images, targets = bank.sample(5, RandomStreams(0).stream("batches"))
    for image, target in zip(images, targets, strict=True):
        place = next(i for i, kept in enumerate(bank.images) if torch.equal(kept, image))
        assert torch.equal(target, bank.targets[place].float())


def test_wide_embeddings_keep_their_inner_products_as_far_as_their_directions_go(monkeypatch):
    monkeypatch.setattr(imitation, "MOST_DIMENSIONS", 8)
    generator = torch.Generator().manual_seed(0)
    spanned = torch.randn(50, 8, generator=generator) @ torch.randn(8, 30, generator=generator)
    directions = Directions(spanned)
    narrow = directions(spanned)
    assert narrow.shape == (50, 8)
    torch.testing.assert_close(narrow @ narrow.T, spanned @ spanned.T, rtol=1e-3, atol=1e-2)
    few = spanned[:, :8]
    assert Directions(few)(few) is few


def test_the_loss_sees_directions_only():
    said = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert imitation_loss(3 * said, said).item() == pytest.approx(0, abs=1e-6)
    assert imitation_loss(torch.tensor([[0.0, 1.0], [0.0, -1.0]]), said).item() == pytest.approx((1 + 2) / 2)


def test_the_joined_projection_has_the_inner_products_of_both_parts():
    torch.manual_seed(0)
    projection, features = nn.Linear(6, 20), torch.randn(40, 6) + 3
    joined = joined_projection(projection, features)
    assert joined.weight.shape == (7, 6)
    with torch.no_grad():
        predicted, centered = projection(features), features - features.mean(0)
        scaled = centered * predicted.norm(dim=1).mean() / centered.norm(dim=1).mean()
        expected = predicted @ predicted.T + scaled @ scaled.T
        found = joined(features)
    torch.testing.assert_close(found @ found.T, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("outputs", "weights"), [(20, 7 * 6 + 7), (4, 4 * 6 + 4)])
def test_predictions_and_features_become_the_smaller_of_two_forms_with_the_same_inner_products(outputs, weights):
    torch.manual_seed(0)
    projection, features = nn.Linear(6, outputs), torch.randn(40, 6) + 3
    embedding = imitating_embedding(projection, features)
    assert sum(parameter.numel() for parameter in embedding.parameters()) == weights
    with torch.no_grad():
        predicted, centered = projection(features), features - features.mean(0)
        scaled = centered * predicted.norm(dim=1).mean() / centered.norm(dim=1).mean()
        expected, found = predicted @ predicted.T + scaled @ scaled.T, embedding(features)
    torch.testing.assert_close(found @ found.T, expected, rtol=1e-4, atol=1e-3)


def test_likeness_is_one_for_turned_and_stretched_tables_and_small_for_strangers():
    torch.manual_seed(0)
    table = torch.randn(200, 5)
    turn = torch.linalg.qr(torch.randn(5, 5)).Q
    assert likeness(table, 3 * table @ turn + 1) == pytest.approx(1, abs=1e-4)
    assert likeness(table, torch.randn(200, 5)) < 0.2
