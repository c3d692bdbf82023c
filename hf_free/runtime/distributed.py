"""The one place where Accelerate is set up. There is one process so far."""

from __future__ import annotations

import torch
from accelerate import Accelerator as Accelerator
from accelerate.utils import set_seed


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's random numbers."""
    set_seed(seed)


def make_accelerator(device: torch.device) -> Accelerator:
    """Accelerate's view of this process, on a device that is chosen already."""
    return Accelerator(cpu=device.type == "cpu")
