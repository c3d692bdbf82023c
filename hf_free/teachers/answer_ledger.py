"""Answers that were paid for, in one append-only file: nothing is asked twice, not even after a kill.

One line per event, each with its checksum: `L` a label with its number, `Q` a number of pictures sent, `R` a number of
them that were not taken up, `A` a picture's answer. A line that a kill has cut short is skipped; pictures that were
under way then count as sent. Scores are kept as they were written, so that how they are read may change at no cost.
"""

from __future__ import annotations

import json
import logging
import threading
import zlib
from pathlib import Path
from typing import BinaryIO

from hf_free.runtime.storage import storage_explained
from hf_free.teachers.answer_form import Answer

logger = logging.getLogger(__name__)

_BEGINNING = b"hf-free answers 1"


class AnswerLedger:
    """An endpoint's answers by the hash of the picture; in memory where no file is given.

    Args:
        path: The file; made when there is something to keep.

    Attributes:
        sent: Pictures sent and taken up, of earlier starts too.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path, self.sent = path, 0
        self._labels: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._next = 0  # the next label's number
        self._held: dict[str, str] = {}  # picture -> the line's text, where there is no file
        self._places: dict[str, tuple[int, int]] = {}
        self._file: BinaryIO | None = None
        self._end, self._lock = 0, threading.Lock()
        if path is not None and path.is_file():
            self._read(path)

    def __len__(self) -> int:
        return len(self._held) + len(self._places)

    def get(self, picture: str) -> Answer | None:
        """The answer about a picture, by its hash; None where there is no intact one."""
        with self._lock:
            if picture in self._held:
                return self._parsed(self._held[picture])
            if picture not in self._places or self.path is None:
                return None
            start, length = self._places[picture]
            with self.path.open("rb") as file:
                file.seek(start)
                body = _checked(file.read(length))
        try:
            return None if body is None else self._parsed(body.split("\t", 2)[2])
        except (LookupError, ValueError):  # of a label whose line is damaged
            return None

    def count(self, number: int) -> None:
        """Note so many pictures as sent, before they are; a negative number: so many were not taken up."""
        with self._lock:
            self._write([f"Q\t{number}" if number > 0 else f"R\t{-number}"])
            self.sent += number

    def keep(self, picture: str, answer: Answer) -> None:
        """Keep the answer about a picture."""
        with self._lock:
            lines = []
            for label, _ in answer:
                if label not in self._labels:
                    lines.append(f"L\t{self._next}\t{json.dumps(label)}")
                    self._name(self._next, label)
            text = " ".join(f"{self._labels[label]}:{score}" for label, score in answer)
            spans = self._write([*lines, f"A\t{picture}\t{text}"])
            if spans:
                self._places[picture] = spans[-1]
            else:
                self._held[picture] = text

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _name(self, number: int, label: str) -> None:
        self._labels[label], self._names[number] = number, label
        self._next = max(self._next, number + 1)

    def _parsed(self, text: str) -> Answer:
        pairs = (part.partition(":") for part in text.split(" "))
        return tuple((self._names[int(number)], score) for number, _, score in pairs)

    def _write(self, lines: list[str]) -> list[tuple[int, int]]:
        """Append lines -> where each stands; nothing where there is no file."""
        if self.path is None:
            return []
        with storage_explained(self.path):
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.path.open("ab")
                self._end = self._file.tell()
                if self._end == 0:
                    self._end += self._file.write(_BEGINNING + b"\n")
                elif not _ends_line(self.path):
                    self._end += self._file.write(b"\n")  # after a line that was cut
            spans = []
            for line in lines:
                body = line.encode()
                written = self._file.write(body + b"\t%08x\n" % zlib.crc32(body))
                spans.append((self._end, written))
                self._end += written
            self._file.flush()
        return spans

    def _read(self, path: Path) -> None:
        damaged, place = 0, 0
        with path.open("rb") as file:
            for raw in file:
                start, place = place, place + len(raw)
                if start == 0 and raw.rstrip() == _BEGINNING:
                    continue
                body = _checked(raw)
                if body is None:
                    damaged += bool(raw.strip())
                    continue
                event, _, rest = body.partition("\t")
                if event == "L":
                    number, _, label = rest.partition("\t")
                    self._name(int(number), str(json.loads(label)))
                elif event == "A":
                    self._places[rest.partition("\t")[0]] = (start, len(raw))
                elif event in ("Q", "R"):
                    self.sent += int(rest) if event == "Q" else -int(rest)
        self._next += damaged  # each may have been a label's line: no number may stand for two labels
        if damaged:
            logger.warning("%s: %d damaged line%s passed over", path, damaged, "" if damaged == 1 else "s")


def _checked(raw: bytes) -> str | None:
    """A line's text without its checksum; None where the two do not fit."""
    body, _, digits = raw.rstrip(b"\n").rpartition(b"\t")
    return body.decode() if raw.endswith(b"\n") and digits == b"%08x" % zlib.crc32(body) else None


def _ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) == b"\n"
