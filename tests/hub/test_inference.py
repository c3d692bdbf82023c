"""The client against a server that misbehaves: patience, bounds, and where tokens go."""

from __future__ import annotations

import base64
import json
import time

import pytest
from scripted import GOOD, scripted

from hf_free.errors import HubError, TeacherReferenceError
from hf_free.hub import inference
from hf_free.hub.inference import Accounting, InferenceClient, token_for
from hf_free.teachers.reference import TeacherReference


class Counted:
    def __init__(self) -> None:
        self.sent = self.refused = 0

    @property
    def accounting(self) -> Accounting:
        return Accounting(
            lambda: setattr(self, "sent", self.sent + 1), lambda: setattr(self, "refused", self.refused + 1)
        )


def ask(address: str, *, pictures=(b"one",), counted=inference.UNCOUNTED, **options):
    waits: list[float] = []
    client = InferenceClient(address, sleep=waits.append, **options)
    try:
        return client.ask(pictures, top_k=7, function="softmax", counted=counted), waits
    finally:
        client.close()


def test_what_is_sent_is_what_the_protocol_says():
    with scripted([GOOD]) as server:
        answer, _ = ask(server.address, token="secret")
        ask(server.address, pictures=(b"one", b"two"))
    assert json.loads(answer) == GOOD
    headers, content = server.requests[0]
    assert headers["authorization"] == "Bearer secret"
    assert content == {
        "inputs": base64.b64encode(b"one").decode(),
        "parameters": {"top_k": 7, "function_to_apply": "softmax"},
    }
    headers, content = server.requests[1]
    assert "authorization" not in headers
    assert content["inputs"] == [base64.b64encode(one).decode() for one in (b"one", b"two")]


def test_trouble_that_passes_is_waited_out_and_counted():
    counted = Counted()
    script = [(429, {"Retry-After": "3"}, {}), (503, {}, {"error": "loading"}), (0, {}, b""), (502, {}, b""), GOOD]
    with scripted(script) as server:
        answer, waits = ask(server.address, counted=counted.accounting)
    assert json.loads(answer) == GOOD
    assert waits == [3.0, 1.0, 2.0, 4.0]
    assert (counted.sent, counted.refused) == (5, 2)  # a lost answer and a bad gateway may have been paid for


def test_a_wait_that_is_asked_for_is_bounded_and_said():
    with scripted([(429, {"Retry-After": "3600"}, {"error": "slow down"}), (503, {}, [])]) as server:
        with pytest.raises(HubError, match="status 429: slow down, and asks to wait 3600 s") as refused:
            ask(server.address)
        assert "120 s" in refused.value.allowed
        with pytest.raises(HubError, match="answers with status 503"):
            ask(server.address, patience=0.4)


@pytest.mark.parametrize(
    ("status", "word"), [(400, "bad picture"), (401, "--endpoint-token"), (404, "check its address"), (422, "")]
)
def test_what_does_not_pass_is_not_tried_again(status, word):
    counted = Counted()
    with scripted([(status, {}, {"error": "bad picture \x1b[31m"})]) as server:
        with pytest.raises(HubError, match=f"status {status}") as refused:
            ask(server.address, counted=counted.accounting)
        assert len(server.requests) == counted.sent == counted.refused == 1
    assert word in str(refused.value)
    assert "\x1b" not in str(refused.value)
    assert server.address not in str(refused.value)


def test_no_redirect_is_followed():
    with scripted([GOOD]) as other, scripted([(307, {"Location": other.address}, {})]) as server:
        with pytest.raises(HubError, match="redirects to another address") as refused:
            ask(server.address, token="secret")
        assert not other.requests
    assert other.address.split("/")[2] in str(refused.value)


def test_an_answer_has_an_end(monkeypatch):
    monkeypatch.setattr(inference, "MAX_ANSWER_BYTES", 1000)
    with scripted([b" " * 2000]) as server, pytest.raises(HubError, match="endless"):
        ask(server.address)


def test_requests_keep_to_the_rate():
    with scripted([GOOD]) as server:
        waits: list[float] = []
        client = InferenceClient(server.address, per_second=0.001, sleep=waits.append)
        for _ in range(4):
            client.ask((b"x",), top_k=1, function="softmax")
    assert len(waits) == 3
    assert 900 < waits[0] <= 1000 < 1900 < waits[1] <= 2000 < 2900 < waits[2] <= 3000


def test_a_token_goes_to_its_own_host_only(monkeypatch):
    monkeypatch.setattr(inference.constants, "ENDPOINT", "http://127.0.0.1:5555")
    assert token_for("https://example.org/model", own=None, hub="hf_x") is None
    assert token_for("http://127.0.0.1:5556/model", own=None, hub="hf_x") is None
    assert token_for("http://127.0.0.1:5555/model", own=None, hub="hf_x") == "hf_x"
    assert token_for("https://example.org/model", own="mine", hub="hf_x") == "mine"
    assert token_for("http://127.0.0.1:5556", own="mine", hub=None) == "mine"
    for unsafe in ("http://example.org", "http://127.0.0.1.example.org/", "http://localhost.example.org"):
        with pytest.raises(HubError, match="unencrypted"):
            token_for(unsafe, own="mine", hub=None)


def test_no_token_in_logs(caplog):
    caplog.set_level(0)
    with scripted([(503, {}, {"error": "with Bearer secret-token inside"}), GOOD]) as server:
        ask(server.address, token="secret-token")
    assert "secret-token" not in caplog.text.replace("with Bearer secret-token inside", "")


@pytest.mark.parametrize(
    "address",
    ["ftp://example.org", "https://", "example.org", "https://u:p@example.org", "https://example.org?key=1", "https://a#b",
     "https://example.org:99999", " https://example.org", "https://a b/c", "https://example.org/a b",
     "https://example.org/\x1b[31m", "https://\u0660.0.0.1/", "https://a%20b/", "https://a/" + "b" * 70_000],
)  # fmt: skip
def test_an_address_that_is_none_or_holds_a_secret_is_refused(address):
    with pytest.raises(TeacherReferenceError):
        TeacherReference.parse(f"endpoint:{address}")


def test_a_redirect_to_nowhere_is_refused_like_any_other():
    with (
        scripted([(307, {"Location": "http://[evil/"}, {})]) as server,
        pytest.raises(HubError, match="redirects to another address"),
    ):
        ask(server.address)


def test_a_long_reason_is_cut_before_it_is_searched_for_secrets():
    with scripted([(400, {}, {"error": "x" * 300_000})]) as server, pytest.raises(HubError, match="x" * 200):
        ask(server.address)


def test_an_answer_that_is_not_encoded_as_it_says_is_one_message():
    with (
        scripted([(200, {"Content-Encoding": "gzip"}, b"no gzip")]) as server,
        pytest.raises(HubError, match="Content-Encoding"),
    ):
        ask(server.address)


def test_a_silent_server_is_left(monkeypatch):
    import socket

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        monkeypatch.setattr(inference, "TIMEOUT", 0.2)
        begun = time.monotonic()
        with pytest.raises(HubError, match="cannot be reached"):
            ask(f"http://127.0.0.1:{listening.getsockname()[1]}", patience=0.4)
        assert time.monotonic() - begun < 60  # two minutes without the limit


def test_an_address_that_was_never_there_is_given_up_sooner():
    waits: list[float] = []
    client, counts = InferenceClient("http://127.0.0.1:9/nobody", sleep=waits.append), {"sent": 0, "refused": 0}
    counted = Accounting(*(lambda what=what: counts.update({what: counts[what] + 1}) for what in counts))
    with pytest.raises(HubError, match=r"cannot be reached \(Connect") as refused:
        client.ask((b"x",), top_k=1, function="softmax", counted=counted)
    assert counts["sent"] == counts["refused"] > 1, "what was never asked is not counted"
    assert sum(waits) <= 10
    assert "10 s" in refused.value.allowed
