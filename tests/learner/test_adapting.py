"""From a network and a support set to a linear classifier."""

from __future__ import annotations

import pytest
import torch
from learners import LABELS, make, pictures

from hf_free.errors import LearnerError
from hf_free.learner.adapting import as_before, fit, needs_pictures, support_rows
from hf_free.learner.heads import fit_ridge
from hf_free.learner.support import SupportSet

IMAGES = pictures(6).float() / 255


@pytest.mark.parametrize(
    ("kind", "expected"),
    [({}, False), ({"head": "maml"}, True), ({"batchnorm": "support"}, True), ({"batchnorm": "transductive"}, True)],
)
def test_pictures_are_kept_where_features_depend_on_each_other(kind, expected):
    network = make(**kind)
    assert needs_pictures(network) is expected
    assert support_rows(network, IMAGES).ndim == (4 if expected else 2)


def test_it_fits_the_learners_head_to_each_pictures_own_features():
    network = make(head="ridge")
    support = SupportSet.of(support_rows(network, IMAGES), LABELS)
    done = fit(network, support)
    expected = fit_ridge(support.rows[None], support.labels[None], 3)
    assert done.network is network
    torch.testing.assert_close(done.weight, expected.weight[0])
    torch.testing.assert_close(support.rows.sort(0).values, network.embed(IMAGES).sort(0).values, rtol=1e-4, atol=1e-5)


def test_a_network_with_the_supports_statistics_adapts_anew_to_the_same():
    network = make(batchnorm="support")
    support = SupportSet.of(support_rows(network, IMAGES), LABELS)
    done = fit(network, support)
    start = as_before(done.network, "support")
    assert done.network.batchnorm == "running"
    assert torch.equal(fit(start, support).weight, done.weight)
    assert as_before(make(head="maml"), "running") is None


def test_finite_weights_whose_features_are_not_are_refused():
    network = make()
    with torch.no_grad():
        network.backbone.bn1.running_var.fill_(-1.0)
    with pytest.raises(LearnerError, match="features of these pictures are NaN or infinite"):
        fit(network, SupportSet.of(support_rows(network, IMAGES), LABELS))
    classifier = make().adapt(IMAGES, LABELS)
    with torch.no_grad():
        classifier.embedder.backbone.bn1.running_var.fill_(-1.0)
    with pytest.raises(LearnerError, match="features of these pictures are NaN or infinite"):
        classifier.predict(IMAGES)
