"""A card's metadata as a Hub reads it: license, tags, base models, and the results of a model-index. PyYAML is
imported when the first card is read: starting the server needs only the standard library.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hf_free.provenance.reading import Json

if TYPE_CHECKING:
    from yaml import SafeLoader

_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_BOOLEANS = re.compile(r"true|True|TRUE|false|False|FALSE")

_TEXTS = {"task": ("type", "name"), "dataset": ("type", "name", "config", "split", "revision")}
_REQUIRED = {"task": ("type",), "dataset": ("type", "name")}


def front_matter(text: str) -> str | None:
    """The metadata block between the `---` lines that open a card, without them; None if there is none."""
    match = re.match(r"\s*---[ \t]*\r?\n(.*?)\r?\n?---[ \t]*(\r?\n|$)", text, re.DOTALL)
    return match.group(1) if match else None


def read_metadata(text: str) -> Json:
    """Read a card's metadata; none is an empty mapping.

    Raises:
        ValueError: no YAML, YAML of another program's own types, or no mapping.
    """
    import yaml

    block = front_matter(text) or ""
    try:
        values = yaml.load(block, Loader=_loader())
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ValueError(f"cannot read the line {block.strip().splitlines()[0]!r}")
    return {str(key): value for key, value in values.items()}


def card_errors(text: str) -> list[str]:
    """What the real Hub's `validate-yaml` refuses, as far as a training tool could plausibly write it, in the Hub's
    words."""
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
    if "model-index" in values:
        errors += _model_index_errors(values["model-index"])
    return errors


def card_tags(values: Json) -> list[str]:
    """The tags that the Hub derives from a card, in its spelling."""
    tags = _listed(values.get("tags"))
    tags += [entry for key in ("library_name", "pipeline_tag") for entry in _listed(values.get(key))]
    tags += [f"{key}:{entry}" for key in ("license", "base_model", "dataset") for entry in _listed(values.get(key))]
    return list(dict.fromkeys(tags))


def _listed(value: object) -> list[str]:
    return [entry for entry in (value if isinstance(value, list) else [value]) if isinstance(entry, str)]


def _loader() -> type[SafeLoader]:
    """PyYAML's safe loader, in which `yes` and `on` are words, as they are for the Hub (YAML 1.2)."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    tag = "tag:yaml.org,2002:bool"
    Loader.yaml_implicit_resolvers = {
        first: [(name, pattern) for name, pattern in resolvers if name != tag]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Loader.add_implicit_resolver(tag, _BOOLEANS, list("tTfF"))
    return Loader


def _model_index_errors(models: object) -> Iterator[str]:
    """What is missing from a model-index or has a wrong type; the fields are those of hub-docs' `modelcard.md`."""
    if not isinstance(models, list):
        yield '"model-index" must be an array'
        return
    for place, model in enumerate(models):
        at = f"model-index[{place}]"
        if not isinstance(model, dict):
            yield f'"{at}" must be of type object'
            continue
        yield from _text_errors(model, "name", at, required=True)
        results, errors = _items(model, "results", at)
        yield from errors
        for result_at, result in results:
            yield from _result_errors(result, result_at)


def _result_errors(result: Json, at: str) -> Iterator[str]:
    for part, names in _TEXTS.items():
        if part not in result:
            yield f'"{at}.{part}" is required'
        elif not isinstance(result[part], dict):
            yield f'"{at}.{part}" must be of type object'
        else:
            for name in names:
                yield from _text_errors(result[part], name, f"{at}.{part}", required=name in _REQUIRED[part])
    metrics, errors = _items(result, "metrics", at)
    yield from errors
    for metric_at, metric in metrics:
        yield from _text_errors(metric, "type", metric_at, required=True)
        yield from _text_errors(metric, "name", metric_at)
        if metric.get("value") is None:
            yield f'"{metric_at}.value" is required'
    if isinstance(source := result.get("source"), dict):
        yield from _text_errors(source, "url", f"{at}.source", required=True)


def _items(holder: Json, key: str, at: str) -> tuple[list[tuple[str, Json]], list[str]]:
    """Place and content of each object in a required list, and what is wrong with its other entries."""
    if key not in holder:
        return [], [f'"{at}.{key}" is required']
    if not isinstance(holder[key], list):
        return [], [f'"{at}.{key}" must be an array']
    items = [(f"{at}.{key}[{place}]", item) for place, item in enumerate(holder[key])]
    good = [(place, item) for place, item in items if isinstance(item, dict)]
    return good, [f'"{place}" must be of type object' for place, item in items if not isinstance(item, dict)]


def _text_errors(holder: Json, key: str, at: str, *, required: bool = False) -> Iterator[str]:
    if key not in holder:
        if required:
            yield f'"{at}.{key}" is required'
    elif not isinstance(holder[key], str):
        yield f'"{at}.{key}" must be a string'
    elif not holder[key]:
        yield f'"{at}.{key}" is not allowed to be empty'
