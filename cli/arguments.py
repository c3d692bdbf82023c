"""Rewrite a command line so that list flags take several values, before Typer reads it.

Typer takes `--models a --models b` only. hf-free also takes `--models a b`, so each list flag is repeated before
each of its values. The rules:

- The values of a list flag end at the next flag, at `--`, or, for a flag of integers such as `--k-shot`, at the
  first word that is no integer. So `evaluate --k-shot 1 5 org/name` still has its MODEL.
- `--models=a` takes exactly one value.
- Order is kept over repetitions: `--models a b --models c` is a, b, c.
- What follows `--` is left alone.
- A word that belongs to no flag and to no positional is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from hf_free.errors import HfFreeError
from hf_free.runtime.given import short_form

_NUMBER = re.compile(r"-\d+(\.\d*)?([eE][-+]?\d+)?|-\.\d+([eE][-+]?\d+)?")
_INTEGER = re.compile(r"[-+]?\d+")

MOST_LIST_BYTES = 2**24
"""Most bytes of a list of teachers or pictures: 100,000 ids take a few MB, and a device may never end."""

MOST_ID_LENGTH = 4096
"""Letters of an entry of a list of teachers at most: as many as a path has on Linux (PATH_MAX)."""


class UsageError(HfFreeError):
    """A command line that cannot be read."""


@dataclass(frozen=True)
class Grammar:
    """What one verb accepts, as far as splitting its words goes.

    Attributes:
        lists: Flags that take one or more words.
        integer_lists: Flags that take one or more integers.
        values: Flags that take exactly one value.
        switches: Flags that take no value.
        positionals: How many positional words are allowed at most; None for any number.
        hint: What to do about a stray word.
        bare: What a list flag without a value means, where that is allowed.
    """

    lists: frozenset[str] = frozenset()
    integer_lists: frozenset[str] = frozenset()
    values: frozenset[str] = frozenset()
    switches: frozenset[str] = frozenset()
    positionals: int | None = 0
    hint: str = field(default="", compare=False)
    bare: Mapping[str, str] = field(default_factory=dict, compare=False)


def rewrite(arguments: Sequence[str], grammars: Mapping[str, Grammar]) -> list[str]:
    """The same command line with every list flag repeated before each of its values.

    Args:
        arguments: The words after the program's name.
        grammars: The grammar of each verb. Lines without a known verb are returned unchanged.

    Raises:
        UsageError: a list flag without a value, or a stray word.
    """
    position = next((index for index, word in enumerate(arguments) if not is_flag(word)), None)
    if position is None or arguments[position] not in grammars:
        return list(arguments)
    verb = arguments[position]
    head, tail = list(arguments[: position + 1]), list(arguments[position + 1 :])
    return head + _rewrite_verb(verb, tail, grammars[verb])


def _rewrite_verb(verb: str, words: list[str], grammar: Grammar) -> list[str]:
    lists = grammar.lists | grammar.integer_lists
    known = lists | grammar.values | grammar.switches
    unknown_flag = False
    rewritten: list[str] = []
    positionals: list[str] = []
    index = 0
    while index < len(words):
        word = words[index]
        flag, equals, value = word.partition("=")
        index += 1
        if word == "--":
            positionals += words[index:]
            rewritten += words[index - 1 :]
            break
        if flag in lists and equals:
            _require_value(flag, value)
            rewritten.append(word)
        elif flag in lists:
            taken = _values_of_list(words[index:], integers=flag in grammar.integer_lists)
            index += len(taken)
            given = taken or [grammar.bare[flag]] if flag in grammar.bare else taken
            _require_value(flag, given[0] if given else "")
            # The form with "=" keeps a negative number from being read as a flag.
            rewritten += [f"{flag}={text}" for text in given]
        elif word in grammar.values:
            value = words[index] if index < len(words) else ""
            # A forgotten value would swallow the next flag, and the refusal would then name the wrong words.
            _require_value(word, "" if value in known else value)
            rewritten += [word, value]
            index += 1
        else:
            rewritten.append(word)
            if is_flag(word):
                unknown_flag |= flag not in known
            else:
                positionals.append(word)
    if not unknown_flag:  # what follows an unknown flag may be meant as its value; Typer refuses the flag itself
        _refuse_stray_words(verb, positionals, grammar)
    return rewritten


def is_flag(word: str) -> bool:
    """Whether a word is a flag: it begins with a dash and is neither a lone dash nor a negative number."""
    return word.startswith("-") and word != "-" and not _NUMBER.fullmatch(word)


def _values_of_list(words: Sequence[str], *, integers: bool) -> list[str]:
    """The words from the start of `words` that belong to a list flag."""
    taken: list[str] = []
    for word in words:
        if is_flag(word):
            break
        # The first word is taken whatever it is, so that `--k-shot many` is refused as no integer, by name.
        if integers and taken and not _INTEGER.fullmatch(word):
            break
        taken.append(word)
    return taken


def _require_value(flag: str, value: str) -> None:
    if not value:
        raise UsageError(f"{flag} has no value", action=f"give one after it; {flag}=VALUE if it begins with a dash")


def _refuse_stray_words(verb: str, positionals: Sequence[str], grammar: Grammar) -> None:
    if grammar.positionals is None or len(positionals) <= grammar.positionals:
        return
    stray = positionals[grammar.positionals :]
    allowed = {0: "no word outside a flag", 1: "one word outside a flag"}.get(
        grammar.positionals, f"{grammar.positionals} words outside a flag"
    )
    raise UsageError(
        f"hf-free {verb}: stray {'word' if len(stray) == 1 else 'words'} {', '.join(map(repr, stray))}",
        allowed=allowed,
        action=grammar.hint or f"see hf-free {verb} --help",
    )


def expand_list_files(values: Iterable[str]) -> list[str]:
    """Replace each `@list.txt` and each existing `list.yaml` by the teachers in that file.

    A text file has one id per line, blank lines and # comments left out; for YAML see `hf_free.teachers.listing`.

    Raises:
        UsageError: a list file that cannot be read or that names nothing.
        TeacherReferenceError: an entry of a YAML list that names no teacher.
    """
    from hf_free.teachers.listing import is_teacher_list, resolve_without_hub

    expanded: list[str] = []
    for value in values:
        if value.startswith("@"):
            expanded += _read_list_file(Path(value[1:]))
        else:
            expanded += map(str, resolve_without_hub([value])) if is_teacher_list(value) else [value]
    return expanded


def _read_list_file(path: Path) -> list[str]:
    rule = "a text file with one id per line; # begins a comment"
    is_shells = any(path.absolute().is_relative_to(folder) for folder in ("/dev", "/proc"))  # of @<(...)
    if path.is_fifo() and not is_shells:  # one without a writer would be waited for
        raise UsageError(f"the list @{path} is a pipe that nobody may write to", allowed=f"{rule}; or @<(command)")
    try:
        with path.open("rb") as file:  # a pipe will do: @<(...)
            data = file.read(MOST_LIST_BYTES + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read the list @{path}: {error.strerror}", allowed=rule) from None
    except UnicodeDecodeError:
        raise UsageError(
            f"the list @{path} is not a text file in UTF-8", allowed=rule, action="save it as UTF-8"
        ) from None
    if len(data) > MOST_LIST_BYTES:
        raise UsageError(f"the list @{path} has more than {MOST_LIST_BYTES >> 20} MiB", allowed=rule)
    # A comment needs a blank before its #, since a folder's name may hold one.
    lines = [re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip() for line in text.splitlines()]
    ids = [line for line in lines if line]
    if not ids:
        raise UsageError(f"the list @{path} names nothing", allowed=rule, action="write an id into it")
    if odd := next(
        (text for text in ids if len(text) > MOST_ID_LENGTH or any(ord(letter) < 32 for letter in text)), None
    ):
        raise UsageError(
            f"the list @{path} holds what no id can be: {short_form(odd)}", allowed=rule, action="write it anew"
        )
    if inner := next((text for text in ids if text.startswith("@")), None):
        raise UsageError(
            f"the list @{path} names the list {inner}", allowed=rule, action="write the ids themselves into it"
        )
    return ids


def read_list(stream: TextIO) -> list[str]:
    """The lines of a list on a standard stream.

    Raises:
        UsageError: it has no end, or is no list.
    """
    text = stream.read(MOST_LIST_BYTES + 1)
    if len(text) > MOST_LIST_BYTES:
        raise UsageError(
            f"the list on stdin has more than {MOST_LIST_BYTES >> 20} MiB",
            allowed="one path per line",
            action="name folders or patterns in its place",
        )
    return text.split("\n")


def given_values(flags: Mapping[str, object]) -> dict[str, object]:
    """The flags that were given, nested as the configuration is: None means that a flag was not."""
    kept = {key: given_values(value) if isinstance(value, Mapping) else value for key, value in flags.items()}
    return {key: value for key, value in kept.items() if value is not None and value != {}}
