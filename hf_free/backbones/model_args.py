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

ModelArgs = Mapping[str, Any]
"""Further arguments of `timm.create_model`, which takes keywords of any kind; JSON values."""

_MAX_ITEMS = 256
"""Numbers in one (nested) list."""

_WHOLE: dict[str, int] = {
    "in_chans": 3,
    "num_classes": 1_000_000,
    "img_size": 2048,
    "patch_size": 64,
    "patch_stride": 64,
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
    # of single families, in timm's order of letters
    "attn_groups": 128,
    "attn_head_dim_reduction": 64,
    "attn_pool_num_heads": 128,
    "base_dim": 4096,
    "base_dims": 4096,
    "block_reduce_first": 64,
    "ch_div": 64,
    "cls_attn_layers": 100,
    "d2_scales": 64,
    "depth_list": 100,
    "depth_token_only": 100,
    "down_kernel_size": 64,
    "down_pad": 64,
    "down_patch_size": 64,
    "down_stride": 8,
    "downsample_kernel_size": 64,
    "downsample_padding": 64,
    "downsample_ratio": 64,
    "expand_groups": 128,
    "extra_norm_period": 100,
    "feature_dim": 8192,
    "final_chs": 8192,
    "first_stride": 8,
    "focal_levels": 64,
    "focal_windows": 128,
    "global_att_blocks": 100,
    "global_attn_indexes": 100,
    "global_block_counts": 100,
    "global_pos_size": 128,
    "group": 128,
    "growth_rates": 512,
    "head_widths": 8192,
    "heads": 128,
    "inc_sec": 4096,
    "init_channels": 4096,
    "initial_chs": 4096,
    "inner_dim": 4096,
    "inplanes": 4096,
    "intermediate_size": 16384,
    "k_r": 4096,
    "k_sec": 100,
    "kernels": 64,
    "levels": 100,
    "local_conv_size": 64,
    "local_up_to_layer": 100,
    "mask_unit_size": 128,
    "merge_size": 64,
    "msfa_output_resolution": 128,
    "n_div": 64,
    "neck_chans": 4096,
    "num_blocks": 100,
    "num_blocks_list": 100,
    "num_heads_inner": 128,
    "num_heads_outer": 128,
    "num_kv_heads": 128,
    "num_levels": 8,
    "num_reg_tokens": 64,
    "num_rnn_layers": 100,
    "num_vit": 100,
    "parallel_depth": 100,
    "partial_dim": 4096,
    "patch_kernel": 64,
    "patch_padding": 64,
    "patch_sizes": 64,
    "pool_size": 64,
    "pooling_kernel_size": 64,
    "pooling_scale": 64,
    "pos_embed_grid_size": 256,
    "position_embedding_size": 65536,
    "pretrained_window_sizes": 128,
    "q_pool": 100,
    "q_stride": 8,
    "qk_dim": 4096,
    "reduction": 128,
    "ref_feat_shape": 256,
    "rel_pos_dim": 4096,
    "repmixer_kernel_size": 64,
    "rope_mrope_section": 256,
    "serial_depths": 100,
    "stages": 100,
    "state_dim": 4096,
    "stem_hidden_dim": 4096,
    "stem_kernel_size": 64,
    "stride": 64,
    "strides": 8,
    "swiglu_align_to": 512,
    "transformer_depths": 100,
    "width_list": 8192,
    "widths": 8192,
    "window_sizes": 128,
    "window_spec": 128,
    "wss": 128,
}
"""Whole numbers, or lists of them, from 0 to the bound; larger networks exist nowhere in timm."""

_REAL = {
    "width": 2048.0,
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
    # of single families, in timm's order of letters
    "attn_mlp_ratio": 64.0,
    "attn_pool_mlp_ratio": 64.0,
    "attn_ratio": 64.0,
    "bottle_ratio": 64.0,
    "bottleneck_width_ratio": 64.0,
    "cls_ratio": 64.0,
    "conv_ratio": 64.0,
    "deepen_factor": 16.0,
    "depth_mult": 16.0,
    "dim_mul": 16.0,
    "downsample_expand_ratios": 64.0,
    "eta": 64.0,
    "expansion_ratio": 64.0,
    "ffn_ratio": 64.0,
    "head_mul": 16.0,
    "img_scale": 16.0,
    "layer_scale": 64.0,
    "layer_scale_init_values": 64.0,
    "layerscale_value": 64.0,
    "locality_strength": 64.0,
    "mbconv_expand_ratio": 64.0,
    "mix_block_ratio": 1.0,
    "mlp_ratio_token_only": 64.0,
    "res_scale_init_values": 64.0,
    "rope_grid_offset": 16.0,
    "rope_temperature": 1e6,
    "rope_theta": 1e6,
    "scale": 16.0,
    "se_ratio": 1.0,
    "ssd_expand": 64.0,
    "stem_expand_ratio": 64.0,
    "transition_compression_ratio": 1.0,
    "widen_factor": 16.0,
    "width_factor": 16.0,
    "window_ratio": 128.0,
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
        # of single families, in timm's order of letters
        "aa_stem_only",
        "abs_win_pos_embed",
        "always_partition",
        "attn",
        "attn_mlp",
        "attn_only_layer_scale",
        "aux_logits",
        "b",
        "basic",
        "bidirectional",
        "channel_attention",
        "channel_attn_v2",
        "conv_init",
        "cpe_act",
        "crop_scale",
        "distillation",
        "distilled",
        "downsample_block",
        "downsamples",
        "extra_norm_stage",
        "ffn",
        "fix_init",
        "fix_stem",
        "fused_conv",
        "fused_downsample",
        "head_bias",
        "head_norm",
        "head_norm_first",
        "inference_mode",
        "input_3x3",
        "is_downsample_block",
        "legacy",
        "linear",
        "lkc_use_act",
        "mask_unit_attn",
        "mlp_bias",
        "multi_conv",
        "named_blocks",
        "nlhb",
        "normalize_modulator",
        "outlook_attention",
        "patch_norm",
        "pool_include_prefix",
        "preact",
        "proj_bias",
        "qkv_fused",
        "reparam",
        "replace_stem_pool",
        "rope_rotate_half",
        "scale_attn_inner",
        "scale_attn_norm",
        "scale_mlp",
        "scale_mlp_norm",
        "se_downsamples",
        "se_from_exp",
        "sep_pos_embed",
        "sequential_attn",
        "shared_rel_pos",
        "shortcut_root",
        "small",
        "small_kernels",
        "standardize",
        "stem_bias",
        "stem_mid_norm",
        "stem_norm",
        "stem_use_scale_branch",
        "swiglu_mlp",
        "tokens_norm",
        "transformer_drop_path",
        "use_abs_pos",
        "use_abs_pos_emb",
        "use_aux_head",
        "use_clipped_linears",
        "use_conv",
        "use_expand_proj",
        "use_fc_norm",
        "use_lab",
        "use_layer_scale",
        "use_mix_token",
        "use_mlp_head",
        "use_msfa",
        "use_overlap_down",
        "use_pos_emb",
        "use_post_norm",
        "use_post_norm_in_modulation",
        "use_post_transformer_norm",
        "use_pre_transformer_norm",
        "use_rel_pos",
        "use_rel_pos_bias",
        "use_rope",
        "use_rot_pos_emb",
        "use_shared_rel_pos_bias",
        "v2",
        "vit_stem",
        "zero_init_last",
    ]
)
"""True or false, or lists of them."""

_WORDS = frozenset(
    [
        "aa_layer",
        "act_layer",
        "attn_act_layer",
        "attn_stage",
        "attn_type",
        "attn_types",
        "attn_upsample",
        "block_type",
        "down_op",
        "downsample",
        "dw_act_layer",
        "embed_norm_layer",
        "encoder_pool",
        "fc_act_layer",
        "global_pool",
        "head_fn",
        "local_mbconv_norm",
        "norm_layer",
        "norm_layer_cl",
        "pad_type",
        "pconv_fw_type",
        "pool_type",
        "pos_embed",
        "post_layers",
        "rel_pos_type",
        "rope_grid_indexing",
        "rope_type",
        "se_layer",
        "spatial_conv",
        "stem_type",
        "token_mixers",
        "types",
        "union",
        "version",
        "weight_init",
    ]
)
"""Words, or lists of them, that timm compares or looks up in a table of its own; it imports nothing for them."""

_WITHOUT_EFFECT = frozenset(["use_checkpoint", "memory_efficient"])
"""How a network saves memory while it trains, which a teacher never does."""


def check_model_args(arguments: object, name: str) -> dict[str, object]:
    """Check the `model_args` of the teacher `name`; lists become tuples.

    Nulls, dropout rates and other arguments that only matter in training are dropped.

    Raises:
        TeacherError: a name that is not allowed, a wrong type, a value out of bounds.
    """
    if not isinstance(arguments, Mapping):
        raise TeacherError(f"{name}: model_args is a {type(arguments).__name__}", allowed="a JSON object")
    checked = {}
    for key, value in arguments.items():
        if value is None or key in _WITHOUT_EFFECT or _is_dropout(key):
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


def _is_dropout(key: object) -> bool:
    """Dropout does nothing in a teacher, which never trains."""
    return isinstance(key, str) and re.fullmatch(r"(\w+_)?drop(_\w+)?_rate|drop_rate|drop_block_size", key) is not None


def _rule(key: object) -> str | None:
    """What may stand under a name, in words; None: nothing."""
    if key in _WHOLE:
        return f"whole numbers from 0 to {_WHOLE[key]}, at most {_MAX_ITEMS} of them"
    if key in _REAL:
        return f"numbers from 0 to {_REAL[key]}, at most {_MAX_ITEMS} of them"
    if key in _FLAGS:
        return f"true or false, at most {_MAX_ITEMS} of them"
    return f"a name of letters, digits and _, at most {_MAX_ITEMS} of them" if key in _WORDS else None


def _fits(key: str, value: object) -> bool:
    items = _flatten(value)
    if not 0 < len(items) <= _MAX_ITEMS:
        return False
    if len(items) > 1:  # a stage without such a part
        items = [item for item in items if item is not None]
    if key in _FLAGS:
        return all(isinstance(item, bool) for item in items)
    if key in _WORDS:
        return all(isinstance(i, str) and re.fullmatch(r"\w{0,40}", i, re.ASCII) is not None for i in items)
    if key in _WHOLE:
        return all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n <= _WHOLE[key] for n in items)
    # Compared, never converted: a whole number of 400 digits has no float. NaN fails the comparison.
    return all(_is_number(n) and 0 <= n <= _REAL[key] for n in items)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _flatten(value: object, levels: int = 2) -> list[Any]:
    """The items of lists nested at most `levels` deep; deeper ones stay lists and fit no rule."""
    if not isinstance(value, list | tuple) or levels == 0:
        return [value]
    return [item for inner in value[: _MAX_ITEMS + 1] for item in _flatten(inner, levels - 1)]


def _as_tuple(value: object) -> object:
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list | tuple) else value
