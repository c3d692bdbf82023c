"""The model card of a learner: README.md, written from its record and a template.

What may not be published (`hf_free.publishing.redaction`) never reaches the template; the metadata comes from
`hf_free.publishing.metadata`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

import jinja2
import yaml

from hf_free.config.init_from import InitFrom
from hf_free.config.tree import departures
from hf_free.provenance.against_teachers import against_teachers
from hf_free.provenance.forecast import forecast
from hf_free.provenance.learner_record import LearnerRecord
from hf_free.provenance.reading import number_of, object_of, text_of, whole_of
from hf_free.provenance.recorded_teacher import LeftOut, RecordedTeacher
from hf_free.provenance.results import EvaluationReport, ResultRow
from hf_free.provenance.run_record import Training
from hf_free.publishing.citation import bibtex
from hf_free.publishing.edits import read_card, with_fresh_sections
from hf_free.publishing.facts import energy_text
from hf_free.publishing.metadata import card_metadata, choose_license
from hf_free.publishing.redaction import public_record, redacted
from hf_free.publishing.results import is_own_row, valid_id
from hf_free.runtime.files import write_text
from hf_free.runtime.saved_json import read_saved
from hf_free.runtime.storage import storage_explained
from hf_free.runtime.text import count_text, format_classes, one_line, printable

PICTURE = Path("pictures") / "recovered.png"
"""Where the picture of recovered images lies in a learner's repository."""
PLACEHOLDER = "ORG/NAME"
"""Stands for the repository's id until it is known."""
ASKED = (
    "**Not data-free.** The teachers were asked about real pictures of the maker's own, too, without labels. The "
    "teachers' own data were not used."
)
"""What a card says first of a learner that was made with such pictures."""

LONG_TABLE = 12
"""Teachers above which the table is folded."""

_SPECIAL = re.compile(r"[\\`*\[\]{}<>|#~$!]|(?<!\w)_|_(?!\w)")


def write_card(
    folder: Path,
    record: LearnerRecord,
    *,
    repo_id: str | None = None,
    redacts: bool = True,
    keeps_edits: bool = False,
) -> Path:
    """Write README.md anew into a learner's folder, and leave nothing else there that must not be published.

    The `hf_free` block of a config.json in the folder is redacted (`public_record`), and the picture of recovered
    images is deleted where it must not be shown.

    Args:
        folder: The learner's folder: what will be pushed.
        record: Its full record, as config.json has it; every part may be missing.
        repo_id: Where it is going to; by default `hub.push_to_hub` of the record's configuration.
        redacts: Whether config.json is redacted. That of a pooled learner is redacted only in what is published: its
            own folder is opened by the names of folders on this computer.
        keeps_edits: Whether a README.md that is there keeps what people wrote (`hf_free.publishing.edits`).

    Returns:
        The path of README.md.

    Raises:
        RunError: a config.json that is not JSON, or a card with edits that is no text.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if redacts:
        write_public_config(folder / "config.json")
    record = redacted(record)
    repo_id = valid_id(repo_id or record.repo_id or record.publication.push_to_hub)
    title = repo_id.split("/")[-1] if repo_id else "Few-shot image classifier made with hf-free"
    body = render(
        "model_card.md.jinja",
        **_facts(record),
        title=title,
        repo_id=Markup(repo_id or PLACEHOLDER),
        picture=_picture(folder, record),
        license_text=choose_license(record)[1],
        config_yaml=_code_block(record.config) if record.config else None,
        repeated_by=Markup(_command(record)),
    )
    text = f"---\n{card_metadata(record, title).to_yaml()}\n---\n\n{body.strip()}\n"
    text = printable(text, keep="\n\t")  # YAML lets text run backwards, for one
    path = folder / "README.md"
    if keeps_edits and path.is_file():
        text = with_fresh_sections(read_card(path), text)
    with storage_explained(path, needed=len(text.encode()), safe="the learner itself is whole there"):
        return write_text(path, text)


class Markup(str):
    """Text of the template's own making, printed as it is; everything else is escaped."""


def escape(value: object) -> str:
    """A value as one line of Markdown in which every letter stands for itself: no link, cell, HTML, heading."""
    return _SPECIAL.sub(lambda match: f"\\{match.group()}", one_line(value))


def render(template: str, **values: object) -> str:
    """Fill in one of this package's templates; every value is escaped unless it is `Markup`."""
    return _compiled(template).render(**values)


@cache
def _compiled(template: str) -> jinja2.Template:
    """One of this package's templates, compiled once: that takes a tenth of a second."""
    text = files("hf_free.publishing.templates").joinpath(template).read_text(encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.DictLoader({"card": text}),
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else escape(value),
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # Markdown, not HTML: `finalize` escapes
    )
    return environment.get_template("card")


def _facts(record: LearnerRecord) -> dict[str, object]:
    """What the template prints of a public record."""
    learner, start = record.learner, record.learner.init_from
    return {
        "learner": learner,
        "pooled": record.is_pooled,
        "imitation": record.imitation,
        "started_from": None if record.derived_from is None else record.derived_from + 1,
        "continues_learner": bool(start) and InitFrom.parse(start).is_learner,
        "data_free": record.data_free,
        "has_seen_pictures": record.has_seen_pictures,
        "asked": Markup(ASKED if record.has_seen_pictures else "**Data-free.**"),
        "weighs_teachers": learner.weighs_teachers,
        "damps": learner.is_whitened,
        "shared_classes": learner.shared_classes,
        "answers": sum(learner.answer_sizes),
        "draws": record.setting("bell", "objective") == "distill" and record.setting("memory", "drawn_per_step"),
        "reports": list(map(_report, record.results)),
        "compared": any(map(against_teachers, record.results)),
        "forecast": _forecast(record),
        "teachers": list(map(_teacher_row, record.teachers)),
        "folded": len(record.teachers) > LONG_TABLE,
        "before": record.teachers_before,
        "hidden": sum(teacher.is_hidden and teacher.repo_id is None for teacher in record.teachers),
        "not_distilled": _not_distilled(record),
        "skipped": _reasons(entry for entry in record.skipped if not entry.asked),
        "not_inverted": _reasons(entry for entry in record.skipped if entry.asked),
        "left_out": record.left_out,
        "recovered": record.recovered,
        "training": None if record.training == Training() else record.training,
        "energy": energy_text(record.training.energy),
        "method": record.config.get("method") or "–",
        "system": record.method,
        "citation": Markup(bibtex(record.method)),
        "departures": [(Markup(f"`{key}`"), value) for key, value in departures(record.config).items()],
        "seed": record.config.get("seed"),
        "versions": record.versions,
    }


def _command(record: LearnerRecord) -> str:
    """What makes such a learner from the configuration on its card; teachers that are pooled are given as words."""
    pictures = " --pictures DIR" if record.has_seen_pictures else ""
    if record.imitation is not None:
        minutes = number_of(record.setting("trainer", "max_minutes"))
        begun = "" if record.imitation.started_from is None else " --start-from TEACHER"
        length = f" --max-minutes {minutes:g}" if minutes else ""
        return f"hf-free distill --models ID... --config FILE --output DIR{begun}{length}{pictures}"
    if record.is_pooled:
        rounds, keep = record.recovered.rounds, whole_of(record.config.get("keep"))
        return (
            "hf-free pool --models ID... --config FILE --output DIR"
            + ("" if rounds is None else f" --rounds {rounds}")
            + ("" if keep is None else f" --keep {keep}")
            + pictures
        )
    return "hf-free train --config FILE"


def _forecast(record: LearnerRecord) -> str:
    """Which learner of these teachers is likely to be the most accurate; nothing of those made by other methods."""
    kinds = [teacher.architecture for teacher in record.teachers]
    is_ours = record.is_pooled or record.imitation is not None or record.config.get("method") == "default"
    if not kinds or not all(kinds) or not is_ours:
        return ""
    guess = forecast(kinds)
    own = "pooled" if record.is_pooled else "trained" if record.imitation is None else "imitation"
    return f"{guess.text}. " + ("This is one." if guess.likely == own else "This is another kind of learner.")


def _reasons(entries: Iterable[LeftOut]) -> list[tuple[str, str]]:
    """(reference, reason) of teachers that were left out of something, each pair once."""
    return list(dict.fromkeys((entry.reference, one_line(entry.reason)) for entry in entries))


def _not_distilled(record: LearnerRecord) -> dict[str, object] | None:
    """Which teachers, by their line in the table, have tasks too wide for the one head of `align`; None where there
    are none.

    `hf_free.metalearning.bell.Aligner` and `regularize.Regularizer` take steps on tasks of up to `bell.n_way` classes
    only. Of a learner that is continued nothing is said: its old teachers may have taught it in another way.
    """
    n_way = whole_of(record.setting("bell", "n_way")) or 0
    most = whole_of(record.setting("five", "max_classes")) or 0
    if record.setting("bell", "objective") not in ("align", "regularize", "bilevel") or not 0 < n_way < most:
        return None
    start = text_of(record.setting("learner", "init_from"))
    if start and InitFrom.parse(start).is_learner:
        return None
    lines = [line for line, teacher in enumerate(record.teachers, 1) if (teacher.num_classes or 0) > n_way]
    if not lines:
        return None
    return {"n_way": n_way, "lines": "" if len(lines) == len(record.teachers) else ", ".join(map(str, lines))}


def _teacher_row(teacher: RecordedTeacher) -> dict[str, object]:
    """One line of the teacher table."""
    repo_id = valid_id(teacher.repo_id)
    commit = teacher.commit if re.fullmatch(r"[0-9a-f]{7,40}", teacher.commit) else ""
    name = escape(teacher.reference or "unnamed")
    if repo_id:
        name = f"[{escape(repo_id)}](https://huggingface.co/{repo_id}" + (f"/tree/{commit})" if commit else ")")
        access = [word for word, holds in (("private", teacher.private), ("gated", teacher.gated)) if holds]
        name += f" ({', '.join(access)})" if access else ""
    elif not teacher.is_hidden:
        name += " (local)"
    classes = _classes(teacher, repo_id)
    name += f", classes {escape(classes)}" if classes else ""
    digest = teacher.weights_sha256
    return {
        "name": Markup(name),
        "commit": Markup(f"`{commit[:8]}`" if commit else "–"),
        "sha256": Markup(f"`{digest[:12]}`" if digest else "–"),
        "architecture": teacher.architecture or "–",
        "parameters": "–" if teacher.parameters is None else count_text(teacher.parameters),
        "normalization": ", ".join(f"{n} × {kind}" for kind, n in teacher.normalization.items()) or "none",
        "input": "×".join(teacher.input_size) or "–",
        "num_classes": "–" if teacher.num_classes is None else teacher.num_classes,
        "license": teacher.license or "none stated",
    }


def _classes(teacher: RecordedTeacher, repo_id: str | None) -> str:
    """The outputs that a teacher's task is made of: of its record, or of its reference where an old one has none."""
    if teacher.classes is not None:
        return format_classes(teacher.classes)
    return teacher.reference.partition(repo_id)[2].partition(":")[2] if repo_id else ""


def _report(report: EvaluationReport) -> dict[str, object]:
    """One data set's results: rows of methods, columns of ways and shots, notes, the learner's own as a sentence."""
    rows = report.rows
    columns = sorted({(row.n_way, row.k_shot) for row in rows})
    methods = dict.fromkeys(row.method for row in rows)
    cells = {(row.method, row.n_way, row.k_shot): _accuracy(row, 2) for row in rows}
    notes = dict.fromkeys(f"{row.method}: {row.note}" for row in rows if row.note)
    for row in rows:
        if row.seen_together:
            notes[row.seen_together] = None
    own = [row for row in rows if is_own_row(row.method) and row.inductive and row.accuracy is not None]
    return {
        "place": report.place,
        "columns": [f"{way}-way {shot}-shot" for way, shot in columns],
        "methods": [
            (method, is_own_row(method), [cells.get((method, *column), "–") for column in columns])
            for method in methods
        ],
        "episodes": "; ".join(
            f"{count} episodes with {queries} queries per class"
            for count, queries in sorted({(row.episodes, row.n_query) for row in rows})
        ),
        "pictures": report.pictures,
        "classes": report.classes,
        "seed": report.seed,
        "notes": [*notes, *(f"Mind: {warning}" for warning in report.warnings)],
        "verdict": against_teachers(report),
        "headline": ", ".join(f"{row.n_way}-way {row.k_shot}-shot {_accuracy(row, 1)} %" for row in own),
    }


def _accuracy(row: ResultRow, digits: int) -> str:
    if row.accuracy is None:
        return "–"
    return f"{row.accuracy:.{digits}f}" + ("" if row.interval is None else f" ± {row.interval:.{digits}f}")


def _picture(folder: Path, record: LearnerRecord) -> str:
    """`shown`, `absent`, or `withheld`; a withheld picture is deleted from the folder.

    By default pictures are shown only where every teacher is public on the Hub; a local folder is not. A folder
    without weights holds the texts of a repository only, as when results are added to it: there the card that is
    replaced says whether the repository has a picture.
    """
    wanted, public = record.publication.card_images, all(teacher.is_public for teacher in record.teachers)
    path, card = folder / PICTURE, folder / "README.md"
    if wanted is False or (wanted is None and not public):
        path.unlink(missing_ok=True)
        if path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()
        return "withheld"
    texts_only = not (folder / "model.safetensors").exists()
    had_one = texts_only and card.is_file() and f"]({PICTURE.as_posix()})" in card.read_text("utf-8", errors="replace")
    return "shown" if path.is_file() or had_one else "absent"


def _code_block(values: Mapping[str, object]) -> Markup:
    """Values as a YAML block, in a fence longer than any inside."""
    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=110)
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return Markup(f"{fence}yaml\n{text}{fence}")


def write_public_config(path: Path) -> None:
    """Redact the `hf_free` block of a config.json (`public_record`), whole or not at all.

    Beside a classifier, which has a repository of its own, it does not say where the learner was published:
    classifier.json names the learner where it is public.

    Raises:
        RunError: it is not JSON.
    """
    if not path.is_file():
        return
    content = read_saved(path, action="save the learner again")
    block = content.get("hf_free") if isinstance(content, dict) else None
    if not isinstance(block, dict):
        return
    public = public_record(block)
    if path.with_name("classifier.json").is_file():
        public["repo_id"] = None
        if isinstance(hub := object_of(public.get("config")).get("hub"), dict):
            hub["push_to_hub"] = None
    if block != public:
        write_text(path, json.dumps({**object_of(content), "hf_free": public}, indent=2) + "\n")
