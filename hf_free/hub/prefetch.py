"""Several repositories fetched at once, ahead of whoever reads them one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from hf_free.errors import MissingFilesError, UnavailableRepositoryError
from hf_free.hub.snapshot import Snapshot, fetch_snapshot


class RepositoryPlace(Protocol):
    """A repository, or a folder, at a revision."""

    @property
    def location(self) -> str:
        """`org/name` or a path."""

    @property
    def revision(self) -> str | None:
        """None for the default branch."""

    @property
    def is_on_hub(self) -> bool:
        """Whether it is a repository."""


AT_ONCE = 4
"""Repositories fetched at once: one stream seldom uses the whole bandwidth."""


@dataclass(frozen=True)
class Fetched:
    """How far the fetching is."""

    done: int
    """Repositories that have arrived or failed."""
    total: int
    """Repositories in all."""
    bytes_done: int
    """Bytes downloaded; cached files need none."""
    bytes_total: int
    """Bytes of the files begun so far."""


NOT_THERE = (MissingFilesError, UnavailableRepositoryError)
"""What a repository that nobody named may turn out to be."""


class _Stopped(Exception):
    """Nobody waits for this download any more."""


class Prefetcher:
    """Fetches repositories in threads, in the order given; a context manager that leaves no thread behind.

    A repository at a revision is fetched once, however often it is named (`org/name:0-4` and `org/name:5-9`).

    Args:
        references: What will be asked for; local folders need no fetching and are passed over.
        required: Files of each repository.
        optional: Files to fetch too where a repository has them.
        token: Hub token.
        cache_dir: Folder of the download cache.
        report: Called with how far the fetching is, by one thread at a time.
        at_once: Repositories fetched at once.
        unsure: References that may lack files, or be gone (`NOT_THERE`), which is no reason to fail early.
    """

    def __init__(
        self,
        references: Iterable[RepositoryPlace],
        *,
        required: tuple[str, ...] = ("config.json", "model.safetensors"),
        optional: tuple[str, ...] = (),
        token: str | None = None,
        cache_dir: str | Path | None = None,
        report: Callable[[Fetched], None] | None = None,
        at_once: int = AT_ONCE,
        unsure: Iterable[RepositoryPlace] = (),
    ) -> None:
        self._required, self._optional = required, optional
        self._token, self._cache_dir, self._report = token, cache_dir, report
        self._wanted = list(dict.fromkeys(_place(r) for r in references if r.is_on_hub))
        self._unsure = {_place(r) for r in unsure}
        self._futures: dict[tuple[str, str | None], Future[Snapshot]] = {}
        self._executor = ThreadPoolExecutor(at_once, thread_name_prefix="hf-free-fetch")
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._first_bytes: Future[None] = Future()  # waited for like a repository
        self._sizes: dict[tuple[str, str | None, str], tuple[int, int]] = {}
        self._done, self._bytes_done, self._bytes_total = 0, 0, 0

    def __enter__(self) -> Prefetcher:
        self._tell()
        self._futures = {place: self._executor.submit(self._fetch, place) for place in self._wanted}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()  # a download under way ends at its next piece
        self._executor.shutdown(wait=True, cancel_futures=True)

    def snapshot(self, reference: RepositoryPlace, *, fail_early: bool = False) -> Snapshot:
        """The files of one of the references, once they are there.

        Args:
            reference: One of those the prefetcher was made with.
            fail_early: Whether any repository's failure is raised at once, rather than after the ones before it.

        Raises:
            HubError: the files cannot be fetched.
        """
        wanted = self._futures[_place(reference)]
        self._wait_for([wanted], fail_early=fail_early)
        return wanted.result()

    def is_downloading(self, reference: RepositoryPlace, *, fail_early: bool = False) -> bool:
        """Whether there is time to do something else before the files of one of the references are there.

        It is True only once bytes of any repository are under way: where all is in the cache, the answer is always
        False, after a moment's wait.

        Raises:
            HubError: with `fail_early`, a repository's files cannot be fetched.
        """
        wanted = self._futures[_place(reference)]
        self._wait_for([wanted, self._first_bytes], fail_early=fail_early)
        return not wanted.done()

    def arrived(self, reference: RepositoryPlace) -> Snapshot | None:
        """The files of one of the references if they are there by now; None where they are not, or never will be."""
        wanted = self._futures[_place(reference)]
        return None if not wanted.done() or wanted.exception() is not None else wanted.result()

    def _wait_for(self, either: Sequence[Future[Any]], *, fail_early: bool) -> None:
        """Wait until one of the futures is done; or until any repository has failed, if that is to be raised."""
        while True:
            running = [future for future in self._futures.values() if not future.done()]
            if fail_early:
                self._raise_failure()
            if any(future.done() for future in either):
                return
            wait([*either, *running] if fail_early else either, return_when=FIRST_COMPLETED)

    def _raise_failure(self) -> None:
        for place, future in self._futures.items():
            error = future.exception() if future.done() else None
            if error is not None and not (place in self._unsure and isinstance(error, NOT_THERE)):
                raise error

    def _fetch(self, place: tuple[str, str | None]) -> Snapshot:
        def arrived(name: str, done: int, size: int) -> None:
            if self._stop.is_set():
                raise _Stopped
            with self._lock:
                before, known = self._sizes.get((*place, name), (0, 0))  # a file that begins anew goes back
                self._bytes_done += done - before
                self._bytes_total += size - known
                self._sizes[(*place, name)] = (done, size)
                if not self._first_bytes.done():
                    self._first_bytes.set_result(None)
                self._tell()

        try:
            return fetch_snapshot(
                place[0],
                revision=place[1],
                required=self._required,
                optional=self._optional,
                token=self._token,
                cache_dir=self._cache_dir,
                arrived=arrived,
            )
        finally:
            with self._lock:
                self._done += 1
                self._tell()

    def _tell(self) -> None:
        if self._report is not None and self._wanted:
            self._report(Fetched(self._done, len(self._wanted), self._bytes_done, self._bytes_total))


def _place(reference: RepositoryPlace) -> tuple[str, str | None]:
    return reference.location, reference.revision
