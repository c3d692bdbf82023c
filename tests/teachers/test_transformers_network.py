"""Networks of every family, from their files: the library's own numbers, and features that its heads take."""

from __future__ import annotations

import pytest
import torch

transformers = pytest.importorskip("transformers")

from pico_transformers import FAMILIES, PATCHES, ask, pico_classifier, pico_folder_of  # noqa: E402

from hf_free.runtime.device import Precision  # noqa: E402
from hf_free.teachers.loader import load_teacher  # noqa: E402
from hf_free.teachers.transformers_network import FAMILIES as KNOWN  # noqa: E402
from hf_free.teachers.transformers_network import UNFIT  # noqa: E402
from hf_free.teachers.transformers_pixels import PROCESSORS  # noqa: E402

QUICK = ("vit", "deit-two", "resnet", "swin")

ONCE = "pp_lcnet"
"""Its hard sigmoid has no second derivative in PyTorch, as timm's MobileNetV3 has none."""


def own_network(family):
    """The library's network, laid out in memory as a teacher's is."""
    return pico_classifier(family).to(memory_format=torch.channels_last)


def families(quick):
    return [
        family if family in quick else pytest.param(family, marks=[pytest.mark.long]) for family in sorted(FAMILIES)
    ]


@pytest.mark.parametrize("family", families(QUICK))
def test_every_family_answers_as_the_library_does(family, tmp_path):
    teacher = load_teacher(pico_folder_of(tmp_path, family))
    own = own_network(family)
    images = torch.rand(3, 3, 37, 45, generator=torch.Generator().manual_seed(1))
    shown = teacher.prepare(images)
    with torch.no_grad():
        logits, features = teacher(images)
        expected = ask(own, shown)
    assert torch.equal(logits, expected)
    assert torch.equal(logits, teacher.logits(images))
    assert (logits.std(0) > 0).all()
    # The features are what a linear head maps to the logits: two heads of one input are one head, and of two inputs
    # the mean of both is not enough, which the library does not give either.
    assert features.shape == (3, teacher.record.num_features)
    if family != "deit-two":
        with torch.no_grad():
            again = teacher.network.forward_head(features.unflatten(1, _width(teacher, family)))
        assert torch.allclose(again, logits, atol=1e-6)
    teacher.fold(Precision(None))
    with torch.no_grad():
        assert torch.allclose(teacher.labels(images), logits, rtol=1e-3, atol=1e-3)


def _width(teacher, family):
    """Shape of one picture's features as the head takes them: some have two empty dimensions."""
    has_map = family in ("bit", "regnet", "resnet")
    return (teacher.record.num_features, 1, 1) if has_map else (teacher.record.num_features,)


@pytest.mark.parametrize("family", [f for f in families(QUICK) if f != ONCE and ONCE not in getattr(f, "values", ())])
def test_second_derivatives_exist(family, tmp_path):
    teacher = load_teacher(pico_folder_of(tmp_path, family))
    images = torch.rand(2, *teacher.record.input_size).requires_grad_()
    (gradient,) = torch.autograd.grad(teacher.logits(images).logsumexp(1).sum(), images, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), images)
    assert torch.isfinite(second).all()
    assert second.abs().max() > 0


def test_every_classifier_of_the_library_is_a_teacher_or_has_a_reason():
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as NAMES

    classes = {c for value in NAMES.values() for c in ((value,) if isinstance(value, str) else value)}
    tried = {architecture for architecture, _ in FAMILIES.values()}
    others = {NAMES[model_type] for model_type in UNFIT} | {"TimmWrapperForImageClassification"}  # timm's own
    assert tried | others == classes
    assert set(KNOWN) | set(UNFIT) | {"timm_wrapper"} == set(NAMES)


def test_two_tokens_give_their_mean_as_features(tmp_path):
    teacher = load_teacher(pico_folder_of(tmp_path, "deit-two"))
    own = own_network("deit-two")
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        tokens = own.deit(pixel_values=teacher.prepare(images)).last_hidden_state
    assert torch.allclose(teacher.features(images), (tokens[:, 0] + tokens[:, 1]) / 2, atol=1e-6)


def test_red_and_blue_are_swapped_where_the_processor_swaps_them(tmp_path):
    values = {"image_processor_type": "MobileViTImageProcessor", "size": {"shortest_edge": 64}, "crop_size": 64}
    teacher = load_teacher(pico_folder_of(tmp_path, "resnet", processor=values))
    assert "blue, green, red" in " ".join(teacher.record.notes)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(teacher.logits(images), ask(own_network("resnet"), images.flip(1)))


def test_siglip_2_is_given_the_patches_its_processor_cuts(tmp_path):
    from PIL import Image

    teacher = load_teacher(pico_folder_of(tmp_path, "siglip2"))
    photo = torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8)
    own = transformers.Siglip2ImageProcessor(**{k: v for k, v in PATCHES.items() if k != "image_processor_type"})
    values = own(images=Image.fromarray(photo.numpy()), return_tensors="pt")
    with torch.no_grad():
        expected = own_network("siglip2")(**values).logits
        ours = teacher.logits(photo.permute(2, 0, 1)[None].float() / 255)
    assert torch.allclose(ours, expected, atol=1e-5)


def test_every_processor_but_those_named_is_known():
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES as NAMES

    needed = {NAMES[kind]["torchvision"].removesuffix("ImageProcessor") for kind in KNOWN if NAMES.get(kind)}
    assert needed - set(PROCESSORS) == {"Donut", "Siglip2"}, "one pads, the other cuts patches, see above"
