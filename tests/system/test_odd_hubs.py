"""A Hub whose redirects, headers or pages have no end, and data sets whose answers have another form."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest
from raw_server import served

HEAD = b"HTTP/1.1 200 OK\r\n"
REST = b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


def answering(parts: list[bytes], pause: float) -> AbstractContextManager[str]:
    """The address of a server that answers each connection with these parts, and a pause before each but the first."""

    def row(closing: threading.Event) -> Iterator[bytes]:
        for place, part in enumerate(parts):
            if place and closing.wait(pause):
                return
            yield part

    return served(row)


ASK = """
import json
from hf_free.hub import interim, session
interim.INTERIM_SECONDS = interim.HEADER_SECONDS = 0.3
try:
    session.patiently(lambda: session.get_session().get("{address}"), attempts=1, patience=5)
    print(json.dumps("answered"))
except Exception as error:
    print(json.dumps(f"{{type(error).__name__}}: {{error}}"))
"""


def test_headers_that_never_end_are_left(run_client):
    """Each line of them comes in time."""
    lines = [b"X-%d: y\r\n" % number for number in range(100)]
    with answering([HEAD, *lines], 0.05) as address:
        assert run_client(ASK.format(address=address)).json.endswith("headers that are not whole after 0 s")


@pytest.mark.parametrize(
    "parts",
    [
        [HEAD[:5], HEAD[5:], REST],
        [b"HTTP/1.1 100 Continue\r\n\r\n", HEAD, REST],
        [HEAD + REST[:-2], b"", b"", b"", b"", b"", REST[-2:]],  # whose body may take longer
    ],
)
def test_headers_in_parts_are_read(run_client, parts):
    with answering(parts, 0.08) as address:
        assert run_client(ASK.format(address=address)).json == "answered"


def test_redirects_in_a_circle_are_one_message(hub, run_client):
    code = """
from hf_free.hub.search import search_models
from hf_free.hub.failures import HubError
try:
    search_models(query="circle")
except HubError as error:
    print(error)
"""
    there = {"Location": "/api/models?search=circle"}
    with hub.fault("status", "^/api/models", method="GET", status=302, headers=there, body=b"", times=100):
        said = run_client(code).stdout
    assert "a redirect that leads to ever more of them" in said


def test_a_file_whose_address_leads_in_a_circle_is_one_message(hub, run_client):
    hub.add_repo("odd/circle", {"config.json": b"{}", "model.safetensors": b"x" * 20})
    code = """
from hf_free import HfFreeError, load_teacher
try:
    load_teacher("odd/circle")
except HfFreeError as error:
    print(error)
"""
    where = "/odd/circle/resolve/"
    there = {"Location": "/odd/circle/resolve/main/config.json"}
    with hub.fault("status", where, method="GET", status=302, headers=there, body=b"", times=100) as fault:
        said = run_client(code).stdout
    assert "a redirect that leads to ever more of them" in said
    assert fault.hits < 30


def test_the_pages_of_a_data_set_have_an_end(run_client):
    code = """
import json
from hf_free.errors import DatasetError
from hf_free.evaluation.dataset_sources import read_or_explain
from hf_free.hub import session
session.MOST_DATA_PAGES = 5
library = session.http_library()
request = library.Request("GET", "http://127.0.0.1/api/datasets/a/b/tree/main")
def pages():
    for number in range(10):
        link = {"Link": f'<http://127.0.0.1/api/datasets/a/b/tree/main?cursor={number}>; rel="next"'}
        session._after_response(library.Response(200, headers=link, request=request))
said = []
for load in (pages, lambda: "read"):
    try:
        said.append(read_or_explain(load, "a/b"))
    except DatasetError as error:
        said.append(str(error))
print(json.dumps([*said, len(session._WATCHES)]))
"""
    ended, read, watching = run_client(code).json
    assert "a listing of more than 5 pages" in ended
    assert (read, watching) == ("read", 0)


def test_a_data_set_of_another_form_is_called_so(run_client):
    code = """
import json
from hf_free.errors import DatasetError
from hf_free.evaluation.dataset_sources import read_or_explain
said = []
for failure in (AssertionError("no sha"), KeyError("sha"), TypeError("int object")):
    def load():
        raise failure
    try:
        read_or_explain(load, "a/b")
    except DatasetError as error:
        said.append(error.given)
print(json.dumps(said))
"""
    for name, said in zip(("AssertionError", "KeyError", "TypeError"), run_client(code).json, strict=True):
        assert said.endswith(f"have an unexpected form ({name})")
