"""Signed addresses and tokens are permissions in themselves: they are kept out of the logs of the Hub's clients."""

from __future__ import annotations

import logging

from hf_free.runtime.text import without_secrets

_LOGGERS = (
    *("huggingface_hub.utils._http", "huggingface_hub.lfs", "huggingface_hub._commit_api"),
    *("huggingface_hub.file_download", "huggingface_hub.hf_api", "httpx", "httpx2", "hf_free.hub.session"),
)
"""Loggers that write addresses: a filter works only for the logger that it was added to."""


class _Redaction(logging.Filter):
    """Takes signatures and tokens out of a record, and out of the traceback that goes with it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record; it is always kept."""
        record.msg, record.args = without_secrets(record.getMessage()), ()
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = without_secrets(logging.Formatter().formatException(record.exc_info))
        return True


def keep_secrets_out_of_logs() -> None:
    """Redact what huggingface_hub and the HTTP library log from now on, at every level."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(known, _Redaction) for known in logger.filters):
            logger.addFilter(_Redaction())
