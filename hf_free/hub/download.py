"""One file, resumed where it broke off, checked against its hash."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from huggingface_hub import get_session
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import hf_raise_for_status

from hf_free.errors import HubError
from hf_free.hub.session import ATTEMPTS, PATIENCE, READ_TIMEOUT, is_transient, logger, transport_error

MIN_PROGRESS_BYTES = 16 * 2**10
"""Bytes that a request has to bring to count as progress."""

_CHUNK = 1 << 18

Arrived = Callable[[int], None]
"""Told how many bytes of a file are there by now; what it raises ends the download."""


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
        except (HfHubHTTPError, transport_error()) as error:
            failure = error
        brought, done = target.stat().st_size - done, target.stat().st_size
        if brought >= MIN_PROGRESS_BYTES:
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
