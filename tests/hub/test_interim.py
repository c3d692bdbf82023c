"""Interim answers: a few are passed over, an endless row is a failure of the connection."""

from __future__ import annotations

import pytest
from raw_server import served

INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
BODY = b'{"id": "a/b"}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n" + BODY

CODE = """
import json
from hf_free.hub import interim, session
interim.INTERIM_SECONDS = 0.3
try:
    print(json.dumps(session.patiently(lambda: session.api_for(None).model_info("a/b").id, attempts=1, patience=5)))
except Exception as error:
    print(json.dumps(f"{type(error).__name__}: {error}"))
"""


def few(closing):
    yield INTERIM[:9]
    closing.wait(0.05)
    yield INTERIM[9:] + INTERIM + ANSWER[:5]
    closing.wait(0.05)
    yield ANSWER[5:-4]
    closing.wait(0.5)  # an answer that has begun may take its time
    yield ANSWER[-4:]


def endless(closing):
    while not closing.wait(0.05):
        yield INTERIM


@pytest.mark.parametrize(
    ("row", "said"), [(few, "a/b"), (endless, "ReadTimeout: nothing but interim answers for 0 s")]
)
def test_a_row_of_interim_answers_ends(row, said, run_client):
    with served(row) as address:
        assert run_client(CODE, env={"HF_ENDPOINT": address}).json == said
