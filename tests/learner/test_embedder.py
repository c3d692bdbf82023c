"""An embedder: normalized pictures of any size through views, backbone and embedding."""

from __future__ import annotations

import threading

import pytest
import torch
from learners import LABELS, SIZE, make, pictures
from torch import nn

from hf_free.config.sections import LearnerConfig
from hf_free.errors import LearnerError
from hf_free.learner.embedder import Embedder
from hf_free.learner.embedding import Embedding
from hf_free.learner.gating import TeacherGate
from hf_free.learner.meta_learner import MetaLearner
from hf_free.learner.whitening import Whitening


class Ending(nn.Module):
    """A network of somebody who has the process end."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raise SystemExit(3)


class TestFeatures:
    def test_they_are_the_backbone_of_the_normalized_picture(self):
        learner = make(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
        images = pictures() / 255
        by_hand = torch.stack([(images[:, c] - (0.1, 0.2, 0.3)[c]) / (0.5, 0.6, 0.7)[c] for c in range(3)], 1)
        with torch.no_grad():
            torch.testing.assert_close(learner.features(images), learner.backbone(by_hand))
        assert learner.feature_dim == learner.features(images).shape[1]

    def test_any_size_and_one_channel_are_taken_and_gradients_flow_back(self):
        learner = make()
        images = torch.rand(2, 1, 40, 23, requires_grad=True)
        learner.features(images).square().sum().backward()
        assert images.grad.abs().sum() > 0

    def test_a_gray_learner_sees_luma(self):
        learner = make(channels=1)
        red = torch.zeros(1, 3, SIZE, SIZE)
        red[:, 0] = 1
        with torch.no_grad():
            torch.testing.assert_close(learner.features(red), learner.features(torch.full((1, 1, SIZE, SIZE), 0.299)))

    def test_views_are_averaged(self):
        images = pictures() / 255
        one, two = make(), make(views=("identity", "flip"))
        two.load_state_dict(one.state_dict())
        with torch.no_grad():
            expected = (one.features(images) + one.features(images.flip(-1))) / 2
            torch.testing.assert_close(two.features(images), expected)
            assert not torch.allclose(one.features(images), expected)

    def test_projection_and_center_enter_in_that_order(self):
        images = pictures() / 255
        learner = make()
        learner.embedding.projection = nn.Linear(learner.backbone_dim, 5)
        learner.embedding.center = torch.arange(5.0)
        plain = make()
        with torch.no_grad():
            projected = learner.embedding.projection(plain.features(images))
            torch.testing.assert_close(learner.features(images), projected)
            embedded = projected / projected.norm(dim=1, keepdim=True) - torch.arange(5.0)
            torch.testing.assert_close(learner.embed(images), embedded)
        assert learner.feature_dim == 5

    def test_embedding_leaves_every_mode_as_it_was(self):
        learner = make()
        learner.train()
        learner.backbone.bn1.eval()
        learner.embed(pictures())
        assert learner.training
        assert learner.backbone.layer1.training
        assert not learner.backbone.bn1.training

    @pytest.mark.parametrize("backbone", ["test_vit", "test_convnext", "mobilenetv3_small_050", "conv4_32"])
    def test_backbones_of_every_kind_take_the_learners_size(self, backbone):
        learner = MetaLearner(LearnerConfig(backbone=backbone, image_size=32))
        assert learner.embed(pictures(2, 50)).shape == (2, learner.feature_dim)


class TestParts:
    def test_a_network_that_is_given_is_taken(self):
        """As a learner's own is when its copies stand side by side: nothing is built, images are seen alike."""
        learner = make("conv4_32", views=("identity", "flip"), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
        again = Embedder(learner.config, inputs=learner.inputs, backbone=learner.backbone)
        assert again.backbone is learner.backbone
        torch.testing.assert_close(again.embed(pictures()), learner.embed(pictures()))

    def test_its_weights_are_those_of_backbone_and_embedding(self):
        embedding = Embedding(nn.Linear(32, 5), (3, 2), gate=TeacherGate((3, 2), 32), whitening=Whitening(2, 37))
        names = Embedder(LearnerConfig(backbone="conv4_32"), embedding=embedding).state_dict()
        assert {name.split(".")[0] for name in names} == {"backbone", "embedding"}
        parts = {name.split(".")[1] for name in names if name.startswith("embedding.")}
        assert parts == {"projection", "gate", "whitening"}

    @pytest.mark.parametrize("mode", ["running", "support", "transductive"])
    def test_a_copy_for_other_statistics_does_not_weigh(self, mode):
        learner = make("conv4_32", batchnorm="running")
        learner.embedding = Embedding(
            nn.Linear(learner.backbone_dim, 5), (3, 2), gate=TeacherGate((3, 2), 32), whitening=Whitening(2, 37)
        )
        copied = learner.copy_for(mode)
        assert copied.batchnorm == mode
        assert (copied.embedding.gate is not None) == (copied.embedding.whitening is not None) == (mode == "running")
        assert learner.batchnorm == "running"
        assert learner.embedding.gate is not None
        assert learner.embedding.whitening is not None
        images = pictures() / 255
        with torch.no_grad():
            assert torch.equal(copied.features(images), learner.features(images))


class _Remembers(nn.Module):
    """A user's network, which keeps what it was last asked about."""

    def forward(self, x):
        self.asked, self.thread = x, threading.current_thread()
        return self.asked.flatten(1)[:, :7]


def _with_threads(count, work):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        return work()
    finally:
        torch.set_num_threads(before)


def test_two_threads_embed_as_one_does_and_the_learner_stays_in_its_mode():
    learner = make(views=("identity", "flip")).train()
    images = torch.rand(150, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    expected, found = (_with_threads(count, lambda: learner.embed(images, batch_size=16)) for count in (1, 2))
    assert torch.equal(found, expected)
    assert all(part.training for part in learner.modules())
    with torch.no_grad():
        plain = learner.eval().prepare_features(learner.features(images))
    torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-6)


def test_a_network_that_may_keep_something_is_asked_by_one_thread():
    learner = MetaLearner(LearnerConfig(image_size=SIZE), backbone=_Remembers())
    _with_threads(2, lambda: learner.embed(torch.rand(40, 3, SIZE, SIZE), batch_size=8))
    assert learner.backbone.thread is threading.main_thread()
    assert not learner.may_be_shared_out
    assert make().may_be_shared_out
    large = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=96))
    assert not large.may_be_shared_out, "each thread would hold what it makes of its part on the way"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("config", 3), ("embedding", None), ("views", 3), ("views", ("x",)), ("views", ()), ("record", None)],
        *[("batchnorm", "odd"), ("batchnorm", None)],
    ],
)
def test_what_is_put_in_by_hand_and_does_not_fit_is_named(tmp_path, name, value):
    learner = make()
    setattr(learner, name, value)
    for call in (
        lambda: learner.embed(pictures()),
        lambda: learner.adapt(pictures(), LABELS),
        lambda: learner.save_pretrained(tmp_path / "saved"),
        learner.full_record,
    ):
        with pytest.raises(LearnerError, match=name):
            call()
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize("kind", [torch.float16, torch.float64])
def test_an_embedding_of_other_numbers_is_refused_by_their_type(kind):
    learner = make()
    learner.embedding.projection = torch.nn.Linear(learner.backbone_dim, 3)
    with pytest.raises(LearnerError, match=f"the learner's embedding is of {kind}"):
        learner.to(kind).adapt(pictures(), LABELS)


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (nn.Conv2d(1, 4, 3), "a Conv2d, fails when it is asked: RuntimeError: Given groups=1"),
        (nn.Conv2d(3, 4, 3), r"a Conv2d, gives 1 pictures an embedding of \(1, 4, 14, 14\)"),
        (Ending(), "a Ending, fails when it is asked: SystemExit: 3"),
    ],
)
def test_a_network_that_was_put_in_and_does_not_fit_is_named(network, said):
    """Also one that would end the process."""
    learner = make("conv4_32")
    learner.backbone = network
    with pytest.raises(LearnerError, match=said):
        learner.adapt(pictures(), LABELS)
    with pytest.raises(LearnerError, match=said):
        learner.embed(pictures()[:1])


def test_features_of_another_width_than_the_center_are_refused():
    """One would be subtracted from all."""
    learner = make("conv4_32")
    learner.embedding.center = torch.zeros(learner.feature_dim)
    learner.backbone = nn.Sequential(nn.Conv2d(3, 1, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(LearnerError, match=r"\(6, 1\)\n  allowed: \(6, 32\)"):
        learner.embed(pictures())
