"""Calls of the client in processes of their own, and what they leave behind."""

from __future__ import annotations

import hashlib
from pathlib import Path

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


def paths(hub, start: int, method: str | None = None, *, about: str = "") -> list[str]:
    """Paths that were asked for since the `start`-th request.

    Args:
        hub: It serves all tests of a process, and another test's client may still have a question on its way.
        start: How many requests came before.
        method: GET, HEAD or the like; None for all.
        about: A repository's name; by default all of them.
    """
    since = hub.requests[start:]
    return [entry.path for entry in since if method in (None, entry.method) and about in entry.path]


def partial_files(home: Path) -> list[Path]:
    return list(home.rglob("*.incomplete"))


def place(name: str, where: str) -> str:
    """The path of the answer that a fault hits: what the Hub says of the repository, or the weights."""
    return f"/api/models/{name}/revision" if where == "info" else f"/{name}/resolve/.*safetensors"
