"""torch's settings are other ones within the block, and as before after it."""

from __future__ import annotations

import os

import pytest
import torch

from hf_free.runtime.determinism import deterministic_algorithms


def _settings():
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
        torch.utils.deterministic.fill_uninitialized_memory,
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    )


@pytest.mark.parametrize("wanted", [True, False])
def test_settings_are_given_back_however_the_block_ends(wanted):
    before = _settings()
    with pytest.raises(ZeroDivisionError), deterministic_algorithms(wanted):  # noqa: PT012
        assert torch.are_deterministic_algorithms_enabled() is wanted
        assert (_settings() == before) is not wanted
        1 / 0  # noqa: B018
    assert _settings() == before
