"""The routes of the loopback Hub, as huggingface_hub, timm and datasets use them.

Paths are matched raw and unquoted afterwards, because a revision is one percent-encoded segment (`dev%2Fexp`) while
the slashes of a file name are kept.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
from collections import Counter
from pathlib import PurePosixPath
from urllib.parse import parse_qs, quote, unquote

from hf_free.hub.loopback.card_rules import card_errors, card_tags, read_metadata
from hf_free.hub.loopback.file_routes import API, ROUTES, FileRoutes, page, route
from hf_free.hub.loopback.messages import Answer, Request
from hf_free.hub.loopback.store import Blob, Commit, Repository, StoreError
from hf_free.provenance.reading import Json


class Routes(FileRoutes):
    """Answers requests out of a store; those about files are in `FileRoutes`."""

    def answer(self, request: Request) -> Answer:
        """Find the route of a request and call it.

        Raises:
            StoreError: what the Hub refuses; 404 where there is no route.
        """
        for methods, pattern, function in ROUTES:
            match = pattern.fullmatch(request.path)
            if match and request.method in methods.split():
                groups = {name: unquote(value) if value else value for name, value in match.groupdict().items()}
                if "kind" in groups:
                    groups["kind"] = groups["kind"] or "model"
                return function(self, request, **groups)
        raise StoreError(404, f"Sorry, this loopback Hub has no {request.method} {request.path}")

    # ---- accounts and repositories

    @route("GET", r"/api/whoami-v2")
    def whoami(self, request: Request) -> Answer:
        """Who a token belongs to."""
        if request.user is None:
            raise StoreError(401, "Invalid username or password.")
        organizations = [{"type": "org", "name": name, "roleInOrg": "admin"} for name in request.user.organizations]
        token = {"type": "access_token", "accessToken": {"displayName": "loopback", "role": request.user.role}}
        return Answer({"type": "user", "name": request.user.name, "orgs": organizations, "auth": token})

    @route("POST", r"/api/repos/create")
    def create(self, request: Request) -> Answer:
        """Make a repository; 409 with its address if it exists."""
        wish = request.json()
        kind = wish.get("type") or "model"
        if kind not in ("model", "dataset", "space"):
            raise StoreError(400, f"This loopback Hub has no {kind!r} repositories")
        namespace = wish.get("organization") or (request.user.name if request.user else "")
        user = self.store.check_write(request.user, namespace)
        repo_id = f"{namespace}/{wish.get('name')}"
        address = page(request, kind, repo_id)
        private = wish.get("visibility") == "private" or bool(wish.get("private"))
        try:
            self.store.create(repo_id, kind, private=private, gated=False, author=user.name)
        except StoreError as error:
            if error.status != 409:
                raise
            return Answer({"error": error.message, "url": address}, 409, {"X-Error-Message": error.message})
        return Answer({"url": address, "name": repo_id, "id": secrets.token_hex(12)})

    @route("DELETE", r"/api/repos/delete")
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

    @route("PUT", API + r"/settings")
    def settings(self, request: Request, kind: str, repo: str) -> Answer:
        """Change the visibility or the gate of a repository."""
        repository, wish = self.writable(request, kind, repo), request.json()
        if "visibility" in wish or "private" in wish:
            repository.private = wish.get("visibility") == "private" or bool(wish.get("private"))
        if "gated" in wish:
            repository.gated = bool(wish["gated"])
        return Answer({"private": repository.private, "gated": "manual" if repository.gated else False})

    @route("GET", API + r"/auth-check(?P<write>/write)?")
    def auth_check(self, request: Request, kind: str, repo: str, write: str | None) -> Answer:
        """200 if the token may read (or write) the repository."""
        self.store.find(kind, repo, request.user, files=True)
        if write:
            self.store.check_write(request.user, repo.split("/")[0])
        return Answer({})

    @route("POST", r"/api/validate-yaml")
    def validate_yaml(self, request: Request) -> Answer:
        """Refuse a card that the real Hub would refuse."""
        errors = [{"message": error} for error in card_errors(str(request.json().get("content", "")))]
        return Answer({"errors": errors, "warnings": []}, 400 if errors else 200)

    # ---- what there is

    @route("GET", r"/api/(?P<kind>model|dataset|space)s")
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

    @route("GET", r"/api/collections/(?P<slug>[^/]+/[^/]+)")
    def collection(self, request: Request, slug: str) -> Answer:
        """What a collection holds; a private one is not there for others."""
        found, owner = self.store.collections.get(slug), slug.split("/")[0]
        if found is None or (found.private and not self.store.is_own(request.user, owner)):
            raise StoreError(404, "Collection not found")
        items = [
            {"_id": f"{place:024x}", "id": name, "type": kind, "position": place}
            for place, (kind, name) in enumerate(found.items)
        ]
        details = {"title": slug.split("/")[1], "owner": {"name": owner}, "private": found.private, "items": items}
        return Answer(
            {"slug": slug, "lastUpdated": "2026-01-01T00:00:00.000Z", "position": 0, "theme": "blue", "upvotes": 0}
            | details
        )

    @route("GET", API + r"(?:/revision/(?P<revision>[^/]+))?")
    def info(self, request: Request, kind: str, repo: str, revision: str | None) -> Answer:
        """Commit, files, card data and visibility of a repository."""
        repository = self.store.find(kind, repo, request.user)
        blobs = request.query.get("blobs", ["false"])[0].lower() in ("true", "1")
        return Answer(self._info(repository, repository.resolve(revision or "main"), blobs=blobs))

    @route("GET", API + r"/tree/(?P<revision>[^/]+)(?:/(?P<folder>.*))?")
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

    @route("POST", API + r"/paths-info/(?P<revision>[^/]+)")
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

    @route("GET", API + r"/refs")
    def refs(self, request: Request, kind: str, repo: str) -> Answer:
        """Branches, tags and pull requests."""
        repository = self.store.find(kind, repo, request.user)
        answer: dict[str, list[dict[str, str]]] = {"branches": [], "tags": [], "converts": [], "pullRequests": []}
        groups = {"heads": "branches", "tags": "tags", "pr": "pullRequests"}
        for ref, target in repository.refs.items():
            _, group, name = ref.split("/", 2)
            answer[groups[group]].append({"name": name, "ref": ref, "targetCommit": target})
        return Answer(answer)

    @route("GET", API + r"/commits/(?P<revision>[^/]+)")
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

    @route("POST DELETE", API + r"/(?P<group>branch|tag)/(?P<name>[^/]+)")
    def ref(self, request: Request, kind: str, repo: str, group: str, name: str) -> Answer:
        """Make or remove a branch or a tag."""
        repository, wish = self.writable(request, kind, repo), request.json()
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

    # ---- helpers

    def _info(self, repository: Repository, commit: Commit, *, blobs: bool = False) -> Json:
        card = commit.files.get("README.md")
        try:
            metadata = read_metadata(self.store.read(card.sha256).decode("utf-8", "replace")) if card else {}
        except ValueError:
            metadata = {}
        siblings: list[Json] = [{"rfilename": path} for path in sorted(commit.files)]
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
            **self._safetensors(commit),
        }

    def _safetensors(self, commit: Commit) -> Json:
        """The numbers in model.safetensors by type, as the Hub counts them from the header; nothing without one."""
        blob = commit.files.get("model.safetensors")
        data = self.store.read(blob.sha256) if blob else b""
        try:
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            counts = Counter[str]()
            for name, entry in header.items():
                if name != "__metadata__":
                    counts[entry["dtype"]] += math.prod(entry["shape"])
        except (ValueError, TypeError, KeyError, AttributeError):
            return {}
        return {"safetensors": {"parameters": dict(counts), "total": sum(counts.values())}}

    @staticmethod
    def _entry(path: str, blob: Blob, commit: Commit) -> Json:
        entry: Json = {"type": "file", "path": path, "size": blob.size, "oid": blob.blob_id}
        if blob.large:
            entry["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": len(blob.pointer)}
        entry["lastCommit"] = {"id": commit.id, "title": commit.title, "date": commit.date}
        return entry


def _folder(path: str) -> Json:
    return {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(path.encode()).hexdigest()}
