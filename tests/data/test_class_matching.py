"""Classes that are one under two labels: found by name, and by the teachers' answers against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hf_free.config.sections import BellConfig, LearnerConfig
from hf_free.data.class_matching import (
    CLASH_SCORE,
    MIN_CLASS_IMAGES,
    clash_scores,
    clashes_of_groups,
    correlations_of_asked,
    find_clashes,
    freest_first,
    group_by_name,
    group_classes,
    likeness,
    some_apart,
)
from hf_free.data.logit_rows import LogitRows, row_width
from hf_free.data.logits import ClassKey, LogitLayout
from hf_free.inversion.task import Health, RecoveredTask
from hf_free.learner.inputs import InputSettings
from hf_free.learner.meta_learner import MetaLearner
from hf_free.memory.bank import TaskMemory
from hf_free.metalearning.base import Moment
from hf_free.metalearning.bell import Aligner
from hf_free.runtime.device import Precision


def _by_loop(answers, sizes):
    """Pearson's correlation of centered logits, from the textbook."""
    columns, start = [], 0
    for size in sizes:
        rows = [[value - sum(row) / size for value in row] for row in answers[:, start : start + size].tolist()]
        columns += [list(column) for column in zip(*rows, strict=True)]
        start += size

    def correlation(x, y):
        a, b = sum(x) / len(x), sum(y) / len(y)
        top = sum((u - a) * (v - b) for u, v in zip(x, y, strict=True))
        return top / math.sqrt(sum((u - a) ** 2 for u in x) * sum((v - b) ** 2 for v in y))

    return torch.tensor([[correlation(x, y) for y in columns] for x in columns])


def test_scores_are_correlations_of_centered_logits():
    torch.manual_seed(0)
    answers = torch.randn(40, 7) * torch.arange(1, 8) + torch.arange(7)
    found = clash_scores(LogitRows(answers, (3, 4)))
    torch.testing.assert_close(found, _by_loop(answers, [3, 4]), atol=1e-5, rtol=1e-4)
    assert torch.equal(found, found.T)
    shifted = answers + torch.cat([torch.randn(40, 1).expand(-1, 3), torch.randn(40, 1).expand(-1, 4)], 1)
    torch.testing.assert_close(
        clash_scores(LogitRows(shifted, (3, 4))), found, atol=1e-4, rtol=1e-4
    )  # no probability changes


def test_answers_nobody_gave_count_nothing():
    torch.manual_seed(0)
    answers = torch.randn(60, 6)
    answers[40:, 3:] = torch.nan
    found = clash_scores(LogitRows(answers, (3, 3)))
    assert found.isfinite().all()
    torch.testing.assert_close(
        found[3:, 3:], clash_scores(LogitRows(answers[:40], (3, 3)))[3:, 3:], atol=1e-5, rtol=1e-4
    )
    constant = clash_scores(LogitRows(torch.ones(20, 4), (2, 2)))
    assert torch.equal(constant, torch.zeros(4, 4))


def _knowing(classes, count=400, noise=0.7):
    """Logits of teachers that each know some of the world's eight classes, about pictures of all of them."""
    generator = torch.Generator().manual_seed(0)
    shown = torch.randint(8, (count,), generator=generator)
    logits = [4.0 * (shown[:, None] == torch.tensor(known)) for known in classes]
    answers = torch.cat(logits, 1)
    answers = answers + noise * torch.randn(answers.shape, generator=generator)
    return LogitRows(answers, tuple(map(len, classes)))


KNOWN = [[0, 1, 2], [2, 3, 4, 0], [5, 6, 7]]


def test_teachers_that_know_the_same_class_are_found_without_names():
    layout = LogitLayout.of([3, 4, 3])
    keys = [ClassKey(teacher, index) for teacher, known in enumerate(KNOWN) for index in range(len(known))]
    clash = find_clashes(keys, [None] * 10, _knowing(KNOWN), layout)
    world = [label for known in KNOWN for label in known]
    for i in range(10):
        for j in range(10):
            assert clash[i, j] == (world[i] == world[j] and keys[i].teacher != keys[j].teacher)
    some = [keys[8], keys[3], keys[2]]  # any order, any selection
    assert find_clashes(some, [None] * 3, _knowing(KNOWN), layout).nonzero().tolist() == [[1, 2], [2, 1]]


def test_names_decide_where_both_are_known():
    layout, keys = LogitLayout.of([3, 4, 3]), [ClassKey(0, 2), ClassKey(1, 0), ClassKey(2, 0), ClassKey(0, 0)]
    answers = _knowing(KNOWN)
    alike = [[0, 1], [1, 0]]
    assert find_clashes(keys, [None] * 4, answers, layout).nonzero().tolist() == alike
    assert find_clashes(keys, ["dog", None, "cat", "dog"], answers, layout).nonzero().tolist() == alike
    assert not find_clashes(keys, ["dog", "cat", None, None], answers, layout).any()
    assert find_clashes(keys, ["owl", "cat", "owl", "owl"]).nonzero().tolist() == [[0, 2], [2, 0], [2, 3], [3, 2]]


def test_a_higher_score_takes_fewer_classes_for_one():
    layout, keys = LogitLayout.of([3, 4, 3]), [ClassKey(0, 2), ClassKey(1, 0)]
    answers = _knowing(KNOWN)
    found = clash_scores(answers)[2, 3].item()
    for score, clashes in ((found - 0.01, True), (found + 0.01, False)):
        assert find_clashes(keys, [None, None], answers, layout, score=score).any() == clashes


def test_freest_classes_first_fit_more_together():
    clash = torch.zeros(5, 5, dtype=torch.bool)
    clash[0, 1:4] = clash[1:4, 0] = True  # 0 meets none of 1, 2, 3
    assert some_apart(clash, range(5), 5) == [0, 4]
    assert some_apart(clash, range(5), 1) == [0]
    assert freest_first(clash, range(5)) == [4, 1, 2, 3, 0]
    assert some_apart(clash, freest_first(clash, range(5)), 5) == [4, 1, 2, 3]


def test_too_few_pictures_say_nothing():
    layout, keys = LogitLayout.of([3, 4, 3]), [ClassKey(0, 2), ClassKey(1, 0)]
    for count in (MIN_CLASS_IMAGES - 1, MIN_CLASS_IMAGES):
        found = find_clashes(keys, [None, None], _knowing(KNOWN, count), layout)
        assert found.any() == (count == MIN_CLASS_IMAGES)


def test_classes_of_a_large_head_that_are_not_asked_about_clash_with_none():
    layout = LogitLayout.of([100, 3])
    chosen = list(layout.blocks[0].chosen)
    answers = torch.randn(200, 67, generator=torch.Generator().manual_seed(0))
    answers[:, 64] = answers[:, 5]
    left_out = next(index for index in range(100) if index not in chosen)
    keys = [ClassKey(0, chosen[5]), ClassKey(0, left_out), ClassKey(1, 0)]
    assert find_clashes(keys, [None] * 3, LogitRows(answers, (64, 3)), layout).nonzero().tolist() == [[0, 2], [2, 0]]


@pytest.mark.parametrize("asked", [True, False])
def test_replay_keeps_one_class_of_two_teachers_apart(asked):
    """Two teachers that know the same four classes: without a word of theirs an episode may hold one class twice."""
    torch.manual_seed(0)
    layout = LogitLayout.of([4, 4])
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16), inputs=InputSettings(batchnorm="support"))
    config = BellConfig(
        objective="align", n_way=4, n_query=2, replay_tasks=20, replay_patience=1, replay_inner_steps=1
    )
    aligner = Aligner(learner, config, Precision(), layout=layout if asked else None)
    memory = TaskMemory(1000, sizes=layout.sizes if aligner.asks_teachers else ())
    colors = torch.tensor([0, 80, 160, 240], dtype=torch.uint8)
    for teacher in (0, 1):
        labels = torch.arange(4).repeat(30)
        images = colors[labels].view(-1, 1, 1, 1).expand(-1, 3, 16, 16).clone()
        answers = (4.0 * (labels[:, None] == torch.arange(4))).repeat(1, 2) + 0.1 * torch.randn(120, 8)
        task = RecoveredTask(
            images, labels, answers[:, :4].softmax(1), (0, 1, 2, 3), teacher, "t", Health(1.0, 0.1, 0.1)
        )
        memory.add_task(task, LogitRows(answers, (4, 4)) if asked else None)
    seen = []
    draw = learner.forward

    def watch(images):
        seen.append(images)
        return draw(images)

    learner.forward = watch
    aligner.step([], memory, Moment())
    supports = [images for images in seen if len(images) == 4]
    assert len(supports) >= 20
    twice = sum(len({int(image[0, 0, 0] * 255) for image in images}) < 4 for images in supports)
    assert (twice == 0) == asked
    assert CLASH_SCORE < 1


def test_a_merged_class_clashes_where_any_of_its_classes_does():
    groups = group_by_name(["dog", None, "cat", "dog", None])
    assert groups == [[0, 3], [1], [2], [4]]
    clash = torch.zeros(5, 5, dtype=torch.bool)
    for i, j in ((0, 3), (3, 4)):  # the two dogs themselves; a dog and a class without a name
        clash[i, j] = clash[j, i] = True
    assert clashes_of_groups(clash, groups).nonzero().tolist() == [[0, 3], [3, 0]]


# ---- where teachers were asked about some images only


def _some_of(rows, asked, seed=0):
    """The same rows, each with the blocks of a few teachers only, and which these are (N, T)."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.stack([torch.randperm(len(rows.sizes), generator=generator)[:asked] for _ in range(len(rows))])
    firsts = torch.tensor([0, *rows.sizes]).cumsum(0)
    values = torch.full((len(rows), row_width(rows.sizes, asked)), 7.0)
    for row, chosen in enumerate(blocks.tolist()):
        said = torch.cat([rows.values[row, firsts[block] : firsts[block + 1]] for block in chosen])
        values[row, : len(said)] = said
    known = torch.zeros(len(rows), len(rows.sizes), dtype=torch.bool).scatter_(1, blocks, True)
    return LogitRows(values, rows.sizes, blocks), known


def _centered(rows):
    parts = rows.values.double().split(list(rows.sizes), 1)
    return np.concatenate([(part - part.mean(1, keepdim=True)).numpy() for part in parts], 1)


def test_clash_scores_are_the_correlations_over_the_images_both_were_asked_about():
    rows = _knowing(KNOWN, 900)
    some, known = _some_of(rows, 2)
    seen, owner, found = _centered(rows), np.repeat(np.arange(3), [3, 4, 3]), clash_scores(some)
    for i in range(10):
        for j in range(10):
            both = (known[:, owner[i]] & known[:, owner[j]]).numpy()
            assert found[i, j] == pytest.approx(np.corrcoef(seen[both, i], seen[both, j])[0, 1], abs=1e-5)


def test_pairs_that_met_too_seldom_are_no_clash():
    few, _ = _some_of(_knowing(KNOWN, 240), 2)  # any two meet over 80 images
    assert not find_clashes([ClassKey(0, 2), ClassKey(1, 0)], [None, None], few, LogitLayout.of([3, 4, 3])).any()
    enough, _ = _some_of(_knowing(KNOWN, 500), 2)
    assert find_clashes([ClassKey(0, 2), ClassKey(1, 0)], [None, None], enough, LogitLayout.of([3, 4, 3])).any()


def test_asking_everybody_in_any_order_is_the_dense_computation():
    rows = _knowing(KNOWN, 600)
    teachers = torch.randint(-1, 3, (600,), generator=torch.Generator().manual_seed(1))
    everybody, _ = _some_of(rows, 3)
    torch.testing.assert_close(clash_scores(everybody), clash_scores(rows), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(likeness(everybody, teachers), likeness(rows, teachers), atol=1e-3, rtol=1e-3)


def test_likeness_within_own_images_against_a_loop():
    rows = _knowing(KNOWN, 1500)
    teachers = torch.randint(3, (1500,), generator=torch.Generator().manual_seed(1))
    some, known = _some_of(rows, 2)
    seen, owner = _centered(rows), np.repeat(np.arange(3), [3, 4, 3])
    met, found = correlations_of_asked(some, teachers)
    for i, j in [(0, 6), (2, 3), (1, 9), (4, 8), (7, 0)]:
        parts = []
        for own in (owner[i], owner[j]):  # each teacher's images are centered by themselves
            both = ((teachers == int(own)) & known[:, owner[i]] & known[:, owner[j]]).numpy()
            parts.append(seen[both][:, [i, j]] - seen[both][:, [i, j]].mean(0))
        pairs = np.concatenate(parts)
        expected = (pairs[:, 0] @ pairs[:, 1]) / np.sqrt((pairs[:, 0] ** 2).sum() * (pairs[:, 1] ** 2).sum())
        assert found[i, j] == pytest.approx(expected, abs=1e-4)
        assert met[owner[i], owner[j]] == len(pairs)


def test_the_same_classes_are_found_by_asking_some():
    rows = _knowing(KNOWN, 4000)
    teachers = torch.randint(3, (4000,), generator=torch.Generator().manual_seed(1))
    some, _ = _some_of(rows, 2)
    assert group_classes(likeness(some, teachers)).tolist() == group_classes(likeness(rows, teachers)).tolist()
