"""A client of the Hub's image-classification protocol: it asks one address, patiently and within bounds.

It sends what `huggingface_hub.InferenceClient.image_classification` sends; but that client accepts answers of any size
and after any redirect, and gives up at the first 429 or 503.
"""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from huggingface_hub import constants

from hf_free.errors import HubError
from hf_free.hub.endpoint import token_to_send, why_unsafe_for_tokens
from hf_free.hub.session import http_library, seconds_asked
from hf_free.runtime.text import one_line, without_secrets

logger = logging.getLogger(__name__)

PATIENCE = 120.0
"""Seconds without an answer after which an address is given up: sleeping models take a minute or two to wake up."""

FIRST_PATIENCE = 10.0
"""The same while no connection could be made at all: an address that is wrong stays wrong."""

TIMEOUT = 30.0
"""Seconds that one phase of a request may take."""

LONGEST_WAIT = 8.0
"""Most seconds between two attempts, where the server names no time."""

MAX_ANSWER_BYTES = 64 * 2**20
"""Most bytes of one answer: 256 pictures with a thousand labels each take 15 MB."""

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that may go away by themselves."""


@dataclass(frozen=True)
class Accounting:
    """Is told of each attempt."""

    sent: Callable[[], None]
    """Before a request goes out."""
    refused: Callable[[], None]
    """After it, where the server has not taken it up."""


UNCOUNTED = Accounting(lambda: None, lambda: None)


class InferenceClient:
    """Asks one address, from several threads.

    Args:
        url: Its address.
        token: Sent as `Authorization: Bearer`; see `token_for`.
        per_second: Most requests that begin within a second; None for any number.
        patience: Seconds without an answer after which it is given up.
        sleep: Waits; tests wait less.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        per_second: float | None = None,
        patience: float = PATIENCE,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url, self._patience, self._sleep, self._per_second = url, patience, sleep, per_second
        library = http_library()
        self._failures: tuple[type[Exception], ...] = (library.TransportError,)
        self._unsent: tuple[type[Exception], ...] = (library.ConnectError, library.ConnectTimeout)
        self._unreadable: type[Exception] = library.DecodingError
        # no redirect is followed: it would carry pictures and token to an address that nobody has named
        self._client = library.Client(follow_redirects=False, timeout=TIMEOUT)
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._has_token, self._lock, self._next = token is not None, threading.Lock(), 0.0
        self._is_there = False  # whether anything has answered at that address

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def ask(self, pictures: Sequence[bytes], *, top_k: int, function: str, counted: Accounting = UNCOUNTED) -> bytes:
        """Send picture files in one request -> the answer's JSON, not yet parsed; a single picture is sent as it is.

        Args:
            pictures: Picture files.
            top_k: Labels that are asked for per picture.
            function: What turns logits into scores: `softmax`, `none`.
            counted: Told of each attempt.

        Raises:
            HubError: no answer, with the reason; it names no address.
        """
        encoded = [base64.b64encode(picture).decode() for picture in pictures]
        inputs = encoded[0] if len(encoded) == 1 else encoded
        body = json.dumps({"inputs": inputs, "parameters": {"top_k": top_k, "function_to_apply": function}}).encode()
        waited, attempt = 0.0, 0
        while True:
            self._keep_to_the_rate()
            counted.sent()
            asked: float | None = None
            try:
                status, asked, answer = self._post(body)
            except self._unreadable:
                raise HubError(
                    "the endpoint gives an answer whose Content-Encoding is wrong",
                    action="check its address, and that it classifies images",
                ) from None
            except self._failures as error:
                if isinstance(error, self._unsent):  # without a connection nothing was asked
                    counted.refused()
                problem = f"cannot be reached ({type(error).__name__})"
            else:
                if status == 200:
                    return answer
                if 400 <= status < 500 or status == 503:  # it says that it has not taken the request up
                    counted.refused()
                problem = self._problem(status, answer)
                if status not in _PASSING:
                    raise HubError(f"the endpoint {problem}", action=self._way_out(status))
            wait = min(LONGEST_WAIT, 0.5 * 2**attempt) if asked is None else float(asked)
            patience = self._patience if self._is_there else min(FIRST_PATIENCE, self._patience)
            if waited + wait > patience:
                long = f", and asks to wait {asked:.0f} s" if asked is not None and asked > LONGEST_WAIT else ""
                raise HubError(
                    f"the endpoint {problem}{long}",
                    allowed=f"an answer within {patience:.0f} s",
                    action="try again later; a run of hf-free train has kept the answers that came",
                )
            logger.info("an endpoint %s, trying again in %.1f s", problem, wait)
            self._sleep(wait)
            waited, attempt = waited + max(wait, 0.1), attempt + 1

    def _post(self, body: bytes) -> tuple[int, float | None, bytes]:
        """One request -> status, seconds that it asks to wait, content."""
        begun, parts, size = time.monotonic(), list[bytes](), 0
        with self._client.stream("POST", self.url, content=body, headers=self._headers) as answer:
            self._is_there = True
            if 300 <= answer.status_code < 400:
                target = _place_of(str(answer.headers.get("location", "")))
                raise HubError(
                    f"the endpoint redirects to another address ({one_line(target) or 'of its own'})",
                    allowed="an address that answers itself: pictures and tokens go nowhere else",
                    action="give the address that it redirects to",
                )
            for part in answer.iter_bytes():
                size += len(part)
                parts.append(part)
                if size > MAX_ANSWER_BYTES or time.monotonic() - begun > 4 * TIMEOUT:
                    raise HubError(
                        "the endpoint gives an endless answer", allowed=f"at most {MAX_ANSWER_BYTES} bytes, in time"
                    )
            return answer.status_code, seconds_asked(answer.headers), b"".join(parts)

    def _problem(self, status: int, answer: bytes) -> str:
        """What a server says about a request that it refuses, in one line."""
        try:
            content = json.loads(answer)
            said = content.get("error", "") if isinstance(content, dict) else ""
        except (ValueError, RecursionError):
            said = ""
        shown = one_line(without_secrets(str(said)[:2000]))[:200]  # looking for secrets takes long in long texts
        return f"answers with status {status}" + (f": {shown}" if shown else "")

    def _way_out(self, status: int) -> str:
        if status in (401, 403):
            return "another token: --endpoint-token" if self._has_token else "give its token: --endpoint-token"
        return "check its address, and that it classifies images" if status in (404, 405) else ""

    def _keep_to_the_rate(self) -> None:
        if self._per_second is None:
            return
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next)
            self._next = start + 1 / self._per_second
        if start > now:
            self._sleep(start - now)


def token_for(url: str, *, own: str | None, hub: str | None) -> str | None:
    """The token that goes to an address: its own, or the Hub's where it is the Hub itself, or none.

    Args:
        url: The address.
        own: The token given for it.
        hub: The Hub's; None takes the user's own.

    Raises:
        HubError: it would travel unencrypted to another machine.
    """
    if own is None:
        return token_to_send(hub) if _origin(url) == _origin(constants.ENDPOINT) else None
    problem = why_unsafe_for_tokens(url)
    if problem:
        raise HubError(
            f"the endpoint's token would be sent unencrypted to {problem}",
            allowed="https, or an endpoint on this machine",
            action="give its https address, or leave out --endpoint-token",
        )
    return own


def _place_of(address: str) -> str:
    """The host of an address that a stranger names; empty where it is none."""
    try:
        return urlsplit(address).netloc
    except ValueError:
        return ""


def host_of(url: str) -> str:
    """An address's host, with its port where it has one."""
    parts = urlsplit(url)
    return (parts.hostname or "") + (f":{parts.port}" if parts.port else "")


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"https": 443}.get(parts.scheme, 80)
