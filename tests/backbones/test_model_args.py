"""Which arguments of a network a config.json may give."""

from __future__ import annotations

import pytest

from hf_free.backbones.model_args import check_model_args
from hf_free.errors import TeacherError


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("width", 10**6),
        ("stem_width", 4096),
        ("depth", -1),
        ("embed_dim", 3.5),
        ("embed_dim", True),
        ("embed_dim", "8"),
        ("depths", [2] * 1000),
        ("depths", [[[2]]]),
        ("depths", []),
        ("mlp_ratio", float("nan")),
        ("mlp_ratio", 1e9),
        ("qkv_bias", "yes"),
        ("act_layer", "os.system"),
        ("act_layer", "x" * 100),
    ],
)
def test_arguments_out_of_bounds_are_refused(key, value):
    with pytest.raises(TeacherError, match=f"model_args.{key} is "):
        check_model_args({key: value}, "org/evil")


def test_arguments_that_pass_are_plain_numbers_and_names():
    given = {
        "depths": [[1, 2], [3, 4]],
        "drop_rate": 0.5,
        "attn_drop_rate": 0.1,
        "img_size": None,
        "act_layer": "gelu",
    }
    assert check_model_args(given, "org/good") == {"depths": ((1, 2), (3, 4)), "act_layer": "gelu"}
