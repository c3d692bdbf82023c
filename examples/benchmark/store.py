"""Runs that go on where they stopped, and results that are measured once: what the benchmark stands on."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from rich.console import Console

from hf_free import FreeConfig, MetaLearner, train
from hf_free.errors import RunError
from hf_free.evaluation.datasets import LabeledImages, load_labeled_images
from hf_free.evaluation.evaluate import Baselines, Comparison, EpisodeSettings, evaluate
from hf_free.runtime.device import choose_device
from hf_free.teachers.pool import TeacherPool
from hf_free.training.folder import RunFolder

SNAPSHOTS = 10
"""Learners kept on the way of a run, at equal distances of time, for the plot of minutes against accuracy."""


@dataclass(frozen=True)
class Episodes:
    """What learners are measured on."""

    data: str
    split: str
    episodes: int
    device: str


class Store:
    """Finished results and runs in one folder, which several processes may share.

    `results/NAME-KEY.json` is a result, whole or not there, with its settings; `runs/NAME-KEY/` is a run. KEY stands
    for the settings: other settings make another file, the same ones are never computed twice.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def result(self, name: str, settings: Mapping[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The result with these settings: read if it is finished, else made and written."""
        path = self._result_path(name, settings)
        with locked(path):
            if not path.is_file():
                made = {"name": name, "settings": dict(settings), **make(), "made": made_with()}
                RunFolder(self.root).write_json(path, made)
            return json.loads(path.read_text(encoding="utf-8"))

    def finished(self, name: str, settings: Mapping[str, Any]) -> bool:
        """Whether that result is there."""
        return self.known(name, settings) is not None

    def known(self, name: str, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """The result with these settings if it is finished; nothing is made."""
        return _read(self._result_path(name, settings))

    def fail(self, name: str, settings: Mapping[str, Any], why: Mapping[str, Any]) -> None:
        """Keep why a result could not be made; it is tried again next time."""
        path = self.root / "failed" / self._result_path(name, settings).name
        RunFolder(self.root).write_json(path, {"name": name, **why, "made": made_with()})

    def failure(self, name: str, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """What `fail` kept of a result that is still missing."""
        if self.finished(name, settings):
            return None
        return _read(self.root / "failed" / self._result_path(name, settings).name)

    def run(self, name: str, config: FreeConfig) -> RunFolder:
        """The folder of a run, finished or not."""
        return RunFolder(self.place("runs", name, config.to_dict()))

    def place(self, kind: str, name: str, settings: Mapping[str, Any]) -> Path:
        """Where something made with these settings lies: a folder below that of its kind."""
        return self.root / kind / f"{_slug(name)}-{_key(settings)}"

    def trained(self, name: str, config: FreeConfig) -> MetaLearner:
        """The learner of a run: loaded if it is finished, else trained, from the last checkpoint on if there is one.

        Raises:
            HfFreeError: a run that cannot start, go on or recover anything.
        """
        run = self.run(name, config)
        with locked(run.root):
            if (run.learner / "config.json").is_file():
                return MetaLearner.from_pretrained(run.learner, map_location=choose_device(config.trainer.device))
            resume = _can_resume(run)
            if run.root.exists() and not resume:
                shutil.rmtree(run.root)  # stopped before its first checkpoint
            print(f"{name}: {'going on' if resume else 'training'} in {run.root}", file=sys.stderr, flush=True)
            return train(
                config,
                output=run.root,
                resume=resume,
                console=Console(stderr=True),
                watch=_snapshots(run.root / "snapshots", (config.trainer.max_minutes or 30.0) / SNAPSHOTS),
            )

    def _result_path(self, name: str, settings: Mapping[str, Any]) -> Path:
        return self.root / "results" / f"{_slug(name)}-{_key(settings)}.json"


def measure(
    learner: MetaLearner,
    where: Episodes,
    *,
    baselines: Baselines = "none",
    teachers: Sequence[str] = (),
    concatenations: Sequence[int] = (),
    transductive: Sequence[str] = (),
    k_shots: Sequence[int] = (1, 5),
) -> list[dict[str, Any]]:
    """Rows of `hf_free.evaluation.evaluate.evaluate` as plain dictionaries."""
    report = evaluate(
        learner,
        pictures(where.data, where.split),
        EpisodeSettings(episodes=where.episodes, k_shots=k_shots),
        beside=Comparison(
            baselines=baselines,
            teachers=TeacherPool(teachers, device=choose_device(where.device)) if teachers else None,
            concatenations=concatenations,
        ),
        transductive=transductive,
        device=choose_device(where.device),
    )
    return [asdict(row) for row in report.rows]


def measured_run(
    store: Store,
    name: str,
    config: FreeConfig,
    where: Episodes,
    *,
    use: str = "",
    change: Callable[[MetaLearner], None] | None = None,
    transductive: Sequence[str] = (),
) -> dict[str, Any]:
    """One row of a table: a learner trained, then measured on new classes.

    Args:
        store: Where it is kept.
        name: Name of the run.
        config: Its configuration.
        where: What it is measured on.
        use: Name of `change`, what is done to the trained learner first; "" uses it as it is.
        change: Does it.
        transductive: Names of the rows that see all queries of an episode.
    """

    def make() -> dict[str, Any]:
        learner = store.trained(name, config)
        record = learner.record.to_dict()
        if change is not None:
            change(learner)
        rows = measure(learner, where, transductive=transductive)
        return {"rows": rows, **{part: record[part] for part in ("training", "recovered", "versions")}}

    settings = {"config": config.to_dict(), "where": asdict(where), "use": use, "transductive": list(transductive)}
    return store.result(f"{name} {use}".strip(), settings, make)


def curve(store: Store, name: str, config: FreeConfig, where: Episodes) -> dict[str, Any]:
    """Accuracy of the learners that a finished run left on its way: `points` of minutes and accuracies.

    The last point is the learner that the run chose in the end, at the minutes of the whole run.
    """

    def make() -> dict[str, Any]:
        run = store.run(name, config)
        last = MetaLearner.from_pretrained(run.learner)
        folders = [(float(path.name), path) for path in sorted(run.root.glob("snapshots/[0-9]*"))]
        points = []
        end = max([last.record.training.minutes or 0.0, *(minutes for minutes, _ in folders)])  # recorded rounded
        for minutes, folder in [*folders, (end, run.learner)]:
            rows = measure(MetaLearner.from_pretrained(folder), where)
            point = {"minutes": minutes}
            for row in rows:
                point |= {f"{row['k_shot']}": row["accuracy"], f"{row['k_shot']} interval": row["interval"]}
            points.append(point)
        return {"points": points}

    return store.result(f"curve {name}", {"config": config.to_dict(), "where": asdict(where)}, make)


def teacher_folders(zoo: Path, count: int | None = None) -> list[str]:
    """The folders of a zoo that hold a teacher, in order of their names; the first `count`.

    Raises:
        RunError: fewer than that, or fewer than two.
    """
    folders = sorted(path.parent.as_posix() for path in zoo.glob("*/model.safetensors"))
    if len(folders) < (count or 2):
        raise RunError(
            f"{zoo} holds {len(folders)} teacher(s), {count or 2} are wanted: give their folder with --zoo",
            allowed="a folder per teacher, with config.json and model.safetensors",
        )
    return folders[:count]


@cache
def pictures(data: str, split: str) -> LabeledImages:
    """A data set, read once a process."""
    return load_labeled_images(data, split=split)


@cache
def made_with() -> dict[str, str]:
    """Machine and commit of a result."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    found = subprocess.run(git, capture_output=True, text=True, check=False)
    return {
        "machine": f"{_processor()}, {cores} cores, {torch.get_num_threads()} threads",
        "commit": found.stdout.strip() or "unknown",
    }


def _processor() -> str:
    """The processor's name where Linux says it, else its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="ascii", errors="ignore") if cpuinfo.is_file() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def _can_resume(run: RunFolder) -> bool:
    try:
        run.whole_checkpoint()
    except RunError:
        return False
    return True


def _snapshots(folder: Path, every: float) -> Callable[[MetaLearner, float], None]:
    """What keeps a learner each time that many minutes have passed, in a folder named by the minutes."""
    kept = {int(float(path.name) // every) for path in folder.glob("[0-9]*")}

    def watch(learner: MetaLearner, minutes: float) -> None:
        place = int(minutes // every)
        if place and place not in kept:
            kept.add(place)
            fresh = folder / ".new"
            shutil.rmtree(fresh, ignore_errors=True)
            learner.save_pretrained(fresh)
            fresh.rename(folder / f"{minutes:08.3f}")

    return watch


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes out of a path; they wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        yield


def _key(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60]
