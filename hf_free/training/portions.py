"""How a run's work is cut so that it fits into memory, and what it will take: peak memory, seconds per step, steps.

Where everything fits whole, nothing is cut. Asking and embedding in smaller pieces give the same answers up to
rounding; an inversion of fewer pictures and a learner's batch in parts are another run (`Five.most_images`,
`Distiller.update`), and the plan says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from hf_free.config.sections import LearnerConfig
from hf_free.errors import RunError
from hf_free.inversion.base import TaskSize
from hf_free.metalearning.embedding_fit import MAX_IMAGES
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.runtime.text import size_text
from hf_free.teachers.soft_labels import ASKED_AT_ONCE
from hf_free.training.schedule import WARM_UP_SHARE
from hf_free.training.trial import Load, Trial
from hf_free.training.workload import Workload

MEMORY_SHARE = 0.4
"""Share of the room that the memory of pictures takes at most."""

COPIES = 1.5
"""Times its size that the memory takes while its room is doubled for the last time."""

FULL_SHARE = 0.85
"""Share of the room that one part of the work is planned for; the rest is for what the allocator leaves unused."""

KEPT_SHARE, LEAST_KEPT = 0.3, 256 * 2**20
"""Share of what the largest part takes, and bytes at least, that may stay in the process when a part is done. Each
part's tensors have sizes of their own and do not fit into what others have left: memory grew by half of a part, or
more."""

ENOUGH_STEPS = 50
"""Steps of a run that need no warning: 30 to 80 are what the measured runs of docs/experiments have."""

FINISH_SHARE = 0.1
"""Share of the minutes that embedding recovered pictures after the last step takes at most, as does scoring."""

LEAST_FINISH = 128
"""Pictures that are embedded and kept aside at least: damping needs a hundred."""


@dataclass(frozen=True)
class Portions:
    """Pictures that a run's parts take at once or hold."""

    task: int | None
    """Pictures of one inversion at most; None leaves their number to the configuration."""
    asked: int
    """Pictures that a teacher is asked about at once."""
    learned: int | None
    """Pictures of a batch that the learner takes at once; None takes all."""
    embedded: int
    """Pictures that the trained learner embeds at once."""
    memory: int
    """Pictures held in memory at most."""
    held_out: int
    """Pictures kept aside at most."""
    finished: int
    """Recovered pictures that the finished learner is shown at most, for relevance and damping."""
    inversions: int = 1
    """Teachers that are inverted at once."""

    @classmethod
    def least(cls, several: Sequence[Portions]) -> Portions:
        """The least of each."""

        def least(numbers: Iterable[int | None]) -> int | None:
            return min((number for number in numbers if number is not None), default=None)

        return cls(
            task=least(one.task for one in several),
            asked=min(one.asked for one in several),
            learned=least(one.learned for one in several),
            embedded=min(one.embedded for one in several),
            memory=min(one.memory for one in several),
            held_out=min(one.held_out for one in several),
            finished=min(one.finished for one in several),
            inversions=min(one.inversions for one in several),
        )


@dataclass(frozen=True)
class Steps:
    """Steps that a run finishes, by what they do."""

    warming: int
    """That move the meta-generator only."""
    recovering: int
    """That recover tasks and learn."""
    learning: int
    """That learn from the memory alone."""
    left_seconds: float
    """Of the minutes, after the warm-up and before what follows the last step."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.warming + self.recovering + self.learning


@dataclass(frozen=True)
class Forecast:
    """What a run will take, by its measured parts."""

    peak_bytes: int
    """Memory of the process (on a GPU: of the device) at its peak."""
    step_seconds: float
    """A step that recovers tasks and learns."""
    learning_seconds: float
    """A step that learns from the memory alone."""
    steps: int | None
    """Steps that the minutes are enough for, or that are asked for; None where nothing ends the run."""
    reserve_seconds: float
    """What follows the last step."""
    idle_bytes: int = 0
    """Memory of the process between a step's parts, beyond which freed memory is handed back."""
    slowdown: float = 1.0
    """See `hf_free.training.trial.Trial`: seconds above over this are seconds of computing."""
    by_kind: Steps | None = None
    """The steps that the minutes are enough for, by what they do; None where no clock ends the run."""

    @property
    def is_too_short(self) -> bool:
        """Whether the minutes are over before the learner has learned anything."""
        return self.by_kind is not None and self.by_kind.left_seconds < self.step_seconds


def picture_bytes(learner: LearnerConfig, answers: int) -> int:
    """Bytes of a picture in the memory, of its answers, which take so many, and of its class's number."""
    return learner.channels * learner.image_size**2 + answers + 8


def choose_portions(
    work: Workload,
    records: Sequence[TeacherRecord],
    trial: Trial,
    *,
    answers: int,
    room: float,
    apart: float | None = None,
    at_once: int = 1,
) -> Portions:
    """Cut a run's work for a room.

    Args:
        work: What the run does.
        records: Its teachers.
        trial: What the parts take.
        answers: Bytes of the answers kept with each picture.
        room: Bytes beyond what is held already.
        apart: Room of the memory of pictures where it is not in that room: the CPU's in a run on a GPU.
        at_once: Teachers that are inverted at once, as far as there is room for several; those of fewer pictures come
            one after the other.

    Raises:
        RunError: the least there is, of any part, is more than the room.
    """
    memory, one = work.memory, picture_bytes(work.learner, answers)
    wanted = memory.max_images + memory.held_out_images
    held = min(wanted, int(MEMORY_SHARE * (room if apart is None else apart) / (COPIES * one)))
    left_over = FULL_SHARE * (room - (COPIES * held * one if apart is None else 0))
    largest = max((TaskSize.of(work.five, record.num_classes).images for record in records), default=0)
    least = min((TaskSize.of(work.five, record.num_classes).classes for record in records), default=2)
    batch, distills = work.pass_size, work.distills
    whole_tasks = trial.inversions if distills else (*trial.inversions, trial.alignment)
    task = _most(whole_tasks, largest, left_over)
    asked = _most(trial.answers, ASKED_AT_ONCE, left_over)
    learned = _most([trial.update], batch if distills else work.bell.n_way * work.bell.n_query, left_over)
    embedded = _most([trial.embedding], 256, left_over)
    needs = [
        ("an inversion of two classes with two pictures each", task, min(4, 2 * least), whole_tasks),
        ("asking a teacher", asked, 1, trial.answers),
        (
            "a batch of two" if distills else "an episode of replay",
            learned,
            2 if distills else work.bell.n_way * work.bell.n_query,
            (trial.update,),
        ),
        ("a picture", embedded, 1, (trial.embedding,)),
    ]
    for name, fits, needed, loads in needs:
        if fits < needed:
            most, left = round(max(load.bytes(needed) for load in loads)), max(round(left_over), 0)
            least_room = max(load.bytes(count) for _, _, count, loads in needs for load in loads) / FULL_SHARE
            more = round(least_room / (1 - MEMORY_SHARE if apart is None else 1) - room)
            raise RunError(
                f"{name} of {work.learner.image_size} pixels needs about {size_text(most)}, and {size_text(left)} "
                "are left",
                allowed="a run within its memory",
                action=f"about {size_text(more)} more --memory, or a smaller --image-size or --backbone",
            )
    one_task = max((load.bytes(largest) for load in trial.inversions), default=0.0)
    limit = math.inf
    if work.trainer.max_minutes is not None and trial.embedding.image_seconds > 0:
        share = FINISH_SHARE * 60 * work.trainer.max_minutes
        limit = max(LEAST_FINISH, share / trial.embedding.image_seconds)
    held_out = int(min(memory.held_out_images, limit, max(2, held // 4)))
    return Portions(
        task=None if task >= largest else task,
        asked=asked,
        learned=None if not distills or learned >= batch else learned,
        embedded=embedded,
        memory=min(memory.max_images, max(1, held - held_out)),
        held_out=held_out,
        finished=int(min(MAX_IMAGES, limit, max(LEAST_FINISH, left_over / max(trial.feature_bytes, 1)))),
        inversions=min(at_once, max(1, int(left_over / max(one_task, 1.0)))),
    )


def forecast(
    work: Workload,
    records: Sequence[TeacherRecord],
    trial: Trial,
    portions: Portions,
    *,
    answers: int,
    base: float,
    processes: int = 1,
) -> Forecast:
    """What a run of such portions will take; of several processes, the one that has most to do.

    Args:
        work: What the run does.
        records: Its teachers.
        trial: What the parts take.
        portions: How they are cut.
        answers: Bytes of the answers kept with each picture; 0 where only the recovered task's own teacher speaks
            (`align`).
        base: Bytes that the process holds before the first step, its teachers' weights included.
        processes: How many share out the work; what they say to each other and wait is not counted.
    """
    five, bell, memory = work.five, work.bell, work.memory
    sizes = [TaskSize.of(work.five, record.num_classes).within(portions.task).images for record in records]
    count = max(len(trial.inversions), 1)
    inverting = sum(load.seconds(size) for load, size in zip(trial.inversions, sizes, strict=False)) / count
    teachers = min(five.teachers_per_step, len(records))
    recovered = sum(sizes) / max(len(sizes), 1) * teachers
    warm_up = math.ceil(teachers / processes) * inverting
    distills = work.distills
    asked, share = recovered + memory.drawn_per_step, work.share_asked(len(records))
    drawn, batch = math.ceil(memory.drawn_per_step / processes), math.ceil(bell.batch_size / processes)
    asking = trial.drawing.seconds(drawn)
    if answers:
        own = math.ceil(len(records) / processes) / len(records)
        asking += own * sum(_in_parts(load, asked * share, portions.asked) for load in trial.answers)
    taken = min(batch, portions.learned or work.pass_size)
    if distills:
        learning = bell.updates_per_step * _in_parts(trial.update, batch, taken)
    else:
        episodes = math.ceil(bell.replay_tasks / processes)
        learning = work.replays_per_step * episodes * trial.update.seconds(bell.n_way * bell.n_query)
        learning += teachers * trial.alignment.seconds(recovered / teachers)
    step = warm_up + asking + learning
    reserve = trial.embedding.seconds(portions.finished) + trial.embedding.seconds(portions.held_out)
    by_kind = _steps(work, warm_up, step, learning if distills else step, reserve)
    steps = work.trainer.steps if by_kind is None else by_kind.total
    made = math.inf if steps is None else asked * five.recover_share * steps
    held = min(portions.memory + portions.held_out, made)
    one_task = max((load.bytes(size) for load, size in zip(trial.inversions, sizes, strict=False)), default=0)
    activations = max(
        portions.inversions * one_task,
        max((load.bytes(min(asked * share, portions.asked)) for load in trial.answers), default=0) if answers else 0,
        trial.drawing.bytes(drawn),
        trial.update.bytes(taken if distills else bell.n_way * bell.n_query),
        min(portions.finished, made) * trial.feature_bytes,
        0 if distills else trial.alignment.bytes(max(sizes, default=0)),
        trial.embedding.bytes(min(portions.embedded, max(portions.finished, portions.held_out), made)),
    )
    idle = base + COPIES * held * picture_bytes(work.learner, answers)
    idle_bytes = round(idle + max(LEAST_KEPT, KEPT_SHARE * activations))
    return Forecast(round(idle + activations), step, learning, steps, reserve, idle_bytes, trial.slowdown, by_kind)


def _steps(work: Workload, warm_up: float, step: float, learning: float, reserve: float) -> Steps | None:
    """Steps that a run finishes: warm-up, recovering ones that begin within their share of it, then learning ones.

    The first after the warm-up recovers whatever the clock says, since there is nothing to learn from before it.
    """
    trainer, share, tiny = work.trainer, work.five.recover_share, 1e-6
    if trainer.max_minutes is None:
        return None
    warm_up, step, learning = max(warm_up, tiny), max(step, tiny), max(learning, tiny)
    most = math.inf if trainer.steps is None else trainer.steps
    time = max(60 * trainer.max_minutes - reserve, 30 * trainer.max_minutes)
    warming = int(min(trainer.warmup_steps, most, math.ceil(WARM_UP_SHARE * time / warm_up), time // warm_up))
    left = time - warming * warm_up
    begun = max(1, math.ceil(min((share * time - warming * warm_up) / step, share * most - warming)))
    recovering = int(min(begun, left // step, most - warming))
    rest = left - recovering * step if recovering == begun else 0.0
    only_learning = int(min(rest // learning, most - warming - recovering)) if recovering else 0
    return Steps(warming, recovering, only_learning, left)


def _most(loads: Sequence[Load], wanted: int, room: float) -> int:
    """Pictures, as many as wanted at most, with which each of these parts fits into a room."""
    fits = min((load.images_within(room) for load in loads), default=wanted)
    return wanted if fits >= wanted else _power_of_two(fits)


def _power_of_two(number: int) -> int:
    """The largest power of two that is no larger; so a little more or less free memory makes no other run."""
    return 1 << (number.bit_length() - 1) if number else 0


def _in_parts(load: Load, count: float, at_once: int | None) -> float:
    """Seconds of a part that is done with `at_once` pictures again and again."""
    if at_once is None or at_once >= count:
        return load.seconds(count)
    return count / at_once * load.seconds(at_once)


@dataclass(frozen=True)
class FewSteps:
    """A run whose minutes are enough for few steps."""

    given: str
    """How few."""
    ways_out: str
    """What to change."""
    wanted: int
    """Steps that need no warning."""
    least: int
    """Steps below which it is refused."""
    is_refused: bool

    def note(self) -> str:
        """What to say where it runs, or is only planned."""
        if self.is_refused:
            return f"this run would be refused: {self.given}. For {self.wanted} steps: {self.ways_out}"
        return f"{self.given}; {self.wanted} or more make a better learner: {self.ways_out}"

    def refusal(self) -> RunError:
        """The error where it does not run."""
        return RunError(
            self.given,
            allowed=f"a run of at least {self.least} steps (trainer.min_steps; 0 takes any)",
            action=f"for {self.wanted} steps: {self.ways_out}",
        )


def few_steps(
    work: Workload,
    records: Sequence[TeacherRecord],
    trial: Trial,
    portions: Portions,
    predicted: Forecast,
    *,
    processes: int = 1,
) -> FewSteps | None:
    """What to say of a run whose minutes are enough for few steps; None where they are enough for `ENOUGH_STEPS`."""
    trainer, minutes = work.trainer, work.trainer.max_minutes
    wanted = ENOUGH_STEPS if trainer.steps is None else min(ENOUGH_STEPS, trainer.steps)
    if minutes is None or predicted.steps is None or predicted.by_kind is None:
        return None
    if predicted.steps >= wanted and not predicted.is_too_short:
        return None
    ways = " or ".join(_ways_out(work, records, trial, portions, wanted, processes))
    given = _how_few(minutes, predicted, predicted.by_kind)
    is_refused = is_refusable(work, predicted)
    return FewSteps(given, ways, wanted, trainer.min_steps, is_refused)


def is_refusable(work: Workload, predicted: Forecast) -> bool:
    """Whether a run's minutes are enough for less than it asks for at least, or for no step that learns."""
    trainer = work.trainer
    if not trainer.min_steps or predicted.steps is None or predicted.by_kind is None:
        return False
    least = trainer.min_steps if trainer.steps is None else min(trainer.min_steps, trainer.steps)
    return predicted.is_too_short or predicted.steps < least


def _how_few(minutes: float, predicted: Forecast, steps: Steps) -> str:
    """How few steps of which kind the minutes are enough for, and what one takes."""
    recovering = f"{_seconds(predicted.step_seconds)} s (measured on this machine)"
    if predicted.is_too_short:
        left = _seconds(max(0.0, steps.left_seconds))
        return (
            f"{minutes:g} minutes are not enough for one step that recovers pictures and learns: it takes about "
            f"{recovering}, and warm-up and finishing leave {left} s"
        )
    kinds = [f"{steps.warming} of warm-up"] if steps.warming else []
    kinds += [f"{steps.recovering} that recover pictures and learn, each {recovering}"]
    if steps.learning:
        kinds += [f"{steps.learning} that only learn, each {_seconds(predicted.learning_seconds)} s"]
    return f"{minutes:g} minutes are enough for about {steps.total} steps: {', '.join(kinds)}"


def _seconds(value: float) -> str:
    """Three digits, and no power of ten."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


SMALLER_SIZES = (192, 160, 128, 112, 96, 84, 64, 48, 32)
"""Picture sizes that are suggested."""

DIVISORS = (2, 4, 8, 16)
"""By which a step's pictures are divided in suggestions."""

FACTORS = (1.5, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)
"""By which the minutes are multiplied in suggestions."""


def _ways_out(
    work: Workload, records: Sequence[TeacherRecord], trial: Trial, portions: Portions, wanted: int, processes: int
) -> list[str]:
    """Settings, one beside the other, each of which makes a run of so many steps; else what has to shrink."""

    def steps(changed: Workload, measured: Trial = trial) -> int:
        predicted = forecast(changed, records, measured, portions, answers=1, base=0, processes=processes)
        return 0 if predicted.is_too_short else predicted.steps or 0

    ways, pixels = [], work.learner.image_size
    sizes = [size for size in SMALLER_SIZES if size < pixels]
    shrunk = [(values, _with(work, values)) for values in map(partial(_smaller, work), DIVISORS)]
    settings = next((values for values, changed in shrunk if steps(changed) >= wanted), None)
    if settings is not None:
        ways.append(_assignments(work, settings))
    size = next((size for size in sizes if steps(work, trial.at_area((size / pixels) ** 2)) >= wanted), None)
    if size is not None:
        ways.append(f"--image-size {size}")
    if not ways:
        values, changed = shrunk[-1]
        size = next((size for size in sizes if steps(changed, trial.at_area((size / pixels) ** 2)) >= wanted), None)
        if size is not None:
            ways.append(f"--image-size {size} {_assignments(work, values)}")
    shrinks = bool(ways)
    minutes = work.trainer.max_minutes or 1.0
    for factor in FACTORS:
        if steps(_with(work, {"trainer.max_minutes": factor * minutes})) >= wanted:
            ways.append(f"--max-minutes {math.ceil(factor * minutes)}")
            break
    if ways and sizes and not shrinks:  # more minutes are not what everybody has
        ways.append("a much smaller --image-size and --backbone")
    return ways or ["another machine, a smaller --backbone, or fewer and smaller --models"]


def _smaller(work: Workload, divisor: int) -> dict[str, float]:
    """Settings with which a step does less by about this divisor."""
    five, bell, drawn = work.five, work.bell, work.memory.drawn_per_step
    values: dict[str, float] = {
        "five.images_per_class": max(min(4, five.images_per_class), five.images_per_class // divisor),
        "memory.drawn_per_step": drawn // divisor,
    }
    if work.distills:
        values["bell.batch_size"] = max(min(32, bell.batch_size), bell.batch_size // divisor)
        values["bell.updates_per_step"] = max(min(5, bell.updates_per_step), bell.updates_per_step // divisor)
    else:
        values["bell.replay_tasks"] = max(1, bell.replay_tasks // divisor)
    return values


def _assignments(work: Workload, values: Mapping[str, float]) -> str:
    """`--set` with the values that are other than the configuration's."""
    return "--set " + " ".join(f"{key}={value}" for key, value in values.items() if value != work.value(key))


def _with(work: Workload, values: Mapping[str, float]) -> Workload:
    """The same with other values at `section.key`."""
    for key, value in values.items():
        work = work.with_value(key, value)
    return work
