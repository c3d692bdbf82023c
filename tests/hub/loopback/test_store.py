"""Branches, tags, commits and pull requests."""

from __future__ import annotations

import http.client
import json

import pytest


def test_branches_tags_commits_and_pull_requests(hub, tokens, run_client):
    hub.add_repo("alice/history", {"a.txt": b"one"})
    result = run_client(
        """
import json
from huggingface_hub import HfApi, CommitOperationAdd, CommitOperationDelete, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError
api = HfApi()
R = "alice/history"
api.create_tag(R, tag="v1"); api.create_branch(R, branch="dev/x"); api.create_branch(R, branch="dev/x", exist_ok=True)
api.upload_file(repo_id=R, path_or_fileobj=b"two", path_in_repo="a.txt", revision="dev/x")
pull = api.upload_file(repo_id=R, path_or_fileobj=b"three", path_in_repo="a.txt", create_pr=True, commit_message="PR")
read = {r: open(hf_hub_download(R, "a.txt", revision=r)).read() for r in ("main", "v1", "dev/x", pull.pr_revision)}
api.create_commit(R, [CommitOperationDelete("a.txt"), CommitOperationAdd("b/c.txt", b"c")], commit_message="move")
try:
    api.create_commit(R, [CommitOperationAdd("d", b"d")], commit_message="late", parent_commit=pull.oid)
    stale = None
except HfHubHTTPError as error:
    stale = error.response.status_code
try:
    api.model_info(R, revision="nowhere"); missing = False
except RevisionNotFoundError:
    missing = True
refs = api.list_repo_refs(R)
short = api.model_info(R, revision=pull.oid[:9]).sha == pull.oid
print(json.dumps([read, pull.pr_url, pull.pr_revision, stale, missing, sorted(b.name for b in refs.branches),
    [t.name for t in refs.tags], api.list_repo_files(R), [c.title for c in api.list_repo_commits(R)], short]))
""",
        token=tokens["alice"],
    )
    read, url, revision, stale, missing, branches, tags, files, titles, short = result.json
    assert read == {"main": "one", "v1": "one", "dev/x": "two", "refs/pr/1": "three"}
    assert url == f"{hub.endpoint}/alice/history/discussions/1"
    assert revision == "refs/pr/1"
    assert stale == 412
    assert missing
    assert branches == ["dev/x", "main"]
    assert tags == ["v1"]
    assert files == [".gitattributes", "b/c.txt"]
    assert titles == ["move", "Upload files", "initial commit"]
    assert short


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/x", ".git/config", "a//b", "a\\b", ""])
def test_commits_cannot_leave_the_repository(hub, tokens, path):
    hub.add_repo("alice/paths", {"a.txt": b"a"})
    before = hub.history("alice/paths")[0].id
    lines = [{"key": "header", "value": {"summary": "s"}}, {"key": "file", "value": {"path": path, "content": ""}}]
    connection = http.client.HTTPConnection("127.0.0.1", hub.server.server_address[1])
    body = "\n".join(map(json.dumps, lines))
    headers = {"Authorization": f"Bearer {tokens['alice']}"}
    connection.request("POST", "/api/models/alice/paths/commit/main", body=body, headers=headers)
    assert connection.getresponse().status == 400
    connection.close()
    assert hub.history("alice/paths")[0].id == before
