"""A command says the same thing once."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import logging
from hf_free.runtime.said_once import said_once

log = logging.getLogger("hf_free.somewhere")
with said_once():
    for name in ("a", "b", "a", "b"):
        log.warning("%s is left out", name)
    logging.getLogger("hf_free.elsewhere").warning("a is left out")
log.warning("a is left out")
logging.lastResort = None
with said_once():
    log.warning("nobody listens")
"""


def test_the_same_words_are_shown_once_within_a_command():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == [
        *("a is left out", "b is left out", "a is left out"),
        'No handlers could be found for logger "hf_free.somewhere"',
    ]
