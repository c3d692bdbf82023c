"""The default learner: what teachers answer, the loss by a loop, and that it learns the answers."""

from __future__ import annotations

import math

import pytest
import torch
from pico import CrampedNetwork, pico_teacher
from torch import nn

from hf_free.config.sections import BellConfig, LearnerConfig
from hf_free.data.logit_rows import LogitRows, row_width
from hf_free.data.logits import MAX_ANSWERS, CenterPerTeacher, LogitLayout, unanswered_teachers
from hf_free.learner.embedding import Embedding, hellinger_embedding, joint_embedding
from hf_free.learner.meta_learner import MetaLearner
from hf_free.memory.bank import Sample, TaskMemory
from hf_free.metalearning.base import Moment
from hf_free.metalearning.distill import Distiller, answer_loss, number_of_parts
from hf_free.runtime.device import Precision
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.soft_labels import label, teacher_sources
from hf_free.teachers.teacher import Teacher

# ---- labels


def _pictures(count, size=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def test_answers_are_the_teachers_logits_column_by_column():
    teachers = [
        pico_teacher("conv4", num_classes=3, size=16),
        pico_teacher("vit", num_classes=2, size=16),
        pico_teacher("conv4", num_classes=100, size=16, seed=2),
    ]
    layout = LogitLayout.of([3, 2, 100])
    pictures = _pictures(7)
    answers = label(
        teacher_sources(TeacherPool.from_teachers(teachers), layout), pictures, layout, Precision(), batch=3
    ).values
    assert answers.shape == (7, 3 + 2 + MAX_ANSWERS)
    assert answers.dtype == torch.float16
    for i, teacher in enumerate(teachers):
        for picture, row in zip(pictures, answers, strict=True):
            logits = teacher.logits(picture[None].float() / 255)[0]
            if layout.blocks[i].chosen is not None:
                logits = logits[list(layout.blocks[i].chosen)]
            assert torch.allclose(row[layout.columns(i)].float(), logits, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_answers_that_are_no_numbers_count_as_not_given(value):
    good, bad = (pico_teacher("conv4", num_classes=3, size=16, seed=seed) for seed in (0, 1))
    pool = TeacherPool.from_teachers([good, bad])
    with torch.no_grad():
        bad.network.get_classifier().bias[1] = value
    layout = LogitLayout.of([3, 3])
    answers = label(teacher_sources(pool, layout), _pictures(4), layout, Precision()).to(
        torch.device("cpu"), torch.float32
    )
    assert torch.isfinite(answers.values[:, :3]).all()
    assert answers.values[:, 3:].isnan().all()  # a teacher's answer to a picture is known whole or not at all
    loss = answer_loss(torch.zeros(4, 6, requires_grad=True), answers, CenterPerTeacher([3, 3]))["answers"]
    assert torch.isfinite(loss)


# ---- the loss


def _rows(answers, center):
    return LogitRows(answers, tuple(center.sizes.int().tolist()))


def _centered(row, sizes):
    found, start = [], 0
    for size in sizes:
        part = row[start : start + size]
        found += [value - sum(part) / size for value in part]
        start += size
    return found


def test_grouped_center_against_a_loop():
    torch.manual_seed(0)
    sizes, answers = [3, 1, 4], torch.randn(5, 8)
    expected = torch.tensor([_centered(row, sizes) for row in answers.tolist()])
    center = CenterPerTeacher(sizes)
    assert torch.allclose(center(answers), expected, atol=1e-6)
    assert torch.allclose(center(answers + torch.tensor([5.0] * 3 + [-2.0] + [1.0] * 4)), expected, atol=1e-5)
    assert not list(center.state_dict())


def _loss_by_loop(predicted, answers, sizes):
    """Mean over teachers of squared error over mean square; teachers with nothing to tell apart count nothing."""
    shares, start = [], 0
    for size in sizes:
        error = spread = 0.0
        for p_row, a_row in zip(predicted.tolist(), answers.tolist(), strict=True):
            p, a = p_row[start : start + size], a_row[start : start + size]
            if any(math.isnan(value) for value in a):
                continue
            p, a = _centered(p, [size]), _centered(a, [size])
            error += sum((x - y) ** 2 for x, y in zip(p, a, strict=True))
            spread += sum(y**2 for y in a)
        shares += [error / spread] if spread > 1e-6 else []
        start += size
    return sum(shares) / len(shares)


def test_loss_against_a_loop_with_rows_nobody_answered():
    torch.manual_seed(0)
    sizes = [3, 2, 5]
    predicted, answers = torch.randn(6, 10), 3 * torch.randn(6, 10)
    answers[1, :3] = answers[4, 3:5] = answers[2, 5:] = float("nan")
    center = CenterPerTeacher(sizes)
    loss = answer_loss(predicted, _rows(answers, center), center)["answers"].item()
    assert loss == pytest.approx(_loss_by_loop(predicted, answers, sizes), rel=1e-5)
    zero = answer_loss(torch.zeros(6, 10), _rows(answers, center), center)["answers"].item()
    assert zero == pytest.approx(1)
    perfect = answer_loss(answers.nan_to_num() + 7, _rows(answers, center), center)["answers"].item()
    assert perfect == pytest.approx(0, abs=1e-10)


def test_unanswered_rows_give_no_gradient():
    torch.manual_seed(0)
    predicted, answers = torch.randn(4, 5, requires_grad=True), torch.randn(4, 5)
    answers[2, :3] = float("nan")
    answer_loss(predicted, LogitRows(answers, (3, 2)), CenterPerTeacher([3, 2]))["answers"].backward()
    assert (predicted.grad[2, :3] == 0).all()
    assert (predicted.grad[[0, 1, 3], :3] != 0).all()
    assert (predicted.grad[:, 3:] != 0).all()


@pytest.mark.parametrize("constant", [0.0, 4.0])
def test_a_teacher_with_constant_answers_cannot_drown_the_others(constant):
    """All classes alike on every picture: nothing to learn, and no division by nothing."""
    torch.manual_seed(0)
    sizes = [3, 2]
    predicted, answers = torch.randn(6, 5, requires_grad=True), torch.randn(6, 5)
    answers[:, :3] = constant
    loss = answer_loss(predicted, LogitRows(answers, tuple(sizes)), CenterPerTeacher(sizes))["answers"]
    assert loss.item() == pytest.approx(_loss_by_loop(predicted, answers, sizes), rel=1e-4)
    loss.backward()
    assert predicted.grad[:, :3].abs().max() <= predicted.grad[:, 3:].abs().max()


def test_each_teacher_counts_in_units_of_its_own_spread():
    torch.manual_seed(0)
    predicted, answers, center = torch.randn(6, 5), torch.randn(6, 5), CenterPerTeacher([3, 2])
    scale = torch.tensor([100.0] * 3 + [1.0] * 2)
    loud = answer_loss(predicted * scale, _rows(answers * scale, center), center)["answers"].item()
    assert loud == pytest.approx(answer_loss(predicted, _rows(answers, center), center)["answers"].item(), rel=1e-4)


# ---- the embedding


@pytest.mark.parametrize(("sizes", "temperature"), [([4, 4, 4], 1.0), ([2, 5, 3], 1.0), ([3, 3], 2.5)])
def test_inner_products_are_sums_of_bhattacharyya_coefficients(sizes, temperature):
    torch.manual_seed(0)
    logits = 3 * torch.randn(2, sum(sizes))
    embedded = hellinger_embedding(logits, sizes, temperature)
    assert embedded.shape == logits.shape
    expected, start = 0.0, 0
    for size in sizes:
        rows = []
        for row in logits[:, start : start + size].tolist():
            exps = [math.exp(value / temperature) for value in row]
            rows.append([value / sum(exps) for value in exps])
        expected += sum(math.sqrt(p * q) for p, q in zip(*rows, strict=True))
        start += size
    assert (embedded[0] @ embedded[1]).item() == pytest.approx(expected, rel=1e-5)
    lengths = embedded.square().sum(1)
    assert lengths.tolist() == pytest.approx([len(sizes)] * 2, rel=1e-5)  # every teacher has the same say


def test_joint_embedding_gives_every_dimension_the_same_say():
    torch.manual_seed(0)
    answers, features, sizes = 3 * torch.randn(2, 7), 10 * torch.randn(2, 4), [4, 3]
    joint = joint_embedding(answers, features, sizes)
    assert joint.shape == (2, 7 + 4)
    assert torch.allclose(joint.square().sum(1), torch.tensor([7.0 + 4.0] * 2), atol=1e-4)
    coefficient = (hellinger_embedding(answers, sizes)[0] @ hellinger_embedding(answers, sizes)[1]).item() / 2
    cosine = (features[0] @ features[1] / features[0].norm() / features[1].norm()).item()
    assert (joint[0] @ joint[1]).item() == pytest.approx(7 * coefficient + 4 * cosine, rel=1e-4)


# ---- learning


def _distiller(layout, **values):
    torch.manual_seed(0)
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16))
    learner.embedding = Embedding(nn.Linear(learner.backbone_dim, layout.width), layout.sizes)
    config = BellConfig(**{"batch_size": 32, "updates_per_step": 5, "lr": 3e-3, **values})
    return Distiller(learner, layout, config, Precision())


def _memory(layout, pool, count=96, seed=0):
    memory = TaskMemory(1000, sizes=layout.sizes)
    pictures = _pictures(count, seed=seed)
    pictures = (pictures.float() * torch.rand(count, 3, 1, 1)).to(torch.uint8)
    memory.add_pictures(pictures, label(teacher_sources(pool, layout), pictures, layout, Precision()))
    return memory


def test_it_learns_the_teachers_answers_to_pictures_it_never_saw():
    pool = TeacherPool.from_teachers([pico_teacher("conv4", num_classes=n, size=16, seed=n) for n in (3, 4)])
    layout = LogitLayout.of([3, 4])
    distiller = _distiller(layout)
    torch.manual_seed(1)
    memory, held_out = _memory(layout, pool), _memory(layout, pool, 48, seed=1)
    before, first = distiller.score(held_out, 10), distiller.step([], memory, Moment())["answers"]
    for _ in range(12):
        last = distiller.step([], memory, Moment())["answers"]
    assert last < 0.6 * first
    assert distiller.score(held_out, 10) > max(before, -0.9)  # -1: predicting nothing


def test_score_is_minus_the_loss_in_eval_mode_and_changes_nothing():
    pool = TeacherPool.from_teachers([pico_teacher("conv4", num_classes=3, size=16)])
    layout = LogitLayout.of([3])
    distiller = _distiller(layout)
    memory = _memory(layout, pool, 20)
    before = {name: value.clone() for name, value in distiller.learner.state_dict().items()}
    score = distiller.score(memory, 10)
    distiller.learner.eval()
    predicted = distiller.learner.raw_answers(memory.images[:20].float() / 255)
    assert score == pytest.approx(-_loss_by_loop(predicted, memory.said().values.float(), [3]), rel=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in distiller.learner.state_dict().items())
    assert distiller.score(TaskMemory(5, sizes=[3]), 10) == -math.inf  # whatever comes later is better


def test_large_held_out_pictures_are_scored_few_at_a_time():
    distiller, memory, seen = _distiller(LogitLayout.of([3])), TaskMemory(100, sizes=[3]), []
    memory.add_pictures(torch.zeros(100, 3, 224, 224, dtype=torch.uint8), LogitRows(torch.randn(100, 3), (3,)))
    distiller.learner.raw_answers = lambda images: seen.append(len(images)) or torch.zeros(len(images), 3)
    distiller.score(memory, 10)
    assert seen == [41, 41, 18]  # 2.7 GB of a Conv-4 (64 channels) in fp32 where all go at once


def test_rate_scales_the_learning_rate():
    pool = TeacherPool.from_teachers([pico_teacher("conv4", num_classes=3, size=16)])
    layout = LogitLayout.of([3])
    memory = _memory(layout, pool, 40)
    moved = {}
    for rate in (0.0, 0.01, 1.0):
        distiller = _distiller(layout, updates_per_step=1)
        before = distiller.learner.embedding.projection.weight.detach().clone()
        distiller.step([], memory, Moment(rate))
        moved[rate] = (distiller.learner.embedding.projection.weight - before).abs().max().item()
    assert moved[0.0] == 0
    assert moved[1.0] == pytest.approx(100 * moved[0.01], rel=0.05)


def test_student_answers_for_the_teacher_asked():
    distiller = _distiller(LogitLayout.of([3, 4]))
    images = torch.rand(5, 3, 16, 16)
    everything = distiller.learner.raw_answers(images)  # in training mode: the batch's statistics
    before = {name: value.clone() for name, value in distiller.learner.state_dict().items()}
    for mode in (True, False):  # whether a checkpoint was just scored makes no difference
        distiller.learner.train(mode)
        assert torch.allclose(distiller.student(images, 0), everything[:, :3], atol=1e-5)
        assert torch.allclose(distiller.student(images, 1), everything[:, 3:], atol=1e-5)
    distiller.student(torch.full_like(images, torch.nan), 0)
    assert all(torch.equal(value, before[name]) for name, value in distiller.learner.state_dict().items())


def test_student_leads_to_the_pictures_and_not_into_its_own_weights():
    distiller = _distiller(LogitLayout.of([3, 4]))
    images = torch.rand(5, 3, 16, 16, requires_grad=True)
    expected = torch.autograd.grad(distiller.learner.raw_answers(images)[:, :3].square().sum(), images)[0]
    distiller.student(images, 0).square().sum().backward()
    assert torch.allclose(images.grad, expected, rtol=1e-3, atol=1e-6)
    assert all(weight.grad is None and weight.requires_grad for weight in distiller.learner.parameters())


@pytest.mark.parametrize("room", [0, 1, 3])
def test_teachers_are_asked_in_batches_that_fit_into_memory(room):
    easy, other = (pico_teacher("conv4", num_classes=3, size=16, seed=seed) for seed in (1, 2))
    cramped = Teacher(CrampedNetwork(other.network, room), other.record)
    images = torch.randint(256, (9, 3, 16, 16), dtype=torch.uint8)
    layout = LogitLayout.of([3, 3])
    expected = label(
        teacher_sources(TeacherPool.from_teachers([easy, other]), layout), images, layout, Precision()
    ).values
    found = label(
        teacher_sources(TeacherPool.from_teachers([easy, cramped]), layout), images, layout, Precision()
    ).values
    if room == 0:
        assert found[:, 3:].isnan().all()
        found[:, 3:] = expected[:, 3:]
    assert torch.allclose(found, expected, atol=1e-2)


def test_loss_is_the_mean_over_teachers_that_say_something():
    center = CenterPerTeacher([2, 3])
    answers, predicted = torch.randn(5, 5), torch.randn(5, 5)
    alone = answer_loss(predicted[:, :2], LogitRows(answers[:, :2].clone(), (2,)), CenterPerTeacher([2]))["answers"]
    answers[:, 2:] = torch.nan
    assert torch.allclose(answer_loss(predicted, _rows(answers, center), center)["answers"], alone)


# ---- where few teachers were asked


def _asked_some(answers, sizes, asked, seed=0):
    """Rows of some blocks each, and the same as a full row with NaN."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.stack([torch.randperm(len(sizes), generator=generator)[:asked] for _ in answers])
    firsts, full = torch.tensor([0, *sizes]).cumsum(0), torch.full_like(answers, torch.nan)
    values = torch.full((len(answers), row_width(sizes, asked)), -3.0)
    for row, chosen in enumerate(blocks.tolist()):
        columns = torch.cat([torch.arange(firsts[block], firsts[block + 1]) for block in chosen])
        values[row, : len(columns)] = answers[row, columns]
        full[row, columns] = answers[row, columns]
    return LogitRows(values, tuple(sizes), blocks), LogitRows(full, tuple(sizes))


@pytest.mark.parametrize("asked", [1, 2, 4])
def test_the_loss_of_few_answers_is_the_dense_loss(asked):
    torch.manual_seed(0)
    sizes = [3, 2, 5, 2]
    answers, center = 3 * torch.randn(9, 12), CenterPerTeacher(sizes)
    answers[4] = torch.nan
    some, full = _asked_some(answers, sizes, asked)
    gradients, losses = [], []
    for said in (some, full):
        predicted = torch.linspace(-2, 2, 108).view(9, 12).sin().requires_grad_()
        loss = answer_loss(predicted, said, center)["answers"]
        loss.backward()
        losses.append(loss.item())
        gradients.append(predicted.grad)
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[0] == pytest.approx(_loss_by_loop(predicted.detach(), full.values, sizes), rel=1e-5)
    torch.testing.assert_close(gradients[0], gradients[1])
    assert (gradients[0][full.values.isnan()] == 0).all()  # columns of those who were not asked are left alone
    halves = [answer_loss(predicted[p], some[p], center, spread_of=some)["answers"] for p in (slice(5), slice(5, 9))]
    assert sum(half.item() for half in halves) == pytest.approx(losses[0], rel=1e-5)


def test_teachers_that_never_answered_are_found_among_few_answers():
    answers = torch.randn(40, 9)
    answers[:, 3:5] = torch.nan
    some, full = _asked_some(answers, [3, 2, 4], 2)
    layout = LogitLayout.of([3, 2, 4])
    assert unanswered_teachers(layout, some) == unanswered_teachers(layout, full) == [1]


# ---- in parts


def _one_update(at_once, backbone="test_vit"):
    """The gradients of one update on 11 pictures, and its loss."""
    torch.manual_seed(0)
    layout = LogitLayout.of([3, 4])
    learner = MetaLearner(LearnerConfig(backbone=backbone, image_size=32))
    learner.embedding = Embedding(nn.Linear(learner.backbone_dim, layout.width), layout.sizes)
    distiller = Distiller(learner, layout, BellConfig(batch_size=11), Precision())
    learner.train()
    answers = torch.randn(11, layout.width)
    answers[2, :3] = torch.nan
    answers[:, 3:] *= 10
    loss = distiller.update(Sample(_pictures(11, 32), LogitRows(answers, (3, 4))), Moment(at_once=at_once))
    return loss, [p.grad.clone() for p in learner.parameters() if p.grad is not None]


@pytest.mark.parametrize("at_once", [2, 3, 5, 10])
def test_gradients_of_parts_add_up_to_the_batch_without_batchnorm(at_once):
    whole, parts = _one_update(None), _one_update(at_once)
    assert torch.allclose(whole[0], parts[0], rtol=1e-5)
    for one, other in zip(whole[1], parts[1], strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-6 + 1e-4 * one.abs().max())


def test_a_batch_that_fits_is_one_part():
    whole, same, parts = (_one_update(n, backbone="conv4_32") for n in (None, 11, 4))
    assert torch.equal(whole[0], same[0])
    assert all(torch.equal(one, other) for one, other in zip(whole[1], same[1], strict=True))
    assert torch.isfinite(parts[0])  # BatchNorm normalizes each part by itself
    assert not torch.equal(whole[0], parts[0])


@pytest.mark.parametrize(
    ("count", "most", "sizes"),
    [(8, None, [8]), (8, 8, [8]), (8, 3, [3, 3, 2]), (3, 2, [3]), (5, 2, [3, 2]), (2, 1, [2]), (7, 1, [3, 2, 2])],
)
def test_parts_are_nearly_equal_and_nobody_is_alone(count, most, sizes):
    assert [len(part) for part in torch.zeros(count).tensor_split(number_of_parts(count, most))] == sizes


def test_what_stops_an_update_leaves_the_weights_as_they_were():
    layout = LogitLayout.of([3])
    distiller = _distiller(layout)
    distiller.learner.train()
    before = [p.clone() for p in distiller.learner.parameters()]
    calls = []

    def stop_at_the_third():
        calls.append(None)
        if len(calls) == 3:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        distiller.update(
            Sample(_pictures(16), LogitRows(torch.randn(16, 3), (3,))), Moment(pause=stop_at_the_third, at_once=4)
        )
    assert all(torch.equal(one, other) for one, other in zip(before, distiller.learner.parameters(), strict=True))


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_asking_in_batches_changes_nothing(batch):
    pool = TeacherPool.from_teachers([pico_teacher(kind, num_classes=3, size=16) for kind in ("conv4", "resnet")])
    layout, pictures = LogitLayout.of([3, 3]), _pictures(7)
    whole = label(teacher_sources(pool, layout), pictures, layout, Precision()).values
    parts = label(teacher_sources(pool, layout), pictures, layout, Precision(), batch=batch)
    assert torch.allclose(parts.values, whole, rtol=2e-3, atol=2e-3)


def _learning(precision=None, **bell):
    """A distiller of one Conv-4, a batch for it, and its weights as one vector."""
    torch.manual_seed(0)
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16))
    learner.embedding = Embedding(nn.Linear(learner.backbone_dim, 7), [3, 4])
    layout = LogitLayout.of([3, 4])
    distiller = Distiller(learner, layout, BellConfig(batch_size=12, **bell), precision or Precision())
    learner.train()
    answers = torch.randn(12, 7, generator=torch.Generator().manual_seed(1))
    sample = Sample(_pictures(12), LogitRows(answers, (3, 4)))
    return distiller, sample, lambda: torch.cat([p.detach().flatten() for p in learner.parameters()])


def test_accumulated_gradients_are_those_of_as_many_passes():
    moved, passes = {}, []
    for name, bell, moment in (
        ("accumulated", {"gradient_accumulation_steps": 3}, Moment(pause=lambda: passes.append(None))),
        ("in parts", {}, Moment(at_once=4)),
        ("whole", {}, Moment()),
        ("more than there are pictures", {"gradient_accumulation_steps": 1000}, Moment()),
    ):
        distiller, sample, weights = _learning(**bell)
        distiller.update(sample, moment)
        moved[name] = weights()
    assert len(passes) == 3
    assert torch.equal(moved["accumulated"], moved["in parts"])
    assert not torch.equal(moved["accumulated"], moved["whole"])
    assert moved["more than there are pictures"].isfinite().all()  # two pictures a pass at least


def test_where_memory_runs_out_passes_become_smaller_for_good(caplog):
    distiller, sample, weights = _learning()
    whole = distiller.learner.backbone
    distiller.learner.backbone = CrampedNetwork(whole, 5)
    passes = []
    distiller.update(sample, Moment(pause=lambda: passes.append(None)))
    assert len(passes) == 1 + 1 + 4  # 12 and 6 did not fit, three did
    assert caplog.messages == [f"memory ran out: the learner takes {n} pictures at once from here on" for n in (6, 3)]
    found = weights()
    distiller.update(sample, Moment(pause=lambda: passes.append(None)))
    assert len(passes) == 6 + 4
    expected, sample, weights = _learning(gradient_accumulation_steps=4)
    expected.update(sample)
    assert torch.equal(found, weights())


def test_memory_that_is_too_small_for_two_pictures_is_an_error():
    distiller, sample, _ = _learning()
    distiller.learner.backbone = CrampedNetwork(distiller.learner.backbone, 1)
    with pytest.raises(RuntimeError, match="allocate"):
        distiller.update(sample)


def test_fp16_learns_what_fp32_learns():
    moved = {}
    for name in ("fp16", "fp32"):
        distiller, sample, weights = _learning(Precision(torch.float16) if name == "fp16" else None, matrix_lr=0)
        begun = weights()
        for _ in range(3):
            distiller.update(sample)
        moved[name] = weights() - begun
    assert torch.nn.functional.cosine_similarity(moved["fp16"], moved["fp32"], dim=0) > 0.95


def test_fp16_leaves_out_what_overflows_and_goes_on_with_a_smaller_factor():
    distiller, sample, weights = _learning(Precision(torch.float16))
    distiller.load_tensors({"loss_scale": torch.tensor([2.0**40, 0.0])})
    begun = weights()
    distiller.update(sample)
    assert torch.equal(weights(), begun)
    assert distiller.tensors()["loss_scale"].tolist() == [2.0**39, 0.0]
    distiller.load_tensors({"loss_scale": torch.tensor([2.0**10, 5.0])})
    distiller.update(sample)
    assert not torch.equal(weights(), begun)
    assert distiller.tensors()["loss_scale"].tolist() == [2.0**10, 6.0]


def test_the_gradient_of_an_update_is_clipped():
    distiller, sample, _ = _learning(max_grad_norm=1e-6, matrix_lr=0)
    distiller.update(sample)
    norms = torch.stack([p.grad.norm() for p in distiller.learner.parameters() if p.grad is not None])
    assert norms.norm().item() == pytest.approx(1e-6, rel=1e-3)
