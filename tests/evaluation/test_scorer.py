"""Features -> rows, against means written out."""

from __future__ import annotations

import pytest
import torch
from measured import SETTING, episodes_of

from hf_free.evaluation.features import FeatureSet
from hf_free.evaluation.scorer import Scorer
from hf_free.learner.scoring import mean_and_interval, score_episodes
from hf_free.provenance.results import EvaluationReport


@pytest.fixture
def scorer(data):
    return Scorer(SETTING.draw(data.labels), "ridge", EvaluationReport([], "noise", "test"))


def test_a_row_per_shot_is_the_mean_over_the_episodes(scorer, data):
    features = torch.randn(len(data), 6, generator=torch.Generator().manual_seed(0))
    scorer.add(FeatureSet("random", [features], seconds=2.0, note="made up"))
    assert [(row.method, row.k_shot, row.note) for row in scorer.report.rows] == [
        ("random", 1, "made up"),
        ("random", 4, "made up"),
    ]
    for row in scorer.report.rows:
        mean, interval = mean_and_interval(score_episodes(features, episodes_of(data, row.k_shot), "ridge"))
        assert (row.accuracy, row.interval) == (pytest.approx(100 * mean), pytest.approx(100 * interval))
        assert row.seconds == pytest.approx(2.0 + row.scoring_seconds, abs=2e-3)
        assert row.inductive


def test_several_features_are_averaged_per_episode_and_the_best_may_have_a_row(scorer, data):
    generator = torch.Generator().manual_seed(1)
    many = [torch.randn(len(data), 6, generator=generator) for _ in range(3)]
    many.append(torch.eye(5)[data.labels] + 0.1 * torch.randn(len(data), 5, generator=generator))
    scorer.add(FeatureSet("mean", many, best_method="best"))
    rows = {(row.method, row.k_shot): row.accuracy for row in scorer.report.rows}
    for k_shot in (1, 4):
        each = [100 * score_episodes(f, episodes_of(data, k_shot), "ridge").mean().item() for f in many]
        assert rows["mean", k_shot] == pytest.approx(sum(each) / 4)
        assert rows["best", k_shot] == pytest.approx(max(each))


def test_a_teacher_that_is_chosen_on_one_half_is_measured_on_the_other(scorer, data):
    generator = torch.Generator().manual_seed(1)
    many = [torch.randn(len(data), 6, generator=generator) for _ in range(5)]
    scorer.add(FeatureSet("mean", many, best_method="best", chosen_method="chosen"))
    rows = {(row.method, row.k_shot): row.accuracy for row in scorer.report.rows}
    for k_shot in (1, 4):
        each = [score_episodes(f, episodes_of(data, k_shot), "ridge").tolist() for f in many]
        total = 0.0
        for episode in range(len(each[0])):
            others = [place for place in range(len(each[0])) if place % 2 != episode % 2]
            total += max(each, key=lambda of: sum(of[place] for place in others))[episode]
        assert rows["chosen", k_shot] == pytest.approx(100 * total / len(each[0]))
        assert rows["chosen", k_shot] <= rows["best", k_shot] + 1e-4
    assert rows["chosen", 1] < rows["best", 1]  # among noise, whoever is chosen on these very episodes has luck


def test_later_rows_say_how_far_the_first_is_ahead_episode_by_episode(scorer, data):
    generator = torch.Generator().manual_seed(3)
    good = torch.eye(5)[data.labels] + 0.3 * torch.randn(len(data), 5, generator=generator)
    bad = torch.randn(len(data), 6, generator=generator)
    scorer.add(FeatureSet("learner", [good]))
    scorer.add(FeatureSet("noise", [bad]))
    scorer.add(FeatureSet("gone", note="not available"))
    own, own_4, noise, noise_4, gone, _ = scorer.report.rows
    assert own.ahead is own_4.ahead is gone.ahead is None
    for row, k_shot in ((noise, 1), (noise_4, 4)):
        each = [score_episodes(f, episodes_of(data, k_shot), "ridge") for f in (good, bad)]
        mean, interval = mean_and_interval(each[0] - each[1])
        assert (row.ahead, row.ahead_interval) == (pytest.approx(100 * mean), pytest.approx(100 * interval))
    assert noise_4.ahead == pytest.approx(own_4.accuracy - noise_4.accuracy)


def test_nobody_is_compared_with_a_first_row_that_sees_all_queries_together(scorer, data):
    features = torch.randn(len(data), 6, generator=torch.Generator().manual_seed(0))
    scorer.add(FeatureSet("learner", [features]), transductive="soft-kmeans")
    scorer.add(FeatureSet("other", [features]))
    assert all(row.ahead is None for row in scorer.report.rows)


def test_what_cannot_be_had_is_a_row_without_a_number(scorer):
    scorer.add(FeatureSet("gone", note="not available: gone"))
    assert [(row.accuracy, row.interval, row.note) for row in scorer.report.rows] == [
        (None, None, "not available: gone")
    ] * 2


def test_soft_kmeans_is_named_transductive_and_takes_the_nearest_mean(scorer, data):
    features = torch.randn(len(data), 6, generator=torch.Generator().manual_seed(2))
    scorer.add(FeatureSet("refined", [features]), transductive="soft-kmeans")
    assert not any(row.inductive for row in scorer.report.rows)
    expected = score_episodes(features, episodes_of(data, 4), "nearest_mean", transductive="soft-kmeans").mean().item()
    assert scorer.report.rows[1].accuracy == pytest.approx(100 * expected)
