"""Images recovered from one classifier, from a fresh generator or from a run's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from hf_free.config.sections import FiveConfig, QueriesConfig
from hf_free.errors import RunError
from hf_free.inversion.five import invert_teacher
from hf_free.inversion.task import RecoveredTask
from hf_free.inversion.zero_order import ZeroOrderInverter
from hf_free.runtime.device import choose_device
from hf_free.runtime.random_streams import RandomStreams
from hf_free.teachers.black_box import BlackBox
from hf_free.teachers.endpoints import EndpointAccess
from hf_free.teachers.loader import load_teacher
from hf_free.teachers.reference import TeacherReference
from hf_free.teachers.teacher import Teacher
from hf_free.training.folder import RunFolder

FRESH_STEPS = 200
"""Inner steps from a fresh generator, which has everything to learn; a trained one needs the recipe's few."""

TRAINED_STEPS = 5
"""Inner steps from the generator that a run has meta-trained."""


def default_steps(generator: str | Path | None) -> int:
    """Inner steps where none are given: from a fresh generator, or from a run's."""
    return FRESH_STEPS if generator is None else TRAINED_STEPS


def invert(
    teacher: Teacher | TeacherReference | str | Path,
    *,
    steps: int | None = None,
    images_per_class: int = 10,
    generator: str | Path | None = None,
    seed: int = 0,
    token: str | None = None,
    cache_dir: str | Path | None = None,
    device: str | torch.device = "auto",
    queries: QueriesConfig | None = None,
    endpoint_tokens: Sequence[str] = (),
) -> RecoveredTask:
    """Recover labeled images from one classifier by inversion (FIVE's inner loop), without data.

    Args:
        teacher: A Hub id, a folder, a reference to either, or a teacher that has been loaded already.
        steps: Inner steps; None takes `FRESH_STEPS`, or `TRAINED_STEPS` with `generator`.
        images_per_class: Images per class, at least 2.
        generator: Folder of a finished run whose meta-generator to start from; None starts from a fresh one.
        seed: Seed of generator and latents.
        token: Hub token, for a private or gated teacher.
        cache_dir: Folder of the download cache.
        device: Where to compute; `auto` takes a GPU where there is one. A loaded teacher stays where it is.
        queries: How a black box (`endpoint:https://...`) is asked; it is inverted by its answers alone, see
            `hf_free.inversion.zero_order`.
        endpoint_tokens: Its token, as for `train`.

    Returns:
        Images (N, C, H, W) as bytes, labels (N,), the teacher's probabilities (N, n_way), and how well it went. Of a
        large head only some classes are recovered, see `classes`.

    Raises:
        TeacherReferenceError: a text that names no teacher.
        HubError: files that cannot be had.
        TeacherError: a checkpoint that cannot serve as a teacher.
        ConfigError: a device that this machine does not have.
        RunError: a folder without a meta-generator, a black box that takes more queries than its budget, or less
            than one step or image.
    """
    steps = default_steps(generator) if steps is None else steps
    if steps < 1 or images_per_class < 2:
        raise RunError(f"steps={steps}, images_per_class={images_per_class}", allowed="at least 1 step and 2 images")
    queries = queries or QueriesConfig()
    if not isinstance(teacher, Teacher):
        where = choose_device(str(device))
        endpoints = EndpointAccess.of(queries, tokens=endpoint_tokens)
        teacher = load_teacher(teacher, token=token, cache_dir=cache_dir, device=where, endpoints=endpoints)
    if isinstance(teacher, BlackBox):
        if generator is not None:
            raise RunError(
                f"{teacher.record.reference} only answers, and a run's meta-generator adapts by gradients",
                allowed="a fresh generator for a black box",
                action="leave out --generator",
            )
        return _by_answers(teacher, queries, steps=steps, images_per_class=images_per_class, seed=seed)
    trained = None if generator is None else RunFolder(Path(generator)).read_generator()
    return invert_teacher(teacher, steps=steps, images_per_class=images_per_class, generator=trained, seed=seed)


def _by_answers(
    teacher: BlackBox, queries: QueriesConfig, *, steps: int, images_per_class: int, seed: int
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
    task = inverter.recover(teacher, steps=steps)
    if task.health.problem is not None:
        raise RunError(
            f"{teacher.record.reference}: {task.health.problem}",
            allowed="an inversion within its queries",
            action="a higher --query-budget; or fewer --steps, --images-per-class, --directions",
        )
    return task
