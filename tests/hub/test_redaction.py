"""Signed addresses, passwords and tokens stay out of logs."""

from __future__ import annotations

import logging

import pytest

import hf_free.hub.session  # noqa: F401  (puts the filter on the clients' loggers)
from hf_free.hub.redaction import keep_secrets_out_of_logs

SECRET = "https://store.example/lfs/1?signature=abc"


@pytest.mark.parametrize("name", ["huggingface_hub.utils._http", "huggingface_hub.lfs", "httpx2"])
def test_a_record_and_its_traceback_lose_their_signatures(name, caplog):
    keep_secrets_out_of_logs()  # twice is once
    with caplog.at_level(logging.DEBUG, logger=name):
        try:
            raise OSError(f"no answer from {SECRET}")
        except OSError:
            logging.getLogger(name).debug("PUT %s failed", SECRET, exc_info=True)
    text = "".join(map(logging.Formatter().format, caplog.records)) + caplog.text
    assert "https://store.example/lfs/1?... failed" in text
    assert "OSError: no answer from https://store.example/lfs/1?..." in text
    assert "signature=" not in text
