"""What is free within control groups of both versions, and how many pictures are taken at once."""

from __future__ import annotations

import pytest
import torch

from hf_free.runtime.memory_budget import cgroup_headroom, free_memory, pictures_at_once, pictures_in_cache

GIB = 2**30


def _group(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def test_version_2_counts_the_tightest_group_and_not_the_cache(tmp_path):
    root, own = tmp_path / "cgroup", tmp_path / "self"
    own.write_text("0::/outer/inner\n")
    _group(root)
    _group(root / "outer", memory__max=6 * GIB, memory__current=5 * GIB, memory__stat=f"anon 1\ninactive_file {GIB}")
    _group(root / "outer" / "inner", memory__max="max", memory__current=4 * GIB)
    assert cgroup_headroom(own, root) == 2 * GIB
    _group(root / "outer" / "inner", memory__max=4 * GIB, memory__current=5 * GIB)
    assert cgroup_headroom(own, root) == 0  # beyond its limit already


def test_version_1_and_both_at_once(tmp_path):
    root, own = tmp_path / "cgroup", tmp_path / "self"
    own.write_text("5:cpu,cpuacct:/job\n4:memory:/job\n0::/\n")
    _group(root / "memory", memory__limit_in_bytes=2**63 - 4096, memory__usage_in_bytes=9 * GIB)
    stat = f"inactive_file 7\ntotal_inactive_file {GIB}"
    _group(root / "memory" / "job", memory__limit_in_bytes=8 * GIB, memory__usage_in_bytes=3 * GIB, memory__stat=stat)
    assert cgroup_headroom(own, root) == 6 * GIB
    _group(root, memory__max=5 * GIB, memory__current=0)
    assert cgroup_headroom(own, root) == 5 * GIB


def test_a_container_sees_its_own_group_as_the_root(tmp_path):
    root, own = tmp_path / "cgroup", tmp_path / "self"
    own.write_text("0::/system.slice/docker-0123.scope\n")  # the host's path, which is not mounted in the container
    _group(root, memory__max=3 * GIB, memory__current=GIB)
    assert cgroup_headroom(own, root) == 2 * GIB


@pytest.mark.parametrize("text", [None, "0::/\n", "3:cpu:/a\n", "nonsense\n"])
def test_no_limit_is_none(tmp_path, text):
    own = tmp_path / "self"
    if text is not None:
        own.write_text(text)
    assert cgroup_headroom(own, tmp_path / "nothing") is None


def test_free_memory_is_the_smaller_of_machine_and_group(monkeypatch):
    device = torch.device("cpu")
    monkeypatch.setattr("hf_free.runtime.memory_budget.cgroup_headroom", lambda: 1234)
    assert free_memory(device) == 1234
    monkeypatch.setattr("hf_free.runtime.memory_budget.cgroup_headroom", lambda: None)
    assert free_memory(device) > 1234


def test_pictures_at_once():
    assert [pictures_at_once(size) for size in (32, 84, 224, 4096)] == [2048, 297, 41, 2]


@pytest.mark.parametrize(("size", "pictures"), [(32, 32), (64, 8), (224, 8), (8, 512), (1, 32768)])
def test_a_cpu_embeds_few_pictures_at_once(size, pictures):
    assert pictures_in_cache(size) == pictures
