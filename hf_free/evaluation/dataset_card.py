"""Which files the card of a data set names: its own, or the data set is not opened.

`datasets` opens whatever a card's `data_files` and `data_dir` name: any path of this computer, any address, the data
of others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from hf_free.errors import DatasetError
from hf_free.provenance.reading import list_of, object_of
from hf_free.runtime.files import read_bounded
from hf_free.runtime.given import short_form
from hf_free.runtime.strict_json import why_no_json

CARDS = ("README.md", ".huggingface.yaml")
"""Files in which `datasets` looks for configurations: a card with a block of YAML, and YAML alone."""

_MOST_BYTES = 2**22
_NAMING = ("data_files", "data_dir")


def check_cards(folder: Path, source: str, names: tuple[str, ...] = CARDS) -> None:
    """Refuse a data set whose cards name files that are none of its own, before `datasets` opens them.

    Args:
        folder: Where the cards lie.
        source: The data set, for the message.
        names: The cards that may be there.

    Raises:
        DatasetError: with what is named; or a card that cannot be read.
    """
    from hf_free.hub.dataset_files import block_of_card  # the Hub's client is slow to import

    for name in names:
        if not (folder / name).exists():
            continue
        try:
            # a byte order mark before the block hides it from nobody: `datasets` passes over it too
            text = read_bounded(folder / name, max_bytes=_MOST_BYTES).decode("utf-8-sig")
            read = yaml.safe_load(block_of_card(text) if name == CARDS[0] else text)
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            why = "it is no YAML" if isinstance(error, yaml.YAMLError | RecursionError) else why_no_json(error)
            raise DatasetError(
                f"the card {name} of {source} cannot be read: {why}", action=f"correct or remove its {name}"
            ) from None
        for entry in list_of(object_of(read).get("configs")):
            _check_entry(object_of(entry), f"the card of {source}")


def _check_entry(entry: Mapping[str, object], card: str) -> None:
    for key in _NAMING:
        for named in _texts(entry.get(key), set()):
            if not is_inside(named):
                raise DatasetError(
                    f"{card} names {short_form(named)} in {key}, which is none of its own files",
                    allowed="paths inside the data set",
                    action=f"correct {key} in its README.md, or choose another data set",
                )


def is_inside(path: str) -> bool:
    """Whether a path that a data set names stays in the data set, whatever it is joined to."""
    parts = re.split(r"[/\\]", path)
    is_elsewhere = path.startswith(("/", "\\", "~")) or re.match(r"[A-Za-z]:", path) is not None
    return not (is_elsewhere or ".." in parts or "://" in path or "::" in path or "\0" in path)


def _texts(value: object, seen: set[int]) -> Iterator[str]:
    """All texts in a value; what anchors share is looked at once."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list) and id(value) not in seen:
        seen.add(id(value))
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(part, seen)
