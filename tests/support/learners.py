"""Small learners that differ from an untrained one, and pictures for them."""

from __future__ import annotations

import torch
from PIL import Image

from hf_free.config.sections import LearnerConfig
from hf_free.learner.inputs import InputSettings
from hf_free.learner.meta_learner import MetaLearner
from hf_free.provenance.learner_record import LearnerRecord

SIZE = 16


def make(backbone="test_resnet", *, head="nearest_mean", channels=3, record=None, model_args=None, **inputs):
    """A learner whose BatchNorm statistics and weights are no longer those of the initialization."""
    torch.manual_seed(0)
    config = LearnerConfig(backbone=backbone, image_size=SIZE, channels=channels, head=head)
    learner = MetaLearner(config, inputs=InputSettings(**inputs), backbone=model_args)
    learner.record = LearnerRecord.from_dict(record or {})
    learner.train()
    with torch.no_grad():
        for _ in range(2):
            learner.features(torch.rand(8, 3, SIZE, SIZE))
    return learner.eval()


def pictures(count=6, size=SIZE, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def as_pil(images):
    return [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]


LABELS = ["cat", "ant", "cat", "bee", "cat", "ant"]

RECORD = {
    "teachers": [{"repo_id": "org/teacher", "label_names": ["cat"]}],
    "results": [],
    "versions": {"hf_free": "x"},
}
