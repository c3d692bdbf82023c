"""Shared classes: found by asking the teachers, scored once, compared only where a chain of teachers links them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from pico import pico_run, pico_teacher
from safetensors.torch import load_file, save_file
from torch import nn

from hf_free.config.sections import LearnerConfig
from hf_free.config.tree import FreeConfig
from hf_free.data.class_matching import (
    MIN_LIKENESS,
    clash_scores,
    correlations_within,
    expected_scores,
    group_classes,
    likeness,
)
from hf_free.data.logit_rows import LogitRows
from hf_free.data.logits import LogitLayout
from hf_free.errors import LearnerError
from hf_free.learner.embedding import Embedding, hellinger_embedding, joint_embedding
from hf_free.learner.gating import TeacherGate
from hf_free.learner.heads import normalize_features, weigh
from hf_free.learner.meta_learner import MetaLearner
from hf_free.learner.shared_classes import PENALTY, TEMPERATURE, SharedClasses, common_scores, linked_classes
from hf_free.memory.bank import TaskMemory
from hf_free.metalearning.embedding_fit import drop_teachers, fit_shared_classes
from hf_free.teachers.pool import TeacherPool
from hf_free.training.trainer import train

KNOWN = [[0, 1, 2], [2, 3], [3, 4, 0], [5, 6], [6, 7, 5]]
"""True classes of five teachers: the first three are linked, and the last two."""
SIZES = [len(classes) for classes in KNOWN]
TRUE = torch.tensor([c for classes in KNOWN for c in classes])


def _world(count=400, noise=0.0, seed=0):
    """What five teachers answer to pictures with a true score a class: those of their classes, up to a shift."""
    generator = torch.Generator().manual_seed(seed)
    scores = 3 * torch.randn(count, 8, generator=generator)
    shifts = 5 * torch.randn(count, len(KNOWN), generator=generator).repeat_interleave(torch.tensor(SIZES), 1)
    return scores, scores[:, TRUE] + shifts + noise * torch.randn(count, len(TRUE), generator=generator)


def _naive_groups(scores, alike):
    """Average linkage, spelled out: merge the two groups of highest mean correlation while it is high enough."""
    groups = [[i] for i in range(len(scores))]
    while len(groups) > 1:
        pairs = [(scores[a][:, b].mean().item(), i, j) for i, a in enumerate(groups) for j, b in enumerate(groups[:i])]
        best, i, j = max(pairs)
        if best < alike:
            break
        groups[j] += groups.pop(i)
    numbers = torch.empty(len(scores), dtype=torch.long)
    for number, group in enumerate(sorted(groups, key=min)):
        numbers[group] = number
    return numbers


@pytest.mark.parametrize("alike", [0.0, 0.3, MIN_LIKENESS, 0.9])
def test_groups_are_those_of_average_linkage(alike):
    scores = clash_scores(LogitRows(_world(noise=2.0)[1], SIZES))
    assert torch.equal(group_classes(scores, alike=alike), _naive_groups(scores, alike))


def test_what_is_to_be_expected_of_one_class():
    """Two teachers of n and m classes with the first in common, all true scores independent: measured."""
    sizes, count = (2, 5, 3), 40_000
    drawn = torch.randn(count, sum(sizes), generator=torch.Generator().manual_seed(0))
    drawn[:, [2, 7]] = drawn[:, :1]
    measured, expected = (
        clash_scores(LogitRows(drawn, sizes))[[0, 0, 2], [2, 7, 7]],
        expected_scores(sizes)[[0, 0, 2], [2, 7, 7]],
    )
    torch.testing.assert_close(measured, expected, atol=0.02, rtol=0)
    assert expected.tolist() == pytest.approx([(1 / 2 * 4 / 5) ** 0.5, (1 / 2 * 2 / 3) ** 0.5, (4 / 5 * 2 / 3) ** 0.5])


def _groups(answers, sizes=SIZES):
    return group_classes(likeness(LogitRows(answers, tuple(sizes)), torch.full((len(answers),), -1)))


def _together(groups):
    return groups[:, None] == groups


def test_teachers_that_share_classes_are_found_out():
    """Teachers of two and of three classes too, whose correlations never come near 1."""
    _, answers = _world(4000, noise=0.3)
    assert torch.equal(_together(_groups(answers)), _together(TRUE))
    assert group_classes(torch.ones(1, 1)).tolist() == [0]


def _answers(known, count=4000, seed=0):
    """What teachers of the classes named answer to pictures, and how many classes each has."""
    true = torch.randn(count, 10, generator=torch.Generator().manual_seed(seed))
    return torch.cat([true[:, classes] for classes in known], 1), [len(classes) for classes in known]


def test_correlations_are_those_over_the_pictures_of_two_teachers():
    """Against numpy, pair by pair: each teacher's pictures centered by themselves, then put together."""
    generator = torch.Generator().manual_seed(0)
    answers, teachers = _world(300, noise=1.0)[1], torch.randint(-1, 4, (300,), generator=generator)
    answers[teachers == 2] += torch.randn(1, len(TRUE), generator=generator) * 20
    found = correlations_within(answers, SIZES, teachers)
    owner = np.repeat(np.arange(5), SIZES)
    centered = torch.cat([part - part.mean(1, keepdim=True) for part in answers.split(SIZES, 1)], 1).double().numpy()
    for b in range(len(TRUE)):
        for c in range(b):
            parts = [centered[teachers.numpy() == t][:, [b, c]] for t in {owner[b], owner[c]}]
            seen = np.concatenate([part - part.mean(0) for part in parts if len(part)] or [np.zeros((1, 2))])
            length = np.sqrt((seen**2).sum(0).prod())
            assert found[b, c].item() == pytest.approx(seen.prod(1).sum() / length if length else 0, abs=1e-4)
    assert torch.equal(found, found.T)


def test_what_answers_have_in_common_on_other_pictures_makes_no_class():
    """Teachers of two kinds of pictures, and of one class in common; on drawn ones ink alone decides."""
    answers, sizes = _answers([[0, 1, 2], [0, 3, 4], [5, 6, 7]], count=900)
    teachers = torch.arange(900) % 4 - 1  # a quarter are drawn
    answers[teachers == -1, 2::3] += 30 * torch.randn(225, 1, generator=torch.Generator().manual_seed(1))
    answers[teachers == 2] += 30 * torch.tensor([0.0, 1, 0] * 3)  # and another kind of pictures is another kind
    assert _groups(answers, sizes).unique().numel() < 8, "asked about all pictures"
    found = group_classes(likeness(LogitRows(answers, tuple(sizes)), teachers))
    assert torch.equal(_together(found), _together(torch.tensor([0, 1, 2, 0, 3, 4, 5, 6, 7])))


def test_teachers_of_two_classes_each_do_not_make_one_class_of_what_they_do_not_share():
    """One number each: what correlates for the class that they share does for the other two likewise."""
    assert _groups(*_answers([[0, 1], [0, 2], [1, 2]])).unique().tolist() == list(range(6))
    linked = _groups(*_answers([[0, 1], [0, 2], [0, 1, 3, 4], [0, 2, 5, 6]]))  # larger teachers can tell
    true = torch.tensor([0, 1, 0, 2, 0, 1, 3, 4, 0, 2, 5, 6])
    assert torch.equal(_together(linked), _together(true))


def test_classes_of_one_teacher_stay_apart_however_alike():
    answers, sizes = _answers([[0, 1, 2, 3, 4], [0, 5, 6, 7, 8]])
    answers[:, 1] = answers[:, 0] + 0.01 * answers[:, 1]
    groups = _groups(answers, sizes)
    assert groups[0] != groups[1]
    assert groups[:5].unique().tolist() == [0, 1, 2, 3, 4]
    assert int(groups.max()) + 1 in (8, 9, 10), "at most the class that they share is one"
    alone = torch.randn(4000, 8, generator=torch.Generator().manual_seed(1))
    alone[:, 1] = alone[:, 0] + 0.1 * alone[:, 1]
    assert _groups(alone, [4, 4]).tolist() == list(range(8))


def test_scores_are_the_least_squares_of_all_teachers_differences():
    """Against numpy's solution of the same equations, teacher by teacher, the penalty as further equations."""
    mapping = common_scores(TRUE, SIZES).double().numpy()
    rows, answers = [], _world(3)[1].double().numpy()
    start, wanted = 0, []
    for size in SIZES:
        part = np.eye(len(TRUE))[start : start + size]
        part = part - part.mean(0)
        rows.append(part @ np.eye(8)[TRUE.numpy()])
        wanted.append(part @ answers.T)
        start += size
    rows.append(PENALTY**0.5 * np.eye(8))
    wanted.append(np.zeros((8, 3)))
    expected = np.linalg.lstsq(np.concatenate(rows), np.concatenate(wanted), rcond=None)[0]
    np.testing.assert_allclose(mapping @ answers.T, expected, rtol=1e-4, atol=1e-4)


def test_what_teachers_cannot_compare_alone_they_can_together():
    """No teacher knows both class 1 and class 4; the chain over the classes 0, 2 and 3 tells their difference."""
    scores, answers = _world(50)
    found = answers @ common_scores(TRUE, SIZES).T
    torch.testing.assert_close(found[:, 1] - found[:, 4], scores[:, 1] - scores[:, 4], rtol=1e-2, atol=1e-2)


def test_probabilities_are_taken_among_linked_classes_alone():
    assert linked_classes(TRUE, SIZES).unique_consecutive(return_counts=True)[1].tolist() == [5, 3]
    shared, (scores, answers) = SharedClasses(TRUE, SIZES), _world(20)
    assert (len(shared), shared.chain_sizes) == (8, [5, 3])
    found = shared(answers)
    for chain in (slice(0, 5), slice(5, 8)):
        expected = (scores[:, chain] / TEMPERATURE).softmax(1) * (chain.stop - chain.start)
        torch.testing.assert_close(found[:, chain].square(), expected, rtol=1e-2, atol=1e-2)
    other = answers.clone()
    other[:, :8] += torch.randn(20, 8)  # the first three teachers'
    assert torch.equal(shared(other)[:, 5:], found[:, 5:])


def test_groups_of_two_chains_in_any_order_are_put_side_by_side():
    """The same probabilities, whatever the numbers."""
    turned = torch.tensor([3, 7, 0, 4, 6, 1, 2, 5])
    shared, answers = SharedClasses(turned[TRUE], SIZES), _world(20)[1]
    found, expected = shared(answers), SharedClasses(TRUE, SIZES)(answers)
    for place, true in enumerate(TRUE.tolist()):
        torch.testing.assert_close(found[:, shared.groups[place]], expected[:, true])


# ---- in a learner


def _learner(sizes=tuple(SIZES)):
    torch.manual_seed(0)
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16), embedding=Embedding(sizes=sizes))
    learner.embedding.projection = nn.Linear(learner.backbone_dim, sum(sizes))
    return learner.eval()


def _memory(answers):
    memory = TaskMemory(1000, sizes=SIZES)
    memory.add_pictures(torch.zeros(len(answers), 3, 4, 4, dtype=torch.uint8), LogitRows(answers, SIZES))
    return memory


def test_they_are_learned_from_the_memory():
    answers = _world(800, noise=0.1)[1]
    shared = fit_shared_classes(_learner(), LogitLayout.of(SIZES), _memory(answers))
    assert torch.equal(_together(shared.groups), _together(_groups(answers)))
    assert len(shared) < len(TRUE)


def test_teachers_that_the_learner_has_lost_are_left_out():
    learner, layout, answers = _learner(), LogitLayout.of(SIZES), _world(800, noise=0.1)[1]
    drop_teachers(learner, layout, [1])
    answers[:, layout.columns(1)] = torch.nan
    shared = fit_shared_classes(learner, layout, _memory(answers), without=[1])
    kept = [i for i in range(len(TRUE)) if i not in (3, 4)]
    expected = _groups(answers[:, kept], [3, 3, 2, 3])
    assert torch.equal(_together(shared.groups), _together(expected))


def test_nothing_is_shared_where_it_cannot_be_told(monkeypatch):
    answers = _world(800, noise=0.1)[1]
    few = _memory(answers[:50])
    assert fit_shared_classes(_learner(), LogitLayout.of(SIZES), few) is None
    unrelated = _memory(torch.randn(800, sum(SIZES), generator=torch.Generator().manual_seed(0)))
    assert fit_shared_classes(_learner((3, 2, 3, 2, 3)), LogitLayout.of(SIZES), unrelated) is None
    plain = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16)).eval()
    assert fit_shared_classes(plain, LogitLayout.of(SIZES), _memory(answers)) is None
    monkeypatch.setattr("hf_free.metalearning.embedding_fit.MAX_SHARED_LOGITS", 12)
    assert fit_shared_classes(_learner(), LogitLayout.of(SIZES), _memory(answers)) is None


def test_the_embedding_holds_answers_shared_classes_and_features():
    learner = _learner()
    learner.embedding.shared_classes = SharedClasses(TRUE, SIZES)
    images = torch.rand(4, 3, 16, 16)
    with torch.no_grad():
        found, answers = learner.features(images), learner.raw_answers(images)
    assert found.shape == (4, learner.feature_dim) == (4, 13 + 8 + learner.backbone_dim)
    lengths = [part.norm(dim=1) for part in found.split([13, 8, learner.backbone_dim], 1)]
    for length, width in zip(lengths, (13, 8, learner.backbone_dim), strict=True):
        torch.testing.assert_close(length, torch.full((4,), width**0.5))
    torch.testing.assert_close(found[:, 13:21], learner.embedding.shared_classes(answers))
    torch.testing.assert_close(found[:, :13], hellinger_embedding(answers, SIZES) * (13 / 5) ** 0.5)


def test_a_shared_class_counts_as_much_as_the_teachers_that_know_it():
    relevance = TeacherGate(SIZES, 4, TRUE)
    relevance.is_known.fill_(True)
    relevance.bias.copy_(torch.tensor([10.0, -20.0, 30.0, 5.0, -15.0]))
    factors = relevance(torch.randn(2, 3, 13 + 8 + 4))
    squares = factors[:, :13].square()
    for true in range(8):
        torch.testing.assert_close(factors[:, 13 + true].square(), squares[:, true == TRUE].mean(1))
    torch.testing.assert_close(factors[:, 21:] / factors[:, -1:], torch.ones(2, 4))


def test_embeddings_keep_about_their_length_whichever_teachers_count():
    """Two large teachers with classes of their own beside sixty of two that share theirs: the large ones count."""
    sizes, groups = [64, 64, *[2] * 60], [*range(128), *(128 + i % 20 for i in range(120))]
    shared = SharedClasses(torch.tensor(groups), sizes)
    answers = 3 * torch.randn(50, sum(sizes), generator=torch.Generator().manual_seed(0))
    seen = normalize_features(joint_embedding(answers, torch.randn(50, 256), sizes, shared))
    relevance = TeacherGate(sizes, 256, shared.groups)
    relevance.is_known.fill_(True)
    relevance.bias[:2] = 400.0
    lengths = weigh(seen[None], relevance(seen[None]), None).norm(dim=2)
    assert lengths.mean().item() == pytest.approx(1, abs=0.1)


def test_they_are_saved(tmp_path):
    learner, images = _learner(), torch.rand(4, 3, 16, 16)
    learner.embedding.shared_classes = SharedClasses(TRUE, SIZES)
    learner.embedding.gate = TeacherGate(SIZES, learner.backbone_dim, learner.embedding.shared_classes.groups)
    learner.embedding.gate.is_known.fill_(True)
    learner.embedding.gate.bias.copy_(torch.tensor([10.0, -20.0, 30.0, 5.0, -15.0]))
    learner.save_pretrained(tmp_path / "with")
    loaded = MetaLearner.from_pretrained(tmp_path / "with")
    assert torch.equal(loaded.embedding.shared_classes.groups, learner.embedding.shared_classes.groups)
    assert torch.equal(loaded.embed(images), learner.embed(images))
    support = learner.embed(images)[None]
    assert torch.equal(loaded.embedding.gate(support), learner.embedding.gate(support))
    _learner().save_pretrained(tmp_path / "without")
    assert "shared_classes" not in (tmp_path / "without" / "config.json").read_text()  # hf-free of before can read it
    assert MetaLearner.from_pretrained(tmp_path / "without").embedding.shared_classes is None


@pytest.mark.parametrize("count", ["8", -1, 0, True, None])
def test_a_number_of_groups_that_cannot_be_is_refused(tmp_path, count):
    learner = _learner()
    learner.embedding.shared_classes = SharedClasses(TRUE, SIZES)
    learner.save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    content["hf_free"]["learner"]["shared_classes"] = count
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(LearnerError, match=r"shared[ _]classes"):
        MetaLearner.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("missing", r"does not hold what config.json declares, shared_classes.groups"),
        ("short", r"size mismatch for shared_classes.groups: \[12\], not \[13\]"),
        ("gap", r"(?s)8 shared classes do not fit.*each of its 13 answers"),
        ("more", r"does not hold what config.json declares, shared_classes.others"),
    ],
)
def test_groups_that_do_not_fit_are_refused(tmp_path, broken, message):
    learner = _learner()
    learner.embedding.shared_classes = SharedClasses(TRUE, SIZES)
    learner.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "hf_free.safetensors")
    groups = tensors.pop("shared_classes.groups")
    changed = {"short": groups[1:].contiguous(), "gap": groups.clamp_max(6), "more": groups}
    if broken in changed:
        tensors["shared_classes.groups"] = changed[broken]
    if broken == "more":
        tensors["shared_classes.others"] = groups.clone()
    save_file(tensors, tmp_path / "hf_free.safetensors")
    content = json.loads((tmp_path / "config.json").read_text())
    del content["hf_free_files"]  # else only the file's SHA-256 would be looked at
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(LearnerError, match=message):
        MetaLearner.from_pretrained(tmp_path)


def test_a_run_finds_them_and_the_configuration_can_say_no(tmp_path):
    """Two teachers with the same weights share all classes; a third has others."""
    values = pico_run()
    values["memory"] = {"drawn_per_step": 64, "max_images": 400, "held_out_images": 8}
    teachers = [pico_teacher("conv4", size=16, num_classes=3, seed=seed) for seed in (0, 0, 1)]
    pool = TeacherPool.from_teachers(teachers)
    train(FreeConfig.from_dict(values), output=tmp_path / "with", pool=pool)
    learner = MetaLearner.from_pretrained(tmp_path / "with" / "learner")
    groups = learner.embedding.shared_classes.groups
    assert torch.equal(groups[:3], groups[3:6])
    assert learner.embedding.gate.groups is not None
    block = json.loads((tmp_path / "with" / "learner" / "config.json").read_text())["hf_free"]["learner"]
    assert block["shared_classes"] == len(learner.embedding.shared_classes)
    card = (tmp_path / "with" / "learner" / "README.md").read_text(encoding="utf-8")
    assert (
        f"It predicts 9 of its teachers' classes and treats them as {len(learner.embedding.shared_classes)}:" in card
    )
    values["learner"]["shared_classes"] = False
    assert train(FreeConfig.from_dict(values), output=tmp_path / "without", pool=pool).embedding.shared_classes is None

    # a learner that is continued: found anew, those of its old teachers by what it remembers of them
    more = [pico_teacher("conv4", size=16, num_classes=3, seed=seed) for seed in (7, 7)]
    values["learner"]["shared_classes"], values["learner"]["init_from"] = True, str(tmp_path / "with" / "learner")
    grown = train(FreeConfig.from_dict(values), output=tmp_path / "more", pool=TeacherPool.from_teachers(more))
    assert grown.embedding.shared_classes.groups.shape == (15,)
    assert torch.equal(grown.embedding.shared_classes.groups[9:12], grown.embedding.shared_classes.groups[12:])


@pytest.mark.parametrize("seed", range(20))
def test_chains_are_those_of_a_walk_from_class_to_class(seed):
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, 5, 12).tolist()
    groups = np.unique(generator.integers(0, 40 if seed % 2 else 25, sum(sizes)), return_inverse=True)[1]
    owners = np.repeat(np.arange(12), sizes)
    chains = np.full(groups.max() + 1, -1)
    for first in range(len(chains)):
        reached, number = [first], chains.max() + 1
        while chains[first] < 0 or reached:
            group = reached.pop() if reached else first
            if chains[group] < 0:
                chains[group] = number
                reached += groups[np.isin(owners, owners[groups == group])].tolist()
    assert linked_classes(torch.from_numpy(groups), sizes).tolist() == chains.tolist()
