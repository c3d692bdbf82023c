"""Tokens, timeouts and retries: how a Hub is talked to."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import urlsplit

from huggingface_hub import HfApi, constants, get_session, get_token
from huggingface_hub.errors import HfHubHTTPError

from hf_free.errors import HubError

PATIENCE = 14.0
"""Seconds without a good answer or a byte after which no new attempt begins; with the longest phase (a name server
that does not answer takes about ten seconds) every failure is reported within 30 seconds."""

READ_TIMEOUT = 8.0
"""Seconds one phase of a read (connect, send, wait for bytes) may take."""

WRITE_TIMEOUT = 14.0
"""Seconds one phase of a write may take: the Hub checks files before it answers a commit."""

ATTEMPTS = 5
"""Attempts without any progress, with waits of 0.5, 1, 2 and 4 seconds between them."""

T = TypeVar("T")

_HOOKS = threading.Lock()
"""Held while the shared session's event hooks are exchanged."""

logger = logging.getLogger(__name__)


class NoProgressError(Exception):
    """Nothing has worked for `PATIENCE` seconds; raised instead of beginning another request."""


class _Watch:
    """Two event hooks for the shared session: shorten every timeout, and stop when nothing works any more.

    Args:
        timeout: Seconds that a phase of a request may take.
        thread: Whose requests are watched, since other threads may fetch meanwhile; None for all, as uploads need,
            which huggingface_hub makes in threads of its own.
    """

    def __init__(self, timeout: float, thread: int | None) -> None:
        self.timeout, self.thread = timeout, thread
        self.last_good, self.last_status = time.monotonic(), 0

    def silence(self) -> float:
        """Seconds since the last good answer."""
        return time.monotonic() - self.last_good

    def before_request(self, request: Any) -> None:
        """Shorten the timeouts of a request, or refuse it."""
        if not self._is_concerned():
            return
        if self.silence() > PATIENCE:
            raise NoProgressError(f"last answer: {self.last_status}" if self.last_status else "no answer")
        limits = dict(request.extensions.get("timeout") or {})
        for phase in ("connect", "read", "write", "pool"):
            limits[phase] = min(limits.get(phase) or self.timeout, self.timeout)
        request.extensions["timeout"] = limits

    def after_response(self, response: Any) -> None:
        """Remember when the Hub last gave a good answer."""
        if not self._is_concerned():
            return
        self.last_status = response.status_code
        if not _is_transient_status(response.status_code):
            self.last_good = time.monotonic()

    def _is_concerned(self) -> bool:
        return self.thread in (None, threading.get_ident())


@contextlib.contextmanager
def _watched(timeout: float, *, every_thread: bool) -> Iterator[_Watch]:
    session, watch = get_session(), _Watch(timeout, None if every_thread else threading.get_ident())
    ours = {"request": watch.before_request, "response": watch.after_response}
    with _HOOKS:
        session.event_hooks = {kind: [*hooks, ours[kind]] for kind, hooks in session.event_hooks.items()}
    try:
        yield watch
    finally:
        with _HOOKS:  # the others' hooks stay, whoever came and went meanwhile
            session.event_hooks = {
                kind: [hook for hook in hooks if hook != ours[kind]] for kind, hooks in session.event_hooks.items()
            }


def transport_error() -> type[Exception]:
    """The transport errors of the HTTP library that huggingface_hub uses: httpx2 since 2.0, httpx before."""
    return sys.modules[type(get_session()).__module__.partition(".")[0]].TransportError


def _is_transient_status(status: int) -> bool:
    return status in (408, 429) or status >= 500


def is_transient(error: Exception) -> bool:
    """Whether a failure may pass by itself: the connection, or a server's trouble."""
    if isinstance(error, HfHubHTTPError):
        return _is_transient_status(error.response.status_code)
    return isinstance(error, (transport_error(), NoProgressError))


def patiently(
    call: Callable[[], T], *, timeout: float = READ_TIMEOUT, attempts: int = ATTEMPTS, every_thread: bool = False
) -> T:
    """Make an idempotent call to the Hub, again after failures that may pass.

    Args:
        call: What to do.
        timeout: Seconds that one phase of a request may take.
        attempts: Attempts without any progress.
        every_thread: Whether requests of other threads belong to it, as those of an upload do.

    Raises:
        Exception: the last failure of the call, to be turned into a `HubError` by `explain`.
    """
    with _watched(timeout, every_thread=every_thread) as watch:
        for attempt in range(attempts):
            try:
                return call()
            except Exception as error:
                wait = 0.5 * 2**attempt
                hopeless = isinstance(error, NoProgressError) or attempt + 1 == attempts
                if hopeless or not is_transient(error) or watch.silence() + wait > PATIENCE:
                    raise
                logger.info("The Hub failed (%s), trying again in %.1f s", type(error).__name__, wait)
                time.sleep(wait)
    raise AssertionError("unreachable")


def token_to_send(token: str | None) -> str | None:
    """The token given, or the user's own from `HF_TOKEN` or `hf auth login`.

    Raises:
        HubError: it would travel unencrypted to another machine.
    """
    if token is None and not constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
        token = get_token()
    if not token:
        return None
    parts = urlsplit(constants.ENDPOINT)
    local = parts.hostname in ("localhost", "::1") or (parts.hostname or "").startswith("127.")
    if parts.scheme != "https" and not local:
        raise HubError(
            f"the token would be sent unencrypted to {parts.scheme}://{parts.hostname}",
            allowed="https, or a Hub on this machine",
            action="set HF_ENDPOINT to an https address, or unset HF_TOKEN (and hf auth logout)",
        )
    return token


def api_for(token: str | None) -> HfApi:
    """huggingface_hub's client with exactly this token, or none at all."""
    return HfApi(token=token or False, library_name="hf-free")
