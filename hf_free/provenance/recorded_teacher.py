"""Teachers in a learner's record: those that it learned from, and those that were left out.

Unlike `TeacherRecord`, which a loaded teacher has, these are read from records of any version: what is missing or of
another kind takes its default.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from hf_free.provenance.reading import Json, list_of, number_of, object_of, text_of, texts_of, whole_of
from hf_free.provenance.teacher_record import TeacherRecord


@dataclass(frozen=True)
class RecordedTeacher:
    """What a learner's record says of one of its teachers; see `TeacherRecord` for what the fields mean."""

    reference: str = ""
    repo_id: str | None = None
    commit: str = ""
    architecture: str = ""
    parameters: float | None = None
    input_size: tuple[str, ...] = ()
    num_classes: int | None = None
    normalization: Mapping[str, object] = field(default_factory=dict)
    license: str = ""
    private: bool = False
    gated: bool = False
    sha256: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[int, ...] | None = None
    label_names: tuple[str, ...] = ()
    label_descriptions: tuple[str, ...] = ()
    entry: Json = field(default_factory=dict, compare=False, repr=False)
    """The entry as it was written, keys of other versions included."""

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> RecordedTeacher:
        """Read an entry of `teachers`."""
        classes = list_of(values.get("classes"))
        is_chosen = values.get("classes") is not None and all(isinstance(index, int) for index in classes)
        return cls(
            reference=text_of(values.get("reference")),
            repo_id=text_of(values.get("repo_id")) or None,
            commit=text_of(values.get("commit")),
            architecture=text_of(values.get("architecture")),
            parameters=number_of(values.get("parameters")) or None,  # 0 is that of a black box, which does not say
            input_size=texts_of(values.get("input_size")),
            num_classes=whole_of(values.get("num_classes")),
            normalization=object_of(values.get("normalization")),
            license=text_of(values.get("license")),
            private=bool(values.get("private")),
            gated=bool(values.get("gated")),
            sha256={name: str(digest) for name, digest in object_of(values.get("sha256")).items()},
            classes=tuple(classes) if is_chosen else None,
            label_names=texts_of(values.get("label_names")),
            label_descriptions=texts_of(values.get("label_descriptions")),
            entry=dict(values),
        )

    @classmethod
    def of(cls, record: TeacherRecord) -> RecordedTeacher:
        """The entry of a loaded teacher."""
        return cls.from_dict(record.to_dict())

    def to_dict(self) -> Json:
        """The entry as it was written."""
        return dict(self.entry)

    def as_loaded(self) -> TeacherRecord | None:
        """The record that the teacher had when it was loaded; None where the entry lacks some of it."""
        try:
            return TeacherRecord.from_dict(self.entry)
        except TypeError:  # arguments that are missing
            return None

    @property
    def is_hidden(self) -> bool:
        """Whether the repository is private or gated, so that what is published does not name it."""
        return self.private or self.gated

    @property
    def is_in_memory(self) -> bool:
        """Whether it was given as a network: no file of it is known, and no black box either."""
        return self.repo_id is None and not (self.sha256 or self.is_hidden or self.entry.get("answers_only"))

    @property
    def is_public(self) -> bool:
        """Whether anybody can have it from the Hub; a local folder cannot be fetched."""
        return self.repo_id is not None and not self.is_hidden

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the weights file in hexadecimal; empty where it is not recorded."""
        found = next((digest for name, digest in self.sha256.items() if name.endswith(".safetensors")), "")
        return found if re.fullmatch(r"[0-9a-f]{64}", found) else ""


@dataclass(frozen=True)
class LeftOut:
    """A teacher that a run left out of something, and why."""

    reference: str
    reason: str
    asked: bool = False
    """Whether it was only not inverted: the learner has learned its answers all the same."""
    is_known_public: bool = False
    """Whether the entry says that it is neither private nor gated; most cannot say."""

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> LeftOut:
        """Read an entry of `skipped`."""
        is_known_public = values.get("private") is False and values.get("gated") is False
        reference, reason = str(values.get("reference", "")), str(values.get("reason", ""))
        return cls(reference, reason, bool(values.get("asked")), is_known_public)

    def to_dict(self) -> Json:
        """An entry of `skipped`."""
        asked = {"asked": True} if self.asked else {}
        known = {"private": False, "gated": False} if self.is_known_public else {}
        return {"reference": self.reference, "reason": self.reason, **asked, **known}
