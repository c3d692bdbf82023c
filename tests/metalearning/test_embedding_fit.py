"""What is fitted at the end of a run."""

from __future__ import annotations

import torch
from torch import nn

from hf_free.config.sections import BellConfig, LearnerConfig
from hf_free.data.logit_rows import LogitRows
from hf_free.data.logits import LogitLayout, unanswered_teachers
from hf_free.learner.embedding import Embedding
from hf_free.learner.meta_learner import MetaLearner
from hf_free.metalearning.distill import Distiller
from hf_free.metalearning.embedding_fit import drop_teachers
from hf_free.runtime.device import Precision


def _distiller(layout, **values):
    torch.manual_seed(0)
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16))
    learner.embedding = Embedding(nn.Linear(learner.backbone_dim, layout.width), layout.sizes)
    config = BellConfig(**{"batch_size": 32, "updates_per_step": 5, "lr": 3e-3, **values})
    return Distiller(learner, layout, config, Precision())


def test_teachers_that_never_answered_leave_the_learner():
    layout = LogitLayout.of([3, 2, 4])
    learner = _distiller(layout).learner
    answers = torch.randn(6, 9)
    answers[:, 3:5] = torch.nan
    answers[0] = torch.nan  # one picture without any answer takes nobody out
    assert unanswered_teachers(layout, LogitRows(answers, (3, 2, 4))) == [1]
    images = torch.rand(2, 3, 16, 16)
    before = learner.raw_answers(images)
    drop_teachers(learner, layout, [1])
    assert learner.embedding.sizes == (3, 4)
    assert torch.allclose(learner.raw_answers(images), before[:, [0, 1, 2, 5, 6, 7, 8]], atol=1e-6)
