"""Features of images, each size made once."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from odd_pictures import color
from PIL import Image

from hf_free.config.sections import LearnerConfig
from hf_free.data.images import Preprocessing
from hf_free.errors import LearnerError
from hf_free.evaluation import features as features_module
from hf_free.evaluation.baselines import teacher_answers
from hf_free.evaluation.datasets import LabeledImages
from hf_free.evaluation.features import ImageSizes, learner_features
from hf_free.learner.batchnorm import batchnorm_layers
from hf_free.learner.meta_learner import MetaLearner
from hf_free.teachers.saving import build_teacher, record_for


def test_teachers_are_shown_pictures_as_their_configuration_says():
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=4)
    pictures = [Image.fromarray(color(seed, 90, 60)) for seed in range(3)]
    data = LabeledImages(pictures, torch.tensor([0, 1, 1]), ["a", "b"])
    for interpolation in ("bicubic", "bilinear"):
        known = {"input_size": (3, 32, 32), "interpolation": interpolation, "crop_pct": 0.875}
        teacher = build_teacher(network, record_for(network, **known))
        features, _ = teacher_answers(teacher, ImageSizes(data), torch.device("cpu"))
        batch = torch.from_numpy(np.stack([np.asarray(p) for p in pictures])).permute(0, 3, 1, 2).float()
        shown = torch.nn.functional.interpolate(
            batch, size=(54, 36), mode=interpolation, antialias=True, align_corners=False
        )[..., 11:43, 2:34]
        expected = teacher.features(shown.clamp(0, 255).round() / 255)
        torch.testing.assert_close(features, expected)
    squashed = record_for(network, input_size=(3, 32, 32), crop_mode="squash", crop_pct=0.9)
    assert squashed.crop is None


def test_sizes_that_have_no_room_are_made_again(monkeypatch):
    data = LabeledImages(
        [Image.fromarray(color(seed, 40, 40)) for seed in range(4)], torch.zeros(4, dtype=torch.long), ["a"]
    )
    small, large, larger = (Preprocessing(size) for size in (8, 16, 24))
    images = ImageSizes(data)
    monkeypatch.setattr(features_module, "MOST_BYTES", images.at(small).nbytes + images.at(large).nbytes)
    kept, again = images.at(small), images.at(large)
    assert images.at(small) is kept
    images.at(larger)  # takes all the room
    assert images.at(small) is not kept
    assert torch.equal(images.at(large), again)


def test_two_threads_give_the_features_that_one_gives(monkeypatch):
    monkeypatch.setattr(features_module, "BATCH_BESIDE", 4)
    pictures = [Image.fromarray(color(seed, 20, 20)) for seed in range(18)]
    data = LabeledImages(pictures, torch.zeros(18, dtype=torch.long), ["a"])
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16)).train()
    before, found, told = torch.get_num_threads(), [], []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(learner_features(learner, ImageSizes(data), lambda *words: told.append(words)))
    torch.set_num_threads(before)
    assert torch.equal(*found)
    torch.testing.assert_close(found[0], learner.embed(pictures))
    assert told[-5:] == [("features of the learner", place, 5) for place in range(1, 6)]
    assert learner.training


def test_features_that_are_no_numbers_are_refused():
    network = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16)).eval()
    with torch.no_grad():
        batchnorm_layers(network)[0].running_var.fill_(-1.0)
    images = LabeledImages([torch.zeros(3, 16, 16, dtype=torch.uint8)] * 2, torch.tensor([0, 1]), ["a", "b"])
    with pytest.raises(LearnerError, match="NaN or infinite"):
        learner_features(network, ImageSizes(images))


def test_folded_batchnorm_changes_no_more_than_rounding_and_the_learner_not_at_all(monkeypatch):
    torch.manual_seed(0)
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16))
    for layer in batchnorm_layers(learner.backbone):
        torch.nn.init.uniform_(layer.running_mean, -0.3, 0.3)
        torch.nn.init.uniform_(layer.running_var, 0.5, 2.0)
        torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    data = LabeledImages(
        torch.randint(256, (6, 3, 16, 16), dtype=torch.uint8), torch.zeros(6, dtype=torch.long), ["a"]
    )
    seen, fold = [], features_module.fold_batchnorm
    monkeypatch.setattr(features_module, "fold_batchnorm", lambda network: seen.append(fold(network)) or seen[-1])
    found = learner_features(learner, ImageSizes(data))
    assert not batchnorm_layers(seen[0])
    assert learner.training
    assert learner.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())
    monkeypatch.setattr(features_module, "fold_batchnorm", lambda network: None)
    expected = learner_features(learner, ImageSizes(data))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    wrong = fold(learner.eval().backbone)
    wrong.get_submodule("blocks.0.conv").bias.data += 0.1
    monkeypatch.setattr(features_module, "fold_batchnorm", lambda network: wrong)
    assert torch.equal(learner_features(learner, ImageSizes(data)), expected)
