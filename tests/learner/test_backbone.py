"""Backbones that cannot take the learner's pictures are named before anything is fetched or written."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from pico import pico_folder, pico_run
from torch import nn

from hf_free.config.sections import LearnerConfig
from hf_free.config.tree import FreeConfig
from hf_free.errors import LearnerError
from hf_free.learner.backbone import check_takes_pictures
from hf_free.learner.meta_learner import MetaLearner
from hf_free.training.plan import plan
from hf_free.training.setup import check_backbone
from hf_free.training.trainer import train

SIZED: dict[str, list[int]] = {"inception_v3": [80, 299], "crossvit_tiny_240": [120, 240], "efficientformer_l1": [224]}
"""Networks that cannot take 32 pixels, and sizes that they take."""


@pytest.mark.parametrize(
    "backbone",
    ["inception_v3", *(pytest.param(name, marks=pytest.mark.long) for name in SIZED if name != "inception_v3")],
)
def test_the_error_names_backbone_size_what_fits_and_the_flag(backbone: str) -> None:
    config = FreeConfig.from_dict({"models": ["a/b", "c/d"], "learner": {"backbone": backbone, "image_size": 32}})
    fitting = " or ".join(map(str, SIZED[backbone]))
    with pytest.raises(LearnerError) as refused:
        check_backbone(config.learner, config.imports)
    assert f"backbone '{backbone}' does not take pictures of 32x32" in refused.value.given
    assert f"pictures of {fitting}" in refused.value.allowed
    assert f"--image-size {SIZED[backbone][0]}" in refused.value.action


@pytest.mark.parametrize(
    ("backbone", "close"),
    [
        ("conv4_32.mine", "conv4_32"),
        ("resnet18.nosuch", "resnet18.a1_in1k"),
        ("resnet18.", "resnet18.a1_in1k"),
        ("timm/resnet18", "resnet18"),
        ("hf-hub:org/a", ""),
        ("local-dir:a", ""),
    ],
)
def test_what_nobody_could_open_later_is_refused_before_it_is_trained(backbone: str, close: str) -> None:
    """timm would build the last two from a repository or a folder, and others would end in its own words."""
    with pytest.raises(LearnerError, match=f"knows no backbone '{backbone}'") as refused:
        MetaLearner.create(LearnerConfig(backbone=backbone, image_size=32))
    assert close in refused.value.allowed
    assert MetaLearner.create(LearnerConfig(backbone="resnet10t.c3_in1k", image_size=32)).backbone_dim == 512


def test_the_size_that_is_named_fits() -> None:
    config = LearnerConfig(backbone="crossvit_tiny_240", image_size=120)
    assert check_takes_pictures(MetaLearner(config).backbone, config, {}) == 288


def test_trying_a_picture_leaves_no_trace() -> None:
    network = timm.create_model("test_resnet", num_classes=0)
    network.layer1.eval()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [part.training for part in network.modules()]
    torch.manual_seed(0)
    drawn = torch.rand(1)
    torch.manual_seed(0)
    check_takes_pictures(network, LearnerConfig(backbone="test_resnet"), {})
    assert torch.equal(torch.rand(1), drawn)
    assert [part.training for part in network.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("start", [pytest.param(plan, marks=pytest.mark.long), train])
def test_plan_and_run_ask_before_any_teacher_is_fetched(start, tmp_path: Path) -> None:
    values = pico_run() | {"models": ["a/nowhere", "b/nowhere"]}
    values["learner"] = {"backbone": "efficientformer_l1", "image_size": 32}
    options = {"output": tmp_path / "run"} if start is train else {}
    with pytest.raises(LearnerError, match="backbone 'efficientformer_l1' does not take pictures of 32x32"):
        start(FreeConfig.from_dict(values), **options)
    assert not (tmp_path / "run").exists()


def test_a_published_learner_of_an_impossible_size_is_refused(tmp_path: Path) -> None:
    learner = MetaLearner(LearnerConfig(backbone="efficientformer_l1", image_size=32))
    with pytest.raises(LearnerError, match="does not take pictures of 32x32"):
        learner.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


class Tied(nn.Module):
    """Two convolutions that share their weights, as CoaT's blocks do, and BatchNorm."""

    def __init__(self, num_classes: int = 5, in_chans: int = 3) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(in_chans, 8, 3, 2, padding=1), nn.BatchNorm2d(8)
        self.first, self.second = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.second.weight, self.second.bias = self.first.weight, self.first.bias
        self.num_features = self.head_hidden_size = 8
        self.head = nn.Linear(8, num_classes) if num_classes else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.second(self.first(self.bn(self.stem(x)).relu()).relu()).relu()
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="module")
def tied_backbone() -> str:
    from timm.models import build_model_with_cfg, generate_default_cfgs, register_model

    globals()["default_cfgs"] = generate_default_cfgs({"tied_pico.untrained": {"input_size": (3, 16, 16)}})

    def tied_pico(pretrained: bool = False, **kwargs: int) -> nn.Module:
        return build_model_with_cfg(Tied, "tied_pico", pretrained, **kwargs)

    tied_pico.__module__ = __name__
    register_model(tied_pico)
    return "tied_pico"


class TestTiedWeights:
    def test_saved_and_loaded_they_are_still_tied(self, tied_backbone: str, tmp_path: Path) -> None:
        learner = MetaLearner(LearnerConfig(backbone=tied_backbone, image_size=16)).eval()
        learner.save_pretrained(tmp_path)
        again = MetaLearner.from_pretrained(tmp_path)
        assert again.backbone.first.weight is again.backbone.second.weight
        images = torch.rand(3, 3, 16, 16)
        assert torch.equal(again.embed(images), learner.embed(images))

    @pytest.mark.parametrize("objective", [pytest.param("distill", marks=pytest.mark.long), "align"])
    def test_a_run_checkpoints_resumes_and_ends_with_its_best_state(
        self, tied_backbone: str, tmp_path: Path, objective: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        values = pico_run()
        values["models"] = [str(pico_folder(tmp_path / name, seed=i, size=16)) for i, name in enumerate("ab")]
        values["learner"]["backbone"] = tied_backbone
        values["trainer"] |= {"checkpoint_every": 1}
        values["bell"] |= {"objective": objective, "replay_tasks": 1, "replay_patience": 1, "n_query": 1}
        config = FreeConfig.from_dict(values)
        learner = train(config, output=tmp_path / "run")
        assert (tmp_path / "run" / "best.safetensors").is_file()
        assert "shared tensor" not in caplog.text  # nothing is dropped from the checkpoint
        resumed = train(config, output=tmp_path / "run", resume=True)
        assert resumed.backbone.first.weight is resumed.backbone.second.weight
        again = MetaLearner.from_pretrained(tmp_path / "run" / "learner")
        for name, value in learner.state_dict().items():
            assert torch.equal(value, resumed.state_dict()[name])
            assert torch.equal(value, again.state_dict()[name])


def test_a_pooled_learner_has_no_network_to_build():
    with pytest.raises(LearnerError, match="a pooled learner has no network of its own"):
        MetaLearner(LearnerConfig(backbone="pooled"))
