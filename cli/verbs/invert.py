"""`hf-free invert`: a picture of what FIVE recovers from one model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_free.cli import options
from hf_free.cli.arguments import given_values
from hf_free.cli.console import output_console, plain, print_made, progress_bar, say, write_json
from hf_free.cli.teacher_rows import one_reference
from hf_free.errors import ConfigError
from hf_free.runtime.given import from_home, real_path

if TYPE_CHECKING:
    from hf_free.inversion.task import RecoveredTask
    from hf_free.teachers.reference import TeacherReference

EXAMPLES = options.examples(
    "hf-free invert org/model --output grid.png",
    "hf-free invert ./local-model --steps 400 --images-per-class 8 --output grid.png",
    "hf-free invert org/model --generator runs/first --output grid.png",
    "hf-free invert endpoint:https://host/birds --steps 20 --directions 20 --query-budget 30000",
)


def _share(task: RecoveredTask, classes: int) -> str:
    """How many classes the pictures show, where that is not all of them."""
    return "" if len(task.classes) == classes else f", {len(task.classes)} of {classes:,} classes"


def name_without_path(reference: TeacherReference) -> str:
    """A Hub id as it is, a folder by its own name: the picture may be shown to others, so it names no path and no
    address."""
    if reference.is_endpoint:
        return "a black box"
    return real_path(from_home(reference.location)).name if reference.is_local else str(reference)


def invert(
    model: Annotated[str, typer.Argument(metavar="ID", help="A Hub id, a folder, or endpoint:https://host/path.")],
    output: Annotated[
        Path, typer.Option(metavar="PNG", rich_help_panel=options.OUTPUT, help="Where to write the picture.")
    ] = Path("grid.png"),
    generator: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Start from the meta-generator of this run of hf-free train.")
    ] = None,
    inversion: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Another way to invert, such as pixels; see hf-free methods."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            parser=options.whole(1),
            metavar="INTEGER",
            help="Inner steps. Default: 200 from a fresh generator, 5 from a trained one, or those of the inversion.",
        ),
    ] = None,
    images_per_class: Annotated[
        int, typer.Option(parser=options.whole(2, 100), metavar="INTEGER", help="Images per class.")
    ] = 10,
    seed: options.Seed = 0,
    query_budget: options.QueryBudget = None,
    directions: Annotated[
        int | None,
        typer.Option(
            parser=options.whole(1, 100_000),
            metavar="INTEGER",
            rich_help_panel=options.DATA,
            help="For a black box: queries per picture and step, from which a gradient is estimated. Default: 100.",
        ),
    ] = None,
    endpoint_token: options.EndpointToken = None,
    own_networks: options.Import = None,
    revision: options.Revision = None,
    token: options.Token = None,
    cache_dir: options.CacheDir = None,
    device: options.Device = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw images recovered from a model by inversion, one row per class."""
    options.check_output_file(output, (".png",))
    if generator is not None and not generator.is_dir():
        raise ConfigError(f"--generator {generator} is not a folder", allowed="the output folder of a finished run")
    reference = one_reference(model, revision)
    given = {"--query-budget": query_budget, "--directions": directions, "--endpoint-token": endpoint_token}
    if not reference.is_endpoint and (useless := next((flag for flag, value in given.items() if value), None)):
        raise ConfigError(
            f"{useless} for {reference}, which is no black box",
            allowed="endpoint:https://host/path",
            action=f"leave {useless} out: the network itself is here, and needs no queries",
        )
    from hf_free.backbones.custom import import_networks
    from hf_free.config.sections import FiveConfig
    from hf_free.config.tree import FreeConfig
    from hf_free.reporting.image_grid import recovered_grid
    from hf_free.teachers.endpoints import EndpointAccess
    from hf_free.teachers.loader import load_teacher
    from hf_free.training.invert import default_steps
    from hf_free.training.invert import invert as run_inversion

    usual = default_steps(generator, inversion)
    steps = steps or usual
    import_networks([own_networks] if own_networks else [])
    asked = {"budget": query_budget, "directions": directions}
    queries = FreeConfig.load(values=given_values({"queries": asked})).queries
    endpoints = EndpointAccess.of(queries, tokens=endpoint_token or [])
    teacher = load_teacher(
        reference, token=token, cache_dir=cache_dir, device=options.torch_device(device), endpoints=endpoints
    )
    if teacher.record.answers_only:
        pictures = images_per_class * min(teacher.record.num_classes, FiveConfig().max_classes)
        asked_in_all = pictures * (steps * (1 + queries.directions) + 1)
        say(f"A black box: {asked_in_all:,} queries, and {endpoints.budget.spent} so far.")
    elif generator is None and inversion in (None, "five"):
        say(f"No --generator: starting from a fresh one, {steps} steps.")
    with progress_bar() as progress:
        task = run_inversion(
            teacher,
            steps=steps,
            images_per_class=images_per_class,
            generator=generator,
            inversion=inversion,
            seed=seed,
            queries=queries,
            progress=progress,
        )
    known = teacher.record.label_names or tuple(str(index) for index in range(teacher.record.num_classes))
    names = [known[index] for index in task.classes]  # a large head is inverted by a subset of its classes
    path = recovered_grid(
        task.images,
        task.labels,
        class_names=names,
        confidence=task.soft_labels.gather(1, task.labels[:, None]).squeeze(1),
        path=output,
        title=f"Recovered from {name_without_path(reference)}, {steps} steps"
        f"{_share(task, teacher.record.num_classes)}",
        per_class=images_per_class,
    )
    summary = {
        "picture": str(path),
        "images": int(task.images.shape[0]),
        "recognized_by_teacher": float(task.health.accuracy),
        "fresh_generator": generator is None,
        "steps": steps,
        "loss": float(task.health.loss),
        "diversity": float(task.health.diversity),
        "classes": list(task.classes),
        **({"queries": endpoints.budget.spent} if teacher.record.answers_only else {}),
    }
    if as_json:
        write_json(summary)
        return
    if quiet:
        print_made(path)
        return
    output_console().print(plain(f"Picture: {path}"), soft_wrap=True)
    say(f"The teacher recognizes {summary['recognized_by_teacher']:.0%} of the {summary['images']} pictures.")
    least = FiveConfig().min_teacher_accuracy
    if task.health.accuracy < least:
        say(f"hf-free train leaves out tasks of which less than {least:.0%} is recognized: try more --steps.")
