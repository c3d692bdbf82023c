"""Networks of one kind: the second makes a template, the others are copies of it."""

from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models import register_model
from torch import nn

from hf_free.backbones.conv4 import Conv4
from hf_free.errors import TeacherError
from hf_free.teachers.building import NetworkBuilder, build_network
from hf_free.teachers.config_check import TeacherSpec, check_config
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.saving import save_teacher
from hf_free.teachers.teacher import Teacher

PICO = {
    "conv4_32": ({}, 32),
    "resnet18": ({"channels": (8, 8, 16, 16)}, 32),
    "levit_128s": (
        {"embed_dim": (16, 24, 32), "depth": (1, 1, 1), "num_heads": (1, 1, 2), "key_dim": 8},
        224,
    ),  # keeps a table of position biases that it fills in while it answers
    "swin_tiny_patch4_window7_224": ({"embed_dim": 12, "depths": (1, 1), "num_heads": (1, 2)}, 224),
    "eva02_tiny_patch14_224": ({"embed_dim": 24, "depth": 2, "num_heads": 2}, 224),  # tables that are not saved
}


def spec_of(architecture: str, arguments: dict[str, object], size: int) -> TeacherSpec:
    cfg = {"input_size": [3, size, size], "mean": [0.5] * 3, "std": [0.5] * 3}
    config = {"architecture": architecture, "num_classes": 4, "model_args": arguments, "pretrained_cfg": cfg}
    return check_config(config, architecture)


def filled(network: nn.Module, seed: int) -> nn.Module:
    """A network of its own weights, assigned as those of a file are."""
    generator = torch.Generator().manual_seed(seed)
    values = {
        key: torch.rand(tensor.shape, generator=generator) * 0.02 + 0.01 if tensor.is_floating_point() else tensor
        for key, tensor in build_state(network).items()
    }
    network.load_state_dict(values, assign=True)
    return network.eval()


def build_state(network: nn.Module) -> dict[str, torch.Tensor]:
    return {k: torch.zeros(v.shape, dtype=v.dtype) if v.is_meta else v for k, v in network.state_dict().items()}


@pytest.mark.parametrize("architecture", PICO)
def test_a_copy_answers_as_the_network_itself_and_shares_nothing_with_other_copies(architecture: str) -> None:
    spec, builder = spec_of(architecture, *PICO[architecture]), NetworkBuilder()
    images = torch.rand((2, *spec.input_size), generator=torch.Generator().manual_seed(1))
    networks = [filled(builder.empty(spec, "it"), seed) for seed in range(3)]
    with torch.no_grad():
        found = [network(images) for network in networks for _ in range(2)]  # the second time from what was kept
        plain = [filled(build_network(spec, "it", "cpu"), seed)(images) for seed in range(3)]
    assert all(one.isfinite().all() for one in plain)
    assert all(torch.equal(one, plain[place // 2]) for place, one in enumerate(found))
    assert len({id(module) for network in networks for module in network.modules()}) == sum(
        len(list(network.modules())) for network in networks
    )


@pytest.mark.parametrize("architecture", PICO)
def test_the_third_network_of_a_kind_is_not_built(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, builder = spec_of(architecture, *PICO[architecture]), NetworkBuilder()
    builder.empty(spec, "it"), builder.empty(spec, "it")
    monkeypatch.setattr(timm, "create_model", None)
    copied = builder.empty(replace(spec, label_names=("a", "b", "c", "d"), notes=("a note",)), "it")
    assert all(tensor.is_meta for tensor in copied.state_dict().values())


def test_other_arguments_are_another_kind() -> None:
    builder = NetworkBuilder()
    for _ in range(3):
        small = builder.empty(spec_of("resnet18", {"channels": (8, 8, 16, 16)}, 32), "small")
        large = builder.empty(spec_of("resnet18", {"channels": (8, 8, 16, 32)}, 32), "large")
    assert small.get_classifier().in_features == 16
    assert large.get_classifier().in_features == 32


class HoldsItself(Conv4):
    """Its answers go through a function that belongs to the network it was made for."""

    def __init__(self, **arguments: object) -> None:
        super().__init__(num_classes=4)
        self.answer = lambda x: self.head(x)

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        return x.flatten(1) if pre_logits else self.answer(x.flatten(1))


class SharesAWeight(Conv4):
    def __init__(self, **arguments: object) -> None:
        super().__init__(num_classes=4)
        self.blocks[2].conv.weight = self.blocks[1].conv.weight


class HasBounds(Conv4):
    def __init__(self, **arguments: object) -> None:
        super().__init__(num_classes=4)
        self.register_buffer("bound", torch.tensor(float("inf")))


@pytest.mark.parametrize("kind", [HoldsItself, SharesAWeight, HasBounds])
def test_what_a_copy_would_get_wrong_is_built_each_time(kind: type[Conv4]) -> None:
    name = f"kept_{kind.__name__.lower()}"

    def build(pretrained: bool = False, **arguments: object) -> nn.Module:
        network = kind()
        network.pretrained_cfg = {}
        return network

    build.__name__, build.__module__ = name, __name__
    register_model(build)
    spec, builder = replace(spec_of("conv4_32", {}, 32), architecture=name), NetworkBuilder()
    networks = [builder.empty(spec, "it") for _ in range(4)]
    assert not any(tensor.is_meta for network in networks for tensor in network.state_dict().values())


def test_what_cannot_be_built_is_refused_each_time() -> None:
    builder, spec = NetworkBuilder(), spec_of("conv4_32", {"img_size": 8}, 8)
    for _ in range(3):
        with pytest.raises(TeacherError, match="an image size of 8x8"):
            builder.empty(spec, "it")


def test_a_pool_of_one_kind_holds_each_teachers_own_weights_in_their_own_type(tmp_path) -> None:
    folders, types = [], [torch.float32, torch.float32, torch.bfloat16, torch.float32, torch.float16]
    for seed, dtype in enumerate(types):
        torch.manual_seed(seed)
        network = timm.create_model("conv4_32", num_classes=4).to(dtype)
        folders.append(tmp_path / str(seed))
        save_teacher(network, folders[-1])
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    together = TeacherPool([str(folder) for folder in folders])
    for index, folder in enumerate(folders):
        alone = TeacherPool([str(folder)])
        assert torch.equal(together[index].logits(images), alone[0].logits(images))
        assert together.records[index] == alone.records[0]
        assert f"torch.{together.records[index].weight_dtype}" == str(types[index])


def test_teachers_of_no_use_are_found_among_many_of_their_kind(tmp_path) -> None:
    changes = {
        4: (lambda weight: weight.fill_(0.0), "has a constant output"),
        6: (lambda weight: weight.fill_(3e38), "outputs NaN or infinite values"),
    }
    folders = []
    for seed in range(8):
        torch.manual_seed(seed)
        network = timm.create_model("conv4_32", num_classes=4)
        folders.append(tmp_path / str(seed))
        save_teacher(network, folders[-1])
        if seed in changes:
            weights = load_file(folders[-1] / "model.safetensors")
            changes[seed][0](weights["head.weight"])
            if seed == 4:
                weights["head.bias"].fill_(1.0)
            save_file(weights, folders[-1] / "model.safetensors")
    pool = TeacherPool([str(folder) for folder in folders])
    assert [record.reference for record in pool.records] == [str(folders[index]) for index in (0, 1, 2, 3, 5, 7)]
    alone = TeacherPool([str(folders[4])]).skipped + TeacherPool([str(folders[6])]).skipped
    assert pool.skipped == alone
    for (_, reason), (_, words) in zip(pool.skipped, changes.values(), strict=True):
        assert words in reason


def test_the_first_of_a_kind_is_asked_about_four_images_and_the_others_about_two(tmp_path, monkeypatch) -> None:
    folders = [tmp_path / str(seed) for seed in range(5)]
    for seed, folder in enumerate(folders):
        torch.manual_seed(seed)
        save_teacher(timm.create_model("conv4_32", num_classes=4), folder)
    asked, ask = [], Teacher.forward

    def count(teacher: Teacher, images: torch.Tensor) -> object:
        asked.append(len(images))
        return ask(teacher, images)

    monkeypatch.setattr(Teacher, "forward", count)
    TeacherPool([str(folder) for folder in folders])
    assert asked[0] == 4
    assert asked[-3:] == [2, 2, 2]
