"""Freed memory is reused instead of asked for anew."""

from __future__ import annotations

import gc
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from forked import Forks

from hf_free.runtime.allocator import rare_collections

PROGRAM = """
import resource, sys, torch
from hf_free.runtime.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.set_num_threads(1)
for step in range(16):  # 48 MB a tensor, above what glibc keeps by itself
    if step == 8:  # its heap has found room for an aligned block by then
        before = faults()
    torch.ones(12_000_000).sum()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_freed_memory_is_not_asked_for_again(forks: Forks) -> None:
    """48 MB are 11,719 pages of 4 KiB, or 23 of 2 MiB; each tensor faults for all of them, or for none."""

    def faults(choice: str) -> int:
        done = forks.run([sys.executable, "-c", PROGRAM, choice], check=True, imports=True)
        return int(done.stdout)

    assert faults("keep") < faults("give back") / 4


def _thresholds_within() -> tuple[int, int, int]:
    with rare_collections():
        return gc.get_threshold()


def test_garbage_is_looked_for_seldom_and_then_as_before() -> None:
    before = gc.get_threshold()
    try:
        gc.set_threshold(700, 10, 10)
        young, middle, old = _thresholds_within()
        assert young > 700
        assert middle == 10
        assert old > 10
        with pytest.raises(ValueError, match="within"), rare_collections():
            raise ValueError("within")
        assert gc.get_threshold() == (700, 10, 10)
        gc.set_threshold(0, 10, 10)
        assert _thresholds_within() == (0, 10, 10)
    finally:
        gc.set_threshold(*before)


def test_no_garbage_is_looked_for_while_torch_is_imported(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("import gc\nkept, looked = [[] for _ in range(9)], gc.isenabled()\n")
    code = """
import gc, sys
from hf_free.runtime.allocator import import_torch
assert "torch" not in sys.modules
import_torch()
print(sys.modules["torch"].looked, gc.isenabled(), gc.get_freeze_count() > 9)
gc.unfreeze()
import_torch()
print(gc.get_freeze_count())
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "False True True\n0\n"
