"""config.json of a transformers classifier: which fields go on, and what is refused by name."""

from __future__ import annotations

import pytest

from hf_free.errors import TeacherError, UnfitTeacherError
from hf_free.teachers.transformers_config import check_transformers_config, is_transformers, unlisted

VIT = {
    "model_type": "vit", "architectures": ["ViTForImageClassification"], "hidden_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32, "patch_size": 8, "hidden_act": "gelu",
    "id2label": {"0": "cat", "1": "dog", "2": "owl"}, "qkv_bias": True, "layer_norm_eps": 1e-12,
}  # fmt: skip


def _checked(**changes):
    return check_transformers_config({**VIT, **changes}, "org/vit", tensors=40)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (VIT, True),
        ({"architectures": ["ViTForImageClassification"]}, True),
        ({"architecture": "resnet18", "num_classes": 5}, False),
        ({"architecture": "resnet18", "model_type": "timm_wrapper"}, False),
        ({"num_classes": 5}, False),
        ([], False),
    ],
)
def test_kinds_are_told_apart(config, expected):
    assert is_transformers(config) is expected


def test_only_listed_fields_go_on():
    spec = _checked(
        attn_implementation="compiled", dtype="bfloat16", return_dict=False, output_hidden_states=True,
        torchscript=True, name_or_path="/etc/passwd", use_cache=False, initializer_range=0.02, tie_word_embeddings=1,
    )  # fmt: skip
    assert set(spec.fields) == set(VIT) - {"model_type", "architectures", "id2label"}
    assert (spec.num_classes, spec.channels, spec.label_names) == (3, 3, ("cat", "dog", "owl"))
    assert spec.notes == ()


@pytest.mark.parametrize(
    ("changes", "number", "names"),
    [
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, 2, None),
        ({"id2label": None}, 2, None),
        ({"id2label": {"1": "a", "2": "b"}}, 2, None),
        ({"id2label": {"0": "a", "1": 7}}, 2, ("a", "7")),
        ({"num_labels": 4}, 4, None),
        ({"id2label": {"0": "two\nlines", "1": "\x1b[2J"}}, 2, ("two lines", "[2J")),
        ({"label_names": ["x", "y", "z"]}, 3, ("x", "y", "z")),
    ],
)
def test_classes_are_counted_as_the_library_counts_them(changes, number, names):
    spec = _checked(**changes)
    assert spec.num_classes == number
    assert names is None or [n.strip() for n in spec.label_names] == list(names)
    assert (spec.label_names is None) == (names is None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"auto_map": {"AutoModelForImageClassification": "code.Net"}}, "brings code of its own"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "quantized weights"),
        ({"problem_type": "regression"}, "regression"),
        ({"model_type": "../vit"}, "model_type is"),
        ({"model_type": None}, "model_type is None"),
        ({"architectures": "ViTForImageClassification"}, "architectures is"),
        ({"architectures": ["os.system('x')"]}, "architectures is"),
        ({"num_hidden_layers": 41}, "num_hidden_layers is 41"),
        ({"num_hidden_layers": -1}, "num_hidden_layers is -1"),
        ({"depths": [20, 21]}, "depths asks for 41 layers"),
        ({"num_block_repeats": [10, 10], "depth_coefficient": 3.1}, "num_block_repeats asks for 62 layers"),
        ({"hidden_size": 10**400}, "hidden_size is 1000"),
        ({"hidden_size": float("nan")}, "hidden_size is nan"),
        ({"hidden_size": "16"}, "hidden_size is '16'"),
        ({"image_size": 100_000}, "image_size is 100000"),
        ({"padding": 2000}, "padding is 2000"),
        ({"patch_stride": [4, 65_536]}, "patch_stride is 65536"),
        ({"image_size": True}, "image_size is True"),
        ({"hidden_act": "xielu"}, "hidden_act is 'xielu'"),
        ({"hidden_act": ["gelu", "os.system"]}, "hidden_act is 'os.system'"),
        ({"qkv_bias": 1}, "qkv_bias is 1"),
        ({"hidden_sizes": [[[[[[16]]]]]]}, "hidden_sizes is"),
        ({"hidden_sizes": [1] * 5000}, "numbers"),
        ({"hidden_sizes": {"a": 1}}, "hidden_sizes is"),
        ({"num_channels": 4}, "num_channels is 4"),
        ({"vision_config": [1]}, "vision_config is a list"),
        ({"vision_config": {"hidden_act": "code"}}, "hidden_act is 'code'"),
        ({"id2label": ["a", "b"]}, "id2label is a list"),
        ({"num_labels": 10**9}, "num_labels is"),
        ({"num_labels": "3"}, "num_labels is '3'"),
        ({"num_classes": 4}, "num_classes is 4"),
        ({"label_names": ["x", "y"]}, "label_names is"),
    ],
)
def test_what_is_refused_is_named(changes, message):
    with pytest.raises(TeacherError, match=message):
        _checked(**changes)


def test_one_class_is_of_no_use():
    with pytest.raises(UnfitTeacherError, match="1 class"):
        _checked(id2label={"0": "only"})


def test_arguments_of_timm_s_are_said_to_be_ignored():
    assert "model_args is ignored" in _checked(model_args={"depth": 3}).notes[0]


def test_several_classes_in_one_picture_are_said():
    assert "several classes" in _checked(problem_type="multi_label_classification").notes[0]


def test_fields_of_a_later_library_are_not_passed_over():
    assert unlisted({**VIT, "kernel_file": "x", "other": 1}, frozenset({"hidden_size", "kernel_file"})) == [
        "kernel_file"
    ]
