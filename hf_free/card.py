"""The model card of a learner: metadata a Hub accepts, and a text that says what it is and where it comes from."""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hf_free.config import HubConfig
from hf_free.errors import RunError, TeacherReferenceError
from hf_free.hub.reference import check_repo_id
from hf_free.redaction import is_hidden, public_record

__all__ = ["public_record", "write_card"]

PICTURE = Path("pictures") / "recovered.png"
TAGS = ["few-shot", "meta-learning", "data-free", "timm", "FREE"]
PLACEHOLDER = "ORG/NAME"
"""Stands for the repository's id until it is known."""

_PERMISSIVE = re.compile(r"apache-2\.0|mit|bsd(-[\w-]+)?|cc0-1\.0|cc-by-4\.0")
_LICENSE_ID = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")
_SPECIAL = re.compile(r"[\\`*\[\]<>|#~$]|(?<!\w)_|_(?!\w)")


def write_card(folder: Path, record: dict[str, Any], *, repo_id: str | None = None) -> Path:
    """Write README.md anew into a learner's folder, and leave nothing else there that must not be published.

    The `hf_free` block of a config.json in the folder is redacted (`public_record`), and the picture of recovered
    images is deleted where it must not be shown.

    Args:
        folder: The learner's folder: what will be pushed.
        record: The `hf_free` block of its config.json; every key may be missing.
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
    hub = _hub_config(record)
    repo_id = _valid_id(repo_id or record.get("repo_id") or hub["push_to_hub"])
    license_id, license_text = choose_license(record)
    context = {
        **_facts(record),
        "repo_id": Markup(repo_id or PLACEHOLDER),
        "title": repo_id.split("/")[-1] if repo_id else "Few-shot image classifier made with hf-free",
        "picture": _picture(folder, record, hub),
        "license_text": license_text,
        "config_yaml": _code_block(record["config"]) if record.get("config") else None,
    }
    metadata = _metadata(record, hub, license_id, context["title"])
    card = ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{_environment().get_template('card').render(context)}")
    return _replace(folder / "README.md", str(card))


def choose_license(record: Mapping[str, Any]) -> tuple[str | None, str]:
    """The learner's licence, never invented: the one given, or the permissive one that all teachers share.

    Returns:
        Its identifier, or None; and the sentence that says where it comes from or why there is none.
    """
    given = _hub_config(record)["license"]
    if given:
        return str(given), f"The publisher chose the licence {_one_line(given)}."
    licenses = [str(teacher.get("license") or "").strip().lower() for teacher in record.get("teachers") or []]
    start = _section(record, "config", "learner").get("init_from")
    counts = ", ".join(f"{count} × {name or 'none stated'}" for name, count in Counter(licenses).most_common())
    if not licenses:
        return None, "No licence is stated: the publisher chose none, and no teachers are recorded."
    if start:
        why = "the licence of the weights it started from is not recorded"
    elif "" in licenses:
        why = "not every teacher states a licence"
    elif len(set(licenses)) > 1:
        why = "the teachers' licences differ"
    elif not _PERMISSIVE.fullmatch(licenses[0]):
        why = "the teachers' licence is not one that plainly allows any use"
    else:
        return licenses[0], f"All teachers are published under {licenses[0]}, and so is this learner."
    return None, (
        f"No licence is stated: the publisher chose none, and {why} (teachers: {counts}). "
        "Look at the teachers' licences before you use this learner."
    )


# ---- metadata


def _metadata(record: Mapping[str, Any], hub: Mapping[str, Any], license_id: str | None, title: str) -> ModelCardData:
    teachers = record.get("teachers") or []
    base = list(dict.fromkeys(filter(None, (_valid_id(teacher.get("repo_id")) for teacher in teachers))))
    tags = [tag for tag in TAGS if tag != "data-free" or record.get("data_free", True)]
    results = _eval_results(record)
    fields: dict[str, Any] = {}
    if base:
        fields |= {"base_model": base, "base_model_relation": hub["base_model_relation"]}
    if license_id and _LICENSE_ID.fullmatch(license_id.lower()):
        fields["license"] = license_id.lower()
    elif license_id:  # the Hub's own way to name a licence that is none of its list
        fields |= {"license": "other", "license_name": _slug(license_id)}
    if results:
        fields |= {"model_name": _one_line(title), "eval_results": results, "metrics": ["accuracy"]}
    return ModelCardData(library_name="hf-free", pipeline_tag="image-classification", tags=tags, **fields)


def _eval_results(record: Mapping[str, Any]) -> list[EvalResult]:
    """The learner's own rows in the form of a model-index."""
    results = []
    for report in record.get("results") or []:
        dataset, split = _one_line(report.get("dataset", "")), _one_line(report.get("split", ""))
        for row in report.get("rows") or []:
            if not _is_learners(row) or not _is_number(row.get("accuracy")):
                continue
            setting = f"{row['n_way']}-way {row['k_shot']}-shot"
            seen = "" if row.get("inductive", True) else ", transductive"
            interval = f", 95 % interval ± {row['interval']:.2f}" if _is_number(row.get("interval")) else ""
            args = {key: row[key] for key in ("method", "n_way", "k_shot", "n_query", "episodes") if key in row}
            if interval:
                args["interval_95"] = round(row["interval"], 2)
            results.append(
                EvalResult(
                    task_type="image-classification",
                    task_name=f"Few-shot image classification, {setting}",
                    dataset_type=dataset or "unknown",
                    dataset_name=dataset or "unknown",
                    dataset_config=setting,
                    dataset_split=split or None,
                    metric_type="accuracy",
                    metric_value=round(row["accuracy"], 2),
                    metric_name=f"Accuracy in percent, {setting}{seen}{interval}",
                    metric_args={key: _one_line(v) if isinstance(v, str) else v for key, v in args.items()},
                )
            )
    return results


# ---- the text


class Markup(str):
    """Text of the template's own making, printed as it is; everything else is escaped."""


def _environment() -> jinja2.Environment:
    """Templates in which every value is escaped unless it is `Markup`."""
    text = files("hf_free.templates").joinpath("model_card.md.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.DictLoader({"card": text}),
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else escape(value),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["signed"] = lambda value: Markup(f"± {value:.2f}") if _is_number(value) else Markup("")
    return environment


def escape(value: Any) -> str:
    """A value as one line of Markdown that means nothing but its own letters."""
    return _SPECIAL.sub(lambda match: f"\\{match.group()}", _one_line(value).replace("&", "&amp;")).replace(
        "\\<", "&lt;"
    )


def _facts(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the template prints of a record, in the order of the text."""
    teachers = [_teacher_row(teacher) for teacher in record.get("teachers") or []]
    learner = {**_section(record, "config", "learner"), **_section(record, "learner")}
    return {
        "learner": {key: learner.get(key) for key in ("backbone", "image_size", "channels", "head", "init_from")},
        "data_free": record.get("data_free"),
        "draws": _section(record, "config", "memory").get("drawn_per_step") or 0,
        "recipe": _section(record, "config").get("recipe"),
        "objective": _section(record, "config", "bell").get("objective"),
        "reports": [_report(report) for report in record.get("results") or []],
        "teachers": teachers,
        "hides": any(is_hidden(teacher) and not teacher.get("repo_id") for teacher in record.get("teachers") or []),
        "skipped": _once(record.get("skipped") or []),
        "left_out": record.get("left_out") or {},
        "recovered": _section(record, "recovered"),
        "training": _section(record, "training"),
        "seed": _section(record, "config").get("seed"),
        "versions": _section(record, "versions"),
    }


def _teacher_row(teacher: Mapping[str, Any]) -> dict[str, Any]:
    """One line of the teacher table."""
    repo_id, commit = _valid_id(teacher.get("repo_id")), str(teacher.get("commit") or "")
    commit = commit if re.fullmatch(r"[0-9a-f]{40}", commit) else ""
    name: str = escape(teacher.get("reference") or "unnamed")
    if repo_id:
        name = f"[{escape(repo_id)}](https://huggingface.co/{repo_id}" + (f"/tree/{commit})" if commit else ")")
        access = [word for word in ("private", "gated") if teacher.get(word)]
        name += f" ({', '.join(access)})" if access else ""
    elif not is_hidden(teacher):
        name += " (local folder)"
    size = teacher.get("input_size") or ()
    return {
        "name": Markup(name),
        "commit": Markup(f"`{commit[:12]}`" if commit else "–"),
        "architecture": teacher.get("architecture") or "–",
        "parameters": f"{teacher['parameters'] / 1e6:.2f} M" if _is_number(teacher.get("parameters")) else "–",
        "normalization": ", ".join(f"{n} × {kind}" for kind, n in (teacher.get("normalization") or {}).items()) or "–",
        "input": "×".join(map(str, size)) or "–",
        "num_classes": teacher.get("num_classes", "–"),
        "license": teacher.get("license") or "none stated",
    }


def _report(report: Mapping[str, Any]) -> dict[str, Any]:
    """One table of results, and the learner's own rows as a sentence."""
    rows = []
    for row in report.get("rows") or []:
        notes = ["" if row.get("inductive", True) else "transductive: sees all queries of an episode together"]
        accuracy = f"{row['accuracy']:.2f}" if _is_number(row.get("accuracy")) else "–"
        shown = {**row, "accuracy": accuracy, "note": "; ".join(filter(None, [*notes, row.get("note")]))}
        rows.append({**shown, "own": _is_learners(row)})
    own = [row for row in report.get("rows") or [] if _is_learners(row) and _is_number(row.get("accuracy"))]
    headline = [
        f"{row['n_way']}-way {row['k_shot']}-shot {row['accuracy']:.1f} %"
        + (f" ± {row['interval']:.1f}" if _is_number(row.get("interval")) else "")
        for row in own
        if row.get("inductive", True)
    ]
    return {**report, "rows": rows, "headline": ", ".join(headline)}


def _picture(folder: Path, record: Mapping[str, Any], hub: Mapping[str, Any]) -> str:
    """`shown`, `absent`, or `withheld`; a withheld picture is deleted from the folder.

    A folder without weights holds the texts of a repository only, as when results are added to it: there the card
    that is replaced says whether the repository has a picture.
    """
    teachers = record.get("teachers") or []
    public = all(teacher.get("repo_id") and not is_hidden(teacher) for teacher in teachers)
    path, card = folder / PICTURE, folder / "README.md"
    if hub["card_images"] is False or (hub["card_images"] is None and not public):
        path.unlink(missing_ok=True)
        return "withheld"
    texts_only = not (folder / "model.safetensors").exists()
    had_one = texts_only and card.is_file() and PICTURE.as_posix() in card.read_text("utf-8", errors="replace")
    return "shown" if path.is_file() or had_one else "absent"


def _code_block(values: Mapping[str, Any]) -> Markup:
    """Values as a YAML block, in a fence longer than any inside."""
    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return Markup(f"{fence}yaml\n{text}{fence}")


# ---- small helpers


def _redact_config(path: Path) -> None:
    """Redact the `hf_free` block of a config.json, whole or not at all."""
    if not path.is_file():
        return
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path} is not JSON: {error}", action="save or push the learner again") from None
    block = content.get("hf_free") if isinstance(content, dict) else None
    if isinstance(block, dict) and block != (redacted := public_record(block)):
        _replace(path, json.dumps({**content, "hf_free": redacted}, indent=2) + "\n")


def _replace(path: Path, text: str) -> Path:
    scratch = path.with_name(f".{path.name}.new")
    scratch.write_text(text, encoding="utf-8", newline="\n")
    os.replace(scratch, path)
    return path


def _hub_config(record: Mapping[str, Any]) -> dict[str, Any]:
    return {**vars(HubConfig()), **_section(record, "config", "hub")}


def _section(record: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """A nested mapping of a record, empty where it is missing."""
    value: Any = record
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return dict(value) if isinstance(value, Mapping) else {}


def _valid_id(repo_id: Any) -> str | None:
    """A Hub id that the Hub takes in `base_model`, or None."""
    try:
        return check_repo_id(str(repo_id)) if repo_id else None
    except TeacherReferenceError:
        return None


def _is_learners(row: Mapping[str, Any]) -> bool:
    return str(row.get("method", "")).startswith("learner")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _one_line(value: Any) -> str:
    """A text on one line without control characters."""
    return " ".join("".join(c if c.isprintable() or c.isspace() else " " for c in str(value)).split())


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")[:60] or "custom"


def _once(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    unique = {(str(e.get("reference", "")), _one_line(e.get("reason", ""))): None for e in entries}
    return [{"reference": reference, "reason": reason} for reference, reason in unique]
