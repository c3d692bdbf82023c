"""Who opens a pooled learner's backbone."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_free.errors import LearnerError
from hf_free.learner import backbone_kinds
from hf_free.learner.backbone_kinds import Access, PooledParts, open_pooled, register_opener
from hf_free.learner.pooled_backbone import PooledBackbone

PARTS = PooledParts("me/pooled", Path("somewhere"), (), (3,), (0,), 3, False, Access())


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch):
    monkeypatch.setattr(backbone_kinds, "_openers", [])


def test_without_anybody_it_says_what_to_import():
    with pytest.raises(LearnerError, match=r"me/pooled is a pooled learner[\s\S]*import hf_free"):
        open_pooled(PARTS)


def test_the_last_one_that_was_registered_is_asked():
    made = PooledBackbone([], (), ())
    register_opener(lambda parts: pytest.fail("this one was replaced"))
    register_opener(lambda parts: made if parts is PARTS else pytest.fail("other parts"))
    assert open_pooled(PARTS) is made
