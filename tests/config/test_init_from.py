"""What a learner starts from."""

from __future__ import annotations

import pytest

from hf_free.config.init_from import InitFrom
from hf_free.config.tree import FreeConfig


@pytest.mark.parametrize(
    ("text", "name", "architecture"),
    [
        ("timm:resnet18", "resnet18", "resnet18"),
        ("timm:vit_small_patch16_224.augreg_in21k", "vit_small_patch16_224.augreg_in21k", "vit_small_patch16_224"),
        ("me/few-shot@v1", None, None),
        ("./timm:resnet18", None, None),
        ("timm", None, None),
    ],
)
def test_weights_of_timm_or_a_learner(text, name, architecture):
    start = InitFrom.parse(text)
    assert (start.text, start.timm_name, start.architecture) == (text, name, architecture)
    assert start.is_learner == (name is None)
    settings = FreeConfig.from_dict({"models": ["a/b", "c/d"], "learner": {"init_from": text}})
    assert settings.continues_learner == start.is_learner
    assert settings.least_tasks == (1 if start.is_learner else 2)


def test_a_fresh_learner_continues_none():
    assert not FreeConfig.from_dict({"models": ["a/b", "c/d"]}).continues_learner
