"""How to talk to a Hub: timeouts, retries, and bounds on every wait."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import ModuleType
from typing import Any, TypeVar
from urllib.parse import urlsplit

from huggingface_hub import HfApi, constants, get_session, set_client_factory
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import _http, parse_ratelimit_headers

from hf_free.errors import HubError
from hf_free.hub.endpoint import why_unsafe_for_tokens
from hf_free.hub.interim import bound_interim_answers
from hf_free.hub.redaction import keep_secrets_out_of_logs
from hf_free.runtime.text import without_secrets

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

MISREADINGS = (TypeError, AttributeError, LookupError, NameError, RecursionError)
"""Errors that huggingface_hub, which checks no answer, raises for one of an unexpected form."""

_WATCHES: list[_Watch | _Listing] = []
"""The watches of the calls under way."""

logger = logging.getLogger(__name__)


MAX_ANSWER_BYTES = 64 * 2**20
"""Most bytes of an answer that is no file: a listing of a thousand models with all their file names takes a few MB."""


MOST_PAGES, LISTING_SECONDS = 200, 45.0
"""Most pages of a listing, and seconds for all of them: each may name a next one for ever."""

MOST_DATA_PAGES, DATA_LISTING_SECONDS = 1000, 120.0
"""The same for a data set, which may have a million files."""

MIN_PROGRESS_BYTES = 16 * 2**10
"""Fewest bytes of a file that count as progress."""

_PIECE = 2**16
"""Most bytes that are unpacked at once."""


class NoProgressError(Exception):
    """Nothing has worked for `PATIENCE` seconds; raised instead of waiting on."""


class RateLimitedError(NoProgressError):
    """The Hub goes on limiting the rate of requests, and does not say in seconds for how long."""


class WaitAskedError(NoProgressError):
    """The Hub asks for a wait that is too long to sit through in silence.

    Args:
        status: HTTP status of the answer.
        seconds: What it asks for.
    """

    def __init__(self, status: int, seconds: int) -> None:
        self.status, self.seconds = status, seconds
        super().__init__(f"it asks to wait {seconds} s ({status})")


class StalledError(NoProgressError):
    """A file of which next to nothing arrives any more."""


class MalformedAnswerError(Exception):
    """An answer that is no JSON, endless, or not of the form that the Hub's answers have."""


class _Listing:
    """Counts the pages of a listing.

    Args:
        most_pages: Most of them.
        seconds: Seconds that they may take together.
    """

    def __init__(self, most_pages: int = MOST_PAGES, seconds: float = LISTING_SECONDS) -> None:
        self.most_pages, self.seconds = most_pages, seconds
        self.pages, self.began = 0, time.monotonic()

    def before_request(self, request: object) -> None:
        """Nothing: requests are as they are."""

    def after_response(self, response: Any) -> None:
        """Count a page that names a next one.

        Raises:
            MalformedAnswerError: there are too many.
            NoProgressError: they take too long.
        """
        if "next" not in response.links:
            return
        self.pages += 1
        if self.pages >= self.most_pages:
            raise MalformedAnswerError(f"a listing of more than {self.most_pages} pages")
        if time.monotonic() - self.began > self.seconds:
            raise NoProgressError(f"a listing that is not whole after {self.seconds:.0f} s")


class _DataListing(_Listing):
    """Also bounds the wait for what another library asks and fetches of a data set, as a `_Watch` does by itself:
    huggingface_hub waits a minute for each answer and ten seconds for each piece of a file, and tries five times."""

    def __init__(self, most_pages: int, seconds: float) -> None:
        super().__init__(most_pages, seconds)
        self.open_since: dict[str, float] = {}
        """When each question that has had no good answer was asked first."""
        self.last_status = 0
        """Of the last answer to a question, where it was a bad one."""
        self.file_since: float | None = None
        """Since when a file that was asked for has brought next to nothing; None where none is under way."""

    def before_request(self, request: Any) -> None:
        """Shorten the timeouts of a question; refuse a request where nothing has come for too long.

        Raises:
            NoProgressError: nothing has.
        """
        url, now = str(request.url), time.monotonic()
        if _is_question(request):
            if now - self.open_since.setdefault(url, now) > PATIENCE:
                last = f", the last one was {self.last_status}" if self.last_status else ""
                raise NoProgressError(f"a question to the Hub has had no good answer for {PATIENCE:.0f} s{last}")
            _shorten(request, READ_TIMEOUT)
        else:
            self.file_since = self.file_since or now
            if now - self.file_since > PATIENCE:
                raise NoProgressError(f"next to nothing of a file has come for {PATIENCE:.0f} s")

    def after_response(self, response: Any) -> None:
        """Count a page that names a next one, and see whether the answer arrives whole.

        Raises:
            MalformedAnswerError: there are too many.
            NoProgressError: they take too long.
        """
        super().after_response(response)
        url, status = str(response.request.url), response.status_code
        if _is_question(response.request):
            self.last_status = status if _is_transient_status(status) else 0

            def ended(is_whole: bool) -> None:
                if is_whole and not _is_transient_status(status):
                    self.open_since.pop(url, None)

            response.stream = _bounded(response.stream, self.seconds, ended)
        elif not response.has_redirect_location:
            response.stream = _moving(response.stream, self._moved)

    def _moved(self, *, is_whole: bool) -> None:
        self.file_since = None if is_whole else time.monotonic()


def _moving(stream: Any, moved: Callable[..., None]) -> Any:
    """The bytes of a file, with an error where they trickle: each is in time, but the file would take forever.

    Args:
        stream: The bytes as they arrive.
        moved: Called with `is_whole=False` for each `MIN_PROGRESS_BYTES`, with True once nobody waits for more of it:
            the file has arrived, or was not wanted, such as a refusal.
    """

    def pieces() -> Iterator[bytes]:
        size, since = 0, time.monotonic()
        for chunk in stream:
            size += len(chunk)
            if size >= MIN_PROGRESS_BYTES:
                size, since = 0, time.monotonic()
                moved(is_whole=False)
            elif time.monotonic() - since > PATIENCE:
                raise NoProgressError(f"next to nothing of a file has come for {PATIENCE:.0f} s")
            yield chunk

    def ended(is_whole: bool) -> None:
        if is_whole:
            moved(is_whole=True)

    return _in_place_of(stream, pieces, ended)


def _in_place_of(stream: Any, pieces: Callable[[], Iterator[bytes]], ended: Callable[[bool], None]) -> Any:
    """What the HTTP library reads in the place of a stream.

    Args:
        stream: The bytes as they arrive, closed with it.
        pieces: Gives the bytes in their place.
        ended: Called once it is closed, with whether it went well until then.
    """
    kind: Any = http_library().SyncByteStream

    class Told(kind):  # type: ignore[misc]
        has_failed = False

        def __iter__(self) -> Iterator[bytes]:
            try:
                yield from pieces()
            except Exception:
                self.has_failed = True
                raise

        def close(self) -> None:
            stream.close()
            ended(not self.has_failed)

    return Told()


def _is_question(request: Any) -> bool:
    """Whether a request is for a listing and the like, or for what is known of a file, not for the file itself."""
    return request.method == "HEAD" or str(request.url).startswith(f"{constants.ENDPOINT}/api/")


def _shorten(request: Any, seconds: float) -> None:
    """Let no phase of a request take longer."""
    limits = dict(request.extensions.get("timeout") or {})
    for phase in ("connect", "read", "write", "pool"):
        limits[phase] = min(limits.get(phase) or seconds, seconds)
    request.extensions["timeout"] = limits


class _Watch:
    """Two event hooks for the shared session: shorten every timeout, and stop when nothing works any more.

    Args:
        timeout: Seconds that a phase of a request may take.
        thread: Whose requests are watched, since other threads may fetch meanwhile; None for all, as uploads need,
            which huggingface_hub makes in threads of its own.
        patience: Seconds that a request may go without a good answer, its repetitions included, and that one answer
            may take.
    """

    def __init__(self, timeout: float, thread: int | None, patience: float) -> None:
        self.timeout, self.thread, self.patience = timeout, thread, patience
        self.asked_at: float | None = None
        self.last_status = 0
        """Of the last answer since the last good one that arrived whole; 0 where there is none."""
        self.is_broken = False
        """Whether that answer broke off."""
        self.listing = _Listing()

    def silence(self) -> float:
        """Seconds since the first question that has had no good answer; 0 where nothing was asked.

        Time in which nobody asks does not count: Xet's uploads, which can be long, do not go through the session.
        """
        return 0.0 if self.asked_at is None else time.monotonic() - self.asked_at

    def before_request(self, request: Any) -> None:
        """Shorten the timeouts of a request, or refuse it.

        Raises:
            NoProgressError: nothing has worked for too long.
            MalformedAnswerError: it would take the token elsewhere, or what is pushed there unencrypted, to an address
                that the Hub has named.
        """
        if not self._is_concerned():
            return
        if request.url.scheme not in ("http", "https"):
            kind = request.url.scheme[:10] or "none"
            raise MalformedAnswerError(f"an answer that names an address of neither http nor https, but {kind}")
        if request.headers.get("Authorization") and not _is_of_hub(str(request.url)):
            raise MalformedAnswerError(f"an answer that sends the token on to {urlsplit(str(request.url)).netloc}")
        if request.method not in ("GET", "HEAD") and _is_less_safe(str(request.url)):
            host = urlsplit(str(request.url)).netloc
            raise MalformedAnswerError(f"an answer that sends what is pushed on to {host}, unencrypted")
        if self.silence() > self.patience:
            if self.last_status == 429:
                raise RateLimitedError("last answer: 429")
            answer = f"last answer: {self.last_status}" if self.last_status else "no answer"
            raise NoProgressError(f"{answer}, which broke off" if self.is_broken else answer)
        if self.asked_at is None:
            self.asked_at = time.monotonic()
        _shorten(request, self.timeout)
        if request.headers.get("Accept-Encoding") != "identity":
            request.headers["Accept-Encoding"] = "gzip"  # the one that `_unpacked` reads

    def after_response(self, response: Any) -> None:
        """Look at the beginning of an answer; `ended` says what became of it."""
        if not self._is_concerned():
            return
        self.last_status, self.is_broken = response.status_code, False
        _check_redirect(response)
        asked = seconds_asked(response.headers)
        if _is_transient_status(response.status_code) and asked is not None and self.silence() + asked > self.patience:
            raise WaitAskedError(response.status_code, asked)  # huggingface_hub would sleep as long as it is told to
        # huggingface_hub would retry a conflict forever
        is_good = not _is_transient_status(response.status_code) and response.status_code != 409
        self.listing.after_response(response)
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", "x-gzip"):
            raise MalformedAnswerError(f"an answer packed as {encoding[:40]!r}, which was not asked for")
        if encoding != "identity":  # unpacked here, since what the library makes of it is not bounded
            del response.headers["content-encoding"]
        response.stream = _bounded(
            response.stream, self.patience, partial(self._ended, is_good=is_good), is_packed=encoding != "identity"
        )

    def _ended(self, is_whole: bool, *, is_good: bool) -> None:
        """Remember what became of an answer: one that breaks off is no sign of life, since the next may do so too."""
        self.is_broken = not is_whole
        if is_whole and is_good:
            self.asked_at, self.last_status = None, 0

    def _is_concerned(self) -> bool:
        return self.thread in (None, threading.get_ident())


def _is_of_hub(url: str) -> bool:
    """Whether an address is of the Hub's own host, by the same or a safer way."""
    asked, own = urlsplit(url), urlsplit(constants.ENDPOINT)
    ports = [part.port or {"http": 80, "https": 443}.get(part.scheme) for part in (asked, own)]
    is_safer = (own.scheme, asked.scheme, ports[0]) == ("http", "https", 443)
    return asked.hostname == own.hostname and (is_safer or (asked.scheme == own.scheme and ports[0] == ports[1]))


def _is_less_safe(url: str) -> bool:
    """Whether something sent there could be read on its way, which the way to the Hub itself does not allow."""
    return why_unsafe_for_tokens(url) is not None and why_unsafe_for_tokens(constants.ENDPOINT) is None


def _check_redirect(response: Any) -> None:
    """Refuse to have what is pushed sent on to another host, or a file sent anew, which was read to its end by then.

    Where large files are stored is told by the Hub beforehand, not by a redirect.

    Raises:
        MalformedAnswerError: an answer that asks for it.
    """
    method = response.request.method
    if method in ("GET", "HEAD") or not response.has_redirect_location:
        return
    target = response.request.url.join(response.headers["location"])
    if method == "PUT" or target.host != response.request.url.host or target.port != response.request.url.port:
        raise MalformedAnswerError(f"an answer that sends what is pushed on to {urlsplit(str(target)).netloc}")


def _unpacked(stream: Any) -> Iterator[bytes]:
    """The bytes of a gzip stream in pieces: a few packed ones may become gigabytes.

    Raises:
        MalformedAnswerError: it is none.
    """
    unpacker = zlib.decompressobj(wbits=31)
    try:
        for chunk in stream:
            while piece := unpacker.decompress(chunk, _PIECE):
                yield piece
                chunk = unpacker.unconsumed_tail
    except zlib.error:
        raise MalformedAnswerError("an answer that is called gzip and is none") from None


def _bounded(stream: Any, seconds: float, ended: Callable[[bool], None], *, is_packed: bool = False) -> Any:
    """A stream of bytes that ends with an error if it is endless or trickles forever.

    The timeouts of a phase begin anew with each byte, and the whole of such an answer is kept in memory.

    Args:
        stream: The bytes as they arrive.
        seconds: Seconds that they may take.
        ended: Called once the stream is closed, with whether it went well until then.
        is_packed: Whether they are gzip.
    """

    def pieces() -> Iterator[bytes]:
        size, end = 0, time.monotonic() + seconds
        for chunk in _unpacked(stream) if is_packed else stream:
            size += len(chunk)
            if size > MAX_ANSWER_BYTES:
                raise MalformedAnswerError(f"an answer of more than {MAX_ANSWER_BYTES >> 20} MiB")
            if time.monotonic() > end:
                raise NoProgressError(f"an answer that is not whole after {seconds:.0f} s")
            yield chunk

    return _in_place_of(stream, pieces, ended)


def seconds_asked(headers: Mapping[str, str]) -> int | None:
    """How long an answer asks to wait, in `Retry-After` or a rate limit that is used up; None where it does not."""
    limit = parse_ratelimit_headers(headers)
    if limit is not None and limit.remaining == 0:
        return int(limit.reset_in_seconds)
    text = str(headers.get("retry-after", "")).strip()
    return int(text[:10]) if text.isascii() and text.isdigit() else None


@contextlib.contextmanager
def _watched(timeout: float, patience: float, *, every_thread: bool) -> Iterator[_Watch]:
    watch = _Watch(timeout, None if every_thread else threading.get_ident(), patience)
    _WATCHES.append(watch)
    try:
        yield watch
    finally:
        _WATCHES.remove(watch)


@contextlib.contextmanager
def redirects_bounded() -> Iterator[None]:
    """Within the block redirects without end are an answer of an odd form, not a failure that may pass.

    Raises:
        MalformedAnswerError: there are some.
    """
    try:
        yield
    except http_library().TooManyRedirects:
        raise MalformedAnswerError("a redirect that leads to ever more of them") from None


@contextlib.contextmanager
def bounded_listings() -> Iterator[_DataListing]:
    """Within the block, in which another library asks the Hub by itself, no listing goes on for ever.

    Yields:
        What becomes of them.

    Raises:
        MalformedAnswerError, NoProgressError: one does.
    """
    listing = _DataListing(MOST_DATA_PAGES, DATA_LISTING_SECONDS)
    _WATCHES.append(listing)
    try:
        yield listing
    finally:
        _WATCHES.remove(listing)


def _watch_sessions() -> None:
    """Let every session of huggingface_hub, those that follow a refused connection too, ask the watches.

    After a connection error huggingface_hub closes its session and makes another in the middle of a call; hooks on the
    first one would be lost, and with them all timeouts.
    """
    make = getattr(_http, "_GLOBAL_CLIENT_FACTORY", _http.default_client_factory)  # the user's own, if there is one

    def client() -> Any:
        try:
            session = make()
        except Exception as error:
            if (problem := _proxy_problem(error)) is None:
                raise
            raise problem from None
        hooks = session.event_hooks
        bound_interim_answers(session)
        session.event_hooks = {
            "request": [*hooks["request"], _before_request],
            "response": [*hooks["response"], _after_response],
        }
        return session

    set_client_factory(client)


def _proxy_problem(error: Exception) -> HubError | None:
    """The message for a client that cannot be made; None where no proxy is set, which is all that can be wrong."""
    names = [name for name in os.environ if name.upper() in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")]
    if not names:
        return None
    return HubError(
        f"no connection can be made through the proxy in {', '.join(names)}: {without_secrets(error).strip()}",
        allowed="http://host:port or https://host:port; socks5://host:port where the package socksio is installed",
        action=f"correct it, or unset {' '.join(names)}",
    )


def _before_request(request: object) -> None:
    for watch in tuple(_WATCHES):
        watch.before_request(request)


def _after_response(response: Any) -> None:
    following = response.links.get("next", {}).get("url")
    if following and str(response.url.join(following)) == str(response.url):
        raise MalformedAnswerError("a listing whose next page is the page itself")
    for watch in tuple(_WATCHES):
        watch.after_response(response)


def transport_error() -> type[Exception]:
    """The transport errors of the HTTP library that huggingface_hub uses."""
    found: type[Exception] = http_library().TransportError
    return found


def lost_on_the_way() -> tuple[type[Exception], ...]:
    """What the HTTP library raises where an answer does not arrive whole: the connection, or a packing that is
    damaged."""
    return transport_error(), http_library().DecodingError


def timed_out() -> type[Exception]:
    """The HTTP library's error of a phase that took too long."""
    found: type[Exception] = http_library().TimeoutException
    return found


def http_library() -> ModuleType:
    """The HTTP library that huggingface_hub uses: httpx2 since 2.0, httpx before."""
    known = next((name for name in ("httpx2", "httpx") if hasattr(_http, name)), None)
    return sys.modules[known or type(get_session()).__module__.partition(".")[0]]


def _is_transient_status(status: int) -> bool:
    return status in (408, 429) or status >= 500


def is_transient(error: Exception) -> bool:
    """Whether a failure may go away by itself: of the connection, or within the server."""
    error = root_of(error)
    if isinstance(error, HfHubHTTPError):
        return _is_transient_status(error.response.status_code)
    return isinstance(error, (*lost_on_the_way(), NoProgressError))


def root_of(error: Exception) -> Exception:
    """What made an upload fail: huggingface_hub wraps it in a RuntimeError that names the file."""
    while type(error) is RuntimeError and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error


def patiently(
    call: Callable[[], T],
    *,
    timeout: float = READ_TIMEOUT,
    attempts: int = ATTEMPTS,
    every_thread: bool = False,
    patience: float = PATIENCE,
) -> T:
    """Make an idempotent call to the Hub, again after failures that may pass.

    Args:
        call: What to do.
        timeout: Seconds that one phase of a request may take.
        attempts: Attempts without any progress.
        every_thread: Whether requests of other threads belong to the call, as those of an upload do.
        patience: Seconds without a good answer after which no new attempt begins, and for one answer to be whole.

    Raises:
        MalformedAnswerError: the call stumbled over what the Hub answered.
        Exception: the last failure of the call, to be turned into a `HubError` by `explain`.
    """
    with _watched(timeout, patience, every_thread=every_thread) as watch:
        for attempt in range(attempts):
            try:
                with redirects_bounded():
                    return call()
            except MISREADINGS as error:
                raise MalformedAnswerError("a field of it is missing or of another type") from error
            except Exception as error:
                wait = 0.5 * 2**attempt
                hopeless = isinstance(root_of(error), NoProgressError) or attempt + 1 == attempts
                if hopeless or not is_transient(error) or watch.silence() + wait > patience:
                    raise
                logger.info("The Hub failed (%s), trying again in %.1f s", type(error).__name__, wait)
                time.sleep(wait)
    raise AssertionError("unreachable")


def api_for(token: str | None) -> HfApi:
    """huggingface_hub's client with exactly this token, or none at all."""
    return HfApi(token=token or False, library_name="hf-free")


_watch_sessions()
keep_secrets_out_of_logs()
