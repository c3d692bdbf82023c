"""A network that a processor computes wrongly in bf16 is computed in fp32: teachers and learners.

The processor is played by networks that answer otherwise under autocast, or to bf16 numbers.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pico import KINDS, pico_folder, pico_network, pico_run, pico_teacher
from torch import Tensor, nn

from hf_free.backbones.conv4 import Conv4
from hf_free.config.sections import FiveConfig
from hf_free.config.tree import FreeConfig
from hf_free.data.logits import LogitLayout
from hf_free.errors import TeacherError, UnfitTeacherError
from hf_free.inversion.five import Five
from hf_free.learner.meta_learner import MetaLearner
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.runtime.device import MAX_DEVIATION, Precision, deviation
from hf_free.teachers.loader import try_out
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.saving import build_teacher, record_for
from hf_free.teachers.soft_labels import label, teacher_sources
from hf_free.teachers.teacher import Teacher
from hf_free.training.plan import plan
from hf_free.training.trainer import train

CPU, BF16 = torch.device("cpu"), Precision(torch.bfloat16)


class Altered(nn.Module):
    """A network whose input is altered before it is looked at."""

    def __init__(self, network: nn.Module, alter) -> None:
        super().__init__()
        self.network, self.alter = network, alter

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        return self.network.forward_features(self.alter(x))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return self.network.forward_head(x, pre_logits=pre_logits)


def wrong_in_bf16(x: Tensor) -> Tensor:
    return x.flip(2).roll(7, 3) * 2 if torch.is_autocast_enabled("cpu") or x.dtype != torch.float32 else x


def refuses_bf16(x: Tensor) -> Tensor:
    if torch.is_autocast_enabled("cpu"):
        raise RuntimeError("\"upsample_antialias\" not implemented for 'BFloat16'")
    return x


def _altered(alter, kind: str = "conv4", seed: int = 0) -> Teacher:
    plain = pico_network(kind, seed=seed)
    record = record_for(plain, reference="pico/altered", mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.3))
    return build_teacher(Altered(plain, alter), record)


@pytest.mark.parametrize("kind", KINDS)
def test_rounding_is_no_reason(kind):
    teacher = try_out(pico_teacher(kind), BF16)
    assert not teacher.record.fp32_only
    assert not teacher.record.notes
    images = torch.rand(4, 3, 32, 32)
    assert 0 < BF16.deviation(teacher.logits, images) < MAX_DEVIATION / 2
    assert Precision(None).deviation(teacher.logits, images) == 0


@pytest.mark.parametrize(
    ("alter", "why"), [(wrong_in_bf16, "in bf16 its answers are off by"), (refuses_bf16, "cannot answer in bf16")]
)
def test_a_teacher_that_is_wrong_in_bf16_is_computed_in_fp32(alter, why):
    teacher = try_out(_altered(alter), BF16)
    assert teacher.record.fp32_only
    assert why in teacher.record.notes[-1]
    assert "it is computed in fp32" in teacher.record.notes[-1]
    assert TeacherRecord.from_dict(teacher.record.to_dict()) == teacher.record
    images, right = torch.rand(6, 3, 32, 32), pico_teacher("conv4")
    with torch.autocast("cpu", torch.bfloat16):
        output, logits, features = teacher(images), teacher.logits(images), teacher.features(images)
        rounded = teacher.logits(images.bfloat16())
    expected = right(images)
    torch.testing.assert_close(output.logits, expected.logits)
    torch.testing.assert_close(logits, expected.logits)
    torch.testing.assert_close(features, expected.features)
    assert rounded.dtype == torch.float32
    assert deviation(rounded, expected.logits) < MAX_DEVIATION


@pytest.mark.parametrize("precision", [Precision(None), Precision(torch.float16)], ids=["fp32", "fp16"])
def test_answers_beyond_fp16_are_answers(precision):
    """Logits of more than 65,504, the largest number of fp16: the teacher has answered, and the best class stays."""
    large = pico_network("conv4", seed=3)
    with torch.no_grad():
        for weight in large.get_classifier().parameters():
            weight.mul_(1e7)
    record = record_for(large, reference="pico/large", mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.3))
    teacher = try_out(build_teacher(large, record), precision)
    pictures = torch.randint(256, (6, 3, 32, 32), dtype=torch.uint8)
    expected = teacher.logits(pictures.float() / 255)
    assert expected.abs().max() > 65_504
    pool, layout = TeacherPool.from_teachers([teacher]), LogitLayout.of([5])
    answers = label(teacher_sources(pool, layout), pictures, layout, precision).values.float()
    assert answers.isfinite().all()
    assert answers.argmax(1).tolist() == expected.argmax(1).tolist()


def test_in_a_run_in_fp32_nothing_is_said():
    assert not try_out(_altered(wrong_in_bf16), Precision(None)).record.fp32_only


def test_a_pool_asks_and_inverts_it_in_fp32(caplog):
    pool = TeacherPool.from_teachers([try_out(_altered(wrong_in_bf16), BF16)])
    pictures = torch.randint(256, (5, 3, 32, 32), dtype=torch.uint8)
    expected = pico_teacher("conv4").logits(pictures.float() / 255)
    answers = label(teacher_sources(pool, LogitLayout.of([5])), pictures, LogitLayout.of([5]), BF16).values.float()
    torch.testing.assert_close(answers, expected, rtol=2e-3, atol=2e-3)
    found = []
    for teacher in (pool[0], pico_teacher("conv4")):
        torch.manual_seed(0)
        config = FiveConfig(latent_dim=8, width=4, images_per_class=4, inner_steps=2)
        five = Five(config, image_size=32, precision=BF16)
        teacher.record = replace(teacher.record, fp32_only=True)
        found.append(five.step([(0, teacher)])[1])
    assert found[0] == pytest.approx(found[1], rel=0.02)


def test_a_teacher_that_left_memory_comes_back_in_fp32(tmp_path, monkeypatch):
    folders = [str(pico_folder(tmp_path / name, "conv4", seed=seed)) for seed, name in enumerate("ab")]
    features = Conv4.forward_features  # a processor that computes all of them wrongly
    monkeypatch.setattr(Conv4, "forward_features", lambda self, x: features(self, wrong_in_bf16(x)))
    size = TeacherPool(folders[:1], precision=BF16).records[0].weight_bytes
    pool, images = TeacherPool(folders, budget=size, precision=BF16), torch.rand(3, 3, 32, 32)
    for index in (0, 1, 0):
        assert pool.loaded_bytes == size, "one at a time"
        assert pool[index].record.fp32_only
        with BF16.autocast(CPU):
            found = pool[index].logits(images)
        torch.testing.assert_close(found, pico_teacher("conv4", seed=index).logits(images))


# ---- an image's mates and its layout


def test_a_teacher_that_answers_by_the_batch_is_refused():
    network = pico_network("conv4")
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
    teacher = build_teacher(network, record_for(network, reference="pico/by-batch"))
    with pytest.raises(UnfitTeacherError, match="answers about an image by what other images are asked about with it"):
        try_out(teacher)
    pool = TeacherPool.from_teachers([teacher, pico_teacher("conv4")])
    assert len(pool) == 1
    assert pool.skipped[0][0] == "pico/by-batch"


def test_a_teacher_that_answers_by_the_layout_is_refused():
    teacher = _altered(lambda x: x if x.is_contiguous() else x.flip(2) * 3)
    with pytest.raises(UnfitTeacherError, match="by its layout in memory"):
        try_out(teacher)


def test_a_teacher_that_cannot_look_at_one_image_is_refused():
    def many(x: Tensor) -> Tensor:
        if len(x) == 1:
            raise ValueError("Expected more than 1 value per channel")
        return x

    with pytest.raises(TeacherError, match=r"cannot answer about images of .*Expected more than 1 value"):
        try_out(_altered(many))


@pytest.mark.parametrize("kind", KINDS)
def test_sound_teachers_pass(kind):
    assert try_out(pico_teacher(kind)).record.notes == ()


# ---- the learner


def test_fp32_inside_another_autocast_block_stays_fp32():
    a = torch.rand(4, 4)
    with torch.autocast("cpu", torch.bfloat16), Precision(None).autocast(CPU):
        assert (a @ a).dtype == torch.float32


def test_plan_and_run_say_what_the_learner_is_computed_in(tmp_path, monkeypatch, caplog):
    models = [str(pico_folder(tmp_path / name, "conv4", size=16, seed=seed)) for seed, name in enumerate("ab")]
    values = {**pico_run(), "models": models}
    values["trainer"] = {**values["trainer"], "mixed_precision": "bf16", "steps": 1}
    config = FreeConfig.from_dict(values)
    note = "the learner is computed in fp32: in bf16 its answers are others"
    assert note not in plan(config).notes
    init = MetaLearner.__init__

    def wrong_from_the_start(self, *args, **options):
        init(self, *args, **options)
        self.backbone.register_forward_pre_hook(lambda _, inputs: (wrong_in_bf16(inputs[0]), *inputs[1:]))

    monkeypatch.setattr(MetaLearner, "__init__", wrong_from_the_start)
    assert plan(config).notes.count(note) == 1
    learner = train(config, output=tmp_path / "run")
    assert learner.record.training.mixed_precision == "bf16"
    assert learner.record.training.learner_precision == "no"
    assert [record.getMessage() for record in caplog.records].count(note) == 1
