"""Networks that timm does not know: a file of the user's own registers them. Never a file from a Hub."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

from hf_free.errors import ConfigError
from hf_free.runtime.given import from_home

_RULE = "a local Python file that registers networks with timm.models.register_model"


def import_networks(paths: Iterable[str | Path]) -> None:
    """Run Python files of the user's own, each once per process, so that their networks are registered with timm.

    The paths come from the user (`--import`, or the key `imports` of her own configuration); nothing that is read
    from a Hub or from a teacher's folder ever ends up here. See docs/guides/own-networks.md.

    Args:
        paths: Local `.py` files.

    Raises:
        ConfigError: no such file, something else than a Python file, or code that fails.
    """
    for path in paths:
        _import(from_home(path))


def _import(path: Path) -> None:
    if path.suffix != ".py" or not path.is_file():
        problem = "is not a Python file" if path.exists() else "does not exist"
        raise ConfigError(f"the import {path} {problem}", allowed=_RULE, action="see docs/guides/own-networks.md")
    path = path.resolve()
    # a name of its own for each file, so that networks.py shadows no module and is found by pickle and by timm
    name = f"hf_free_own_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"the import {path} cannot be read", allowed=_RULE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # timm.models.register_model looks it up while the file runs
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever a file of the user's own raises
        del sys.modules[name]
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        place = f"{path}, line {lines[-1]}" if lines else str(path)
        raise ConfigError(
            f"the import {place} fails: {type(error).__name__}: {error}",
            allowed=_RULE,
            action=f"correct it; `python {path}` shows the whole traceback",
        ) from error
