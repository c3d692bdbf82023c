"""What a run leaves on disk, and how: every file whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from hf_free.config import FreeConfig
from hf_free.errors import RunError


class RunFolder:
    """Paths of a run, and atomic writes into it.

    Args:
        root: The run's folder; made when something is first written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "config.yaml"
        self.teachers = root / "teachers.json"
        self.record = root / "record.json"
        self.log = root / "log.jsonl"
        self.checkpoint = root / "checkpoint"
        self.pictures = root / "pictures"
        self.learner = root / "learner"
        self.best = root / "best.safetensors"
        self.generator = root / "generator.safetensors"

    def read_config(self) -> FreeConfig:
        """The configuration the run was started with."""
        return FreeConfig.from_yaml(self.config)

    def begin(self, config: FreeConfig, *, resume: bool, log: Iterable[dict[str, Any]] = ()) -> None:
        """Write the configuration; what an earlier run logged and found best goes unless it is resumed.

        Args:
            config: The run's configuration.
            resume: Whether an earlier run goes on.
            log: First rows of the log.
        """
        self.write_text(self.config, config.to_yaml())
        if not resume:
            self.log.unlink(missing_ok=True)
            self.best.unlink(missing_ok=True)
        for row in log:
            self.append_log(row)

    def write_text(self, path: Path, text: str) -> None:
        """Write a text file whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)

    def write_json(self, path: Path, values: Any) -> None:
        """Write a JSON file whole or not at all."""
        self.write_text(path, json.dumps(values, indent=2, ensure_ascii=False))

    def append_log(self, row: dict[str, Any]) -> None:
        """Add a line to the log."""
        self.root.mkdir(parents=True, exist_ok=True)
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def read_log(self, before_step: int | None = None) -> list[dict[str, Any]]:
        """The log's rows; those of later steps are dropped from the file when a run goes on from an earlier one."""
        if not self.log.is_file():
            return []
        *whole, _ = self.log.read_text(encoding="utf-8").split("\n")  # a kill may cut the last line short
        rows = [json.loads(line) for line in whole]
        if before_step is not None:
            rows = [row for row in rows if row.get("step", 0) <= before_step]
            self.write_text(self.log, "".join(json.dumps(row) + "\n" for row in rows))
        return rows

    def write_checkpoint(self, save: Callable[[Path], None]) -> None:
        """Replace the checkpoint by what `save` writes into an empty folder; the old one stays until it is whole."""
        fresh = self.root / "checkpoint.new"
        old = self.root / "checkpoint.old"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        save(fresh)
        if self.checkpoint.exists():  # else a stop left only the old one, which stays until the end
            shutil.rmtree(old, ignore_errors=True)
            self.checkpoint.rename(old)
        fresh.rename(self.checkpoint)
        shutil.rmtree(old, ignore_errors=True)

    def checkpoint_to_resume(self) -> Path:
        """The checkpoint to go on from.

        Raises:
            RunError: there is none.
        """
        for folder in (self.checkpoint, self.root / "checkpoint.old"):  # a stop between the two renames
            if (folder / "state.json").is_file():
                return folder
        raise RunError(
            f"{self.root} holds no checkpoint to resume",
            allowed="a run that wrote at least one checkpoint",
            action="start it again with --overwrite",
        )
