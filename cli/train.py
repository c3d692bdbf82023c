"""`hf-free train`: teachers in, a run folder with a learner out."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_free.cli import options
from hf_free.cli.arguments import expand_list_files
from hf_free.cli.console import output_console, progress_console, say, write_json
from hf_free.cli.output import CONFIG_FILE, Interrupted, check_output, default_output, replacing
from hf_free.cli.publish import push_or_say_how
from hf_free.errors import ConfigError

if TYPE_CHECKING:
    from hf_free.config import FreeConfig

EXAMPLES = options.examples(
    "hf-free train --models org/a org/b@v2 ./local-model --max-minutes 30 --output runs/first",
    "hf-free train --models @teachers.txt --backbone resnet12_small --image-size 84",
    "hf-free train --config run.yaml --seed 1 --set five.inner_steps=10 bell.lr=1e-4",
    "hf-free train --from me/few-shot --models org/c --max-minutes 10 --output runs/second",
    "hf-free train --models org/a org/b --dry-run",
    "hf-free train --models org/a org/b --push-to-hub me/few-shot --private --license apache-2.0",
    "hf-free train --resume --output runs/first",
)


def train(
    models: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID...",
            help="Teachers: Hub ids (org/name, org/name@revision, org/name:0-4 for some classes), folders, "
            "collection:org/slug, @list.txt with one a line, or list.yaml.",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="YAML", help="Configuration file; flags and --set override it.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE...", help="Any other key, see docs/configuration.md."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="default (the best we found), paper, or released (FREE's code): what all else is laid over.",
        ),
    ] = None,
    seed: Annotated[str | None, typer.Option(metavar="INTEGER", help="Seed of everything random.")] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=options.LEARNER,
            help="Any timm model, or ours: conv4_64 (in default), resnet12_small, ...",
        ),
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option(
            metavar="PIXELS", rich_help_panel=options.LEARNER, help="Height and width it sees; 32 without it."
        ),
    ] = None,
    init_from: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="LEARNER",
            rich_help_panel=options.LEARNER,
            help="Add the teachers to a learner (id or folder), or start from timm:NAME.",
        ),
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(
            metavar="INTEGER", rich_help_panel=options.LENGTH, help="Outer steps at most; 1000 in paper and released."
        ),
    ] = None,
    max_minutes: Annotated[
        str | None,
        typer.Option(
            metavar="MINUTES", rich_help_panel=options.LENGTH, help="Wall-clock time at most; 30 in default."
        ),
    ] = None,
    validation_dataset: Annotated[
        str | None,
        typer.Option(
            metavar="ID_OR_DIR",
            rich_help_panel=options.DATA,
            help="Real pictures of other classes that choose the best checkpoint. Without: recovered ones.",
        ),
    ] = None,
    validation_split: Annotated[
        str | None,
        typer.Option(metavar="NAME", rich_help_panel=options.DATA, help="Without it: validation, else train."),
    ] = None,
    device: options.Device = None,
    mixed_precision: Annotated[
        str | None, typer.Option(metavar="TYPE", rich_help_panel=options.LENGTH, help="auto, no or bf16.")
    ] = None,
    memory: options.Memory = None,
    teacher_memory: options.TeacherMemory = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", rich_help_panel=options.OUTPUT, help="Folder of the run; a new one by default."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", rich_help_panel=options.OUTPUT, help="Replace an earlier run there.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", rich_help_panel=options.OUTPUT, help="Go on with the run in --output.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", rich_help_panel=options.OUTPUT, help="Show what would be pulled, plan and cost."),
    ] = False,
    as_json: options.Json = False,
    push_to_hub: Annotated[
        str | None,
        typer.Option(metavar="ORG/NAME", rich_help_panel=options.PUBLISH, help="Publish the learner there."),
    ] = None,
    private: options.Private = None,
    license_: Annotated[
        str | None,
        typer.Option("--license", metavar="ID", rich_help_panel=options.PUBLISH, help="The learner's licence."),
    ] = None,
    card_images: Annotated[
        bool | None,
        typer.Option(
            "--card-images/--no-card-images",
            rich_help_panel=options.PUBLISH,
            help="Recovered images in the card. Without either: only if every teacher is public.",
        ),
    ] = None,
    commit_message: options.CommitMessage = None,
    create_pr: options.CreatePr = None,
    own_networks: options.Import = None,
    token: options.Token = None,
    cache_dir: options.CacheDir = None,
) -> None:
    """Train a few-shot learner from teachers, without any data.

    Settings come from the recipe, then the YAML file, then flags, then --set; the last one wins.
    """
    # Numbers stay texts here: the configuration reads them, and its refusal names key, value and rule.
    flags = {
        "recipe": recipe,
        "models": expand_list_files(models) if models else None,
        "imports": [str(own_networks.expanduser().resolve())] if own_networks else None,  # --resume may run elsewhere
        "seed": seed,
        "learner": {"backbone": backbone, "image_size": image_size, "init_from": init_from},
        "trainer": {
            "steps": steps,
            "max_minutes": max_minutes,
            "device": device,
            "mixed_precision": mixed_precision,
            "memory": memory,
            "validation_dataset": validation_dataset,
            "validation_split": validation_split,
        },
        "hub": {
            "push_to_hub": push_to_hub,
            "private": private,
            "license": license_,
            "card_images": card_images,
            "commit_message": commit_message,
            "create_pr": create_pr,
            "cache_dir": str(cache_dir) if cache_dir else None,
            "teacher_memory": teacher_memory,
        },
    }
    if resume and output is None:
        raise ConfigError("--resume without --output", action="name the run: hf-free train --resume --output DIR")
    if output is not None and not dry_run:
        check_output(output, overwrite=overwrite, resume=resume)
    saved = output / CONFIG_FILE if resume and output is not None and config is None else config
    settings = build_config(flags, config=saved, assignments=assignments or [])
    check_teachers(settings.models, least=settings.least_teachers)
    if dry_run:
        _show_plan(settings, token=token, as_json=as_json)
        return
    _run(settings, output or default_output(settings.recipe), token, overwrite=overwrite, resume=resume, json=as_json)


def build_config(flags: dict[str, Any], *, config: Path | None, assignments: Sequence[str]) -> FreeConfig:
    """Lay the recipe's values, the YAML file, the flags and the assignments over each other.

    Args:
        flags: Nested values; None means the flag was not given.
        config: A YAML file.
        assignments: `section.key=value` texts.

    Raises:
        ConfigError: an unknown key, an impossible value, a file that cannot be read.
    """
    from hf_free.config import FreeConfig, merge, parse_assignments, read_yaml_mapping
    from hf_free.recipes import recipe_values

    given = read_yaml_mapping(config) if config is not None else {}
    given = merge(merge(given, _without_none(flags)), parse_assignments(assignments))
    recipe = given.get("recipe", "default")
    if recipe not in ("default", "paper", "released"):
        FreeConfig.from_dict(given)  # refuses it, with the rule
    return FreeConfig.from_dict(merge(recipe_values(recipe), given))


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    kept = {key: _without_none(value) if isinstance(value, dict) else value for key, value in values.items()}
    return {key: value for key, value in kept.items() if value is not None and value != {}}


def check_teachers(models: Sequence[str], *, least: int = 2) -> None:
    """Refuse a list of teachers that cannot make two tasks, before anything is fetched.

    One teacher (or one subset of a teacher's classes) is one task; a collection may hold any number.

    Args:
        models: The teachers' texts.
        least: Teachers that are needed; one is enough for a learner that has others already.

    Raises:
        ConfigError: no teacher, or one only.
        TeacherReferenceError: a text that names no teacher.
    """
    from hf_free.hub.reference import TeacherReference

    hint = "hf-free train --models ID ID ...; hf-free search finds some, hf-free demo needs none"
    if not models:
        raise ConfigError("no models given", allowed="two or more teachers", action=hint)
    from hf_free.hub.teacher_list import COLLECTION, is_teacher_list, read_teacher_list

    texts = [t for text in models for t in (read_teacher_list(text) if is_teacher_list(text) else [text])]
    references = [TeacherReference.parse(text) for text in texts]
    if len(set(references)) < least and not any(reference.collection == COLLECTION for reference in references):
        raise ConfigError(
            f"fewer than two tasks: the only teacher is {references[0]}",
            allowed="two or more different teachers; a learner of learning needs more than one task",
            action=hint,
        )


def _show_plan(settings: FreeConfig, *, token: str | None, as_json: bool) -> None:
    from hf_free.planning import plan

    planned = plan(settings, token=token, console=progress_console())
    if as_json:
        write_json(planned.to_dict())
    else:
        output_console().print(planned)
        say("Nothing was trained (--dry-run).")


def _run(settings: FreeConfig, output: Path, token: str | None, *, overwrite: bool, resume: bool, json: bool) -> None:
    from hf_free.planning import check_backbone

    check_backbone(settings)
    if settings.hub.push_to_hub:
        from hf_free.hub.client import check_can_push

        check_can_push(settings.hub.push_to_hub, token, private=settings.hub.private, create_pr=settings.hub.create_pr)
    say(f"Output folder: {output}")
    from hf_free.trainer import train as run_training

    with replacing(output, overwrite=overwrite):
        try:
            run_training(settings, output=output, token=token, resume=resume, console=progress_console())
        except KeyboardInterrupt:
            raise Interrupted(f"Resume with: hf-free train --resume --output {shlex.quote(str(output))}") from None
    learner = output / "learner"
    url = None
    if settings.hub.push_to_hub:
        url = push_or_say_how(
            learner,
            settings.hub.push_to_hub,
            token=token,
            private=settings.hub.private,
            commit_message=settings.hub.commit_message,
            create_pr=settings.hub.create_pr,
        )
    if json:
        write_json({"output": str(output), "learner": str(learner), "url": url})
        return
    console = output_console()
    console.print(f"Learner: {learner}" + (f"\nPublished: {url}" if url else ""), soft_wrap=True, markup=False)
    say(f"Measure it: hf-free evaluate {learner} --dataset ID_OR_DIR")
