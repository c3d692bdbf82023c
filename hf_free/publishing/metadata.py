"""The model card's metadata: license, base models, results.

Everything goes through huggingface_hub's `ModelCardData`, which dumps YAML, so that no license, label or name can
break out of its value.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable

from huggingface_hub import EvalResult, ModelCardData

from hf_free.config.sections import HubConfig
from hf_free.hub.licenses import is_non_commercial
from hf_free.provenance.learner_record import LearnerRecord
from hf_free.provenance.reading import Json
from hf_free.provenance.results import EvaluationReport, ResultRow
from hf_free.publishing.results import data_set, is_own_row, valid_id
from hf_free.runtime.text import one_line

TAGS = ("few-shot", "meta-learning", "data-free", "timm", "FREE")

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

_PERMISSIVE = "apache-2.0 mit bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear cc0-1.0 cc-by-4.0"

PERMISSIVE = frozenset(_PERMISSIVE.split())
"""Licenses that the learner takes over where all teachers share one: they allow any use of a derived work."""


def card_metadata(record: LearnerRecord, title: str) -> ModelCardData:
    """The metadata of a record that may be published.

    Args:
        record: What `redacted` returned.
        title: Name of the learner in the model-index.
    """
    fields: Json = {}
    ids = (valid_id(teacher.repo_id) for teacher in record.teachers)
    if base := list(dict.fromkeys(filter(None, ids))):
        relation = record.publication.base_model_relation or HubConfig().base_model_relation
        fields |= {"base_model": base, "base_model_relation": relation}
    fields |= _license_fields(record)
    if results := eval_results(record):
        fields |= {"model_name": one_line(title), "eval_results": results, "metrics": ["accuracy"]}
    tags = [tag for tag in TAGS if tag != "data-free" or record.is_data_free]
    return ModelCardData(library_name="hf-free", pipeline_tag="image-classification", tags=tags, **fields)


def classifier_metadata(record: LearnerRecord, learner_id: str | None) -> ModelCardData:
    """The metadata of a classifier that was adapted from a learner.

    Args:
        record: The learner's, of what may be published.
        learner_id: The learner's repository; None where there is none that may be named.
    """
    fields = _license_fields(record)
    if learner_id:
        fields |= {"base_model": [learner_id], "base_model_relation": "finetune"}
    return ModelCardData(library_name="hf-free", pipeline_tag="image-classification", tags=list(TAGS[:1]), **fields)


def _license_fields(record: LearnerRecord) -> Json:
    license_id, _ = choose_license(record)
    if not license_id:
        return {}
    if license_id.lower() in HUB_LICENSES:
        return {"license": license_id.lower()}
    return {"license": "other", "license_name": _slug(license_id)}


def choose_license(record: LearnerRecord) -> tuple[str | None, str]:
    """The learner's license, never invented: the one given, or the permissive one that all teachers share.

    Returns:
        Its identifier, or None; and the sentences that say where it comes from or why there is none.
    """
    stated = [teacher.license.strip().lower() for teacher in record.teachers]
    counted = ", ".join(
        f"{count} × {one_line(name) or 'none stated'}"
        + (" (not for commercial use)" if is_non_commercial(name) else "")
        for name, count in Counter(stated).most_common()
    )
    given, derived = record.publication.license, ""
    if (begun := record.derived_from) is not None:
        derived = f" It is derived from the weights of one of them ({one_line(stated[begun]) or 'none stated'})."
    if given:
        text = f"{one_line(given)}, chosen by the publisher. The teachers' licenses: {counted or 'unknown'}."
        return given, text + derived
    if not stated:
        return None, "No license is stated: the publisher chose none, and no teachers are recorded."
    if record.setting("learner", "init_from"):
        why = "the license of the weights it started from is not recorded"
    elif "" in stated:
        why = "not every teacher states one"
    elif len(set(stated)) > 1:
        why = "the teachers' licenses differ"
    elif stated[0] not in PERMISSIVE:
        why = "the teachers' license is not one that plainly allows any use"
    else:
        return stated[0], f"{stated[0]}, the license of every teacher." + derived
    return None, (
        f"No license is stated: the publisher chose none, and {why}. The teachers' licenses: {counted}.{derived} "
        "Look at them before you use this learner."
    )


def eval_results(record: LearnerRecord) -> list[EvalResult]:
    """The learner's own rows in the form of a model-index, one for each data set, split, way, shot and method.

    huggingface_hub writes results of equal task, data set type, configuration, split and revision as one, under the
    name of the first. So the configuration says the way and the shot, and before them what else tells data sets of
    one type apart: a Hub data set's own configuration, or the name of a folder. Rows of one data set, way and shot,
    which may be written as one, come one after the other, so that what is read back has the same order.
    """
    found: dict[Hashable, list[EvalResult]] = {}
    for report in record.results:
        for row in report.rows:
            if is_own_row(row.method) and row.accuracy is not None:
                result = _eval_result(report, row, row.accuracy)
                found.setdefault(result.unique_identifier, []).append(result)
    return [result for results in found.values() for result in results]


def _eval_result(report: EvaluationReport, row: ResultRow, accuracy: float) -> EvalResult:
    """One of the learner's own rows."""
    measured_on = data_set(report)
    name = one_line(measured_on.name)
    setting = f"{row.n_way}-way {row.k_shot}-shot"
    part = one_line(measured_on.config or "") if measured_on.hub_id else name
    seen = "" if row.inductive else ", transductive"
    interval = None if row.interval is None else round(row.interval, 2)
    spread = "" if interval is None else f", 95 % interval ± {interval:.2f}"
    arguments = {
        "method": one_line(row.method),
        "n_way": row.n_way,
        "k_shot": row.k_shot,
        "n_query": row.n_query or None,
        "episodes": row.episodes or None,
        "interval_95": interval,
    }
    return EvalResult(
        task_type="image-classification",
        task_name="Few-shot image classification",
        dataset_type=measured_on.hub_id or "local",
        dataset_name=name,
        dataset_config=f"{part}, {setting}" if part else setting,
        dataset_split=one_line(report.split) or None,
        dataset_revision=one_line(report.revision or "") or None,
        metric_type="accuracy",
        metric_value=round(accuracy, 2),
        metric_name=f"{setting} accuracy in percent{seen}{spread}",
        metric_args={key: value for key, value in arguments.items() if value is not None},
    )


def _slug(text: str) -> str:
    """A license's name in the form the Hub wants: lower case, hyphens."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")[:60] or "unnamed"
