"""Damping: the variance over recovered pictures is penalized; elsewhere nothing changes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from pico import brightness_classes, pico_run, pico_teacher
from runs import last_checkpoint
from safetensors.torch import load_file, save_file
from torch import nn

from hf_free.config.sections import LearnerConfig
from hf_free.config.tree import FreeConfig
from hf_free.data.episodes import sample_episodes
from hf_free.errors import ConfigError, LearnerError
from hf_free.evaluation.evaluate import EpisodeSettings, evaluate
from hf_free.learner.embedding import Embedding
from hf_free.learner.gating import TeacherGate
from hf_free.learner.heads import (
    COSINE_SCALE,
    HEADS,
    RIDGE_PENALTY,
    fit_weighted,
    normalize_features,
    scores_of_normalized,
)
from hf_free.learner.meta_learner import MetaLearner
from hf_free.learner.parallel_episodes import adapt_and_score
from hf_free.learner.scoring import score_episodes
from hf_free.learner.whitening import DIRECTIONS, LEAST_LEVEL, MIN_IMAGES, Whitening
from hf_free.metalearning.embedding_fit import fit_whitening
from hf_free.teachers.pool import TeacherPool
from hf_free.training.trainer import train

WIDTH, HALF = 12, 3.0

TOGETHER = ("soft-kmeans", "batchnorm")


def _pictures(count=200, width=WIDTH, seed=0):
    """Features of length 1 that vary much more along some dimensions than along others."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.linspace(2, 0.05, width)
    turn = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(9)))[0]
    return normalize_features((0.3 + torch.randn(count, width, generator=generator) * spread) @ turn)


def _covariance(features):
    centered = features.double() - features.double().mean(0)
    return centered.T @ centered / len(centered)


def _matrix(damping):
    return damping(torch.eye(damping.directions.shape[1])).double()


@pytest.mark.parametrize(("count", "width"), [(200, WIDTH), (100, 130)])
def test_it_is_the_root_of_the_inverse_of_identity_and_covariance(count, width):
    """Of fewer pictures than dimensions too; of the covariance what the strongest directions hold of it."""
    seen = _pictures(count, width)
    found = _matrix(fit_whitening(seen, HALF)).numpy()
    covariance = _covariance(seen).numpy()
    variances, vectors = np.linalg.eigh(covariance)
    variances[:-DIRECTIONS] = 0
    penalty = np.eye(width) + (vectors * variances) @ vectors.T / (HALF * np.trace(covariance) / width)
    expected = np.linalg.inv(penalty)
    squared = found @ found
    np.testing.assert_allclose(squared / np.trace(squared), expected / np.trace(expected), atol=1e-5)
    np.testing.assert_allclose(found, found.T, atol=1e-6)


def test_what_few_pictures_vary_by_by_chance_is_hardly_damped():
    seen = normalize_features(torch.randn(MIN_IMAGES, 700, generator=torch.Generator().manual_seed(0)))
    assert fit_whitening(seen, 60.0).factors.min() > 0.89
    assert fit_whitening(seen[:-1], 60.0) is None


def test_many_dimensions_take_no_square_of_them():
    """2,000 teachers' answers: a covariance of 128,000 dimensions would take 131 GB."""
    width = 128_000
    seen = torch.randn(MIN_IMAGES, width, generator=torch.Generator().manual_seed(0))
    seen[:, 7] += 3000 * (torch.arange(MIN_IMAGES) % 2)
    damping = fit_whitening(normalize_features(seen), 10.0)
    assert damping.directions.shape == (DIRECTIONS, width)
    assert damping.directions[-1, 7].abs() == pytest.approx(1, abs=0.05)
    assert damping.factors[-1] < 0.1


def test_features_keep_their_mean_squared_length():
    seen = _pictures()
    damped = fit_whitening(seen, HALF)(seen)
    assert damped.square().sum(1).mean() == pytest.approx(1, abs=1e-5)
    assert damped.norm(dim=1).std() > 0.01, "their lengths are their own"


def test_a_direction_of_so_many_times_the_mean_variance_counts_half():
    seen = _pictures(2000)
    variances, vectors = torch.linalg.eigh(_covariance(seen))
    ratio = (variances[-1] / variances.mean()).item()
    damping = fit_whitening(seen, ratio)
    strongest, weakest = (damping(vectors[:, place].float()).square().sum().item() for place in (-1, 0))
    assert strongest / weakest == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("rank", "kept"), [(1, 1), (5, 5), (40, WIDTH)])
def test_a_direction_of_a_rank_counts_half(rank, kept):
    """With the inverse roots of plain eigenvalues; a rank above the number of directions is the last one."""
    seen = _pictures(2000)
    variances = torch.linalg.eigvalsh(_covariance(seen)).flip(0)
    damping = Whitening(WIDTH, WIDTH)
    damping.fit_to_rank(seen, rank)
    level = max(variances[kept - 1].item(), LEAST_LEVEL * variances.mean().item())
    expected = (1 + variances / level).rsqrt()
    torch.testing.assert_close(damping.factors.flip(0).double(), expected, atol=1e-5, rtol=1e-4)
    assert damping(seen).square().sum(1).mean() == pytest.approx(1, abs=1e-5)


def test_features_of_which_few_vary_keep_more_than_their_noise():
    """Five dimensions of twelve stand still: the seventh direction has no variance to divide by."""
    seen = _pictures(500)
    seen[:, 5:] = 1.0
    damping = Whitening(WIDTH, WIDTH)
    damping.fit_to_rank(seen, 7)
    variances = torch.linalg.eigvalsh(_covariance(seen)).flip(0).clamp_min(0)
    expected = (1 + variances / (LEAST_LEVEL * variances.mean())).rsqrt()
    torch.testing.assert_close(damping.factors.flip(0).double(), expected, atol=1e-5, rtol=1e-4)
    assert damping(seen).isfinite().all()


def test_only_the_strongest_directions_are_kept():
    width = 3 * DIRECTIONS
    seen = _pictures(500, width=width)
    damping = fit_whitening(seen, HALF)
    assert damping.directions.shape == (DIRECTIONS, width)
    _, vectors = torch.linalg.eigh(_covariance(seen))
    weak = vectors[:, : width - DIRECTIONS].float().T
    torch.testing.assert_close(damping(weak), weak * damping.scale, atol=1e-4, rtol=1e-3)


def test_ridge_regression_with_it_penalizes_the_variance_of_the_scores():
    """Against the normal equations of the penalized problem, for support pictures that are of length 1 once damped."""
    damping = fit_whitening(_pictures(), HALF)
    support, labels = _pictures(6, seed=3)[None], torch.arange(6)[None] % 3
    found = fit_weighted(HEADS["ridge"], support, labels, 3, whitening=damping)
    matrix = _matrix(damping).numpy()
    inputs = support[0].double().numpy()
    inputs = inputs / np.linalg.norm(inputs @ matrix, axis=1, keepdims=True)
    design = np.concatenate([inputs, np.ones((6, 1))], 1)
    penalty = RIDGE_PENALTY * np.eye(WIDTH + 1)
    penalty[:WIDTH, :WIDTH] = RIDGE_PENALTY * np.linalg.inv(matrix @ matrix)
    solved = np.linalg.solve(design.T @ design + penalty, design.T @ np.eye(3)[labels[0].numpy()])
    np.testing.assert_allclose(found.weight[0].numpy(), COSINE_SCALE * solved[:-1].T, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.bias[0].numpy(), COSINE_SCALE * solved[-1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("head", HEADS)
def test_scores_of_queries_as_they_are_are_those_of_damped_ones(head):
    """Factors first, then damping; both are in the weights."""
    damping, factors = fit_whitening(_pictures(), HALF), 0.5 + torch.rand(1, WIDTH)
    support, labels, queries = _pictures(6, seed=3)[None], torch.arange(6)[None] % 3, _pictures(8, seed=4)[None]
    folded = scores_of_normalized(fit_weighted(HEADS[head], support, labels, 3, factors, damping), queries)
    inside = HEADS[head](damping(support * factors[:, None]), labels, 3)
    torch.testing.assert_close(folded, scores_of_normalized(inside, damping(queries * factors[:, None])))
    undamped = scores_of_normalized(fit_weighted(HEADS[head], support, labels, 3, factors), queries)
    assert (folded - undamped).abs().max() > 0.01


# ---- in a learner


def _learner():
    torch.manual_seed(0)
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16), embedding=Embedding(sizes=(3, 2, 4)))
    learner.embedding.projection = nn.Linear(learner.backbone_dim, 9)
    with torch.no_grad():
        learner.embedding.projection.weight.mul_(30)  # an untrained one says next to nothing
    learner.embedding.gate = TeacherGate((3, 2, 4), learner.backbone_dim)
    learner.embedding.gate.is_known.fill_(True)
    learner.embedding.gate.bias.copy_(torch.tensor([0.0, 0.0, 50.0]))
    learner.embedding.whitening = fit_whitening(learner.eval().embed(torch.rand(MIN_IMAGES, 3, 16, 16)), 1.0)
    return learner


def test_adapting_and_evaluating_use_it_alike():
    learner, data = _learner(), brightness_classes()
    drawn = sample_episodes(
        data.labels, n_way=3, k_shot=2, n_query=4, episodes=8, generator=torch.Generator().manual_seed(0)
    )
    names, right, probabilities = drawn.labels("support").tolist(), [], []
    for support, query in zip(drawn.support.flatten(1), drawn.query.flatten(1), strict=True):
        classifier = learner.adapt(data.images[support], names)
        probabilities.append(classifier.predict_proba(data.images[query]))
        right.append((torch.tensor(classifier.predict(data.images[query])) == drawn.labels("query")).float().mean())
    report = evaluate(
        learner, data, EpisodeSettings(n_way=3, k_shots=[2], n_query=4, episodes=8), transductive=TOGETHER
    )
    rows = {row.method: row.accuracy for row in report.rows}
    assert rows["learner"] == pytest.approx(100 * torch.stack(right).mean().item())
    refined = score_episodes(
        learner.embed(data.images), drawn, transductive="soft-kmeans", embedding=learner.embedding
    ).mean()
    assert rows["learner, soft k-means on the queries (transductive)"] == pytest.approx(100 * refined.item())

    support, query = (data.images[places.flatten(1)].float() / 255 for places in (drawn.support[:3], drawn.query[:3]))
    side_by_side = adapt_and_score(learner, support, torch.tensor(names), query, 3).softmax(-1)
    torch.testing.assert_close(side_by_side, torch.stack(probabilities[:3]), atol=1e-3, rtol=1e-3)
    learner.embedding.whitening = None
    undamped = adapt_and_score(learner, support, torch.tensor(names), query, 3).softmax(-1)
    assert (side_by_side - undamped).abs().max() > 0.01
    learner.embedding.gate = None  # both are of features with running statistics, so this row does without anyway
    plain = evaluate(
        learner, data, EpisodeSettings(n_way=3, k_shots=[2], n_query=4, episodes=8), transductive=TOGETHER
    ).rows
    (transductive,) = (row for row in plain if "transductive BatchNorm" in row.method)
    assert rows[transductive.method] == transductive.accuracy


def test_the_transductive_refinement_sees_damped_features():
    learner, data = _learner(), brightness_classes()
    generator = torch.Generator().manual_seed(0)
    drawn = sample_episodes(data.labels, n_way=3, k_shot=2, n_query=4, episodes=8, generator=generator)
    features, damping = learner.embed(data.images), learner.embedding.whitening
    refined = score_episodes(features, drawn, transductive="soft-kmeans", embedding=Embedding(whitening=damping))
    assert torch.equal(
        refined, score_episodes(normalize_features(damping(features)), drawn, transductive="soft-kmeans")
    )


def test_it_is_saved(tmp_path):
    learner, data = _learner(), brightness_classes()
    learner.save_pretrained(tmp_path / "with")
    loaded = MetaLearner.from_pretrained(tmp_path / "with")
    for name, value in learner.embedding.whitening.state_dict().items():
        assert torch.equal(loaded.embedding.whitening.state_dict()[name], value)
    found = [each.adapt(data.images[:4], list("abcd")).predict_proba(data.images) for each in (learner, loaded)]
    assert torch.equal(*found)
    learner.embedding.whitening = None
    learner.save_pretrained(tmp_path / "without")
    assert "damping" not in (tmp_path / "without" / "config.json").read_text()  # hf-free of before can read it
    assert MetaLearner.from_pretrained(tmp_path / "without").embedding.whitening is None


@pytest.mark.parametrize("broken", ["missing", "narrow", 0, True, "3"])
def test_damping_that_does_not_fit_is_refused(tmp_path, broken):
    _learner().save_pretrained(tmp_path)
    if broken not in ("missing", "narrow"):
        content = json.loads((tmp_path / "config.json").read_text())
        content["hf_free"]["learner"]["damping"] = broken
        (tmp_path / "config.json").write_text(json.dumps(content))
    else:
        tensors = load_file(tmp_path / "hf_free.safetensors")
        directions = tensors.pop("damping.directions")
        if broken == "narrow":
            tensors["damping.directions"] = directions[:, 1:].contiguous()
        save_file(tensors, tmp_path / "hf_free.safetensors")
    with pytest.raises(LearnerError, match=r"do not fit|does not hold|damping of config.json is ('3'|0|True)"):
        MetaLearner.from_pretrained(tmp_path)


def test_a_run_learns_it_and_the_configuration_can_say_no(tmp_path):
    values = pico_run()
    values["learner"]["whitening"] = 2.0
    values["five"]["images_per_class"], values["memory"]["max_images"] = 24, 600
    pool = TeacherPool.from_teachers([pico_teacher("conv4", size=16, num_classes=3, seed=seed) for seed in range(2)])
    train(FreeConfig.from_dict(values), output=tmp_path / "with", pool=pool)
    learner = MetaLearner.from_pretrained(tmp_path / "with" / "learner")
    memory = load_file(last_checkpoint(tmp_path / "with") / "memory.safetensors")
    recovered = memory["images"][memory["class_ids"] >= 0]
    expected = fit_whitening(learner.embed(recovered), 2.0)
    card = (tmp_path / "with" / "learner" / "README.md").read_text(encoding="utf-8")
    assert "count more; directions in which recovered pictures differ most count less |" in card
    torch.testing.assert_close(_matrix(learner.embedding.whitening), _matrix(expected), atol=1e-3, rtol=1e-3)

    values["learner"]["init_from"] = str(tmp_path / "with" / "learner")  # learned anew, of wider embeddings
    more = TeacherPool.from_teachers([pico_teacher("conv4", size=16, num_classes=2, seed=seed) for seed in (7, 8)])
    grown = train(FreeConfig.from_dict(values), output=tmp_path / "more", pool=more)
    assert grown.embedding.whitening.directions.shape[1] == grown.feature_dim > learner.feature_dim

    values["learner"]["init_from"], values["learner"]["whitening"] = None, None
    assert train(FreeConfig.from_dict(values), output=tmp_path / "without", pool=pool).embedding.whitening is None
    with pytest.raises(ConfigError, match="whitening"):
        FreeConfig.from_dict({"learner": {"whitening": 0}})
