"""Images recovered from one classifier, from a fresh generator or from a run's."""

from __future__ import annotations

from pathlib import Path

import torch

from hf_free.errors import RunError
from hf_free.inversion.five import invert_teacher
from hf_free.inversion.task import RecoveredTask
from hf_free.runtime.device import choose_device
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

    Returns:
        Images (N, C, H, W) as bytes, labels (N,), the teacher's probabilities (N, n_way), and how well it went. Of a
        large head only some classes are recovered, see `classes`.

    Raises:
        TeacherReferenceError: a text that names no teacher.
        HubError: files that cannot be had.
        TeacherError: a checkpoint that cannot serve as a teacher.
        ConfigError: a device that this machine does not have.
        RunError: a folder without a meta-generator, or less than one step or image.
    """
    steps = default_steps(generator) if steps is None else steps
    if steps < 1 or images_per_class < 2:
        raise RunError(f"steps={steps}, images_per_class={images_per_class}", allowed="at least 1 step and 2 images")
    if not isinstance(teacher, Teacher):
        where = choose_device(str(device))
        teacher = load_teacher(teacher, token=token, cache_dir=cache_dir, device=where)
    trained = None if generator is None else RunFolder(Path(generator)).read_generator()
    return invert_teacher(teacher, steps=steps, images_per_class=images_per_class, generator=trained, seed=seed)
