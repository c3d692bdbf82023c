"""docs/reference/configuration.md, written from `hf_free.config.sections`: its defaults, rules and texts.

python -m hf_free.config.reference > docs/reference/configuration.md
"""

from __future__ import annotations

import ast
import inspect
import sys
from dataclasses import fields, is_dataclass
from typing import get_args

from hf_free.config import sections as section_types
from hf_free.config import tree
from hf_free.config.recipes import INVERSIONS, RECIPES, Defect
from hf_free.config.tree import FreeConfig

_HEADER = """\
# Configuration

<!-- Written by `python -m hf_free.config.reference`; change hf_free/config/sections.py instead. -->

Every key that a training run has. The same tree is `hf_free.FreeConfig` in Python, `--config file.yaml` and
`--set section.key=value` on the command line; the common keys have a flag of their own (`hf-free train --help`).
What is given later wins: recipe, YAML file, flags, `--set`; in Python `FreeConfig.load("file.yaml", values={...},
assignments=[...])` does the same. The defaults below are those of the recipe `default`. `FreeConfig(method="paper")`
and a YAML file with `method: paper` have the paper's values wherever nothing else is given. Each run writes all its
values to `config.yaml` in its folder, paths among them as absolute ones; a relative path in a YAML file is relative to
the folder that the command is run in.
"""
_RULES = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def configuration_markdown() -> str:
    """The whole of docs/reference/configuration.md."""
    nodes = [node for module in (section_types, tree) for node in ast.parse(inspect.getsource(module)).body]
    classes = {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}
    default = FreeConfig()
    sections = [entry.name for entry in fields(FreeConfig) if is_dataclass(getattr(default, entry.name))]
    parts = [_HEADER, "## General\n", _table(classes["FreeConfig"], default, skip=sections)]
    for name in sections:
        values = getattr(default, name)
        node = classes[type(values).__name__]
        parts += [f"## `{name}`\n", f"{ast.get_docstring(node)}\n", _table(node, values, prefix=f"{name}.")]
    parts += ["## Values of `defects`\n", "\n".join(f"- `{name}`" for name in get_args(Defect)) + "\n"]
    return "\n".join(parts)


def _table(node: ast.ClassDef, values: object, *, prefix: str = "", skip: list[str] | None = None) -> str:
    """One row per field of a configuration class: key, type and rule, default, text."""
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for entry, below in zip(node.body, [*node.body[1:], None], strict=True):
        if not isinstance(entry, ast.AnnAssign) or not isinstance(entry.target, ast.Name):
            continue
        name = entry.target.id
        if name in (skip or []):
            continue
        default = _show(getattr(values, name))
        cells = [f"`{prefix}{name}`", _rule(entry), f"`{default}`", _text(below)]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _rule(entry: ast.AnnAssign) -> str:
    """The type of a field and the limits of its `Field(...)`, in words."""
    annotation = entry.annotation
    if words := _words(annotation):
        return words
    named_lists = {"Tracker": get_args(section_types.Tracker), "View": get_args(section_types.View)}
    named = {
        "Annotated[str, BeforeValidator(_known_method)]": ", ".join(f"`{name}`" for name in RECIPES),
        "Annotated[str | None, BeforeValidator(_known_inversion)]": ", ".join(
            [*(f"`{name}`" for name in INVERSIONS), "or null"]
        ),
        "Annotated[list[Defect], BeforeValidator(as_list)]": "list, below",
        **{
            f"Annotated[list[{name}], BeforeValidator(as_list)]": "list of " + ", ".join(f"`{word}`" for word in words)
            for name, words in named_lists.items()
        },
    }
    kind = ast.unparse(annotation)
    plain = kind.replace("list[str]", "list of texts").replace("str", "text").replace("None", "null")
    words = named.get(kind, plain.replace(" | ", " or "))
    call = entry.value
    keywords = call.keywords if isinstance(call, ast.Call) else []
    limits = [f"{_RULES[item.arg]} {ast.unparse(item.value)}" for item in keywords if item.arg in _RULES]
    return ", ".join([words, *limits]).replace("2 ** 32", "4294967296")


def _words(annotation: ast.expr) -> str:
    """The words that a `Literal[...]` allows, also within `Annotated[...]` or `list[...]`; empty for other types."""
    if not isinstance(annotation, ast.Subscript):
        return ""
    kind, inner = ast.unparse(annotation.value), _elements(annotation.slice)
    if kind == "Literal":
        return ", ".join(f"`{ast.literal_eval(item)}`" for item in inner)
    words = _words(inner[0]) if kind in ("Annotated", "list") else ""
    return f"list of {words}" if words and kind == "list" else words


def _elements(node: ast.expr) -> list[ast.expr]:
    return node.elts if isinstance(node, ast.Tuple) else [node]


def _show(value: object) -> str:
    """A default as YAML would have it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _text(below: ast.stmt | None) -> str:
    if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
        return " ".join(str(below.value.value).split())
    raise ValueError("a field of hf_free.config.sections has no text below it")


if __name__ == "__main__":
    sys.stdout.write(configuration_markdown())
