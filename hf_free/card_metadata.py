"""The model card's metadata: licence, base models, results, and what must not be named.

Everything goes through huggingface_hub's `ModelCardData`, which dumps YAML, so that no licence, label or name can
break out of its value.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

# Identifiers that the Hub accepts for `license` (hub-docs, "Licenses"); others are written as `other` plus a name.
_HUB_LICENSES = (
    "apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 "
    "bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc "
    "cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 "
    "cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 "
    "cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 "
    "eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl "
    "apple-ascl apple-amlr mpl-2.0 odc-by odbl openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl "
    "lgpl-lr unknown other"
)
HUB_LICENSES = frozenset(_HUB_LICENSES.split())
# Licences that let a derived work be published under the same terms without further conditions on its use.
_PERMISSIVE = (
    "apache-2.0 mit bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear isc zlib unlicense cc0-1.0 wtfpl ncsa bsl-1.0 "
    "postgresql pddl"
)
PERMISSIVE = frozenset(_PERMISSIVE.split())
TAGS = ("few-shot-learning", "meta-learning", "image-classification")
_REPO_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


def is_repo_id(text: object) -> bool:
    """Whether a text has the form `org/name`, the only one the Hub takes for a base model."""
    return isinstance(text, str) and bool(_REPO_ID.fullmatch(text)) and "--" not in text and ".." not in text


def setting(record: Mapping[str, Any], name: str, default: Any = None) -> Any:
    """A value of the record's `hub` configuration."""
    return (record.get("config") or {}).get("hub", {}).get(name, default)


def is_hidden(record: Mapping[str, Any], teacher: Mapping[str, Any]) -> bool:
    """Whether a teacher must not be named: private or gated, and naming those was not asked for."""
    guarded = bool(teacher.get("private") or teacher.get("gated"))
    return guarded and not setting(record, "name_private_teachers", False)


def shows_images(record: Mapping[str, Any]) -> bool:
    """Whether recovered images may be published: as the user chose, else only if every teacher is public.

    A teacher without a Hub id, from a local folder, is not public.
    """
    chosen = setting(record, "card_images")
    if chosen is not None:
        return bool(chosen)
    teachers = record.get("teachers") or []
    return all(t.get("repo_id") and not t.get("private") and not t.get("gated") for t in teachers)


def publishable_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the record that may be published: hidden teachers without names, local paths without folders.

    Hidden teachers become `private teacher 1`, `private teacher 2`, ... in `teachers`, `config` and `skipped`.
    """
    public = deepcopy(dict(record))
    secrets: dict[str, str] = {}
    for teacher in public.get("teachers") or []:
        if is_hidden(record, teacher):
            alias = f"private teacher {len(set(secrets.values())) + 1}"
            secrets |= {text: alias for text in (teacher.get("reference"), teacher.get("repo_id")) if text}
            teacher.update(reference=alias, repo_id=None, commit=None, sha256={}, label_names=None)
            teacher.update(label_descriptions=None, notes=[])
        else:
            teacher["reference"] = without_folders(teacher.get("reference") or "")
    config = public.get("config") or {}
    config["models"] = [_public_reference(str(model), secrets) for model in config.get("models") or []]
    if config.get("hub"):
        config["hub"]["cache_dir"] = None
    if (config.get("learner") or {}).get("init_from"):
        config["learner"]["init_from"] = without_folders(config["learner"]["init_from"])
    public["skipped"] = [_public_skip(record, entry, secrets) for entry in public.get("skipped") or []]
    public["results"] = [
        {**entry, "dataset": without_folders(str(entry.get("dataset", "")))} for entry in public.get("results") or []
    ]
    left_out = public.get("left_out") or {}
    public["left_out"] = {_replaced(str(why), secrets): count for why, count in left_out.items()}
    return public


def _public_reference(text: str, secrets: Mapping[str, str]) -> str:
    """A reference of the configuration as it may be printed; a collection hides as a whole."""
    if text in secrets:
        return secrets[text]
    if secrets and text.startswith("collection:"):
        return "private collection"
    return without_folders(_replaced(text, secrets))


def _public_skip(record: Mapping[str, Any], entry: Mapping[str, Any], secrets: Mapping[str, str]) -> dict[str, str]:
    """A left-out teacher; one that could not be read for want of rights is not named either."""
    reference, reason = str(entry.get("reference", "")), str(entry.get("reason", ""))
    guarded = entry.get("private") or entry.get("gated") or re.search(r"\b(private|gated|token|40[134])\b", reason)
    if guarded and not setting(record, "name_private_teachers", False):
        return {"reference": "a private or gated teacher", "reason": "it could not be used"}
    short = without_folders(reference)
    return {"reference": short, "reason": _replaced(reason.replace(reference, short), secrets)}


def _replaced(text: str, secrets: Mapping[str, str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, secrets[secret])
    return text


def without_folders(text: str) -> str:
    """The last part of an absolute path or a path that climbs; anything else as it is."""
    if re.match(r"[A-Za-z]:[\\/]", text):
        return PureWindowsPath(text).name
    if text.startswith(("/", "~", "..")) or "/../" in text:
        return PurePosixPath(text).name
    return text


def license_and_reason(record: Mapping[str, Any]) -> tuple[str | None, str]:
    """The learner's licence with where it comes from, or None with why there is none; it is never invented."""
    chosen = setting(record, "license")
    if chosen:
        return str(chosen), "chosen by the author of this model"
    licenses = Counter(teacher.get("license") or "none stated" for teacher in record.get("teachers") or [])
    if len(licenses) == 1:
        (only,) = licenses
        if only.lower() in PERMISSIVE:
            return only.lower(), "that of every teacher"
    found = ", ".join(f"{name} ({count})" for name, count in sorted(licenses.items())) or "none"
    return None, f"none was chosen, and the teachers share no permissive one (theirs: {found})"


def card_data(record: Mapping[str, Any], name: str) -> ModelCardData:
    """The metadata of a publishable record.

    Args:
        record: What `publishable_record` returned.
        name: Name of the model in the model-index.
    """
    from huggingface_hub import ModelCardData

    license_name, _ = license_and_reason(record)
    known = license_name is None or license_name.lower() in HUB_LICENSES
    base = sorted({t["repo_id"] for t in record.get("teachers") or [] if is_repo_id(t.get("repo_id"))})
    results = list(eval_results(record.get("results") or []))
    is_data_free = record.get("data_free", True)
    return ModelCardData(
        library_name="hf-free",
        pipeline_tag="image-classification",
        tags=[*TAGS, *(["data-free"] if is_data_free else [])],
        base_model=base or None,
        base_model_relation=setting(record, "base_model_relation", "finetune") if base else None,
        license=None if license_name is None else license_name.lower() if known else "other",
        license_name=None if known or license_name is None else _slug(license_name),
        model_name=name if results else None,
        eval_results=results or None,
    )


def _slug(text: str) -> str:
    """A licence's name in the form the Hub wants: lower case, hyphens."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")[:60] or "unnamed"


def reports_of(results: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Results as reports `{dataset, split, rows, ...}`; single rows that name their data set are gathered."""
    reports: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in results:
        place = str(entry.get("dataset") or ""), str(entry.get("split") or "")
        report = reports.setdefault(place, {"dataset": place[0], "split": place[1], "warnings": [], "rows": []})
        report["warnings"] += entry.get("warnings") or []
        report["rows"] += entry.get("rows", [entry])
    return list(reports.values())


def is_learner(row: Mapping[str, Any]) -> bool:
    """Whether a row of results measures the learner itself, not something beside it."""
    return str(row.get("method", "")).startswith(("learner", "meta-learner"))


def dataset_of(source: str) -> tuple[str, str]:
    """Type and name of a data set for the model-index: a Hub id twice, else `local` and the folder's name."""
    base = source.split(":", 1)[0]
    if is_repo_id(base) and not Path(base).exists():
        return base, source
    return "local", PureWindowsPath(source).name or "pictures"


def eval_results(results: Iterable[Mapping[str, Any]]) -> Iterator[EvalResult]:
    """The learner's own rows as entries of the model-index, an entry a data set, split, way and shot."""
    from huggingface_hub import EvalResult

    for report in reports_of(results):
        kind, name = dataset_of(report["dataset"])
        for row in report["rows"]:
            if not is_learner(row) or row.get("accuracy") is None:
                continue
            episode = f"{row['n_way']}-way {row['k_shot']}-shot"
            interval = row.get("interval")
            spread = "" if interval is None else f", 95 % interval ± {interval:.2f}"
            yield EvalResult(
                task_type="image-classification",
                task_name="few-shot image classification",
                dataset_type=kind,
                dataset_name=name,
                dataset_config=episode,
                dataset_split=report["split"] or None,
                metric_type="accuracy",
                metric_value=round(float(row["accuracy"]), 2),
                metric_name=f"{episode} accuracy{spread}" + ("" if row.get("inductive", True) else ", transductive"),
                metric_args={
                    "n_query": row.get("n_query"),
                    "episodes": row.get("episodes"),
                    "interval_95": None if interval is None else round(float(interval), 2),
                },
            )
