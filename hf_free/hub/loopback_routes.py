"""The routes of the loopback Hub, as huggingface_hub, timm and datasets use them.

Paths are matched raw and unquoted afterwards, because a revision is one percent-encoded segment (`dev%2Fexp`) while
the slashes of a file name are kept.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote, unquote

from hf_free.hub.loopback_card import card_errors, card_tags, read_metadata
from hf_free.hub.loopback_http import Answer, Request
from hf_free.hub.loopback_store import Blob, Commit, Repository, Store, StoreError, check_path, git_hash

_API = r"/api/(?P<kind>model|dataset)s/(?P<repo>[^/]+/[^/]+)"
_FILES = r"/(?:(?P<kind>dataset)s/)?(?P<repo>[^/]+/[^/]+)"
_MAX_PREUPLOAD = 256
_ROUTES: list[tuple[str, re.Pattern[str], Callable[..., Answer]]] = []


def _route(methods: str, pattern: str) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    def register(function: Callable[..., Answer]) -> Callable[..., Answer]:
        _ROUTES.append((methods, re.compile(pattern), function))
        return function

    return register


class Routes:
    """Answers requests out of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._secret = secrets.token_bytes(16)

    def answer(self, request: Request) -> Answer:
        """Find the route of a request and call it.

        Raises:
            StoreError: what the Hub refuses; 404 where there is no route.
        """
        for methods, pattern, function in _ROUTES:
            match = pattern.fullmatch(request.path)
            if match and request.method in methods.split():
                groups = {name: unquote(value) if value else value for name, value in match.groupdict().items()}
                if "kind" in groups:
                    groups["kind"] = groups["kind"] or "model"
                return function(self, request, **groups)
        raise StoreError(404, f"Sorry, this loopback Hub has no {request.method} {request.path}")

    # ---- accounts and repositories

    @_route("GET", r"/api/whoami-v2")
    def whoami(self, request: Request) -> Answer:
        """Who a token belongs to."""
        if request.user is None:
            raise StoreError(401, "Invalid username or password.")
        organizations = [{"type": "org", "name": name, "roleInOrg": "admin"} for name in request.user.organizations]
        token = {"type": "access_token", "accessToken": {"displayName": "loopback", "role": request.user.role}}
        return Answer({"type": "user", "name": request.user.name, "orgs": organizations, "auth": token})

    @_route("POST", r"/api/repos/create")
    def create(self, request: Request) -> Answer:
        """Make a repository; 409 with its address if it exists."""
        wish = request.json()
        kind = wish.get("type") or "model"
        if kind not in ("model", "dataset"):
            raise StoreError(400, f"This loopback Hub has no {kind!r} repositories")
        namespace = wish.get("organization") or (request.user.name if request.user else "")
        user = self.store.check_write(request.user, namespace)
        repo_id = f"{namespace}/{wish.get('name')}"
        page = self._page(request, kind, repo_id)
        private = wish.get("visibility") == "private" or bool(wish.get("private"))
        try:
            self.store.create(repo_id, kind, private=private, gated=False, author=user.name)
        except StoreError as error:
            if error.status != 409:
                raise
            return Answer({"error": error.message, "url": page}, 409, {"X-Error-Message": error.message})
        return Answer({"url": page, "name": repo_id, "id": secrets.token_hex(12)})

    @_route("DELETE", r"/api/repos/delete")
    def delete(self, request: Request) -> Answer:
        """Remove a repository."""
        wish = request.json()
        namespace = wish.get("organization") or (request.user.name if request.user else "")
        self.store.check_write(request.user, namespace)
        kind, repo_id = wish.get("type") or "model", f"{namespace}/{wish.get('name')}"
        self.store.find(kind, repo_id, request.user)
        with self.store.lock:
            del self.store.repositories[kind, repo_id]
        return Answer({})

    @_route("PUT", _API + r"/settings")
    def settings(self, request: Request, kind: str, repo: str) -> Answer:
        """Change the visibility or the gate of a repository."""
        repository, wish = self._writable(request, kind, repo), request.json()
        if "visibility" in wish or "private" in wish:
            repository.private = wish.get("visibility") == "private" or bool(wish.get("private"))
        if "gated" in wish:
            repository.gated = bool(wish["gated"])
        return Answer({"private": repository.private, "gated": "manual" if repository.gated else False})

    @_route("GET", _API + r"/auth-check(?P<write>/write)?")
    def auth_check(self, request: Request, kind: str, repo: str, write: str | None) -> Answer:
        """200 if the token may read (or write) the repository."""
        self.store.find(kind, repo, request.user, files=True)
        if write:
            self.store.check_write(request.user, repo.split("/")[0])
        return Answer({})

    @_route("POST", r"/api/validate-yaml")
    def validate_yaml(self, request: Request) -> Answer:
        """Refuse a card that the real Hub would refuse."""
        errors = [{"message": error} for error in card_errors(str(request.json().get("content", "")))]
        return Answer({"errors": errors, "warnings": []}, 400 if errors else 200)

    # ---- what there is

    @_route("GET", r"/api/(?P<kind>model|dataset)s")
    def listing(self, request: Request, kind: str) -> Answer:
        """List repositories by search text, author and tags; pages by cursor."""
        query = request.query
        found = []
        for (its_kind, repo_id), repository in sorted(self.store.repositories.items()):
            if its_kind != kind or (repository.private and not self.store.is_member(request.user, repository)):
                continue
            info = self._info(repository, repository.resolve("main"))
            wanted = {tag for text in query.get("filter", []) for tag in text.split(",")}
            wanted |= set(query.get("pipeline_tag", []))
            searched = query.get("search", [""])[0].lower()
            if wanted <= set(info["tags"]) and searched in repo_id.lower():
                found.append(info)
        if author := query.get("author", [""])[0]:
            found = [info for info in found if info["author"] == author]
        start, limit = int(query.get("cursor", ["0"])[0]), int(query.get("limit", ["1000"])[0])
        headers = {}
        if start + limit < len(found):
            pairs = [(key, value) for key, values in query.items() for value in values if key != "cursor"]
            text = "&".join(f"{quote(key)}={quote(value)}" for key, value in [*pairs, ("cursor", str(start + limit))])
            headers["Link"] = f'<{request.endpoint}{request.path}?{text}>; rel="next"'
        return Answer(found[start : start + limit], headers=headers)

    @_route("GET", _API + r"(?:/revision/(?P<revision>[^/]+))?")
    def info(self, request: Request, kind: str, repo: str, revision: str | None) -> Answer:
        """Commit, files, card data and visibility of a repository."""
        repository = self.store.find(kind, repo, request.user)
        blobs = request.query.get("blobs", ["false"])[0].lower() in ("true", "1")
        return Answer(self._info(repository, repository.resolve(revision or "main"), blobs=blobs))

    @_route("GET", _API + r"/tree/(?P<revision>[^/]+)(?:/(?P<folder>.*))?")
    def tree(self, request: Request, kind: str, repo: str, revision: str, folder: str | None) -> Answer:
        """Files and folders under a folder."""
        repository = self.store.find(kind, repo, request.user)
        commit, prefix = repository.resolve(revision), f"{folder.strip('/')}/" if folder else ""
        recursive = request.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        files, folders = [], set()
        for path, blob in sorted(commit.files.items()):
            if not path.startswith(prefix):
                continue
            inner = PurePosixPath(path[len(prefix) :])
            parents = [str(parent) for parent in inner.parents if str(parent) != "."]
            folders.update(parents if recursive else parents[-1:])
            if recursive or not parents:
                files.append(self._entry(path, blob, commit))
        if prefix and not files and not folders:
            raise StoreError(404, f"{folder} does not exist on {revision!r}", "EntryNotFound")
        return Answer([_folder(prefix + name) for name in sorted(folders)] + files)

    @_route("POST", _API + r"/paths-info/(?P<revision>[^/]+)")
    def paths_info(self, request: Request, kind: str, repo: str, revision: str) -> Answer:
        """The same entries for named paths; what does not exist is left out."""
        commit = self.store.find(kind, repo, request.user).resolve(revision)
        entries = []
        for path in parse_qs(request.body.decode()).get("paths", []):
            if path in commit.files:
                entries.append(self._entry(path, commit.files[path], commit))
            elif any(name.startswith(f"{path.rstrip('/')}/") for name in commit.files):
                entries.append(_folder(path.rstrip("/")))
        return Answer(entries)

    @_route("GET", _API + r"/refs")
    def refs(self, request: Request, kind: str, repo: str) -> Answer:
        """Branches, tags and pull requests."""
        repository = self.store.find(kind, repo, request.user)
        answer: dict[str, list[dict[str, str]]] = {"branches": [], "tags": [], "converts": [], "pullRequests": []}
        groups = {"heads": "branches", "tags": "tags", "pr": "pullRequests"}
        for ref, target in repository.refs.items():
            _, group, name = ref.split("/", 2)
            answer[groups[group]].append({"name": name, "ref": ref, "targetCommit": target})
        return Answer(answer)

    @_route("GET", _API + r"/commits/(?P<revision>[^/]+)")
    def commits(self, request: Request, kind: str, repo: str, revision: str) -> Answer:
        """The history of a revision, newest first."""
        repository = self.store.find(kind, repo, request.user)
        commit: Commit | None = repository.resolve(revision)
        history = []
        while commit is not None:
            authors = [{"user": commit.author}]
            texts = {"title": commit.title, "message": commit.description}
            history.append({"id": commit.id, "authors": authors, "date": commit.date, **texts})
            commit = repository.commits[commit.parent] if commit.parent else None
        return Answer(history)

    @_route("POST DELETE", _API + r"/(?P<group>branch|tag)/(?P<name>[^/]+)")
    def ref(self, request: Request, kind: str, repo: str, group: str, name: str) -> Answer:
        """Make or remove a branch or a tag."""
        repository, wish = self._writable(request, kind, repo), request.json()
        branch = group == "branch"
        if request.method == "POST":
            start = wish.get("startingPoint") or "main" if branch else name
            name = name if branch else str(wish.get("tag"))
        ref = f"refs/heads/{name}" if branch else f"refs/tags/{name}"
        with self.store.lock:
            if request.method == "DELETE":
                if repository.refs.pop(ref, None) is None:
                    raise StoreError(404, f"No {group} {name!r}", "RevisionNotFound")
            elif ref in repository.refs:
                raise StoreError(409, f"Reference already exists: {ref}")
            else:
                repository.refs[ref] = repository.resolve(start).id
        return Answer({})

    # ---- files

    @_route("HEAD GET", _FILES + r"/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
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

    @_route("POST", _API + r"/preupload/(?P<revision>[^/]+)")
    def preupload(self, request: Request, kind: str, repo: str, revision: str) -> Answer:
        """Say of each file how it is to be uploaded and what is there now."""
        repository = self._writable(request, kind, repo, pull_request="create_pr" in request.query)
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

    @_route("POST", _FILES + r"\.git/info/lfs/objects/batch")
    def lfs_batch(self, request: Request, kind: str, repo: str) -> Answer:
        """Give an address to upload each large file to, unless it is here already."""
        self._writable(request, kind, repo, pull_request=True)
        objects = []
        for wish in request.json().get("objects", []):
            oid, size = str(wish["oid"]), int(wish["size"])
            entry: dict[str, Any] = {"oid": oid, "size": size}
            if not re.fullmatch(r"[0-9a-f]{64}", oid):
                entry["error"] = {"code": 422, "message": "Not a SHA-256"}
            elif not self.store.has(oid):
                upload = f"{request.endpoint}/lfs/{oid}?signature={self._sign(oid)}"
                verify = f"{request.endpoint}/lfs-verify/{kind}/{repo}"
                entry["actions"] = {"upload": {"href": upload}, "verify": {"href": verify}}
            objects.append(entry)
        return Answer({"transfer": "basic", "objects": objects})

    @_route("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})")
    def lfs_put(self, request: Request, oid: str) -> Answer:
        """Take the bytes of a large file; the address itself is the permission."""
        if not hmac.compare_digest(request.query.get("signature", [""])[0], self._sign(oid)):
            raise StoreError(403, "SignatureDoesNotMatch")
        if hashlib.sha256(request.body).hexdigest() != oid:
            raise StoreError(400, "The bytes do not have the announced SHA-256")
        self.store.write(request.body)
        return Answer({})

    @_route("POST", r"/lfs-verify/(?P<kind>model|dataset)/(?P<repo>[^/]+/[^/]+)")
    def lfs_verify(self, request: Request, kind: str, repo: str) -> Answer:
        """Confirm that a large file has arrived whole."""
        wish = request.json()
        oid = str(wish.get("oid"))
        if not self.store.has(oid) or len(self.store.read(oid)) != wish.get("size"):
            raise StoreError(404, "Object does not exist")
        return Answer({})

    @_route("POST", _API + r"/commit/(?P<revision>[^/]+)")
    def commit(self, request: Request, kind: str, repo: str, revision: str) -> Answer:
        """Make a commit out of the lines of the body: a header, files, large files, deletions."""
        pull_request = "create_pr" in request.query
        repository = self._writable(request, kind, repo, pull_request=pull_request)
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
        page = self._page(request, kind, repo)
        answer = {"success": True, "commitOid": made.id, "commitUrl": f"{page}/commit/{made.id}", "hookOutput": ""}
        if pull_request:
            answer["pullRequestUrl"] = f"{page}/discussions/{repository.pull_requests}"
        return Answer(answer)

    # ---- helpers

    def _apply(self, files: dict[str, Blob], key: str, value: dict[str, Any]) -> None:
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

    def _writable(self, request: Request, kind: str, repo: str, *, pull_request: bool = False) -> Repository:
        repository = self.store.find(kind, repo, request.user, files=True)
        user = request.user
        namespace = user.name if pull_request and user is not None else repo.split("/")[0]
        self.store.check_write(user, namespace)
        return repository

    def _info(self, repository: Repository, commit: Commit, *, blobs: bool = False) -> dict[str, Any]:
        card = commit.files.get("README.md")
        try:
            metadata = read_metadata(self.store.read(card.sha256).decode("utf-8", "replace")) if card else {}
        except ValueError:
            metadata = {}
        siblings: list[dict[str, Any]] = [{"rfilename": path} for path in sorted(commit.files)]
        if blobs:
            for sibling in siblings:
                blob = commit.files[sibling["rfilename"]]
                sibling |= {"size": blob.size, "blobId": blob.blob_id}
                if blob.large:
                    sibling["lfs"] = {"sha256": blob.sha256, "size": blob.size, "pointerSize": len(blob.pointer)}
        return {
            "_id": hashlib.sha1(repository.id.encode()).hexdigest()[:24],
            "id": repository.id,
            "modelId": repository.id,
            "author": repository.id.split("/")[0],
            "sha": commit.id,
            "private": repository.private,
            "gated": "manual" if repository.gated else False,
            "disabled": False,
            "createdAt": repository.created,
            "lastModified": commit.date,
            "tags": card_tags(metadata),
            "library_name": metadata.get("library_name"),
            "pipeline_tag": metadata.get("pipeline_tag"),
            "cardData": metadata,
            "siblings": siblings,
            "downloads": 0,
            "likes": 0,
        }

    @staticmethod
    def _entry(path: str, blob: Blob, commit: Commit) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": path, "size": blob.size, "oid": blob.blob_id}
        if blob.large:
            entry["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": len(blob.pointer)}
        entry["lastCommit"] = {"id": commit.id, "title": commit.title, "date": commit.date}
        return entry

    @staticmethod
    def _page(request: Request, kind: str, repo: str) -> str:
        return f"{request.endpoint}/{'' if kind == 'model' else 'datasets/'}{repo}"

    def _sign(self, oid: str) -> str:
        return hmac.new(self._secret, oid.encode(), "sha256").hexdigest()


def _folder(path: str) -> dict[str, Any]:
    return {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(path.encode()).hexdigest()}


def _lines(body: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
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
