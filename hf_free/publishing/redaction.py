"""What part of a learner's record may be published: no private teachers' names, no paths of anyone's machine."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hf_free.config.init_from import InitFrom
from hf_free.provenance.learner_record import LearnerRecord
from hf_free.provenance.mending import mended
from hf_free.provenance.reading import Json, object_of, text_of, texts_of
from hf_free.provenance.recorded_teacher import RecordedTeacher
from hf_free.publishing.results import folder_name, is_path, plain, without_paths

PRIVATE = "a private teacher"

UNLOADED = "a teacher that could not be loaded"

START = "a learner on the Hub"
"""Stands for the learner that a run started from: whether it is public is not recorded."""

_HUB_ID = re.compile(r"(?:[^/@:]+:)?([\w.-]+/[\w.-]+)(?:[@:].*)?", re.DOTALL)

_STOP = r"\s'\"`,;:()<>|"

_PATHS = re.compile(
    r"(?P<quote>['\"`])(?:file:/+|/|~/|[A-Za-z]:\\)(?:(?!(?P=quote)).)+(?P=quote)"  # with spaces, between quotes
    rf"|file:/+[^{_STOP}]+|(?<![\w/.<])~?/(?!/)[^{_STOP}]+|(?<!\w)[A-Za-z]:\\[^{_STOP}]+"
)

_AS_THEY_ARE = frozenset({"label_names", "label_descriptions"})
"""Keys whose texts sometimes look like paths (`/m/01g317`), but are not."""


def public_record(block: Mapping[str, object]) -> Json:
    """A learner's record as it may be published; a record that already is public stays as it is.

    Private and gated teachers lose name, commit, label names, hashes and notes, wherever the record holds them,
    unless `hub.name_private_teachers` is set; so do teachers that could not be loaded (unless their entry in
    `skipped` holds `private` and `gated` as False) and a learner that the run started from, because nobody knows
    whether they are public. Paths shrink to their last part.

    Args:
        block: The `hf_free` block of config.json; every key may be missing.
    """
    public = object_of(plain(mended(block)))
    record = LearnerRecord.from_dict(public)
    named = record.publication.name_private_teachers
    hidden = [teacher for teacher in record.teachers if teacher.is_hidden and not named]
    scrub = _scrubber(_replacements(record, named), hidden)
    for report in public.get("results") or []:
        report["warnings"] = [_without_labels(str(text), hidden) for text in report.get("warnings") or []]
    if public.get("results"):
        public["results"] = without_paths(public["results"])
    if record.teachers:
        entries = zip(public["teachers"], record.teachers, strict=True)
        public["teachers"] = [_public_teacher(entry, teacher, named) for entry, teacher in entries]
    for section in (public, (public.get("config") or {}).get("learner"), public.get("learner")):
        if section and section.get("init_from"):
            section["init_from"] = _public_start(str(section["init_from"]), record, named)
    if record.setting("hub", "push_checkpoints"):  # always a private repository
        public["config"]["hub"]["push_checkpoints"] = None
    counts: dict[str, int] = {}
    for reason, count in record.left_out.items():
        counts[scrub(reason)] = counts.get(scrub(reason), 0) + count
    if counts:
        public["left_out"] = counts
    return object_of(_walk(public, scrub))


def redacted(record: LearnerRecord) -> LearnerRecord:
    """A learner's record as it may be published, see `public_record`."""
    return LearnerRecord.from_dict(public_record(record.to_dict()))


def _public_teacher(entry: Json, teacher: RecordedTeacher, named: bool) -> Json:
    if teacher.is_hidden and not named:
        nothing = {"repo_id": None, "commit": None, "label_names": None, "label_descriptions": None}
        return {**entry, **nothing, "reference": PRIVATE, "sha256": {}, "notes": [], "classes": None}
    if teacher.repo_id is None and not teacher.is_hidden:
        return {**entry, "reference": folder_name(teacher.reference)}
    return entry


def _public_start(source: str, record: LearnerRecord, named: bool) -> str:
    if not InitFrom.parse(source).is_learner or source == START:
        return source
    if is_path(source):
        return folder_name(source)
    public = {teacher.repo_id for teacher in record.teachers if teacher.is_public}
    return source if named or source.partition("@")[0] in public else START


def _replacements(record: LearnerRecord, named: bool) -> dict[str, str]:
    """What stands for each name that must not appear."""
    new: dict[str, str] = {}
    known = {teacher.reference for teacher in record.teachers} | {PRIVATE, UNLOADED}
    for teacher in record.teachers:
        reference = teacher.reference
        if teacher.is_hidden and not named:
            new |= dict.fromkeys((reference, _hub_id(reference), teacher.repo_id or ""), PRIVATE)
        elif teacher.repo_id is None and not teacher.is_hidden:
            new[reference] = folder_name(reference)
    places = (record.setting("hub", "cache_dir"), record.setting("trainer", "validation_dataset"))
    for place in (*texts_of(record.config.get("imports")), *map(text_of, places)):
        if is_path(place):  # whole: a pattern would end at a space
            new[place] = folder_name(place)
    known |= {e.reference for e in record.skipped if e.is_known_public and not is_path(e.reference)}
    public = {teacher.repo_id.casefold() for teacher in record.teachers if teacher.repo_id and teacher.is_public}
    for reference in (*(e.reference for e in record.skipped), *texts_of(record.config.get("models"))):
        if reference in known:
            continue
        if is_path(reference):
            new[reference] = folder_name(reference)
        elif not named and _hub_id(reference).casefold() not in public:
            new |= dict.fromkeys((reference, _hub_id(reference)), UNLOADED)
    return {name: stand_in for name, stand_in in new.items() if name and name != stand_in}


def _scrubber(replacements: Mapping[str, str], hidden: Sequence[RecordedTeacher]) -> Callable[[str], str]:
    """A function that replaces names, hidden teachers' commits and paths in one text."""
    # inside other texts only names with a slash: one word would be found in texts about something else
    inside = sorted((name for name in replacements if re.search(r"[/\\]", name)), key=len, reverse=True)
    folded = {name.casefold(): replacements[name] for name in inside}
    ends = r"(?![\w-]|\.\w)"  # lab/net is not lab/network, nor lab/net-2, nor lab/net.v2
    names = _any_of(inside, before=r"(?<![\w.~-])", after=ends)
    caches = _any_of([f"models--{name.replace('/', '--')}" for name in inside if name.count("/") == 1], after=ends)
    commits = [teacher.commit[:7] for teacher in hidden if teacher.commit]
    commit_ids = _any_of(commits, before=r"\b", after=r"[0-9a-f]*\b")

    def scrub(text: str) -> str:
        if text in replacements:
            return replacements[text]
        text = names.sub(lambda match: folded.get(match.group().casefold(), PRIVATE), text)
        text = commit_ids.sub("(commit left out)", caches.sub("(a cache)", text))
        return _PATHS.sub(_last_part, text)

    return scrub


def _any_of(words: list[str], *, before: str = "", after: str = "") -> re.Pattern[str]:
    """A pattern that matches any of the words, in any case; it matches nothing where there are none."""
    return re.compile(rf"{before}(?:{'|'.join(map(re.escape, words))}){after}" if words else r"(?!)", re.IGNORECASE)


def _hub_id(reference: str) -> str:
    """`org/name` of a reference with or without collection, revision and classes."""
    match = _HUB_ID.fullmatch(reference)
    return match.group(1) if match else reference


def _last_part(match: re.Match[str]) -> str:
    quote = match.group("quote") or ""
    return f"{quote}{folder_name(match.group().strip(quote) if quote else match.group())}{quote}"


def _without_labels(warning: str, hidden: Sequence[RecordedTeacher]) -> str:
    """A warning without private teachers' label names, which stand in brackets and in any spelling of the spaces."""
    names = {name for teacher in hidden for name in (*teacher.label_names, *teacher.label_descriptions)}
    if not names:
        return warning
    spelled = ("[ _-]+".join(map(re.escape, re.split(r"[ _-]+", name))) for name in sorted(names, key=len)[::-1])
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(spelled)})(?!\w)", re.IGNORECASE)
    return re.sub(r"\(.*\)", lambda match: pattern.sub("…", match.group()), warning, flags=re.DOTALL)


def _walk(value: object, scrub: Callable[[str], str]) -> Any:
    """The same nested value with every text scrubbed, keys too."""
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, Mapping):
        return {scrub(str(key)): inner if key in _AS_THEY_ARE else _walk(inner, scrub) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_walk(inner, scrub) for inner in value]
    return value
