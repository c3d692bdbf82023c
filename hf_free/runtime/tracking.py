"""Experiment trackers through Accelerate, each in a thread of its own: what computes never waits for one."""

from __future__ import annotations

import importlib.util
import io
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hf_free.errors import ConfigError

_PACKAGES = {"comet_ml": "comet_ml", "dvclive": "dvclive"}
"""Packages whose name differs from that of their tracker."""

_EXTRAS = frozenset({"tensorboard", "trackio"})
"""Trackers that are an extra of hf-free of the same name."""

PATIENCE = 10.0
"""Seconds that all trackers together get at the end; one without a network may never end."""

_MOST_WAITING = 1000
"""Most values that wait for a slow tracker; beyond that newer ones are dropped, with a warning."""

Scalar = float | int | str | bool
"""What every tracker takes as a setting."""

logger = logging.getLogger(__name__)


def check_installed(names: Sequence[str]) -> None:
    """Refuse trackers whose package is missing; Accelerate would silently leave them out.

    Raises:
        ConfigError: names what to install.
    """
    for name in names:
        package = _PACKAGES.get(name, name)
        if importlib.util.find_spec(package) is None:
            install = f"'hf-free[{name}]'" if name in _EXTRAS else package
            raise ConfigError(
                f"trainer.log_with = {name!r}, and the package {package} is not installed",
                allowed="trackers that are installed",
                action=f"pip install {install}, or leave it out: log.jsonl has the same numbers",
            )


class Trackers:
    """Trackers, however many, which all get the same values.

    Args:
        names: As Accelerate calls them.
        project: Name of the project, or of the folder within `folder`.
        folder: Where trackers that write files write them.
        settings: The run's, for their tables.
        make: Makes a tracker of a name, project and folder; None takes Accelerate's.
    """

    def __init__(
        self,
        names: Sequence[str] = (),
        *,
        project: str = "hf-free",
        folder: Path = Path(),
        settings: Mapping[str, Scalar] | None = None,
        make: Callable[[str, str, Path], Any] | None = None,
    ) -> None:
        make = make or _accelerates
        self._replaced: tuple[Any, Any] | None = None
        if names:
            self._replaced = sys.stdout, _BesideTrackers(sys.stdout)
            sys.stdout = self._replaced[1]
        self._feeds = [
            _Feed(name, partial(make, name, project, folder), settings or {}) for name in dict.fromkeys(names)
        ]

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Tell all trackers some numbers of a step."""
        plain = {name: float(value) for name, value in values.items()}  # TensorBoard drops numpy's without a word
        for feed in self._feeds:
            feed.put(lambda tracker: tracker.log(plain, step=step))

    def picture(self, name: str, path: Path, step: int) -> None:
        """Show a picture's file to those trackers that take pictures; none where it is not there."""
        if not self._feeds or not path.is_file():
            return
        data = path.read_bytes()  # it is drawn anew meanwhile
        for feed in self._feeds:
            feed.put(lambda tracker: _show(tracker, name, data, step))

    def close(self) -> None:
        """End all trackers, and leave those alone that have not ended after `PATIENCE` seconds."""
        until = time.monotonic() + PATIENCE
        for feed in self._feeds:
            feed.end()
        for feed in self._feeds:
            feed.wait(until)
        self._feeds = []
        if self._replaced is not None and sys.stdout is self._replaced[1]:
            sys.stdout = self._replaced[0]


class _BesideTrackers:
    """The standard output for the length of a run: what trackers' own threads print goes to stderr.

    trackio prints a dozen lines, amid the one document of `--json`.
    """

    def __init__(self, own: Any) -> None:
        self._own = own

    def write(self, text: str) -> int:
        is_trackers = threading.current_thread().name.startswith(_THREADS)
        return (sys.stderr if is_trackers else self._own).write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)


_THREADS = "tracker "
"""How the names of trackers' threads begin."""


class _Feed:
    """A tracker's thread, and what it has yet to be told."""

    def __init__(self, name: str, make: Callable[[], Any], settings: Mapping[str, Scalar]) -> None:
        self.name, self._make, self._settings, self._dropped = name, make, settings, 0
        self._waiting: queue.Queue[Callable[[Any], object] | None] = queue.Queue(_MOST_WAITING)
        self._is_broken = False
        self._thread = threading.Thread(target=self._work, name=f"{_THREADS}{name}", daemon=True)
        self._thread.start()

    def put(self, tell: Callable[[Any], object]) -> None:
        """Have the tracker told something, as soon as it has time."""
        try:
            if not self._is_broken:
                self._waiting.put_nowait(tell)
        except queue.Full:
            self._dropped += 1

    def end(self) -> None:
        """Tell it that nothing follows."""
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            self._is_broken = True

    def wait(self, until: float) -> None:
        """Wait for its end until then."""
        self._thread.join(max(0.0, until - time.monotonic()))
        if self._thread.is_alive():
            logger.warning("%s has not ended in time: it may lack the last values; log.jsonl has all", self.name)
        if self._dropped:
            logger.warning("%s was too slow for %d of its values; log.jsonl has all", self.name, self._dropped)

    def _work(self) -> None:
        try:
            tracker = self._make()
            if callable(start := getattr(tracker, "start", None)):  # else it started when it was made
                start()
            tracker.store_init_configuration(dict(self._settings))
            while (tell := self._waiting.get()) is not None:
                tell(tracker)
            tracker.finish()
        except Exception as error:  # whatever a stranger's service raises: the run goes on without it
            self._is_broken = True
            reason = " ".join(str(error).split())[:200]
            logger.warning("%s is left out (%s: %s); log.jsonl goes on", self.name, type(error).__name__, reason)


def _accelerates(name: str, project: str, folder: Path) -> Any:
    """Accelerate's tracker of a name."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    kind = LOGGER_TYPE_TO_CLASS[name]
    if name == "trackio":  # else its run has a random name; the dashboard's address would be printed
        return kind(project, name=folder.absolute().parent.name, embed=False)
    return kind(project, logging_dir=str(folder)) if kind.requires_logging_directory else kind(project)


def _show(tracker: Any, name: str, data: bytes, step: int) -> None:
    import numpy as np
    from PIL import Image

    if not hasattr(tracker, "log_images") and tracker.name != "trackio":
        return
    with Image.open(io.BytesIO(data)) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    if tracker.name == "trackio":  # which takes pictures, though not by Accelerate's name
        import trackio

        tracker.log({name: trackio.Image(pixels)}, step=step)
    elif tracker.name == "tensorboard":  # one array of pictures, where the others take a list
        tracker.log_images({name: pixels[None]}, step=step, dataformats="NHWC")
    else:
        tracker.log_images({name: [pixels]}, step=step)
