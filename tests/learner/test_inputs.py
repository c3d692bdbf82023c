"""How a learner sees images: what there is to choose from."""

from __future__ import annotations

import pytest

from hf_free.errors import LearnerError
from hf_free.learner.inputs import InputSettings


def test_an_unknown_mode_or_view_is_refused():
    with pytest.raises(LearnerError, match=r"batchnorm='batch'[\s\S]*running, support, transductive"):
        InputSettings(batchnorm="batch")
    with pytest.raises(LearnerError, match=r"views \['mirror'\][\s\S]*identity, flip"):
        InputSettings(views=["mirror"])


def test_normalization_is_per_channel_and_has_a_default():
    assert InputSettings().normalization(1) == ((0.5,), (0.25,))
    assert InputSettings(mean=[0.1, 0.2, 0.3]).normalization(3) == ((0.1, 0.2, 0.3), (0.25, 0.25, 0.25))
