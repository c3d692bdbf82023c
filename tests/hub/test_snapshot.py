"""hf_free.hub.snapshot against the loopback Hub: what it fetches, what it refuses, and what it survives.

The Hub answers over HTTP, faults included; the client runs in a process of its own, since huggingface_hub reads its
settings at import.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pico import pico_files
from safetensors.torch import load

from hf_free.errors import HubError
from hf_free.hub.search import weight_bytes_of
from hf_free.hub.snapshot import local_snapshot

CONFIG = b'{"architecture": "test_resnet", "num_classes": 3}'
WEIGHTS = hashlib.sha256(b"weights").digest() * 40_000  # 1.28 MB
FILES = {"config.json": CONFIG, "model.safetensors": WEIGHTS, "README.md": b"---\nlicense: mit\n---\n# Net\n"}
HELPERS = """
import json, logging, sys, time
from dataclasses import asdict
from pathlib import Path
logging.basicConfig(format="LOG %(levelname)s %(name)s %(message)s", level=logging.DEBUG)
from hf_free.errors import HubError
from hf_free.hub import snapshot as client
def show(call, *args, **kwargs):
    begin = time.monotonic()
    try:
        value = call(*args, **kwargs)
        value = asdict(value) if isinstance(value, client.Snapshot) else value
        out = {"value": value, "error": None}
    except HubError as error:
        out = {"value": None, "error": str(error)}
    return {**out, "seconds": time.monotonic() - begin}
"""


@pytest.fixture
def ask(run_client):
    """Evaluate calls of the client, given as text, in one new process; gives what `show` gives for each."""

    def run(*calls: str, **options):
        body = ", ".join(f"show(client.{call})" for call in calls)
        result = run_client(f"{HELPERS}\nprint(json.dumps([{body}], default=str))", **options)
        answers = result.json
        for answer in answers:
            answer["log"] = result.stderr
        return answers if len(answers) > 1 else answers[0]

    return run


@pytest.fixture
def ask_all(ask, tmp_path):
    """Make calls at the same time, each in a process and with a cache of its own."""

    def run(calls: list[tuple[str, dict]]) -> list[dict]:
        with ThreadPoolExecutor(16) as pool:
            homes = [tmp_path / f"home-{index}" for index in range(len(calls))]
            running = [
                pool.submit(ask, call, home=home, **options)
                for (call, options), home in zip(calls, homes, strict=True)
            ]
            return [future.result() for future in running]

    return run


@pytest.fixture
def learner(tmp_path) -> Path:
    folder = tmp_path / "learner"
    (folder / "pictures").mkdir(parents=True)
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    (folder / "pictures" / "grid.png").write_bytes(b"\x89PNG")
    return folder


LASTING_PUSH_FAULTS = [
    ("status", "/api/models/{}/commit/main", {"status": 500}, "has trouble for pusher-0/learner"),
    ("stall", "/api/models/{}/commit/main", {}, "cannot reach the Hub"),
    ("stall", "/api/models/{}/preupload/", {}, "cannot reach the Hub"),
    ("stall", "/api/models/{}$", {}, "cannot reach the Hub"),
    ("status", "/api/models/{}/preupload/", {"status": 503}, "last answer: 503"),
]


def paths(hub, start: int, method: str | None = None) -> list[str]:
    return [entry.path for entry in hub.requests[start:] if method in (None, entry.method)]


def partial_files(home: Path) -> list[Path]:
    return list(home.rglob("*.incomplete"))


# ---- fetching


def test_only_the_named_files_of_one_commit(hub, ask, tmp_path):
    extra = {"pytorch_model.bin": b"\x80\x04pickle", "extra.safetensors": b"x"}
    old = hub.add_repo("fetch/plain", {**FILES, **extra})
    new = hub.add_repo("fetch/plain", {"config.json": b"{}"})
    start = len(hub.requests)
    by_commit, latest = ask(
        f"fetch_snapshot, 'fetch/plain', revision='{old}', optional=('README.md', 'none.txt')",
        "fetch_snapshot, 'fetch/plain'",
    )
    value = by_commit["value"]
    folder = Path(value["folder"])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert value["sha256"] == {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    assert (value["repo_id"], value["commit"], value["license"]) == ("fetch/plain", old, "mit")
    assert (value["private"], value["gated"], value["from_cache"]) == (False, False, False)
    assert latest["value"]["commit"] == new
    assert (Path(latest["value"]["folder"]) / "config.json").read_bytes() == b"{}"
    fetched = [path for path in paths(hub, start) if "/resolve/" in path]
    assert all(f"/resolve/{old}/" in path or f"/resolve/{new}/" in path for path in fetched), "never by branch name"
    assert not [path for path in fetched if "pytorch_model" in path or "extra" in path]
    assert not partial_files(tmp_path)


def test_branches_tags_and_pull_requests(hub, ask):
    hub.add_repo("fetch/branches", FILES)
    other = hub.add_repo("fetch/branches", {"config.json": b"{}"}, branch="dev/x")
    answer = ask("fetch_snapshot, 'fetch/branches', revision='dev/x'")
    assert answer["value"]["commit"] == other


def test_cached_files_are_not_fetched_again_and_a_commit_needs_no_request(hub, ask):
    commit = hub.add_repo("fetch/warm", FILES)
    ask("fetch_snapshot, 'fetch/warm'")
    start = len(hub.requests)
    ask("fetch_snapshot, 'fetch/warm'")
    assert len(paths(hub, start)) == 1, "the branch is resolved and nothing fetched"
    start = len(hub.requests)
    answer = ask(f"fetch_snapshot, 'fetch/warm', revision='{commit}'")
    assert paths(hub, start) == []
    assert answer["value"]["license"] == "mit"


def test_the_cache_is_shared_with_huggingface_hub_both_ways(hub, ask, run_client):
    hub.add_repo("fetch/shared", FILES)
    code = (
        "from huggingface_hub import snapshot_download as s; print(s('fetch/shared', allow_patterns=['config.json']))"
    )
    theirs = run_client(code).stdout.strip()
    start = len(hub.requests)
    ours = ask("fetch_snapshot, 'fetch/shared'")["value"]["folder"]
    assert ours == theirs
    assert not [path for path in paths(hub, start) if path.endswith("config.json")]
    start = len(hub.requests)
    download = "from huggingface_hub import hf_hub_download as d; print(d('fetch/shared', 'model.safetensors'))"
    assert run_client(download).stdout.strip() == f"{ours}/model.safetensors"
    assert paths(hub, start, "GET") == []


def test_private_and_gated_are_told(hub, tokens, ask):
    hub.add_repo("alice/fetch-private", FILES, private=True)
    hub.add_repo("alice/fetch-gated", FILES, gated=True, granted=("bob",))
    private, gated = ask(
        "fetch_snapshot, 'alice/fetch-private'", "fetch_snapshot, 'alice/fetch-gated'", token=tokens["alice"]
    )
    assert private["value"]["private"]
    assert gated["value"]["gated"]
    granted = ask("fetch_snapshot, 'alice/fetch-gated', token='hf_bob_secret'")
    assert granted["value"]["gated"]


# ---- refusals

REFUSALS = {
    "unknown": ("'org/unknown'", "does not exist on http", "check the spelling"),
    "private, no token": ("'alice/closed'", "is private and no token was given", "hf auth login"),
    "private, other's token": ("'alice/closed', token='hf_bob_secret'", "token's user may not see it", "whoami"),
    "gated, no token": ("'alice/ask'", "is gated and no token was given", "ask for access at http"),
    "gated, not granted": ("'alice/ask', token='hf_bob_secret'", "is gated and the token's user", "ask for access"),
    "wrong token": ("'alice/plain', token='hf_wrong'", "does not know the token", "make a new one"),
    "no revision": ("'alice/plain', revision='v9'", "alice/plain has no revision 'v9'", "branches"),
    "no commit": (f"'alice/plain', revision='{'0' * 40}'", "has no revision '0000", "branches"),
    "evil revision": ("'alice/plain', revision='../../x'", "malformed revision", "write it"),
    "one segment": ("'plain'", "without an organisation", "org/plain"),
    "parent folder": ("'../plain'", "is a local folder that does not exist", "check the path"),
    "only pickles": ("'alice/pickles'", r"has only pickled weights (model.pth, pytorch_model.bin)", "convert"),
    "another library": ("'alice/bert'", "main (a model of transformers) has only pickled weights", "convert"),
    "no weights": ("'alice/empty'", "has no config.json and no model.safetensors", "choose another"),
}


def test_refusals_name_the_cause(hub, tokens, ask, tmp_path):
    hub.add_repo("alice/closed", FILES, private=True)
    hub.add_repo("alice/ask", FILES, gated=True)
    hub.add_repo("alice/plain", FILES)
    hub.add_repo("alice/pickles", {"config.json": CONFIG, "pytorch_model.bin": b"p", "model.pth": b"p"})
    card = b"---\nlibrary_name: transformers\n---\n"
    hub.add_repo("alice/bert", {"config.json": CONFIG, "pytorch_model.bin": b"p", "README.md": card})
    hub.add_repo("alice/empty", {"a.txt": b"a"})
    start = len(hub.requests)
    answers = ask(*(f"fetch_snapshot, {arguments}" for arguments, _, _ in REFUSALS.values()))
    for (name, (_, problem, action)), answer in zip(REFUSALS.items(), answers, strict=True):
        assert answer["error"] is not None, name
        first, *rest = answer["error"].splitlines()
        assert problem in first, name
        assert any("to do:" in line and action in line for line in rest), name
        assert answer["seconds"] < 5, name
        assert "secret" not in answer["error"]
    assert not [path for path in paths(hub, start) if path.endswith((".bin", ".pth"))]
    assert not partial_files(tmp_path)


def test_a_token_is_neither_logged_nor_sent_unencrypted(hub, tokens, ask):
    hub.add_repo("alice/logged", FILES, private=True)
    answer = ask("fetch_snapshot, 'alice/logged'", token=tokens["alice"], env={"HF_DEBUG": "1"})
    assert answer["error"] is None
    assert "LOG DEBUG" in answer["log"]
    assert tokens["alice"] not in answer["log"]
    for call in ("fetch_snapshot, 'alice/logged'", "check_can_push, 'alice/logged', None", "search_models"):
        answer = ask(call, token=tokens["alice"], env={"HF_ENDPOINT": "http://hub.example"})
        assert "would be sent unencrypted to http://hub.example" in answer["error"]
        assert tokens["alice"] not in answer["error"] + answer["log"]
        assert answer["seconds"] < 1


# ---- faults


def place(name: str, where: str) -> str:
    """The path of the answer that a fault hits: what the Hub says of the repository, or the weights."""
    return f"/api/models/{name}/revision" if where == "info" else f"/{name}/resolve/.*safetensors"


PASSING_FAULTS = [
    ("status", "info", {"status": 503, "times": 2}),
    ("status", "body", {"status": 500, "times": 2}),
    ("status", "body", {"status": 429, "headers": {"Retry-After": "1"}}),
    ("close", "info", {}),
    ("reset", "info", {}),
    ("close", "body", {"after": 300_000, "times": 2}),
    ("reset", "body", {"after": 300_000, "times": 2}),
    ("truncate", "body", {}),
    ("corrupt", "body", {}),
]


def test_passing_faults_are_survived(hub, ask_all, tmp_path):
    with contextlib.ExitStack() as stack:
        faults, calls = [], []
        for index, (kind, where, details) in enumerate(PASSING_FAULTS):
            name = f"fault/pass-{index}"
            hub.add_repo(name, FILES)
            faults.append(stack.enter_context(hub.fault(kind, place(name, where), method="GET", **details)))
            calls.append((f"fetch_snapshot, '{name}'", {}))
        answers = ask_all(calls)
    for case, fault, answer in zip(PASSING_FAULTS, faults, answers, strict=True):
        assert fault.hits == case[2].get("times", 1), case
        assert answer["error"] is None, case
        assert (Path(answer["value"]["folder"]) / "model.safetensors").read_bytes() == WEIGHTS, case
        assert answer["seconds"] < 10, case
    assert not partial_files(tmp_path)


def test_a_cut_download_goes_on_where_it_ended(hub, ask):
    hub.add_repo("fault/resume", FILES)
    with hub.fault("close", "/fault/resume/resolve/.*safetensors", after=200_000, times=None) as fault:
        answer = ask("fetch_snapshot, 'fault/resume'")
    assert answer["error"] is None, "1.28 MB arrive in pieces of 0.2 MB, although no request gets through"
    assert fault.hits == 7
    assert (Path(answer["value"]["folder"]) / "model.safetensors").read_bytes() == WEIGHTS


CANNOT, TIMED_OUT, TROUBLE = "cannot reach the Hub", "cannot reach the Hub .*timed out", "has trouble for fault/last"
LASTING_FAULTS = [
    ("status", "info", {"status": 503}, rf"the Hub at http://127.0.0.1:\d+ {TROUBLE[:-4]}.* \(503\)"),
    ("status", "body", {"status": 500}, rf"{TROUBLE}.* \(500\)"),
    ("status", "body", {"status": 429}, r"limits the rate of requests \(429\)"),
    ("reset", "info", {}, CANNOT),
    ("reset", "body", {"after": 0}, CANNOT),
    ("stall", "info", {}, TIMED_OUT),
    ("stall", "body", {"after": 1000}, TIMED_OUT),
    ("corrupt", "body", {}, "arrived three times with other bytes"),
]
NO_HUB = ["http://127.0.0.1:9", "https://no-such-host.invalid"]


@pytest.mark.slow
def test_lasting_faults_are_reported_in_time_with_their_cause(hub, ask_all, tmp_path, learner):
    """All at once, each on a repository of its own, because each takes as long as hf-free is patient."""
    before = {path: path.read_bytes() for path in learner.rglob("*") if path.is_file()}
    jobs = []  # what is expected, the call, and its options
    with contextlib.ExitStack() as faults:
        for index, (kind, where, details, problem) in enumerate(LASTING_FAULTS):
            name = f"fault/last-{index}"
            hub.add_repo(name, FILES)
            faults.enter_context(hub.fault(kind, place(name, where), method="GET", times=None, **details))
            jobs.append((problem, f"fetch_snapshot, '{name}'", {}))
        for endpoint in NO_HUB:
            problem = f"cannot reach the Hub at {endpoint} for fault/net"
            jobs.append((problem, "fetch_snapshot, 'fault/net'", {"env": {"HF_ENDPOINT": endpoint}}))
        problem = f"cannot reach the Hub at {NO_HUB[0]} for the search"
        jobs.append((problem, "search_models", {"env": {"HF_ENDPOINT": NO_HUB[0]}}))
        for index, (kind, path, details, problem) in enumerate(LASTING_PUSH_FAULTS):
            name, owner = f"pusher-{index}/learner", hub.add_user(f"pusher-{index}")
            faults.enter_context(hub.fault(kind, path.format(name), times=None, **details))
            jobs.append((problem, f"push_folder, Path({str(learner)!r}), '{name}'", {"token": owner}))
        answers = ask_all([job[1:] for job in jobs])
    for (problem, call, _), answer in zip(jobs, answers, strict=True):
        assert answer["error"] is not None, call
        assert re.search(problem, answer["error"]), call
        assert answer["seconds"] < 30, call
        if call == "search_models":
            assert "thrown while requesting" not in answer["log"], "huggingface_hub's own retries are not for users"
        if "push_folder" in call:
            name = call.split("'")[-2]
            assert f"{learner} is unchanged; try again with: hf-free push {learner} {name}" in answer["error"]
    assert not partial_files(tmp_path)
    assert not list(tmp_path.glob("home-*/**/model.safetensors")), "nothing half-fetched is kept"
    assert {path: path.read_bytes() for path in learner.rglob("*") if path.is_file()} == before


def test_a_failing_hub_leaves_the_cache_with_a_warning(hub, ask):
    commit = hub.add_repo("fault/warm", FILES)
    ask("fetch_snapshot, 'fault/warm'")
    with hub.fault("reset", "/fault/warm", times=None):
        answer = ask("fetch_snapshot, 'fault/warm'")
    assert answer["value"]["commit"] == commit
    assert answer["value"]["from_cache"]
    assert f"served from the cache at commit {commit}" in answer["log"]


def test_a_lost_permission_is_not_hidden_by_the_cache(hub, tokens, ask):
    hub.add_repo("alice/revoked", FILES)
    assert ask("fetch_snapshot, 'alice/revoked'")["error"] is None
    hub.repository("alice/revoked").private = True
    assert "is private" in ask("fetch_snapshot, 'alice/revoked'")["error"]


def test_offline_serves_the_cache_and_says_so(hub, tokens, ask):
    commit = hub.add_repo("alice/offline", FILES, private=True)
    ask("fetch_snapshot, 'alice/offline'", token=tokens["alice"])
    start = len(hub.requests)
    calls = ("fetch_snapshot, 'alice/offline'", "fetch_snapshot, 'org/other'", "push_folder, '.', 'alice/offline'")
    cached, missing, push = ask(*calls, token=tokens["alice"], env={"HF_HUB_OFFLINE": "1"})
    assert (cached["value"]["commit"], cached["value"]["license"]) == (commit, "mit")
    assert cached["value"]["private"], "visibility is remembered"
    assert cached["value"]["from_cache"]
    assert f"offline: alice/offline@main served from the cache at commit {commit}" in cached["log"]
    assert "org/other@main is not in the cache, and HF_HUB_OFFLINE is set" in missing["error"]
    assert "HF_HUB_OFFLINE is set" in push["error"]
    assert paths(hub, start) == []
    local = ask("fetch_snapshot, 'alice/offline', local_files_only=True")
    assert local["value"]["commit"] == commit


def test_what_others_cached_counts_as_private_offline(hub, ask, run_client):
    hub.add_repo("lab/foreign", FILES)
    run_client("from huggingface_hub import snapshot_download as s; s('lab/foreign')")
    answer = ask("fetch_snapshot, 'lab/foreign'", env={"HF_HUB_OFFLINE": "1"})
    assert answer["value"]["private"], "nobody asked, so the name must not reach a card"
    assert (Path(answer["value"]["folder"]) / "config.json").read_bytes() == CONFIG


def test_damaged_cache_is_healed_online_and_refused_offline(hub, ask):
    hub.add_repo("fault/damaged", FILES)
    weights = Path(ask("fetch_snapshot, 'fault/damaged'")["value"]["folder"]) / "model.safetensors"
    weights.resolve().write_bytes(bytes(len(WEIGHTS)))
    offline = ask("fetch_snapshot, 'fault/damaged'", env={"HF_HUB_OFFLINE": "1"})
    assert "in the cache without an intact config.json and model.safetensors" in offline["error"]
    assert ask("fetch_snapshot, 'fault/damaged'")["error"] is None
    assert weights.read_bytes() == WEIGHTS


def test_an_impossible_commit_is_refused(hub, ask, tmp_path):
    hub.add_repo("fault/evil", FILES)
    repository = hub.repository("fault/evil")
    commit = repository.resolve("main")
    repository.commits["../../../evil"] = type(commit)(**{**commit.__dict__, "id": "../../../evil"})
    repository.refs["refs/heads/main"] = "../../../evil"
    answer = ask("fetch_snapshot, 'fault/evil'")
    assert "impossible commit '../../../evil'" in answer["error"]
    assert not list(tmp_path.rglob("*evil*"))


# ---- pushing


def test_push_makes_the_repository_and_one_commit(hub, tokens, ask, learner):
    call = f"push_folder, Path({str(learner)!r}), 'lab/pushed', commit_message='first'"
    first, second = ask(call, call, token=tokens["alice"])
    assert first["value"] == second["value"] == f"{hub.endpoint}/lab/pushed"
    history = hub.history("lab/pushed")
    assert [commit.title for commit in history] == ["first", "initial commit"]
    files = hub.read_repo("lab/pushed")
    assert files["model.safetensors"] == WEIGHTS
    assert set(files) == {*FILES, "pictures/grid.png", ".gitattributes"}
    assert not hub.repository("lab/pushed").private


def test_push_options(hub, tokens, ask, learner):
    hub.add_repo("alice/options", {"README.md": b"by hand", "notes.txt": b"n"})
    push = f"push_folder, Path({str(learner)!r}), 'alice/options'"
    branch, pull, kept, replaced, private = ask(
        f"{push}, revision='v2'",
        f"{push}, create_pr=True",
        f"{push}, replace_card=False",
        push,
        f"push_folder, Path({str(learner)!r}), 'alice/made-private', private=True",
        token=tokens["alice"],
    )
    same = ask(f"{push}, create_pr=True", token=tokens["bob"])
    (learner / "config.json").write_text("{}")
    theirs = ask(f"{push}, create_pr=True", token=tokens["bob"])
    assert same["value"] == f"{hub.endpoint}/alice/options", "there is nothing to propose"
    assert theirs["value"] == f"{hub.endpoint}/alice/options/discussions/2", "anyone may propose"
    assert branch["value"] == f"{hub.endpoint}/alice/options/tree/v2"
    assert pull["value"] == f"{hub.endpoint}/alice/options/discussions/1"
    assert hub.read_repo("alice/options", "refs/pr/1")["model.safetensors"] == WEIGHTS
    after_kept, after_replaced = hub.history("alice/options")[1::-1]
    assert kept["error"] is replaced["error"] is private["error"] is None
    assert hub.read_repo("alice/options", after_kept.id)["README.md"] == b"by hand"
    assert hub.read_repo("alice/options", after_replaced.id)["README.md"] == FILES["README.md"]
    assert hub.read_repo("alice/options")["notes.txt"] == b"n", "files we do not have stay"
    assert hub.repository("alice/made-private").private


PASSING_PUSH_FAULTS = [
    ("lose", "/api/models/{}/commit/main", {}),
    ("close", "/api/models/{}/commit/main", {}),
    ("reset", "/api/models/{}/commit/main", {}),
    ("status", "/api/models/{}/commit/main", {"status": 503, "times": 2}),
    ("status", "/api/models/{}/preupload", {"status": 500}),
    ("status", "/{}.git/info/lfs/objects/batch", {"status": 500}),
    ("lose", "/api/repos/create", {}),
    ("status", "/api/repos/create", {"status": 502}),
    ("status", "/api/validate-yaml", {"status": 500}),
    ("reset", "/lfs/", {"method": "PUT"}),
    ("status", "/api/whoami-v2", {"status": 500}),
]


def test_a_push_survives_passing_faults_with_one_commit(hub, tokens, ask_all, tmp_path):
    with contextlib.ExitStack() as stack:
        faults, calls, weights = [], [], []
        for index, (kind, path, details) in enumerate(PASSING_PUSH_FAULTS):
            folder, name = tmp_path / f"learner-{index}", f"alice/push-{index}"
            folder.mkdir()
            weights.append(os.urandom(1000))  # not on the Hub yet, or nothing would be uploaded
            (folder / "model.safetensors").write_bytes(weights[-1])
            (folder / "README.md").write_bytes(FILES["README.md"])
            faults.append(stack.enter_context(hub.fault(kind, path.format(name), **details)))
            calls.append((f"push_folder, Path({str(folder)!r}), '{name}'", {"token": tokens["alice"]}))
        answers = ask_all(calls)
    for index, (case, fault, answer) in enumerate(zip(PASSING_PUSH_FAULTS, faults, answers, strict=True)):
        assert fault.hits == case[2].get("times", 1), case
        assert answer["error"] is None, case
        assert len(hub.history(f"alice/push-{index}")) == 2, "one commit beside the initial one"
        assert hub.read_repo(f"alice/push-{index}")["model.safetensors"] == weights[index]


def test_a_refused_card_is_named(hub, tokens, ask, learner):
    (learner / "README.md").write_text("---\nbase_model: ./local\n---\n")
    answer = ask(f"push_folder, Path({str(learner)!r}), 'alice/bad-card'", token=tokens["alice"])
    assert '"base_model" with value "./local" is not valid' in answer["error"]


def test_without_xet_the_way_out_is_named(hub, tokens, ask, learner):
    answer = ask(
        f"push_folder, Path({str(learner)!r}), 'alice/xet'", token=tokens["alice"], env={"HF_HUB_DISABLE_XET": "0"}
    )
    assert "HF_HUB_DISABLE_XET=1" in answer["error"]


PUSH_REFUSALS = {
    "no token": ("'alice/new', None", None, "needs a token"),
    "read token": ("'reader/new', None", "reader", "may only read"),
    "other's namespace": ("'alice/new', None", "bob", "may not write to alice/new"),
    "wrong token": ("'alice/new', 'hf_wrong'", None, "does not know the token"),
    "public, private asked": ("'alice/public', None, private=True", "alice", "exists and is public"),
    "one segment": ("'new', None", "alice", "without an organisation"),
}


def test_what_may_be_pushed_is_known_before(hub, tokens, ask):
    hub.add_repo("alice/public", FILES)
    for name, (arguments, who, problem) in PUSH_REFUSALS.items():
        answer = ask(f"check_can_push, {arguments}", token=tokens.get(who))
        assert answer["error"] is not None, name
        assert problem in answer["error"], name
        assert "to do:" in answer["error"], name
    allowed = ask("check_can_push, 'lab/new', None", "check_can_push, 'alice/public', None", token=tokens["alice"])
    assert [answer["error"] for answer in allowed] == [None, None]
    assert ("model", "lab/new") not in hub.store.repositories, "nothing is created"
    pull = ask("check_can_push, 'alice/public', None, create_pr=True", token=tokens["bob"])
    assert pull["error"] is None


def test_an_empty_folder_is_not_pushed(hub, tokens, ask, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "none"):
        answer = ask(f"push_folder, Path({str(folder)!r}), 'alice/empty-push'", token=tokens["alice"])
        assert "no folder with files to push" in answer["error"]


# ---- searching


def test_search(hub, run_client):
    card = b"---\nlicense: apache-2.0\nlibrary_name: timm\ntags:\n- birds\n---\n"
    weights = pico_files()["model.safetensors"]
    for index in range(3):
        hub.add_repo(f"finder/net-{index}", {"README.md": card, **(pico_files() if index == 1 else {})})
    hub.add_repo("finder/other", {"README.md": b"---\nlibrary_name: transformers\n---\n"})
    code = """
find = lambda **options: [asdict(model) for model in client.search_models(author="finder", **options)]
print(json.dumps([find(), find(query="net-1"), find(tag="birds", limit=2), find(library=None)]))
"""
    everything, one, two, unfiltered = run_client(HELPERS + code).json
    assert [model["repo_id"] for model in everything] == [f"finder/net-{index}" for index in range(3)]
    assert everything[0]["license"] == "apache-2.0"
    assert [model["repo_id"] for model in one] == ["finder/net-1"]
    assert (one[0]["parameters"], one[0]["looks_usable"]) == (sum(t.numel() for t in load(weights).values()), True)
    assert (everything[0]["parameters"], everything[0]["looks_usable"]) == (None, False)
    assert one[0]["weight_bytes"] == sum(t.numel() * t.element_size() for t in load(weights).values())
    assert everything[0]["weight_bytes"] is None
    assert len(two) == 2
    assert len(unfiltered) == 4


@pytest.mark.parametrize(
    ("counts", "size"),
    [({"F32": 10, "I64": 1}, 48), ({"BF16": 3, "BOOL": 2, "F8_E4M3": 4}, 12), ({"F4": 5}, 2), ({}, 0)],
)
def test_what_listed_weights_take(counts, size):
    assert weight_bytes_of(counts) == size


# ---- local folders


def test_local_snapshot(tmp_path):
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    snapshot = local_snapshot(tmp_path)
    assert (snapshot.repo_id, snapshot.commit, snapshot.license) == (None, None, "mit")
    assert snapshot.sha256 == {name: hashlib.sha256(FILES[name]).hexdigest() for name in list(FILES)[:2]}
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(HubError, match="only pickled weights"):
        local_snapshot(tmp_path)
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(HubError, match=r"has no model\.safetensors"):
        local_snapshot(tmp_path)
    with pytest.raises(HubError, match="is not a folder"):
        local_snapshot(tmp_path / "none")


def test_old_partial_downloads_are_swept(hub, ask, tmp_path):
    hub.add_repo("fetch/sweep", FILES)
    blobs = tmp_path / "home" / "hub" / "models--fetch--sweep" / "blobs"
    blobs.mkdir(parents=True)
    for name, age in (("old.incomplete", 2 * 86400), ("young.incomplete", 60)):
        (blobs / name).write_bytes(b"x")
        os.utime(blobs / name, (time.time() - age,) * 2)
    ask("fetch_snapshot, 'fetch/sweep'")
    assert [path.name for path in partial_files(tmp_path)] == ["young.incomplete"]
    assert json.loads(next(blobs.parent.glob("hf_free/*.json")).read_text())["license"] == "mit"
