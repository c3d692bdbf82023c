"""Few-shot accuracy on real pictures: rows with 95 % intervals, for the learner and what it is measured against."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from hf_free.data.episodes import EpisodeBatch, eligible_classes, sample_episodes
from hf_free.data.images import Progress, to_float
from hf_free.errors import DatasetError, LearnerError
from hf_free.evaluation.baselines import pixels, teacher_embeddings, untrained
from hf_free.evaluation.datasets import LabeledImages, load_labeled_images
from hf_free.evaluation.features import FeatureSet, ImageSizes, learner_features
from hf_free.evaluation.scorer import Scorer
from hf_free.learner.batchnorm import BatchNormMode, batchnorm_layers
from hf_free.learner.heads import head_on_features
from hf_free.learner.meta_learner import MetaLearner
from hf_free.learner.parallel_episodes import adapt_and_score, episodes_at_once
from hf_free.learner.transductive import ASSUMES_EQUAL_CLASSES, IN_WORDS, TRANSDUCTIVE
from hf_free.provenance.results import EvaluationReport
from hf_free.publishing.results import fingerprint, is_local_source, is_own_row
from hf_free.runtime.device import choose_device
from hf_free.runtime.given import LARGEST_SEED, TOLD, check_function, check_kind, short_form, whole_number
from hf_free.teachers.label_names import is_placeholder

if TYPE_CHECKING:
    from hf_free.evaluation.off_the_shelf import OffTheShelf
    from hf_free.teachers.pool import TeacherPool

Baselines = Literal["none", "untrained", "all"]

BATCHNORM = "batchnorm"
"""The transductive row whose BatchNorm normalizes all queries of an episode together, as FREE published it."""


@dataclass(frozen=True, kw_only=True)
class EpisodeSettings:
    """The episodes that a learner is measured on.

    Raises:
        DatasetError: fewer than two classes or episodes, no shots or queries, or something that is no whole number.
    """

    n_way: int = 5
    """Classes per episode."""
    k_shots: Sequence[int] = (1, 5)
    """Support pictures per class; each number is measured and makes a row."""
    n_query: int = 15
    """Query pictures per class."""
    episodes: int = 600
    """Number of episodes, at least 2."""
    seed: int = 0
    """Seed of the episodes and of the untrained backbone."""

    def __post_init__(self) -> None:
        if not isinstance(self.k_shots, Iterable) or isinstance(self.k_shots, str):
            raise DatasetError(f"k_shots={short_form(self.k_shots)}", allowed="several whole numbers, as (1, 5)")
        shots = tuple(whole_number(k, "k_shots", least=1, error=DatasetError) for k in self.k_shots)
        object.__setattr__(self, "k_shots", shots)  # read more than once
        for name, least in (("n_way", 2), ("n_query", 1), ("episodes", 2)):  # of one episode there is no interval
            whole_number(getattr(self, name), name, least=least, error=DatasetError)
        whole_number(self.seed, "seed", least=0, most=LARGEST_SEED, error=DatasetError)
        if not shots:
            raise DatasetError("k_shots of no number", allowed="at least one number of shots", action="k_shots=(1, 5)")

    def draw(self, labels: Tensor) -> dict[int, EpisodeBatch]:
        """The episodes of each number of shots, drawn from the labels (N,) of a data set.

        Raises:
            DatasetError: too few classes or pictures.
        """
        drawn = {}
        for k_shot in sorted(self.k_shots, reverse=True):  # classes with enough for the most shots suit all
            generator = torch.Generator().manual_seed(self.seed)
            drawn[k_shot] = sample_episodes(
                labels,
                n_way=self.n_way,
                k_shot=k_shot,
                n_query=self.n_query,
                episodes=self.episodes,
                generator=generator,
            )
        return {k_shot: drawn[k_shot] for k_shot in self.k_shots}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a learner is measured beside, on the same episodes.

    Raises:
        DatasetError: an unknown set of baselines, learners without names, or other things in the place of
            teachers or published backbones.
    """

    baselines: Baselines = "none"
    """`none`; `untrained`, the same backbone freshly initialized; `all`, pixels and the teachers too."""
    teachers: TeacherPool | None = None
    """The teachers, for `baselines="all"`."""
    concatenations: Sequence[int] = ()
    """For each of these numbers, the features of that many teachers, the first ones, are concatenated, besides those
    of all."""
    learners: Mapping[str, MetaLearner] = field(default_factory=dict)
    """Other learners by the name of their rows, each with its own head."""
    off_the_shelf: Sequence[OffTheShelf] = ()
    """Published backbones, whose features get the learner's head."""

    def __post_init__(self) -> None:
        if self.baselines not in get_args(Baselines):
            raise DatasetError(f"baselines={short_form(self.baselines)}", allowed=", ".join(get_args(Baselines)))
        if not isinstance(self.learners, Mapping) or not all(isinstance(name, str) for name in self.learners):
            raise DatasetError(
                f"learners={short_form(self.learners)}", allowed="a dict of the names of their rows and the learners"
            )
        self._check_further()

    def _check_further(self) -> None:
        """Refuse teachers and published backbones that are none.

        Raises:
            DatasetError: with what is allowed.
        """
        if self.teachers is not None:  # whoever has one has imported what it takes
            from hf_free.teachers.pool import TeacherPool

            rule = "None, or a TeacherPool, as hf_free.teachers.pool.TeacherPool([...])"
            check_kind(self.teachers, "teachers", TeacherPool, allowed=rule, error=DatasetError)
        for name in ("concatenations", "off_the_shelf"):
            value = getattr(self, name)
            if isinstance(value, str) or not isinstance(value, Iterable):
                raise DatasetError(f"{name}={short_form(value)} of type {type(value).__name__}", allowed="a list")
            object.__setattr__(self, name, tuple(value))  # read more than once
        for count in self.concatenations:
            whole_number(count, "concatenations", least=1, error=DatasetError)
        if self.off_the_shelf:
            from hf_free.evaluation.off_the_shelf import OffTheShelf

            rule = "a list of what hf_free.evaluation.off_the_shelf.load_off_the_shelf returned"
            for backbone in self.off_the_shelf:
                check_kind(backbone, "off_the_shelf", OffTheShelf, allowed=rule, optional=False, error=DatasetError)


def evaluate(
    learner: MetaLearner,
    data: LabeledImages | str | Path,
    episodes: EpisodeSettings = EpisodeSettings(),
    *,
    beside: Comparison = Comparison(),
    transductive: str | Sequence[str] = (),
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> EvaluationReport:
    """Measure a learner on new classes.

    All methods are scored on the same episodes, with the learner's head (the nearest class mean where that is MAML);
    other learners with their own. Only pictures that occur in an episode are looked at.

    Args:
        learner: The learner; it is moved to `device`, as are those it is compared with.
        data: Pictures of classes it has not been trained for: what `load_labeled_images` returned, or the source that
            it is to load.
        episodes: How many classes, shots, queries and episodes.
        beside: Baselines, teachers and other learners to measure too.
        transductive: Name or names of heads that see all queries of an episode together; each gets a row of its own
            (`hf_free.learner.transductive.TRANSDUCTIVE`); `batchnorm` normalizes all queries together.
        device: Where to compute; `auto` takes a GPU where there is one.
        progress: Called with what is being done, how much is done, how much there is.

    Raises:
        ConfigError: a device that this machine does not have.
        DatasetError: a data set that cannot be loaded, or one with too few classes or pictures.
        LearnerError: something that is no learner, or an unknown transductive head.

    Example:
        >>> learner = MetaLearner.from_pretrained("org/learner")  # doctest: +SKIP
        >>> evaluate(learner, "./pictures", EpisodeSettings(k_shots=(1,))).rows[0].accuracy  # doctest: +SKIP
    """
    if not isinstance(beside, Comparison) or not isinstance(episodes, EpisodeSettings):
        given = f"episodes of type {type(episodes).__name__}, beside of type {type(beside).__name__}"
        raise DatasetError(given, allowed="EpisodeSettings(...) and Comparison(...)", action="leave out what is usual")
    check_function(progress, "progress", TOLD, error=DatasetError)
    transductive = _transductive_names(transductive)
    for measured in (learner, *dict(beside.learners).values()):
        _check_learner(measured)
    device = choose_device(device)
    # made anew, pictures, labels and names that were changed by hand meanwhile are compared again
    data = replace(data) if isinstance(data, LabeledImages) else load_labeled_images(data)
    drawn, teachers = episodes.draw(data.labels), beside.teachers
    learner, others = learner.to(device), dict(beside.learners)
    report = _report_on(data, episodes.seed)
    report.warnings += _warnings([learner, *others.values()], data, teachers, max(episodes.k_shots) + episodes.n_query)
    used = torch.cat([batch.pictures_used() for batch in drawn.values()]).unique()
    images = ImageSizes(data, used, progress)
    head = head_on_features(learner.config.head)
    scorer = Scorer({k_shot: batch.among(used) for k_shot, batch in drawn.items()}, head, report)

    _add_learner(scorer, learner, images, transductive, progress)
    for name, other in others.items():
        name = f"compared {name}" if is_own_row(name) else name  # a folder called `learner` is not this learner
        _add_learner(scorer, other.to(device), images, transductive, progress, name)
    for backbone in beside.off_the_shelf:
        scorer.add(backbone.embedding(images, progress))
    if beside.baselines != "none":
        scorer.add(untrained(learner, images, episodes.seed))
    if beside.baselines == "all":
        scorer.add(pixels(learner, images))
        if teachers is None or not (len(teachers) or teachers.skipped):
            scorer.add(FeatureSet("teachers", note="not available: no teachers were given"))
        else:
            for embedding in teacher_embeddings(teachers, images, learner.device, progress, beside.concatenations):
                scorer.add(embedding)
    if images.more_frames:
        report.warnings.append(f"{images.more_frames} files hold several frames: only the first of each is seen")
    return report


def _transductive_names(names: object) -> tuple[str, ...]:
    """The transductive rows that are asked for, which are looked at more than once.

    Raises:
        LearnerError: no list, or one that does not exist; with those there are.
    """
    known = (*TRANSDUCTIVE, BATCHNORM)
    if not isinstance(names, Iterable):
        raise LearnerError(
            f"transductive={short_form(names)}", allowed=f"a list of {', '.join(known)}, or one of them"
        )
    given = (names,) if isinstance(names, str) else tuple(names)
    unknown = [name for name in given if name not in known]
    if unknown:
        raise LearnerError(f"unknown transductive head {unknown[0]!r}", allowed=", ".join(known))
    return given


def _check_learner(learner: object) -> None:
    """Refuse what is no learner, such as its name or what it was adapted to.

    Raises:
        LearnerError: with the way to one.
    """
    if not isinstance(learner, MetaLearner):
        raise LearnerError(
            f"a learner of type {type(learner).__name__}",
            allowed="a MetaLearner",
            action="MetaLearner.from_pretrained(...) opens one; of a classifier it opens the learner",
        )


def _report_on(data: LabeledImages, seed: int) -> EvaluationReport:
    """A report without rows yet."""
    report = EvaluationReport(
        [], data.source, data.split, seed=seed, pictures=len(data), classes=len(data.class_names)
    )
    report.local = is_local_source(data.source)
    if report.local:
        counts = torch.bincount(data.labels, minlength=len(data.class_names)).tolist()
        report.fingerprint = fingerprint(data.source, data.class_names, counts)
    return report


def _add_learner(
    scorer: Scorer,
    learner: MetaLearner,
    images: ImageSizes,
    transductive: Sequence[str],
    progress: Progress | None,
    name: str = "learner",
) -> None:
    """A learner's own rows: as it is, and the transductive ones that are asked for."""
    name = name if learner.record.is_data_free else f"{name} (not data-free)"
    if learner.batchnorm == "running" and learner.config.head != "maml":
        start = time.perf_counter()
        features = learner_features(learner, images, progress, name)
        found = FeatureSet(name, [features], time.perf_counter() - start, embedding=learner.embedding)
        head = head_on_features(learner.config.head)
        scorer.add(found, head=head)
        for transduction in (name for name in TRANSDUCTIVE if name in transductive):
            note = "assumes as many queries of each class" if transduction in ASSUMES_EQUAL_CLASSES else ""
            method = f"{name}, {IN_WORDS[transduction]} (transductive)"
            scorer.add(replace(found, method=method, note=note), head=head, transductive=transduction)
    else:
        _add_per_episode(scorer, learner, images, learner.batchnorm, name, progress)
    if BATCHNORM in transductive and learner.batchnorm != "transductive" and batchnorm_layers(learner.backbone):
        _add_per_episode(scorer, learner, images, "transductive", name, progress)


def _add_per_episode(
    scorer: Scorer,
    learner: MetaLearner,
    images: ImageSizes,
    batchnorm: BatchNormMode,
    name: str,
    progress: Progress | None,
) -> None:
    """Rows of a learner whose features depend on the episode: MAML, or BatchNorm statistics of the episode."""
    learner = learner.copy_for(batchnorm)
    learner.backbone.to(memory_format=torch.channels_last)  # half the time on a CPU: docs/experiments
    suffix = {"running": "", "support": ", BatchNorm of the support", "transductive": ", transductive BatchNorm"}
    pictures = images.at(learner.preprocessing)
    for k_shot, batch in scorer.episodes.items():
        start = time.perf_counter()
        accuracies: list[Tensor] = []
        at_once = episodes_at_once(learner, batch.support[0].numel() + batch.query[0].numel())
        for part in batch.split(at_once):
            accuracies += _adapted_accuracies(learner, pictures, part)
            if progress is not None and len(accuracies) % 20 < len(part):
                label = f"{k_shot}-shot episodes of the {name}{suffix[batchnorm]}"
                progress(label, len(accuracies), len(batch))
        seconds, inductive = time.perf_counter() - start, batchnorm != "transductive"
        scorer.append(name + suffix[batchnorm], k_shot, torch.stack(accuracies), seconds, inductive=inductive)


def _adapted_accuracies(learner: MetaLearner, pictures: Tensor, episodes: EpisodeBatch) -> Tensor:
    """Accuracies (E,) of a learner that adapts to each episode; several episodes are computed side by side."""
    support_labels, query_labels = episodes.labels("support"), episodes.labels("query")
    support, query = pictures[episodes.support.flatten(1)], pictures[episodes.query.flatten(1)]  # (E, B, C, H, W)
    if len(episodes) > 1:
        shown, asked = (to_float(part).to(learner.device) for part in (support, query))
        best = adapt_and_score(learner, shown, support_labels.to(learner.device), asked, episodes.n_way).argmax(-1)
    else:
        best = learner.adapt(support[0], support_labels).predict_proba(query[0]).argmax(1)[None]
    return (best.cpu() == query_labels).float().mean(1)


def _warnings(
    learners: Sequence[MetaLearner], data: LabeledImages, teachers: TeacherPool | None, needed: int
) -> list[str]:
    """What makes the figures doubtful: classes that the teachers know, classes left out."""
    warnings = []
    known = {plain_name(name) for name in _teacher_labels(learners, teachers) if not is_placeholder(name)}
    shared = [name for name in data.class_names if plain_name(name) in known]
    if shared:
        listed = ", ".join(shared[:10]) + (", ..." if len(shared) > 10 else "")
        warnings.append(
            f"{len(shared)} of {len(data.class_names)} classes of the data set also occur among the teachers' label "
            f"names ({listed}): they may not be new to the learner"
        )
    left_out = len(data.class_names) - len(eligible_classes(data.labels, needed))
    if left_out:
        warnings.append(
            f"{left_out} of {len(data.class_names)} classes have fewer than {needed} pictures and are left out of "
            "the episodes with most shots"
        )
    return warnings


def _teacher_labels(learners: Sequence[MetaLearner], teachers: TeacherPool | None) -> list[str]:
    """Label names of the teachers in the pool and of those in the learners' records."""
    names: list[str] = []
    for record in teachers.records if teachers is not None else ():
        names += record.label_names or ()
    for learner in learners:
        for teacher in learner.record.teachers:
            names += teacher.label_names
    return names


def plain_name(name: str) -> str:
    """A class name without case, underscores and hyphens."""
    return " ".join(str(name).casefold().replace("_", " ").replace("-", " ").split())
