"""The loopback Hub's routes for files: download, upload of regular and large files, commits."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from urllib.parse import quote

from hf_free.hub.loopback.messages import Answer, Request
from hf_free.hub.loopback.store import Blob, Repository, Store, StoreError, check_path, git_hash
from hf_free.provenance.reading import Json

API = r"/api/(?P<kind>model|dataset|space)s/(?P<repo>[^/]+/[^/]+)"
FILES = r"/(?:(?P<kind>dataset|space)s/)?(?P<repo>[^/]+/[^/]+)"
_MAX_PREUPLOAD = 256
ROUTES: list[tuple[str, re.Pattern[str], Callable[..., Answer]]] = []


def route(methods: str, pattern: str) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    """Register a method as the answer to these HTTP methods on paths that match the pattern as a whole."""

    def register(function: Callable[..., Answer]) -> Callable[..., Answer]:
        ROUTES.append((methods, re.compile(pattern), function))
        return function

    return register


class FileRoutes:
    """Answers requests about files out of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._secret = secrets.token_bytes(16)

    @route("HEAD GET", FILES + r"/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
    def resolve(self, request: Request, kind: str, repo: str, revision: str, path: str) -> Answer:
        """A file's bytes, with the headers that name its commit and content."""
        commit = self.store.find(kind, repo, request.user, files=True).resolve(revision)
        blob = commit.files.get(path)
        if blob is None:
            raise StoreError(404, f"Entry not found: {path}", "EntryNotFound", {"X-Repo-Commit": commit.id})
        name = quote(PurePosixPath(path).name)
        headers = {
            "X-Repo-Commit": commit.id,
            "ETag": f'"{blob.etag}"',
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream" if blob.large else "text/plain; charset=utf-8",
            "Content-Disposition": f"inline; filename*=UTF-8''{name}; filename=\"{name}\";",
        }
        return Answer(self.store.read(blob.sha256), headers=headers)

    @route("POST", API + r"/preupload/(?P<revision>[^/]+)")
    def preupload(self, request: Request, kind: str, repo: str, revision: str) -> Answer:
        """Say of each file how it is to be uploaded and what is there now."""
        repository = self.writable(request, kind, repo, pull_request="create_pr" in request.query)
        present = repository.resolve(revision).files
        files = request.json().get("files", [])
        if len(files) > _MAX_PREUPLOAD:
            raise StoreError(400, f"At most {_MAX_PREUPLOAD} files at a time")
        answers = []
        for wish in files:
            path = check_path(wish["path"])
            mode = "lfs" if self.store.is_large(path, int(wish["size"])) else "regular"
            answer = {"path": path, "uploadMode": mode, "shouldIgnore": False}
            if path in present:
                answer["oid"] = present[path].etag
            answers.append(answer)
        return Answer({"files": answers})

    @route("POST", FILES + r"\.git/info/lfs/objects/batch")
    def lfs_batch(self, request: Request, kind: str, repo: str) -> Answer:
        """Give an address to upload each large file to, unless it is here already."""
        self.writable(request, kind, repo, pull_request=True)
        objects = []
        for wish in request.json().get("objects", []):
            oid, size = str(wish["oid"]), int(wish["size"])
            entry: Json = {"oid": oid, "size": size}
            if not re.fullmatch(r"[0-9a-f]{64}", oid):
                entry["error"] = {"code": 422, "message": "Not a SHA-256"}
            elif not self.store.has(oid):
                upload = f"{request.endpoint}/lfs/{oid}?signature={self._sign(oid)}"
                verify = f"{request.endpoint}/lfs-verify/{kind}/{repo}"
                entry["actions"] = {"upload": {"href": upload}, "verify": {"href": verify}}
            objects.append(entry)
        return Answer({"transfer": "basic", "objects": objects})

    @route("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})")
    def lfs_put(self, request: Request, oid: str) -> Answer:
        """Take the bytes of a large file; the address itself is the permission."""
        if not hmac.compare_digest(request.query.get("signature", [""])[0], self._sign(oid)):
            raise StoreError(403, "SignatureDoesNotMatch")
        if hashlib.sha256(request.body).hexdigest() != oid:
            raise StoreError(400, "The bytes do not have the announced SHA-256")
        self.store.write(request.body)
        return Answer({})

    @route("POST", r"/lfs-verify/(?P<kind>model|dataset|space)/(?P<repo>[^/]+/[^/]+)")
    def lfs_verify(self, request: Request, kind: str, repo: str) -> Answer:
        """Confirm that a large file has arrived whole."""
        wish = request.json()
        oid = str(wish.get("oid"))
        if not self.store.has(oid) or len(self.store.read(oid)) != wish.get("size"):
            raise StoreError(404, "Object does not exist")
        return Answer({})

    @route("POST", API + r"/commit/(?P<revision>[^/]+)")
    def commit(self, request: Request, kind: str, repo: str, revision: str) -> Answer:
        """Make a commit out of the lines of the body: a header, files, large files, deletions."""
        pull_request = "create_pr" in request.query
        repository = self.writable(request, kind, repo, pull_request=pull_request)
        with self.store.lock:
            base = repository.resolve(revision)
            ref = revision if revision.startswith("refs/") else f"refs/heads/{revision}"
            if ref not in repository.refs and not pull_request:
                raise StoreError(400, f"{revision!r} is not a branch: commits go on top of branches")
            files, header = dict(base.files), {}
            for key, value in _lines(request.body):
                if key == "header":
                    header = value
                    if value.get("parentCommit") not in (None, base.id):
                        raise StoreError(412, f"The parent commit is not the head of {revision!r} any more")
                else:
                    self._apply(files, key, value)
            if pull_request:
                repository.pull_requests += 1
                ref = f"refs/pr/{repository.pull_requests}"
            title, text = str(header.get("summary", "")), str(header.get("description", ""))
            author = request.user.name if request.user else ""
            made = self.store.commit(repository, files, title, author, description=text, ref=ref, parent=base)
        address = page(request, kind, repo)
        answer = {"success": True, "commitOid": made.id, "commitUrl": f"{address}/commit/{made.id}", "hookOutput": ""}
        if pull_request:
            answer["pullRequestUrl"] = f"{address}/discussions/{repository.pull_requests}"
        return Answer(answer)

    def _apply(self, files: dict[str, Blob], key: str, value: Json) -> None:
        """Apply one line of a commit to the files."""
        path = check_path(str(value.get("path")).rstrip("/"))
        if key == "file":
            data = str(value.get("content", ""))
            raw = base64.b64decode(data) if value.get("encoding") == "base64" else data.encode()
            files[path] = self.store.blob(path, raw, large=False)
        elif key == "lfsFile":
            oid = str(value.get("oid"))
            if not self.store.has(oid):
                raise StoreError(400, f"The large file {path!r} ({oid}) was not uploaded")
            data_bytes = self.store.read(oid)
            files[path] = Blob(oid, git_hash(data_bytes), len(data_bytes), True)
        elif key == "deletedFile":
            if files.pop(path, None) is None:
                raise StoreError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
        elif key == "deletedFolder":
            inside = [name for name in files if name.startswith(f"{path}/")]
            if not inside:
                raise StoreError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
            for name in inside:
                del files[name]
        else:
            raise StoreError(400, f"Unknown operation {key!r}")

    def writable(self, request: Request, kind: str, repo: str, *, pull_request: bool = False) -> Repository:
        """A repository that the user may write to (or open a pull request on)."""
        repository = self.store.find(kind, repo, request.user, files=True)
        user = request.user
        namespace = user.name if pull_request and user is not None else repo.split("/")[0]
        self.store.check_write(user, namespace)
        return repository

    def _sign(self, oid: str) -> str:
        return hmac.new(self._secret, oid.encode(), "sha256").hexdigest()


def page(request: Request, kind: str, repo: str) -> str:
    """The address of a repository's page."""
    return f"{request.endpoint}/{'' if kind == 'model' else f'{kind}s/'}{repo}"


def _lines(body: bytes) -> Iterator[tuple[str, Json]]:
    """The key and value of each line of a commit's body.

    Raises:
        StoreError: 400 for a line that is not such a pair.
    """
    for line in body.splitlines():
        try:
            entry = json.loads(line)
            yield str(entry["key"]), dict(entry["value"])
        except (ValueError, KeyError, TypeError):
            raise StoreError(400, "A line of the commit is no JSON object with key and value") from None
