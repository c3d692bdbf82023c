"""What a step costs, counted by hand."""

from __future__ import annotations

import timm
from pico import pico_teacher

from hf_free.config.reading import merge
from hf_free.config.recipes import Defects
from hf_free.config.tree import FreeConfig
from hf_free.evaluation.flops import count
from hf_free.teachers.pool import TeacherPool
from hf_free.training.estimate import estimate
from hf_free.training.workload import Workload


def _config(**values):
    small = {"five": {"latent_dim": 16, "width": 8}, "learner": {"backbone": "conv4_32", "image_size": 32}}
    return FreeConfig.from_dict(merge(small, values))


def _work(config):
    return Workload(config.five, config.memory, config.bell, config.learner, config.trainer)


def _conv4(width, classes, size=32):
    """Multiply-accumulates of a Conv-4 for one picture."""
    products, channels, side = 0, 3, size
    for _ in range(4):
        products, channels, side = products + side * side * 9 * channels * width, width, side // 2
    return products + width * side * side * classes


def _generator(latent, width):
    """Multiply-accumulates of the meta-generator at 32 pixels: linear layer, two stages, last convolution. A stage's
    kernels of 2x2 for four places see the maps before they are enlarged, at one more place in each direction."""
    wide = 2 * width
    stages = 9**2 * 4 * 4 * wide * wide + 17**2 * 4 * 4 * wide * width
    return latent * wide * 64 + stages + 1024 * 9 * width * 3


def test_cost_of_the_default_by_hand():
    teachers = [pico_teacher("conv4", num_classes=n, seed=n) for n in (3, 4, 5)]
    config = _config(
        five={"inner_steps": 2, "teachers_per_step": 2, "images_per_class": 10},
        memory={"drawn_per_step": 7, "max_images": 100, "held_out_images": 20},
        bell={"batch_size": 6, "updates_per_step": 4},
    )
    cost = estimate(_work(config), TeacherPool.from_teachers(teachers))
    generator, learner = _generator(16, 8), _conv4(32, classes=3 + 4 + 5)
    adaptations = 0
    for teacher in teachers:
        classes = teacher.record.num_classes
        answer = _conv4(8, classes)
        # generator: forward and both gradients; frozen teacher, and learner: forward and the picture's gradient
        inner_step = 6 * generator + 4 * answer + 4 * learner
        # the finished pictures are made and looked at once, and so are the canvases
        adaptations += 10 * classes * (2 * inner_step + 2 * generator + 2 * answer + 2 * answer)
    assert cost.five_step == round(adaptations * 2 / 3)  # two of three teachers a step
    assert cost.five_images == 80
    assert cost.one_answer == 2 * sum(_conv4(8, n) for n in (3, 4, 5))
    assert cost.answers_a_step == (80 + 7) * cost.one_answer
    assert cost.learner_view == 2 * learner
    assert cost.learner_bytes == 4 * (9 * 32 * (3 + 3 * 32) + 4 * 3 * 32 + 128 * 12 + 12)  # kernels, biases and norms
    assert cost.pooled_view == cost.one_answer
    assert cost.pooled_bytes == sum(teacher.record.weight_bytes for teacher in teachers)
    assert (cost.bell_update, cost.bell_updates) == (6 * 6 * learner, 4)
    assert cost.memory_bytes == 120 * (3 * 32 * 32 + 2 * 12 + 8)
    assert cost.teachers_bytes == sum(teacher.record.weight_bytes for teacher in teachers)
    recovering = 4 * (cost.five_step + cost.answers_a_step)
    assert cost.total(10, 0.4) == recovering + 10 * 4 * cost.bell_update


def test_pixels_that_are_moved_themselves_cost_no_generator():
    teachers = [pico_teacher("conv4", num_classes=3, seed=seed) for seed in range(2)]
    config = _config(five={"inner_steps": 2, "teachers_per_step": 2, "images_per_class": 10})
    cost = estimate(_work(config), TeacherPool.from_teachers(teachers), paints=False)
    answer, learner = _conv4(8, 3), _conv4(32, classes=6)
    assert cost.five_step == 2 * 10 * 3 * (2 * (4 * answer + 4 * learner) + 2 * answer)


def test_cost_of_episodes_has_as_many_updates_as_asked_for():
    teachers = [pico_teacher("conv4", seed=seed) for seed in range(2)]
    for objective, updates in (("episodes", 3), ("regularize", 8)):
        bell = {"objective": objective, "replay_patience": 7, "updates_per_step": 3}
        assert estimate(_work(_config(bell=bell)), TeacherPool.from_teachers(teachers)).bell_updates == updates


def test_cost_of_replay_by_hand():
    teachers = [pico_teacher("conv4", seed=seed) for seed in range(2)]
    bell = {"objective": "align", "replay_tasks": 3, "replay_inner_steps": 2, "replay_patience": 7, "n_query": 4}
    cost = estimate(_work(_config(bell=bell)), TeacherPool.from_teachers(teachers))
    episode = 2 * 3 * 5 + 5 * 4  # two steps on five support pictures, differentiated through; twenty queries
    assert cost.bell_update == 3 * episode * 6 * _conv4(32, 5)
    assert (cost.bell_updates, cost.answers_a_step) == (8, 0)


def test_learner_is_asked_only_where_all_classes_are_wanted():
    pool = TeacherPool.from_teachers([pico_teacher("conv4", num_classes=n) for n in (5, 6)])
    costs = {}
    for classes in (5, 6):
        for weight in (0.0, 1.0):
            five = {"max_classes": classes, "adversarial": weight, "inner_steps": 3, "conditional": False}
            costs[classes, weight] = estimate(_work(_config(five=five)), pool)
    assert [costs[classes, 1.0].five_images for classes in (5, 6)] == [200, 220]
    student = 3 * 4 * _conv4(32, 11)  # inner steps, forward and the picture's gradient
    assert costs[6, 1.0].five_step - costs[6, 0.0].five_step == (100 + 120) * student
    assert costs[5, 1.0].five_step - costs[5, 0.0].five_step == 100 * student  # part of the other's head: nobody asked


def test_released_student_is_asked_without_a_gradient():
    pool = TeacherPool.from_teachers([pico_teacher("conv4", seed=seed) for seed in range(2)])
    mended, released = (
        estimate(_work(_config(five={"inner_steps": 3})), pool, defects=Defects.named(defects))
        for defects in ([], ["divergence_of_probabilities"])
    )
    assert mended.five_step - released.five_step == 200 * 3 * 2 * _conv4(32, 10)


def test_borrowed_statistics_cost_a_pass_through_the_donor():
    teachers = [pico_teacher("conv4", num_classes=5), pico_teacher("vit", num_classes=5)]
    pool = TeacherPool.from_teachers(teachers)
    borrowing, alone = (
        estimate(_work(_config(five={"inner_steps": 3, "donor_batchnorm": weight})), pool) for weight in (1.0, 0.0)
    )
    # the pictures of the one without BatchNorm: forward and the picture's gradient
    assert borrowing.five_step - alone.five_step == 100 * 3 * 4 * _conv4(8, 5)


def test_counted_learner_is_the_one_that_is_trained():
    pool = TeacherPool.from_teachers([pico_teacher("conv4", seed=seed) for seed in range(2)])
    config = _config(learner={"backbone": "resnet10_small"}, bell={"batch_size": 2})
    network = timm.create_model("resnet10_small", num_classes=10)
    assert estimate(_work(config), pool).bell_update == 2 * count(network, (3, 32, 32)).total_flops
