"""The download cache, in huggingface_hub's own layout, so that both find each other's files.

`models--org--name/` holds `refs/<revision>` (a commit), `blobs/<hash>` and `snapshots/<commit>/<file>`, links into
the blobs. Beside them `hf_free/<commit>.json` remembers what the Hub said of the commit: visibility, license, hashes.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hf_free.hub.download import ExpectedFile
from hf_free.runtime.files import read_bounded, write_text
from hf_free.runtime.owners import STALE_SECONDS, is_abandoned, owned_tag

_OURS = "hf-free-"
"""Prefix of the names of our partial downloads; huggingface_hub keeps its own beside them."""
_DIGITS = 16
"""Digits of a file's hash in the name of its partial download."""
_MAX_RECORD_BYTES = 2**20


@dataclass
class CommitRecord:
    """What the Hub said of a commit.

    Where nothing is known, a repository counts as private, so that its name does not reach a published card.
    """

    commit: str
    private: bool = True
    gated: bool = False
    license: str | None = None
    files: dict[str, ExpectedFile] = field(default_factory=dict)


def is_commit(revision: str) -> bool:
    """Whether a revision is a full commit id."""
    return re.fullmatch(r"[0-9a-f]{40}", revision) is not None


def announced(path: Path) -> ExpectedFile | None:
    """What the Hub announced of a cached file: its hash is the name of the blob that it leads to; None for others.

    The size is the one on disk, which tells nothing.
    """
    if path.is_symlink() and path.exists():
        digest = os.path.basename(os.readlink(path))
        if re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{40}", digest):
            return ExpectedFile(path.stat().st_size, "sha256" if len(digest) == 64 else "git-sha1", digest)
    return None


class RepositoryCache:
    """The cached files of one model repository.

    Args:
        cache_dir: huggingface_hub's cache, `~/.cache/huggingface/hub` by default.
        repo_id: `org/name`, checked before.
    """

    def __init__(self, cache_dir: Path, repo_id: str) -> None:
        self.folder = cache_dir / f"models--{repo_id.replace('/', '--')}"

    def commit_of(self, revision: str) -> str | None:
        """The commit that a branch or tag stood for when it was last fetched."""
        if is_commit(revision):
            return revision
        with contextlib.suppress(OSError, ValueError):
            commit = read_bounded(self.folder / "refs" / revision, max_bytes=100).decode().strip()
            return commit if is_commit(commit) else None
        return None

    def remember_ref(self, revision: str, commit: str) -> None:
        """Note what a branch or tag stands for."""
        if not is_commit(revision):
            write_text(self.folder / "refs" / revision, commit)

    def read_record(self, commit: str) -> CommitRecord | None:
        """What the Hub said of a commit, if it was asked before."""
        try:
            path = self.folder / "hf_free" / f"{commit}.json"
            values = json.loads(read_bounded(path, max_bytes=_MAX_RECORD_BYTES))
            files = {name: ExpectedFile(**entry) for name, entry in values.pop("files").items()}
            return CommitRecord(**values, files=files)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None

    def write_record(self, record: CommitRecord) -> None:
        """Remember what the Hub said of a commit, together with the files remembered before."""
        before = self.read_record(record.commit)
        record.files = {**(before.files if before else {}), **record.files}
        write_text(self.folder / "hf_free" / f"{record.commit}.json", json.dumps(asdict(record), indent=1))

    def snapshot(self, commit: str) -> Path:
        """The folder of a commit's files."""
        return self.folder / "snapshots" / commit

    def expected(self, commit: str, name: str) -> ExpectedFile | None:
        """The hash that a cached file should have: remembered, or the name of the blob it links to."""
        record = self.read_record(commit)
        if record and name in record.files:
            return record.files[name]
        return announced(self.snapshot(commit) / name)

    def partial_file(self, digest: str, wanted: Collection[str] = ()) -> Path:
        """A name to download a file to, which no other process uses.

        What a process that was killed or stopped has downloaded of that file is there already. Its other partial
        files are removed, except those of `wanted`; those of other programs only when they are a day old.

        Args:
            digest: Hash of the file, in hexadecimal.
            wanted: Hashes of the files that are to be fetched as well.
        """
        blobs = self.folder / "blobs"
        blobs.mkdir(parents=True, exist_ok=True)
        target = blobs / f"{_OURS}{digest[:_DIGITS]}-{owned_tag()}.incomplete"
        kept = {other[:_DIGITS] for other in wanted}
        for path in blobs.glob("*.incomplete"):
            with contextlib.suppress(OSError):
                if not path.name.startswith(_OURS):
                    if time.time() - path.stat().st_mtime > STALE_SECONDS:
                        path.unlink()
                elif is_abandoned(path):
                    whose = path.name.removeprefix(_OURS).partition("-")[0]
                    if whose == digest[:_DIGITS] and not target.exists():
                        path.rename(target)
                    elif whose not in kept:
                        path.unlink()
        return target

    def keep(self, partial: Path, commit: str, name: str, expected: ExpectedFile) -> Path:
        """Move a verified download to its place, replacing whatever is there."""
        blob = self.folder / "blobs" / expected.digest
        partial.replace(blob)
        pointer = self.snapshot(commit) / name
        pointer.parent.mkdir(parents=True, exist_ok=True)
        # not beside the pointer, where a kill would leave a file that no repository has: `partial_file` removes it
        link = blob.with_name(f"{_OURS}link-{owned_tag()}.incomplete")
        try:
            link.symlink_to(os.path.relpath(blob, pointer.parent))
        except OSError:  # a file system without links
            shutil.copyfile(blob, link)
        link.replace(pointer)
        return pointer
