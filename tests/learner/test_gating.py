"""Relevance: teachers whose pictures an episode's support looks like count more; elsewhere nothing changes."""

from __future__ import annotations

import pytest
import torch
from pico import brightness_classes, pico_run, pico_teacher
from sklearn.covariance import ledoit_wolf
from torch import nn
from torch.overrides import TorchFunctionMode

from hf_free.config.sections import LearnerConfig
from hf_free.config.tree import FreeConfig
from hf_free.data.episodes import sample_episodes
from hf_free.data.logits import LogitLayout
from hf_free.errors import LearnerError
from hf_free.evaluation.evaluate import EpisodeSettings, evaluate
from hf_free.inversion.task import Health, RecoveredTask
from hf_free.learner.embedding import Embedding, joint_embedding
from hf_free.learner.gating import TEMPERATURE, TeacherGate, solve_shrunk
from hf_free.learner.heads import HEADS, fit_weighted, normalize_features, scores
from hf_free.learner.meta_learner import MetaLearner
from hf_free.learner.scoring import score_episodes
from hf_free.memory.bank import TaskMemory
from hf_free.metalearning.embedding_fit import drop_teachers, embed_recovered, fit_gate
from hf_free.teachers.pool import TeacherPool
from hf_free.training.trainer import train

SIZES, FEATURES = (3, 2, 4), 5
WIDTH = sum(SIZES) + FEATURES

TOGETHER = ("soft-kmeans", "batchnorm")


def _embeddings(count, seed=0):
    """Embeddings as the learner makes them, of length 1."""
    generator = torch.Generator().manual_seed(seed)
    answers = 2 * torch.randn(count, sum(SIZES), generator=generator)
    return normalize_features(joint_embedding(answers, torch.randn(count, FEATURES, generator=generator), SIZES))


def _fitted(embeddings, teachers):
    relevance = TeacherGate(SIZES, FEATURES)
    relevance.fit(embeddings, teachers)
    return relevance


def _factors(relevance, features):
    """Factors for an episode with these last features (S, F), beside that of the features."""
    support = torch.cat([torch.rand(len(features), WIDTH - FEATURES), features], 1)
    factors = relevance(support[None])[0]
    return factors / factors[-1]


def _apart(count=90):
    """Three teachers, each with a feature that its pictures have more of."""
    embeddings, teachers = _embeddings(count), torch.arange(count) % 3
    return embeddings + torch.eye(WIDTH)[-3:][teachers], teachers


def test_the_linear_map_is_the_ratio_of_two_normal_densities():
    embeddings, teachers = _apart(300)
    relevance = _fitted(embeddings, teachers)
    features = embeddings[:, -FEATURES:].double()
    means = torch.stack([features[teachers == t].mean(0) for t in range(3)])
    covariance = torch.from_numpy(ledoit_wolf((features - means[teachers]).numpy(), assume_centered=True)[0])
    seen = _embeddings(4, seed=1)
    overall = torch.distributions.MultivariateNormal(features.mean(0), covariance)
    for t in range(3):
        own = torch.distributions.MultivariateNormal(means[t], covariance)
        last = seen[:, -FEATURES:].double()
        expected = own.log_prob(last) - overall.log_prob(last)
        found = seen[:, -FEATURES:] @ relevance.weight[t] + relevance.bias[t]
        torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("count", "width"), [(200, 10), (60, 60), (30, 60), (5, 80)])
def test_solutions_are_those_of_a_librarys_shrunk_covariance(count, width):
    samples = torch.randn(count, width, generator=torch.Generator().manual_seed(0)).double()
    samples = samples * torch.linspace(0.5, 2, width)
    expected, _ = ledoit_wolf(samples.numpy(), assume_centered=True)
    right = torch.randn(3, width, generator=torch.Generator().manual_seed(1)).double()
    torch.testing.assert_close(solve_shrunk(samples, right) @ torch.from_numpy(expected), right)


def test_alike_samples_shrink_to_what_can_be_solved():
    assert solve_shrunk(torch.zeros(4, 9).double(), torch.ones(2, 9).double()).isfinite().all()


def test_a_gate_of_many_features_makes_no_matrix_of_them():
    """A Conv-4 at 224 pixels has 12,544 features: their covariance in fp64 has 1.3 GB."""
    width, count = 3000, 40
    gate, largest = TeacherGate((2, 3), width), []

    class Largest(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            made = function(*args, **(kwargs or {}))
            if isinstance(made, torch.Tensor):
                largest.append(made.numel())
            return made

    features = torch.randn(count, 5 + width)
    with Largest():
        gate.fit(features, torch.arange(count) % 2)
    assert max(largest) <= features.numel()
    assert gate.weight.isfinite().all()


def test_factors_are_roots_of_the_softmax_of_the_mean_over_the_support():
    relevance = _fitted(*_apart())
    support = _embeddings(10, seed=2).view(2, 5, WIDTH)
    factors = relevance(support)
    assert factors.shape == (2, WIDTH)
    for episode in range(2):
        seen = support[episode][:, -FEATURES:]
        likely = [(relevance.weight[t] @ x + relevance.bias[t]).item() for t in range(3) for x in seen]
        means = torch.tensor(likely).view(3, 5).mean(1) / TEMPERATURE
        per_teacher = (3 * means.softmax(0)).sqrt().tolist()
        expected = [factor for factor, size in zip(per_teacher, SIZES, strict=True) for _ in range(size)]
        beside = factors[episode] / factors[episode, -1]
        assert beside.tolist() == pytest.approx([*expected, *[1.0] * FEATURES], rel=1e-4)
    weighed = support * factors[:, None]
    assert weighed.square().sum(2).mean(1).tolist() == pytest.approx([1.0, 1.0], rel=1e-5)


def test_support_like_a_teachers_pictures_raises_that_teacher():
    embeddings, teachers = _embeddings(300), torch.arange(300) % 3
    embeddings[teachers == 2, -1] += 5.0
    relevance = _fitted(embeddings, teachers)
    first, _, last = _factors(relevance, embeddings[teachers == 2][:5, -FEATURES:])[[0, 3, 5]].tolist()
    assert last > 1.3 > 0.9 > first


@pytest.mark.parametrize(("pictures", "features"), [(2000, FEATURES), (120, 60), (30, 200)])
def test_teachers_of_one_domain_count_alike_however_few_pictures_there_are(pictures, features):
    generator = torch.Generator().manual_seed(1)
    seen = torch.randn(pictures + 5, features, generator=generator)
    relevance = TeacherGate(SIZES, features)
    relevance.fit(seen[:-5], torch.arange(pictures) % 3)
    support = torch.cat([torch.rand(5, sum(SIZES)), seen[-5:]], 1)
    squares = relevance(support[None])[0, [0, 3, 5, -1]].square()
    squares = squares[:3] / squares[3]
    assert squares.tolist() == pytest.approx([1.0] * 3, abs=0.3)


def test_a_teacher_without_pictures_counts_as_it_would_alone():
    """Between two domains that are far apart it must not be lost: nobody knows which of them it is of."""
    generator = torch.Generator().manual_seed(0)
    seen, teachers = torch.randn(400, FEATURES, generator=generator), 2 * (torch.arange(400) % 2)
    seen[teachers == 2] += 30.0
    relevance = TeacherGate(SIZES, FEATURES)
    relevance.fit(seen, teachers)
    first, unknown, last = _factors(relevance, seen[teachers == 2][:5])[[0, 3, 5]].square().tolist()
    assert unknown == 1
    assert [first, last] == pytest.approx([0, 2], abs=1e-3)
    assert _factors(TeacherGate(SIZES, FEATURES), seen[:5]).tolist() == [1.0] * WIDTH  # nothing known at all


@pytest.mark.parametrize("head", sorted(HEADS))
def test_factors_in_the_weights_are_factors_on_the_queries(head):
    relevance = _fitted(*_apart())
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
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16), embedding=Embedding(sizes=sizes))
    learner.embedding.projection = nn.Linear(learner.backbone_dim, sum(sizes))
    return learner.eval()


def _memory(sizes=SIZES, teachers=(0, 1, 2), each=20):
    """Pictures recovered from teachers, the brighter the later the teacher, and drawn ones beside them."""
    memory, generator = TaskMemory(500, sizes=sizes), torch.Generator().manual_seed(0)
    for teacher in teachers:
        labels = torch.arange(each) % sizes[teacher]
        images = torch.randint(60 * teacher, 60 * teacher + 60, (each, 3, 16, 16), generator=generator).byte()
        soft = torch.full((each, sizes[teacher]), 1 / sizes[teacher])
        classes = tuple(range(sizes[teacher]))
        memory.add_task(RecoveredTask(images, labels, soft, classes, teacher, "pico", Health(1.0, 0.0, 0.3)))
        memory.add_pictures(torch.randint(256, (7, 3, 16, 16), generator=generator).byte())
    return memory


def _learn(learner, layout, memory, **options):
    return fit_gate(learner, layout, embed_recovered(learner, memory), **options)


def test_it_is_learned_from_the_recovered_pictures_alone():
    learner, memory = _learner(), _memory()
    relevance = _learn(learner, LogitLayout.of(SIZES), memory)
    images = torch.cat([memory.images[27 * t : 27 * t + 20] for t in range(3)])
    expected = TeacherGate(SIZES, learner.backbone_dim)
    expected.fit(learner.embed(images), torch.arange(3).repeat_interleave(20))
    torch.testing.assert_close(relevance.weight, expected.weight, rtol=1e-3, atol=1e-2)
    assert torch.equal(relevance.is_known, torch.ones(3, dtype=torch.bool))
    bright = learner.embed(images[40:45])[None]
    assert relevance(bright)[0, :3].mean() < 1 < relevance(bright)[0, 5:9].mean()


def test_teachers_that_the_learner_has_lost_are_left_out():
    learner, layout, memory = _learner(), LogitLayout.of(SIZES), _memory()
    drop_teachers(learner, layout, [1])
    relevance = _learn(learner, layout, memory, without=[1])
    assert relevance.sizes == (3, 4)
    images = torch.cat([memory.images[:20], memory.images[54:74]])
    expected = TeacherGate((3, 4), learner.backbone_dim)
    expected.fit(learner.embed(images), torch.arange(2).repeat_interleave(20))
    torch.testing.assert_close(relevance.weight, expected.weight, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("teachers", [(), (1,)])
def test_nothing_to_tell_apart(teachers):
    assert _learn(_learner(), LogitLayout.of(SIZES), _memory(teachers=teachers)) is None


def test_a_learner_without_answers_has_none():
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16)).eval()
    assert _learn(learner, LogitLayout.of(SIZES), _memory()) is None


def _decisive_learner():
    learner = _learner()
    with torch.no_grad():
        learner.embedding.projection.weight.mul_(30)  # an untrained one says next to nothing
    learner.embedding.gate = TeacherGate(SIZES, learner.backbone_dim)
    learner.embedding.gate.is_known.fill_(True)
    learner.embedding.gate.bias.copy_(torch.tensor([0.0, 0.0, 500.0]))  # the last teacher alone
    return learner


def test_it_is_saved(tmp_path):
    learner = _decisive_learner()
    learner.save_pretrained(tmp_path)
    loaded = MetaLearner.from_pretrained(tmp_path)
    for name, value in learner.embedding.gate.state_dict().items():
        assert torch.equal(loaded.embedding.gate.state_dict()[name], value)
    _learner().save_pretrained(tmp_path)
    assert "relevance" not in (tmp_path / "config.json").read_text()  # hf-free of before can read it
    assert MetaLearner.from_pretrained(tmp_path).embedding.gate is None


def test_a_center_beside_it_is_refused():
    with pytest.raises(LearnerError, match="a center and a relevance"):
        Embedding(center=torch.zeros(4), gate=TeacherGate(SIZES, FEATURES))


def test_adapting_and_evaluating_use_it_alike():
    learner, data = _decisive_learner(), brightness_classes()
    drawn = sample_episodes(
        data.labels, n_way=3, k_shot=2, n_query=4, episodes=8, generator=torch.Generator().manual_seed(0)
    )
    names, right = drawn.labels("support").tolist(), []
    for support, query in zip(drawn.support.flatten(1), drawn.query.flatten(1), strict=True):
        found = torch.tensor(learner.adapt(data.images[support], names).predict(data.images[query]))
        right.append((found == drawn.labels("query")).float().mean())
    expected = 100 * torch.stack(right).mean().item()

    def rows():
        report = evaluate(
            learner, data, EpisodeSettings(n_way=3, k_shots=[2], n_query=4, episodes=8), transductive=TOGETHER
        )
        return {row.method: row.accuracy for row in report.rows}

    with_it = rows()
    assert with_it.pop("learner") == pytest.approx(expected)
    features = learner.embed(data.images)
    refined = score_episodes(features, drawn, transductive="soft-kmeans", embedding=learner.embedding).mean()
    assert with_it.pop("learner, soft k-means on the queries (transductive)") == pytest.approx(100 * refined.item())
    learner.embedding.gate = None
    without = rows()
    assert without.pop("learner") != pytest.approx(expected)
    del without["learner, soft k-means on the queries (transductive)"]
    assert without == with_it != {}  # other statistics, other features: it is not used there


def test_a_run_learns_it_and_the_configuration_can_say_no(tmp_path):
    values = pico_run()
    teachers = [pico_teacher("conv4", size=16, num_classes=3, seed=seed) for seed in range(2)]
    pool = TeacherPool.from_teachers(teachers)
    train(FreeConfig.from_dict(values), output=tmp_path / "with", pool=pool)
    learner = MetaLearner.from_pretrained(tmp_path / "with" / "learner")
    assert learner.embedding.gate.sizes == (3, 3)
    assert learner.embedding.gate.is_known.all()
    card = (tmp_path / "with" / "learner" / "README.md").read_text(encoding="utf-8")
    assert "| ridge; teachers of similar pictures count more |" in card  # too few pictures for damping
    values["learner"]["gating"] = False
    assert train(FreeConfig.from_dict(values), output=tmp_path / "without", pool=pool).embedding.gate is None

    # a learner that is continued: its own teachers' pictures are gone, the new ones have some
    more = [pico_teacher("conv4", size=16, num_classes=2, seed=seed) for seed in (7, 8)]
    values["learner"]["gating"], values["learner"]["init_from"] = True, str(tmp_path / "with" / "learner")
    grown = train(FreeConfig.from_dict(values), output=tmp_path / "more", pool=TeacherPool.from_teachers(more))
    assert grown.embedding.gate.sizes == (3, 3, 2, 2)
    assert grown.embedding.gate.is_known.tolist() == [False, False, True, True]
