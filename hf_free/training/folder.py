"""What a run leaves on disk, and how: every file whole or not at all, one process at a time, nothing lost."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hf_free.config.tree import FreeConfig
from hf_free.errors import QueryBudgetError, RunError, StorageError
from hf_free.provenance.reading import Json, number_of, object_of
from hf_free.publishing.unredacted import RUN_RECORD
from hf_free.runtime.files import remove_scraps, write_file, write_text
from hf_free.runtime.saved_json import read_saved
from hf_free.runtime.saved_kind import RUN, in_use
from hf_free.runtime.storage import storage_explained
from hf_free.training.checkpoint_store import CheckpointStore, WholeCheckpoint, refuse_links
from hf_free.training.log_reading import read_rows
from hf_free.training.manifest import Manifest
from hf_free.training.run_lock import LOCK_FILE, RunLock, check_free, read_holder

if TYPE_CHECKING:
    from torch import Tensor

    from hf_free.inversion.five import TrainedGenerator

_DIGEST = "weights_sha256"
"""The key of a generator's hash in the metadata of its file."""

CONFIG_FILE = "config.yaml"
"""The file that marks a folder as a run of hf-free."""

COMPANIONS = (CONFIG_FILE, "teachers.json", "log.jsonl")
"""Files of a run that each checkpoint has a copy of, so that a run can go on from a checkpoint alone."""

ANSWERS = "answers"
"""Folder of a run with the answers of its black boxes."""

logger = logging.getLogger(__name__)


class RunFolder:
    """Paths of a run, and atomic writes into it.

    Args:
        root: The run's folder; made when something is first written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / CONFIG_FILE
        self.teachers = root / "teachers.json"
        self.record = root / RUN_RECORD
        self.log = root / "log.jsonl"
        self.checkpoints = CheckpointStore(root / "checkpoints")
        self.pictures = root / "pictures"
        self.trackers = root / "trackers"
        self.learner = root / "learner"
        self.learning = CheckpointStore(self.learner / "checkpoints")
        """Of a run whose teachers are pooled first; none are left when it is finished."""
        self.pooled = root / "pooled"
        """Learner of such a run's teachers themselves."""
        self.best = root / "best.safetensors"
        self.generator = root / "generator.safetensors"
        self.answers = root / ANSWERS

    def check_usable(self, *, overwrite: bool = False, resume: bool = False) -> None:
        """Refuse a folder that a run cannot be written to as asked. Nothing is changed.

        Raises:
            RunError: another process writes there; the folder is not empty and neither flag is given; both are;
                there is nothing to resume; a run that is resumed has a link in the place of what it writes; or
                `overwrite` would replace something other than a run of hf-free.
        """
        check_free(self.root, overwrite=overwrite, resume=resume)
        is_run = self.config.is_file()
        if resume and not is_run:
            raise RunError(
                f"nothing to resume in {self.root}",
                allowed=f"a folder of an earlier run, with its {CONFIG_FILE}",
                action="leave out --resume, or name the run with --output",
            )
        refuse_links(*(self._written() if resume else [self.answers]))
        if self.root.exists() and not self.root.is_dir():
            raise RunError(f"the output {self.root} is a file", allowed="a folder", action="give another --output")
        if resume and (self.checkpoints.folders() or not self.read_config().trainer.pool_first):
            self.whole_checkpoint()
        if not resume and self.is_in_use() and not (overwrite and is_run):
            raise in_use(self.root, RUN, is_own=is_run, error=RunError, resumes=True)

    def _written(self) -> tuple[Path, ...]:
        """What a run writes into, and what it adds to; other files are replaced as they are, links or not."""
        folders = (self.checkpoints.root, self.pictures, self.trackers, self.learner, self.learning.root)
        return (*folders, self.pooled, self.answers, self.log)

    def is_in_use(self) -> bool:
        """Whether the folder holds anything."""
        # answers of black boxes alone were left by a start that came to nothing: the next one reuses them
        return self.root.is_dir() and any(path.name not in (LOCK_FILE, ANSWERS) for path in self.root.iterdir())

    @contextmanager
    def claimed(self, *, overwrite: bool, resume: bool) -> Iterator[None]:
        """Claim the folder for this process's run; an earlier run there is resumed or replaced, as asked.

        Raises:
            RunError: see `check_usable`.
        """
        self.check_usable(overwrite=overwrite, resume=resume)
        with self.set_aside(overwrite=overwrite) as earlier, RunLock(self.root):
            if earlier is not None and (earlier / ANSWERS).is_dir():
                shutil.copytree(earlier / ANSWERS, self.answers)  # paid for: they are not asked again
            remove_scraps(self.root)
            self.checkpoints.sweep()
            yield

    @contextmanager
    def set_aside(self, *, overwrite: bool) -> Iterator[Path | None]:
        """Set an earlier run aside while a new one is made, and put it back where the new one comes to nothing.

        Yields where it lies meanwhile; None where there is none.

        "Nothing" is no checkpoint and no learner. Where the new run has one but did not finish, both are kept.
        """
        aside = self.root.with_name(self.root.name + ".previous")
        if not overwrite or not self.is_in_use():
            yield None
            return
        if aside.exists():
            raise RunError(
                f"{aside} is in the way of --overwrite", allowed="no such folder", action="move or remove it first"
            )
        self.root.rename(aside)
        try:
            yield aside
        except BaseException:
            if self.checkpoints.folders() or self.learner.exists() or self.has_pooled():
                logger.warning("the run before is kept in %s", aside)
            else:
                if self.answers.is_dir():
                    shutil.copytree(self.answers, aside / ANSWERS, dirs_exist_ok=True)
                if self.root.exists():
                    shutil.rmtree(self.root)
                aside.rename(self.root)
                logger.warning("%s is as it was before", self.root)
            raise
        shutil.rmtree(aside)

    def read_config(self) -> FreeConfig:
        """The configuration the run was started with.

        Raises:
            ConfigError: it cannot be read.
            RunError: something that is no file has its name.
        """
        if self.config.exists() and not self.config.is_file():  # a pipe would be waited for
            raise RunError(f"{self.config} is no file", action="restore it from a copy, or name another run")
        return FreeConfig.from_yaml(self.config)

    def read_generator(self) -> TrainedGenerator:
        """The meta-generator that the run has trained.

        Raises:
            RunError: there is none, or it is damaged.
        """
        # torch and timm are slow to import, and a folder is asked without them
        from safetensors import SafetensorError, safe_open
        from safetensors.torch import load_file

        from hf_free.backbones.weights import why_no_weights_file
        from hf_free.inversion.five import TrainedGenerator

        if not self.generator.is_file():
            pooled = " and keeps none, as its teachers were pooled first" if self.has_pooled() else ""
            raise RunError(
                f"{self.root} holds no meta-generator{pooled}",
                allowed="the output folder of hf-free train, where it recovered tasks",
                action="train one: hf-free train --no-pool-first",
            )
        config = self.read_config()
        size, channels = config.learner.image_size, config.learner.channels
        try:
            weights = load_file(self.generator)
            with safe_open(self.generator, framework="pt") as file:
                named = (file.metadata() or {}).get(_DIGEST)  # none in files of an older hf-free
        except (OSError, SafetensorError) as error:
            raise RunError(
                f"{self.generator} is damaged: {why_no_weights_file(error)}",
                action="restore it from a copy, or leave out --generator",
            ) from None
        if named is not None and named != _digest(weights):
            raise RunError(
                f"{self.generator} is damaged: its weights are not those that were saved",
                action="restore it from a copy, or leave out --generator",
            )
        return TrainedGenerator(weights, config.five, size, channels)

    def write_generator(self, weights: Mapping[str, Tensor]) -> None:
        """Keep the meta-generator, with a hash of its weights: a machine that loses power may leave others.

        Raises:
            StorageError: it cannot be written.
        """
        from safetensors.torch import save_file

        plain = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
        about = {_DIGEST: _digest(plain)}
        write_file(self.generator, lambda scratch: save_file(plain, scratch, about))

    def begin(self, config: str, *, resume: bool, log: Iterable[Mapping[str, float]] = ()) -> None:
        """Write the configuration; an earlier run's log and best state are removed unless it is resumed.

        Args:
            config: The run's configuration, as YAML.
            resume: Whether an earlier run goes on.
            log: First rows of the log.
        """
        self.write_text(self.config, config)
        if not resume:
            self.log.unlink(missing_ok=True)
            self.best.unlink(missing_ok=True)
        for row in log:
            self.append_log(row)

    def write_text(self, path: Path, text: str) -> None:
        """Write a text file whole or not at all."""
        write_text(path, text)

    def write_json(self, path: Path, values: object) -> None:
        """Write a JSON file whole or not at all."""
        self.write_text(path, json.dumps(values, indent=2, ensure_ascii=False))

    def append_log(self, row: Mapping[str, float]) -> None:
        """Add a line to the log."""
        with storage_explained(self.log):
            self.root.mkdir(parents=True, exist_ok=True)
            with self.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def read_log(self, before_step: int | None = None) -> list[dict[str, float]]:
        """The log's rows; those of later steps are dropped from the file when a run goes on from an earlier one.

        Damaged lines are left out, and it is said how many.
        """
        if not self.log.is_file():
            if self.log.exists():  # a pipe would be waited for, here or when a line is added
                raise RunError(f"{self.log} is no file", allowed="the log of a run", action="remove it")
            return []
        try:
            rows, damaged = read_rows(self.log)
        except OSError as error:
            raise RunError(f"{self.log} cannot be read: {(error.strerror or str(error)).lower()}") from None
        if damaged:
            logger.warning("%s: %d damaged line%s left out", self.log, damaged, "" if damaged == 1 else "s")
        if before_step is not None:
            rows = [row for row in rows if row.get("step", 0) <= before_step]
            self.write_text(self.log, "".join(json.dumps(row) + "\n" for row in rows))
        return rows

    def write_checkpoint(
        self, save: Callable[[Path], None], about: Manifest, *, keep: int = 1, needed: int | None = None
    ) -> Path:
        """Write what `save` writes into an empty folder as a checkpoint, see `CheckpointStore.write`."""
        return self.checkpoints.write(save, about, keep=keep, needed=needed)

    def whole_checkpoint(self, *, contents: bool = False) -> WholeCheckpoint:
        """The newest whole checkpoint.

        Args:
            contents: Whether the hashes of its files are compared, and not only their sizes.

        Raises:
            RunError: there is none, or it is of a later hf-free.
        """
        found = self.checkpoints.newest(contents=contents)
        if found is not None:
            return found
        there = [folder.name for folder in self.checkpoints.folders()]
        what = f"no whole checkpoint to resume; damaged: {', '.join(there)}" if there else "no checkpoint to resume"
        if not there and (self.root / "checkpoint").is_dir():
            what = "a checkpoint of an hf-free that wrote no manifest, and none that can be checked"
        raise RunError(
            f"{self.root} holds {what}",
            allowed="a run that wrote at least one checkpoint",
            action="start it again with --overwrite",
        )

    def checkpoint_state(self) -> Json | None:
        """The run's state at its checkpoint; None where there is none that can be read."""
        try:
            folder = self.whole_checkpoint().folder
            state = object_of(read_saved(folder / "state.json", action=""))
            return state if isinstance(state.get("step"), int) else None
        except (RunError, OSError):
            return None

    def last_step(self) -> int | None:
        """The step of the checkpoint to go on from; None where there is none."""
        state = self.checkpoint_state()
        return None if state is None else int(state["step"])

    def has_pooled(self) -> bool:
        """Whether a run whose teachers are pooled first has the whole pooled learner; its card is written last."""
        return all((self.pooled / name).is_file() for name in ("config.json", "README.md"))

    def is_finished_from_pooled(self) -> bool:
        """Whether such a run has its learner, and nothing of it is left to do."""
        return self.has_pooled() and (self.learner / "config.json").is_file() and not self.learning.folders()

    def can_go_on(self) -> bool:
        """Whether there is anything that `--resume` goes on from."""
        return self.has_pooled() or self.last_step() is not None

    def with_what_is_safe(self, error: StorageError) -> StorageError:
        """The error for a failed write of a run: it says what is kept and how to go on."""
        step, output = self.last_step(), shlex.quote(str(self.root))
        again = ", with --overwrite" if self.is_in_use() else ""  # else it would be refused as not empty
        kept = f"nothing was trained yet: then type the same command again{again}"
        if self.has_pooled():
            kept = f"the pooled learner is whole: then go on with hf-free train --resume --output {output}"
        if step is not None:
            kept = f"the checkpoint of step {step} is whole: then go on with hf-free train --resume --output {output}"
        return StorageError(error.given, allowed=error.allowed, action=f"{error.action}\n           {kept}")

    def with_way_on(self, error: QueryBudgetError) -> QueryBudgetError:
        """The error for queries that are not enough: a run that has a checkpoint goes on from it with more."""
        if not self.can_go_on():
            return error
        again = f"hf-free train --resume --output {shlex.quote(str(self.root))} --query-budget N"
        return QueryBudgetError(error.given, allowed=error.allowed, action=f"{error.action}: {again}")

    def way_to_finish(self) -> str:
        """The commands that bring a run which has no learner yet to its end."""
        output = shlex.quote(str(self.root))
        holder = read_holder(self.root / LOCK_FILE)
        if holder is not None and holder.is_alive():
            return f"wait: it is being trained by {holder}"
        state, resume = self.checkpoint_state(), f"hf-free train --resume --output {output}"
        if state is None and self.has_pooled():
            learned = (self.learner / "config.json").is_file()
            so_far = f"; {self.learner} is a learner of what was learned so far" if learned else ""
            return f"go on with it: {resume}{so_far}"
        if state is None:
            return "it has no checkpoint to go on from; start it again with --overwrite"
        if not state.get("kept_tasks"):
            return f"go on with it: {resume}"
        spent = max(
            0.01, math.floor((number_of(state.get("seconds")) or 0.0) / 0.6) / 100
        )  # minutes, never more than were spent
        now = f"{resume} --max-minutes {spent:g}"
        return f"go on with it: {resume}\n           or make a learner of what it has: {now}"


def learner_of_run(folder: Path) -> Path:
    """Where a learner lies: `learner/` of a run's folder; any other path is the learner's own.

    Raises:
        RunError: a run that has no learner yet.
    """
    run = RunFolder(folder)
    if (run.learner / "config.json").is_file():
        return run.learner
    if run.config.is_file() and not (folder / "config.json").is_file():
        state = run.checkpoint_state()
        at = "" if state is None else f": its checkpoint is of step {state['step']}"
        raise RunError(
            f"the run {folder} is not finished and has no learner yet{at}",
            allowed="a finished run, a learner's folder or its Hub id",
            action=run.way_to_finish(),
        )
    return folder


def _digest(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of weights and their names."""
    found = hashlib.sha256()
    for name, value in sorted(weights.items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.reshape(-1).numpy().tobytes())
    return found.hexdigest()
