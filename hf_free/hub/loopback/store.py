"""What the loopback Hub keeps: users, repositories, commits and the bytes of their files.

Standard library only, like the server in `server.py`. Metadata lives in memory and the bytes in a folder, named
by their SHA-256. Ids are those of the real Hub: 40 hexadecimal digits for a commit, git's blob hash for a regular
file, SHA-256 for a large one.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

LARGE_SUFFIXES = (
    *(".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".onnx", ".npz", ".npy"),
    *(".parquet", ".arrow", ".zip", ".gz", ".tar", ".png", ".jpg", ".jpeg"),
)
"""File types that the real Hub's `.gitattributes` sends to large file storage."""
LARGE_SIZE = 10 * 2**20
"""From this many bytes on, the real Hub wants any file in large file storage."""
GIT_ATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LARGE_SUFFIXES).encode()


class StoreError(Exception):
    """A request that the Hub refuses.

    Args:
        status: HTTP status.
        message: For `X-Error-Message` and the JSON body.
        code: For `X-Error-Code`: RepoNotFound, RevisionNotFound, EntryNotFound or GatedRepo.
        headers: Other headers of the answer.
    """

    def __init__(
        self, status: int, message: str, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.headers = status, message, code, dict(headers or {})


@dataclass(frozen=True)
class User:
    """An account as one of its tokens sees it; `role` is `read` or `write`."""

    name: str
    role: str = "write"
    organizations: tuple[str, ...] = ()


@dataclass(frozen=True)
class Collection:
    """A collection: (kind, id) of each item, in order."""

    items: tuple[tuple[str, str], ...]
    private: bool = False


@dataclass(frozen=True)
class Blob:
    """One file's content: both hashes in hexadecimal, the size in bytes, and whether it is stored as a large file."""

    sha256: str
    git_sha1: str
    size: int
    large: bool

    @property
    def etag(self) -> str:
        """What clients use as the content's name: SHA-256 of a large file, git's hash of others."""
        return self.sha256 if self.large else self.git_sha1

    @property
    def pointer(self) -> bytes:
        """The git-lfs pointer that git would hold in the place of a large file."""
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n".encode()

    @property
    def blob_id(self) -> str:
        """git's hash of what git would hold: the pointer of a large file."""
        return git_hash(self.pointer) if self.large else self.git_sha1


@dataclass(frozen=True)
class Commit:
    """A snapshot of a repository's files."""

    id: str
    parent: str | None
    files: Mapping[str, Blob]
    title: str
    description: str
    author: str
    date: str


@dataclass
class Repository:
    """A model or data set repository; `refs` maps full names such as `refs/heads/main` to commits."""

    id: str
    kind: str
    private: bool = False
    gated: bool = False
    granted: set[str] = field(default_factory=set)
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    pull_requests: int = 0
    created: str = ""

    def resolve(self, revision: str) -> Commit:
        """Find a commit by branch, tag, `refs/...`, id, or the first seven or more digits of an id.

        Raises:
            StoreError: 404 RevisionNotFound.
        """
        for name in (revision, f"refs/heads/{revision}", f"refs/tags/{revision}"):
            if name in self.refs:
                return self.commits[self.refs[name]]
        if re.fullmatch(r"[0-9a-f]{7,40}", revision):
            for commit_id, commit in self.commits.items():
                if commit_id.startswith(revision):
                    return commit
        raise StoreError(404, f"Invalid rev id: {revision}", "RevisionNotFound")


def git_hash(data: bytes) -> str:
    """git's SHA-1 of a blob."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def now() -> str:
    """The time as the Hub writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())


def check_path(path: str) -> str:
    """Refuse file names that leave the repository.

    Raises:
        StoreError: 400.
    """
    parts = path.split("/")
    if any(part in ("", ".", "..", ".git") for part in parts) or "\\" in path or "\0" in path:
        raise StoreError(400, f"Invalid file path {path!r}")
    return path


def check_repo_id(repo_id: str) -> str:
    """Refuse ids that the real Hub refuses.

    Raises:
        StoreError: 400.
    """
    part = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
    if not re.fullmatch(f"{part}/{part}", repo_id) or ".." in repo_id or "--" in repo_id or repo_id.endswith(".git"):
        raise StoreError(400, f"Invalid repository id {repo_id!r}")
    return repo_id


class Store:
    """Users, repositories and bytes; every method may be called from several threads.

    Args:
        root: Folder for the bytes; created if missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lock = threading.RLock()
        self.users: dict[str, User] = {}
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.collections: dict[str, Collection] = {}
        (root / "blobs").mkdir(parents=True, exist_ok=True)

    # ---- bytes

    def write(self, data: bytes) -> str:
        """Keep bytes and return their SHA-256."""
        digest = hashlib.sha256(data).hexdigest()
        target = self.root / "blobs" / digest
        if not target.exists():
            partial = target.with_name(f"{digest}.{secrets.token_hex(4)}.partial")
            partial.write_bytes(data)
            partial.replace(target)
        return digest

    def has(self, sha256: str) -> bool:
        """Whether the bytes with this SHA-256 are here."""
        return re.fullmatch(r"[0-9a-f]{64}", sha256) is not None and (self.root / "blobs" / sha256).is_file()

    def read(self, sha256: str) -> bytes:
        """The bytes with this SHA-256."""
        return (self.root / "blobs" / sha256).read_bytes()

    def blob(self, path: str, data: bytes, large: bool | None = None) -> Blob:
        """Keep a file's bytes; `large=None` decides by name and size as the real Hub does."""
        if large is None:
            large = self.is_large(path, len(data))
        return Blob(self.write(data), git_hash(data), len(data), large)

    @staticmethod
    def is_large(path: str, size: int) -> bool:
        """Whether a file belongs into large file storage; an empty one never does."""
        return size > 0 and (PurePosixPath(path).suffix.lower() in LARGE_SUFFIXES or size > LARGE_SIZE)

    # ---- repositories

    def create(self, repo_id: str, kind: str, *, private: bool, gated: bool, author: str) -> Repository:
        """Make a repository with its first commit.

        Raises:
            StoreError: 409 if it exists, 400 for an impossible id.
        """
        check_repo_id(repo_id)
        with self.lock:
            if (kind, repo_id) in self.repositories:
                raise StoreError(409, "You already created this repository")
            repository = Repository(repo_id, kind, private=private, gated=gated, created=now())
            self.repositories[kind, repo_id] = repository
            self.commit(repository, {".gitattributes": self.blob("", GIT_ATTRIBUTES, False)}, "initial commit", author)
            return repository

    def commit(
        self,
        repository: Repository,
        files: Mapping[str, Blob],
        title: str,
        author: str,
        *,
        description: str = "",
        ref: str = "refs/heads/main",
        parent: Commit | None = None,
    ) -> Commit:
        """Put a commit that holds exactly `files` on top of `ref`."""
        with self.lock:
            for path in files:
                check_path(path)
                if any(str(folder) in files for folder in PurePosixPath(path).parents):
                    raise StoreError(400, f"{path!r} lies in a folder that is a file")
            parent_id = parent.id if parent else repository.refs.get(ref)
            listing = "\n".join(f"{path} {blob.blob_id}" for path, blob in sorted(files.items()))
            seed = f"{repository.id}\n{len(repository.commits)}\n{parent_id}\n{title}\n{listing}"
            commit_id = hashlib.sha1(seed.encode()).hexdigest()
            commit = Commit(commit_id, parent_id, dict(files), title, description, author, now())
            repository.commits[commit_id] = commit
            repository.refs[ref] = commit_id
            return commit

    def find(self, kind: str, repo_id: str, user: User | None, *, files: bool = False) -> Repository:
        """Find a repository that a user may see; with `files`, whose files the user may read.

        Raises:
            StoreError: with the status and code of the real Hub, which hides private repositories.
        """
        repository = self.repositories.get((kind, repo_id))
        if repository is None or (repository.private and not self.is_member(user, repository)):
            status, text = (401, "Invalid username or password.") if user is None else (404, "Repository not found")
            raise StoreError(status, text, "RepoNotFound")
        if files and repository.gated and not self.is_member(user, repository):
            where = f"Access to {repo_id} is restricted and you are not in the authorized list."
            if user is None:
                raise StoreError(401, f"{where} You must have access to it and be authenticated.", "GatedRepo")
            if user.name not in repository.granted:
                raise StoreError(403, f"{where} Visit the repository's page to ask for access.", "GatedRepo")
        return repository

    @staticmethod
    def is_member(user: User | None, repository: Repository) -> bool:
        """Whether a user belongs to the namespace of a repository."""
        return Store.is_own(user, repository.id.split("/")[0])

    @staticmethod
    def is_own(user: User | None, namespace: str) -> bool:
        """Whether a namespace is a user's own, or that of an organization the user belongs to."""
        return user is not None and namespace in (user.name, *user.organizations)

    def check_write(self, user: User | None, namespace: str) -> User:
        """Let a user write to a namespace.

        Raises:
            StoreError: 401 without a token, 403 with one that may not.
        """
        if user is None:
            raise StoreError(401, "Invalid username or password.")
        if user.role != "write":
            raise StoreError(403, "You need a token with the write role for this.")
        if namespace not in (user.name, *user.organizations):
            raise StoreError(403, f"You don't have the rights to write under the namespace {namespace!r}.")
        return user
