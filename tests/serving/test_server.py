"""The server against the real client, and against requests that no client should send."""

from __future__ import annotations

import http.client
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
import torch
from huggingface_hub import InferenceClient
from pico import pico_teacher
from served import pictures, png

from hf_free.cli.main import main
from hf_free.errors import ConfigError
from hf_free.serving import server as server_module
from hf_free.serving.served_model import ServedTeacher
from hf_free.serving.server import ModelServer


@pytest.fixture(scope="module")
def teacher():
    return pico_teacher("conv4", size=16, num_classes=7)


@pytest.fixture(scope="module")
def server(teacher):
    with ModelServer(ServedTeacher(teacher)) as running:
        yield running


def ask(server: ModelServer, body: bytes = b"", *, method: str = "POST", path: str = "/", **headers: str):
    connection = http.client.HTTPConnection(urlsplit(server.address).netloc, timeout=60)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    content = json.loads(answer.read())
    connection.close()
    return answer.status, content


def test_the_hubs_client_is_answered(server, teacher):
    picture = pictures(1)
    expected = teacher.logits(picture.float() / 255)[0]
    client = InferenceClient(model=server.address)
    found = client.image_classification(png(picture[0]))
    assert len(found) == 5  # as a pipeline of transformers
    assert [entry.label for entry in found] == [f"LABEL_{index}" for index in expected.argsort(descending=True)[:5]]
    assert found[0].score == pytest.approx(expected.softmax(0).max().item(), abs=1e-5)
    found = client.image_classification(png(picture[0]), top_k=100, function_to_apply="none")
    assert {entry.label: pytest.approx(entry.score, abs=1e-4) for entry in found} == {
        f"LABEL_{index}": value for index, value in enumerate(expected.tolist())
    }


def test_many_at_once_get_their_own_answers(server, teacher):
    shown = pictures(24)
    expected = teacher.logits(shown.float() / 255).softmax(1).max(1).values
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda one: ask(server, png(one))[1][0]["score"], shown))
    assert torch.allclose(torch.tensor(found), expected, atol=1e-5)


def test_a_get_says_what_is_served(server):
    status, about = ask(server, method="GET")
    assert status == 200
    assert (about["task"], len(about["labels"]), about["size"]) == ("image-classification", 7, [3, 16, 16])


@pytest.mark.parametrize(
    ("body", "path", "headers", "status"),
    [
        (b"no picture", "/", {}, 400),
        (b"", "/", {}, 400),
        (b"{}", "/", {"Content_Type": "application/json"}, 400),
        (b"x", "/elsewhere", {}, 404),
        (b"", "/", {"Content_Length": str(10**10)}, 413),
        (b"", "/", {"Content_Length": "-1"}, 411),
        (b"x", "/", {"Host": "rebound.example.org"}, 403),
        (b"--x--", "/", {"Content_Type": "multipart/form-data; boundary=x"}, 415),
    ],
)
def test_what_is_refused_is_json_with_its_status(server, body, path, headers, status):
    found, content = ask(server, body, path=path, **headers)
    assert found == status
    assert set(content) == {"error"}
    assert "Traceback" not in content["error"]


def test_other_methods_and_broken_requests_are_json_too(server):
    assert ask(server, method="DELETE")[0] == 501
    with socket.create_connection(urlsplit(server.address).netloc.split(":"), timeout=60) as raw:
        raw.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc")
        raw.shutdown(socket.SHUT_WR)
        assert b"a body that ends early" in raw.makefile("rb").read()
    with socket.create_connection(urlsplit(server.address).netloc.split(":"), timeout=60) as raw:
        raw.sendall(b"\x16\x03\x01\r\n")  # as one begins who speaks TLS
        assert raw.makefile("rb").read().startswith(b"HTTP/1.1 400 ")


def test_a_model_that_fails_is_a_status_and_no_traceback(caplog):
    class Broken:
        name, labels, size = "broken", ("a", "b"), (3, 8, 8)

        def scores(self, pictures, function):
            raise ZeroDivisionError("a secret path")

    with ModelServer(Broken()) as running:
        status, content = ask(running, b"x")
    assert (status, content) == (500, {"error": "the model failed on this request"})
    assert "ZeroDivisionError" in caplog.text


def test_a_token_is_asked_for_where_one_is_set(teacher):
    with ModelServer(ServedTeacher(teacher), token="right") as running:
        assert ask(running, png(pictures(1)[0]), Authorization="Bearer right")[0] == 200
        assert ask(running, b"x", Authorization="Bearer wrong")[0] == 401
        assert ask(running, method="GET")[0] == 401


@pytest.mark.parametrize("token", ["", "   ", "two words", "secret\n", "gehe\u00efm"])
def test_a_token_that_no_request_can_carry_is_refused_and_not_shown(teacher, token, monkeypatch, capsys):
    with pytest.raises(ConfigError, match="HF_FREE_SERVE_TOKEN") as refused:
        ModelServer(ServedTeacher(teacher), token=token)
    assert not token.strip() or token.strip() not in str(refused.value)
    if token:  # an empty variable is none, as everywhere
        monkeypatch.setenv("HF_FREE_SERVE_TOKEN", token)
        assert main(["serve", "no such model"]) == 1
        assert "the token of the server is empty, or holds a blank" in capsys.readouterr().err


def test_connections_are_bounded(teacher, monkeypatch):
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 1)
    with ModelServer(ServedTeacher(teacher)) as running:
        place = urlsplit(running.address).netloc
        held = http.client.HTTPConnection(place, timeout=60)
        held.request("GET", "/")
        assert held.getresponse().read()
        assert ask(running, method="GET")[0] == 503
        held.close()


def test_a_port_in_use_is_one_message(server, teacher):
    port = urlsplit(server.address).port
    with pytest.raises(ConfigError, match=f"cannot listen at 127.0.0.1:{port}"):
        ModelServer(ServedTeacher(teacher), port=port)
    with pytest.raises(ConfigError, match="cannot listen"):
        ModelServer(ServedTeacher(teacher), host="192.0.2.1")


def exchange(server: ModelServer, sent: bytes) -> bytes:
    """Everything that is answered to these bytes."""
    with socket.create_connection(urlsplit(server.address).netloc.split(":"), timeout=60) as raw:
        raw.sendall(sent)
        raw.shutdown(socket.SHUT_WR)
        return raw.makefile("rb").read()


def test_a_host_that_is_none_is_the_callers_mistake(server, caplog):
    assert b" 400 " in exchange(server, b"POST / HTTP/1.1\r\nHost: [::1\r\nContent-Length: 1\r\n\r\nx")
    assert not caplog.records


@pytest.mark.parametrize(
    ("first", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", b"200"),
        (
            b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            b"411",
        ),
    ],
)
def test_no_body_is_taken_for_the_next_request(server, first, status):
    second = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
    found = exchange(server, (first % len(second) if b"%d" in first else first) + second)
    assert found.startswith(b"HTTP/1.1 " + status)
    assert found.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "headers",
    [
        b"Host: localhost\r\nContent-Length: 4\r\nContent-Length: 999\r\n",
        b"Host: localhost\r\nContent-Length: 999\r\nContent-Length: 4\r\n",
        b"Host: localhost\r\nHost: example.org\r\nContent-Length: 4\r\n",
        b"Host: localhost\r\nContent-Length: 4\r\nTransfer-Encoding : chunked\r\n",
        b"Host: localhost\r\nContent-Length: 4\r\nno header at all\r\nTransfer-Encoding: chunked\r\n",
        b"Host: localhost\r\nX: a\rContent-Length: 4\r\n",
        b"Host: localhost\r\nContent-Length: 4\r\n\tTransfer-Encoding: chunked\r\n",
        b"Host: localhost\nContent-Length: 4\n",
        b"Host: localhost\r\nContent-Length: 4\r\nX\x00: a\r\n",
        b"Host: u@localhost\r\nContent-Length: 4\r\n",
        b"Host: localhost/x\r\nContent-Length: 4\r\n",
    ],
)
def test_a_header_that_two_readers_may_read_differently_is_refused(server, headers):
    """What a proxy in front took for the body of one request would be another request here (RFC 9112, 11.2)."""
    second = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
    body = png(pictures(1)[0])
    headers = headers.replace(b"Length: 4", b"Length: %d" % len(body))
    end = b"\n" if b"\r" not in headers else b"\r\n"
    found = exchange(server, b"POST / HTTP/1.1\r\n" + headers + end + body + second)
    assert found.startswith(b"HTTP/1.1 400 ")
    assert found.count(b"HTTP/1.1 ") == 1


def test_bodies_on_their_way_have_a_bound_together(teacher, monkeypatch):
    monkeypatch.setattr(server_module, "MAX_HELD_BYTES", 10_000)
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\n"
    with ModelServer(ServedTeacher(teacher)) as running:
        address = urlsplit(running.address).netloc.split(":")
        with socket.create_connection(address, timeout=60) as raw:
            raw.sendall(head + b"x" * 8000)
            until = time.monotonic() + 60
            while running._server.held < 8000 and time.monotonic() < until:
                time.sleep(0.01)  # asked sooner, the other request is the one without room
            assert ask(running, b"x" * 4000)[0] == 503
        while (status := ask(running, png(pictures(1)[0]))[0]) != 200 and time.monotonic() < until:
            time.sleep(0.05)  # the room is given back with the connection
        assert status == 200


def trickle(connection: socket.socket) -> None:
    for _ in range(200):
        connection.sendall(b"a")
        time.sleep(0.02)


def test_a_request_that_trickles_in_does_not_keep_its_place(teacher, monkeypatch):
    monkeypatch.setattr(server_module, "REQUEST_SECONDS", 0.2, raising=False)
    with ModelServer(ServedTeacher(teacher)) as running:
        address = urlsplit(running.address).netloc.split(":")
        with socket.create_connection(address, timeout=60) as raw:
            raw.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nX: ")
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                trickle(raw)
        assert ask(running, method="GET")[0] == 200
