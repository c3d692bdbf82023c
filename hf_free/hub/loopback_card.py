"""The few lines of a card's metadata that a Hub reads: licence, tags, base models. Standard library only."""

from __future__ import annotations

import re
from typing import Any

_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def front_matter(text: str) -> str | None:
    """The metadata block between the `---` lines that open a card, without them; None if there is none."""
    match = re.match(r"\s*---[ \t]*\r?\n(.*?)\r?\n?---[ \t]*(\r?\n|$)", text, re.DOTALL)
    return match.group(1) if match else None


def read_metadata(text: str) -> dict[str, Any]:
    """Read the top level of a card's metadata: scalars and lists of scalars.

    Nested values (a model-index) are kept as None in the list; this is no YAML reader and need not be one.

    Raises:
        ValueError: a line at the top level that is neither `key:`, nor an item, nor a comment.
    """
    values: dict[str, Any] = {}
    key = ""
    for line in (front_matter(text) or "").splitlines():
        if line.strip() in ("", "{}") or line.lstrip().startswith("#"):
            continue
        item = re.match(r"\s*-(\s+(.*))?$", line)
        top = re.match(r"([A-Za-z_][\w.-]*)\s*:(?:\s+(.*))?$", line)
        if top:
            key = top.group(1)
            values[key] = _scalar(top.group(2) or "")
        elif item and key:
            if not isinstance(values[key], list):
                values[key] = []
            values[key].append(
                None if re.match(r"[\w.-]+:(\s|$)", item.group(2) or "") else _scalar(item.group(2) or "")
            )
        elif not line[0].isspace() or not key:
            raise ValueError(f"cannot read the line {line!r}")
    return values


def _scalar(text: str) -> Any:
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        return [_scalar(part) for part in text[1:-1].split(",") if part.strip()]
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    return None if text in ("", "null", "~") else {"true": True, "false": False}.get(text, text)


def card_errors(text: str) -> list[str]:
    """What the real Hub's `validate-yaml` refuses and a training tool could plausibly write."""
    try:
        values = read_metadata(text)
    except ValueError as error:
        return [f"Invalid YAML: {error}"]
    errors = []
    for key in ("base_model", "datasets"):
        if key not in values:
            continue
        listed = values[key] if isinstance(values[key], list) else [values[key]]
        if not listed or any(not isinstance(entry, str) for entry in listed):
            errors.append(f'"{key}" must be an id or a list of ids')
            continue
        for entry in listed:
            if not _ID.fullmatch(entry) or ".." in entry:
                page = {"base_model": "models"}.get(key, key)
                errors.append(f'"{key}" with value "{entry}" is not valid. Use an id from https://hf.co/{page}.')
    if "license" in values and not isinstance(values["license"], str | list):
        errors.append('"license" must be a string')
    return errors


def card_tags(values: dict[str, Any]) -> list[str]:
    """The tags that the Hub derives from a card, in its spelling."""
    tags = [tag for tag in _listed(values.get("tags")) if isinstance(tag, str)]
    tags += [entry for key in ("library_name", "pipeline_tag") for entry in _listed(values.get(key))]
    tags += [f"{key}:{entry}" for key in ("license", "base_model", "dataset") for entry in _listed(values.get(key))]
    return list(dict.fromkeys(tags))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
