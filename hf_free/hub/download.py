"""One file, resumed where it broke off, checked against its hash."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from huggingface_hub import get_session
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import hf_raise_for_status

from hf_free.errors import HubError
from hf_free.hub.session import (
    ATTEMPTS,
    MIN_PROGRESS_BYTES,
    PATIENCE,
    READ_TIMEOUT,
    StalledError,
    is_transient,
    logger,
    lost_on_the_way,
    redirects_bounded,
    timed_out,
)

_CHUNK = 1 << 18

Arrived = Callable[[int], None]
"""Called with the number of bytes that have arrived; an exception from it ends the download."""


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


def download(
    url: str,
    target: Path,
    expected: ExpectedFile,
    headers: dict[str, str],
    arrived: Arrived | None = None,
    *,
    name: str | None = None,
    patience: float = PATIENCE,
) -> None:
    """Fetch one file, resuming at the very byte where a connection ended, and compare it with its hash.

    Args:
        url: Address; redirects are followed, without the token where they leave the origin.
        target: Where to write; what is there already is taken for the file's beginning. It is removed again if the
            file does not arrive, but stays where the process is stopped.
        expected: Size and hash from the Hub's metadata.
        headers: With the token, if any.
        arrived: Called for every piece.
        name: What errors call the file; None for the path of its address.
        patience: Seconds in which `MIN_PROGRESS_BYTES` have to arrive.

    Raises:
        HubError: the bytes have another hash, three times.
        StalledError: next to nothing came for that long.
        Exception: the last failure of the connection or the server.
    """
    name = name or urlsplit(url).path
    source = _Source(url, name, headers, patience)
    try:
        for _ in range(3):
            _fill(source, target, expected, arrived)
            if expected.matches(target):
                return
            logger.warning("The bytes of %s do not have their hash, fetching them again", name)
            target.unlink()
    except Exception:
        target.unlink(missing_ok=True)
        raise
    raise HubError(
        f"{name} arrived three times with other bytes than the Hub announces",
        allowed=f"{expected.algorithm} {expected.digest}",
        action="try again later or through another network; nothing was kept",
    )


@dataclass(frozen=True)
class _Source:
    """Where a file comes from, what errors call it, and how long nothing may arrive."""

    url: str
    name: str
    headers: dict[str, str]
    patience: float


def _fill(source: _Source, target: Path, expected: ExpectedFile, arrived: Arrived | None) -> None:
    """Write `expected.size` bytes to `target`, in as many requests as it takes while there is progress."""
    failures, last_progress = 0, time.monotonic()
    target.touch()
    done = target.stat().st_size
    if done > expected.size:  # nobody's beginning of it
        os.truncate(target, done := 0)
    passing: tuple[type[Exception], ...] = (HfHubHTTPError, StalledError, *lost_on_the_way())
    while done < expected.size:
        failure: Exception | None = None
        try:
            _append(source, target, done, expected.size, arrived)
        except passing as error:
            failure = error
            if _ends_there(error) and done:
                failure = _too_short(source, done, expected.size)
        brought, done = target.stat().st_size - done, target.stat().st_size
        if brought >= MIN_PROGRESS_BYTES:
            failures, last_progress = 0, time.monotonic()
        else:  # next to nothing, or less than before where the server ignored the range and began anew
            failures += 1
        if done < expected.size:
            wait = 0.5 * 2 ** max(failures - 1, 0)
            failure = failure or _too_short(source, done, expected.size)
            silence = time.monotonic() - last_progress
            if failures >= ATTEMPTS or silence + wait > source.patience or not _may_pass(failure):
                raise _stalled(source, silence) if isinstance(failure, timed_out()) else failure
            time.sleep(wait)


def _too_short(source: _Source, done: int, size: int) -> HubError:
    return HubError(f"the Hub sends only {done} of {size} bytes of {source.name}", action="try again later")


def _ends_there(error: Exception) -> bool:
    """Whether a server says that a file has no bytes from that place on (416)."""
    return isinstance(error, HfHubHTTPError) and error.response.status_code == 416


def _may_pass(failure: Exception) -> bool:
    return isinstance(failure, HubError) or is_transient(failure)


def _stalled(source: _Source, silence: float) -> StalledError:
    return StalledError(f"next to nothing for {silence:.0f} s of {source.name}")


def _append(source: _Source, target: Path, start: int, size: int, arrived: Arrived | None) -> None:
    """Append what one request gives.

    Raises:
        StalledError: it trickles: each byte is in time, but the file would take forever.
        MalformedAnswerError: redirects without end.
    """
    wanted = {**source.headers, "Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
    timeout = min(READ_TIMEOUT, source.patience)
    with (
        redirects_bounded(),
        get_session().stream("GET", source.url, headers=wanted, timeout=timeout) as response,
    ):
        hf_raise_for_status(response)
        with target.open("r+b") as file:
            file.seek(start if response.status_code == 206 else 0)
            file.truncate()
            written = mark = file.tell()
            since = time.monotonic()
            for chunk in response.iter_bytes():
                file.write(chunk[: size - written])
                written += len(chunk)
                if arrived is not None:
                    arrived(min(written, size))
                if written >= size:
                    return
                now = time.monotonic()
                if written - mark >= MIN_PROGRESS_BYTES:
                    mark, since = written, now
                elif now - since > source.patience:
                    raise _stalled(source, now - since)
