"""What the loopback Hub is asked and answers."""

from __future__ import annotations

import pytest

from hf_free.hub.loopback.messages import Fault, Request
from hf_free.hub.loopback.store import StoreError


def request(body: bytes) -> Request:
    return Request("POST", "/api", {}, {}, body, None, "http://127.0.0.1")


def test_a_body_is_a_json_object_or_refused():
    assert request(b'{"a": [1]}').json() == {"a": [1]}
    assert request(b"").json() == {}
    for body, problem in ((b"{", "not JSON"), (b"[1]", "not a JSON object"), (b"\xff", "not JSON")):
        with pytest.raises(StoreError, match=problem):
            request(body).json()


def test_a_fault_hits_what_it_names_and_no_more_often_than_it_says():
    fault = Fault("reset", "GET", r"/resolve/.*\.safetensors$", times=2)
    weights, hits = "/a/resolve/x.safetensors", []
    asked = [("GET", "/a/resolve/x.json"), ("HEAD", weights), *[("GET", weights)] * 3]
    for method, path in asked:
        hits.append(fault.matches(method, path))
        fault.hits += hits[-1]
    assert hits == [False, False, True, True, False]
    always = Fault("stall", times=None, hits=1000)
    assert always.matches("PUT", "/anything")
