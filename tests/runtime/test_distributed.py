"""Accelerate, as it is set up for one process."""

from __future__ import annotations

import random

import torch

from hf_free.runtime.distributed import make_accelerator, seed_everything


def test_a_seed_makes_the_same_numbers_everywhere():
    drawn = []
    for seed in (3, 3, 4):
        seed_everything(seed)
        drawn.append((random.random(), torch.rand(3).tolist()))
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_on_a_cpu_there_is_one_process_on_the_cpu():
    accelerator = make_accelerator(torch.device("cpu"))
    assert (accelerator.num_processes, accelerator.device.type) == (1, "cpu")
