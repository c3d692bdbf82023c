"""What a learner is made of: the `hf_free` block of its config.json, read into fields.

Whoever reads a record reads these fields. What an older record lacks takes its default; what a newer one has on top
stays in the block (`to_dict`), so that a learner that is saved again loses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hf_free.provenance.mending import mended
from hf_free.provenance.reading import Json, flag_of, list_of, object_of, text_of, whole_of
from hf_free.provenance.recorded_teacher import LeftOut, RecordedTeacher
from hf_free.provenance.renamed import with_new_names
from hf_free.provenance.results import EvaluationReport
from hf_free.provenance.run_record import (
    Imitation,
    KnownTeachers,
    MethodFacts,
    PoolRecord,
    Recovered,
    RunRecord,
    Training,
)
from hf_free.provenance.teacher_record import TeacherRecord


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

    block: Json = field(default_factory=dict)
    """The block itself, keys of later versions included."""
    version: int | None = None
    """Version of the format in which the learner was saved; None where it was not."""
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
    init_from: str = ""
    """What its network started from, where that were weights of others."""
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
        """Read an `hf_free` block; every key may be missing, and what no record holds (`mended`) counts as missing."""
        whole, block = dict(block), mended(block)
        config, _ = with_new_names(object_of(block.get("config")))
        return cls(
            block=whole,
            version=whole_of(block.get("format_version")),
            config=config,
            publication=Publication.from_dict(object_of(config.get("hub"))),
            learner=RecordedLearner.from_dict({**object_of(config.get("learner")), **object_of(block.get("learner"))}),
            teachers=tuple(map(RecordedTeacher.from_dict, map(object_of, list_of(block.get("teachers"))))),
            teachers_before=whole_of(block.get("teachers_before")),
            skipped=tuple(map(LeftOut.from_dict, map(object_of, list_of(block.get("skipped"))))),
            left_out=object_of(block.get("left_out")),
            data_free=flag_of(block.get("data_free")),
            init_from=text_of(block.get("init_from")),
            results=tuple(map(EvaluationReport.from_dict, map(object_of, list_of(block.get("results"))))),
            answer_outputs=KnownTeachers.from_dict(block).answer_outputs,
            method=MethodFacts.from_dict(object_of(block.get("method"))),
            recovered=Recovered.from_dict(object_of(block.get("recovered"))),
            training=Training.from_dict(object_of(block.get("training"))),
            imitation=Imitation.from_dict(imitated) if (imitated := object_of(block.get("imitation"))) else None,
            versions=object_of(block.get("versions")),
            repo_id=text_of(block.get("repo_id")) or None,
        )

    @classmethod
    def of(cls, made: RunRecord | PoolRecord) -> LearnerRecord:
        """What a run says of itself, as its learner's record."""
        return cls.from_dict(made.to_dict())

    @classmethod
    def started_from(cls, source: str, *, data_free: bool) -> LearnerRecord:
        """The record of a network that has the weights of another one, and nothing else yet.

        Args:
            source: `timm:NAME`, or a learner's Hub id or folder.
            data_free: Whether those were trained without real images.
        """
        return cls.from_dict({"init_from": source, "data_free": data_free})

    def to_dict(self) -> Json:
        """The block as it is written, with every key that it was read with."""
        return dict(self.block)

    def setting(self, section: str, key: str) -> object:
        """A setting of the run's configuration; None where it is not recorded."""
        return object_of(self.config.get(section)).get(key)

    @property
    def is_data_free(self) -> bool:
        """Whether no real image was used; the first learners, which were all data-free, did not record it."""
        return bool(self.data_free) or "data_free" not in self.block

    @property
    def has_seen_pictures(self) -> bool:
        """Whether teachers were asked about real pictures, without labels."""
        return bool(self.setting("memory", "pictures"))

    @property
    def is_pooled(self) -> bool:
        """Whether the learner is its teachers, which it names in order to open them."""
        return object_of(self.block.get("learner")).get("pooled") is not None

    @property
    def derived_from(self) -> int | None:
        """The place of the teacher whose weights the network began with; None where it began with no teacher's."""
        place = None if self.imitation is None else self.imitation.started_from
        return None if place is None or not 0 <= place < len(self.teachers) else place

    def saved_as(self, version: int, learner: Json) -> LearnerRecord:
        """The record with what rebuilds the learner.

        Args:
            version: Of the format in which it is saved.
            learner: The `learner` block.
        """
        return self.from_dict({**self.block, "format_version": version, "learner": learner})

    def with_teachers(self, teachers: Sequence[TeacherRecord]) -> LearnerRecord:
        """The record with other entries for its teachers."""
        return self.from_dict({**self.block, "teachers": [teacher.to_dict() for teacher in teachers]})

    def of_imitation(self, config: Json, training: Training, imitation: Imitation) -> LearnerRecord:
        """The record of a network that imitates this learner: the same teachers, and no results yet.

        Args:
            config: Settings of the imitation.
            training: How long it took, and on what.
            imitation: How well it went.
        """
        kept = {key: value for key, value in self.block.items() if key not in ("results", "repo_id")}
        said: Json = {"results": [], "training": training.known(), "imitation": imitation.to_dict()}
        if object_of(config.get("memory")).get("pictures"):
            said["data_free"] = False
        return self.from_dict({**kept, "config": config, **said})
