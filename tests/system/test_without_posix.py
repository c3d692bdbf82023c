"""What only POSIX systems have: each use is named here with its way around, and a run goes through without any."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from pico import pico_folder
from runs import TINY

from hf_free.config.reading import merge
from hf_free.config.tree import FreeConfig
from hf_free.runtime import measuring

ROOT = Path(__file__).resolve().parents[2]

MODULES = {
    "fcntl": {"hf_free/training/run_lock.py": "the text in the lock's file decides"},
    "resource": {"hf_free/runtime/measuring.py": "psutil knows the peak"},
    **{name: {} for name in ("grp", "posix", "pty", "pwd", "readline", "syslog", "termios", "tty")},
}
"""Modules that Windows lacks -> files that import them inside a `try` -> what is done without."""

CALLS = {
    "os.sched_getaffinity": {"hf_free/runtime/processes.py": "all cores"},
    "os.getloadavg": {"hf_free/runtime/measuring.py": "no load"},
    **{
        f"os.{name}": {}
        for name in (
            "chown", "fork", "forkpty", "getegid", "geteuid", "getgid", "getpgid", "getpriority", "getuid", "killpg",
            "mkfifo", "nice", "posix_fadvise", "posix_fallocate", "pread", "pwrite", "register_at_fork", "setpgid",
            "setpriority", "setsid", "setuid", "statvfs", "sync", "sysconf", "uname", "wait", "waitid",
        )
    },
    **{f"signal.{name}": {} for name in ("SIGKILL", "SIGHUP", "SIGUSR1", "alarm", "pthread_kill", "pthread_sigmask",
                                         "setitimer", "sigwait")},
}  # fmt: skip
"""The same of attributes, which have to be asked for with `hasattr` in the same file."""


def _files():
    for path in sorted([*(ROOT / "hf_free").rglob("*.py"), *(ROOT / "cli").rglob("*.py")]):
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def _imports(tree):
    """(module, whether a `try` stands around it)."""
    guarded = {node for block in ast.walk(tree) if isinstance(block, ast.Try) for node in ast.walk(block)}
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from ((name.partition(".")[0], node in guarded) for name in names)


def test_every_use_is_named_here_and_guarded():
    for file, tree in _files():
        for name, is_guarded in _imports(tree):
            if name in MODULES:
                assert file in MODULES[name], f"{file} imports {name}, which Windows lacks"
                assert is_guarded, f"{file}: import {name} inside a try"
        text = ast.unparse(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in CALLS:
                call, (owner, _, name) = ast.unparse(node), ast.unparse(node).partition(".")
                assert file in CALLS[call], f"{file} uses {call}, which Windows lacks"
                assert f"hasattr({owner}, '{name}')" in text, f"{file}: ask hasattr({owner}, {name!r}) first"


def test_the_peak_of_memory_is_known_without_resource(monkeypatch):
    import torch

    known = measuring.peak_memory(torch.device("cpu"))["process"]
    monkeypatch.setitem(sys.modules, "resource", None)
    assert 0.2 * known < measuring.peak_memory(torch.device("cpu"))["process"] <= 1.5 * known


WITHOUT = """
import os, signal, sys
import psutil, torch  # which need some of them themselves, or have their own for each system
for name in {modules!r}:
    sys.modules[name] = None
def no_links(*given, **named):
    raise OSError("no links here")
for call in {calls!r}:
    owner, _, name = call.partition(".")
    if name in ("fork", "register_at_fork", "waitid", "wait", "SIGKILL"):
        continue  # Python's own subprocess and multiprocessing, which know where they are
    if hasattr(sys.modules[owner], name):
        delattr(sys.modules[owner], name)
os.link = no_links
from hf_free.cli.main import main
code = main(["train", "--config", {config!r}, "--output", {output!r}, "-q"])
code = code or main(["report", {output!r}, "-q", "--no-map"])
sys.exit(code)
"""


@pytest.mark.long
def test_a_run_and_its_report_go_through_without_any(tmp_path):
    models = [str(pico_folder(tmp_path / name, size=16, seed=seed)) for seed, name in enumerate("ab")]
    config = tmp_path / "config.yaml"
    config.write_text(FreeConfig.from_dict(merge(TINY, {"models": models})).to_yaml())
    taken = sorted({*MODULES} - {"posix", "readline", "pwd", "grp"})  # of which Python's own library needs some
    code = WITHOUT.format(modules=taken, calls=sorted(CALLS), config=str(config), output=str(tmp_path / "run"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    made = [str(tmp_path / "run" / "learner"), str(tmp_path / "run" / "report.html")]
    assert done.stdout.splitlines() == made
