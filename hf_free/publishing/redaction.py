"""What of a learner's record may be published: no private teachers' names, no paths of somebody's machine."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from hf_free.config.init_from import InitFrom
from hf_free.provenance.teacher_record import is_hidden
from hf_free.publishing.results import folder_name, is_path, plain, without_paths

PRIVATE = "a private teacher"

UNLOADED = "a teacher that could not be loaded"

START = "a learner on the Hub"
"""Stands for a learner to start from: whether it is public is not recorded."""

_HUB_ID = re.compile(r"(?:[^/@:]+:)?([\w.-]+/[\w.-]+)(?:[@:].*)?", re.DOTALL)

_STOP = r"\s'\"`,;:()<>|"

_PATHS = re.compile(
    r"(?P<quote>['\"`])(?:file:/+|/|~/|[A-Za-z]:\\)(?:(?!(?P=quote)).)+(?P=quote)"  # with spaces, between quotes
    rf"|file:/+[^{_STOP}]+|(?<![\w/.<])~?/(?!/)[^{_STOP}]+|(?<!\w)[A-Za-z]:\\[^{_STOP}]+"
)

_AS_THEY_ARE = frozenset({"label_names", "label_descriptions"})
"""Keys whose texts look like paths at times (`/m/01g317`) and are none."""


def public_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """A learner's record as it may be published; a record that already is stays as it is.

    Private and gated teachers lose name, commit, label names, hashes and notes, wherever the record holds them,
    unless `hub.name_private_teachers` is set; so do teachers that could not be loaded (unless their entry in
    `skipped` holds `private` and `gated` as False) and a learner that the run started from, because nobody knows
    whether they are public. Paths shrink to their last part.

    Args:
        record: The `hf_free` block of config.json; every key may be missing.
    """
    public: dict[str, Any] = plain(record)
    config: dict[str, Any] = public.get("config") or {}
    named = bool((config.get("hub") or {}).get("name_private_teachers"))
    teachers: list[dict[str, Any]] = public.get("teachers") or []
    hidden = [teacher for teacher in teachers if is_hidden(teacher) and not named]
    scrub = _scrubber(_replacements(public, teachers, hidden, named), hidden)
    for report in public.get("results") or []:
        report["warnings"] = [_without_labels(str(text), hidden) for text in report.get("warnings") or []]
    if public.get("results"):
        public["results"] = without_paths(public["results"])
    if teachers:
        public["teachers"] = [_public_teacher(teacher, teacher in hidden) for teacher in teachers]
    for section in (public, config.get("learner"), public.get("learner")):
        if section and section.get("init_from"):
            section["init_from"] = _public_start(str(section["init_from"]), teachers, named)
    counts: dict[str, int] = {}
    for entry, count in (public.get("left_out") or {}).items():
        counts[scrub(str(entry))] = counts.get(scrub(str(entry)), 0) + count
    if counts:
        public["left_out"] = counts
    return _walk(public, scrub)


def _public_teacher(teacher: dict[str, Any], hide: bool) -> dict[str, Any]:
    if hide:
        nothing = {"repo_id": None, "commit": None, "label_names": None, "label_descriptions": None}
        return {**teacher, **nothing, "reference": PRIVATE, "sha256": {}, "notes": [], "classes": None}
    if not teacher.get("repo_id") and not is_hidden(teacher):
        return {**teacher, "reference": folder_name(str(teacher.get("reference", "")))}
    return teacher


def _public_start(source: str, teachers: list[dict[str, Any]], named: bool) -> str:
    if not InitFrom.parse(source).is_learner or source == START:
        return source
    if is_path(source):
        return folder_name(source)
    public = {teacher.get("repo_id") for teacher in teachers if not is_hidden(teacher)}
    return source if named or source.partition("@")[0] in public else START


def _replacements(
    record: Mapping[str, Any], teachers: list[dict[str, Any]], hidden: list[dict[str, Any]], named: bool
) -> dict[str, str]:
    """What stands for each name that must not appear."""
    new: dict[str, str] = {}
    known = {str(teacher.get("reference")) for teacher in teachers} | {PRIVATE, UNLOADED}
    for teacher in teachers:
        reference = str(teacher.get("reference") or "")
        if teacher in hidden:
            new |= dict.fromkeys((reference, _hub_id(reference), str(teacher.get("repo_id") or "")), PRIVATE)
        elif not teacher.get("repo_id") and not is_hidden(teacher):
            new[reference] = folder_name(reference)
    skipped = record.get("skipped") or []
    known |= {str(entry.get("reference")) for entry in skipped if _is_known_public(entry)}
    unknown = [str(entry.get("reference")) for entry in skipped]
    unknown += [str(text) for text in (record.get("config") or {}).get("models") or []]
    for reference in unknown:
        if reference in known:
            continue
        if is_path(reference):
            new[reference] = folder_name(reference)
        elif not named and not _is_public(reference, teachers):
            new |= dict.fromkeys((reference, _hub_id(reference)), UNLOADED)
    return {name: stand_in for name, stand_in in new.items() if name and name != stand_in}


def _scrubber(replacements: Mapping[str, str], hidden: list[dict[str, Any]]) -> Callable[[str], str]:
    """A function that replaces names, hidden teachers' commits and paths in one text."""
    # inside other texts only names with a slash: one word would be found in texts about something else
    inside = sorted((name for name in replacements if re.search(r"[/\\]", name)), key=len, reverse=True)
    folded = {name.casefold(): replacements[name] for name in inside}
    ends = r"(?![\w-]|\.\w)"  # lab/net is not lab/network, nor lab/net-2, nor lab/net.v2
    names = _any_of(inside, before=r"(?<![\w.~-])", after=ends)
    caches = _any_of([f"models--{name.replace('/', '--')}" for name in inside if name.count("/") == 1], after=ends)
    commits = [str(teacher["commit"])[:7] for teacher in hidden if teacher.get("commit")]
    commit_ids = _any_of(commits, before=r"\b", after=r"[0-9a-f]*\b")

    def scrub(text: str) -> str:
        if text in replacements:
            return replacements[text]
        text = names.sub(lambda match: folded.get(match.group().casefold(), PRIVATE), text)
        text = commit_ids.sub("(commit left out)", caches.sub("(a cache)", text))
        return _PATHS.sub(_last_part, text)

    return scrub


def _any_of(words: list[str], *, before: str = "", after: str = "") -> re.Pattern[str]:
    """A pattern of any of the words, in any case; of nothing at all where there are none."""
    return re.compile(rf"{before}(?:{'|'.join(map(re.escape, words))}){after}" if words else r"(?!)", re.IGNORECASE)


def _is_known_public(entry: Mapping[str, Any]) -> bool:
    """Whether a left-out teacher's entry says that it is public; most cannot say."""
    return entry.get("private") is False and entry.get("gated") is False and not is_path(str(entry.get("reference")))


def _is_public(reference: str, teachers: list[dict[str, Any]]) -> bool:
    name = _hub_id(reference).casefold()
    return any(name == str(t.get("repo_id")).casefold() and not is_hidden(t) for t in teachers)


def _hub_id(reference: str) -> str:
    """`org/name` of a reference with or without collection, revision and classes."""
    match = _HUB_ID.fullmatch(reference)
    return match.group(1) if match else reference


def _last_part(match: re.Match[str]) -> str:
    quote = match.group("quote") or ""
    return f"{quote}{folder_name(match.group().strip(quote) if quote else match.group())}{quote}"


def _without_labels(warning: str, hidden: list[dict[str, Any]]) -> str:
    """A warning without private teachers' label names, which stand in brackets and in any spelling of the spaces."""
    keys = ("label_names", "label_descriptions")
    names = {str(name) for teacher in hidden for key in keys for name in teacher.get(key) or ()}
    if not names:
        return warning
    spelled = ("[ _-]+".join(map(re.escape, re.split(r"[ _-]+", name))) for name in sorted(names, key=len)[::-1])
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(spelled)})(?!\w)", re.IGNORECASE)
    return re.sub(r"\(.*\)", lambda match: pattern.sub("…", match.group()), warning, flags=re.DOTALL)


def _walk(value: Any, scrub: Callable[[str], str]) -> Any:
    """The same nested value with every text scrubbed, keys too."""
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, Mapping):
        return {scrub(str(key)): inner if key in _AS_THEY_ARE else _walk(inner, scrub) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_walk(inner, scrub) for inner in value]
    return value
