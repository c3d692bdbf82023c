"""`hf-free evaluate`: accuracy of a learner on real pictures, with intervals, beside baselines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_free.cli import options
from hf_free.cli.console import output_console, progress_bar, say, warn, where_published, write_json
from hf_free.cli.tables import results_table
from hf_free.errors import ConfigError
from hf_free.runtime.allocator import import_torch
from hf_free.runtime.files import write_text
from hf_free.training.location import learner_location

if TYPE_CHECKING:
    from hf_free.evaluation.datasets import LabeledImages
    from hf_free.evaluation.off_the_shelf import OffTheShelf
    from hf_free.learner.meta_learner import MetaLearner
    from hf_free.provenance.recorded_teacher import RecordedTeacher
    from hf_free.provenance.results import EvaluationReport
    from hf_free.teachers.pool import TeacherPool

EXAMPLES = options.examples(
    "hf-free evaluate me/few-shot --dataset org/birds --split validation --k-shot 1 5",
    "hf-free evaluate runs/first --dataset ./pictures --n-way 5 --baselines all",
    "hf-free evaluate runs/first --dataset org/birds --compare runs/paper timm:tf_efficientnet_lite0",
    "hf-free evaluate me/few-shot --dataset org/birds --output results.json --push",
)

#: What the card calls a compared learner that only its owner can see.
PRIVATE_LEARNER = "a private learner"


class Baselines(StrEnum):
    """What the learner is measured beside."""

    none = "none"
    untrained = "untrained"
    all = "all"


def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="The learner: a Hub id, a run folder or a saved learner.")
    ],
    dataset: Annotated[
        str,
        typer.Option(
            metavar="ID_OR_DIR", rich_help_panel=options.DATA, help="A `datasets` id, Parquet, or a folder per class."
        ),
    ],
    split: Annotated[
        str | None,
        typer.Option(metavar="NAME", rich_help_panel=options.DATA, help="Default: test, else validation, else train."),
    ] = None,
    image_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", rich_help_panel=options.DATA, help="Column of images; detected by default."),
    ] = None,
    label_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", rich_help_panel=options.DATA, help="Column of labels; detected by default."),
    ] = None,
    dataset_revision: Annotated[
        str | None, typer.Option(metavar="REV", rich_help_panel=options.DATA, help="Revision of the data set.")
    ] = None,
    skip_unreadable: Annotated[
        bool,
        typer.Option(
            "--skip-unreadable", rich_help_panel=options.DATA, help="Leave out pictures that cannot be read."
        ),
    ] = False,
    background: options.Background = "white",
    n_way: Annotated[
        int,
        typer.Option(
            parser=options.whole(2), metavar="INTEGER", rich_help_panel=options.EPISODES, help="Classes per episode."
        ),
    ] = 5,
    k_shot: Annotated[
        list[int] | None,
        typer.Option(
            parser=options.whole(1),
            metavar="INTEGER...",
            rich_help_panel=options.EPISODES,
            show_default="1 5",
            help="Support images per class; one row of results for each.",
        ),
    ] = None,
    n_query: Annotated[
        int,
        typer.Option(
            parser=options.whole(1),
            metavar="INTEGER",
            rich_help_panel=options.EPISODES,
            help="Query images per class.",
        ),
    ] = 15,
    episodes: Annotated[
        int,
        typer.Option(
            parser=options.whole(2), metavar="INTEGER", rich_help_panel=options.EPISODES, help="Number of episodes."
        ),
    ] = 600,
    seed: options.Seed = 0,
    baselines: Annotated[
        Baselines,
        typer.Option(
            rich_help_panel=options.EPISODES,
            help="Rows to compare with: an untrained backbone; `all` adds pixels and the learner's teachers.",
        ),
    ] = Baselines.none,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL...",
            rich_help_panel=options.EPISODES,
            help="More rows on the same episodes: other learners (Hub ids, runs, folders), or timm:NAME, a pretrained "
            "backbone.",
        ),
    ] = None,
    transductive: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME...",
            rich_help_panel=options.EPISODES,
            help="Add rows that see all queries of an episode at once: centered, soft-kmeans, centered-soft-kmeans, "
            "transport, balanced-transport (as many queries of each class), batchnorm; no NAME: all.",
        ),
    ] = None,
    device: options.Device = None,
    teacher_memory: options.TeacherMemory = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="JSON", rich_help_panel=options.OUTPUT, help="Also write the results to this file."),
    ] = None,
    as_json: options.Json = False,
    push: Annotated[
        bool,
        typer.Option("--push", rich_help_panel=options.PUBLISH, help="Write the results into MODEL's card."),
    ] = False,
    commit_message: options.CommitMessage = None,
    create_pr: options.CreatePr = None,
    own_networks: options.Import = None,
    revision: options.Revision = None,
    token: options.Token = None,
    cache_dir: options.CacheDir = None,
) -> None:
    """Measure a learner on few-shot episodes of real images: mean accuracy with a 95 % interval."""
    if output is not None:
        options.check_output_file(output, (".json",))
    import_torch()
    from hf_free.data.decoding import PictureError, parse_color
    from hf_free.data.episodes import can_do_without

    options.check_publishes(push, private=None, create_pr=create_pr, message=commit_message, flag="--push")
    where, ground = options.torch_device(device), parse_color(background)
    if push:
        check_results_can_go(learner_location(model), revision, token, create_pr=bool(create_pr))
    from hf_free.backbones.custom import import_networks
    from hf_free.config.init_from import InitFrom
    from hf_free.evaluation.datasets import load_labeled_images
    from hf_free.evaluation.evaluate import Comparison, EpisodeSettings
    from hf_free.evaluation.evaluate import evaluate as run_evaluation
    from hf_free.learner.meta_learner import MetaLearner
    from hf_free.runtime.allocator import keep_freed_memory

    keep_freed_memory()  # a third of the embedding's time would go into new pages (docs/experiments/speed.md)
    import_networks([own_networks] if own_networks else [])
    learner = MetaLearner.from_pretrained(
        learner_location(model), revision=revision, token=token, cache_dir=cache_dir, map_location=where
    )
    names = list(dict.fromkeys(compare or ()))
    others = {
        name: MetaLearner.from_pretrained(learner_location(name), token=token, cache_dir=cache_dir, map_location=where)
        for name in names
        if InitFrom.parse(name).is_learner
    }
    backbones = _off_the_shelf([name for name in names if name not in others], token, cache_dir, where)
    data = load_labeled_images(
        dataset,
        split=split,
        image_column=image_column,
        label_column=label_column,
        revision=dataset_revision,
        token=token,
        cache_dir=None if cache_dir is None else str(cache_dir),
    )
    data.background = ground
    if split is None and data.others:
        say(f"No --split given: using {data.split!r} of {dataset}, which also has {', '.join(data.others)}.")
    if skip_unreadable:
        data = _readable(data)
    teachers = None
    if baselines is Baselines.all:
        teachers = own_teachers(learner) or teacher_pool(
            teacher_records(model, learner), token=token, cache_dir=cache_dir, budget=teacher_memory, device=where
        )
    try:
        with progress_bar() as progress:
            report = run_evaluation(
                learner,
                data,
                EpisodeSettings(
                    n_way=n_way,
                    k_shots=tuple(dict.fromkeys(k_shot or (1, 5))),
                    n_query=n_query,
                    episodes=episodes,
                    seed=seed,
                ),
                beside=Comparison(
                    baselines=baselines.value, teachers=teachers, learners=others, off_the_shelf=backbones
                ),
                transductive=_transductive(transductive),
                device=where,
                progress=progress,
            )
    except PictureError as error:
        is_enough = can_do_without(data.labels, error.places, n_way=n_way, pictures=max(k_shot or (1, 5)) + n_query)
        skips, lacks = "or leave them out with --skip-unreadable", "without them too few are left for an episode"
        error.action = f"{error.action}; {skips if is_enough else lacks}"
        raise
    report.revision = dataset_revision
    results = report.to_dict()
    if output is not None:
        write_text(output, json.dumps(results, indent=2) + "\n")
    for warning in report.warnings:
        warn(warning)
    if as_json:
        write_json(results)
    else:
        output_console().print(results_table(report))
        _advise(learner, others.values())
    if output is not None:
        say(f"Results: {output}")
    if push:
        private = [name for name, other in others.items() if other.origin is not None and other.origin.private]
        _publish(
            learner_location(model),
            without_names(report, private),
            teacher_records(model, learner),
            token,
            cache_dir,
            commit_message,
            bool(create_pr),
        )


def check_results_can_go(model: str, revision: str | None, token: str | None, *, create_pr: bool) -> None:
    """Refuse, before anything is measured, results that could not be written into the card, here or on the Hub.

    Raises:
        ConfigError: a revision is named, which need not be the main branch, where results go; or a classifier, whose
            card is not one of results.
        HubError: the token may not write there, or there is a classifier.
        RunError: a card here that is no text.
    """
    from hf_free.hub.upload import LEARNER_FILES, check_can_push
    from hf_free.learner.format import CLASSIFIER_CONFIG
    from hf_free.publishing.edits import read_card

    folder = Path(model)
    if folder.is_dir():
        if (folder / CLASSIFIER_CONFIG).is_file():
            raise ConfigError(
                f"--push, and {folder} is a classifier",
                allowed="a learner: its card has results",
                action="name the learner, or leave --push out",
            )
        if (card := folder / "README.md").exists():
            read_card(card)
        return
    named = f"--revision {revision}" if revision is not None else model if "@" in model else None
    if named is not None:
        raise ConfigError(
            f"--push with {named}: results go to the learner's main branch, which may be another one",
            allowed="one of the two",
            action="leave out the revision, or --push",
        )
    check_can_push(model, token, create_pr=create_pr, names=LEARNER_FILES)


def _off_the_shelf(names: Sequence[str], token: str | None, cache_dir: Path | None, device: str) -> list[OffTheShelf]:
    """The backbones of timm that are compared with."""
    if not names:
        return []
    from hf_free.evaluation.off_the_shelf import load_off_the_shelf  # imports timm, which takes seconds

    return [load_off_the_shelf(name, token=token, cache_dir=cache_dir, device=device) for name in names]


def _advise(learner: MetaLearner, others: Iterable[MetaLearner]) -> None:
    """Say where a pooled learner of the same teachers is likely to be better, and none is measured."""
    from hf_free.provenance.forecast import forecast

    kinds = [teacher.architecture for teacher in learner.record.teachers]
    is_there = any(one.embedding.pooled is not None for one in (learner, *others))
    if is_there or learner.record.config.get("method") != "default" or not kinds or not all(kinds):
        return
    guess = forecast(kinds)
    if guess.likely == "pooled":
        say(f"{guess.text[0].upper()}{guess.text[1:]}. hf-free pool makes one; --compare DIR measures it beside this.")


def own_teachers(learner: MetaLearner) -> TeacherPool | None:
    """The teachers of a pooled learner; None for a learner of one network."""
    from hf_free.learner.pooled_backbone import PooledBackbone
    from hf_free.teachers.pool import TeacherPool

    network = learner.backbone
    if isinstance(network, PooledBackbone) and isinstance(network.classifiers, TeacherPool):
        return network.classifiers
    return None


def _transductive(names: list[str] | None) -> list[str]:
    """The transductive rows that are asked for."""
    from hf_free.evaluation.evaluate import BATCHNORM
    from hf_free.learner.transductive import TRANSDUCTIVE

    return [*TRANSDUCTIVE, BATCHNORM] if "all" in (names or ()) else list(names or ())


def _publish(
    location: str,
    report: EvaluationReport,
    teachers: Sequence[RecordedTeacher],
    token: str | None,
    cache_dir: Path | None,
    commit_message: str | None,
    create_pr: bool,
) -> None:
    """The results into the learner's card: in its folder where it is a local one, else on the Hub."""
    from hf_free.publishing.push import add_results, publish_results

    if Path(location).is_dir():
        add_results(Path(location), report, teachers=teachers)
        say(f"The card of {location} has the results; publish it with: hf-free push {location} ORG/NAME")
        return
    say(f"Uploading to {location}")
    address = publish_results(
        location,
        report,
        token=token,
        cache_dir=cache_dir,
        commit_message=commit_message,
        create_pr=create_pr,
    )
    say(f"Card with these results: {where_published(address, location)}")


def without_names(report: EvaluationReport, names: Sequence[str]) -> EvaluationReport:
    """A report whose rows do not name these learners, which are private on the Hub."""
    rows = report.rows
    for name in names:
        rows = [replace(row, method=row.method.replace(name, PRIVATE_LEARNER)) for row in rows]
    return replace(report, rows=rows)


def _readable(data: LabeledImages) -> LabeledImages:
    """The pictures that can be read; the number of the others is said once, with the first of them."""
    from hf_free.data.images import joint_error

    with progress_bar() as progress:
        readable, errors = data.readable(progress)
    if errors:
        warn(f"Left out, --skip-unreadable: {joint_error(errors, len(data)).given}")
    return readable


def teacher_records(model: str, learner: MetaLearner) -> tuple[RecordedTeacher, ...]:
    """The teachers in a learner's record; for a run's folder those of the run's own record, which redacts nothing."""
    from hf_free.publishing.unredacted import unredacted

    return unredacted(model, learner.record).teachers


def teacher_pool(
    teachers: Sequence[RecordedTeacher], *, token: str | None, cache_dir: Path | None, budget: str | None, device: str
) -> TeacherPool:
    """The teachers of a record, each at the commit it was trained from.

    One that is no longer available is in the pool's `skipped`, with the reason.
    """
    from hf_free.teachers.pool import TeacherPool

    loaded = [(teacher.reference, teacher.as_loaded()) for teacher in teachers]
    records = [record for _, record in loaded if record is not None]
    pool = TeacherPool(records, budget=budget or "4GiB", device=device, token=token, cache_dir=cache_dir)
    pool.skipped += [(name, "its record is incomplete") for name, record in loaded if record is None]
    return pool
