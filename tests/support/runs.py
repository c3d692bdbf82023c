"""The smallest run there is."""

from __future__ import annotations

from pathlib import Path

from hf_free.training.folder import RunFolder

TINY = {
    "five": {
        "latent_dim": 8,
        "width": 4,
        "images_per_class": 4,
        "inner_steps": 1,
        "teachers_per_step": 2,
        "min_teacher_accuracy": 0.0,
        "min_diversity": 0.0,
        "recover_share": 0.7,
    },
    "memory": {"drawn_per_step": 8, "max_images": 100, "held_out_images": 16},
    "bell": {"batch_size": 16, "updates_per_step": 2},
    "learner": {"backbone": "conv4_32", "image_size": 16},
    "trainer": {
        "steps": 6,
        "max_minutes": None,
        "warmup_steps": 1,
        "log_every": 1,
        "checkpoint_every": 3,
        "picture_every": 1000,
        "validation_episodes": 5,
        "device": "cpu",
        "mixed_precision": "no",
    },
}
"""A run of a second; recovers in steps 1 to 5 (the first is warm-up), learns from step 3 on."""


def last_checkpoint(run: Path) -> Path:
    """The folder of a run's newest whole checkpoint."""
    return RunFolder(run).whole_checkpoint().folder
