"""What the `config.json` of an image classifier of transformers may say, and what is refused.

As for timm's (`hf_free.teachers.config_check`), only fields on a list go on to the library, each within a range: a
stranger's configuration names no code, no file and no network of arbitrary size.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from hf_free.errors import TeacherError, UnfitTeacherError
from hf_free.provenance.reading import Json, JsonView
from hf_free.runtime.given import short_form
from hf_free.teachers.config_check import MAX_CLASSES, SIDES, clean_label, is_whole
from hf_free.teachers.label_names import is_placeholder


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LAYERS = _words(
    """
    depth depths n_attn_blocks num_block_repeats num_blocks num_encoder_blocks num_hidden_layers
    num_self_attends_per_block num_stages stage_num_blocks stage_numb_of_layers
    """
)
"""Numbers of layers: together no more than the weights file has tensors."""

_SIZES = frozenset(("image_size", "patch_size", "patch_sizes"))

_NUMBERS = _words(
    """
    attention_ratio base_attn_unit_dims batch_norm_eps block_configs class_expand cross_attention_widening_factor
    d_latents d_model depth_coefficient depth_divisible_by depth_divisor depth_multiplier divisor down_patch_size
    embed_dim embed_dim_multiplier embed_dims embedding_size expand_ratio expand_ratios ffn_multiplier groups_width
    hidden_dim hidden_dropout_prob hidden_size hidden_sizes in_channels intermediate_size key_dim layer_norm_eps
    layer_scale_init_value layerscale_value masked_unit_size min_depth mlp_ratio mlp_ratios neck_hidden_sizes
    num_attention_heads num_channels num_cross_attention_heads num_heads num_latents num_patches
    num_self_attention_heads out_channels output_num_channels output_stride projection_dim qk_channels
    samples_per_patch scale self_attention_widening_factor squeeze_expansion_ratio stage_in_channels
    stage_mid_channels stage_out_channels stem_channels stem_num_channels stem_out_channels v_channels
    width_coefficient width_factor width_multiplier
    """
)

_SMALL = _words(
    """
    conv_kernel_size conv_layer_kernel_sizes conv_layer_strides depthwise_padding dilations down_pad down_stride
    focal_levels focal_windows kernel_qkv kernel_size kernel_sizes num_groups num_query_pool num_register_tokens
    padding padding_kv padding_q patch_padding patch_stride pool_size pretrained_window_sizes query_stride reduction
    sequence_reduction_ratios sr_ratios stage_downsample_strides stage_kernel_size stem_kernel_size stem_stride
    stem_strides stride stride_kv stride_q strides window_size
    """
)
"""Fields that enlarge a network's feature maps without adding weights: paddings of thousands would fill memory."""

_FLAGS = _words(
    """
    cls_token downsample_in_bottleneck downsample_in_first_stage downsamples embedding_dynamic_padding
    finegrained_output first_layer_is_expansion linear_attention masked_unit_attention normalize_modulator qkv_bias
    reshape_last_stage stage_downsample stage_light_block tf_padding use_absolute_embeddings
    use_absolute_position_embeddings use_conv_embed use_layer_scale use_layerscale use_learnable_affine_block
    use_mask_token use_mean_pooling use_post_layernorm use_post_layernorm_in_modulation use_query_residual
    use_relative_position_bias use_shared_relative_position_bias use_swiglu_ffn vision_use_head
    """
)

_ACTIVATIONS = tuple(
    sorted(
        _words(
            """
            gelu gelu_10 gelu_fast gelu_new gelu_python gelu_pytorch_tanh hardswish leaky_relu linear mish
            quick_gelu relu relu2 relu6 sigmoid silu swish tanh
            """
        )
    )
)
_WORDS: Mapping[str, tuple[str, ...]] = {
    "hidden_act": _ACTIVATIONS,
    "stem_act_func": _ACTIVATIONS,
    "layer_type": ("preactivation", "bottleneck", "basic", "x", "y"),
    "global_padding": ("SAME", "VALID", "same", "valid"),
    "pooling_type": ("mean", "max"),
    "qkv_projection_method": ("dw_bn", "avg"),
    "cross_attention_shape_for_attention": ("kv",),
}

_NESTED = "vision_config"
"""Where model types for pictures and texts keep the fields for pictures."""

UNREAD = _words(
    """
    add_fpn apply_layernorm aspp_dropout_prob aspp_out_channels atrous_rates attention_drop_rate attention_dropout
    attention_probs_dropout_prob attn_dropout audio_samples_per_frame auxiliary_channels auxiliary_concat_input
    auxiliary_loss_weight auxiliary_num_convs batch_norm_momentum classifier_dropout_prob decoder_depth
    decoder_hidden_size decoder_num_heads drop_connect_rate drop_conv_encoder_rate drop_mlp_rate drop_path_rate
    drop_rate dropout dropout_rate encoder_stride ffn_dropout initializer_factor initializer_range
    label_trainable_num_channels layer_norm_init
    logit_scale_init_value mask_ratio max_position_embeddings normalize_pixel_loss num_frames out_features
    out_indices output_shape pool_scales pooler_act pooler_output_size reshape_hidden_states
    semantic_loss_ignore_index stage_names text_config train_size use_auxiliary_head vocab_size
    """
)
"""Fields that a classifier does not read in inference, or that are about training and other tasks."""

_MOST_NUMBER, _MOST_SMALL, _MOST_VALUES, _DEEPEST = 65_536, 128, 4_096, 4
"""Largest number, largest of `_SMALL`, most numbers in all, and depth of lists: DINOv2-giant has 1,536 wide layers,
windows of Swin V2 are 24 places wide, and PP-LCNet's blocks are 65 numbers in lists of lists."""

_MODEL_TYPE = re.compile(r"[a-z0-9_-]{1,40}")
_CLASS_NAME = re.compile(r"\w{1,80}")


@dataclass(frozen=True)
class TransformersSpec:
    """The checked contents of a `config.json`.

    Attributes:
        model_type: Which networks the library builds from it, `vit`.
        architectures: Classes that it names, `ViTForImageClassification`.
        fields: What goes on to the library.
        num_classes: Outputs of the head.
        channels: 1 or 3.
        label_names: Name of each class; None where nobody named them.
        pixels: What a YAML list says of mean, std, input_size and interpolation.
        notes: What was ignored.
    """

    model_type: str
    architectures: tuple[str, ...]
    fields: Json
    num_classes: int
    channels: int
    label_names: tuple[str, ...] | None
    pixels: JsonView = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def is_transformers(config: object) -> bool:
    """Whether a parsed `config.json` is one of transformers; timm's names an `architecture`, TimmWrapper's too."""
    if not isinstance(config, Mapping) or "architecture" in config:
        return False
    return any(key in config for key in ("model_type", "architectures", "transformers_version"))


def check_transformers_config(config: JsonView, name: str, *, tensors: int) -> TransformersSpec:
    """Check the parsed `config.json` of the teacher `name`.

    Args:
        config: See `is_transformers`.
        name: How messages call the teacher.
        tensors: Tensors in its weights file; a network has no more layers.

    Raises:
        TeacherError: code or quantized weights asked for, no classifier, or a field or value that is not allowed.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not _MODEL_TYPE.fullmatch(model_type):
        raise TeacherError(
            f"{name}: model_type is {short_form(model_type)}", allowed="a type of transformers, such as vit"
        )
    _refuse_what_loads_more(config, name)
    architectures = config.get("architectures") or []
    good = isinstance(architectures, list) and all(
        isinstance(a, str) and _CLASS_NAME.fullmatch(a) for a in architectures
    )
    if not good or len(architectures) > _DEEPEST:
        raise TeacherError(f"{name}: architectures is {short_form(architectures)}", allowed="names of classes")
    notes: list[str] = []
    given = config.get("pretrained_cfg")
    given = given if isinstance(given, Mapping) else {}
    num_classes, labels = _classes(config, given, name, notes)
    if config.get("model_args"):
        notes.append("model_args is ignored: what shapes a network of transformers stands in its config.json")
    fields = _checked(config, name, tensors)
    if config.get("problem_type") == "multi_label_classification":
        notes.append("it was trained to find several classes in one picture; here its answers are a choice of one")
    inner = fields.get(_NESTED) if _NESTED in fields else fields
    channels = inner.get("num_channels", 3) if isinstance(inner, Mapping) else 3
    if channels not in (1, 3):
        raise TeacherError(f"{name}: num_channels is {short_form(channels)}", allowed="1 or 3")
    return TransformersSpec(
        model_type=model_type,
        architectures=tuple(architectures),
        fields=fields,
        num_classes=num_classes,
        channels=channels,
        label_names=labels,
        pixels={key: value for key, value in given.items() if key in _GIVEN},
        notes=tuple(notes),
    )


_GIVEN = ("mean", "std", "input_size", "interpolation")


def unlisted(config: JsonView, known: frozenset[str]) -> list[str]:
    """Fields that the library would read and that are on no list of ours, those of a later version for instance."""
    listed = _LAYERS | _SIZES | _NUMBERS | _SMALL | _FLAGS | set(_WORDS) | UNREAD | {_NESTED, "num_labels"}
    return sorted(key for key in config if key in known and key.lstrip("_") not in listed)


def _refuse_what_loads_more(config: JsonView, name: str) -> None:
    if config.get("auto_map"):
        raise TeacherError(
            f"{name} brings code of its own (auto_map in config.json)",
            allowed="networks that transformers itself builds; no code of a repository is ever run",
            action="leave it out",
        )
    if config.get("quantization_config") is not None:
        raise TeacherError(
            f"{name} has quantized weights (quantization_config in config.json)",
            allowed="weights in float32, float16 or bfloat16",
            action="name the repository that it was quantized from",
        )
    if config.get("problem_type") == "regression":
        raise UnfitTeacherError(f"{name} was trained for regression", allowed="classifiers", action="leave it out")


def _classes(config: JsonView, given: JsonView, name: str, notes: list[str]) -> tuple[int, tuple[str, ...] | None]:
    """Number and names of the classes, as the library counts: `num_labels` wins over `id2label`, and neither means
    2."""
    id2label = config.get("id2label")
    if id2label is not None and not isinstance(id2label, Mapping):
        raise TeacherError(f"{name}: id2label is a {type(id2label).__name__}", allowed="number -> name of each class")
    number = config.get("num_labels")
    if number is None:
        number = len(id2label) if id2label else 2
    if not is_whole(number) or not 0 <= number <= MAX_CLASSES:
        raise TeacherError(
            f"{name}: num_labels is {short_form(number)}", allowed=f"a whole number from 2 to {MAX_CLASSES}"
        )
    if number < 2:
        raise UnfitTeacherError(
            f"{name} has {number} class(es)", allowed="classifiers of at least 2 classes", action="leave it out"
        )
    said = config.get("num_classes", number)  # of a YAML list, as label_names
    if said != number:
        raise TeacherError(f"{name}: num_classes is {short_form(said)}", allowed=f"{number}, as its config.json says")
    own = config.get("label_names", given.get("label_names"))
    if own is not None:
        if not isinstance(own, list) or len(own) != number or not all(isinstance(label, str) for label in own):
            raise TeacherError(
                f"{name}: label_names is {short_form(own)}", allowed=f"a list of {number} names, one per class"
            )
        return number, tuple(map(clean_label, own))
    if not id2label:
        return number, None
    by_index = {str(key): value for key, value in id2label.items()}
    labels = [by_index.get(str(index)) for index in range(number)]
    if len(by_index) != number or not all(isinstance(label, str | int) for label in labels):
        notes.append(f"id2label does not name {number} classes and is ignored")
        return number, None
    names = tuple(clean_label(str(label)) for label in labels)
    return number, None if all(map(is_placeholder, names)) else names


def _checked(config: JsonView, name: str, tensors: int) -> Json:
    """The fields on the list, every value within its range."""
    nested = config.get(_NESTED)
    if nested is not None and not isinstance(nested, Mapping):
        raise TeacherError(f"{name}: {_NESTED} is a {type(nested).__name__}", allowed="a JSON object")
    fields: Json = {} if nested is None else {_NESTED: _checked(nested, name, tensors)}
    count = 0
    for key, value in config.items():
        if key in _WORDS:
            _check_words(key, value, name)
        elif key in _FLAGS:
            _check_all(key, value, name, "true or false", lambda v: isinstance(v, bool))
        elif key in _SIZES:
            rule = f"whole numbers from 1 to {SIDES.stop - 1}"
            _check_all(key, value, name, rule, lambda v: is_whole(v) and 1 <= v < SIDES.stop)
        elif key in _LAYERS:
            rule = f"whole numbers of layers, {tensors} at most: its weights are {tensors} tensors"
            _check_all(key, value, name, rule, lambda v: is_whole(v) and 0 <= v <= tensors)
        elif key in _SMALL:
            rule = f"numbers from 0 to {_MOST_SMALL}"
            _check_all(key, value, name, rule, lambda v: _is_in_range(v, _MOST_SMALL))
        elif key in _NUMBERS:
            rule = f"numbers from 0 to {_MOST_NUMBER}"
            _check_all(key, value, name, rule, _is_in_range)
        else:
            continue
        count += sum(1 for _ in _values(value))
        fields[key] = value
    if count > _MOST_VALUES:
        raise TeacherError(f"{name}: config.json holds {count} numbers", allowed=f"at most {_MOST_VALUES}")
    _check_depth(fields, name, tensors)
    return fields


def _check_depth(fields: Json, name: str, tensors: int) -> None:
    stretch = fields.get("depth_coefficient", 1)
    for key in _LAYERS & fields.keys():
        layers = sum(value for value in _values(fields[key]) if is_whole(value)) * max(1.0, float(stretch or 1))
        if layers > tensors:
            raise TeacherError(
                f"{name}: {key} asks for {layers:.0f} layers",
                allowed=f"at most {tensors}, as its weights have tensors",
            )


def _is_in_range(value: object, most: int = _MOST_NUMBER) -> bool:
    if isinstance(value, bool):  # PP-LCNet's and HGNet's lists mix numbers and flags
        return True
    return value is None or (isinstance(value, int | float) and 0 <= value <= most and math.isfinite(value))


def _check_words(key: str, value: object, name: str) -> None:
    for word in _values(value):
        if word is not None and word not in _WORDS[key]:
            raise TeacherError(f"{name}: {key} is {short_form(word)}", allowed=", ".join(_WORDS[key]))


def _check_all(key: str, value: object, name: str, rule: str, is_good: Callable[[object], bool]) -> None:
    for one in _values(value):
        if one is not None and not is_good(one):
            raise TeacherError(f"{name}: {key} is {short_form(one)}", allowed=rule, action="correct its config.json")


def _values(value: object, depth: int = 0) -> Iterator[object]:
    """The plain values of nested lists; what lies deeper, or is no list, is given as it is."""
    if isinstance(value, list) and depth < _DEEPEST:
        for one in value:
            yield from _values(one, depth + 1)
    else:
        yield value
