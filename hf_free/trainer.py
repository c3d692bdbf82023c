"""The training loop: recover tasks with FIVE, learn from them with BELL, leave a learner and its record on disk.

Read `train` from top to bottom; everything it calls that is not the loop itself lives in the files it imports.
"""

from __future__ import annotations

import json
import math
import platform
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import accelerate
import torch
from accelerate.utils import set_seed
from safetensors.torch import save_file
from torch import Tensor, nn

from hf_free import __version__
from hf_free.card import write_card
from hf_free.config import FreeConfig
from hf_free.device import Precision, choose_device
from hf_free.errors import ConfigError, RunError
from hf_free.inversion.dead_leaves import dead_leaves
from hf_free.inversion.five import Five
from hf_free.inversion.task import RecoveredTask, to_uint8
from hf_free.learner.bell import Aligner, Bell, Distiller
from hf_free.learner.distill import AnswerSheet
from hf_free.learner.meta_learner import MetaLearner
from hf_free.memory import TaskMemory
from hf_free.pictures import loss_curves, recovered_grid
from hf_free.own_networks import import_networks
from hf_free.progress import FetchProgress, RunProgress
from hf_free.run_folder import RunFolder
from hf_free.stopping import StopBetweenSteps, Stopped
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.teacher import Teacher

if TYPE_CHECKING:
    from rich.console import Console

MAX_FAILURES = 5
"""Recoveries in a row that may come to nothing before a teacher is left alone."""


def train(
    config: FreeConfig,
    *,
    output: Path,
    token: str | None = None,
    resume: bool = False,
    pool: TeacherPool | None = None,
    console: Console | None = None,
    watch: Callable[[MetaLearner, float], None] | None = None,
) -> MetaLearner:
    """Train a meta-learner from teachers, without data.

    Args:
        config: Everything a run is made of.
        output: Folder of the run: configuration, log, checkpoint, pictures, and `learner/`, ready to publish.
        token: Hub token, for private and gated teachers.
        resume: Go on from the checkpoint in `output`.
        pool: Teachers already loaded; None loads `config.models`.
        console: Where progress is shown; None shows none.
        watch: Called after each step with the learner as it is and the minutes spent; it must leave the learner alone,
            and its own time counts.

    Returns:
        The learner, also saved to `output/learner`.

    Raises:
        RunError: fewer than two usable teachers, nothing to resume, or nothing recovered.
        Stopped: Ctrl-C, after the step under way is done and a checkpoint written.
    """
    _check_has_end(config)
    import_networks(config.imports)
    run = RunFolder(output)
    set_seed(config.seed)
    device = choose_device(config.trainer.device)
    accelerator = accelerate.Accelerator(cpu=device.type == "cpu")
    precision = Precision.choose(config.trainer.mixed_precision, device, channels_last=config.trainer.channels_last)
    with FetchProgress(console) as fetching:
        pool = pool or TeacherPool(
            config.models,
            budget=config.hub.teacher_memory,
            device=device,
            token=token,
            cache_dir=config.hub.cache_dir,
            strict=True,
            fetched=fetching.show,
        )
    state = RunState(skipped=[{"reference": str(name), "reason": str(why)} for name, why in pool.skipped])
    _check_enough(pool, state)
    run.write_text(run.config, config.to_yaml())
    if not resume:
        run.log.unlink(missing_ok=True)

    sheet = AnswerSheet([record.num_classes for record in pool.records], seed=config.seed)
    learner = _make_learner(config, pool, sheet, token).to(device)
    learner.backbone.to(memory_format=torch.channels_last if precision.channels_last else torch.contiguous_format)
    five = Five(
        config.five,
        image_size=config.learner.image_size,
        channels=config.learner.channels,
        device=device,
        precision=precision,
        defects=config.defects,
    )
    bell = _make_bell(config, learner, pool, sheet, precision)
    answers = sheet.width if isinstance(bell, Distiller) else 0
    memory, held_out = (TaskMemory(size, answers=answers) for size in _memory_sizes(config))
    accelerator.prepare(learner, five.generator, *bell.modules().values(), five.optimizer, bell.optimizer)
    if resume:
        state = _load(run, accelerator, memory, held_out)
        run.read_log(before_step=state.step)
        _check_enough(pool, state)
    clock = Clock(config, state.seconds)

    with RunProgress(console, total_steps=config.trainer.steps) as progress, StopBetweenSteps() as stop:
        try:
            while not clock.is_over(state.step):
                stop.grant()
                state.step += 1
                is_logged = state.step % config.trainer.log_every == 0 or state.step == 1
                terms: dict[str, float] = {}
                tasks: list[RecoveredTask] = []

                # FIVE: invert a few teachers, move the meta-generator, keep the healthy tasks
                if clock.progress(state.step - 1) < config.five.recover_share or not len(memory):
                    warming_up = state.step <= config.trainer.warmup_steps
                    chosen = _draw_teachers(pool, config.five.teachers_per_step, state)
                    tasks, terms = five.outer_step(chosen, None if warming_up else bell.student)
                    tasks = [] if warming_up else _healthy(tasks, config, state, pool)
                    target = held_out if len(held_out) < held_out.max_images else memory
                    _remember(target, tasks, config, pool, sheet, precision, state)

                # BELL: learn from the new tasks and the memory
                if len(memory) and (tasks or isinstance(bell, Distiller)):
                    if isinstance(bell, Aligner):
                        bell.measure_alignment = is_logged
                    terms |= bell.step(tasks, memory, clock.learning_rate(state.step - 1))

                state.seconds = clock.seconds()
                if watch is not None:
                    watch(learner, state.seconds / 60)
                progress.show(state.step, clock.progress(state.step), terms, state.pictures / max(state.seconds, 1e-9))
                if is_logged:
                    run.append_log(_log_row(state, memory, terms))
                if state.step % config.trainer.picture_every == 0:
                    _draw(run, memory, pool)
                if state.step % config.trainer.checkpoint_every == 0:
                    _keep_best(bell, learner, held_out, state, run, config)
                    _save(run, accelerator, memory, held_out, state)
        except (RunError, Stopped):
            _save(run, accelerator, memory, held_out, state)  # what there is stays
            raise

    if not len(memory):
        raise RunError(
            f"no task was recovered in {state.step} steps, {config.trainer.warmup_steps} of them warm-up",
            allowed="a run that outlasts its warm-up, with teachers that recognise their recovered pictures",
            action="more --steps or --max-minutes, or --set trainer.warmup_steps=0 five.min_teacher_accuracy=0",
        )
    _keep_best(bell, learner, held_out, state, run, config)
    _restore_best(learner, run)
    learner.eval()
    save_file({k: v.contiguous() for k, v in five.generator.state_dict().items()}, run.generator)
    _draw(run, memory, pool)
    learner.record = _record(config, pool, state, device, precision) | learner.record
    _publishable(run, learner, with_generator=config.hub.push_generator)
    _save(run, accelerator, memory, held_out, state)
    return learner


@dataclass
class RunState:
    """What a run has to remember, besides tensors."""

    step: int = 0
    """Outer steps done."""
    seconds: float = 0.0
    """Wall-clock time spent, over all resumptions."""
    kept_tasks: int = 0
    """Recovered tasks kept."""
    pictures: int = 0
    """Recovered pictures kept."""
    accuracy_sum: float = 0.0
    """Sum of the kept tasks' teacher accuracy."""
    diversity_sum: float = 0.0
    """Sum of the kept tasks' within-class diversity."""
    best_score: float = -math.inf
    """Best score on the held-out recovered tasks."""
    best_step: int = 0
    """Its step."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Tasks left out, by `reference: reason`."""
    failures: dict[str, int] = field(default_factory=dict)
    """Failures in a row, by the teacher's index."""
    skipped: list[dict[str, str]] = field(default_factory=list)
    """Teachers left out for good, with the reason."""
    excluded: list[int] = field(default_factory=list)
    """Their indices, where they had loaded."""


class Clock:
    """How far a run is, by steps or by minutes, whichever is further.

    Args:
        config: The run's configuration.
        seconds: Time spent before this start.
    """

    def __init__(self, config: FreeConfig, seconds: float) -> None:
        self._trainer, self._warms_up = config.trainer, config.bell.objective == "distill"
        self._start = time.monotonic() - seconds

    def seconds(self) -> float:
        """Wall-clock time spent."""
        return time.monotonic() - self._start

    def progress(self, step: int) -> float:
        """Share of the run that is done after a step, 0 to 1."""
        by_steps = step / self._trainer.steps if self._trainer.steps else 0.0
        by_time = self.seconds() / (60 * self._trainer.max_minutes) if self._trainer.max_minutes else 0.0
        return min(1.0, max(by_steps, by_time))

    def is_over(self, step: int) -> bool:
        """Whether no step is left."""
        return self.progress(step) >= 1

    def learning_rate(self, step: int) -> float:
        """Factor on the learning rate: a tenth of the run up, then a half cosine down to 0; 1 in the paper's way."""
        if not self._warms_up:
            return 1.0
        done = self.progress(step)
        return max(done, 1e-3) / 0.1 if done < 0.1 else 0.5 * (1 + math.cos(math.pi * (done - 0.1) / 0.9))


def _memory_sizes(config: FreeConfig) -> tuple[int, int]:
    return config.memory.max_images, config.memory.held_out_images


def _check_has_end(config: FreeConfig) -> None:
    if config.trainer.steps is None and config.trainer.max_minutes is None:
        raise ConfigError(
            "a run without an end: trainer.steps and trainer.max_minutes are both unset",
            allowed="at least one of the two",
            action="--steps 1000 or --max-minutes 30; FreeConfig.from_dict(recipe_values('default')) sets one",
        )


def _check_enough(pool: TeacherPool, state: RunState) -> None:
    usable = len(pool) - len(state.excluded)
    if usable >= 2:
        return
    reasons = "\n".join(f"  {entry['reference']}: {entry['reason']}" for entry in state.skipped)
    raise RunError(
        f"fewer than two tasks: {usable} usable teacher(s)" + (f"; left out:\n{reasons}" if reasons else ""),
        allowed="two or more usable teachers",
        action="hf-free inspect ID... says what each can be used for",
    )


def _make_learner(config: FreeConfig, pool: TeacherPool, sheet: AnswerSheet, token: str | None) -> MetaLearner:
    mean, std = _teachers_colours(pool, config.learner.channels)
    options: dict[str, Any] = {"views": config.learner.views, "mean": mean, "std": std}
    if "transductive_batchnorm" in config.defects:
        options["batchnorm"] = "transductive"
    elif config.bell.objective == "align":
        options["batchnorm"] = "support"  # the paper's learner has no running statistics; inductive all the same
    learner = MetaLearner.create(config.learner, token=token, cache_dir=config.hub.cache_dir, **options)
    if config.bell.objective == "distill":
        learner.projection = nn.Linear(learner.backbone_dim, sheet.width)
        learner.answer_sizes = tuple(sheet.sizes)
    return learner


def _teachers_colours(pool: TeacherPool, channels: int) -> tuple[list[float], list[float]]:
    """Mean and deviation a channel that the teachers normalise with, averaged over those of that many channels."""
    records = [record for record in pool.records if record.input_size[0] == channels]
    if not records:
        return [0.5] * channels, [0.25] * channels
    mean = torch.tensor([record.mean for record in records]).mean(0)
    return mean.tolist(), torch.tensor([record.std for record in records]).mean(0).tolist()


def _make_bell(
    config: FreeConfig, learner: MetaLearner, pool: TeacherPool, sheet: AnswerSheet, precision: Precision
) -> Bell:
    if config.bell.objective == "distill":
        return Distiller(learner, sheet, config.bell, precision)
    names: dict[tuple[int, int], str] = {}
    if config.bell.match_label_names:
        for index, record in enumerate(pool.records):
            names |= {(index, i): name for i, name in enumerate(record.label_names or ())}
    return Aligner(learner, config.bell, precision, class_names=names, defects=config.defects)


def _draw_teachers(pool: TeacherPool, count: int, state: RunState) -> list[tuple[int, Any]]:
    """Teachers drawn uniformly without replacement, as far as there are enough."""
    usable = [index for index in range(len(pool)) if index not in state.excluded]
    places = torch.randperm(len(usable))[: min(count, len(usable))].tolist()
    return [(usable[place], pool[usable[place]]) for place in places]


def _healthy(
    tasks: Sequence[RecoveredTask], config: FreeConfig, state: RunState, pool: TeacherPool
) -> list[RecoveredTask]:
    """The tasks worth learning from; a teacher that fails again and again is left alone, with the reason."""
    kept = []
    for task in tasks:
        reason = task.health.reason_to_leave_out(config.five.min_teacher_accuracy)
        key = str(task.teacher)
        if reason is None:
            state.failures.pop(key, None)
            kept.append(task)
            continue
        entry = f"{task.reference}: {reason}"
        state.left_out[entry] = state.left_out.get(entry, 0) + 1
        state.failures[key] = state.failures.get(key, 0) + 1
        if state.failures[key] >= MAX_FAILURES and task.teacher not in state.excluded:
            state.excluded.append(task.teacher)
            state.skipped.append({"reference": task.reference, "reason": reason})
            _check_enough(pool, state)
    return kept


def _remember(
    memory: TaskMemory,
    tasks: Sequence[RecoveredTask],
    config: FreeConfig,
    pool: TeacherPool,
    sheet: AnswerSheet,
    precision: Precision,
    state: RunState,
) -> None:
    """Put recovered tasks, and drawn pictures beside them, into the memory with every teacher's answers."""
    stored = tasks[-1:] if "store_last_teacher_only" in config.defects else tasks
    if not stored:
        return
    drawn = torch.empty(0, *stored[0].images.shape[1:], dtype=torch.uint8)
    if config.memory.drawn_per_step:
        drawn = _draw_leaves(config, pool)
    answers: list[Tensor | None] = [None] * (len(stored) + 1)
    if memory.answer_width:
        pictures = torch.cat([*(task.images for task in stored), drawn])
        rows = sheet.ask(pool, pictures, precision)
        answers = list(rows.split([*(len(task.images) for task in stored), len(drawn)]))
    for task, rows_of_task in zip(stored, answers, strict=False):
        memory.add_task(task, rows_of_task)
        state.kept_tasks += 1
        state.pictures += len(task.images)
        state.accuracy_sum += task.health.accuracy
        state.diversity_sum += task.health.diversity
    if len(drawn):
        memory.add_pictures(drawn, answers[-1])


def _draw_leaves(config: FreeConfig, pool: TeacherPool) -> Tensor:
    mean, std = _teachers_colours(pool, config.learner.channels)
    generator = torch.Generator().manual_seed(int(torch.randint(2**31, ()).item()))  # part of the run's random state
    pictures = dead_leaves(
        config.memory.drawn_per_step,
        config.learner.image_size,
        generator=generator,
        mean=torch.tensor(mean).expand(3),
        std=torch.tensor(std).expand(3),
    )
    return to_uint8(pictures if config.learner.channels == 3 else pictures.mean(1, keepdim=True))


def _keep_best(
    bell: Bell, learner: MetaLearner, held_out: TaskMemory, state: RunState, run: RunFolder, config: FreeConfig
) -> None:
    """Score the learner on held-out recovered pictures, and keep its weights if none scored better."""
    score = bell.score(held_out, config.trainer.validation_episodes)
    if score >= state.best_score:
        state.best_score, state.best_step = score, state.step
        run.root.mkdir(parents=True, exist_ok=True)
        fresh = run.root / ".best.safetensors.new"
        save_file({name: tensor.contiguous() for name, tensor in learner.state_dict().items()}, fresh)
        fresh.replace(run.root / "best.safetensors")


def _restore_best(learner: MetaLearner, run: RunFolder) -> None:
    from safetensors.torch import load_file

    learner.load_state_dict(load_file(run.root / "best.safetensors"))


def _draw(run: RunFolder, memory: TaskMemory, pool: TeacherPool) -> None:
    """A grid of the last recovered tasks and the loss curves; drawing never ends a run."""
    run.pictures.mkdir(parents=True, exist_ok=True)
    groups = list(memory.pictures_by_class(1).items())[-8:]
    if groups:
        names = []
        for class_id, _ in groups:
            key = memory.classes[class_id]
            record = pool.records[key.teacher]
            is_open = record.label_names is not None and not (record.private or record.gated)
            names.append((record.label_names or ())[key.index] if is_open else f"{key.teacher}:{key.index}")
        places = [places[-10:] for _, places in groups]
        confidence = [
            _confidence(pool[memory.classes[class_id].teacher], memory.classes[class_id].index, memory.images[at])
            for (class_id, _), at in zip(groups, places, strict=True)
        ]
        labels = torch.arange(len(groups)).repeat_interleave(torch.tensor([len(p) for p in places]))
        recovered_grid(
            memory.images[torch.cat(places)].cpu(),
            labels,
            class_names=names,
            confidence=torch.cat(confidence),
            path=run.pictures / "recovered.png",
            title="Recovered by FIVE: the last pictures of eight classes",
        )
    rows = run.read_log()
    if len(rows) > 1:
        loss_curves(rows, run.pictures / "losses.png")


@torch.no_grad()
def _confidence(teacher: Teacher, index: int, images: Tensor) -> Tensor:
    """The teacher's probability of its class for pictures (N, C, H, W) uint8 -> (N,), on the CPU."""
    return teacher.logits(images.to(teacher.device).float() / 255).softmax(1)[:, index].float().cpu()


def _log_row(state: RunState, memory: TaskMemory, terms: dict[str, float]) -> dict[str, Any]:
    row = {"step": state.step, "minutes": round(state.seconds / 60, 3), "memory": len(memory)}
    return row | {name: round(value, 6) for name, value in terms.items()}


def _save(
    run: RunFolder, accelerator: accelerate.Accelerator, memory: TaskMemory, held_out: TaskMemory, state: RunState
) -> None:
    def write(folder: Path) -> None:
        accelerator.save_state(str(folder / "accelerate"), safe_serialization=True)
        memory.save(folder / "memory.safetensors")
        held_out.save(folder / "held_out.safetensors")
        (folder / "state.json").write_text(json.dumps(vars(state), indent=2), encoding="utf-8")

    run.write_checkpoint(write)


def _load(run: RunFolder, accelerator: accelerate.Accelerator, memory: TaskMemory, held_out: TaskMemory) -> RunState:
    folder = run.checkpoint_to_resume()
    accelerator.load_state(str(folder / "accelerate"))
    memory.load(folder / "memory.safetensors")
    held_out.load(folder / "held_out.safetensors")
    return RunState(**json.loads((folder / "state.json").read_text(encoding="utf-8")))


def _record(
    config: FreeConfig, pool: TeacherPool, state: RunState, device: torch.device, precision: Precision
) -> dict[str, Any]:
    """The learner's provenance: what goes into the `hf_free` block of config.json and into the card."""
    import timm

    tasks = max(state.kept_tasks, 1)
    licences = Counter(record.license or "none stated" for record in pool.records)
    return {
        "config": config.to_dict(),
        "teachers": [record.to_dict() for record in pool.records],
        "skipped": state.skipped,
        "left_out": state.left_out,
        "licenses": dict(licences),
        "data_free": True,  # the learner's own record says otherwise where it started from timm's weights
        "results": [],
        "recovered": {
            "tasks": state.kept_tasks,
            "images": state.pictures,
            "teacher_accuracy": round(state.accuracy_sum / tasks, 4),
            "diversity": round(state.diversity_sum / tasks, 4),
        },
        "training": {
            "minutes": round(state.seconds / 60, 2),
            "steps": state.step,
            "best_step": state.best_step,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "threads": torch.get_num_threads(),
            "mixed_precision": precision.name,
        },
        "versions": {
            "hf_free": __version__,
            "torch": torch.__version__,
            "timm": timm.__version__,
            "accelerate": accelerate.__version__,
            "python": platform.python_version(),
        },
    }


def _publishable(run: RunFolder, learner: MetaLearner, *, with_generator: bool) -> None:
    """Write `learner/`: weights, config, card and its picture; the generator only if asked for."""
    learner.save_pretrained(run.learner)
    if with_generator:
        shutil.copyfile(run.generator, run.learner / run.generator.name)
    picture = run.pictures / "recovered.png"
    if picture.is_file():
        target = run.learner / "pictures" / "recovered.png"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(picture.read_bytes())
    run.write_json(run.record, learner.hf_free_block())
    write_card(run.learner, learner.hf_free_block())
