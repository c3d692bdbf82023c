"""A small learner and the episodes that the tests of evaluation measure it on."""

from __future__ import annotations

import torch

from hf_free.config.sections import LearnerConfig
from hf_free.data.episodes import sample_episodes
from hf_free.evaluation.evaluate import Comparison, EpisodeSettings
from hf_free.learner.inputs import InputSettings
from hf_free.learner.meta_learner import MetaLearner
from hf_free.provenance.learner_record import LearnerRecord

SETTING = EpisodeSettings(n_way=3, n_query=5, episodes=12, k_shots=(1, 4))


def everything(pool, **more):
    """All baselines, the teachers of a pool among them."""
    return Comparison(baselines="all", teachers=pool, **more)


def make(head="nearest_mean", batchnorm="running", record=None):
    torch.manual_seed(0)
    config = LearnerConfig(backbone="conv4_32", image_size=16, head=head)
    learner = MetaLearner(config, inputs=InputSettings(batchnorm=batchnorm)).train()
    learner.record = LearnerRecord.from_dict(record or {})
    with torch.no_grad():
        learner.features(torch.rand(16, 3, 16, 16))
    return learner.eval()


def episodes_of(data, k_shot, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return sample_episodes(data.labels, n_way=3, k_shot=k_shot, n_query=5, episodes=12, generator=generator)
