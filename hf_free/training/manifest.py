"""What a checkpoint says of itself: its files, the run it belongs to, and where it was written."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from hf_free.errors import RunError
from hf_free.provenance.reading import Json, object_of
from hf_free.runtime.files import sha256_of
from hf_free.runtime.strict_json import read_strict_json
from hf_free.version import __version__

if TYPE_CHECKING:
    import torch

MANIFEST = "manifest.json"
"""The file's name; it is written last."""

FORMAT = 1
"""Format of checkpoints. A later one is refused; see `hf_free.training.resuming`."""

_MOST_BYTES = 16 * 2**20
"""Most bytes of a manifest; one with ten thousand teachers' names takes a megabyte."""


@dataclass(frozen=True)
class Topology:
    """Where a run computes, as far as its numbers depend on it."""

    ranks: int = 1
    """Processes that the run is spread over; the first writes all of the checkpoint."""
    device: str = "cpu"
    """Kind of device."""
    threads: int = 1
    """CPU threads of each rank: sums are split by them."""
    torch_version: str = ""

    @classmethod
    def here(cls, device: torch.device, ranks: int = 1) -> Topology:
        """The place of this process."""
        import torch  # slow to import, and a run's folder is asked without it

        return cls(ranks, device.type, torch.get_num_threads(), torch.__version__)


@dataclass(frozen=True)
class FileEntry:
    """A file of a checkpoint, of whichever rank."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """A checkpoint's description of itself."""

    step: int
    """Outer steps done."""
    config: Json = field(default_factory=dict)
    """The run's configuration, as `FreeConfig.to_dict` gives it."""
    topology: Topology = Topology()
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    """All files of all ranks but the manifest, by their path in the checkpoint."""
    version: str = __version__
    """hf-free's."""
    format: int = FORMAT

    @property
    def bytes(self) -> int:
        """Space that the files take."""
        return sum(entry.bytes for entry in self.files.values())

    def write(self, folder: Path) -> None:
        """Write it into the checkpoint that it describes."""
        (folder / MANIFEST).write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest of a checkpoint.

        Raises:
            FileNotFoundError: there is none, so that the folder is no checkpoint.
            ValueError: it is damaged.
        """
        values = object_of(read_strict_json(folder / MANIFEST, max_bytes=_MOST_BYTES))
        known = {entry.name for entry in fields(Topology)}
        topology = {key: value for key, value in object_of(values.get("topology")).items() if key in known}
        files, step, form = object_of(values.get("files")), values.get("step"), values.get("format")
        if not isinstance(form, int) or (form <= FORMAT and (not isinstance(step, int) or not files)):
            raise ValueError("it lacks the step or the files")
        if not all(isinstance(topology.get(key, 1), int) for key in ("ranks", "threads")):
            raise ValueError("its numbers of ranks and threads are none")
        return cls(
            step=step if isinstance(step, int) else 0,
            config=object_of(values.get("config")),
            topology=Topology(**topology),
            files={_inside(name): _entry(object_of(value)) for name, value in files.items()},
            version=str(values.get("version", "unknown"))[:80],
            format=form,
        )

    def problem(self, folder: Path, *, contents: bool = True) -> str | None:
        """What is wrong with the files of a checkpoint, in words; None where all are whole.

        Args:
            folder: The checkpoint.
            contents: Whether their hashes are compared too, and not only their sizes.

        Raises:
            OSError: a file that cannot be read for the moment, which says nothing of what is in it.
        """
        for name, entry in self.files.items():
            path = folder / name
            try:
                found = path.stat()
            except (FileNotFoundError, NotADirectoryError):
                return f"{name} is missing"
            if not stat.S_ISREG(found.st_mode):
                return f"{name} is no regular file"
            if (size := found.st_size) != entry.bytes:
                return f"{name} has {size} bytes and should have {entry.bytes}"
            if contents and sha256_of(path) != entry.sha256:
                return f"{name} is not the file that was written"
        return None


def files_of(folder: Path) -> dict[str, FileEntry]:
    """Size and hash of each file below a folder, of all ranks; a manifest is left out."""
    return {name: FileEntry(path.stat().st_size, sha256_of(path)) for name, path in _paths(folder)}


def _paths(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != MANIFEST:
            yield name, path


def _inside(name: str) -> str:
    """A path that stays in the checkpoint."""
    parts = PurePosixPath(name).parts
    if not parts or PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name or ":" in name:
        raise ValueError(f"it names a file outside the checkpoint, {name[:80]!r}")
    return name


def _entry(values: Json) -> FileEntry:
    size, digest = values.get("bytes"), values.get("sha256")
    if not isinstance(size, int) or not isinstance(digest, str):
        raise ValueError("it has a file without size and hash")
    return FileEntry(size, digest)


def refuse_unknown_format(manifest: Manifest, place: Path) -> None:
    """Refuse a checkpoint of a later hf-free, whose files mean something else.

    Raises:
        RunError: with its version.
    """
    if manifest.format > FORMAT:
        raise RunError(
            f"the checkpoint {place} was written by hf-free {manifest.version}, in format {manifest.format}",
            allowed=f"formats up to {FORMAT}, as hf-free {__version__} writes them",
            action=f"go on with hf-free {manifest.version}, or start again with --overwrite",
        )
