"""Several teachers fetched at once: overlapping, counted, failing early and by name; on the loopback Hub."""

from __future__ import annotations

from hub_calls import paths
from pico import pico_files

FETCH = """
import json, sys, threading, time
from hf_free.errors import HubError
from hf_free.hub.prefetch import Prefetcher
from hf_free.teachers.reference import TeacherReference
references = [TeacherReference.parse(text) for text in {names!r}]
seen, threads = [], set()
def report(state):
    seen.append([state.done, state.total, state.bytes_done, state.bytes_total])
begin, failed, found = time.monotonic(), None, []
try:
    with Prefetcher(references, report=report) as prefetcher:
        for reference in references:
            found.append(prefetcher.snapshot(reference, fail_early={early}).commit)
except HubError as error:
    failed = str(error)
print(json.dumps({{"found": found, "failed": failed, "seen": seen, "seconds": time.monotonic() - begin,
                   "left": [t.name for t in threading.enumerate() if t.name.startswith("hf-free-fetch")]}}))
"""
FILES = {"config.json": b"{}", "model.safetensors": b"weights" * 50_000}
SIZE = sum(map(len, FILES.values()))


def fetch(run_client, names, *, early=True, **options):
    return run_client(FETCH.format(names=names, early=early), **options).json


def test_each_repository_is_fetched_once_and_counted(hub, tokens, run_client):
    commits = {name: hub.add_repo(name, FILES) for name in ("many/a", "many/b", "many/c", "many/d", "many/e")}
    start = len(hub.requests)
    names = [*commits, "many/a:0-4", "many/b@main"]
    found = fetch(run_client, names)
    assert found["failed"] is None
    assert found["found"] == [*commits.values(), commits["many/a"], commits["many/b"]]
    assert found["left"] == []
    files = [path for path in paths(hub, start, about="many/") if path.endswith("model.safetensors")]
    assert len([path for path in files if path.startswith("/many/a/")]) == 1
    assert found["seen"][0] == [0, 6, 0, 0]
    # b is named at main too, which is another place: each file found in the cache or fetched again, never half
    done, total, arrived, expected = found["seen"][-1]
    assert (done, total) == (6, 6)
    assert arrived == expected
    assert arrived - 5 * SIZE in {0, SIZE, *map(len, FILES.values())}
    assert all(before[2] <= after[2] for before, after in zip(found["seen"], found["seen"][1:], strict=False))


def test_downloads_overlap(hub, tokens, run_client):
    names = [f"slow/t{index}" for index in range(3)]
    for name in names:
        hub.add_repo(name, FILES)
    start = len(hub.requests)
    # the first repository's answer takes as long as a client waits; the others are there before it
    with hub.fault("stall", "/api/models/slow/t0", seconds=2.0, times=1):
        found = fetch(run_client, names)
    assert found["failed"] is None
    order = [path for path in paths(hub, start, about="slow/") if path.endswith("model.safetensors")]
    assert order[-1].startswith("/slow/t0/")
    assert len(order) == 3


def test_failure_is_told_at_once_and_by_name(hub, tokens, run_client):
    hub.add_repo("early/good", FILES)
    with hub.fault("stall", "/api/models/early/good"):
        found = fetch(run_client, ["early/good", "early/absent"])
    assert "early/absent does not exist" in found["failed"]
    assert found["found"] == []
    assert found["left"] == []


def test_without_strictness_each_failure_is_its_own(hub, tokens, run_client):
    files = [pico_files("conv4", seed=seed) for seed in (1, 2)]
    hub.add_repo("own/one", files[0])
    hub.add_repo("own/two", files[1])
    code = """
import json
from hf_free.teachers.pool import TeacherPool
states = []
pool = TeacherPool(["own/one", "own/absent", "not a name", "own/two"], fetched=states.append)
print(json.dumps([[r.reference for r in pool.records], [r for r, _ in pool.skipped], states[-1].done]))
"""
    loaded, skipped, done = run_client(code).json
    assert loaded == ["own/one", "own/two"]
    assert skipped == ["own/absent", "not a name"]
    assert done == 3


def test_weights_from_the_cache_are_mapped(hub, tokens, run_client):
    hub.add_repo("mapped/vit", pico_files("vit", size=32, seed=4))
    code = """
import json
from pathlib import Path
import torch
from hf_free.teachers.reference import TeacherReference
from hf_free.teachers.loader import load_teacher
from safetensors.torch import load_file
from hf_free.hub.snapshot import fetch_snapshot
teacher = load_teacher(TeacherReference.parse("mapped/vit"))
blob = str((fetch_snapshot("mapped/vit").folder / "model.safetensors").resolve())
ranges = [[int(end, 16) for end in line.split()[0].split("-")] for line in open("/proc/self/maps") if blob in line]
matrices = [p for p in teacher.network.parameters() if p.ndim == 2]
inside = [any(low <= p.data_ptr() < high for low, high in ranges) for p in matrices]
weights = load_file(blob)
equal = all(torch.equal(p, weights[name]) for name, p in teacher.network.named_parameters())
frozen = not any(p.requires_grad for p in teacher.network.parameters())
print(json.dumps([len(inside) > 4, all(inside), equal, frozen]))
"""
    assert run_client(code).json == [True, True, True, True]
