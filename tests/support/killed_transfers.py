"""Pushes and fetches killed with SIGKILL at any moment: the Hub and the cache hold whole versions, and trying again
ends well.

`python tests/support/killed_transfers.py --kills 50` prints a line per direction and exits with 1 unless every killed
push left the version before or the new one whole and the next push the new one, and every killed fetch was followed by
one that gives the very bytes and leaves nothing unfinished. The Hub is a process of its own, which lives on.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kills import killed

from hf_free.hub.loopback.hub import LoopbackHub

TOKEN, REPOSITORY = "hf_alice_secret", "alice/killed"
PIECES = 60_000
"""Pieces of 32 bytes that the weights are of: 1.9 MB."""


@contextmanager
def hub_process(root: Path) -> Iterator[dict[str, str]]:
    """A loopback Hub in a process of its own; gives the environment of its clients."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        with LoopbackHub(root / "hub") as hub:
            hub.add_user("alice", TOKEN)
            os.write(writing, json.dumps(hub.environment(TOKEN, root / "home")).encode())
            os.close(writing)
            signal.pause()
    os.close(writing)
    with open(reading, encoding="utf-8") as told:
        environment = json.load(told)
    try:
        yield environment
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def make_version(folder: Path, number: int) -> dict[str, str]:
    """Write a version of what is pushed; the SHA-256 of its files."""
    folder.mkdir(exist_ok=True)
    files = {
        "model.safetensors": hashlib.sha256(f"weights {number}".encode()).digest() * PIECES,
        "config.json": json.dumps({"architecture": "test_resnet", "version": number}).encode(),
        "README.md": f"---\nlicense: mit\n---\n# Version {number}\n".encode(),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def fetched(cache: Path) -> dict[str, str]:
    """The SHA-256 of the repository's files, of the bytes that a client has then."""
    noted = cache.with_suffix(".json")

    def fetch() -> None:
        from hf_free.hub.snapshot import fetch_snapshot

        folder = fetch_snapshot(REPOSITORY, optional=("README.md",), cache_dir=cache).folder
        noted.write_text(json.dumps({p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}))

    assert not killed(fetch)
    found: dict[str, str] = json.loads(noted.read_text())
    return found


def push(folder: Path) -> None:
    """Upload what is there."""
    from hf_free.hub.upload import push_folder

    push_folder(folder, REPOSITORY)


def seconds_of(work: Callable[[], object]) -> float:
    """How long it takes in a process like those that are killed."""
    begun = time.perf_counter()
    assert not killed(work)
    return time.perf_counter() - begun


def killed_pushes(kills: int, root: Path, draw: random.Random) -> dict[str, int]:
    """Kill pushes of one version after the other; counts of what the Hub held."""
    folder, counts = root / "learner", {"killed": 0, "old": 0, "new": 0, "mixed": 0, "not mended": 0}
    old = make_version(folder, 0)
    assert not killed(lambda: push(folder))
    assert fetched(root / "seen-0") == old
    new = make_version(folder, 1)
    longest = seconds_of(lambda: push(folder))
    for number in range(2, kills + 2):
        old, new = new, make_version(folder, number)
        counts["killed"] += killed(lambda: push(folder), after=draw.uniform(0, longest))
        held = fetched(root / f"seen-{number}")
        counts["old" if held == old else "new" if held == new else "mixed"] += 1
        assert not killed(lambda: push(folder))
        counts["not mended"] += fetched(root / f"mended-{number}") != new
    return counts


def killed_fetches(kills: int, root: Path, draw: random.Random) -> dict[str, int]:
    """Kill fetches into empty caches; counts of what the next fetch made of them."""
    from hf_free.hub.snapshot import fetch_snapshot

    def fetch(cache: Path) -> None:
        fetch_snapshot(REPOSITORY, optional=("README.md",), cache_dir=cache)

    counts = {"killed": 0, "begun": 0, "wrong": 0, "left": 0}
    right = make_version(root / "learner", -1)
    assert not killed(lambda: push(root / "learner"))
    longest = seconds_of(lambda: fetch(root / "timed"))
    for number in range(kills):
        cache = root / f"cache-{number}"
        counts["killed"] += killed(lambda cache=cache: fetch(cache), after=draw.uniform(0, longest))
        counts["begun"] += cache.is_dir() and not list(cache.rglob("snapshots/*/model.safetensors"))
        counts["wrong"] += fetched(cache) != right
        counts["left"] += bool(list(cache.rglob("*.incomplete")))
    return counts


def main() -> int:
    """Kill as many pushes and fetches as asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=20, help="of each direction")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw, bad = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as scratch, hub_process(Path(scratch)) as environment:
        os.environ.clear()
        os.environ.update(environment)  # before the client is imported, which reads it then
        importlib.import_module("hf_free.hub.upload")  # or each that is killed would be importing
        for name, kill in (("push", killed_pushes), ("fetch", killed_fetches)):
            counts = kill(options.kills, Path(scratch), draw)
            bad += sum(counts.get(key, 0) for key in ("mixed", "not mended", "wrong", "left"))
            sys.stdout.write(json.dumps({"verb": name, **counts}) + "\n")
            sys.stdout.flush()
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
