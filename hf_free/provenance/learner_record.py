"""What a learner is made of: the `hf_free` block of its config.json, read into fields.

Cards, their metadata and redaction read these fields. An older record lacks some of them: they take their defaults.
A newer one has keys that are unknown here: they stay in the block (`to_dict`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from hf_free.provenance.reading import Json, flag_of, list_of, number_of, object_of, text_of, texts_of, whole_of
from hf_free.provenance.renamed import with_new_names
from hf_free.provenance.results import EvaluationReport
from hf_free.provenance.run_record import Imitation, KnownTeachers, MethodFacts, Recovered, Training


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
            parameters=number_of(values.get("parameters")),
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
        )

    @property
    def is_hidden(self) -> bool:
        """Whether the repository is private or gated, so that what is published does not name it."""
        return self.private or self.gated

    @property
    def is_public(self) -> bool:
        """Whether anybody can have it from the Hub; a local folder cannot be had."""
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


@dataclass(frozen=True)
class RecordedLearner:
    """How a learner is built, as far as people are told."""

    backbone: str | None = None
    image_size: int | None = None
    channels: int | None = None
    head: str | None = None
    init_from: str = ""
    """What it started from, see `hf_free.config.init_from.InitFrom`; empty for nothing."""
    answer_sizes: tuple[int, ...] = ()
    weighs_teachers: bool = False
    """Whether teachers of similar images count more."""
    is_whitened: bool = False
    """Whether directions in which recovered images differ most count less."""
    shared_classes: int | None = None
    """Classes that are left once those that several teachers know count as one."""
    teachers_included: bool = False
    """Whether the files of a pooled learner's teachers lie with it."""

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> RecordedLearner:
        """Read the `learner` block, laid over the configuration's section of that name."""
        head = text_of(values.get("head")) or None
        sizes = map(whole_of, list_of(values.get("answer_sizes")))
        has_head = head != "maml"  # which adapts the network, so that the features' parts are not used
        return cls(
            backbone=text_of(values.get("backbone")) or None,
            image_size=whole_of(values.get("image_size")),
            channels=whole_of(values.get("channels")),
            head=head,
            init_from=text_of(values.get("init_from")),
            answer_sizes=tuple(size for size in sizes if size is not None),
            weighs_teachers=values.get("relevance") is True and has_head,
            is_whitened=values.get("damping") is not None and has_head,
            shared_classes=whole_of(values.get("shared_classes")),
            teachers_included=values.get("teachers_included") is True,
        )


@dataclass(frozen=True)
class Publication:
    """The publishing settings of the run's configuration; None where it has none."""

    push_to_hub: str | None = None
    license: str | None = None
    card_images: bool | None = None
    name_private_teachers: bool = False
    base_model_relation: str | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Publication:
        """Read the configuration's section `hub`."""
        return cls(
            push_to_hub=text_of(values.get("push_to_hub")) or None,
            license=text_of(values.get("license")) or None,
            card_images=flag_of(values.get("card_images")),
            name_private_teachers=bool(values.get("name_private_teachers")),
            base_model_relation=text_of(values.get("base_model_relation")) or None,
        )


@dataclass(frozen=True)
class LearnerRecord:
    """A learner's record. Nothing in it is needed to use the learner."""

    block: Json
    """The block itself, keys of later versions included."""
    config: Json = field(default_factory=dict)
    """The configuration of the run, as `FreeConfig.to_dict` gives it; settings under the names of today."""
    publication: Publication = Publication()
    learner: RecordedLearner = RecordedLearner()
    teachers: tuple[RecordedTeacher, ...] = ()
    """In the order of the learner's answers."""
    teachers_before: int | None = None
    """How many of these, the first ones, were those of the learner that was continued."""
    skipped: tuple[LeftOut, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Reason -> number of tasks."""
    data_free: bool | None = None
    """Whether no real image was used; None where that is not recorded."""
    results: tuple[EvaluationReport, ...] = ()
    answer_outputs: tuple[tuple[int, ...] | None, ...] = ()
    """Which outputs of each teacher the learner predicts, None for all of them; empty where that is not recorded."""
    method: MethodFacts = field(default_factory=MethodFacts)
    recovered: Recovered = field(default_factory=Recovered)
    training: Training = field(default_factory=Training)
    imitation: Imitation | None = None
    """Of a network that stands for a pooled learner; None for others."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Library -> version."""
    repo_id: str | None = None

    @classmethod
    def from_dict(cls, block: Mapping[str, object]) -> LearnerRecord:
        """Read an `hf_free` block; every key may be missing."""
        config, _ = with_new_names(object_of(block.get("config")))
        return cls(
            block=dict(block),
            config=config,
            publication=Publication.from_dict(object_of(config.get("hub"))),
            learner=RecordedLearner.from_dict({**object_of(config.get("learner")), **object_of(block.get("learner"))}),
            teachers=tuple(map(RecordedTeacher.from_dict, map(object_of, list_of(block.get("teachers"))))),
            teachers_before=whole_of(block.get("teachers_before")),
            skipped=tuple(map(LeftOut.from_dict, map(object_of, list_of(block.get("skipped"))))),
            left_out=object_of(block.get("left_out")),
            data_free=flag_of(block.get("data_free")),
            results=tuple(map(EvaluationReport.from_dict, map(object_of, list_of(block.get("results"))))),
            answer_outputs=KnownTeachers.from_dict(block).answer_outputs,
            method=MethodFacts.from_dict(object_of(block.get("method"))),
            recovered=Recovered.from_dict(object_of(block.get("recovered"))),
            training=Training.from_dict(object_of(block.get("training"))),
            imitation=Imitation.from_dict(imitated) if (imitated := object_of(block.get("imitation"))) else None,
            versions=object_of(block.get("versions")),
            repo_id=text_of(block.get("repo_id")) or None,
        )

    def setting(self, section: str, key: str) -> object:
        """A setting of the run's configuration; None where it is not recorded."""
        return object_of(self.config.get(section)).get(key)
