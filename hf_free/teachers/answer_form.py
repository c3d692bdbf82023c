"""What a black box's answers mean: labels with scores in any order, read as logits, or refused by name.

A black box may give probabilities, percentages or logits, for all its labels or the most likely ones, rounded or not.
None of this is announced; it is inferred from its first answers, and what can be read in more than one way is refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hf_free.errors import TeacherError

Kind = Literal["probabilities", "percentages", "logits"]

Answer = tuple[tuple[str, str], ...]
"""(label, score) in the order they came; scores as they were written, so that their rounding can be seen."""

TOLERANCE = 0.02
"""How far the sum of probabilities may be from one: those of a thousand labels are rounded to four digits at worst."""

FEWEST_DECIMALS, MOST_DECIMALS = 2, 12
"""Most digits after the decimal point that scores are assumed to be written with."""

MOST_LABELS = 100_000
"""Most labels of an answer."""

MOST_LETTERS = 500
"""Most letters of a label."""


@dataclass(frozen=True)
class AnswerForm:
    """How an endpoint's answers are read."""

    kind: Kind
    labels: tuple[str, ...]
    """All of its labels, in the order of the logits."""
    decimals: int
    """Digits that its probabilities are written with."""
    is_partial: bool = False
    """Whether only some labels come with an answer."""


def read_answer(text: bytes, *, count: int = 1) -> list[Answer]:
    """Read the JSON of an answer about `count` pictures; nothing is said of what the scores mean.

    Raises:
        ValueError: anything but a list of labels with scores (a list of such lists for several pictures), in
            words that follow "it".
    """
    try:
        content = json.loads(text, parse_float=str, parse_int=str, parse_constant=_refuse_constant)
    except (UnicodeDecodeError, RecursionError, json.JSONDecodeError):
        raise ValueError("gives no JSON") from None
    if count == 1 and isinstance(content, list) and content and isinstance(content[0], dict):
        content = [content]
    if not isinstance(content, list) or len(content) != count:
        raise ValueError(f"gives no list of {count} answers" if count > 1 else "gives no list of labels with scores")
    return [_answer(entry) for entry in content]


def _refuse_constant(name: str) -> object:
    raise ValueError(f"gives a score that is {name}")


def _answer(entry: object) -> Answer:
    if not isinstance(entry, list) or not 1 <= len(entry) <= MOST_LABELS:
        raise ValueError("gives no list of labels with scores")
    pairs = []
    for one in entry:
        label, score = (one.get("label"), one.get("score")) if isinstance(one, dict) else (None, None)
        if not isinstance(label, str) or not label or len(label) > MOST_LETTERS:
            raise ValueError("gives an entry without its label")
        if not isinstance(score, str) or not re.fullmatch(r"-?\d{1,30}(\.\d{1,40})?([eE][-+]?\d{1,4})?", score):
            raise ValueError(f"gives the label {label[:40]!r} no score")
        pairs.append((label, score))
    return tuple(pairs)


def find_form(
    answers: Sequence[Answer], name: str, *, kind: Kind | None = None, labels: Sequence[str] | None = None
) -> AnswerForm:
    """Read off a black box's first answers what they mean.

    Args:
        answers: What it said of a few pictures.
        name: What errors call it.
        kind: What its scores are, where that is known.
        labels: All of its labels in their order, where that is known.

    Raises:
        TeacherError: answers without a meaning, or with several; the message gives the YAML entry that settles it.
    """
    seen = [{label for label, _ in answer} for answer in answers]
    sums = [sum(float(score) for _, score in answer) for answer in answers]
    scores = [float(score) for answer in answers for _, score in answer]
    known = set().union(*seen)
    if not all(map(math.isfinite, scores)):
        raise TeacherError(f"{name} gives scores that are not finite", action="leave it out")
    if labels is not None:
        strangers = sorted(known - set(labels))
        if strangers or len(set(labels)) < len(labels):
            problem = f"gives the label {strangers[0]!r}" if strangers else "has a label twice"
            raise TeacherError(f"{name} {problem}", allowed="the labels of its label_names", action="correct the list")
    if kind is None:
        kind = _kind_of(scores, sums, name)
    scale = 100.0 if kind == "percentages" else 1.0
    if kind != "logits" and (min(scores) < 0 or max(sums) > scale * (1 + TOLERANCE)):
        raise TeacherError(
            f"{name} gives {kind} that are below 0 or sum to {max(sums):.4g}",
            allowed=f"{kind} of one label per picture, which sum to {scale:g}",
            action="answers: logits in its YAML entry, if they are; several labels per picture cannot be read",
        )
    names = tuple(labels) if labels is not None else tuple(sorted(known, key=_natural))
    is_whole = all(labels_of == set(names) for labels_of in seen)
    if kind != "logits":
        is_whole = is_whole and min(sums) >= scale * (1 - TOLERANCE)
    if not is_whole and (labels is None or kind == "logits"):
        most = max(map(len, seen))
        way = "its YAML entry with label_names" if kind != "logits" else "probabilities, or all logits"
        raise TeacherError(
            f"{name} answers with {most} of its labels only",
            allowed=f"all labels of a classifier, or {way}",
            action="write it as an entry of a YAML list: {endpoint: https://..., label_names: [...]}",
        )
    if len(names) < 2:
        raise TeacherError(f"{name} knows one label only: {names[0]!r}", allowed="two or more")
    shift = 2 if kind == "percentages" else 0
    written = max(_decimals(score) for answer in answers for _, score in answer) + shift
    return AnswerForm(kind, names, min(max(written, FEWEST_DECIMALS), MOST_DECIMALS), not is_whole)


def _kind_of(scores: Sequence[float], sums: Sequence[float], name: str) -> Kind:
    """Probabilities, percentages or logits, where that is clear."""
    if min(scores) < 0:
        return "logits"
    if max(sums) <= 1 + TOLERANCE:
        return "probabilities"
    if all(abs(total - 100) <= 100 * TOLERANCE for total in sums):
        return "percentages"
    raise TeacherError(
        f"{name} gives scores that sum to {max(sums):.4g}",
        allowed="probabilities (they sum to 1), percentages (100), or logits with some below 0",
        action="say what they are as an entry of a YAML list: {endpoint: https://..., answers: percentages or logits}",
    )


def logits_of(answer: Answer, form: AnswerForm) -> list[float]:
    """An answer as logits in the order of the form's labels, up to a shift.

    Probabilities become their logarithms. A probability written as 0 counts as half of its last digit; labels that are
    missing share equally what the others leave of one. A label that comes twice (ImageNet has two cranes) is one
    class.

    Raises:
        ValueError: an answer of another form, in words that follow "it".
    """
    if form.kind == "logits":
        found: dict[str, float] = {}
        for label, score in answer:
            value = float(score)
            found[label] = value if label not in found else _log_add(found[label], value)
        if found.keys() != set(form.labels):
            raise ValueError(f"gives {len(found)} of {len(form.labels)} logits")
        return [found[label] for label in form.labels]
    scale = 0.01 if form.kind == "percentages" else 1.0
    shares: dict[str, float] = {}
    for label, score in answer:
        shares[label] = shares.get(label, 0.0) + scale * float(score)
    strangers = shares.keys() - set(form.labels)
    total = sum(shares.values())
    if strangers:
        raise ValueError(f"gives the label {min(strangers)!r}, which it did not have before")
    if min(shares.values()) < 0 or total > 1 + TOLERANCE:
        raise ValueError(f"gives scores that sum to {total / scale:.4g}")
    least, absent = 0.5 * 10.0**-form.decimals, len(form.labels) - len(shares)
    if absent and not form.is_partial and total < 1 - TOLERANCE:
        raise ValueError(f"gives {len(shares)} of {len(form.labels)} labels")
    left = max(least, (1 - total) / absent) if absent else least
    return [math.log(max(shares.get(label, left), least)) for label in form.labels]


def _log_add(one: float, other: float) -> float:
    high = max(one, other)
    return high + math.log(math.exp(one - high) + math.exp(other - high))


def _decimals(score: str) -> int:
    """Digits after the decimal point, with an exponent taken into account."""
    mantissa, _, exponent = score.lower().partition("e")
    return len(mantissa.partition(".")[2]) - int(exponent or 0)


def _natural(label: str) -> list[tuple[int, int, str]]:
    """LABEL_2 comes before LABEL_10."""
    parts = re.split(r"(\d+)", label)
    return [(0, int(part), "") if part.isdecimal() and len(part) < 19 else (1, 0, part) for part in parts]
