"""Constants of the methods: FREE's public code as it is, FREE with its defects mended, the best we found, its peers.

Sources: [code] the authors' repository, for FREE WalkerWorldPeace/FREE at commit 7767d42; [fast] Fast-Datafree (Fang
et al., AAAI 2022), its scripts; [ours] measured, see docs/experiments.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

from hf_free.provenance.reading import Json

Defect = Literal[
    "store_last_teacher_only",
    "divergence_of_probabilities",
    "images_before_last_step",
    "outer_optimizer_reborn",
    "last_step_gradient_only",
    "reptile_gradient_through_adam",
    "student_keeps_replay_weights",
    "transductive_batchnorm",
]
"""Names of the released FREE code's defects, as the configuration gives them; see docs/methods/constants.md."""


@dataclass(frozen=True, kw_only=True)
class Defects:
    """Which defects of the released FREE code are reproduced; none by default."""

    store_last_teacher_only: bool = False
    """Only the last task of an outer step goes into the memory."""
    divergence_of_probabilities: bool = False
    """`kl_div` gets probabilities in place of log-probabilities, and the arguments in the other order."""
    images_before_last_step: bool = False
    """The task is made of the images before the last inner step's update."""
    outer_optimizer_reborn: bool = False
    """Each outer step has a new Adam."""
    last_step_gradient_only: bool = False
    """The meta-generator follows the last inner step's gradient alone."""
    reptile_gradient_through_adam: bool = False
    """Adam is given the displacement of the sequential steps as a gradient."""
    student_keeps_replay_weights: bool = False
    """The student answers with the weights that the last replay episode was adapted to."""
    transductive_batchnorm: bool = False
    """The learner normalizes query images together, by their own statistics."""

    @classmethod
    def named(cls, names: Collection[Defect]) -> Defects:
        """The defects of these names."""
        return cls(**dict.fromkeys(names, True))


_PAPER: Json = {
    "five": {
        "inner_steps": 5,  # [code] generate_iterations; "in just five steps" in the abstract
        "inner_lr": 1e-3,  # [code] lr_g
        "latent_lr": 1e-3,  # [code]
        "outer_lr": 1e-3,  # [code]
        "teachers_per_step": 4,  # [code] num_teacher
        "images_per_class": 20,  # [code] num_qur_kd
        "max_classes": 20,
        "latent_dim": 256,  # [code] nz
        "width": 64,  # [code] ngf
        "conditional": False,  # [code] the generator never sees the label
        "canvas": False,
        "cross_entropy": 1.0,  # [code] oh
        "batchnorm": 0.0,  # [code] --bn 0, its hook is never registered
        "recognition_first": False,
        "canvas_distance": 0.0,
        "donor_batchnorm": 0.0,
        "adversarial": 1.0,  # [code] adv
        "recover_share": 1.0,
        "min_teacher_accuracy": 0.0,
        "min_diversity": 0.0,
    },
    "memory": {"drawn_per_step": 0, "max_images": 25_600},  # [code] 400 images per class, 64 classes
    "bell": {
        "objective": "align",
        "lr": 1e-3,  # [code] outer_lr
        "inner_lr": 1e-3,  # [code]
        "temperature": 1.0,
        "replay_tasks": 10,  # [code] episode_batch
        "replay_patience": 10,  # [code] generate_interval
        "replay_inner_steps": 5,  # [code]
        "replay_inner_lr": 0.01,  # [code]
        "n_way": 5,
        "k_shot": 1,
        "n_query": 15,
        "match_label_names": True,  # [code] the pool keeps absolute class ids
    },
    "learner": {"backbone": "conv4_32", "head": "maml", "views": ["identity"]},  # [code]
    "trainer": {"warmup_steps": 19, "steps": 999},  # [code] epochs 1 to 999, of which 1 to 19 are below --warmup 20
}

RELEASED_DEFECTS: tuple[Defect, ...] = get_args(Defect)
"""Everything in which the released code departs from the method."""

_DEFAULT: Json = {
    "trainer": {"max_minutes": 30.0},
}
"""The defaults of the sections in `hf_free.config.sections` are the best we found; this adds the length of a run."""

_PURER: Json = {  # [code] Egg-Hu/PURER at commit 6d62ccd: main.py, tool.py, methods/maml.py, pretrain.py, scripts/
    "five": {
        "inner_steps": 1,  # [code] one data step, then one update of the learner
        "pixel_lr": 0.25,  # [code]
        "teachers_per_step": 13,  # [code] ceil(64 / 5) teachers, all of them; PURER-Plus: 13 of 100
        "images_per_class": 20,  # [code] 5 shots; 16 for 1 shot
        "max_classes": 20,
        "conditional": False,
        "canvas": False,
        "cross_entropy": 1.0,  # [code]
        "total_variation": 1e-4,  # [code] sum of four norms over the whole batch
        "batchnorm": 0.01,  # [code] sum over layers of two norms
        "recognition_first": False,
        "canvas_distance": 0.0,
        "donor_batchnorm": 0.0,
        "adversarial": 0.0,  # [code] the curriculum takes its place: bell.challenge
        "flip": False,  # [code] jitter alone
        "recover_share": 1.0,
        "min_teacher_accuracy": 0.0,
        "min_diversity": 0.0,
    },
    "memory": {
        "drawn_per_step": 0,
        "max_images": 1300,  # 13 teachers x 5 classes x 20: the pixels as they are, none of an earlier step
        "held_out_images": 2,  # too few to choose a checkpoint by: all pixels are learned from
    },
    "bell": {
        "objective": "episodes",
        "lr": 1e-3,  # [code]
        "updates_per_step": 1,  # [code]
        "replay_tasks": 4,  # [code]
        "replay_patience": 6,  # [code]
        "replay_inner_steps": 1,  # [code]
        "replay_inner_lr": 0.01,  # [code]
        "challenge": 10.0,  # [code] -10 x the outer loss
        "challenge_after": 4000,  # [code]
        "n_way": 5,
        "k_shot": 1,
        "n_query": 15,
        "match_label_names": True,  # [code] the pixels' labels are absolute class ids
    },
    "learner": {
        "backbone": "conv4_32",  # [code]
        "head": "maml",
        "views": ["identity"],
        "calibration_steps": 5,  # [ours] the paper's ICFIL is not in its code
    },
    "trainer": {"warmup_steps": 0, "steps": 60_000},  # [code] 240,000 episodes, four per update
}

_TGR: Json = {  # [code] WalkerWorldPeace/TGR at commit 77f6239: main.py, task_similarity.py, methods/maml.py, scripts/
    "five": {
        "inner_steps": 200,  # [code]
        "inner_lr": 1e-3,  # [code]
        "latent_lr": 1e-3,  # [code]
        "teachers_per_step": 4,  # [code]
        "images_per_class": 30,  # [code]
        "max_classes": 20,
        "latent_dim": 256,  # [code]
        "width": 64,  # [code]
        "conditional": False,  # [code]
        "canvas": False,
        "cross_entropy": 1.0,  # [code]
        "batchnorm": 1.0,  # [code], there of norms; see hf_free.inversion.batchnorm_statistics
        "recognition_first": False,
        "canvas_distance": 0.0,
        "donor_batchnorm": 0.0,
        "adversarial": 0.0,  # [code]
        "recover_share": 1.0,
        "min_teacher_accuracy": 0.0,
        "min_diversity": 0.0,
    },
    "memory": {"drawn_per_step": 0, "max_images": 38_400},  # [code] 20 batches of 30 per class, 64 classes
    "bell": {
        "objective": "regularize",
        "lr": 1e-3,  # [code]
        "temperature": 1.0,
        "groups": 5,  # [code]
        "dispersion": 1e-3,  # [code] lambda
        "second_order": True,  # [code]
        "replay_tasks": 16,  # [code]
        "replay_patience": 4,  # [code]
        "replay_inner_steps": 5,  # [code]
        "replay_inner_lr": 0.01,  # [code]
        "n_way": 5,
        "k_shot": 1,
        "n_query": 15,
        "match_label_names": True,  # [code] absolute class ids
    },
    "learner": {"backbone": "conv4_32", "head": "maml", "views": ["identity"]},  # [code]
    "trainer": {"warmup_steps": 0, "steps": 1200},  # [code]
}

_BIDF_MKD: Json = {  # [code] Egg-Hu/BiDf-MKD at commit 2a08d26: mainKD.py, synthesis/, black_box_tool.py, methods/
    "five": {
        "inner_steps": 200,  # [code]
        "inner_lr": 1e-3,  # [code]
        "latent_lr": 1e-3,  # [code]
        "teachers_per_step": 1,  # [code] one API, until replay stops helping
        "images_per_class": 30,  # [code] in each of two sets
        "max_classes": 20,
        "latent_dim": 256,  # [code]
        "width": 64,  # [code]
        "conditional": False,  # [code]
        "canvas": False,
        "cross_entropy": 1.0,  # [code]
        "batchnorm": 0.0,
        "recognition_first": False,
        "canvas_distance": 0.0,
        "donor_batchnorm": 0.0,
        "adversarial": 1.0,  # [code] for the query set
        "recover_share": 1.0,
        "min_teacher_accuracy": 0.0,
        "min_diversity": 0.0,
    },
    "memory": {"drawn_per_step": 0, "max_images": 38_400},  # [code] 20 batches of 30 per class, 64 classes
    "bell": {
        "objective": "bilevel",
        "lr": 1e-3,  # [code]
        "temperature": 1.0,
        "distilled_steps": 10,  # [code]
        "replay_tasks": 4,  # [code]
        "replay_patience": 200,  # [code]
        "replay_inner_steps": 5,  # [code]
        "replay_inner_lr": 0.01,  # [code] for distillation too
        "n_way": 5,
        "k_shot": 1,
        "n_query": 15,
        "match_label_names": True,  # [code] absolute class ids
    },
    "learner": {"backbone": "conv4_32", "head": "maml", "views": ["identity"]},  # [code]
    "queries": {"directions": 100, "smoothing": 0.005},  # [code]
    "trainer": {"warmup_steps": 0, "steps": 298},  # [code] 60,000 updates, 200 and more per task
}

RECIPES: dict[str, Json] = {
    "default": _DEFAULT,
    "paper": _PAPER,
    "released": {**_PAPER, "defects": list(RELEASED_DEFECTS)},
    "purer": _PURER,
    "tgr": _TGR,
    "bidf-mkd": _BIDF_MKD,
}
"""Method -> the settings in which it differs from the defaults; `hf_free.methods.registry.register` adds more."""


def recipe_values(name: str) -> Json:
    """The settings in which a method differs from the defaults of each section, as nested mappings.

    `FreeConfig` lays them below whatever is given, so there is hardly a reason to call this.

    Args:
        name: `default`, `paper`, `released`, `purer`, `tgr`, `bidf-mkd`, or a method that was registered.

    Raises:
        KeyError: any other name.
    """
    return {"method": name, **copy.deepcopy(RECIPES[name])}


INVERSIONS: dict[str, Json] = {
    "five": {"five": {"inner_steps": 5}},  # FREE
    "generator": {"five": {"inner_steps": 200}, "trainer": {"warmup_steps": 0}},  # BiDf-MKD and TGR
    "pixels": {"five": {"inner_steps": 1000}, "trainer": {"warmup_steps": 0}},  # DeepInversion
    "zero-order": {"five": {"inner_steps": 200, "conditional": False}, "trainer": {"warmup_steps": 0}},  # BiDf-MKD
}
"""Way to invert -> the settings that it brings, laid over a method's where it is asked for by name;
`hf_free.methods.inversions.register_inversion` adds more."""


def inversion_values(name: str) -> Json:
    """The settings that a way to invert brings, as nested mappings.

    Raises:
        KeyError: no such way.
    """
    return copy.deepcopy(INVERSIONS[name])
