"""Requests to the loopback Hub, its answers, and the faults that it can be given."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Literal

from hf_free.hub.loopback.store import StoreError, User
from hf_free.provenance.reading import Json

FaultKind = Literal["status", "close", "reset", "corrupt", "truncate", "stall", "lose", "trickle"]


@dataclass
class Fault:
    """Something that goes wrong with the requests it matches.

    Args:
        kind: `status` answers with `status` and `body`; `close` and `reset` end the connection (FIN or RST) after
            `after` bytes of the body, or before any answer where it is None; `corrupt` sends wrong bytes of the right
            length; `truncate` sends a shorter body that ends cleanly; `stall` waits `seconds` before the answer, or
            after `after` bytes of the body; `lose` does what was asked and then closes without an answer; `trickle`
            sends the body byte by byte, every `seconds` one.
        method: HTTP method, or None for any.
        path: Regular expression searched in the raw path.
        times: How many requests it hits; None for all.
        status: HTTP status of `status`.
        headers: Extra headers of `status`.
        body: Body of `status`, as it is; None for an error message in JSON.
        after: Bytes of the body that still get through.
        seconds: How long `stall` waits at most.
        until: Regular expression; `stall` ends with the first request, from then on, in whose raw path it is found.
    """

    kind: FaultKind
    method: str | None = None
    path: str = ""
    times: int | None = 1
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    after: int | None = None
    seconds: float = 60.0
    until: str | None = None
    hits: int = 0

    def matches(self, method: str, path: str) -> bool:
        """Whether the next request of this kind is hit."""
        left = self.times is None or self.hits < self.times
        return left and self.method in (None, method) and re.search(self.path, path) is not None


@dataclass(frozen=True)
class LoggedRequest:
    """A request that arrived: method, raw path with query, and who asked (None: no token; "?": an unknown one)."""

    method: str
    path: str
    user: str | None


@dataclass
class Request:
    """What a route gets: the parts of the request."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: object
    body: bytes
    user: User | None
    endpoint: str

    def json(self) -> Json:
        """The body as a JSON object.

        Raises:
            StoreError: 400.
        """
        try:
            value = json.loads(self.body or b"{}")
        except ValueError:
            raise StoreError(400, "The body is not JSON") from None
        if not isinstance(value, dict):
            raise StoreError(400, "The body is not a JSON object")
        return value


@dataclass
class Answer:
    """What a route gives back: a JSON value or bytes, with headers."""

    body: object = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
