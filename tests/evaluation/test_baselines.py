"""The baselines against their definitions."""

from __future__ import annotations

import json

import pytest
import torch
from measured import SETTING, episodes_of, everything, make

from hf_free.config.sections import LearnerConfig
from hf_free.evaluation.baselines import teacher_embeddings
from hf_free.evaluation.evaluate import evaluate
from hf_free.evaluation.features import ImageSizes
from hf_free.learner.meta_learner import MetaLearner
from hf_free.learner.scoring import score_episodes
from hf_free.teachers.pool import TeacherPool


def test_the_baselines_are_what_they_say(data, teachers):
    report = evaluate(make(), data, SETTING, beside=everything(TeacherPool.from_teachers(teachers)))
    rows = {(row.method, row.k_shot): row for row in report.rows}
    images = data.images.float() / 255
    drawn = episodes_of(data, 4)

    def expected(features):
        return pytest.approx(100 * score_episodes(features, drawn).mean().item(), abs=1e-3)

    pooled = images.unflatten(2, (8, 2)).unflatten(4, (8, 2)).mean((3, 5)).flatten(1)
    assert rows["pixels (8x8)", 4].accuracy == expected((pooled - 0.5) / 0.25)

    torch.manual_seed(0)
    fresh = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16)).eval()
    assert rows["untrained conv4_32", 4].accuracy == expected(fresh.embed(images))

    with torch.no_grad():
        features = [torch.nn.functional.normalize(t.features(images)) for t in teachers]
        logits = [torch.nn.functional.normalize(t.logits(images)) for t in teachers]
    singles = [score_episodes(part, drawn).mean().item() for part in features]
    assert rows["one teacher's features (mean over 3)", 4].accuracy == pytest.approx(100 * sum(singles) / 3, abs=1e-3)
    best = "best single teacher (chosen on these very episodes: an upper bound)"
    assert rows[best, 4].accuracy == pytest.approx(100 * max(singles), abs=1e-3)
    assert rows["all 3 teachers' features, concatenated", 4].accuracy == expected(torch.cat(features, 1))
    assert rows["all 3 teachers' logits, concatenated", 4].accuracy == expected(torch.cat(logits, 1))
    assert ("teachers' parameters averaged (2 conv4_32)", 1) in rows
    assert all(row.inductive for row in report.rows)
    assert json.loads(json.dumps(report.to_dict()))["rows"][0]["method"] == "learner"


def test_averaged_parameters_are_the_mean_of_weights_and_statistics(data, teachers):
    pool = TeacherPool.from_teachers([teachers[0], teachers[2], teachers[0], teachers[1]])
    before = {name: value.clone() for name, value in teachers[0].network.state_dict().items()}
    found = {e.method: e for e in teacher_embeddings(pool, ImageSizes(data), torch.device("cpu"))}
    averaged = found["teachers' parameters averaged (3 conv4_32)"]
    states = [teacher.network.state_dict() for teacher in (teachers[0], teachers[0], teachers[1])]
    mean = {name: torch.stack([s[name].double() for s in states]).mean(0).to(v.dtype) for name, v in states[0].items()}
    with torch.no_grad():
        images = teachers[0].prepare(data.images.float() / 255)
        network = teachers[0].network
        features = torch.func.functional_call(network, mean, (images,))
        logits = torch.nn.functional.linear(averaged.features[0], mean["head.weight"], mean["head.bias"])
    torch.testing.assert_close(logits, features)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_two_threads_ask_teachers_as_one_does(data, teachers):
    pool, before, found = TeacherPool.from_teachers([*teachers, *teachers]), torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        told = []
        sets = teacher_embeddings(
            pool, ImageSizes(data), torch.device("cpu"), lambda *words, told=told: told.append(words)
        )
        found.append([(one.method, one.features) for one in sets])
        assert [done for what, done, _ in told if what == "features of the teachers"] == list(range(1, len(pool) + 1))
    torch.set_num_threads(before)
    assert [method for method, _ in found[0]] == [method for method, _ in found[1]]
    for (_, one), (_, two) in zip(*found, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
