"""The card of an adapted classifier: README.md, written from its classifier.json and its learner's record."""

from __future__ import annotations

from pathlib import Path

from hf_free.provenance.learner_record import LearnerRecord
from hf_free.provenance.reading import Json, list_of, number_of, object_of, text_of
from hf_free.publishing.card import PLACEHOLDER, Markup, escape, render, write_public_config
from hf_free.publishing.metadata import choose_license, classifier_metadata
from hf_free.publishing.redaction import redacted
from hf_free.publishing.results import valid_id
from hf_free.runtime.files import write_text
from hf_free.runtime.saved_json import read_saved


def write_classifier_card(folder: Path, *, repo_id: str | None = None) -> Path:
    """Write README.md anew into a saved classifier's folder; its config.json is redacted as a learner's is.

    Args:
        folder: What `FewShotClassifier.save_pretrained` wrote.
        repo_id: Where it is going to.

    Returns:
        The path of README.md.

    Raises:
        RunError: a file that is not JSON.
    """
    write_public_config(folder / "config.json")
    content = object_of(read_saved(folder / "classifier.json", action="save the classifier again"))
    config = object_of(read_saved(folder / "config.json", action="save the classifier again"))
    record = redacted(LearnerRecord.from_dict(object_of(config.get("hf_free"))))
    origin = object_of(content.get("learner"))
    learner_id = None if origin.get("private") else valid_id(origin.get("repo_id"))
    repo_id = valid_id(repo_id)
    title = repo_id.split("/")[-1] if repo_id else "Few-shot classifier made with hf-free"
    body = render(
        "classifier_card.md.jinja",
        title=title,
        repo_id=Markup(repo_id or PLACEHOLDER),
        learner_link=_link(learner_id, text_of(origin.get("commit"))),
        is_private=bool(origin.get("private")),
        classes=_classes(content),
        is_changeable=record.learner.head != "maml" and _is_changeable(content),
        backbone=record.learner.backbone or "–",
        channels=record.learner.channels or 3,
        image_size=record.learner.image_size or "–",
        head=record.learner.head or "–",
        transductive=content.get("transductive"),
        rejection=_rejection(content),
        holds=text_of(object_of(content.get("support")).get("rows")),
        license_text=choose_license(record)[1],
    )
    metadata = classifier_metadata(record, learner_id).to_yaml()
    return write_text(folder / "README.md", f"---\n{metadata}\n---\n\n{body.strip()}\n")


def _link(learner_id: str | None, commit: str) -> Markup | None:
    if learner_id is None:
        return None
    at = f"/tree/{commit}" if commit.isalnum() else ""
    return Markup(f"[{escape(learner_id)}](https://huggingface.co/{learner_id}{at})")


def _classes(content: Json) -> list[tuple[str, str]]:
    """Name and number of support pictures of each class; a dash where that is not known."""
    names = list(map(str, list_of(content.get("classes"))))
    counts = list_of(object_of(content.get("support")).get("counts"))
    known = [str(count) for count in counts] if len(counts) == len(names) else ["–"] * len(names)
    return list(zip(names, known, strict=True))


def _is_changeable(content: Json) -> bool:
    support = object_of(content.get("support"))
    return bool(support) and (support.get("rows") == "pictures" or support.get("batchnorm") == "running")


def _rejection(content: Json) -> dict[str, str] | None:
    found = object_of(content.get("rejection"))
    threshold, share = number_of(found.get("threshold")), number_of(found.get("false_rejections"))
    if threshold is None:
        return None
    return {"threshold": f"{threshold:.3g}", "share": "" if share is None else f"{100 * share:.0f} %"}
