"""The model card of a learner: README.md, written from its record and a template.

What may not be published (`hf_free.publishing.redaction`) never reaches the template; metadata is
`hf_free.publishing.metadata`'s.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import yaml

from hf_free.config.init_from import InitFrom
from hf_free.config.tree import departures
from hf_free.errors import RunError
from hf_free.provenance.teacher_record import is_hidden
from hf_free.publishing.metadata import (
    card_metadata,
    choose_license,
    hub_config,
    is_learners,
    is_number,
    section,
)
from hf_free.publishing.redaction import public_record
from hf_free.publishing.results import valid_id
from hf_free.runtime.files import write_text
from hf_free.runtime.text import count_text, format_classes, one_line

__all__ = ["public_record", "write_card"]

PICTURE = Path("pictures") / "recovered.png"
"""Where the picture of recovered images lies in a learner's repository."""
PLACEHOLDER = "ORG/NAME"
"""Stands for the repository's id until it is known."""
LONG_TABLE = 12
"""Teachers above which the table is folded."""

_SPECIAL = re.compile(r"[\\`*\[\]{}<>|#~$!]|(?<!\w)_|_(?!\w)")


def write_card(folder: Path, record: Mapping[str, Any], *, repo_id: str | None = None) -> Path:
    """Write README.md anew into a learner's folder, and leave nothing else there that must not be published.

    The `hf_free` block of a config.json in the folder is redacted (`public_record`), and the picture of recovered
    images is deleted where it must not be shown.

    Args:
        folder: The learner's folder: what will be pushed.
        record: The `hf_free` block of its config.json; every key may be missing. It is not changed.
        repo_id: Where it is going to; by default `hub.push_to_hub` of the record's configuration.

    Returns:
        The path of README.md.

    Raises:
        RunError: a config.json that is not JSON.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _redact_config(folder / "config.json")
    record = public_record(record)
    repo_id = valid_id(repo_id or record.get("repo_id") or hub_config(record)["push_to_hub"])
    title = repo_id.split("/")[-1] if repo_id else "Few-shot image classifier made with hf-free"
    body = (
        _environment()
        .get_template("card")
        .render(
            **_facts(record),
            title=title,
            repo_id=Markup(repo_id or PLACEHOLDER),
            picture=_picture(folder, record),
            license_text=choose_license(record)[1],
            config_yaml=_code_block(record["config"]) if record.get("config") else None,
        )
    )
    return write_text(folder / "README.md", f"---\n{card_metadata(record, title).to_yaml()}\n---\n\n{body.strip()}\n")


class Markup(str):
    """Text of the template's own making, printed as it is; everything else is escaped."""


def escape(value: Any) -> str:
    """A value as one line of Markdown that shows its own letters and does nothing: no link, cell, HTML, heading."""
    return _SPECIAL.sub(lambda match: f"\\{match.group()}", one_line(value))


def _environment() -> jinja2.Environment:
    """Templates in which every value is escaped unless it is `Markup`."""
    text = files("hf_free.publishing.templates").joinpath("model_card.md.jinja").read_text(encoding="utf-8")
    return jinja2.Environment(
        loader=jinja2.DictLoader({"card": text}),
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else escape(value),
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # Markdown, not HTML: `finalize` escapes
    )


def _facts(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the template prints of a public record."""
    teachers = record.get("teachers") or []
    config, learner = section(record, "config"), {**section(record, "config", "learner"), **section(record, "learner")}
    skipped, start = record.get("skipped") or [], learner.get("init_from")
    return {
        "learner": {key: learner.get(key) for key in ("backbone", "image_size", "channels", "head", "init_from")},
        "continues_learner": bool(start) and InitFrom.parse(str(start)).is_learner,
        "data_free": record.get("data_free"),
        "weighs_teachers": learner.get("relevance") is True and learner.get("head") != "maml",
        "damps": learner.get("damping") is not None and learner.get("head") != "maml",
        "shared_classes": learner.get("shared_classes"),
        "answers": sum(learner.get("answer_sizes") or ()),
        "draws": section(config, "bell").get("objective") == "distill"
        and section(config, "memory").get("drawn_per_step"),
        "reports": [_report(report) for report in record.get("results") or []],
        "teachers": [_teacher_row(teacher) for teacher in teachers],
        "folded": len(teachers) > LONG_TABLE,
        "before": record.get("teachers_before"),
        "hidden": sum(is_hidden(teacher) and not teacher.get("repo_id") for teacher in teachers),
        "not_distilled": _not_distilled(teachers, config),
        "skipped": _reasons(entry for entry in skipped if not entry.get("asked")),
        "not_inverted": _reasons(entry for entry in skipped if entry.get("asked")),
        "left_out": section(record, "left_out"),
        "recovered": section(record, "recovered"),
        "training": section(record, "training"),
        "recipe": config.get("recipe") or "–",
        "departures": [(Markup(f"`{key}`"), value) for key, value in departures(config).items()],
        "seed": config.get("seed"),
        "versions": section(record, "versions"),
    }


def _reasons(entries: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(reference, reason) of teachers that were left out of something, each pair once."""
    return list(dict.fromkeys((str(e.get("reference", "")), one_line(e.get("reason", ""))) for e in entries))


def _not_distilled(teachers: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Which teachers, by their line in the table, have tasks too wide for the one head of `align`; None: no such.

    `hf_free.metalearning.bell.Aligner` takes steps on tasks of up to `bell.n_way` classes only. Of a learner that is
    continued nothing is said: its old teachers may have taught it in another way.
    """
    bell = section(config, "bell")
    n_way, most = int(bell.get("n_way") or 0), int(section(config, "five").get("max_classes") or 0)
    if bell.get("objective") != "align" or not 0 < n_way < most:
        return None
    start = section(config, "learner").get("init_from")
    if start and InitFrom.parse(str(start)).is_learner:
        return None
    lines = [line for line, teacher in enumerate(teachers, 1) if (teacher.get("num_classes") or 0) > n_way]
    if not lines:
        return None
    return {"n_way": n_way, "lines": "" if len(lines) == len(teachers) else ", ".join(map(str, lines))}


def _teacher_row(teacher: Mapping[str, Any]) -> dict[str, Any]:
    """One line of the teacher table."""
    repo_id, commit = valid_id(teacher.get("repo_id")), str(teacher.get("commit") or "")
    commit = commit if re.fullmatch(r"[0-9a-f]{7,40}", commit) else ""
    name = escape(teacher.get("reference") or "unnamed")
    if repo_id:
        name = f"[{escape(repo_id)}](https://huggingface.co/{repo_id}" + (f"/tree/{commit})" if commit else ")")
        access = [word for word in ("private", "gated") if teacher.get(word)]
        name += f" ({', '.join(access)})" if access else ""
    elif not is_hidden(teacher):
        name += " (local)"
    classes = _classes(teacher, repo_id)
    name += f", classes {escape(classes)}" if classes else ""
    return {
        "name": Markup(name),
        "commit": Markup(f"`{commit[:8]}`" if commit else "–"),
        "sha256": Markup(f"`{digest[:12]}`" if (digest := _weights_hash(teacher)) else "–"),
        "architecture": teacher.get("architecture") or "–",
        "parameters": count_text(teacher["parameters"]) if is_number(teacher.get("parameters")) else "–",
        "normalization": ", ".join(f"{n} × {kind}" for kind, n in section(teacher, "normalization").items()) or "none",
        "input": "×".join(map(str, teacher.get("input_size") or ())) or "–",
        "num_classes": teacher.get("num_classes", "–"),
        "license": teacher.get("license") or "none stated",
    }


def _classes(teacher: Mapping[str, Any], repo_id: str | None) -> str:
    """The outputs that a teacher's task is made of: of its record, or of its reference where an old one has none."""
    chosen = teacher.get("classes")
    if isinstance(chosen, list | tuple) and all(isinstance(index, int) for index in chosen):
        return format_classes(tuple(chosen))
    return str(teacher.get("reference") or "").partition(repo_id)[2].partition(":")[2] if repo_id else ""


def _weights_hash(teacher: Mapping[str, Any]) -> str:
    """SHA-256 of the weights file, empty where it is not recorded."""
    hashes = section(teacher, "sha256")
    found = next((str(value) for name, value in hashes.items() if str(name).endswith(".safetensors")), "")
    return found if re.fullmatch(r"[0-9a-f]{64}", found) else ""


def _report(report: Mapping[str, Any]) -> dict[str, Any]:
    """One data set's results: a row a method, a column a way and shot, notes, and the learner's own as a sentence."""
    rows = report.get("rows") or []
    columns = sorted({(row["n_way"], row["k_shot"]) for row in rows})
    methods = dict.fromkeys(str(row["method"]) for row in rows)
    cells = {(str(row["method"]), row["n_way"], row["k_shot"]): _accuracy(row, 2) for row in rows}
    notes = dict.fromkeys(f"{row['method']}: {row['note']}" for row in rows if row.get("note"))
    for row in rows:
        if not row.get("inductive", True):
            notes[f"{row['method']}: transductive, all queries of an episode are seen together"] = None
    own = [row for row in rows if is_learners(row) and row.get("inductive", True) and is_number(row.get("accuracy"))]
    return {
        "place": _place(report),
        "columns": [f"{way}-way {shot}-shot" for way, shot in columns],
        "methods": [
            (method, is_learners({"method": method}), [cells.get((method, *column), "–") for column in columns])
            for method in methods
        ],
        "episodes": "; ".join(
            f"{count} episodes with {queries} queries per class"
            for count, queries in sorted({(row["episodes"], row["n_query"]) for row in rows})
        ),
        "pictures": report.get("pictures"),
        "classes": report.get("classes"),
        "seed": report.get("seed"),
        "notes": [*notes, *(f"Mind: {warning}" for warning in report.get("warnings") or [])],
        "headline": ", ".join(f"{row['n_way']}-way {row['k_shot']}-shot {_accuracy(row, 1)} %" for row in own),
    }


def _place(report: Mapping[str, Any]) -> str:
    """What a report was measured on, in words."""
    parts = [str(report.get("dataset") or "pictures")]
    parts += [f"{key} {report[key]}" for key in ("split", "revision") if report.get(key)]
    return ", ".join(parts)


def _accuracy(row: Mapping[str, Any], digits: int) -> str:
    if not is_number(row.get("accuracy")):
        return "–"
    interval = row.get("interval")
    return f"{row['accuracy']:.{digits}f}" + (f" ± {interval:.{digits}f}" if is_number(interval) else "")


def _picture(folder: Path, record: Mapping[str, Any]) -> str:
    """`shown`, `absent`, or `withheld`; a withheld picture is deleted from the folder.

    By default pictures are shown only where every teacher is public on the Hub; a local folder is not. A folder
    without weights holds the texts of a repository only, as when results are added to it: there the card that is
    replaced says whether the repository has a picture.
    """
    teachers, wanted = record.get("teachers") or [], hub_config(record)["card_images"]
    public = all(teacher.get("repo_id") and not is_hidden(teacher) for teacher in teachers)
    path, card = folder / PICTURE, folder / "README.md"
    if wanted is False or (wanted is None and not public):
        path.unlink(missing_ok=True)
        if path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()
        return "withheld"
    texts_only = not (folder / "model.safetensors").exists()
    had_one = texts_only and card.is_file() and f"]({PICTURE.as_posix()})" in card.read_text("utf-8", errors="replace")
    return "shown" if path.is_file() or had_one else "absent"


def _code_block(values: Mapping[str, Any]) -> Markup:
    """Values as a YAML block, in a fence longer than any inside."""
    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=110)
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return Markup(f"{fence}yaml\n{text}{fence}")


def _redact_config(path: Path) -> None:
    """Redact the `hf_free` block of a config.json, whole or not at all."""
    if not path.is_file():
        return
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path} is not JSON: {error}", action="save the learner again") from None
    block = content.get("hf_free") if isinstance(content, dict) else None
    if isinstance(block, dict) and block != (redacted := public_record(block)):
        write_text(path, json.dumps({**content, "hf_free": redacted}, indent=2) + "\n")
