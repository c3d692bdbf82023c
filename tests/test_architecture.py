"""The floors that packages stand on, and the rules of the house, read off the import statements.

`python tests/test_architecture.py` prints the figures, and with `--files` each file and its idea. `--write` writes
what remains to be done into this file: do so after a change that makes one of its lists shorter. No list may grow.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

FLOORS = (
    {"errors", "version", "provenance"},
    {"runtime"},
    {"hub", "data", "backbones", "config"},
    {"teachers", "publishing"},
    {"inversion", "learner"},
    {"memory"},
    {"metalearning", "reporting", "pooling", "serving"},
    {"methods", "evaluation"},
    {"training", "demo"},
    {"__init__"},
    {"cli"},
)
"""From the ground up: a package imports from floors below its own, and from itself."""

LEAVES = {"data": {"errors", "runtime"}, "provenance": {"errors"}}
"""Packages that know nothing but these."""

FORBIDDEN = {"learner": {"teachers", "inversion", "memory", "metalearning"}}
"""Packages below that one must not know all the same: the published network stands without them."""

LIBRARIES = {
    "accelerate": (
        "hf_free/runtime/distributed.py",
        "hf_free/runtime/device.py",
        "hf_free/runtime/tracking.py",
        "hf_free/training/launch.py",
    ),
    "datasets": ("hf_free/evaluation/dataset_",),
    "gradio": ("hf_free/demo/app.py",),
    "huggingface_hub": ("hf_free/hub/", "hf_free/publishing/metadata.py"),
    "jinja2": ("hf_free/publishing/", "hf_free/reporting/"),
    "matplotlib": ("hf_free/reporting/",),
    "rich": ("cli/", "hf_free/runtime/progress.py", "hf_free/training/progress.py"),
    "transformers": ("hf_free/teachers/transformers_loader.py",),
    "typer": ("cli/",),
}
"""One library, one room."""

WHOLE_CONFIGURATION = (
    "hf_free/config/",
    "hf_free/training/setup.py",
    "hf_free/training/plan.py",
    "hf_free/training/pooled_first.py",
    "hf_free/methods/base.py",
)
"""Who may take the whole `FreeConfig`; everybody else gets a section or a value."""

BARE_DICTIONARIES = (
    "hf_free/provenance/",
    "hf_free/config/reading.py",
    "hf_free/learner/format.py",
    "hf_free/hub/cache.py",
)
"""Where JSON or YAML enters or leaves, as `dict[str, Any]`."""

# what remains: begin
REMAINING: dict[str, list[str]] = {
    "imports that do not run down": [],
    "circles": [],
    "loose modules": [
        "hf_free/__init__.py",
        "hf_free/errors.py",
        "hf_free/version.py",
    ],
    "libraries outside their room": [],
    "whole configuration": [
        "hf_free/training/absolute_paths.py: absolute_config",
        "hf_free/training/trainer.py: train",
    ],
    "bare dictionaries": [
        "hf_free/backbones/resnet_small.py: 1",
        "hf_free/config/tree.py: 2",
        "hf_free/demo/small_teachers.py: 1",
        "hf_free/evaluation/dataset_sources.py: 1",
    ],
    "modules without a test file": [],
    "private names": [],
}
# what remains: end


@dataclass(frozen=True)
class Import:
    """One import statement, wherever it stands."""

    importer: str
    imported: str
    line: int
    type_only: bool
    inside: bool


def sources() -> list[str]:
    """All files of the package and of the program."""
    return sorted(p.relative_to(ROOT).as_posix() for top in ("hf_free", "cli") for p in (ROOT / top).rglob("*.py"))


@cache
def tree_of(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


@cache
def modules() -> dict[str, str]:
    """Dotted name -> file."""
    named = {}
    for path in sources():
        parts = [*(["hf_free"] if path.startswith("cli/") else []), *path.removesuffix(".py").split("/")]
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


def _statements(node: ast.AST, type_only: bool = False, inside: bool = False) -> Iterator[tuple[ast.stmt, bool, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child, type_only, inside
            continue
        is_guard = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
        is_function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
        yield from _statements(child, type_only or is_guard, inside or is_function)


@cache
def imports() -> tuple[Import, ...]:
    """Imports between our own files; a name of a package's `__init__` counts as that file."""
    found = []
    for path in sources():
        for node, type_only, inside in _statements(tree_of(path)):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                target = modules().get(name) or modules().get(name.rpartition(".")[0])
                if name.split(".")[0] == "hf_free" and target is not None and target != path:
                    found.append(Import(path, target, node.lineno, type_only, inside))
    return tuple(dict.fromkeys(found))


def room_of(path: str) -> str:
    parts = path.split("/")
    return parts[0] if parts[0] == "cli" else parts[1].removesuffix(".py")


def floor_of(path: str) -> int | None:
    return next((floor for floor, rooms in enumerate(FLOORS) if room_of(path) in rooms), None)


def not_down() -> list[str]:
    """Imports that run up, or to a neighbor on the same floor."""
    found = set()
    for edge in imports():
        above, below = floor_of(edge.importer), floor_of(edge.imported)
        here, there = room_of(edge.importer), room_of(edge.imported)
        if here == there or there == "errors" or above is None or below is None:
            continue
        if below >= above or there in FORBIDDEN.get(here, ()) or there not in LEAVES.get(here, {there}):
            found.add(f"{edge.importer} -> {edge.imported}")
    return sorted(found)


def circles() -> list[str]:
    """Groups of files that import each other, directly or not, one text per group."""
    graph: dict[str, set[str]] = {path: set() for path in sources()}
    for edge in imports():
        graph[edge.importer].add(edge.imported)

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for following in graph[todo.pop()] - seen:
                seen.add(following)
                todo.append(following)
        return seen

    beyond = {path: reached(path) for path in graph}
    groups = {frozenset({p for p in beyond[path] if path in beyond[p]}) for path in graph if path in beyond[path]}
    return sorted(" ".join(sorted(group)) for group in groups)


def loose() -> list[str]:
    """Modules at the package's root."""
    return sorted(p for p in sources() if p.count("/") == 1 and p.startswith("hf_free/"))


def strangers() -> list[str]:
    """Libraries outside their room."""
    found = set()
    for path in sources():
        for node, _, _ in _statements(tree_of(path)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            for library in {name.partition(".")[0] for name in names} & set(LIBRARIES):
                if not path.startswith(LIBRARIES[library]):
                    found.add(f"{path}: {library}")
    return sorted(found)


def _functions(path: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    def visit(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                name = f"{prefix}{child.name}"
                if isinstance(child, ast.FunctionDef):
                    yield name, child
                yield from visit(child, f"{name}.")
            elif not isinstance(child, ast.expr):
                yield from visit(child, prefix)

    return visit(tree_of(path), "")


def _arguments(function: ast.FunctionDef) -> list[ast.arg]:
    given = function.args
    listed = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return [argument for argument in listed if argument.arg not in ("self", "cls")]


def takers(*, everywhere: bool = False) -> list[str]:
    """Functions of the package that take the whole configuration; those that may are left out."""
    found = []
    for path in sources():
        if not path.startswith("hf_free/") or (not everywhere and path.startswith(WHOLE_CONFIGURATION)):
            continue
        for name, function in _functions(path):
            kinds = [ast.unparse(argument.annotation) for argument in _arguments(function) if argument.annotation]
            if any(re.search(r"\bFreeConfig\b", kind) for kind in kinds):
                found.append(f"{path}: {name}")
    return sorted(found)


def dictionaries() -> list[str]:
    """`dict[str, Any]` where neither JSON nor YAML enters or leaves, as `file: count`."""
    counts = {p: (ROOT / p).read_text(encoding="utf-8").count("dict[str, Any]") for p in sources()}
    return sorted(f"{p}: {n}" for p, n in counts.items() if n and not p.startswith(BARE_DICTIONARIES))


def untested() -> list[str]:
    """Modules without a test file at their mirrored place; those that only declare are left out."""
    found = []
    for path in sources():
        if path.endswith("__init__.py") or path == "hf_free/version.py":
            continue
        folder, _, name = path.removeprefix("hf_free/").rpartition("/")
        if not (ROOT / "tests" / folder / f"test_{name}").is_file():
            found.append(path)
    return found


def private() -> list[str]:
    """Private names of ours that a test imports or another file of ours does."""
    found = set()
    tests = [p.relative_to(ROOT).as_posix() for p in (ROOT / "tests").rglob("*.py")]
    for path in [*sources(), *sorted(tests)]:
        for node, _, _ in _statements(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "hf_free":
                names = [a.name for a in node.names if a.name.startswith("_") and not a.name.startswith("__")]
                found |= {f"{path}: {name}" for name in names}
    return sorted(found)


RULES = {
    "imports that do not run down": not_down,
    "circles": circles,
    "loose modules": loose,
    "libraries outside their room": strangers,
    "whole configuration": takers,
    "bare dictionaries": dictionaries,
    "modules without a test file": untested,
    "private names": private,
}


def _left(rule: str) -> tuple[set[str], dict[str, int]]:
    """What is left of a rule: plain entries, and entries with a number at their end that may only fall."""
    entries = REMAINING.get(rule, [])
    numbers = {e.rpartition(": ")[0]: int(e.rpartition(": ")[2]) for e in entries if e.rpartition(": ")[2].isdigit()}
    return {e for e in entries if e.rpartition(": ")[0] not in numbers}, numbers


@pytest.mark.parametrize("rule", RULES)
def test_rules_hold_but_for_what_remains(rule):
    known, numbers = _left(rule)
    found = RULES[rule]()
    counted = {e.rpartition(": ")[0]: int(e.rpartition(": ")[2]) for e in found if e.rpartition(": ")[2].isdigit()}
    plain = {e for e in found if e.rpartition(": ")[0] not in counted}
    new = sorted(plain - known) + [f"{p}: {n}" for p, n in counted.items() if n > numbers.get(p, 0)]
    assert not new, f"{rule}: mend these rather than list them"
    gone = sorted(known - plain) + [f"{p}: {n}" for p, n in numbers.items() if n > counted.get(p, 0)]
    assert not gone, "better than it was: run python tests/test_architecture.py --write"


def test_every_package_stands_on_a_floor():
    rooms = {room_of(path) for path in sources()}
    assert rooms <= set().union(*FLOORS), "give the new package a floor in FLOORS"


def loaded_with(path: str) -> set[str]:
    """Files that are imported when this one is, directly or not: at the top of a module, and not for types alone."""
    seen, todo = {path}, [path]
    while todo:
        here = todo.pop()
        below = {e.imported for e in imports() if e.importer == here and not e.type_only and not e.inside} - seen
        seen |= below
        todo += below
    return seen


def test_the_published_network_and_its_classifier_load_alone():
    strangers = ("teachers/", "inversion/", "memory/", "metalearning/", "training/")
    for start, more in (("classifier.py", ("learner/meta_learner.py", "publishing/")), ("meta_learner.py", ())):
        loaded = loaded_with(f"hf_free/learner/{start}")
        assert "hf_free/learner/persistence.py" in loaded
        assert not [path for path in loaded if path.startswith(tuple(f"hf_free/{one}" for one in strangers + more))]


def test_every_package_says_what_it_is_for():
    silent = [p for p in sources() if p.endswith("__init__.py") and not ast.get_docstring(tree_of(p))]
    assert not silent


def figures() -> dict[str, str]:
    """The signs, as name -> number."""

    def count(pattern: str, paths: list[str]) -> int:
        texts = [(ROOT / path).read_text(encoding="utf-8") for path in paths]
        return sum(len(re.findall(pattern, re.sub(r"^\s*from typing import .*$", "", t, flags=re.M))) for t in texts)

    def parameters(name: str) -> str:
        owner, _, method = name.partition(".")
        for path in sources():
            if not path.startswith("hf_free/"):
                continue
            for found, function in _functions(path):
                if found == (name if method else owner):
                    return str(len(_arguments(function)))
        return "not there"

    package = [path for path in sources() if path.startswith("hf_free/")]
    trainer = next(path for path in package if path.endswith("trainer.py"))
    heads = [node for node in tree_of(trainer).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    sideways = [e for e in imports() if (e.type_only or e.inside) and room_of(e.importer) == room_of(e.imported)]
    named = [f"MetaLearner {parameters('MetaLearner.__init__')}"]
    named += [f"fill {parameters('fill')}", f"evaluate {parameters('evaluate')}"]
    return {
        "circles": f"{len(circles())} ({sum(len(c.split()) for c in circles())} files)",
        "imports that run up or aside": str(len(not_down())),
        "loose modules at the package's root": str(len(loose()) - 1),
        "functions that take the whole configuration": str(len(takers(everywhere=True))),
        "lines; import statements of train's file": f"{len((ROOT / trainer).read_text().splitlines())}; {len(heads)}",
        "Any in hf_free": str(count(r"\bAny\b", package)),
        "dict[str, Any] in hf_free and cli": str(count(r"dict\[str, Any\]", sources())),
        "imports of siblings, type-only or inside a function": str(len(sideways)),
        "modules without a test file of their own name": f"{len(untested())} of {len(sources())}",
        "private names imported": str(len(private())),
        "parameters": ", ".join(named),
    }


def main() -> None:
    """Print the figures; the files, each with its idea; or write what remains into this file."""
    if "--files" in sys.argv:
        for path in sources():
            idea = (ast.get_docstring(tree_of(path)) or "").split("\n")[0]
            sys.stdout.write(f"{path:<50} {idea}\n")
        return
    if "--write" in sys.argv:
        rows = []
        for rule, check in RULES.items():
            entries = check()
            rows.append(f'    "{rule}": [' + ("" if entries else "],"))
            lines = [f'        "{entry}",' for entry in entries]
            rows += [line + ("  # noqa: E501" if len(line) > 119 else "") for line in lines]
            rows += ["    ],"] if entries else []
        begin, end = "# what remains: begin", "# what remains: end"
        block = "\n".join([begin, "REMAINING: dict[str, list[str]] = {", *rows, "}", end])
        path = Path(__file__)
        text = re.sub(rf"^{begin}\n.*?^{end}$", lambda _: block, path.read_text(), flags=re.MULTILINE | re.DOTALL)
        path.write_text(text, encoding="utf-8")
        return
    for name, value in figures().items():
        sys.stdout.write(f"{name:<55} {value}\n")


if __name__ == "__main__":
    main()
