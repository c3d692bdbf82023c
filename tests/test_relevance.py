"""Relevance: teachers whose pictures an episode's support looks like count more; elsewhere nothing changes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hf_free.config import LearnerConfig
from hf_free.episodes import sample_episodes, score_episodes
from hf_free.inversion.task import Health, RecoveredTask
from hf_free.learner.distill import AnswerSheet, drop_teachers
from hf_free.learner.embedding import joint_embedding
from hf_free.learner.heads import HEADS, fit_weighted, normalize_features, scores
from hf_free.learner.meta_learner import MetaLearner
from hf_free.learner.relevance import SHRINKAGE, TEMPERATURE, Relevance, learn_relevance
from hf_free.memory import TaskMemory

SIZES = (3, 2, 4)
WIDTH = sum(SIZES) + 5


def _embeddings(count, seed=0):
    """Embeddings as the learner makes them, of length 1."""
    generator = torch.Generator().manual_seed(seed)
    answers = 2 * torch.randn(count, sum(SIZES), generator=generator)
    return normalize_features(joint_embedding(answers, torch.randn(count, 5, generator=generator), SIZES))


def _fitted(embeddings, teachers):
    relevance = Relevance(SIZES, WIDTH)
    relevance.fit(embeddings, teachers)
    return relevance


def test_the_linear_map_is_the_ratio_of_two_normal_densities():
    embeddings, teachers = _embeddings(300).double(), torch.arange(300) % 3
    embeddings[teachers == 1, 0] += 0.5
    relevance = _fitted(embeddings.float(), teachers)
    means = torch.stack([embeddings[teachers == t].mean(0) for t in range(3)])
    covariance = sum(torch.outer(x - means[t], x - means[t]) for x, t in zip(embeddings, teachers, strict=True)) / 299
    covariance += (SHRINKAGE * covariance.diagonal().mean() + 1e-8) * torch.eye(WIDTH)
    seen = _embeddings(4, seed=1).double()
    overall = torch.distributions.MultivariateNormal(embeddings.mean(0), covariance).log_prob(seen)
    for t in range(3):
        expected = torch.distributions.MultivariateNormal(means[t], covariance).log_prob(seen) - overall
        found = seen.float() @ relevance.weight[t] + relevance.bias[t]
        torch.testing.assert_close(found.double(), expected, rtol=1e-2, atol=1e-2)


def test_factors_are_roots_of_the_softmax_of_the_mean_over_the_support():
    relevance = _fitted(_embeddings(90) + 0.3 * torch.eye(WIDTH)[:3].repeat(30, 1), torch.arange(90) % 3)
    support = _embeddings(10, seed=2).view(2, 5, WIDTH)
    factors = relevance(support)
    assert factors.shape == (2, WIDTH)
    for episode in range(2):
        likely = [(relevance.weight[t] @ x + relevance.bias[t]).item() for t in range(3) for x in support[episode]]
        means = torch.tensor(likely).view(3, 5).mean(1) / TEMPERATURE
        per_teacher = (3 * means.softmax(0)).sqrt().tolist()
        expected = [factor for factor, size in zip(per_teacher, SIZES, strict=True) for _ in range(size)] + [1.0] * 5
        assert factors[episode].tolist() == pytest.approx(expected, rel=1e-4)


def test_support_like_a_teachers_pictures_raises_that_teacher():
    embeddings, teachers = _embeddings(300), torch.arange(300) % 3
    embeddings[teachers == 2, -1] += 3.0
    relevance = _fitted(embeddings, teachers)
    first, _, last = relevance(embeddings[teachers == 2][None, :5])[0, [0, 3, 5]].tolist()
    assert last > 1.3 > 0.9 > first


def test_teachers_alike_count_alike_and_one_without_pictures_takes_no_side():
    embeddings = _embeddings(2000)
    factors = _fitted(embeddings, torch.arange(2000) % 3)(embeddings[None, :5])
    assert factors.flatten().tolist() == pytest.approx([1.0] * WIDTH, abs=0.02)
    relevance = _fitted(embeddings, 2 * (torch.arange(2000) % 2))
    assert relevance.weight[1].abs().max() == relevance.bias[1].abs() == 0
    assert Relevance(SIZES, WIDTH)(embeddings[None, :5]).tolist() == [[1.0] * WIDTH]  # not fitted: all alike


@pytest.mark.parametrize("head", sorted(HEADS))
def test_factors_in_the_weights_are_factors_on_the_queries(head):
    relevance = _fitted(_embeddings(90) + torch.eye(WIDTH)[:3].repeat(30, 1), torch.arange(90) % 3)
    support, queries = _embeddings(6, seed=3)[None], _embeddings(8, seed=4)[None]
    labels = torch.tensor([[0, 1, 2, 0, 1, 2]])
    factors = relevance(support)
    folded = scores(fit_weighted(HEADS[head], support, labels, 3, factors), queries)
    multiplied = HEADS[head](support * factors[:, None], labels, 3)
    torch.testing.assert_close(folded, scores(multiplied, queries * factors[:, None]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close((queries * factors[:, None]).norm(dim=2), torch.ones(1, 8))
    alike = fit_weighted(HEADS[head], support, labels, 3, None)
    assert torch.equal(alike.weight, HEADS[head](support, labels, 3).weight)


# ---- in a learner


def _learner(sizes=SIZES):
    torch.manual_seed(0)
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16), answer_sizes=sizes)
    learner.projection = nn.Linear(learner.backbone_dim, sum(sizes))
    return learner.eval()


def _memory(sizes=SIZES, teachers=(0, 1, 2), each=20):
    """Pictures recovered from teachers, the brighter the later the teacher, and drawn ones beside them."""
    memory, generator = TaskMemory(500, answers=sum(sizes)), torch.Generator().manual_seed(0)
    for teacher in teachers:
        labels = torch.arange(each) % sizes[teacher]
        images = torch.randint(60 * teacher, 60 * teacher + 60, (each, 3, 16, 16), generator=generator).byte()
        soft = torch.full((each, sizes[teacher]), 1 / sizes[teacher])
        classes = tuple(range(sizes[teacher]))
        memory.add_task(RecoveredTask(images, labels, soft, classes, teacher, "pico", Health(1.0, 0.0, 0.3)))
        memory.add_pictures(torch.randint(256, (7, 3, 16, 16), generator=generator).byte())
    return memory


def test_it_is_learned_from_the_recovered_pictures_alone():
    learner, memory = _learner(), _memory()
    relevance = learn_relevance(learner, AnswerSheet(SIZES), memory)
    images = torch.cat([memory.images[27 * t : 27 * t + 20] for t in range(3)])
    expected = Relevance(SIZES, learner.feature_dim)
    expected.fit(learner.embed(images), torch.arange(3).repeat_interleave(20))
    torch.testing.assert_close(relevance.weight, expected.weight, rtol=1e-3, atol=1e-2)
    bright = learner.embed(images[40:45])[None]
    assert relevance(bright)[0, :3].mean() < 1 < relevance(bright)[0, 5:9].mean()


def test_teachers_that_the_learner_has_lost_are_left_out():
    learner, sheet, memory = _learner(), AnswerSheet(SIZES), _memory()
    drop_teachers(learner, sheet, [1])
    relevance = learn_relevance(learner, sheet, memory, without=[1])
    assert relevance.sizes == (3, 4)
    images = torch.cat([memory.images[:20], memory.images[54:74]])
    expected = Relevance((3, 4), learner.feature_dim)
    expected.fit(learner.embed(images), torch.arange(2).repeat_interleave(20))
    torch.testing.assert_close(relevance.weight, expected.weight, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("teachers", [(), (1,)])
def test_nothing_to_tell_apart(teachers):
    assert learn_relevance(_learner(), AnswerSheet(SIZES), _memory(teachers=teachers)) is None


def test_a_learner_without_answers_has_none():
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16)).eval()
    assert learn_relevance(learner, AnswerSheet(SIZES), _memory()) is None


def test_it_is_saved_and_adapting_and_evaluating_use_it_alike(tmp_path):
    learner = _learner()
    learner.relevance = learn_relevance(learner, AnswerSheet(SIZES), _memory())
    learner.relevance.weight.mul_(30)  # so that it decides
    learner.save_pretrained(tmp_path)
    loaded = MetaLearner.from_pretrained(tmp_path)
    assert torch.equal(loaded.relevance.weight, learner.relevance.weight)
    assert torch.equal(loaded.relevance.bias, learner.relevance.bias)

    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(60) % 4
    pictures = torch.rand(60, 3, 16, 16, generator=generator) * (0.3 + 0.2 * labels.view(-1, 1, 1, 1))
    drawn = sample_episodes(labels, n_way=3, k_shot=2, n_query=4, episodes=8, generator=generator)
    features = loaded.embed(pictures)
    accuracies = score_episodes(features, drawn, "ridge", relevance=loaded.relevance)
    for episode in range(8):
        names = drawn.labels("support").tolist()
        classifier = loaded.adapt(pictures[drawn.support[episode].flatten()], names)
        found = torch.tensor(classifier.predict(pictures[drawn.query[episode].flatten()]))
        assert (found == drawn.labels("query")).float().mean().item() == pytest.approx(accuracies[episode].item())
    support = features[drawn.support[0].flatten()][None]
    without = HEADS["ridge"](support, drawn.labels("support")[None], 3).weight
    with_it = fit_weighted(HEADS["ridge"], support, drawn.labels("support")[None], 3, loaded.relevance(support)).weight
    assert (without - with_it).abs().max() > 0.01
