"""How a run is put together, in one order for training and planning.

First its parts: checks, device, previous learner, teachers, layout, learner, method. Then the run: budget, folder,
memory, state.

The order is part of a run: every refusal comes before anything is written.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from hf_free.backbones.custom import import_networks
from hf_free.config.init_from import InitFrom
from hf_free.config.recipes import Defects
from hf_free.config.sections import BellConfig, LearnerConfig, TrainerConfig
from hf_free.config.tree import FreeConfig
from hf_free.data.logits import LogitLayout
from hf_free.data.procedural.mixture import picture_colors
from hf_free.errors import ConfigError
from hf_free.inversion.base import Inverter
from hf_free.learner.backbone import build_backbone, check_can_learn, check_takes_pictures, check_timm_start
from hf_free.learner.batchnorm import BatchNormMode
from hf_free.learner.embedding import Embedding
from hf_free.learner.inputs import InputSettings
from hf_free.learner.meta_learner import MetaLearner
from hf_free.learner.precision import FP32_NOTE, fitting_precision
from hf_free.memory.bank import TaskMemory
from hf_free.memory.filling import Filling
from hf_free.metalearning.continual import PreviousLearner, label_sources, lay_out
from hf_free.methods.base import MethodSettings
from hf_free.methods.registry import METHODS, inverter_of
from hf_free.provenance.reading import list_of, object_of
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.runtime.allocator import keep_freed_memory
from hf_free.runtime.chains import Chains
from hf_free.runtime.device import Precision, check_can_compile, choose_device
from hf_free.runtime.distributed import ALONE, Ranks, make_accelerator, remember, seed_everything
from hf_free.runtime.energy import EnergyMeter
from hf_free.runtime.random_streams import RandomStreams
from hf_free.runtime.saved_json import read_saved
from hf_free.runtime.tracking import Trackers, check_installed
from hf_free.teachers.endpoints import EndpointAccess
from hf_free.teachers.pool import TeacherPool
from hf_free.training.absolute_paths import absolute_config
from hf_free.training.black_boxes import check_black_boxes, queries_until
from hf_free.training.budgeting import Budget, least_budget, make_budget
from hf_free.training.checkpoint import (
    check_given_again,
    choose_checkpoint,
    load_checkpoint,
    teachers_to_resume,
    write_teachers,
)
from hf_free.training.folder import RunFolder, learner_of_run
from hf_free.training.notices import notes_on_distillation, start_notes
from hf_free.training.own_pictures import read_own_pictures
from hf_free.training.progress import Console, FetchProgress, say_resumed
from hf_free.training.remote_checkpoints import RemoteCheckpoints
from hf_free.training.run import Gathered, Parts, Run
from hf_free.training.schedule import CheckpointSchedule, Clock
from hf_free.training.screening import check_enough, note_teachers, welcome_back
from hf_free.training.selection import load_validation, make_selector
from hf_free.training.sharing import (
    Division,
    check_chains,
    check_chains_of_teachers,
    check_scaled,
    check_shared_learner,
    number_of_chains,
)
from hf_free.training.state import RunState
from hf_free.training.trackers import tracked_settings
from hf_free.training.warm_up import WarmUp

logger = logging.getLogger(__name__)


def gather(
    config: FreeConfig,
    *,
    models: Sequence[str] | Sequence[TeacherRecord] | None = None,
    token: str | None = None,
    pool: TeacherPool | None = None,
    console: Console | None = None,
    warms_up: bool = False,
    is_planned: bool = False,
    ranks: Ranks = ALONE,
    begun: Division | None = None,
    endpoints: EndpointAccess | None = None,
    absent: Collection[int] = (),
) -> Gathered:
    """What a run starts from, its teachers among it; nothing is written.

    Args:
        config: The run's configuration.
        models: Its teachers; None takes the configuration's.
        token: Hub token, for private and gated teachers.
        pool: Teachers already loaded; None loads `models`.
        console: Where downloads are shown; None shows none.
        warms_up: Whether warm-up steps are done while teachers are on their way.
        is_planned: Whether it is only planned: what there is to know of the teachers is left to the plan to say.
        ranks: The processes of the run.
        begun: How the run did its steps before, where it is resumed.
        endpoints: How black boxes are asked; None keeps no answers.
        absent: Places of teachers that an earlier start of the run lost, see `TeacherPool`.

    Raises:
        ConfigError: a device that is not there, black boxes for a method that needs gradients, another backbone
            than the learner's that is continued, or a validation set named test.
        DatasetError: a validation set that is not there, or too small for an episode.
        LearnerError: a backbone that does not exist, or no learner where `learner.init_from` says.
        RunError: too few usable teachers.
    """
    # ---- checks
    check_backbone(config.learner, config.imports)
    check_installed(config.trainer.log_with)

    # ---- random numbers, device
    seed_everything(config.seed)  # for code that is not ours
    streams = RandomStreams(config.seed)
    chains = Chains(number_of_chains(config.trainer.chains, ranks.count, begun), ranks=ranks, streams=streams)
    check_chains(config.five, config.bell, Defects.named(config.defects), chains.count)
    check_shared_learner(config.bell, chains.count, ranks.count, compiles=config.trainer.compile)
    check_scaled(config.bell, config.trainer.mixed_precision)
    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    keep_freed_memory()
    device = choose_device(config.trainer.device) if ranks.count == 1 else ranks.device
    precision = Precision.choose(config.trainer.mixed_precision, device, channels_last=config.trainer.channels_last)

    # ---- previous learner, validation set
    previous, cache_dir = None, config.hub.cache_dir
    if config.continues_learner and config.learner.init_from is not None:
        start = config.learner.init_from
        source = str(learner_of_run(Path(start))) if Path(start).is_dir() else start
        previous, learner_config = PreviousLearner.load(
            config.learner, source=source, recipe=config.method, token=token, cache_dir=cache_dir
        )
        config = replace(config, learner=learner_config)
    validation = load_validation(config.trainer, config.bell, config.learner, token=token, cache_dir=cache_dir)

    # ---- teachers, and a warm-up while they arrive
    state = RunState(chains=chains.count, processes=ranks.count)
    with FetchProgress(console) as fetching:
        settings = MethodSettings.of(config)
        make = partial(inverter_of(settings), settings, device, precision.of_unscaled, streams, chains)
        size = config.learner.image_size
        warm_up = WarmUp(make, config.five, config.trainer, state, streams, fetching.show_step, image_size=size)
        if pool is None:  # an empty one stays, with its reasons
            pool = TeacherPool(
                config.models if models is None else models,
                budget=config.hub.teacher_memory,
                device=device,
                token=token,
                cache_dir=cache_dir,
                strict=True,
                fetched=fetching.show,
                meanwhile=warm_up.step if warms_up and chains.count == 1 else None,
                precision=precision,
                endpoints=endpoints or EndpointAccess.of(config.queries),
                chains=chains,
                absent=absent,
            )
    if pool.black_boxes:
        check_black_boxes(pool, warm_up.inverter, config.bell, method=config.method)
    if is_planned:
        state.skipped += [{"reference": reference, "reason": reason} for reference, reason in pool.skipped]
    else:
        note_teachers(pool, config.hub, state, previous, config.learner.views)
        for note in notes_on_distillation(config.five, config.bell, pool.records):
            logger.warning("%s", note)
    check_enough(pool, state, config.least_tasks, config.five.max_classes)
    check_chains_of_teachers(chains.count, len(pool))
    return Gathered(
        config=config,
        device=device,
        precision=precision,
        streams=streams,
        chains=chains,
        previous=previous,
        validation=validation,
        pool=pool,
        state=state,
        warm_up=warm_up,
    )


def assemble(gathered: Gathered, *, token: str | None = None) -> Parts:
    """The parts of a run, before it begins; nothing is written.

    Args:
        gathered: What `gather` gave.
        token: Hub token, for a learner that starts from weights there.

    Raises:
        LearnerError: no weights where `learner.init_from` says.
    """
    config, pool, previous, device = gathered.config, gathered.pool, gathered.previous, gathered.device
    precision, defects = gathered.precision, Defects.named(config.defects)

    # ---- layout of the answers
    layout = lay_out(pool.records, previous, seed=config.seed)
    if previous is not None:
        previous.learner.to(device)

    # ---- learner
    with gathered.streams.seeding("learner"):
        learner = make_learner(
            config.learner,
            config.bell,
            pool.records,
            layout,
            previous=previous,
            defects=defects,
            token=token,
            cache_dir=config.hub.cache_dir,
        ).to(device)
    learner.backbone.to(memory_format=torch.channels_last if precision.channels_last else torch.contiguous_format)

    # ---- method
    method, inverter = METHODS[config.method], gathered.warm_up.inverter
    learner_precision = fitting_precision(learner, precision)
    objective = method.objective(
        MethodSettings.of(config), learner, layout, pool.records, learner_precision, gathered.streams, gathered.chains
    )
    method.connect(inverter, objective, pool.records)
    return Parts(
        **vars(gathered),
        learner_precision=learner_precision,
        layout=layout,
        learner=learner,
        inverter=inverter,
        objective=objective,
    )


def prepare(
    config: FreeConfig,
    folder: RunFolder,
    *,
    token: str | None = None,
    resume: bool = False,
    pool: TeacherPool | None = None,
    console: Console | None = None,
    ranks: Ranks = ALONE,
    endpoint_tokens: Sequence[str] = (),
    energy: EnergyMeter | None = None,
) -> Run:
    """A run that is ready for its next step; its folder is begun.

    Args:
        config: The run's configuration.
        folder: The run's folder, claimed by this process.
        token: Hub token.
        resume: Whether it goes on from the checkpoint in the folder.
        pool: Teachers already loaded; None loads the configuration's.
        console: Where downloads are shown; None shows none.
        ranks: The processes of the run, each of which prepares it; the first alone writes.
        endpoint_tokens: Tokens of black boxes, see `hf_free.teachers.endpoints.EndpointAccess`.
        energy: Measures what the run takes; None measures nothing.

    Raises:
        RunError: too few usable teachers, too little memory or time, or nothing to resume; see `gather` for more.
    """
    config = absolute_config(config)
    models, chosen, begun, gone, spent = None, None, None, list[object](), 0
    remote = (
        RemoteCheckpoints(config.hub.push_checkpoints, token)
        if config.hub.push_checkpoints and ranks.is_first
        else None
    )
    if remote is not None:
        remote.check()
    if resume:
        chosen = choose_checkpoint(folder, config.to_dict())
        models = teachers_to_resume(folder, config.models)
        check_given_again(folder, models, pool)
        saved = object_of(read_saved(chosen.folder / "state.json", action="start again with --overwrite"))
        begun, gone = Division.of(saved), list_of(saved.get("gone"))
        if ranks.is_first and any(isinstance(one, TeacherRecord) and one.answers_only for one in models):
            spent = queries_until(saved, folder, RunFolder(chosen.folder / "run"))  # the first asks for all
        say_resumed(console, chosen)
    access = EndpointAccess.of(config.queries, folder=folder.answers, tokens=endpoint_tokens)
    access.budget.expect(spent)
    gathered = gather(
        config,
        models=models,
        token=token,
        pool=pool,
        console=console,
        warms_up=not resume,
        ranks=ranks,
        begun=begun,
        endpoints=access,
        absent=[place for place in gone if isinstance(place, int)],
    )
    if access.budget.missing:
        logger.warning(
            "%d of the %d queries that this run has spent are in no file of %s: they stay counted",
            access.budget.missing,
            access.budget.spent,
            folder.answers,
        )
    parts = assemble(gathered, token=token)
    config, learner, layout, objective = parts.config, parts.learner, parts.layout, parts.objective
    if parts.learner_precision != parts.precision:
        logger.warning(FP32_NOTE.format(precision=parts.precision.name))

    classes = [] if parts.validation is None else parts.validation.class_names
    for note in start_notes(config.queries, parts.pool.records, classes, has_tokens=bool(endpoint_tokens)):
        logger.warning("%s", note)

    # ---- budget
    is_timed = config.trainer.max_minutes is not None and not resume and ranks.count == 1
    budget = least_budget(ranks.gather(budget_of(parts, timed=is_timed)))
    for note in budget.notes:
        logger.warning("%s", note)
    portions = budget.portions
    parts.inverter.most_images, parts.inverter.at_once = portions.task, portions.inversions

    size = config.learner.channels, config.learner.image_size
    own = read_own_pictures(config.memory.pictures, size, flip=config.five.flip)

    # ---- folder: a start that fails before this leaves nothing in it; one that goes on is written down after a step
    if ranks.is_first and chosen is None:
        folder.begin(config.to_yaml(), resume=resume, log=parts.warm_up.log)
        write_teachers(folder, config.models, parts.pool)
    ranks.wait()

    # ---- memory
    if config.trainer.compile:
        compile_networks(parts.inverter, learner, config.bell, parts.device)
    sizes, asked = layout.sizes if objective.asks_teachers else [], config.memory.teachers_per_image
    memory, held_out = (TaskMemory(size, sizes=sizes, asked=asked) for size in (portions.memory, portions.held_out))
    filling = Filling(
        memory,
        held_out,
        parts.pool,
        label_sources(parts.pool, layout, parts.previous),
        layout,
        parts.precision,
        size=size,
        asked=asked,
        seed=config.seed,
        drawn=config.memory.drawn_per_step,
        own=own,
        at_once=portions.asked,
        last_task_only=Defects.named(config.defects).store_last_teacher_only,
        streams=parts.streams,
        chains=parts.chains,
    )
    selector = make_selector(
        config.trainer, config.bell, objective, held_out, parts.validation, at_once=portions.embedded
    )

    # ---- state
    accelerator = make_accelerator(parts.device)
    modules = (*parts.inverter.modules().values(), *objective.modules().values())
    remember(accelerator, [learner, *modules], [*parts.inverter.optimizers(), *objective.optimizers()])
    run = Run(
        **vars(parts),
        folder=folder,
        budget=budget,
        memory=memory,
        held_out=held_out,
        filling=filling,
        selector=selector,
        accelerator=accelerator,
        trackers=Trackers(),
        remote=remote,
        clock=Clock(
            config.trainer,
            parts.state.seconds,
            reserve=budget.forecast.reserve_seconds,
            recover_share=config.five.recover_share,
        ),
        checkpoints=CheckpointSchedule(config.trainer, parts.state.seconds),
        energy=energy or EnergyMeter(active=False),
    )
    if chosen is not None:
        run.go_on_from(load_checkpoint(run, chosen))
        welcome_back(run.pool, run.state)
        check_enough(run.pool, run.state, config.least_tasks, config.five.max_classes)
    settings = tracked_settings(config.to_dict())
    run.trackers = Trackers(
        config.trainer.log_with if ranks.is_first else (), folder=folder.trackers, settings=settings
    )
    return run


def budget_of(parts: Parts, *, timed: bool = True, refuse: bool = True, forecast_for: int = 1) -> Budget:
    """Measure the parts of a run, see `hf_free.training.budgeting.make_budget`."""
    return make_budget(
        parts.workload,
        parts.inverter,
        parts.pool,
        parts.layout,
        parts.objective,
        parts.precision,
        timed=timed,
        refuse=refuse,
        sharers=max(parts.chains.ranks.launched.local_count, forecast_for),
        forecast_for=forecast_for,
    )


def check_backbone(learner: LearnerConfig, imports: Sequence[str]) -> None:
    """Refuse a backbone that cannot be built or does not take the learner's pictures, before any teacher is fetched.

    One picture is run through it. A continued learner has its own.

    Raises:
        LearnerError: there is no such backbone, or not for pictures of that size; no weights to start from.
        ConfigError: a file of `imports` that cannot be imported.
    """
    import_networks(imports)
    start = learner.init_from
    architecture = None if start is None else InitFrom.parse(start).architecture
    if start is not None and architecture is not None:
        check_timm_start(start)
        if architecture != learner.backbone:
            raise ConfigError(
                f"learner.backbone is {learner.backbone!r}, {start!r} has the weights of a {architecture!r}",
                allowed="weights of the backbone itself",
                action=f"--backbone {architecture}",
            )
    if start is None or architecture is not None:
        channels = learner.channels
        network = build_backbone(learner, {}, (0.5,) * channels, (0.25,) * channels)
        check_takes_pictures(network, learner, {})
        check_can_learn(network, learner)


def make_learner(
    config: LearnerConfig,
    bell: BellConfig,
    records: Sequence[TeacherRecord],
    layout: LogitLayout,
    *,
    previous: PreviousLearner | None = None,
    defects: Defects | None = None,
    token: str | None = None,
    cache_dir: str | None = None,
) -> MetaLearner:
    """The untrained learner, or the one that a run starts from.

    Args:
        config: Backbone, size and what to start from.
        bell: How it will learn.
        records: Its teachers, in whose colors it sees.
        layout: Where whose answers stand.
        previous: The learner that is continued, if any, which brings its projection.
        defects: Defects of the released code to reproduce; None for none.
        token: Hub token.
        cache_dir: Folder of the download cache.
    """
    batchnorm: BatchNormMode = "running"
    if defects is not None and defects.transductive_batchnorm:
        batchnorm = "transductive"
    elif not bell.distills:
        batchnorm = "support"  # the paper's learner has no running statistics; inductive all the same
    inputs = InputSettings(config.views, batchnorm=batchnorm)
    if config.init_from is None:  # else as the weights it starts from are used to
        mean, std = _teachers_colors(records, config.channels)
        inputs = replace(inputs, mean=mean, std=std)
    # a learner that is continued gets an embedding of its own: what it was fitted to changes
    learner = MetaLearner.create(config, embedding=Embedding(), inputs=inputs, token=token, cache_dir=cache_dir)
    if bell.distills:
        projection = nn.Linear(learner.backbone_dim, layout.width)
        learner.embedding = Embedding(projection if previous is None else previous.grow(projection), layout.sizes)
    return learner


def _teachers_colors(records: Sequence[TeacherRecord], channels: int) -> tuple[list[float], list[float]]:
    """Mean and deviation per channel of the teachers' pictures, averaged over the teachers of that many channels."""
    colors = [picture_colors(record.mean, record.std) for record in records if record.input_size[0] == channels]
    if not colors:
        return [0.5] * channels, [0.25] * channels
    means, deviations = zip(*colors, strict=True)
    return torch.tensor(means).mean(0).tolist(), torch.tensor(deviations).mean(0).tolist()


def compile_networks(inverter: Inverter, learner: MetaLearner, bell: BellConfig, device: torch.device) -> None:
    """Have torch.compile compile what can be compiled."""
    check_can_compile(device)
    inverter.compile()
    if bell.distills:  # what torch.compile makes has no second derivative, which replay takes
        learner.backbone.compile()


def check_length(config: TrainerConfig) -> None:
    """Refuse a run that neither steps nor minutes end, and one that ends before anything could be recovered.

    Raises:
        ConfigError: both are unset, or the steps are not more than those of the warm-up.
    """
    steps, warm_up = config.steps, config.warmup_steps
    if steps is not None and steps <= warm_up:
        raise ConfigError(
            f"a run of {steps} steps, all of them warm-up (trainer.warmup_steps={warm_up}): no task is recovered",
            allowed="more steps than those of the warm-up",
            action=f"--steps {warm_up + 1} or more, or --set trainer.warmup_steps={steps // 5}",
        )
    if config.steps is None and config.max_minutes is None:
        raise ConfigError(
            "a run without an end: trainer.steps and trainer.max_minutes are both unset",
            allowed="at least one of the two",
            action="--steps 1000 or --max-minutes 30; a recipe sets one unless null is given",
        )
