"""`hf-free distill`: one small network in place of a pooled learner."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_free.cli import options
from hf_free.cli.arguments import expand_list_files, given_values
from hf_free.cli.console import (
    RESUME_CODE,
    Interrupted,
    output_console,
    plain,
    print_made,
    progress_bar,
    say,
    write_json,
)
from hf_free.cli.imitation import say_imitation
from hf_free.errors import ConfigError
from hf_free.runtime.launched import Launched, check_processes
from hf_free.training.location import learner_location

if TYPE_CHECKING:
    from hf_free.config.tree import FreeConfig

EXAMPLES = options.examples(
    "hf-free distill --models org/a org/b org/c --output runs/small --max-minutes 30",
    "hf-free distill runs/pooled --output runs/small --max-minutes 30",
    "hf-free distill me/pooled --output runs/small --set learner.backbone=resnet12_small",
    "hf-free distill runs/pooled --output runs/small --start-from best",
    "hf-free distill runs/pooled --output runs/small --num-processes 2",
)

INSTEAD = {
    **{"models": "give --models", "imports": "give --import", "trainer.device": "give --device"},
    **{"memory.pictures": "give --pictures", "trainer.max_minutes": "give --max-minutes"},
    **dict.fromkeys(("hub.push_to_hub", "hub.push_checkpoints"), "push it afterwards: hf-free push DIR ORG/NAME"),
}
"""What to do in place of settings that are not read."""


def distill(
    context: typer.Context,
    output: options.LearnerFolder,
    pooled: Annotated[
        str | None, typer.Argument(metavar="POOLED", help="A learner that hf-free pool made: its folder or Hub id.")
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID...",
            help="Teachers instead of POOLED: they are pooled first, as hf-free pool does, in DIR-pooled.",
        ),
    ] = None,
    max_minutes: Annotated[
        float,
        typer.Option(
            parser=options.minutes, metavar="MINUTES", rich_help_panel=options.LENGTH, help="How long it learns."
        ),
    ] = 30.0,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            rich_help_panel=options.OUTPUT,
            help="Go on with a learner in --output that was stopped or killed; with the same flags.",
        ),
    ] = False,
    backbone: Annotated[
        str | None, typer.Option(metavar="NAME", help="The network, a timm model name; default: conv4_384.")
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(
            metavar="TEACHER",
            help="Let this teacher's own network learn on, by its Hub id or folder; best: the most suitable one. What "
            "comes out is derived from its weights.",
        ),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            parser=options.whole(8, 1024), metavar="INTEGER", help="Height and width that it sees; default: 32."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="YAML", help="A configuration: its sections learner, bell and hub are read.")
    ] = None,
    assignments: options.SectionKeys = None,
    pictures: options.Pictures = None,
    seed: options.Seed = 0,
    overwrite: options.OverwriteLearner = False,
    device: options.Device = None,
    num_processes: options.NumProcesses = None,
    own_networks: options.Import = None,
    token: options.Token = None,
    cache_dir: options.CacheDir = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make one small network that imitates a pooled learner: less accurate, at a fraction of its cost per picture."""
    flags = {
        "seed": seed,
        "learner": {"backbone": backbone, "image_size": image_size},
        "hub": {"cache_dir": str(cache_dir) if cache_dir else None},
    }
    from hf_free.config.sections import LearnerConfig
    from hf_free.config.tree import FreeConfig
    from hf_free.training.distill import NETWORK, USUAL, USUAL_FROM_A_TEACHER, check_request, checkpoints_of
    from hf_free.training.distill import distill as distill_learner

    rates = USUAL if start_from is None else USUAL_FROM_A_TEACHER
    usual = {
        "learner": {"backbone": NETWORK} if start_from is None else {},
        "bell": {key: getattr(rates, key) for key in ("batch_size", "lr", "matrix_lr")},
    }
    settings = FreeConfig.load(config, values=given_values(flags), assignments=assignments or [], usual=usual)
    read = ("learner", "bell", "hub", "seed", "trainer.mixed_precision", *(("five",) if models else ("five.flip",)))
    options.check_assignments(assignments, read, INSTEAD)
    where = options.torch_device(device)
    if (pooled is None) == (not models):
        raise ConfigError(
            "no pooled learner and no teachers" if pooled is None else f"the pooled learner {pooled} and --models",
            allowed="one of them",
            action="hf-free distill POOLED --output DIR, or hf-free distill --models ID... --output DIR",
        )
    from hf_free.backbones.custom import import_networks
    from hf_free.provenance.run_record import Imitation

    import_networks([own_networks] if own_networks else [])
    here = Launched.here()
    check_processes(num_processes, here)
    starts_others = num_processes is not None and num_processes > here.count
    if pooled is None or starts_others:
        check_request(  # pooling takes minutes, and each of several processes would refuse
            output,
            minutes=max_minutes,
            learner=settings.learner,
            mixed_precision=settings.trainer.mixed_precision,
            overwrite=overwrite,
            resume=resume,
            start_from=start_from,
        )
    if pooled is None:
        pooled = str(output.with_name(f"{output.name}-pooled"))
        if not ((resume or here.count > 1) and Path(pooled).is_dir()):
            _pool(
                models or [],
                Path(pooled),
                settings,
                here,
                pictures=pictures,
                overwrite=overwrite,
                device=where,
                token=token,
            )
    location = learner_location(pooled)
    if num_processes is not None and starts_others:
        raise typer.Exit(_in_processes(num_processes, context.obj, location, output))
    no_views_asked = settings.learner.views == LearnerConfig().views and not any(
        text.startswith("learner.views") for text in assignments or ()
    )
    with progress_bar() if here.is_first else nullcontext() as progress:
        made = distill_learner(
            location,
            output,
            minutes=max_minutes,
            learner=settings.learner,
            keep_views=no_views_asked,  # digits stay unmirrored
            bell=settings.bell,
            hub=settings.hub,
            pictures=pictures,
            overwrite=overwrite,
            resume=resume,
            start_from=start_from,
            seed=settings.seed,
            device=where,
            mixed_precision=settings.trainer.mixed_precision,
            token=token,
            progress=progress,
        )
    if not here.is_first:
        return
    if checkpoints_of(output).folders():  # a signal ended it before its time was over
        raise Interrupted(
            f"{output} is a learner of what was learned so far. Go on with it: the same command with --resume.",
            RESUME_CODE,
        )
    done = made.record.imitation or Imitation()
    begun = None if done.started_from is None else made.record.teachers[done.started_from].reference
    if as_json:
        write_json({"learner": str(output), **done.to_dict(), "started_from": begun})
        return
    if quiet:
        print_made(output)
        return
    output_console().print(plain(f"Learner: {output}"), soft_wrap=True)
    say_imitation(made)
    say(f"Measure both: hf-free evaluate {output} --dataset ID_OR_DIR --compare {pooled}")


def _in_processes(count: int, words: list[str], location: str, output: Path) -> int:
    """Run this command in several processes; its exit code.

    Args:
        count: How many.
        words: The command line without the program's name.
        location: The pooled learner.
        output: Folder of the learner.
    """
    from hf_free.hub.names import check_repo_id
    from hf_free.training.distill import checkpoints_of
    from hf_free.training.launch import launch

    if not Path(location).is_dir():
        check_repo_id(location.partition("@")[0])  # here once, in place of once in every process
    code = launch(words, count)
    return RESUME_CODE if code > 128 and checkpoints_of(output).folders() else code


def _pool(
    models: list[str],
    folder: Path,
    settings: FreeConfig,
    here: Launched,
    *,
    pictures: Path | None,
    overwrite: bool,
    device: str,
    token: str | None,
) -> None:
    """Make the pooled learner of some teachers, and save it; one process does."""
    if here.count > 1:
        raise ConfigError(
            f"{folder} is not there, and {here.count} processes of a launcher would make it at once",
            allowed="a pooled learner",
            action="hf-free pool --models ID... --output DIR, and name DIR in place of --models",
        )
    from hf_free.training.pool import pool as pool_teachers

    with progress_bar() as progress:
        pool_teachers(
            expand_list_files(models),
            output=folder,
            overwrite=overwrite,
            learner=settings.learner,
            five=settings.five,
            hub=settings.hub,
            pictures=pictures,
            seed=settings.seed,
            device=device,
            token=token,
            progress=progress,
        )
    say(f"Pooled learner: {folder}")
