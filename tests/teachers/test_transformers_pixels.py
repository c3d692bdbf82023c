"""Pixels of photos: ours against those of the library's own processors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from hf_free.data.images import fit, to_float
from hf_free.errors import TeacherError
from hf_free.evaluation.baselines import teacher_preprocessing
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.teachers.transformers_pixels import overlay, read_pixels

CASES = {
    "ViT": {"size": {"height": 48, "width": 48}},
    "ViT, a number, bytes kept": {"type": "ViT", "size": 48, "do_rescale": False},
    "ViT, another scale": {"type": "ViT", "size": 48, "rescale_factor": 1 / 127.5},
    "ViT, no normalizing": {"type": "ViT", "size": 48, "do_normalize": False},
    "Beit": {"size": 56, "crop_size": 48, "do_center_crop": True},
    "CLIP": {"size": {"shortest_edge": 48}, "crop_size": 48},
    "Bit": {"size": {"shortest_edge": 57}, "crop_size": {"height": 48, "width": 48}, "resample": 2},
    "DeiT": {"size": 63, "crop_size": 48},
    "ConvNext": {"size": 48},
    "ConvNext, a share": {"type": "ConvNext", "size": {"shortest_edge": 45}, "crop_pct": 0.95},
    "ConvNext, no crop": {"type": "ConvNext", "size": {"shortest_edge": 384}},
    "EfficientNet": {"size": {"height": 48, "width": 48}},
    "EfficientNet, moved": {
        "type": "EfficientNet", "size": 48, "rescale_factor": 1 / 127.5, "rescale_offset": True, "include_top": False,
    },
    "EfficientNet, once": {"type": "EfficientNet", "size": 48, "do_normalize": False},
    "Levit": {"size": 48, "crop_size": 48},
    "MobileNetV1": {"size": {"shortest_edge": 55}, "crop_size": 48},
    "MobileNetV2": {"size": {"shortest_edge": 53}, "crop_size": {"height": 48, "width": 48}},
    "MobileViT": {"size": {"shortest_edge": 54}, "crop_size": {"height": 48, "width": 48}},
    "MobileViT, unswapped": {"type": "MobileViT", "size": 54, "crop_size": 48, "do_flip_channel_order": False},
    "PoolFormer": {"size": 48, "crop_size": 48, "crop_pct": 0.95},
    "PPLCNet": {"resize_short": 56, "crop_size": 48},
    "Pvt": {"size": 48},
    "Segformer": {"size": 48},
    "Siglip": {"size": {"height": 48, "width": 48}, "resample": 0},
}  # fmt: skip


def _record(pixels):
    return TeacherRecord(
        reference="t", repo_id=None, commit=None, architecture="A", parameters=1, fixed_input_size=True,
        input_size=(3, pixels.height, pixels.width), mean=pixels.mean, std=pixels.std, num_classes=2,
        interpolation=pixels.interpolation, label_names=None, num_features=1, resize=pixels.resize,
    )  # fmt: skip


def _photo(height, width):
    """A smooth picture with edges, as photos are: noise would only measure how filters treat noise."""
    y, x = np.mgrid[0:height, 0:width] / 24
    values = np.stack([128 + 100 * np.sin(x + y), 128 + 100 * np.cos(x - 2 * y), 40 + 60 * (y > x)], -1)
    return Image.fromarray(values.astype(np.uint8))


def _seen(pixels, photo):
    """What a network is given of a photo, made by the evaluation's own code."""
    batch = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None]
    shown = to_float(fit(batch, teacher_preprocessing(_record(pixels))))
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (pixels.mean, pixels.std))
    normalized = (shown - mean) / std
    return normalized.flip(1) if pixels.is_flipped else normalized


# PP-LCNet's processor rounds the longer side, where all others cut it: the same number for the first shape
@pytest.mark.parametrize(
    ("case", "shape"), [*((case, (97, 130)) for case in CASES), *((c, (64, 61)) for c in CASES if c != "PPLCNet")]
)
def test_pixels_are_those_of_the_processor_itself(case, shape):
    transformers = pytest.importorskip("transformers")
    values = dict(CASES[case])
    kind = values.pop("type", case)
    own = getattr(transformers, f"{kind}ImageProcessor")(**values)
    photo = _photo(*shape)
    expected = own(images=photo, return_tensors="pt")["pixel_values"]
    pixels = read_pixels({**values, "image_processor_type": f"{kind}ImageProcessor"}, "t", model_type="x", channels=3)
    ours = _seen(pixels, photo)
    assert ours.shape == expected.shape
    # One gray value of 255: torchvision rounds bytes after each of the two passes of a filter, Pillow's way once.
    step = (1 / 255 / torch.tensor(pixels.std)).max()
    difference = (ours - expected).abs() / step
    assert difference.max() <= 2.1, "two gray values at most, where a picture grows"
    assert difference.mean() < 0.3
    assert pixels.notes == (("its processor rounds the longer side up, here it is cut",) if kind == "PPLCNet" else ())


@pytest.mark.parametrize(("margin", "begins"), [(3, 1), (7, 3), (5, 2), (4, 2)])
def test_the_center_is_the_library_s_not_timm_s(margin, begins):
    transformers = pytest.importorskip("transformers")
    values = {"size": {"shortest_edge": 32 + margin}, "crop_size": 32, "do_normalize": False, "do_rescale": False}
    ramp = np.arange(32 + margin, dtype=np.uint8)
    photo = Image.fromarray(np.stack([np.stack([ramp] * 3, -1)] * (32 + margin)))
    own = transformers.CLIPImageProcessor(**values)(images=photo, return_tensors="pt")["pixel_values"]
    pixels = read_pixels({**values, "image_processor_type": "CLIPImageProcessor"}, "t", model_type="x", channels=3)
    assert own[0, 0, 0, 0] == begins
    assert torch.allclose(_seen(pixels, photo), own.float(), atol=1e-3)


@pytest.mark.parametrize(
    ("model_type", "values", "expected"),
    [
        ("vit", {"feature_extractor_type": "ViTFeatureExtractor", "size": 96}, ((96, 96), (96, 96))),
        ("vit", {"image_processor_type": "ViTImageProcessorFast"}, ((224, 224), (224, 224))),
        ("resnet", {"size": 224}, ((256,), (224, 224))),
        ("deit", {}, ((256, 256), (224, 224))),
        ("levit", {}, ((256,), (224, 224))),
        ("segformer", {"image_processor_type": "SegformerImageProcessorPil"}, ((512, 512), (512, 512))),
    ],
)  # fmt: skip
def test_what_a_file_leaves_out_is_as_the_library_has_it(model_type, values, expected):
    pixels = read_pixels(values, "t", model_type=model_type, channels=3)
    assert (pixels.resize, (pixels.height, pixels.width)) == expected


def test_defaults_are_those_of_the_installed_library():
    transformers = pytest.importorskip("transformers")
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

    from hf_free.teachers.transformers_pixels import BY_MODEL, PROCESSORS

    for kind, ours in PROCESSORS.items():
        own = getattr(transformers, f"{kind}ImageProcessor")
        assert (tuple(own.image_mean), tuple(own.image_std)) == tuple(map(tuple, ours.normal)), kind
        assert ("nearest", "lanczos", "bilinear", "bicubic")[int(own.resample)] == ours.filter, kind
        assert set(own.size.values()) == {ours.size}, kind
        assert bool(getattr(own, "do_center_crop", False)) == (ours.crop is not None), kind
        assert own.default_to_square == ours.is_square, kind
    for model_type, kind in BY_MODEL.items():
        assert IMAGE_PROCESSOR_MAPPING_NAMES[model_type]["torchvision"] == f"{kind}ImageProcessor", model_type


def test_what_cannot_be_shown_as_the_processor_does_is_said():
    seen = read_pixels(
        {"image_processor_type": "CLIPImageProcessor", "do_center_crop": False}, "t", model_type="clip", channels=3
    )
    assert "does not crop" in seen.notes[0]
    seen = read_pixels({}, "t", model_type="perceiver", channels=3)
    assert "before it resizes" in seen.notes[0]
    assert (seen.resize, seen.height) == ((256, 256), 224)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_processor_type": "DonutImageProcessor"}, "its processor is 'DonutImageProcessor'"),
        ({"image_processor_type": "os.system"}, "its processor is 'os.system'"),
        ({"size": {"height": 3, "width": 224}}, "size is"),
        ({"size": {"height": 10**9, "width": 224}}, "size is"),
        ({"size": "224"}, "size is '224'"),
        ({"size": {"longest_edge": 224, "shortest_edge": 224}}, "size is"),
        ({"size": True}, "size is True"),
        ({"size": 32, "do_center_crop": True, "crop_size": 64}, r"cuts \[64, 64\] pixels out of \[32, 32\]"),
        ({"image_mean": [0.5, 0.5]}, "image_mean is"),
        ({"image_std": [0.5, 0.0, 0.5]}, "image_std is"),
        ({"image_std": float("nan")}, "image_std is"),
        ({"rescale_factor": 10**400}, "rescale_factor is"),
        ({"do_rescale": "yes"}, "do_rescale is 'yes'"),
        ([], "holds a list"),
    ],
)
def test_values_that_are_not_allowed_are_refused_by_name(values, message):
    with pytest.raises(TeacherError, match=message):
        read_pixels(values, "t", model_type="vit", channels=3)


def test_a_list_of_the_user_s_own_wins_and_is_enough_alone():
    given = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5], "input_size": [3, 40, 48], "interpolation": "nearest"}
    alone = overlay(None, given, "t", 3)
    assert alone is not None
    assert (alone.height, alone.width, alone.resize, alone.interpolation) == (40, 48, (40, 48), "nearest")
    assert overlay(None, {"mean": [0.1, 0.2, 0.3]}, "t", 3) is None
    base = read_pixels({"size": 32}, "t", model_type="vit", channels=3)
    assert overlay(base, {"mean": 0.25}, "t", 3).mean == (0.25, 0.25, 0.25)
    for wrong in ({"std": [1, 0, 1]}, {"input_size": [3, 0, 32]}, {"input_size": 32}):
        with pytest.raises(TeacherError):
            overlay(base, wrong, "t", 3)
