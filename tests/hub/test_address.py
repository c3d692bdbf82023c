"""An address that is none ends before a library trips over it."""

from __future__ import annotations

import pytest

from hf_free.errors import HubError
from hf_free.hub.address import check_address


@pytest.mark.parametrize(
    "given",
    ["", "foo", "ftp://hub.example.org", "http://", "http://127.0.0.1:99999", "http://h:x", "http://127.0.0.1\a"],
)
def test_what_is_no_address_is_refused_by_its_variable(given):
    with pytest.raises(HubError, match="HF_ENDPOINT is") as refused:
        check_address(given)
    assert repr(given) in str(refused.value)
    assert "https://huggingface.co" in refused.value.allowed


@pytest.mark.parametrize(
    "given", [None, "https://huggingface.co", "http://127.0.0.1:8080/", "http://[::1]:80", "https://h/a"]
)
def test_addresses_are_taken(given):
    check_address(given)
