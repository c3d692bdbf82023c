"""Whose statistics BatchNorm uses: the running ones, the support's, or those of a batch."""

from __future__ import annotations

import pytest
import torch
from learners import LABELS, make, pictures
from torch import nn

from hf_free.errors import LearnerError


class TestBatchNorm:
    def test_support_statistics_are_those_of_the_support_set(self):
        learner = make(batchnorm="support")
        before = {name: value.clone() for name, value in learner.state_dict().items()}
        support = pictures() / 255
        adapted = learner.adapt(support, LABELS).embedder
        inputs = learner.backbone.conv1[0]((support - 0.5) / 0.25)  # what the first BatchNorm sees
        torch.testing.assert_close(adapted.backbone.conv1[1].running_mean, inputs.mean((0, 2, 3)))
        torch.testing.assert_close(adapted.backbone.conv1[1].running_var, inputs.transpose(0, 1).flatten(1).var(1))
        assert all(torch.equal(before[name], value) for name, value in learner.state_dict().items())

    @pytest.mark.parametrize("mode", ["running", "support"])
    def test_inductive_modes_answer_each_query_by_itself(self, mode):
        classifier = make(batchnorm=mode).adapt(pictures(), LABELS)
        queries = pictures(5, seed=3)
        alone = torch.cat([classifier.predict_proba(query[None]) for query in queries])
        torch.testing.assert_close(alone, classifier.predict_proba(queries))

    def test_the_transductive_mode_does_not_and_leaves_the_running_statistics(self):
        learner = make(batchnorm="transductive")
        before = {name: value.clone() for name, value in learner.state_dict().items()}
        classifier = learner.adapt(pictures(), LABELS)
        queries = pictures(6, seed=3)
        together = classifier.predict_proba(queries, batch_size=2)  # one pass all the same
        assert not torch.allclose(classifier.predict_proba(queries[:3]), together[:3], atol=1e-4)
        assert all(torch.equal(before[name], value) for name, value in learner.state_dict().items())

    @pytest.mark.parametrize("head", ["ridge", "maml"])
    def test_a_transductive_learner_asked_about_one_picture_says_why_it_cannot(self, head):
        classifier = make(batchnorm="transductive", head=head).adapt(pictures(), LABELS)
        with pytest.raises(LearnerError, match=r"one picture for a transductive learner[\s\S]*batchnorm = .support"):
            classifier.predict(pictures(1))
        assert len(classifier.predict(pictures(2))) == 2
        without_batchnorm = make("test_vit", batchnorm="transductive", head=head, model_args={"patch_size": 4})
        assert len(without_batchnorm.adapt(pictures(), LABELS).predict(pictures(1))) == 1


def test_a_transductive_maml_learner_never_uses_running_statistics():
    """FREE's published learner has none: support and query pictures are normalized by themselves."""
    learner = make("conv4_32", head="maml", batchnorm="transductive")
    other = make("conv4_32", head="maml", batchnorm="transductive")
    for layer in other.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(1, 9)
    found = [one.adapt(pictures(), LABELS).predict_proba(pictures(9, seed=2)) for one in (learner, other)]
    torch.testing.assert_close(*found)
