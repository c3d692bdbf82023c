"""Answers that never begin: a Hub may send interim ones (`100 Continue`), or headers, for ever, each of them in time.

The HTTP library passes over them and waits for the next, with its timeout begun anew. Here the whole row is bounded,
in the place where its bytes arrive.
"""

from __future__ import annotations

import re
import sys
import time
from typing import Any

INTERIM_SECONDS = 8.0
"""Seconds after a request that interim answers may take together."""

HEADER_SECONDS = 8.0
"""Seconds that the headers of an answer may take, from its first line on."""

_FINAL = re.compile(rb"\nHTTP/1\.[01] [2-9]")
"""Where an answer begins that is none of the interim ones; no line of a header has this form."""

_END = re.compile(rb"\n\r?\n")
"""Where the headers of an answer end."""


def bound_interim_answers(session: Any) -> None:
    """Let all connections of a session bound the row of interim answers; one of another library is left as it is."""
    for transport in (getattr(session, "_transport", None), *getattr(session, "_mounts", {}).values()):
        pool = getattr(transport, "_pool", None)
        backend = getattr(pool, "_network_backend", None)
        if pool is not None and backend is not None:
            pool._network_backend = _Backend(backend)


class _Wrapped:
    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Backend(_Wrapped):
    """Connects as the library's own does."""

    def connect_tcp(self, *arguments: Any, **options: Any) -> _Stream:
        """A connection."""
        return _Stream(self._inner.connect_tcp(*arguments, **options))


class _Stream(_Wrapped):
    """A connection that watches how an answer begins."""

    _asked_at: float | None = None
    """When the request was sent that awaits its answer."""
    _begun = b""
    """Last bytes of what came since then."""
    _answered_at: float | None = None
    """When the first line of its answer came, until its headers are whole."""

    def start_tls(self, *arguments: Any, **options: Any) -> _Stream:
        """The same with encryption; what is watched is what was encrypted."""
        return _Stream(self._inner.start_tls(*arguments, **options))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send a part of a request."""
        self._inner.write(buffer, timeout)
        self._asked_at, self._answered_at, self._begun = time.monotonic(), None, b"\n"

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Some bytes.

        Raises:
            ReadTimeout: the library's own, which counts as a failure of the connection.
        """
        data: bytes = self._inner.read(max_bytes, timeout)
        if self._asked_at is None and self._answered_at is None:
            return data
        seen = self._begun + data
        if self._asked_at is not None:
            final = _FINAL.search(seen)
            if not data or not (self._begun[1:] or data.startswith(b"HTTP/1")):
                self._asked_at = None  # the end, or no answer of this kind
                return data
            if final is not None:
                self._asked_at, self._answered_at = None, time.monotonic()
                seen = seen[final.start() :]
            elif time.monotonic() - self._asked_at > INTERIM_SECONDS:
                raise self._timeout(f"nothing but interim answers for {INTERIM_SECONDS:.0f} s")
        if self._answered_at is not None:
            if not data or _END.search(seen):
                self._answered_at = None
            elif time.monotonic() - self._answered_at > HEADER_SECONDS:
                raise self._timeout(f"headers that are not whole after {HEADER_SECONDS:.0f} s")
        self._begun = seen[-12:]
        return data

    def _timeout(self, why: str) -> Exception:
        library = sys.modules[type(self._inner).__module__.partition(".")[0]]
        error: Exception = library.ReadTimeout(why)
        return error
