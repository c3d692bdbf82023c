"""Every operation that talks to a Hub against every fault that a Hub can show: `make faults` prints the table.

A cell is green where the operation succeeds with the right bytes, or ends in one error of ours with a way out, within
the deadline; where nothing half-done is left; where no token and no signed address is shown; and where the fault has
fired. One process has everything imported and forks for each cell, so that cells wait side by side.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from hf_free.hub.loopback.hub import LoopbackHub

DEADLINE = 45.0
"""Seconds of a cell. hf-free gives up 14 s after the last sign of life; a phase under way and, for uploads, the
client's own retries come on top."""

OPERATIONS = ("fetch", "load", "save", "push", "search")

PLACES = {
    "fetch": {"info": "/api/models/{repo}/revision", "body": "/{repo}/resolve/.*/model.safetensors"},
    "load": {"info": "/api/models/{repo}/revision", "body": "/{repo}/resolve/.*/model.safetensors"},
    "save": {"body": "/{repo}/resolve/.*/hf_free.safetensors"},
    "push": {
        "info": "/api/models/{repo}$",
        "preupload": "/api/models/{repo}/preupload/",
        "batch": "/{repo}.git/info/lfs/objects/batch",
        "storage": "/lfs/{oid}",
        "commit": "/api/models/{repo}/commit/",
    },
    "search": {"listing": r"/api/models\?.*search={name}(&|$)"},
}
"""Operation -> place -> the requests that a fault hits, as `Fault.path`."""

_JSON = {"kind": "status", "status": 200, "times": None}
FAULTS: dict[str, dict[str, Any]] = {
    "503": {"kind": "status", "status": 503, "times": None},
    "500 once": {"kind": "status", "status": 500, "times": 1},
    "429, wait a day": {"kind": "status", "status": 429, "headers": {"Retry-After": "86400"}, "times": None},
    "503, wait a day": {"kind": "status", "status": 503, "headers": {"Retry-After": "86400"}, "times": None},
    "401": {"kind": "status", "status": 401, "times": None},
    "403": {"kind": "status", "status": 403, "times": None},
    "404": {"kind": "status", "status": 404, "times": None},
    "close": {"kind": "close", "times": None},
    "close once": {"kind": "close", "times": 1},
    "reset": {"kind": "reset", "times": None},
    "stall": {"kind": "stall", "times": None, "seconds": 120.0},
    "trickle": {"kind": "trickle", "times": None, "seconds": 2.0},
    "truncate": {"kind": "truncate", "times": None},
    "corrupt": {"kind": "corrupt", "times": None},
    "lose once": {"kind": "lose", "times": 1},
    "a list": {**_JSON, "body": b"[]"},
    "texts": {**_JSON, "body": b'["a", "b"]'},
    "an object": {**_JSON, "body": b"{}"},
    "nulls": {**_JSON, "body": b'{"id": null, "sha": null, "siblings": [null], "files": [null], "objects": [null]}'},
    "a page": {**_JSON, "body": b"<html>"},
    "deep": {**_JSON, "body": b"[" * 50_000},
}

PASSING = ("500 once", "close once")
"""Faults after which every operation has to succeed."""

TOKEN = "hf_" + "matrixSecret" * 3


@dataclass(frozen=True)
class Cell:
    """One operation, the place where the fault is, and the fault."""

    operation: str
    place: str
    fault: str

    @property
    def name(self) -> str:
        """Unique, and fit for a repository and a folder."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.operation}-{self.place}-{self.fault}".lower())


CELLS = tuple(Cell(o, p, f) for o in OPERATIONS for p in PLACES[o] for f in FAULTS)


class Worker:
    """A process that has everything imported and runs each job in a fork of itself."""

    def __init__(self, hub: LoopbackHub, home: Path) -> None:
        environment = {**hub.environment(TOKEN, home), "OMP_NUM_THREADS": "1", "HF_DEBUG": "1"}
        argv = [sys.executable, __file__, "--worker"]
        self._log = (home / "log").open("wb")
        self._process = subprocess.Popen(
            argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        self._answers: dict[str, Queue[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(DEADLINE + 15)
        self._log.close()

    def run(self, job: dict[str, str]) -> dict[str, Any] | None:
        """What a job came to; None where nothing was heard of it in time."""
        assert self._process.stdin is not None
        queue = self._answers[job["name"]] = Queue()
        with self._lock:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
        try:
            return queue.get(timeout=3 * DEADLINE)  # a busy machine takes its time to start the fork
        except Empty:
            return None

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            self._answers[answer["name"]].put(answer)


def run_cells(cells: Iterable[Cell], *, at_once: int = 32) -> dict[Cell, str]:
    """Run cells; each gets "" where it is green, else what is wrong with it."""
    with tempfile.TemporaryDirectory(prefix="hf-free-faults-") as folder, LoopbackHub() as hub:
        home = Path(folder)
        hub.add_user("matrix", TOKEN)
        learner = {path.name: path.read_bytes() for path in _make_learner(home / "learner").iterdir()}
        with Worker(hub, home) as worker, ThreadPoolExecutor(at_once) as pool:
            verdicts = pool.map(lambda cell: (cell, _judge(cell, hub, worker, learner, home)), cells)
            found = dict(verdicts)
        log = (home / "log").read_text(errors="replace")
        leaks = [word for word in (TOKEN, "signature=") if word in log]
        return {cell: verdict or (f"the log shows {leaks[0]}" if leaks else "") for cell, verdict in found.items()}


def _judge(cell: Cell, hub: LoopbackHub, worker: Worker, learner: dict[str, bytes], home: Path) -> str:
    """Run one cell and say what is wrong with it, if anything is."""
    repo, folder = f"matrix/{cell.name}", home / cell.name
    weights = os.urandom(2000)  # its own, so that its address in the storage is too
    files = {**learner, "extra.safetensors": weights} if cell.operation == "push" else learner
    if cell.operation == "push":
        folder.mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)
    if cell.operation != "push" or cell.place == "info":
        hub.add_repo(repo, {"old.txt": b"old"} if cell.operation == "push" else files)
    oid = hashlib.sha256(weights).hexdigest()
    path = PLACES[cell.operation][cell.place].format(repo=repo, oid=oid, name=cell.name)
    with hub.fault(**{**FAULTS[cell.fault], "path": path}) as fault:
        answer = worker.run({"name": cell.name, "operation": cell.operation, "repo": repo, "folder": str(folder)})
    if answer is None:
        return f"nothing heard for {3 * DEADLINE:.0f} s"
    if not fault.hits:
        return f"the fault did not fire ({answer['kind']}: {answer['text'][:200]})"
    if answer["seconds"] > DEADLINE:
        return f"took {answer['seconds']:.0f} s"
    if TOKEN in answer["text"] or "signature=" in answer["text"]:
        return "shows a secret"
    if answer["kind"] not in ("", "ours"):
        return f"{answer['kind']}: {answer['text'][:300]}"
    if answer["kind"] == "ours" and ("to do:" not in answer["text"] or cell.fault in PASSING):
        return f"refused: {answer['text'][:300]}"
    return _what_is_left(cell, hub, files, folder, answer["kind"] == "")


def _what_is_left(cell: Cell, hub: LoopbackHub, files: dict[str, bytes], folder: Path, success: bool) -> str:
    """What is wrong with the files after an operation: whole, or none."""
    if cell.operation == "save" and (folder.exists() or success):
        found = {path.name: path.read_bytes() for path in folder.iterdir()}
        return "" if success and found["model.safetensors"] == files["model.safetensors"] else "a folder is left"
    if cell.operation != "push":
        return ""
    if {path.name: path.read_bytes() for path in folder.iterdir()} != files:
        return "the folder has changed"
    repository = hub.store.repositories.get(("model", f"matrix/{cell.name}"))
    there = {} if repository is None else hub.read_repo(repository.id)
    arrived = {name for name in files if there.get(name) == files[name]}
    if success and arrived != set(files):
        return f"success, and {sorted(set(files) - arrived)} did not arrive"
    return "" if arrived in (set(), set(files)) else f"only {sorted(arrived)} arrived"


def _make_learner(folder: Path) -> Path:
    """A small learner; its architecture is the smallest of timm's."""
    from hf_free.config.sections import LearnerConfig
    from hf_free.learner.meta_learner import MetaLearner

    MetaLearner(LearnerConfig(backbone="test_resnet", image_size=16)).save_pretrained(folder)
    return folder


# ---- the worker's side


def _work() -> None:
    """Read jobs, one a line, and run each in a fork of this process."""
    import logging

    import hf_free.hub.snapshot
    import hf_free.hub.upload  # noqa: F401
    from hf_free.learner.meta_learner import MetaLearner

    with tempfile.TemporaryDirectory() as folder:  # so that no fork imports what opening a learner imports
        MetaLearner.from_pretrained(_make_learner(Path(folder) / "learner"))
    logging.basicConfig(level=logging.DEBUG)
    for line in sys.stdin:
        if os.fork() == 0:
            os.write(1, (json.dumps(_attempt(json.loads(line))) + "\n").encode())
            os._exit(0)


def _attempt(job: dict[str, str]) -> dict[str, Any]:
    from hf_free.errors import HfFreeError

    begin, kind = time.monotonic(), ""
    try:
        text = _do(job["operation"], job["repo"], Path(job["folder"]), job["name"])
    except HfFreeError as error:
        kind, text = "ours", str(error)
    except BaseException as error:
        kind, text = type(error).__name__, str(error)
    return {"name": job["name"], "kind": kind, "text": text[:1500], "seconds": time.monotonic() - begin}


def _do(operation: str, repo: str, folder: Path, name: str) -> str:
    from hf_free.hub.snapshot import fetch_snapshot, push_folder, search_models
    from hf_free.learner.meta_learner import MetaLearner

    if operation == "fetch":
        return str(fetch_snapshot(repo).folder)
    if operation == "load":
        return str(MetaLearner.from_pretrained(repo).config.backbone)
    if operation == "save":
        MetaLearner.from_pretrained(repo).save_pretrained(folder)
        return str(folder)
    if operation == "push":
        return push_folder(folder, repo)
    return str(search_models(query=name))[:1000]


# ---- the table


def table(verdicts: dict[Cell, str]) -> str:
    """The verdicts as a table in Markdown, and the cells that are not green."""
    columns = [(o, p) for o in OPERATIONS for p in PLACES[o]]
    lines = ["| fault | " + " | ".join(f"{o}: {p}" for o, p in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for fault in FAULTS:
        found = [verdicts.get(Cell(o, p, fault)) for o, p in columns]
        lines.append(f"| {fault} | " + " | ".join("" if v is None else "RED" if v else "ok" for v in found) + " |")
    green = Counter(cell.operation for cell, verdict in verdicts.items() if not verdict)
    total = Counter(cell.operation for cell in verdicts)
    lines += ["", "; ".join(f"{o} {green[o]}/{total[o]}" for o in OPERATIONS if total[o])]
    lines += [f"RED {cell.operation}, {cell.place}, {cell.fault}: {v}" for cell, v in verdicts.items() if v]
    return "\n".join([*lines, f"{sum(green.values())} of {len(verdicts)} cells are green"])


def main() -> int:
    """Run the matrix and print it; 1 if a cell is not green."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--only", default="", help="operations, separated by commas")
    options = parser.parse_args()
    if options.worker:
        _work()
        return 0
    wanted = options.only.split(",") if options.only else OPERATIONS
    verdicts = run_cells(cell for cell in CELLS if cell.operation in wanted)
    sys.stdout.write(table(verdicts) + "\n")
    return 1 if any(verdicts.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
