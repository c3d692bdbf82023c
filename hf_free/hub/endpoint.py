"""Where a Hub is: whether a token that is sent to it stays on this machine."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from huggingface_hub import constants, get_session, get_token

from hf_free.errors import HubError


def token_to_send(token: str | None) -> str | None:
    """The token given, or the user's own from `HF_TOKEN` or `hf auth login`.

    Raises:
        HubError: it cannot be sent in a header, or it would travel unencrypted to another machine.
    """
    if token is None and not constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
        token = _own_token()
    if not token:
        return None
    if not (token.isascii() and token.isprintable() and " " not in token):  # no header can hold it; never shown
        raise HubError(
            "the token holds a space, a line break or a letter with an accent",
            allowed="one as the Hub shows it, such as hf_ followed by letters and digits",
            action="copy it again: hf auth login, HF_TOKEN or --token",
        )
    problem = why_unsafe_for_tokens(constants.ENDPOINT)
    if problem:
        raise HubError(
            f"the token would be sent unencrypted to {problem}",
            allowed="https, or a Hub on this machine",
            action="set HF_ENDPOINT to an https address, or unset HF_TOKEN (and hf auth logout)",
        )
    return token


def _own_token() -> str | None:
    """The user's token, as huggingface_hub finds it.

    Raises:
        HubError: its file is none that could hold one.
    """
    path = Path(constants.HF_TOKEN_PATH)
    is_asked = not (os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN"))
    try:
        if is_asked and path.exists() and not path.is_file():
            raise ValueError("it is no file")  # a pipe would be waited for
        return get_token()
    except NotADirectoryError:
        above = next(folder for folder in path.parents if folder.exists() and not folder.is_dir())
        raise HubError(
            f"the token is looked for below {above}, which is no folder",
            allowed="a folder, for HF_HOME and HF_TOKEN_PATH",
            action="set the variable to a folder, or unset it",
        ) from None
    except (OSError, ValueError) as error:
        reason = "it is no text" if isinstance(error, UnicodeError) else getattr(error, "strerror", None) or str(error)
        raise HubError(
            f"the token in {path} cannot be read: {reason}",
            allowed="a text file that holds a token",
            action="hf auth login writes a new one; or unset HF_TOKEN_PATH",
        ) from None


def why_unsafe_for_tokens(endpoint: str) -> str | None:
    """Where a token sent to an endpoint could be read on its way; None for https, and for http that stays here."""
    try:
        parts = urlsplit(endpoint)
        written, called = parts.hostname or "", _host_called(endpoint)
    except ValueError:
        return "an endpoint that is no address"
    if parts.scheme == "https" and written == called:
        return None
    shown = f"{parts.scheme or 'no scheme'}://{called}"
    if parts.scheme != "http" or written != called or not is_this_machine(called):
        return shown
    proxies = getproxies()
    if (proxies.get("http") or proxies.get("all")) and not proxy_bypass(called):
        return f"the proxy that is set for {shown}"
    return None


def is_this_machine(host: str) -> bool:
    """Whether every address that a host name or a spelling of an address stands for is loopback.

    The system's resolver decides, as it does for a connection: to it `127.1`, `0x7f000001` and `2130706433` are
    127.0.0.1, and `127.example.org` is a name like any other. A public name that leads here today may lead elsewhere
    next time, so of names only `localhost` and those below it count (RFC 6761, 6.3).
    """
    name = host.rstrip(".").lower()
    if not (name == "localhost" or name.endswith(".localhost") or _is_numeric(host)):
        return False  # and no name server is asked about what a stranger wrote
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(_is_loopback(str(address)) for address in found)


def _is_numeric(host: str) -> bool:
    """Whether a host is an address in some spelling, for which no name server is asked."""
    try:
        return bool(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
    except (OSError, UnicodeError):
        return False


def _is_loopback(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback


def _host_called(endpoint: str) -> str:
    """The host that the HTTP library connects to, which may read an address otherwise than we do.

    Raises:
        ValueError: no address.
    """
    library = sys.modules[type(get_session()).__module__.partition(".")[0]]
    try:
        return str(library.URL(endpoint).host).lower()
    except library.InvalidURL as error:
        raise ValueError(str(error)) from None
