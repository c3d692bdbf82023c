"""One message per failure, with its cause, in time."""

from __future__ import annotations

import contextlib
import re

import pytest
from hub_calls import CONFIG, FILES, partial_files, paths, place

from hf_free.hub.failures import explain, refusal_among

CANNOT, TIMED_OUT, TROUBLE = "cannot reach the Hub", "cannot reach the Hub .*timed out", "has trouble for fault/last"
LASTING_PUSH_FAULTS = [
    ("status", "/api/models/{}/commit/main", {"status": 500}, "has trouble for pusher-0/learner"),
    ("stall", "/api/models/{}/commit/main", {}, "cannot reach the Hub"),
    ("stall", "/api/models/{}/preupload/", {}, "cannot reach the Hub"),
    ("stall", "/api/models/{}$", {}, "cannot reach the Hub"),
    ("status", "/api/models/{}/preupload/", {"status": 503}, "last answer: 503"),
    ("trickle", "/api/models/{}/commit/main", {"seconds": 0.5}, "not whole after 14 s"),
]
QUICK_PUSH_FAULTS = LASTING_PUSH_FAULTS[:2]


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
    "one segment": ("'plain'", "without an organization", "org/plain"),
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
        assert answer["seconds"] < 7, name  # tried again it would be 7.5 s
        assert "secret" not in answer["error"]
    assert not [path for path in paths(hub, start, about="alice/") if path.endswith((".bin", ".pth"))]
    assert not partial_files(tmp_path)


LASTING_FAULTS = [
    ("status", "info", {"status": 503}, rf"the Hub at http://127.0.0.1:\d+ {TROUBLE[:-4]}.* \(503\)"),
    ("status", "body", {"status": 500}, rf"{TROUBLE}.* \(500\)"),
    ("status", "body", {"status": 429}, r"limits the rate of requests \(429\)"),
    ("reset", "info", {}, CANNOT),
    ("reset", "body", {"after": 0}, CANNOT),
    ("stall", "info", {}, TIMED_OUT),
    (
        "stall",
        "body",
        {"after": 1000},
        r"next to nothing for \d+ s of model.safetensors of fault/last-\d from the Hub",
    ),
    ("corrupt", "body", {}, "arrived three times with other bytes"),
]


QUICK_FAULTS = [LASTING_FAULTS[place] for place in (0, 6)]

NO_HUB = ["http://127.0.0.1:9", "https://no-such-host.invalid"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("of_fetches", "endpoints", "of_pushes"),
    [
        pytest.param(QUICK_FAULTS, NO_HUB[:1], QUICK_PUSH_FAULTS, id="some"),
        pytest.param(LASTING_FAULTS, NO_HUB, LASTING_PUSH_FAULTS, id="all", marks=pytest.mark.long),
    ],
)
def test_lasting_faults_are_reported_in_time_with_their_cause(
    hub, ask_all, tmp_path, learner, of_fetches, endpoints, of_pushes
):
    """All at once, each on a repository of its own, because each takes as long as hf-free is patient."""
    before = {path: path.read_bytes() for path in learner.rglob("*") if path.is_file()}
    jobs = []  # what is expected, the call, and its options
    with contextlib.ExitStack() as faults:
        for index, (kind, where, details, problem) in enumerate(of_fetches):
            name = f"fault/last-{index}"
            hub.add_repo(name, FILES)
            faults.enter_context(hub.fault(kind, place(name, where), method="GET", times=None, **details))
            jobs.append((problem, f"fetch_snapshot, '{name}'", {}))
        for endpoint in endpoints:
            problem = f"cannot reach the Hub at {endpoint} for fault/net"
            jobs.append((problem, "fetch_snapshot, 'fault/net'", {"env": {"HF_ENDPOINT": endpoint}}))
        problem = f"cannot reach the Hub at {NO_HUB[0]} for the search"
        jobs.append((problem, "search_models", {"env": {"HF_ENDPOINT": NO_HUB[0]}}))
        for index, (kind, path, details, problem) in enumerate(of_pushes):
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


def test_a_lost_permission_is_not_hidden_by_the_cache(hub, tokens, ask):
    hub.add_repo("alice/revoked", FILES)
    assert ask("fetch_snapshot, 'alice/revoked'")["error"] is None
    hub.repository("alice/revoked").private = True
    assert "is private" in ask("fetch_snapshot, 'alice/revoked'")["error"]


def test_an_error_in_an_encoding_that_is_none_is_one_message(hub, ask):
    hub.add_repo("fault/encoded", FILES)
    odd = {"Content-Type": "text/html; charset=hex"}
    with hub.fault("status", "/fault/encoded", status=404, headers=odd, body=b"no", times=None) as fault:
        answer = ask("fetch_snapshot, 'fault/encoded'")
    assert fault.hits
    assert "fault/encoded" in answer["error"]


def test_certificates_that_are_gone_are_named_by_their_variable(monkeypatch, tmp_path):
    error = FileNotFoundError(2, "No such file or directory")  # as a client raises it, without a name
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    for told in (explain(error, "org/a"), refusal_among([ValueError(), error], "org/a")):
        assert told is not None
        assert f"SSL_CERT_FILE names {tmp_path / 'gone.pem'}" in told.given
    (tmp_path / "gone.pem").write_text("")
    assert "SSL_CERT_FILE" not in explain(error, "org/a").given
    assert refusal_among([error], "org/a") is None
