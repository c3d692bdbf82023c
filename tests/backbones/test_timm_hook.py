"""Our networks are timm's as soon as timm is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FORMAT_1 = Path(__file__).parents[1] / "fixtures" / "learner_format_1"
"""A saved Conv-4 learner for pictures of 16 pixels."""


def _run(code: str, forks=None) -> str:
    """What the code prints, in a process that has nothing imported, or in a fork."""
    argv = [sys.executable, "-c", code]
    result = (
        forks.run(argv, imports=True) if forks else subprocess.run(argv, capture_output=True, text=True, check=False)
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


_INSTALL = "import hf_free; from hf_free.backbones import timm_hook as _timm_hook; _timm_hook.install(); "


@pytest.mark.long
def test_hook_registers_when_timm_is_imported_afterwards():
    assert (
        _run(
            "import sys; before = list(sys.meta_path); "
            + _INSTALL
            + "_timm_hook.install(); assert not {'torch', 'timm'} & set(sys.modules); "
            "import importlib.util; assert importlib.util.find_spec('timm') is not None; "  # asked, not imported
            "import timm.layers; "
            "print(timm.create_model('conv4_32', num_classes=3).num_classes, sys.meta_path == before, "
            "'exec_module' in vars(timm.__spec__.loader), timm.__spec__.loader is timm.__loader__)"
        )
        == "3 True False True"
    )


def test_hook_registers_when_timm_was_imported_before(forks):
    assert (
        _run(
            "import sys, timm; before = list(sys.meta_path); "
            + _INSTALL
            + "print(timm.create_model('resnet10_small').num_classes, sys.meta_path == before)",
            forks,
        )
        == "5 True"
    )


def test_backbones_can_be_imported_first_with_the_hook_installed(forks):
    code = "import hf_free.backbones.register, timm; print(timm.is_model('conv4_64'))"
    assert _run(_INSTALL + code, forks) == "True"


def test_a_conv4_learner_is_opened_and_asked_without_timm():
    """timm, with torchvision and torch's compiler behind it, takes half of what `hf-free predict` takes."""
    code = (
        "import sys, torch; from hf_free import MetaLearner; "
        f"learner = MetaLearner.from_pretrained({str(FORMAT_1)!r}); "
        "images = torch.rand(4, 3, 16, 16); print(len(learner.adapt(images, [0, 0, 1, 1]).predict(images)), "
        "sorted({'timm', 'torchvision', 'torch._dynamo', 'sympy'} & set(sys.modules)))"
    )
    assert _run(code) == "4 []"
