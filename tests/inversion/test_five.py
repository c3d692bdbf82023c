"""FIVE: the inner loop and the outer gradient by hand, each defect, every kind of teacher, and that it meta-learns."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from pico import KINDS, pico_teacher
from torch import nn

from hf_free.config.recipes import Defects
from hf_free.config.sections import INVERSION_TERMS, BellConfig, FiveConfig, LearnerConfig
from hf_free.config.tree import FreeConfig
from hf_free.data.logits import LogitLayout
from hf_free.errors import ConfigError, RunError
from hf_free.inversion.base import targets_for
from hf_free.inversion.batchnorm_statistics import statistics_distance
from hf_free.inversion.five import Five, invert_teacher
from hf_free.inversion.losses import cross_entropy, disagreement, similarity_hinge, total_variation
from hf_free.inversion.task import finish_task
from hf_free.learner.batchnorm import batchnorm_layers
from hf_free.learner.embedding import Embedding
from hf_free.learner.meta_learner import MetaLearner
from hf_free.metalearning.distill import Distiller
from hf_free.runtime.device import Precision
from hf_free.runtime.random_streams import RandomStreams
from hf_free.teachers.teacher import Teacher
from hf_free.training.folder import RunFolder

SMALL = {"latent_dim": 8, "width": 4, "images_per_class": 3, "max_classes": 20}
PLAIN = {**SMALL, "augment": False, "canvas": False}
"""Without randomness beyond the latents."""


def _five(image_size=16, *, channels=3, seed=0, defects=(), **values):
    torch.manual_seed(seed)
    return Five(
        FiveConfig(**{**SMALL, **values}), image_size=image_size, channels=channels, defects=Defects.named(defects)
    )


def _nan_teacher(**options):
    teacher = pico_teacher("conv4", **options)
    with torch.no_grad():
        teacher.network.get_classifier().weight.fill_(float("nan"))
    return teacher


# ---- the inner loop by hand


class ByHand:
    """The inner loop in plain words: Adam written out, one gradient kept a step."""

    def __init__(self, five, teacher, seed):
        config = five.config
        torch.manual_seed(seed)
        generator = copy.deepcopy(five.generator)
        count = teacher.record.num_classes
        labels = torch.tensor([i % count for i in range(count * config.images_per_class)])
        latents = torch.randn(len(labels), config.latent_dim, requires_grad=True)
        tensors = [*generator.parameters(), latents]
        rates = [config.inner_lr] * (len(tensors) - 1) + [config.latent_lr]
        first, second = ([torch.zeros_like(t) for t in tensors] for _ in range(2))
        self.gradients, self.losses = [], []
        for step in range(1, config.inner_steps + 1):
            self.before_last = generator(latents, labels)
            recognition, statistics = self._losses(self.before_last, labels, teacher)
            with torch.no_grad():
                likely = teacher.logits(self.before_last).softmax(1).gather(1, labels[:, None])
                share = likely.log().mean().exp() if config.recognition_first else 1.0
            loss = config.cross_entropy * recognition + config.batchnorm * share * statistics
            gradients = torch.autograd.grad(loss, tensors)
            self.gradients.append(gradients[:-1])
            self.losses.append((recognition.item(), statistics.item()))
            with torch.no_grad():
                for i, (tensor, gradient) in enumerate(zip(tensors, gradients, strict=True)):
                    first[i] = 0.5 * first[i] + (1 - 0.5) * gradient
                    second[i] = 0.999 * second[i] + (1 - 0.999) * gradient**2
                    mean, square = first[i] / (1 - 0.5**step), second[i] / (1 - 0.999**step)
                    tensor -= rates[i] * mean / (square.sqrt() + 1e-8)
        self.pictures = generator(latents, labels).detach()

    @staticmethod
    def _losses(pictures, labels, teacher):
        recognition = cross_entropy(teacher.logits(pictures), labels)
        inputs = []
        layers = teacher.batchnorm_layers()
        handles = [layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0])) for layer in layers]
        teacher.logits(pictures)
        for handle in handles:
            handle.remove()
        distances = [
            statistics_distance(x, layer.running_mean, layer.running_var)
            for x, layer in zip(inputs, layers, strict=True)
        ]
        return recognition, sum(distances) / len(distances)


def _adapted(five, teacher, seed):
    gradients = [torch.zeros_like(p) for p in five.generator.parameters()]
    torch.manual_seed(seed)
    pictures, wanted, terms = five.adapt(teacher, gradients=gradients)
    return pictures, wanted, terms, gradients


def _assert_close(found, expected):
    for one, other in zip(found, expected, strict=True):
        scale = other.abs().max().clamp_min(1e-6)
        assert (one - other).abs().max() < 1e-3 * scale


BY_HAND = {**PLAIN, "inner_steps": 3, "batchnorm": 0.7, "total_variation": 0.3, "cross_entropy": 1.5}
"""The total variation is for teachers without BatchNorm, so it does not count here."""


@pytest.mark.parametrize("recognition_first", [True, False])
def test_outer_gradient_is_the_sum_of_the_inner_gradients(recognition_first):
    five = _five(**BY_HAND, recognition_first=recognition_first)
    teacher = pico_teacher("conv4", size=16)
    before = copy.deepcopy(five.generator.state_dict())
    pictures, wanted, terms, gradients = _adapted(five, teacher, seed=3)
    hand = ByHand(five, teacher, seed=3)
    _assert_close(gradients, [sum(step) for step in zip(*hand.gradients, strict=True)])
    assert (pictures - hand.pictures).abs().max() < 1e-4
    found = (terms["cross_entropy"].item(), terms["batchnorm"].item())  # as they are, whatever they weighed
    assert found == pytest.approx(hand.losses[-1], rel=1e-4)
    assert wanted.classes == (0, 1, 2, 3, 4)
    assert wanted.labels.tolist() == [0, 1, 2, 3, 4] * 3
    # the inner loop leaves the meta-generator where it was
    assert all(torch.equal(value, before[name]) for name, value in five.generator.state_dict().items())


def test_last_step_gradient_only():
    five, teacher = _five(**BY_HAND, defects=["last_step_gradient_only"]), pico_teacher("conv4", size=16)
    pictures, _, _, gradients = _adapted(five, teacher, seed=3)
    hand = ByHand(five, teacher, seed=3)
    _assert_close(gradients, hand.gradients[-1])
    assert (pictures - hand.pictures).abs().max() < 1e-4  # the inner loop itself is the same


def test_images_before_last_step():
    teacher = pico_teacher("conv4", size=16)
    released = _five(**BY_HAND, defects=["images_before_last_step"])
    pictures, *_ = _adapted(released, teacher, seed=3)
    hand = ByHand(released, teacher, seed=3)
    assert (pictures - hand.before_last).abs().max() < 1e-4
    assert (pictures - hand.pictures).abs().max() > 1e-3


def test_latents_of_rate_zero_stay_and_more_steps_reach_a_lower_loss():
    five, teacher = _five(**PLAIN, latent_lr=0.0, batchnorm=0.0), pico_teacher("conv4", size=16)
    losses = []
    for steps in (1, 10, 40):
        torch.manual_seed(1)
        _, _, terms = five.adapt(teacher, steps=steps)
        losses.append(terms["cross_entropy"].item())
    assert losses[0] > losses[1] > losses[2]
    hand = ByHand(_five(**BY_HAND, latent_lr=0.0), teacher, seed=3)
    pictures, *_ = _adapted(_five(**BY_HAND, latent_lr=0.0), teacher, seed=3)
    assert (pictures - hand.pictures).abs().max() < 1e-4


# ---- the outer step


def _outer_moves(steps, **options):
    """How each weight of the meta-generator moves in the last of some outer steps, and its gradient there."""
    five, teachers = _five(**PLAIN, inner_steps=1, **options), [pico_teacher("conv4", size=16, seed=s) for s in (1, 2)]
    for step in range(steps):
        torch.manual_seed(step)
        gradients = [torch.zeros_like(p) for p in five.generator.parameters()]
        for index, teacher in enumerate(teachers):
            five.adapt(teacher, index, gradients=gradients)
        before = [p.detach().clone() for p in five.generator.parameters()]
        torch.manual_seed(step)
        five.step(list(enumerate(teachers)))
    after = five.generator.parameters()
    moves = torch.cat([(new.detach() - old).flatten() for new, old in zip(after, before, strict=True)])
    gradient = torch.cat([g.flatten() for g in gradients])
    large = gradient.abs() > 1e-5  # away from Adam's epsilon
    assert large.float().mean() > 0.5
    return moves[large], gradient[large]


def test_first_outer_step_is_one_adam_step_on_the_summed_gradients():
    moves, gradient = _outer_moves(1, outer_lr=1e-2)
    assert torch.allclose(moves, -1e-2 * gradient.sign(), rtol=0.01, atol=0)


def test_outer_optimizer_reborn_steps_by_the_sign_for_ever():
    moves, gradient = _outer_moves(4, outer_lr=1e-2, defects=["outer_optimizer_reborn"])
    assert torch.allclose(moves, -1e-2 * gradient.sign(), rtol=0.01, atol=0)
    mended, gradient = _outer_moves(4, outer_lr=1e-2)
    as_signs = torch.isclose(mended, -1e-2 * gradient.sign(), rtol=0.01, atol=0)
    assert as_signs.float().mean() < 0.2  # one Adam for the run remembers


def test_outer_step_logs_the_mean_terms_of_the_last_inner_step():
    teachers = [pico_teacher("conv4", size=16, seed=1), pico_teacher("vit", size=16, seed=2)]
    five = _five(**PLAIN, inner_steps=2)
    torch.manual_seed(0)
    alone = [five.adapt(teacher, index)[2] for index, teacher in enumerate(teachers)]
    torch.manual_seed(0)
    tasks, means = five.step(list(enumerate(teachers)))
    both = (alone[0]["cross_entropy"] + alone[1]["cross_entropy"]).item() / 2
    assert means["cross_entropy"] == pytest.approx(both, rel=1e-4)
    assert means["batchnorm"] == pytest.approx(alone[0]["batchnorm"].item(), rel=1e-4)  # only one teacher has it
    assert [task.teacher for task in tasks] == [0, 1]


def test_state_goes_on_where_it_was_saved():
    teacher = pico_teacher("conv4", size=16)

    def one_step(five):
        torch.manual_seed(9)
        five.step([(0, teacher)])
        return torch.cat([p.detach().flatten() for p in five.generator.parameters()])

    five = _five()
    one_step(five)
    saved = copy.deepcopy(five.state_dict())
    other = _five(seed=5)
    other.load_state_dict(saved)
    assert torch.equal(one_step(five), one_step(other))


def test_a_teacher_gone_wrong_does_not_poison_the_others():
    good, bad = pico_teacher("conv4", size=16), _nan_teacher(size=16)
    five = _five()
    before = [p.detach().clone() for p in five.generator.parameters()]
    _, nothing = five.step([(0, bad)])
    assert nothing == {}
    assert all(torch.equal(old, new) for old, new in zip(before, five.generator.parameters(), strict=True))
    tasks, terms = five.step([(0, bad), (1, good), (0, bad)])
    assert "not finite" in tasks[0].health.reason_to_leave_out(0.0)
    assert tasks[1].health.reason_to_leave_out(0.0) is None
    assert all(value == value for value in terms.values())
    after = list(five.generator.parameters())
    assert all(torch.isfinite(new).all() for new in after)
    assert not any(torch.equal(old, new) for old, new in zip(before, after, strict=True))


# ---- the adversarial term


class Student(nn.Module):
    """A student whose answers depend on the pictures and on a weight of its own."""

    def __init__(self, classes=5):
        super().__init__()
        torch.manual_seed(11)
        self.linear = nn.Linear(3, classes)
        self.asked = []

    def forward(self, images, teacher):
        self.asked.append(teacher)
        return 5 * self.linear(images.mean((2, 3)))


def _adversarial(defects=()):
    teacher, student = pico_teacher("conv4", size=16), Student()
    five = _five(**PLAIN, defects=defects)
    torch.manual_seed(0)
    pictures = torch.rand(40, 3, 16, 16, requires_grad=True)
    wanted = targets_for(teacher, five.task_size(teacher), five.device)
    term = five.loss.terms(pictures, wanted._replace(labels=torch.arange(40) % 5), teacher, 7, student)["adversarial"]
    term.backward()
    assert student.asked == [7]
    return term.item(), pictures, teacher.logits(pictures), student(pictures, 7), student


def test_adversarial_term_goes_through_teacher_and_student():
    value, pictures, t, s, student = _adversarial()
    assert value == pytest.approx(disagreement(t, s).item(), rel=1e-5)
    assert value < 0
    expected = torch.autograd.grad(disagreement(t, s), pictures)[0]
    assert (pictures.grad - expected).abs().max() < 1e-3 * expected.abs().max()
    assert student.linear.weight.grad.abs().sum() > 0


def test_divergence_of_probabilities_stops_at_the_student():
    value, pictures, t, s, student = _adversarial(["divergence_of_probabilities"])
    released = disagreement(t, s.detach(), of_probabilities=True)
    assert value == pytest.approx(released.item(), rel=1e-5)
    expected = torch.autograd.grad(released, pictures)[0]
    assert (pictures.grad - expected).abs().max() < 1e-3 * expected.abs().max()
    assert student.linear.weight.grad is None


def test_adversarial_term_is_left_out_where_the_student_does_not_know_the_classes():
    five = _five(max_classes=3)
    _, _, terms = five.adapt(pico_teacher("conv4", size=16), student=Student())
    assert "adversarial" not in terms  # a subset of the head
    _, _, terms = _five().adapt(pico_teacher("conv4", size=16, num_classes=7), student=Student(5))
    assert "adversarial" not in terms  # the student answers for fewer classes than the teacher has
    _, _, terms = _five(adversarial=0.0).adapt(pico_teacher("conv4", size=16), student=Student())
    assert "adversarial" not in terms
    _, _, terms = _five().adapt(pico_teacher("conv4", size=16, num_classes=3), student=Student(5))
    assert "adversarial" in terms  # the shared head's first three


# ---- priors


def _terms(teacher, *, donor=None, **values):
    """The loss terms for random pictures, the pictures, and what they are asked for."""
    five = _five(**{**PLAIN, **values})
    torch.manual_seed(4)
    pictures, wanted = (
        torch.rand(15, 3, 16, 16, requires_grad=True),
        targets_for(teacher, five.task_size(teacher), five.device),
    )
    return five.loss.terms(pictures, wanted, teacher, donor=donor), pictures, wanted


PRIORS = {"total_variation": 0.1, "feature_norm": 0.2, "donor_batchnorm": 0.3}


@pytest.mark.parametrize("kind", ["vit", "convnext", "groupnorm"])
def test_priors_stand_in_where_there_is_no_batchnorm(kind):
    teacher, donor = pico_teacher(kind), pico_teacher("resnet", seed=5)
    terms, pictures, _ = _terms(teacher, donor=donor, **PRIORS)
    assert set(terms) == {"cross_entropy", *PRIORS}
    assert terms["total_variation"].item() == pytest.approx(total_variation(pictures).item())
    assert terms["feature_norm"].item() == pytest.approx(-teacher.features(pictures).abs().mean().item(), rel=1e-5)
    own, _, _ = _terms(donor, **PRIORS)  # what the donor's own inversion would count
    assert terms["donor_batchnorm"].item() == pytest.approx(own["batchnorm"].item(), rel=1e-5)
    for name in PRIORS:
        gradient = torch.autograd.grad(terms[name], pictures, retain_graph=True)[0]
        assert gradient.abs().sum() > 0, name
    assert not any(m._forward_pre_hooks for m in donor.network.modules())
    assert "donor_batchnorm" not in _terms(teacher, **PRIORS)[0]  # nobody lends


def test_teachers_with_batchnorm_need_no_substitute():
    terms, _, _ = _terms(pico_teacher("conv4", size=16), donor=pico_teacher("resnet"), **PRIORS)
    assert set(terms) == {"cross_entropy", "batchnorm"}


def test_outer_step_lends_to_the_teachers_without_batchnorm():
    teachers = [pico_teacher("conv4", size=16, seed=1), pico_teacher("vit", size=16, seed=2)]
    donor, seen = pico_teacher("resnet", seed=5), []
    handle = donor.network.register_forward_hook(lambda *_: seen.append(1))
    five = _five(inner_steps=3, donor_batchnorm=1.0)
    _, means = five.step(list(enumerate(teachers)), donor=donor)
    handle.remove()
    assert len(seen) == 3  # once an inner step of the ViT, never for the Conv-4
    assert means["donor_batchnorm"] > 0


@pytest.mark.parametrize("kind", ["conv4", "vit"])
def test_the_similarity_hinge_is_on_the_teachers_features(kind):
    teacher = pico_teacher(kind, size=16)
    terms, pictures, wanted = _terms(teacher, similarity_hinge=0.5, similarity_margin=0.9)
    expected = similarity_hinge(teacher.features(pictures), wanted.labels, 0.9)
    assert terms["similarity_hinge"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert torch.autograd.grad(terms["similarity_hinge"], pictures)[0].abs().sum() > 0


def test_the_similarity_hinge_keeps_the_pictures_of_a_class_apart():
    teacher = pico_teacher("conv4", size=16)
    distances = []
    for weight in (0.0, 100.0):
        five = _five(**PLAIN, similarity_hinge=weight, similarity_margin=1.0)
        torch.manual_seed(1)
        images, wanted, _ = five.adapt(teacher, steps=40)
        distances.append(finish_task(images, wanted.labels, wanted.classes, teacher, 0).health.diversity)
    assert distances[1] > 1.5 * distances[0]


def test_canvas_distance_keeps_pictures_near_their_canvas():
    found = {}
    for weight in (0.0, 100.0):
        torch.manual_seed(0)
        five = _five(**{**SMALL, "augment": False}, inner_steps=20, inner_lr=0.02, canvas_distance=weight)
        canvases = []
        draw = five._canvas
        five._canvas = lambda *given, draw=draw, seen=canvases: seen.append(draw(*given)) or seen[0]
        pictures, _, terms = five.adapt(pico_teacher("conv4", size=16))
        found[weight] = (pictures - canvases[0]).square().mean().item()
        assert ("canvas_distance" in terms) == bool(weight)
    assert found[100.0] < 0.5 * found[0.0]


def test_a_teacher_without_any_term_of_its_own_leaves_the_generator_where_it_is():
    five = _five(**PLAIN, cross_entropy=0.0, adversarial=0.0, batchnorm=1.0)
    gradients = [torch.zeros_like(p) for p in five.generator.parameters()]
    five.adapt(pico_teacher("vit", size=16), gradients=gradients)
    assert not any(gradient.any() for gradient in gradients)


def test_all_weights_0_are_refused():
    nothing = dict.fromkeys(INVERSION_TERMS, 0.0)
    with pytest.raises(ConfigError, match=r"values of five .*\n.*at least one weight of the inversion loss above 0"):
        FreeConfig.from_dict({"five": nothing})
    for name in INVERSION_TERMS:
        FreeConfig.from_dict({"five": {**nothing, name: 0.1}})


# ---- more than there is


class Huge(nn.Module):
    """Asks for a petabyte when it is shown more pictures at once than it can bear."""

    def __init__(self, network, bears=0):
        super().__init__()
        self.network, self.bears = network, bears

    def forward(self, x):
        if len(x) > self.bears:
            torch.empty(2**50, dtype=torch.uint8, device=x.device)
        return self.network(x)


def huge_teacher(bears=0, **options):
    teacher = pico_teacher("conv4", size=16, **options)
    return Teacher(Huge(teacher.network, bears), teacher.record)


def test_a_teacher_that_needs_too_much_memory_is_named_and_the_others_go_on():
    good, huge = pico_teacher("conv4", size=16), huge_teacher()
    tasks, terms = _five().step([(3, huge), (1, good), (2, huge)])
    assert [task.teacher for task in tasks] == [3, 1, 2]
    assert tasks[0].health.reason_to_leave_out(0.0) == "its inversion needs more memory than there is"
    assert len(tasks[0].images) == 0
    assert tasks[1].health.reason_to_leave_out(0.0) is None
    assert terms["cross_entropy"] > 0


def test_a_donor_that_needs_too_much_memory_is_done_without():
    teacher = pico_teacher("vit", size=16)
    (task,), terms = _five(donor_batchnorm=1.0).step([(0, teacher)], donor=huge_teacher())
    assert task.health.problem is None
    assert "donor_batchnorm" not in terms
    assert terms["cross_entropy"] > 0


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("out of luck")

    teacher = pico_teacher("conv4", size=16)
    broken = Teacher(nn.Sequential(teacher.network, Broken()), teacher.record)
    with pytest.raises(RuntimeError, match="out of luck"):
        _five().step([(0, broken)])


# ---- every kind of teacher


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_of_teacher_stays_as_it_is(kind):
    teacher = pico_teacher(kind)
    before = copy.deepcopy(teacher.network.state_dict())
    tasks, means = _five(inner_steps=2).step([(0, teacher)])
    after = teacher.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(m.training for m in teacher.network.modules())
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in teacher.network.modules())
    assert all(p.grad is None for p in teacher.network.parameters())
    assert ("batchnorm" in means) == teacher.record.has_batchnorm == (kind in ("conv4", "resnet", "mobilenet"))
    assert tasks[0].images.shape == (15, 3, 16, 16)
    assert tasks[0].health.reason_to_leave_out(0.0) is None


@pytest.mark.parametrize(
    ("options", "channels"),
    [
        ({"size": 48}, 3),
        ({"size": 16}, 3),
        ({"in_chans": 1}, 3),
        ({"in_chans": 1}, 1),
        ({"in_chans": 3}, 1),
        ({"num_classes": 2}, 3),
    ],
)
def test_teachers_of_other_sizes_channels_and_classes(options, channels):
    teacher = pico_teacher("conv4", **options)
    five = _five(24, channels=channels, augment=False, canvas=False, batchnorm=0.0)
    (task,), _ = five.step([(4, teacher)])
    assert task.images.shape == (3 * teacher.record.num_classes, channels, 24, 24)
    assert task.images.dtype == torch.uint8
    assert task.soft_labels.shape == (len(task.images), teacher.record.num_classes)
    assert task.teacher == 4
    losses = []
    for steps in (1, 30):
        torch.manual_seed(0)
        losses.append(five.adapt(teacher, steps=steps)[2]["cross_entropy"].item())
    assert losses[1] < losses[0] - 0.05  # gradients come through the resize


def test_large_head_is_sampled_by_subsets():
    teacher = pico_teacher("conv4", size=16, num_classes=1000)
    five = _five(inner_steps=1, max_classes=6)
    subsets = set()
    for _ in range(3):
        (task,), _ = five.step([(0, teacher)])
        assert len(task.classes) == 6
        assert list(task.classes) == sorted(set(task.classes))
        assert task.classes[0] >= 0
        assert task.classes[-1] < 1000
        assert sorted(task.labels.tolist()) == sorted(list(range(6)) * 3)
        subsets.add(task.classes)
        logits = teacher.logits(task.images.float() / 255)[:, list(task.classes)]
        assert torch.allclose(task.soft_labels, logits.softmax(1), atol=1e-5)
    assert len(subsets) == 3


def test_a_head_of_21841_classes():
    """ImageNet-21k's head: a task of a few of its classes, and no picture of any other."""
    teacher = pico_teacher("conv4", size=16, num_classes=21_841)
    five = _five(inner_steps=3, max_classes=4, batchnorm=1.0, canvas_distance=0.0)
    (task,), terms = five.step([(0, teacher)])
    assert len(task.classes) == 4
    assert max(task.classes) > 100
    assert task.soft_labels.shape == (12, 4)
    logits = teacher.logits(task.images.float() / 255)[:, list(task.classes)]
    assert torch.allclose(task.soft_labels, logits.softmax(1), atol=1e-5)
    # cross-entropy among the four classes, not among 21,841, where it would be about log 21841 = 10
    assert terms["cross_entropy"] < 5
    five.step([(0, teacher)], Student(64))  # the learner predicts a part of the head: no adversarial term
    losses = []
    for steps in (1, 30):
        torch.manual_seed(0)
        losses.append(five.adapt(teacher, steps=steps)[2]["cross_entropy"].item())
    assert losses[1] < losses[0] - 0.05


def test_bf16_recovers_as_well():
    torch.manual_seed(0)
    five = Five(FiveConfig(**SMALL), image_size=16, precision=Precision(torch.bfloat16))
    (task,), means = five.step([(0, pico_teacher("conv4", size=16))])
    assert all(value == value for value in means.values())
    assert task.health.reason_to_leave_out(0.0) is None
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in five.generator.parameters())


# ---- the recovered task


# ---- it learns to invert


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
def test_five_steps_reach_further_on_held_out_teachers_after_meta_training(seed):
    """FIVE's reason to exist; every held-out teacher, latents drawn twice."""
    held_out = [pico_teacher("conv4", seed=seed, size=16) for seed in (100, 101, 102)]
    teachers = [pico_teacher("conv4", seed=seed, size=16) for seed in range(6)]
    values = {"latent_dim": 16, "width": 8, "images_per_class": 4, "augment": False, "canvas": False}

    def losses(five):
        reached = []
        for teacher in held_out:
            for draw in range(2):
                torch.manual_seed(draw)
                pictures, wanted, _ = five.adapt(teacher)
                reached.append(sum(five.loss.terms(pictures, wanted, teacher).values()).item())
        return torch.tensor(reached)

    five = _five(seed=seed, **values)
    fresh = losses(five)
    torch.manual_seed(seed)
    for _ in range(15):
        five.step([(i, teachers[i]) for i in torch.randperm(6)[:3].tolist()])
    assert (losses(five) < fresh - 0.05).all()


# ---- inverting one teacher


def test_invert_teacher_is_fixed_by_its_seed():
    teacher, config = pico_teacher("conv4", size=16), FiveConfig(**SMALL)
    first, again, other = (
        invert_teacher(teacher, steps=2, images_per_class=4, seed=seed, config=config) for seed in (1, 1, 2)
    )
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    assert first.images.shape == (20, 3, 16, 16)


def test_invert_teacher_starts_from_a_runs_generator(tmp_path):
    from safetensors.torch import save_file

    teacher = pico_teacher("conv4", size=16)
    settings = FreeConfig.from_dict({"five": {**PLAIN, "batchnorm": 1.0}, "learner": {"image_size": 16}})
    torch.manual_seed(0)
    five = Five(settings.five, image_size=16)
    run = RunFolder(tmp_path)
    run.write_text(run.config, settings.to_yaml())
    for _ in range(20):
        five.step([(0, teacher)])
    save_file({k: v.contiguous() for k, v in five.generator.state_dict().items()}, run.generator)
    trained = invert_teacher(teacher, steps=1, images_per_class=4, generator=run.read_generator())
    fresh = invert_teacher(teacher, steps=1, images_per_class=4, config=settings.five)
    assert trained.health.loss < fresh.health.loss
    assert trained.images.shape == (20, 3, 16, 16)
    run.write_text(run.config, FreeConfig().to_yaml())
    with pytest.raises(RunError, match=r"does not fit its run's configuration: its weights are of other sizes"):
        invert_teacher(teacher, steps=1, images_per_class=4, generator=run.read_generator())
    run.generator.write_bytes(run.generator.read_bytes()[:-1])
    with pytest.raises(RunError, match=r"generator\.safetensors is damaged"):
        run.read_generator()


def test_a_folder_without_a_generator_is_refused(tmp_path):
    with pytest.raises(RunError, match="holds no meta-generator"):
        RunFolder(tmp_path).read_generator()


# ---- short of memory, or of time


def test_an_inversion_of_fewer_pictures_keeps_the_classes():
    five, teacher = _five(images_per_class=6), pico_teacher("conv4", num_classes=5, size=16)
    assert len(five.adapt(teacher)[0]) == 30
    five.most_images = 17
    pictures, wanted, _ = five.adapt(teacher)
    assert len(pictures) == 15
    assert torch.bincount(wanted.labels).tolist() == [3] * 5
    five.most_images = 6
    pictures, wanted, _ = five.adapt(teacher)
    assert (len(pictures), len(wanted.classes)) == (6, 3)


@pytest.mark.parametrize("calls", [1, 3, 4])
def test_what_stops_an_outer_step_leaves_the_generator_where_it_was(calls):
    five = _five(inner_steps=2)
    teachers = [(i, pico_teacher("conv4", size=16, seed=i)) for i in range(2)]
    before, seen = copy.deepcopy(five.generator.state_dict()), []

    def stop():
        seen.append(None)
        if len(seen) == calls:
            raise TimeoutError

    five.pause = stop
    with pytest.raises(TimeoutError):
        five.step(teachers)
    assert len(seen) == calls  # within one inner step
    assert all(torch.equal(before[name], value) for name, value in five.generator.state_dict().items())
    assert not five.optimizer.state


# ---- several teachers at once


def _beside(at_once, teachers, student=None, precision=None):
    """Two steps: what was recovered, and the generator's weights."""
    streams, config = RandomStreams(0), FiveConfig(**SMALL, inner_steps=2, canvas=False)
    five = Five(config, image_size=16, streams=streams, precision=Precision(precision))
    five.at_once, found = at_once, []
    for step in (1, 2):
        streams.begin(step)
        tasks, terms = five.step(list(enumerate(teachers)), student)
        found += [task.images for task in tasks] + [torch.tensor(list(terms.values()))]
    return [*found, *five.generator.parameters()]


@pytest.fixture
def threads():
    """Sets how many torch computes with, for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_teachers_inverted_at_once_give_what_they_give_in_turn(threads, precision):
    teachers = [pico_teacher("conv4", size=16, num_classes=3, seed=seed) for seed in range(3)]
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16))
    layout = LogitLayout.of([3] * 3)
    learner.embedding = Embedding(nn.Linear(learner.backbone_dim, layout.width), layout.sizes)
    distiller = Distiller(learner, layout, BellConfig(), Precision(precision))
    assert distiller.answers_beside
    threads(1)
    in_turn = _beside(1, teachers, distiller.student, precision)
    before = copy.deepcopy(learner.state_dict())
    threads(2)
    at_once = _beside(2, teachers, distiller.student, precision)
    assert all(torch.equal(*pair) for pair in zip(in_turn, at_once, strict=True))
    assert all(torch.equal(before[name], value) for name, value in learner.state_dict().items())
    assert all(layer.track_running_stats for layer in batchnorm_layers(learner))
    assert all(weight.requires_grad for weight in learner.parameters())


def test_threads_are_used_only_where_teachers_do_not_meet(threads):
    threads(2)
    seen = set()

    class Watching(nn.Module):
        def forward(self, x):
            seen.add(threading.current_thread() is threading.main_thread())
            return x

    def watched(**options):
        teacher = pico_teacher("conv4", size=16, num_classes=3, **options)
        teacher.network.blocks[0].conv = nn.Sequential(teacher.network.blocks[0].conv, Watching())
        return teacher

    def who(teachers):
        seen.clear()
        five = Five(FiveConfig(**PLAIN, inner_steps=1), image_size=16, streams=RandomStreams(0))
        five.at_once = 2
        five.step(list(enumerate(teachers)))
        return seen

    first, second = watched(seed=0), watched(seed=1)
    assert who([first, second]) == {False}
    assert who([first, Teacher(first.network, second.record)]) == {
        True
    }  # one network, of which layers are listened to
    five = Five(FiveConfig(**SMALL), image_size=16)
    assert not five.inverts_beside, "numbers of one generator for all would go to whoever comes first"
    large = Five(FiveConfig(**SMALL), image_size=96, streams=RandomStreams(0))
    assert not large.inverts_beside


def test_what_fails_in_a_thread_ends_the_step_and_a_lack_of_memory_only_its_task(threads):
    threads(2)
    teachers = [pico_teacher("conv4", size=16, num_classes=3, seed=seed) for seed in range(3)]
    streams = RandomStreams(0)
    five = Five(FiveConfig(**PLAIN, inner_steps=1), image_size=16, streams=streams)
    five.at_once, before = 2, copy.deepcopy(five.generator.state_dict())

    def stop():
        raise TimeoutError

    five.pause = stop
    with pytest.raises(TimeoutError):
        five.step(list(enumerate(teachers)))
    assert all(torch.equal(before[name], value) for name, value in five.generator.state_dict().items())
    five.pause = lambda: None
    teachers[1].batchnorm_layers = lambda: (_ for _ in ()).throw(MemoryError)
    tasks, _ = five.step(list(enumerate(teachers)))
    assert [task.health.problem is None for task in tasks] == [True, False, True]
