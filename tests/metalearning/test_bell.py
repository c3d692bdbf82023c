"""BELL's sequential steps and their protocol."""

from __future__ import annotations

import torch

from hf_free.config.recipes import Defects
from hf_free.config.sections import BellConfig, LearnerConfig
from hf_free.inversion.task import Health, RecoveredTask
from hf_free.learner.inputs import InputSettings
from hf_free.learner.meta_learner import MetaLearner
from hf_free.memory.bank import TaskMemory
from hf_free.metalearning.base import Moment
from hf_free.metalearning.bell import Aligner
from hf_free.runtime.device import Precision


def _task(teacher=0, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (4 * classes, 3, 16, 16), dtype=torch.uint8, generator=generator)
    soft = torch.randn(4 * classes, classes, generator=generator).softmax(1)
    labels = torch.arange(classes).repeat(4)
    return RecoveredTask(images, labels, soft, tuple(range(classes)), teacher, "t", Health(1.0, 0.1, 0.1))


def _aligner(defects=(), names=None, **values):
    torch.manual_seed(0)
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16), inputs=InputSettings(batchnorm="support"))
    config = BellConfig(**{"objective": "align", "replay_tasks": 0, "n_way": 5, **values})
    return Aligner(learner, config, Precision(), class_names=names, defects=Defects.named(defects))


def _weights(aligner):
    return torch.cat([p.detach().flatten() for p in aligner.network.parameters()])


def test_cosine_is_measured_only_when_asked():
    aligner, tasks = _aligner(), [_task(0), _task(1, seed=1)]
    assert "gradient_cosine" not in aligner.step(tasks, TaskMemory(10), Moment())
    logged = Moment(is_logged=True)
    assert -1 <= aligner.step(tasks, TaskMemory(10), logged)["gradient_cosine"] <= 1
    assert "gradient_cosine" not in aligner.step(tasks[:1], TaskMemory(10), logged)


def test_tasks_with_more_classes_than_the_shared_head_are_not_aligned():
    aligner = _aligner()
    before = _weights(aligner)
    assert aligner.step([_task(classes=7)], TaskMemory(10), Moment()) == {}
    assert torch.equal(_weights(aligner), before)
