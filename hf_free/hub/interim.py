"""Answers that never begin: a Hub may send interim ones (`100 Continue`) for ever, each of them in time.

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

_FINAL = re.compile(rb"\nHTTP/1\.[01] [2-9]")
"""Where an answer begins that is none of the interim ones; no line of a header has this form."""


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

    def start_tls(self, *arguments: Any, **options: Any) -> _Stream:
        """The same with encryption; what is watched is what was encrypted."""
        return _Stream(self._inner.start_tls(*arguments, **options))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send a part of a request."""
        self._inner.write(buffer, timeout)
        self._asked_at, self._begun = time.monotonic(), b"\n"

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Some bytes.

        Raises:
            ReadTimeout: the library's own, which counts as a failure of the connection.
        """
        data: bytes = self._inner.read(max_bytes, timeout)
        if self._asked_at is None:
            return data
        seen = self._begun + data
        if not data or not (self._begun[1:] or data.startswith(b"HTTP/1")) or _FINAL.search(seen):
            self._asked_at = None
        elif time.monotonic() - self._asked_at > INTERIM_SECONDS:
            library = sys.modules[type(self._inner).__module__.partition(".")[0]]
            raise library.ReadTimeout(f"nothing but interim answers for {INTERIM_SECONDS:.0f} s")
        else:
            self._begun = seen[-12:]
        return data
