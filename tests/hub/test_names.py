"""What a repository, a revision, a commit may be called."""

from __future__ import annotations

from hub_calls import FILES


def test_an_impossible_commit_is_refused(hub, ask, tmp_path):
    hub.add_repo("fault/evil", FILES)
    repository = hub.repository("fault/evil")
    commit = repository.resolve("main")
    repository.commits["../../../evil"] = type(commit)(**{**commit.__dict__, "id": "../../../evil"})
    repository.refs["refs/heads/main"] = "../../../evil"
    answer = ask("fetch_snapshot, 'fault/evil'")
    assert "impossible commit '../../../evil'" in answer["error"]
    assert not list(tmp_path.rglob("*evil*"))
