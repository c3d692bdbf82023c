"""The Hub's address, looked at before huggingface_hub is imported: it ends in an error of its own where it is none."""

from __future__ import annotations

from urllib.parse import urlsplit

from hf_free.errors import HubError


def check_address(endpoint: str | None) -> None:
    """Refuse what no request can be sent to.

    Args:
        endpoint: What `HF_ENDPOINT` holds; None where it is not set.

    Raises:
        HubError: it is no address.
    """
    if endpoint is None:
        return
    try:
        parts = urlsplit(endpoint)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of brackets without an end, and of a port that is none
        is_address = False
    if not is_address or not endpoint.isprintable() or " " in endpoint:
        raise HubError(
            f"the environment variable HF_ENDPOINT is {endpoint!r}",
            allowed="an address, such as https://huggingface.co or http://127.0.0.1:8080",
            action="correct it, or unset it: the public Hub is used then",
        )
