"""How hf-free waits for a Hub: timeouts, retries, one resumable download, and the real cause of a failure.

huggingface_hub by itself waits for ever on some calls, does not retry a body that answers 503 or is reset, resumes
only from full 10 MiB, never compares a downloaded file with its hash, and joins an `ETag` header to a path. So the
metadata comes through `HfApi`, watched here, and the bytes through its session and the download below, which takes
sizes and hashes from the metadata and never a path from a header.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from huggingface_hub import HfApi, constants, get_session, get_token
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import hf_raise_for_status

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
LITTLE = 16 * 2**10
"""Bytes that a request has to bring to count as progress."""
_CHUNK = 1 << 18

T = TypeVar("T")
Arrived = Callable[[int], None]
"""Told how many bytes of a file are there by now; what it raises ends the download."""
_HOOKS = threading.Lock()
"""Held while the shared session's event hooks are exchanged."""
logger = logging.getLogger(__name__)


class NoProgressError(Exception):
    """Nothing has worked for `PATIENCE` seconds; raised instead of beginning another request."""


@dataclass(frozen=True)
class ExpectedFile:
    """A file as the Hub's metadata announces it.

    Args:
        size: Bytes.
        algorithm: `sha256` for large files, `git-sha1` (SHA-1 of "blob <size>\\0" and the bytes) for others.
        digest: The hash, in hexadecimal.
    """

    size: int
    algorithm: str
    digest: str

    def matches(self, path: Path) -> bool:
        """Whether a file on disk has this size and hash."""
        if path.stat().st_size != self.size:
            return False
        digest = hashlib.sha256() if self.algorithm == "sha256" else hashlib.sha1(b"blob %d\0" % self.size)
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        return digest.hexdigest() == self.digest


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


def _transport_error() -> type[Exception]:
    """The transport errors of the HTTP library that huggingface_hub uses: httpx2 since 2.0, httpx before."""
    return sys.modules[type(get_session()).__module__.partition(".")[0]].TransportError


def _is_transient_status(status: int) -> bool:
    return status in (408, 429) or status >= 500


def is_transient(error: Exception) -> bool:
    """Whether a failure may pass by itself: the connection, or a server's trouble."""
    if isinstance(error, HfHubHTTPError):
        return _is_transient_status(error.response.status_code)
    return isinstance(error, (_transport_error(), NoProgressError))


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


def download(
    url: str, target: Path, expected: ExpectedFile, headers: dict[str, str], arrived: Arrived | None = None
) -> None:
    """Fetch one file, resuming at the very byte where a connection ended, and compare it with its hash.

    Args:
        url: Address; redirects are followed, without the token where they leave the origin.
        target: Where to write; removed again if the file does not arrive.
        expected: Size and hash from the Hub's metadata.
        headers: With the token, if any.
        arrived: Told of every piece.

    Raises:
        HubError: the bytes have another hash, three times.
        Exception: the last failure of the connection or the server.
    """
    try:
        for _ in range(3):
            target.unlink(missing_ok=True)
            _fill(url, target, expected, headers, arrived)
            if expected.matches(target):
                return
            logger.warning("The bytes of %s do not have their hash, fetching them again", urlsplit(url).path)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    target.unlink(missing_ok=True)
    raise HubError(
        f"{urlsplit(url).path} arrived three times with other bytes than the Hub announces",
        allowed=f"{expected.algorithm} {expected.digest}",
        action="try again later or through another network; nothing was kept",
    )


def _fill(url: str, target: Path, expected: ExpectedFile, headers: dict[str, str], arrived: Arrived | None) -> None:
    """Write `expected.size` bytes to `target`, in as many requests as it takes while there is progress."""
    failures, last_progress, done = 0, time.monotonic(), 0
    target.touch()
    while done < expected.size:
        failure: Exception | None = None
        try:
            _append(url, target, done, expected.size, headers, arrived)
        except (HfHubHTTPError, _transport_error()) as error:
            failure = error
        brought, done = target.stat().st_size - done, target.stat().st_size
        if brought >= LITTLE:
            failures, last_progress = 0, time.monotonic()
        else:  # next to nothing, or less than before where the server ignored the range and began anew
            failures += 1
        if done < expected.size:
            wait = 0.5 * 2 ** max(failures - 1, 0)
            failure = failure or HubError(
                f"the Hub sends only {done} of {expected.size} bytes of {urlsplit(url).path}",
                action="try again later",
            )
            silence = time.monotonic() - last_progress
            if failures >= ATTEMPTS or silence + wait > PATIENCE or not _may_pass(failure):
                raise failure
            time.sleep(wait)


def _may_pass(failure: Exception) -> bool:
    return isinstance(failure, HubError) or is_transient(failure)


def _append(url: str, target: Path, start: int, size: int, headers: dict[str, str], arrived: Arrived | None) -> None:
    """Append what one request gives."""
    wanted = {**headers, "Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
    with get_session().stream("GET", url, headers=wanted, timeout=READ_TIMEOUT) as response:
        hf_raise_for_status(response)
        with target.open("r+b") as file:
            file.seek(start if response.status_code == 206 else 0)
            file.truncate()
            written = file.tell()
            for chunk in response.iter_bytes():
                file.write(chunk[: size - written])
                written += len(chunk)
                if arrived is not None:
                    arrived(min(written, size))
                if written >= size:
                    return


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
