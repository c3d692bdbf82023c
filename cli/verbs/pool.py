"""`hf-free pool`: a learner that is its teachers, without distilling them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_free.cli import options
from hf_free.cli.arguments import expand_list_files, given_values
from hf_free.cli.console import output_console, plain, print_made, progress_bar, say, where_published, write_json

EXAMPLES = options.examples(
    "hf-free pool --models org/a org/b org/c --output runs/pooled",
    "hf-free pool --models @teachers.txt --output runs/pooled --push-to-hub me/pooled",
    "hf-free pool --models org/a ./mine --output runs/pooled --include-weights",
    "hf-free pool --models @teachers.txt --keep 12 --output runs/thin",
    "hf-free pool --models org/signs org/letters --output runs/pooled --set learner.views=[identity]",
)

INSTEAD = {
    **{"models": "give --models", "imports": "give --import", "trainer.device": "give --device"},
    **{"memory.pictures": "give --pictures", "learner.backbone": "leave it out: the teachers are the network"},
    "learner.image_size": "leave it out: each teacher has its own; a YAML list can give it another",
    "hub.push_checkpoints": "leave it out: there are no checkpoints",
}
"""What to do in place of settings that are not read."""


def pool(
    models: Annotated[
        list[str],
        typer.Option(
            metavar="ID...", help="Teachers: Hub ids, folders, @list.txt, YAML lists, collections; one or more."
        ),
    ],
    output: options.LearnerFolder,
    config: Annotated[
        Path | None, typer.Option(metavar="YAML", help="A configuration: its sections learner, five and hub are read.")
    ] = None,
    assignments: options.SectionKeys = None,
    seed: options.Seed = 0,
    rounds: Annotated[
        int,
        typer.Option(
            parser=options.whole(0, 100),
            metavar="INTEGER",
            help="How often each teacher is inverted; 0 uses drawn pictures alone.",
        ),
    ] = 2,
    keep: Annotated[
        int | None,
        typer.Option(
            parser=options.whole(1, 100_000),
            metavar="INTEGER",
            help="Keep so many teachers: those that together say most of what all say.",
        ),
    ] = None,
    pictures: options.Pictures = None,
    overwrite: options.OverwriteLearner = False,
    include_weights: Annotated[
        bool,
        typer.Option(
            "--include-weights",
            rich_help_panel=options.PUBLISH,
            help="Copy the teachers' files into the learner's folder, if their licenses allow it.",
        ),
    ] = False,
    push_to_hub: Annotated[
        str | None,
        typer.Option(metavar="ORG/NAME", rich_help_panel=options.PUBLISH, help="Publish the learner there."),
    ] = None,
    private: options.Private = None,
    license_: options.License = None,
    commit_message: options.CommitMessage = None,
    create_pr: options.CreatePr = None,
    device: options.Device = None,
    teacher_memory: options.TeacherMemory = None,
    own_networks: options.Import = None,
    token: options.Token = None,
    cache_dir: options.CacheDir = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Join teachers into a few-shot learner without training one: best for few or strong teachers."""
    flags = {
        "seed": seed,
        "hub": {
            "push_to_hub": push_to_hub,
            "private": private,
            "license": license_,
            "commit_message": commit_message,
            "create_pr": create_pr,
            "cache_dir": str(cache_dir) if cache_dir else None,
            "teacher_memory": teacher_memory,
        },
    }
    from hf_free.config.tree import FreeConfig

    settings = FreeConfig.load(config, values=given_values(flags), assignments=assignments or [])
    options.check_assignments(assignments, ("learner", "five", "hub", "seed"), INSTEAD)
    hub = settings.hub
    options.check_publishes(hub.push_to_hub, private=private, create_pr=create_pr, message=commit_message)
    if hub.push_to_hub:
        from hf_free.hub.upload import LEARNER_FILES, check_can_push

        check_can_push(hub.push_to_hub, token, private=hub.private, create_pr=hub.create_pr, names=LEARNER_FILES)
    where = options.torch_device(device)
    from hf_free.backbones.custom import import_networks
    from hf_free.training.pool import pool as pool_teachers

    import_networks([own_networks] if own_networks else [])
    with progress_bar() as progress:
        pool_teachers(
            expand_list_files(models),
            output=output,
            overwrite=overwrite,
            include_weights=include_weights,
            learner=settings.learner,
            five=settings.five,
            hub=hub,
            pictures=pictures,
            rounds=rounds,
            keep=keep,
            seed=settings.seed,
            device=where,
            token=token,
            progress=progress,
        )
    url = None
    if hub.push_to_hub:
        from hf_free.learner.push import push_learner

        say(f"Uploading to {hub.push_to_hub}")
        url = push_learner(
            output,
            hub.push_to_hub,
            token=token,
            private=hub.private,
            commit_message=hub.commit_message,
            create_pr=hub.create_pr,
        )
    if as_json:
        write_json({"learner": str(output), "url": url})
        return
    if quiet:
        print_made(output)
        return
    published = f"\nPublished: {where_published(url, hub.push_to_hub or '')}" if url else ""
    output_console().print(plain(f"Learner: {output}{published}"), soft_wrap=True)
    say(f"Measure it: hf-free evaluate {output} --dataset ID_OR_DIR --transductive")
