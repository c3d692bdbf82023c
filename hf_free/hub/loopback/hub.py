"""A small Hugging Face Hub on 127.0.0.1 for the tests and the demo; the server needs the standard library only.

Unmodified huggingface_hub, timm and datasets clients talk to it over HTTP:

    with LoopbackHub() as hub:
        token = hub.add_user("me")
        hub.add_repo("me/teacher", Path("teacher-folder"))
        subprocess.run([...], env=hub.environment(token))

Clients read `HF_ENDPOINT` when they are imported, so a client needs a process of its own (or the environment set
before the first import). `python -m hf_free.hub.loopback.hub --root DIR` serves the folders `DIR/org/name` as models
and `DIR/datasets/org/name` as data sets.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from hf_free.hub.loopback.messages import Fault, FaultKind, LoggedRequest
from hf_free.hub.loopback.routes import Routes
from hf_free.hub.loopback.server import HubServer
from hf_free.hub.loopback.store import Collection, Commit, Repository, Store, StoreError, User

__all__ = ["Fault", "LoggedRequest", "LoopbackHub", "StoreError"]

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "ftp_proxy")
_SKIPPED = {".git", ".cache", "__pycache__"}


class LoopbackHub:
    """A Hub on 127.0.0.1, started by `with` or `start()`.

    Args:
        root: Folder for the bytes and for clients' caches; None makes one that `stop` removes.
        port: TCP port; 0 takes a free one.
    """

    def __init__(self, root: Path | None = None, *, port: int = 0) -> None:
        self._temporary = root is None
        self.root = Path(tempfile.mkdtemp(prefix="hf-free-hub-")) if root is None else Path(root)
        self.store = Store(self.root)
        self.server = HubServer(port, self.store, Routes(self.store))
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)

    @property
    def endpoint(self) -> str:
        """The address for `HF_ENDPOINT`."""
        return self.server.endpoint

    @property
    def requests(self) -> list[LoggedRequest]:
        """Every request so far, oldest first."""
        return self.server.requests

    def start(self) -> LoopbackHub:
        """Begin to answer."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop answering and remove the folder if it was made here."""
        self.server.closing.set()
        if self._thread.is_alive():
            self.server.shutdown()
        self.server.server_close()
        if self._temporary:
            shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self) -> LoopbackHub:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def add_user(
        self, name: str, token: str | None = None, *, role: str = "write", organizations: tuple[str, ...] = ()
    ) -> str:
        """Give a user a token and return it; call again for a second token.

        Args:
            name: Account name, which is also a namespace.
            token: The token; None makes one.
            role: `write` or `read`.
            organizations: Other namespaces that the user belongs to.
        """
        token = token or f"hf_{secrets.token_hex(17)}"
        self.store.users[token] = User(name, role, organizations)
        return token

    def add_repo(
        self,
        repo_id: str,
        files: Mapping[str, bytes] | Path,
        private: bool = False,
        gated: bool = False,
        repo_type: str = "model",
        *,
        message: str = "Upload files",
        branch: str = "main",
        granted: tuple[str, ...] = (),
    ) -> str:
        """Commit files to a repository, which is made if need be.

        Args:
            repo_id: `org/name`.
            files: Bytes by path, or a folder; other files of the branch stay.
            private: Visibility; it counts only when the repository is made, and so does `gated`.
            gated: Whether files need a grant.
            repo_type: `model`, `dataset` or `space`.
            message: Title of the commit.
            branch: Branch to commit to; made from main if need be.
            granted: Users with access to a gated repository.

        Returns:
            The commit's id, 40 hexadecimal digits.
        """
        if isinstance(files, Path):
            files = {path.relative_to(files).as_posix(): path.read_bytes() for path in _files_of(files)}
        author = repo_id.split("/")[0]
        with self.store.lock:
            repository = self.store.repositories.get((repo_type, repo_id))
            if repository is None:
                repository = self.store.create(repo_id, repo_type, private=private, gated=gated, author=author)
            repository.granted.update(granted)
            ref = f"refs/heads/{branch}"
            parent = repository.resolve(branch if ref in repository.refs else "main")
            blobs = {path: self.store.blob(path, data) for path, data in files.items()}
            return self.store.commit(repository, {**parent.files, **blobs}, message, author, ref=ref, parent=parent).id

    def add_collection(self, slug: str, items: Sequence[str | tuple[str, str]], private: bool = False) -> None:
        """Put a collection there.

        Args:
            slug: `org/name-with-hexadecimal-id`, as its page's address ends.
            items: Ids of models, or (kind, id) of something else.
            private: Whether only members of the namespace see it.
        """
        pairs = tuple(("model", item) if isinstance(item, str) else item for item in items)
        self.store.collections[slug] = Collection(pairs, private)

    def repository(self, repo_id: str, repo_type: str = "model") -> Repository:
        """A repository's record.

        Raises:
            KeyError: there is none.
        """
        return self.store.repositories[repo_type, repo_id]

    def read_repo(self, repo_id: str, revision: str = "main", repo_type: str = "model") -> dict[str, bytes]:
        """The bytes of all files at a revision, to see what a client has uploaded."""
        commit = self.repository(repo_id, repo_type).resolve(revision)
        return {path: self.store.read(blob.sha256) for path, blob in commit.files.items()}

    def history(self, repo_id: str, revision: str = "main", repo_type: str = "model") -> list[Commit]:
        """The commits of a revision, newest first."""
        repository = self.repository(repo_id, repo_type)
        commits = [repository.resolve(revision)]
        while commits[-1].parent:
            commits.append(repository.commits[commits[-1].parent])
        return commits

    @contextlib.contextmanager
    def fault(self, kind: FaultKind, path: str = "", *, method: str | None = None, **details: Any) -> Iterator[Fault]:
        """Let something go wrong for the requests inside the `with`; see `Fault` for the details."""
        fault = Fault(kind, method, path, **details)
        self.server.faults.append(fault)
        try:
            yield fault
        finally:
            self.server.faults.remove(fault)

    def environment(self, token: str | None = None, home: Path | None = None) -> dict[str, str]:
        """The whole environment for a client's process.

        It is the current one without proxies and inherited `HF_*` settings, plus the address of this Hub, the token
        and a home for clients. Xet is off because this Hub has none; the calls that clients make unasked (telemetry,
        update checks, download counts) are off too.

        Args:
            token: Token of the client; None for an anonymous one.
            home: Folder for the clients' caches; None shares one below `root`.
        """
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.upper().startswith(("HF_", "HUGGING")) and name.lower() not in _PROXIES
        }
        settings = {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home if home is not None else self.root / "home"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }
        return {**kept, **settings, **({"HF_TOKEN": token} if token else {})}


def _files_of(folder: Path) -> list[Path]:
    """The files below a folder, without those of git and of clients."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in paths if not _SKIPPED & set(path.relative_to(folder).parts)]


def main(arguments: list[str] | None = None) -> None:
    """Serve the folders below `--root` until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m hf_free.hub.loopback.hub", description=__doc__.split("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="folder with org/name/ and datasets/org/name/")
    parser.add_argument("--port", type=int, default=0, help="TCP port; a free one by default")
    options = parser.parse_args(arguments)
    with LoopbackHub(port=options.port) as hub:
        token = hub.add_user("me", organizations=tuple(sorted(path.name for path in options.root.iterdir())))
        for kind, base in (("model", options.root), ("dataset", options.root / "datasets")):
            for folder in sorted(path for path in base.glob("*/*") if path.is_dir()):
                if kind == "dataset" or folder.parent.name != "datasets":
                    hub.add_repo(f"{folder.parent.name}/{folder.name}", folder, repo_type=kind)
        sys.stdout.write(f"export HF_ENDPOINT={hub.endpoint} HF_TOKEN={token} HF_HUB_DISABLE_XET=1\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
