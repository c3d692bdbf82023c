"""The arguments a repository may hand to timm's model factory.

timm passes `model_args` of a `config.json` straight into the factory, where `pretrained_strict`, `checkpoint_path`,
`features_only` or `pretrained_cfg_overlay` would change what is loaded and from where. Only the names below pass,
with values of the right type within bounds; all others are refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hf_free.errors import TeacherError

_MAX_ITEMS = 256
"""Numbers in one (nested) list."""

_WHOLE: dict[str, int] = {
    "in_chans": 3,
    "num_classes": 1_000_000,
    "img_size": 2048,
    "patch_size": 64,
    "patch_stride": 64,
    "width": 2048,
    "embed_dim": 4096,
    "embed_dims": 4096,
    "dim": 4096,
    "dims": 4096,
    "hidden_sizes": 4096,
    "depth": 100,
    "depths": 100,
    "layers": 100,
    "num_heads": 128,
    "window_size": 128,
    "head_dim": 512,
    "attn_head_dim": 512,
    "key_dim": 512,
    "base_width": 512,
    "cardinality": 128,
    "channels": 4096,
    "stem_width": 512,
    "stem_size": 512,
    "stem_chs": 512,
    "stem_stride": 8,
    "num_features": 8192,
    "head_hidden_size": 8192,
    "kernel_size": 64,
    "kernel_sizes": 64,
    "output_stride": 64,
    "reg_tokens": 64,
    "groups": 128,
    "growth_rate": 512,
    "block_config": 100,
    "bn_size": 16,
    "num_init_features": 512,
    "sr_ratios": 64,
    "num_stages": 8,
}
"""Whole numbers, or lists of them, from 0 to the bound; larger networks exist nowhere in timm."""

_REAL = {
    "mlp_ratio": 64.0,
    "mlp_ratios": 64.0,
    "channel_multiplier": 16.0,
    "depth_multiplier": 16.0,
    "width_multiplier": 16.0,
    "width_mult": 16.0,
    "expand_ratio": 64.0,
    "init_values": 64.0,
    "ls_init_value": 64.0,
    "layer_scale_init_value": 64.0,
    "head_init_scale": 64.0,
    "norm_eps": 1.0,
    "bn_eps": 1.0,
    "bn_momentum": 1.0,
}
"""Numbers, or lists of them, from 0 to the bound."""

_FLAGS = frozenset(
    [
        "qkv_bias",
        "qk_norm",
        "class_token",
        "no_embed_class",
        "pre_norm",
        "final_norm",
        "fc_norm",
        "dynamic_img_size",
        "dynamic_img_pad",
        "strict_img_size",
        "conv_mlp",
        "use_grn",
        "conv_bias",
        "use_pos_embed",
        "rel_pos",
        "avg_down",
        "cifar_stem",
    ]
)

_WORDS = frozenset(
    ["global_pool", "pos_embed", "act_layer", "norm_layer", "stem_type", "pool_type", "aa_layer", "rel_pos_type"]
)
"""Names that timm looks up in a table of its own; it imports nothing for them."""


def check_model_args(arguments: Any, name: str) -> dict[str, Any]:
    """Check the `model_args` of the teacher `name`; dropout rates and nulls are dropped, lists become tuples.

    Raises:
        TeacherError: a name that is not allowed, a wrong type, a value out of bounds.
    """
    if not isinstance(arguments, Mapping):
        raise TeacherError(f"{name}: model_args is a {type(arguments).__name__}", allowed="a JSON object")
    checked = {}
    for key, value in arguments.items():
        if value is None or _is_dropout(key):
            continue
        allowed = _rule(key)
        if allowed is None:
            raise TeacherError(
                f"{name}: model_args.{str(key)[:60]} is not allowed",
                allowed="arguments that shape the network, none that steer loading: "
                + ", ".join(sorted({*_WHOLE, *_REAL, *_FLAGS, *_WORDS})),
                action="leave this teacher out, or save it again without this argument",
            )
        if not _fits(key, value):
            raise TeacherError(f"{name}: model_args.{key} is {str(value)[:80]}", allowed=allowed)
        checked[key] = _as_tuple(value)
    return checked


def _is_dropout(key: Any) -> bool:
    """Dropout does nothing in a teacher, which never trains."""
    return isinstance(key, str) and re.fullmatch(r"(\w+_)?drop(_\w+)?_rate|drop_rate", key) is not None


def _rule(key: Any) -> str | None:
    """What may stand under a name, in words; None: nothing."""
    if key in _WHOLE:
        return f"whole numbers from 0 to {_WHOLE[key]}, at most {_MAX_ITEMS} of them"
    if key in _REAL:
        return f"numbers from 0 to {_REAL[key]}, at most {_MAX_ITEMS} of them"
    if key in _FLAGS:
        return "true or false"
    return "a name of letters, digits and _" if key in _WORDS else None


def _fits(key: str, value: Any) -> bool:
    if key in _FLAGS:
        return isinstance(value, bool)
    if key in _WORDS:
        return isinstance(value, str) and re.fullmatch(r"\w{0,40}", value, re.ASCII) is not None
    numbers = _flatten(value)
    if key in _WHOLE:
        good = all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n <= _WHOLE[key] for n in numbers)
    else:
        # Compared, never converted: a whole number of 400 digits has no float. NaN fails the comparison.
        good = all(_is_number(n) and 0 <= n <= _REAL[key] for n in numbers)
    return good and 0 < len(numbers) <= _MAX_ITEMS


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _flatten(value: Any, levels: int = 2) -> list[Any]:
    """The items of lists nested at most `levels` deep; deeper ones stay lists and fit no rule."""
    if not isinstance(value, list | tuple) or levels == 0:
        return [value]
    return [item for inner in value[: _MAX_ITEMS + 1] for item in _flatten(inner, levels - 1)]


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list | tuple) else value
