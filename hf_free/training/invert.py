"""Images recovered from one classifier: from a fresh generator, from a run's, or in another way that has a name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

import torch

from hf_free.config.sections import FiveConfig, QueriesConfig
from hf_free.config.tree import FreeConfig
from hf_free.errors import ConfigError, RunError
from hf_free.inversion.five import invert_teacher
from hf_free.inversion.per_teacher_generator import FRESH_STEPS
from hf_free.inversion.task import RecoveredTask
from hf_free.inversion.zero_order import MORE_QUERIES, ZeroOrderInverter
from hf_free.methods.base import MethodSettings
from hf_free.methods.registry import inverter_of
from hf_free.runtime.chains import ONE_CHAIN
from hf_free.runtime.device import Precision, choose_device
from hf_free.runtime.given import (
    TOLD,
    check_cache_dir,
    check_function,
    check_kind,
    check_texts,
    given_path,
    given_seed,
    whole_number,
)
from hf_free.runtime.random_streams import RandomStreams
from hf_free.teachers.black_box import BlackBox
from hf_free.teachers.endpoints import EndpointAccess
from hf_free.teachers.loader import load_teacher, try_out
from hf_free.teachers.reference import TeacherReference
from hf_free.teachers.teacher import Teacher
from hf_free.training.folder import RunFolder

MOST_PER_CLASS = 4096
"""Images per class at most, as in a configuration."""

TRAINED_STEPS = 5
"""Inner steps from the generator that a run has meta-trained."""


def default_steps(generator: str | Path | None, inversion: str | None = None) -> int:
    """Default number of inner steps: from a fresh generator, from a run's, or of another way to invert.

    Raises:
        ConfigError: no way of that name, or another one than `five` with a run's generator.
    """
    if inversion in (None, "five"):
        return FRESH_STEPS if generator is None else TRAINED_STEPS
    if generator is not None:
        raise ConfigError(
            f"a run's meta-generator and the inversion {inversion!r}",
            allowed="one of the two: a meta-generator belongs to the inversion five",
            action="leave one out",
        )
    return FreeConfig.from_dict({"inversion": inversion}).five.inner_steps


def invert(
    teacher: Teacher | TeacherReference | str | Path,
    *,
    steps: int | None = None,
    images_per_class: int = 10,
    generator: str | Path | None = None,
    inversion: str | None = None,
    seed: int = 0,
    token: str | None = None,
    cache_dir: str | Path | None = None,
    device: str | torch.device = "auto",
    queries: QueriesConfig | None = None,
    endpoint_tokens: Sequence[str] = (),
    progress: Callable[[str, int, int], None] | None = None,
) -> RecoveredTask:
    """Recover labeled images from one classifier by inversion, without data.

    Args:
        teacher: A Hub id, a folder, a reference to either, or a teacher that has been loaded already.
        steps: Inner steps; None takes `FRESH_STEPS`, `TRAINED_STEPS` with `generator`, or those of the `inversion`.
        images_per_class: Images per class, at least 2.
        generator: Folder of a finished run whose meta-generator to start from; None starts from a fresh one.
        inversion: Another way than FIVE's inner loop: a name that `hf-free methods` lists, such as `pixels`.
        seed: Seed of generator and latents, or pixels.
        token: Hub token, for a private or gated teacher.
        cache_dir: Folder of the download cache.
        device: Where to compute; `auto` takes a GPU where there is one. A loaded teacher stays where it is.
        queries: How a black box (`endpoint:https://...`) is asked; it is inverted from its answers alone, see
            `hf_free.inversion.zero_order`.
        endpoint_tokens: Its token, as for `train`.
        progress: Called before each step with what is being done, the steps done and all of them.

    Returns:
        Images (N, C, H, W) as bytes, labels (N,), the teacher's probabilities (N, n_way), and how well it went. Of a
        large head only some classes are recovered, see `classes`.

    Raises:
        TeacherReferenceError: a text that names no teacher.
        HubError: files that cannot be fetched.
        TeacherError: a checkpoint that cannot serve as a teacher.
        ConfigError: a device that this machine does not have, a seed that is none, no such `inversion`, or one with a
            `generator`.
        RunError: a folder without a meta-generator, a black box that takes more queries than its budget, or numbers
            of steps or images that are none or too small.
    """
    check_texts(token=token, inversion=inversion)
    check_cache_dir(cache_dir)
    check_kind(queries, "queries", QueriesConfig, allowed="a QueriesConfig, as FreeConfig().queries, or None")
    check_function(progress, "progress", TOLD)
    usual = default_steps(generator, inversion)  # also refuses what does not go together when the steps are given
    steps = usual if steps is None else steps
    steps, seed = whole_number(steps, "steps", least=1, error=RunError), given_seed(seed)
    images_per_class = whole_number(images_per_class, "images_per_class", least=2, most=MOST_PER_CLASS, error=RunError)
    queries = QueriesConfig() if queries is None else queries
    if not isinstance(teacher, Teacher):
        where = choose_device(str(device))
        endpoints = EndpointAccess.of(queries, tokens=endpoint_tokens)
        teacher = load_teacher(teacher, token=token, cache_dir=cache_dir, device=where, endpoints=endpoints)
    pause = _telling(progress, teacher.record.reference, steps)
    if isinstance(teacher, BlackBox):
        if generator is not None or inversion not in (None, "zero-order"):
            raise RunError(
                f"{teacher.record.reference} only answers: a run's generator and other ways to invert take gradients",
                allowed="--inversion zero-order, from a fresh generator",
                action="leave out --generator and --inversion",
            )
        return _by_answers(teacher, queries, pause, steps=steps, images_per_class=images_per_class, seed=seed)
    if not teacher.has_answered:  # made of a network in memory
        try_out(teacher)
    if inversion not in (None, "five"):
        return _invert_otherwise(teacher, inversion, pause, steps=steps, images_per_class=images_per_class, seed=seed)
    trained = None if generator is None else RunFolder(given_path(generator, "generator")).read_generator()
    return invert_teacher(
        teacher, steps=steps, images_per_class=images_per_class, generator=trained, seed=seed, pause=pause
    )


def _telling(progress: Callable[[str, int, int], None] | None, name: str, steps: int) -> Callable[[], None]:
    """What an inverter calls before each step; one that tries again with less memory stays at the last step."""
    done = count()
    return lambda: None if progress is None else progress(f"inverting {name}", min(next(done), steps - 1), steps)


def _by_answers(
    teacher: BlackBox,
    queries: QueriesConfig,
    pause: Callable[[], None],
    *,
    steps: int,
    images_per_class: int,
    seed: int,
) -> RecoveredTask:
    """Recover a task from a black box.

    Raises:
        RunError: it has no answer, or its budget is too small.
    """
    channels, height, width = teacher.record.input_size
    five = FiveConfig(images_per_class=images_per_class, inner_steps=steps, conditional=False)
    inverter = ZeroOrderInverter(
        five, queries, image_size=max(height, width), channels=channels, streams=RandomStreams(seed)
    )
    inverter.pause = pause
    task = inverter.recover(teacher, steps=steps)
    if task.health.problem is not None:
        raise _failed(teacher.record.reference, task.health.problem, task.health.way_out)
    return task


def _failed(name: str, problem: str, way_out: str) -> RunError:
    """What an inversion by answers ends with: its queries, the server or the memory were not enough."""
    given = problem if problem.startswith(name) else f"{name}: {problem}"
    if way_out == MORE_QUERIES:
        fewer = "fewer --steps, --images-per-class, --directions"
        return RunError(given, allowed="an inversion within its queries", action=f"{way_out}; or {fewer}")
    if way_out:
        return RunError(given, allowed="a server that answers until the last step", action=way_out)
    return RunError(given, allowed="an inversion that the memory is enough for", action="fewer --images-per-class")


def _invert_otherwise(
    teacher: Teacher,
    inversion: str | None,
    pause: Callable[[], None],
    *,
    steps: int,
    images_per_class: int,
    seed: int,
) -> RecoveredTask:
    """One task by a way to invert that has a name, of the teacher's own size."""
    channels, *sides = teacher.record.input_size
    config = FreeConfig.from_dict(
        {
            "inversion": inversion,
            "five": {"images_per_class": images_per_class, "inner_steps": steps},
            "learner": {"image_size": max(sides), "channels": channels},
        }
    )
    precision = Precision.choose("auto", teacher.device)
    settings = MethodSettings.of(config)
    inverter = inverter_of(settings)(settings, teacher.device, precision, RandomStreams(seed), ONE_CHAIN)
    inverter.pause = pause
    return inverter.recover(teacher, steps=steps)
