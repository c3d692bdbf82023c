"""The cost model against hand arithmetic and the published table."""

from __future__ import annotations

import pytest
import timm
import torch
from pico import pico_teacher
from torch import nn

import hf_free.backbones.register  # noqa: F401
from hf_free.evaluation.flops import Cost, count, operations, published_rows
from hf_free.runtime.text import with_prefix


def _conv4_products(width: int, size: int, classes: int = 5) -> int:
    """Multiply-accumulates of Conv-4, layer by layer."""
    products, channels, side = 0, 3, size
    for _ in range(4):
        products += side * side * 9 * channels * width
        channels, side = width, side // 2
    return products + width * side * side * classes


@pytest.mark.parametrize("size", [32, 84, 224])
@pytest.mark.parametrize("width", [32, 64])
def test_conv4(width, size):
    network = timm.create_model(f"conv4_{width}", num_classes=5, img_size=size)
    forward = 2 * _conv4_products(width, size)
    assert count(network, (3, size, size)) == Cost(forward, 2 * forward)
    assert count(network, (3, size, size), input_gradient_only=True) == Cost(forward, forward)


def test_conv4_32_has_4_million_products_at_32_and_27_million_at_84():
    assert _conv4_products(32, 32) == pytest.approx(4.0e6, rel=0.01)
    assert _conv4_products(32, 84) == pytest.approx(27.3e6, rel=0.01)


# GFLOPs of one image's backward pass as the paper motivates FIVE; 32, 84, 224 pixels.
@pytest.mark.parametrize(
    ("name", "size", "published"),
    [
        ("resnet18_small", 32, 1.12),
        ("resnet18_small", 84, 7.87),
        ("resnet18_small", 224, 54.67),
        ("resnet50_small", 32, 2.62),
        ("resnet50_small", 84, 18.36),
        ("resnet50_small", 224, 128.34),
    ],
)
def test_published_resnet_rows_are_twice_the_forward_products(name, size, published):
    cost = count(timm.create_model(name, num_classes=5), (3, size, size), input_gradient_only=True)
    assert cost.backward_flops == cost.forward_flops  # frozen: the input's gradient alone
    assert cost.backward_flops / 1e9 == pytest.approx(published, rel=0.012)


@pytest.mark.parametrize(("size", "published"), [(32, 0.03), (84, 0.23), (224, 1.63)])
def test_published_conv4_row_is_up_to_1_18_times_a_64_wide_conv4(size, published):
    cost = count(timm.create_model("conv4_64", img_size=size), (3, size, size), input_gradient_only=True)
    assert 1.05 < published * 1e9 / cost.backward_flops < 1.19


def test_published_table_beside_our_count():
    rows = {(row["network"], row["image_size"]): row for row in published_rows()}
    assert len(rows) == 9
    assert rows["ResNet-50", 224]["published"] == 128.34
    for (name, _), row in rows.items():
        assert row["published"] / row["counted"] == pytest.approx(1.12 if name == "Conv-4" else 1.005, abs=0.07)
    conv4 = timm.create_model("conv4_64", img_size=84, num_classes=5)
    exact = count(conv4, (3, 84, 84), input_gradient_only=True).backward_flops
    assert rows["Conv-4", 84]["counted"] == exact / 1e9


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0 kFLOP"), (1_234, "1.23 kFLOP"), (999_400, "999 kFLOP"), (999_600, "1 MFLOP"), (4.5e19, "45 EFLOP")],
)
def test_operations_in_words(number, words):
    assert operations(number) == words


def test_prefixes():
    units = ("", " k", " M")
    assert [with_prefix(n, units) for n in (7, 29_500, 2.5e7, 3e10)] == ["7", "29.5 k", "25 M", "3e+04 M"]


def test_attention_is_counted_product_by_product():
    network = timm.create_model("test_vit", img_size=32, patch_size=4, num_classes=5)
    tokens, width, hidden, depth = 65, 64, 192, 6
    attention = 2 * tokens * tokens * width
    block = tokens * width * (3 * width + width + 2 * hidden) + attention
    forward = 2 * (64 * 48 * width + depth * block + width * 5)
    # Both factors of attention's products depend on the image, so their backward pass costs twice even when frozen.
    frozen = Cost(forward, forward + 2 * depth * attention)
    assert count(network, (3, 32, 32), input_gradient_only=True) == frozen
    assert count(network, (3, 32, 32)) == Cost(forward, 2 * forward)


def test_grouped_and_transposed_convolutions():
    grouped = nn.Conv2d(8, 16, 3, padding=1, groups=4, bias=False)
    forward = 2 * 10 * 10 * 16 * 2 * 9
    assert count(grouped, (8, 10, 10)) == Cost(forward, 2 * forward)
    transposed = nn.ConvTranspose2d(8, 4, 2, stride=2, bias=False)
    forward = 2 * 10 * 10 * 8 * 4 * 4
    assert count(transposed, (8, 10, 10)) == Cost(forward, 2 * forward)


def test_teacher_is_counted_at_its_own_size_and_left_alone():
    teacher = pico_teacher("conv4", size=48, num_classes=3)
    cost = count(teacher)
    assert cost == count(teacher.network, (3, 48, 48), input_gradient_only=True)
    assert cost == Cost(*(2 * _conv4_products(8, 48, 3),) * 2)
    assert next(teacher.network.parameters()).device.type == "cpu"
    assert not any(p.requires_grad for p in teacher.network.parameters())
    assert 3 * cost + cost == cost * 4
    assert cost.total_flops == 2 * cost.forward_flops


def test_batch_and_networks_that_look_at_values():
    class Looks(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) if float(x.detach().sum()) == 0 else x

    assert count(Looks(4, 3), (4,), batch_size=5) == Cost(2 * 5 * 12, 4 * 5 * 12)


def test_missing_input_size():
    with pytest.raises(ValueError, match="input_size is missing"):
        count(nn.Linear(2, 2))
