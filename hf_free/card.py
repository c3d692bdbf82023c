"""The model card: README.md of a published learner, from its record and a template.

`write_card` writes it whole; `update_results` puts new results into a card that may have been edited by hand, and
leaves everything else in it alone. What may not be published (see `publishable_record`) never reaches the template.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from hf_free.card_metadata import (
    card_data,
    dataset_of,
    eval_results,
    is_hidden,
    is_learner,
    is_repo_id,
    license_and_reason,
    publishable_record,
    reports_of,
    setting,
    shows_images,
)
from hf_free.errors import HubError

__all__ = ["publishable_record", "render_card", "shows_images", "update_results", "write_card"]

PICTURE = "pictures/recovered.png"
"""Where the picture of recovered images lies in a learner's repository."""
_START, _END = "<!-- hf-free results: start -->", "<!-- hf-free results: end -->"
_PLACEHOLDER = "ORG/NAME"
_LONG_TABLE = 12
"""Teachers above which the table is folded."""


def write_card(folder: Path, record: Mapping[str, Any]) -> Path:
    """Write README.md into a learner's folder.

    Args:
        folder: The learner's folder; the picture is shown if `pictures/recovered.png` lies there (or the card that
            is there shows it already) and the teachers or the user allow it.
        record: The `hf_free` block of config.json; `repo_id` is the learner's own, else `hub.push_to_hub` counts.

    Returns:
        The path of the card.
    """
    path = Path(folder) / "README.md"
    has_picture = (path.parent / PICTURE).is_file() or (path.is_file() and PICTURE in path.read_text(encoding="utf-8"))
    _write_text(path, render_card(record, picture=has_picture))
    return path


def render_card(record: Mapping[str, Any], *, picture: bool) -> str:
    """The card's text.

    Args:
        record: As for `write_card`.
        picture: Whether there is a picture to show.
    """
    public = publishable_record(record)
    repo_id = record.get("repo_id") or setting(record, "push_to_hub")
    name = repo_id.rsplit("/", 1)[-1] if is_repo_id(repo_id) else "hf-free meta-learner"
    license_name, license_reason = license_and_reason(record)
    config = public.get("config") or {}
    body = _environment().get_template("model_card.md.jinja").render(
        name=name,
        repo_id=repo_id if is_repo_id(repo_id) else _PLACEHOLDER,
        config=config,
        config_yaml=yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=110),
        teacher_rows=[_teacher_row(teacher) for teacher in public.get("teachers") or []],
        folded=len(public.get("teachers") or []) > _LONG_TABLE,
        skipped=public["skipped"],
        hidden=sum(is_hidden(record, teacher) for teacher in record.get("teachers") or []),
        license=license_name,
        license_reason=license_reason,
        doubtful=_doubtful_licenses(public),
        data_free=record.get("data_free", True),
        picture=PICTURE if picture and shows_images(record) else None,
        recovered=record.get("recovered") or {},
        training=record.get("training") or {},
        versions=record.get("versions") or {},
        results=_results_section(record.get("results") or []),
    )  # fmt: skip
    return f"---\n{card_data(public, name).to_yaml()}\n---\n\n{body.strip()}\n"


def update_results(folder_or_text: Path | str, report: Mapping[str, Any]) -> str:
    """Put the results of one report into a card: the model-index and the results table, nothing else.

    Results on the same data set and split are replaced, others stay.

    Args:
        folder_or_text: A learner's folder, whose README.md is rewritten, or the text of a card.
        report: `EvaluationReport.to_dict()`.

    Returns:
        The card's new text.

    Raises:
        HubError: a card whose metadata is not valid YAML.
    """
    from huggingface_hub import ModelCard

    path = folder_or_text / "README.md" if isinstance(folder_or_text, Path) else None
    text = str(folder_or_text) if path is None else path.read_text(encoding="utf-8") if path.is_file() else ""
    try:
        card = ModelCard(text)
    except (ValueError, yaml.YAMLError) as error:
        raise HubError(f"the card's metadata cannot be read: {error}", action="mend the YAML at its top") from None
    fresh = list(eval_results([report]))
    kind, name = dataset_of(str(report["dataset"]))
    place = (kind, name, report.get("split") or None)
    kept = [
        result
        for result in card.data.eval_results or []
        if (result.dataset_type, result.dataset_name, result.dataset_split) != place
    ]
    card.data.eval_results = (kept + fresh) or None
    card.data.model_name = card.data.model_name or "hf-free meta-learner"
    card.text = _with_section(card.text, report)
    updated = str(card)
    if path is not None:
        _write_text(path, updated)
    return updated


def _with_section(body: str, report: Mapping[str, Any]) -> str:
    """The card's body with the report's table in place of the one on the same data set and split."""
    block = _report_block(reports_of([report])[0])
    before, start, rest = body.partition(_START)
    inside, end, after = rest.partition(_END)
    if not (start and end):
        return f"{body.rstrip()}\n\n## Results\n\n{_START}\n{block}\n{_END}\n"
    heading = block.split("\n", 1)[0]
    blocks = [part.strip() for part in re.split(r"(?m)^(?=### )", inside)]
    kept = [part for part in blocks if part.startswith("### ") and part.split("\n", 1)[0] != heading]
    return f"{before}{_START}\n" + "\n\n".join([*kept, block]) + f"\n{_END}{after}"


def _results_section(results: Sequence[Mapping[str, Any]]) -> str:
    blocks = [_report_block(report) for report in reports_of(results)]
    none = "Not measured yet: `hf-free evaluate MODEL --dataset ID_OR_DIR --push` writes the results here."
    return f"{_START}\n" + ("\n\n".join(blocks) or none) + f"\n{_END}"


def _report_block(report: Mapping[str, Any]) -> str:
    """One report as a heading, a table (a row a method, a column a way and shot) and its notes."""
    _, name = dataset_of(report["dataset"])
    rows = report["rows"]
    columns = sorted({(row["n_way"], row["k_shot"]) for row in rows})
    methods = list(dict.fromkeys(row["method"] for row in rows))
    cells = {(row["method"], row["n_way"], row["k_shot"]): row for row in rows}
    lines = [f"### {_text(name)}" + (f", split {_text(report['split'])}" if report["split"] else ""), ""]
    episodes = sorted({(row["episodes"], row["n_query"]) for row in rows})
    lines += [
        "Accuracy in percent with its 95 % interval, "
        + "; ".join(f"{count} episodes with {queries} queries a class" for count, queries in episodes)
        + ".",
        "",
    ]
    lines.append("| method | " + " | ".join(f"{way}-way {shot}-shot" for way, shot in columns) + " |")
    lines.append("|---|" + "---:|" * len(columns))
    for method in methods:
        shown = [cells.get((method, *column)) for column in columns]
        label = f"**{_text(method)}**" if is_learner({"method": method}) else _text(method)
        lines.append(f"| {label} | " + " | ".join(map(_accuracy, shown)) + " |")
    notes = dict.fromkeys(f"{row['method']}: {row['note']}" for row in rows if row.get("note"))
    seen = {row["method"]: None for row in rows if not row.get("inductive", True)}
    notes |= {f"{method}: transductive, all queries of an episode are seen together": None for method in seen}
    notes |= {f"Mind: {warning}": None for warning in report.get("warnings") or []}
    return "\n".join(lines + ([""] if notes else []) + [f"- {_text(note)}" for note in notes])


def _accuracy(row: Mapping[str, Any] | None) -> str:
    if row is None or row.get("accuracy") is None:
        return "–"
    interval = row.get("interval")
    return f"{row['accuracy']:.1f}" + ("" if interval is None else f" ± {interval:.1f}")


def _teacher_row(teacher: Mapping[str, Any]) -> list[str]:
    """The cells of one teacher: name, commit, architecture, parameters, normalisation, input, classes, licence."""
    repo_id = teacher.get("repo_id")
    name = f"[{repo_id}](https://huggingface.co/{repo_id})" if is_repo_id(repo_id) else _text(teacher["reference"])
    normalization = teacher.get("normalization") or {}
    return [
        name,
        _text((teacher.get("commit") or "–")[:8]),
        _code(teacher["architecture"]),
        _size(teacher["parameters"]),
        ", ".join(f"{count} {_text(kind)}" for kind, count in normalization.items()) or "none",
        "×".join(map(str, teacher["input_size"])),
        str(teacher["num_classes"]),
        _text(teacher.get("license") or "none stated"),
    ]


def _doubtful_licenses(record: Mapping[str, Any]) -> list[str]:
    """Teachers whose licence is missing or forbids commercial use, each with the reason."""
    doubts = []
    for teacher in record.get("teachers") or []:
        stated = teacher.get("license")
        if not stated:
            doubts.append(f"{teacher['reference']}: no licence stated")
        elif re.search(r"(^|[^a-z])nc([^a-z]|$)|non-?commercial|research", stated.lower()):
            doubts.append(f"{teacher['reference']}: {stated}, not for commercial use")
    return doubts


def _environment() -> Environment:
    """The template's environment; `text` and `code` are how any stranger's string enters the page."""
    environment = Environment(
        loader=PackageLoader("hf_free", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # Markdown, not HTML: the filters below escape
    )
    environment.filters |= {"text": _text, "code": _code, "fence": _fence}
    return environment


def _text(value: object) -> str:
    """One line of Markdown that shows a string as it is: no links, no HTML, no table cells, no headings."""
    return re.sub(r"([\\`*_{}\[\]<>|#!~$])", r"\\\1", " ".join(str(value).split()))


def _code(value: object) -> str:
    """A string as a code span that nothing in it can end, also inside a table."""
    return "`" + " ".join(str(value).split()).replace("`", "'").replace("|", "¦") + "`"


def _fence(text: str) -> str:
    """A code fence longer than any run of backticks in the text."""
    return "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))


def _size(number: int) -> str:
    """A number of parameters, readable: 930, 27.3 k, 1.21 M."""
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return str(number)


def _write_text(path: Path, text: str) -> None:
    """Write whole or not at all."""
    scratch = path.with_name(f".{path.name}.new")
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, path)
