"""`hf-free distill`: one small network in place of a pooled learner."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_free.cli import options
from hf_free.cli.arguments import expand_list_files, given_values
from hf_free.cli.console import (
    RESUME_CODE,
    Interrupted,
    output_console,
    print_made,
    progress_bar,
    say,
    write_json,
)
from hf_free.errors import ConfigError
from hf_free.training.location import learner_location

if TYPE_CHECKING:
    from hf_free.config.tree import FreeConfig

EXAMPLES = options.examples(
    "hf-free distill --models org/a org/b org/c --output runs/small --max-minutes 30",
    "hf-free distill runs/pooled --output runs/small --max-minutes 30",
    "hf-free distill me/pooled --output runs/small --set learner.backbone=resnet12_small",
)


def distill(
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
        float, typer.Option(metavar="MINUTES", rich_help_panel=options.LENGTH, help="How long it learns.")
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
    seed: options.Seed = 0,
    overwrite: options.OverwriteLearner = False,
    device: options.Device = None,
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
    from hf_free.training.distill import NETWORK, USUAL, check_request, checkpoints_of
    from hf_free.training.distill import distill as distill_learner

    usual = {
        "learner": {"backbone": NETWORK},
        "bell": {key: getattr(USUAL, key) for key in ("batch_size", "lr", "matrix_lr")},
    }
    settings = FreeConfig.load(config, values=given_values(flags), assignments=assignments or [], usual=usual)
    where = options.torch_device(device)
    if (pooled is None) == (not models):
        raise ConfigError(
            "no pooled learner and no teachers" if pooled is None else f"the pooled learner {pooled} and --models",
            allowed="one of them",
            action="hf-free distill POOLED --output DIR, or hf-free distill --models ID... --output DIR",
        )
    from hf_free.backbones.custom import import_networks
    from hf_free.evaluation.flops import operations
    from hf_free.learner.meta_learner import MetaLearner
    from hf_free.provenance.run_record import Imitation
    from hf_free.runtime.text import count_text

    import_networks([own_networks] if own_networks else [])
    if pooled is None:
        check_request(  # pooling takes minutes
            output,
            minutes=max_minutes,
            learner=settings.learner,
            mixed_precision=settings.trainer.mixed_precision,
            overwrite=overwrite,
            resume=resume,
        )
        pooled = str(output.with_name(f"{output.name}-pooled"))
        if not (resume and Path(pooled).is_dir()):
            _pool(models or [], Path(pooled), settings, overwrite=overwrite, device=where, token=token)
    location = learner_location(pooled)
    source = MetaLearner.from_pretrained(location, token=token, cache_dir=cache_dir, map_location=where)
    network, is_usual = settings.learner, settings.learner.views == LearnerConfig().views
    if is_usual and not any(text.startswith("learner.views") for text in assignments or ()):
        network = replace(network, views=source.config.views)  # no others were asked for: digits stay unmirrored
    with progress_bar() as progress:
        made = distill_learner(
            source,
            output,
            minutes=max_minutes,
            learner=network,
            bell=settings.bell,
            hub=settings.hub,
            overwrite=overwrite,
            resume=resume,
            seed=settings.seed,
            device=where,
            mixed_precision=settings.trainer.mixed_precision,
            token=token,
            progress=progress,
        )
    if checkpoints_of(output).folders():  # a signal ended it before its time was over
        raise Interrupted(
            f"{output} is a learner of what was learned so far. Go on with it: the same command with --resume.",
            RESUME_CODE,
        )
    done = made.record.imitation or Imitation()
    if as_json:
        write_json({"learner": str(output), **done.to_dict()})
        return
    if quiet:
        print_made(output)
        return
    output_console().print(f"Learner: {output}", soft_wrap=True, markup=False)
    say(f"On new drawn pictures its embedding agrees with the pooled learner's to {done.agreement or 0:.2f} of 1.")
    before, after = (
        f"{operations(flops or 0)} and {count_text(parameters or 0)} weights"
        for flops, parameters in ((done.pooled_flops, done.pooled_parameters), (done.flops, done.parameters))
    )
    say(f"Per view of a picture: {after}; all teachers take {before}.")
    say(f"Measure both: hf-free evaluate {output} --dataset ID_OR_DIR --compare {pooled}")


def _pool(
    models: list[str], folder: Path, settings: FreeConfig, *, overwrite: bool, device: str, token: str | None
) -> None:
    """Make the pooled learner of some teachers, and save it."""
    from hf_free.training.pool import pool as pool_teachers

    with progress_bar() as progress:
        pool_teachers(
            expand_list_files(models),
            output=folder,
            overwrite=overwrite,
            learner=settings.learner,
            five=settings.five,
            hub=settings.hub,
            seed=settings.seed,
            device=device,
            token=token,
            progress=progress,
        )
    say(f"Pooled learner: {folder}")
