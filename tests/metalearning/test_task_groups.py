"""Groups of unlike teachers: the probe, the embedding written out, and a case whose answer is known."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from hf_free.metalearning.task_groups import embed_teacher, similarity, train_probe, unlike_groups

CPU = torch.device("cpu")


def stripes(across: bool, count: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures of two classes, thin and wide stripes, in one of two directions."""
    labels = torch.arange(count) % 2
    waves = torch.arange(32)[None] // (1 + 3 * labels[:, None]) % 2
    rows = (255 * waves).to(torch.uint8)[:, None, :, None].expand(-1, 3, 32, 32)
    noise = torch.randint(40, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(count))
    return (rows.transpose(2, 3) if across else rows) // 2 + noise, labels


def test_a_probe_learns_what_pictures_were_made_for_and_is_the_same_twice():
    images, labels = stripes(False)
    probes = [
        train_probe(images, labels, device=CPU, generator=torch.Generator().manual_seed(0), updates=15)
        for _ in range(2)
    ]
    pairs = zip(probes[0].state_dict().values(), probes[1].state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert not probes[0].training
    answers = probes[0](images.float() / 255).argmax(1)
    assert (answers == labels).float().mean() > 0.9


def test_an_embedding_is_the_mean_squared_gradient_of_the_layers_before_the_head():
    images, labels = stripes(True, count=10)
    probe = train_probe(images, labels, device=CPU, generator=torch.Generator().manual_seed(0), updates=2)
    found = embed_teacher(probe, images, labels, batch=5)
    names = [name for name, _ in probe.named_parameters() if not name.startswith("head")]
    assert len(found) == len(names)
    expected = [torch.zeros(t.numel()) for t in found]
    for part in (slice(0, 5), slice(5, 10)):
        probe.zero_grad()
        F.cross_entropy(probe(images[part].float() / 255), labels[part]).backward()
        for total, name in zip(expected, names, strict=True):
            total += probe.get_parameter(name).grad.flatten() ** 2 / 2
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_similarity_is_one_to_itself_symmetric_and_by_layer():
    one = [torch.tensor([1.0, 3.0]), torch.tensor([2.0])]
    other = [torch.tensor([3.0, 1.0]), torch.tensor([2.0])]
    assert similarity(one, one) == pytest.approx(1.0)
    # first layer: cosine of (1/4, 3/4) and (3/4, 1/4) is 0.6; second: 1
    assert similarity(one, other) == pytest.approx((0.6 + 1) / 2)
    assert similarity(other, one) == similarity(one, other)
    assert similarity([torch.zeros(2)], [torch.ones(2)]) == pytest.approx(0.0)


def test_unlike_teachers_share_a_group():
    """Three kinds of two each that are alike: two groups hold one of each kind, as far as clustering can."""
    kinds = [[1.0, 0.001, 0.001], [0.001, 1.0, 0.001], [0.001, 0.001, 1.0]]
    embeddings = [[torch.tensor(values)] for values in (*kinds[:2], *kinds[:2])]  # a b a b
    groups = unlike_groups(embeddings, 2, seed=0)
    assert sorted(groups) == [0, 0, 1, 1]
    assert groups[0] != groups[2], "the two alike are apart"
    assert groups[1] != groups[3]
    assert unlike_groups(embeddings, 2, seed=0) == groups


@pytest.mark.parametrize(("teachers", "count"), [(3, 5), (3, 3), (4, 1)])
def test_few_teachers_or_one_group(teachers, count):
    groups = unlike_groups([[torch.rand(3)] for _ in range(teachers)], count, seed=0)
    assert groups == ([0] * teachers if count == 1 else list(range(teachers)))


def test_teachers_that_are_all_alike_are_shared_out():
    assert sorted(unlike_groups([[torch.ones(3)] for _ in range(6)], 2, seed=0)) == [0, 0, 0, 1, 1, 1]
