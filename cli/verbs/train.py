"""`hf-free train`: teachers in, a run folder with a learner out."""

from __future__ import annotations

import signal
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
    progress_console,
    say,
    where_published,
    write_json,
)
from hf_free.cli.imitation import say_imitation
from hf_free.cli.tables import plan_tables
from hf_free.errors import ConfigError
from hf_free.runtime.given import from_home, real_path
from hf_free.runtime.launched import Launched, check_processes
from hf_free.training.output import default_output

if TYPE_CHECKING:
    from hf_free.config.tree import FreeConfig

EXAMPLES = options.examples(
    "hf-free train --models org/a org/b@v2 ./local-model --max-minutes 30 --output runs/first",
    "hf-free train --models @teachers.txt --backbone resnet12_small --image-size 84",
    "hf-free train --config run.yaml --seed 1 --set five.inner_steps=10 bell.lr=1e-4",
    "hf-free train --from me/few-shot --models org/c --max-minutes 10 --output runs/second",
    "hf-free train --models org/a org/b --dry-run",
    "hf-free train --models org/a org/b --push-to-hub me/few-shot --private --license apache-2.0",
    "hf-free train --models org/a org/b --num-processes 2 --output runs/first",
    "hf-free train --models org/a endpoint:https://host/birds --query-budget 20000 --output runs/first",
    "hf-free train --resume --output runs/first",
)


def train(
    context: typer.Context,
    models: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID...",
            help="Teachers: Hub ids (org/name, org/name@revision, org/name:0-4 for some classes), folders, "
            "collection:org/slug, endpoint:https://host/path, @list.txt with one per line, or list.yaml.",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="YAML", help="Configuration file; flags and --set override it.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE...", help="Any other setting; see docs/reference/configuration.md."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            "--recipe",
            metavar="NAME",
            help="Base settings: default (the best we found), paper (FREE), released (FREE's code, bugs included), "
            "or a peer; hf-free methods lists all.",
        ),
    ] = None,
    inversion: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="How teachers are inverted, if not as the method does; see hf-free methods."
        ),
    ] = None,
    seed: Annotated[str | None, typer.Option(metavar="INTEGER", help="Random seed.")] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=options.LEARNER,
            help="Any timm model, or one of ours: conv4_64 (the default), resnet12_small, ...",
        ),
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option(
            metavar="PIXELS", rich_help_panel=options.LEARNER, help="Height and width of its input. Default: 32."
        ),
    ] = None,
    init_from: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="LEARNER",
            rich_help_panel=options.LEARNER,
            help="Add the teachers to an existing learner (Hub id or folder), or start from timm:NAME.",
        ),
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(
            metavar="INTEGER",
            rich_help_panel=options.LENGTH,
            help="Maximum number of steps. With --method paper or released 999 unless given.",
        ),
    ] = None,
    max_minutes: Annotated[
        str | None,
        typer.Option(
            metavar="MINUTES",
            rich_help_panel=options.LENGTH,
            help="Maximum wall-clock time. With --method default 30 unless given.",
        ),
    ] = None,
    pool_first: Annotated[
        bool | None,
        typer.Option(
            "--pool-first/--no-pool-first",
            rich_help_panel=options.LEARNER,
            help="Pool the teachers, and have one network learn what they say together, instead of recovering tasks. "
            "Default: with a teacher of 10 classes or more, and 10 minutes or more, enough to ask all teachers.",
        ),
    ] = None,
    pictures: options.Pictures = None,
    validation_dataset: Annotated[
        str | None,
        typer.Option(
            metavar="ID_OR_DIR",
            rich_help_panel=options.DATA,
            help="Choose the checkpoint on real images of other classes. Default: on recovered images.",
        ),
    ] = None,
    validation_split: Annotated[
        str | None,
        typer.Option(metavar="NAME", rich_help_panel=options.DATA, help="Default: validation, else train."),
    ] = None,
    query_budget: options.QueryBudget = None,
    endpoint_token: options.EndpointToken = None,
    device: options.Device = None,
    mixed_precision: Annotated[
        str | None, typer.Option(metavar="TYPE", rich_help_panel=options.LENGTH, help="auto, no, bf16 or fp16.")
    ] = None,
    num_processes: options.NumProcesses = None,
    chains: Annotated[
        str | None,
        typer.Option(
            metavar="INTEGER",
            rich_help_panel=options.LENGTH,
            help="Parts that a step's work is cut into, a multiple of the processes. Default: one per process.",
        ),
    ] = None,
    deterministic: Annotated[
        bool | None,
        typer.Option(
            "--deterministic/--no-deterministic",
            rich_help_panel=options.LENGTH,
            help="Use algorithms that give the same numbers each time, on a GPU too. Default: off.",
        ),
    ] = None,
    memory: options.Memory = None,
    teacher_memory: options.TeacherMemory = None,
    log_with: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME...",
            rich_help_panel=options.OUTPUT,
            help="Trackers beside log.jsonl: tensorboard, trackio, wandb, mlflow, ...",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", rich_help_panel=options.OUTPUT, help="Run folder. Default: a new one in runs/."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", rich_help_panel=options.OUTPUT, help="Replace the run in --output.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", rich_help_panel=options.OUTPUT, help="Continue the run in --output.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", rich_help_panel=options.OUTPUT, help="Only show the plan: downloads, time and cost."
        ),
    ] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    push_to_hub: Annotated[
        str | None,
        typer.Option(
            metavar="ORG/NAME", rich_help_panel=options.PUBLISH, help="Publish the learner to this repository."
        ),
    ] = None,
    push_checkpoints: Annotated[
        str | None,
        typer.Option(
            metavar="ORG/NAME",
            rich_help_panel=options.PUBLISH,
            help="Push each checkpoint to this private repository; with --resume, go on from there if DIR is gone.",
        ),
    ] = None,
    private: options.Private = None,
    license_: options.License = None,
    card_images: Annotated[
        bool | None,
        typer.Option(
            "--card-images/--no-card-images",
            rich_help_panel=options.PUBLISH,
            help="Show recovered images in the card. Default: only if every teacher is public.",
        ),
    ] = None,
    commit_message: options.CommitMessage = None,
    create_pr: options.CreatePr = None,
    mark_predecessor: options.MarkPredecessor = None,
    own_networks: options.Import = None,
    token: options.Token = None,
    cache_dir: options.CacheDir = None,
) -> None:
    """Train a few-shot learner from teachers, without any data.

    Settings come from the method, then the YAML file, then flags, then --set; the last one wins.
    """
    # Numbers stay texts here: the configuration reads them, and its refusal names key, value and rule.
    flags = {
        "method": method,
        "inversion": inversion,
        "models": expand_list_files(models) if models else None,
        "imports": [str(real_path(from_home(own_networks)))] if own_networks else None,  # --resume may run elsewhere
        "seed": seed,
        "learner": {"backbone": backbone, "image_size": image_size, "init_from": init_from},
        "trainer": {
            "steps": steps,
            "max_minutes": max_minutes,
            "pool_first": pool_first,
            "device": device,
            "mixed_precision": mixed_precision,
            "deterministic": deterministic,
            "memory": memory,
            "chains": chains,
            "log_with": log_with or None,
            "validation_dataset": validation_dataset,
            "validation_split": validation_split,
        },
        "memory": {"pictures": str(pictures) if pictures else None},
        "queries": {"budget": query_budget},
        "hub": {
            "push_to_hub": push_to_hub,
            "push_checkpoints": push_checkpoints,
            "private": private,
            "license": license_,
            "card_images": card_images,
            "commit_message": commit_message,
            "create_pr": create_pr,
            "mark_predecessor": mark_predecessor,
            "cache_dir": str(cache_dir) if cache_dir else None,
            "teacher_memory": teacher_memory,
        },
    }
    if resume and output is None:
        raise ConfigError("--resume without --output", action="name the run: hf-free train --resume --output DIR")
    from hf_free.config.tree import FreeConfig
    from hf_free.training.folder import RunFolder

    here = Launched.here()
    if here.count > 1 and output is not None and not (resume or dry_run):
        from hf_free.training.launch import is_another_attempt

        if resume := is_another_attempt(RunFolder(output)):
            overwrite = False
            if here.is_first:
                say("Started again after a failure: this attempt goes on from the last checkpoint.")
    check_processes(num_processes, here)
    if resume and push_checkpoints and output is not None and not RunFolder(output).config.is_file():
        from hf_free.training.remote_checkpoints import restore_run

        if here.count > 1:
            raise ConfigError(
                f"{output} holds no run, and {here.count} processes of a launcher would fetch it at once",
                allowed="a folder that is there, or one process that fetches it",
                action="hf-free train --resume --num-processes N ..., which fetches it first",
            )
        restore_run(output, push_checkpoints, token=token, cache_dir=str(cache_dir) if cache_dir else None)
    if output is not None and here.is_first:
        RunFolder(output).check_usable(overwrite=overwrite, resume=resume)
    saved = _saved(output) if resume and output is not None and config is None else config
    settings = FreeConfig.load(saved, values=given_values(flags), assignments=assignments or [])
    publishes = settings.hub.push_to_hub
    options.check_publishes(publishes, private=private, create_pr=create_pr, message=commit_message)
    _check_teachers(settings, output if resume else None)
    if settings.trainer.pool_first:
        from hf_free.training.pooled_first import pools_first

        pools_first(settings)  # refused here once, not in every process
    if dry_run:
        if here.is_first:
            tokens = endpoint_token or []
            _show_plan(settings, num_processes or here.count, token=token, endpoint_tokens=tokens, as_json=as_json)
        return
    if num_processes is not None and num_processes > here.count:
        from hf_free.training.launch import launch

        place = output or default_output(settings.method)  # named here: all processes have to know one folder
        code = launch(context.obj if output else [*context.obj, "--output", str(place)], num_processes)
        is_stopped = code > 128 and RunFolder(place).last_step() is not None
        raise typer.Exit(RESUME_CODE if is_stopped else code)
    place, tokens = output or default_output(settings.method), endpoint_token or []
    _run(settings, place, token, tokens, overwrite=overwrite, resume=resume, json=as_json, quiet=quiet)


def _saved(output: Path) -> Path:
    """The configuration of a run that goes on, if nothing of it is lost."""
    from hf_free.training.folder import RunFolder
    from hf_free.training.resuming import check_is_whole

    check_is_whole(RunFolder(output).config, RunFolder(output).checkpoints.newest())
    return RunFolder(output).config


def _check_teachers(settings: FreeConfig, resumed: Path | None) -> None:
    """Refuse a run whose teachers cannot make two tasks, or of which only Python can give them again."""
    from hf_free.teachers.listing import check_teachers
    from hf_free.training.folder import RunFolder

    if resumed is not None and not settings.models:
        from hf_free.training.checkpoint import check_given_again, teachers_to_resume

        check_given_again(RunFolder(resumed), teachers_to_resume(RunFolder(resumed), []), None)
    check_teachers(settings.models, least=settings.least_tasks, most_classes=settings.five.max_classes)


def _show_plan(
    settings: FreeConfig, processes: int, *, token: str | None, endpoint_tokens: list[str], as_json: bool
) -> None:
    from hf_free.training.plan import plan

    console = progress_console()
    planned = plan(settings, token=token, console=console, endpoint_tokens=endpoint_tokens, processes=processes)
    if as_json:
        write_json(planned.to_dict())
    else:
        output_console().print(plan_tables(planned))
        say("Nothing was trained (--dry-run).")


def _run(
    settings: FreeConfig,
    output: Path,
    token: str | None,
    endpoint_tokens: list[str],
    *,
    overwrite: bool,
    resume: bool,
    json: bool,
    quiet: bool,
) -> None:
    from hf_free.training.setup import check_backbone

    check_backbone(settings.learner, settings.imports)
    is_first = Launched.here().is_first
    hub, repo_id = settings.hub, settings.hub.push_to_hub
    if repo_id and is_first:
        from hf_free.hub.upload import LEARNER_FILES, check_can_push

        check_can_push(repo_id, token, private=hub.private, create_pr=hub.create_pr, names=LEARNER_FILES)
    if settings.hub.mark_predecessor and is_first:
        _check_predecessor(settings, token)
    from hf_free.training.folder import RunFolder
    from hf_free.training.trainer import train as run_training

    try:
        made = run_training(
            settings,
            output=output,
            token=token,
            resume=resume,
            overwrite=overwrite,
            console=progress_console(),
            endpoint_tokens=endpoint_tokens,
        )
    except KeyboardInterrupt as stopped:
        run = RunFolder(output)
        if not run.can_go_on():
            number = getattr(stopped, "number", None) or signal.SIGINT
            raise Interrupted("Nothing was trained yet: type the same command again.", 128 + number) from None
        way = run.way_to_finish()
        raise Interrupted(way[0].upper() + way[1:], RESUME_CODE) from None
    if not is_first:
        return
    learner = output / "learner"
    url = None
    if repo_id:
        from hf_free.learner.push import plan_mark_of, push_learner

        say(f"Uploading to {repo_id}")
        new_version = (
            plan_mark_of(learner, repo_id, token=token, private=hub.private, create_pr=hub.create_pr)
            if hub.mark_predecessor
            else None
        )
        url = push_learner(
            learner,
            repo_id,
            token=token,
            private=hub.private,
            commit_message=hub.commit_message,
            create_pr=hub.create_pr,
            new_version=new_version,
        )
    if json:
        write_json({"output": str(output), "learner": str(learner), "url": url})
        return
    if quiet:
        print_made(learner)
        return
    published = f"\nPublished: {where_published(url, settings.hub.push_to_hub or '')}" if url else ""
    output_console().print(plain(f"Learner: {learner}{published}"), soft_wrap=True)
    say_imitation(made)
    beside = f" --compare {output / 'pooled'}" if made.record.imitation else ""
    say(f"Measure it: hf-free evaluate {learner} --dataset ID_OR_DIR{beside}")


def _check_predecessor(settings: FreeConfig, token: str | None) -> None:
    """Ask before anything is trained whether the predecessor's card may be changed when the learner is published."""
    from hf_free.publishing.new_version import plan_new_version, predecessor_on_hub
    from hf_free.training.absolute_paths import absolute_config

    hub = settings.hub
    if hub.push_to_hub is None:
        raise ConfigError(
            "--mark-predecessor without --push-to-hub",
            allowed="both: the predecessor's card names where the new learner is",
            action="add --push-to-hub ORG/NAME, or leave it to hf-free push",
        )
    predecessor = predecessor_on_hub(absolute_config(settings).learner.init_from)
    plan_new_version(predecessor, hub.push_to_hub, token=token, private=hub.private, create_pr=hub.create_pr)
