"""What only POSIX systems have: each use is named here with its way around, and a run goes through without any."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pico import pico_folder
from PIL import Image
from runs import TINY

from hf_free.config.reading import merge
from hf_free.config.tree import FreeConfig

ROOT = Path(__file__).resolve().parents[2]

MODULES = {
    "fcntl": {"hf_free/training/run_lock.py": "the text in the lock's file decides"},
    **{name: {} for name in ("grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty")},
}
"""Modules that Windows lacks -> files that import them inside a `try` -> what is done without."""

CALLS = {
    "os.sched_getaffinity": {"hf_free/runtime/processes.py": "all cores"},
    **{
        f"os.{name}": {}
        for name in (
            "chown", "fork", "forkpty", "getegid", "geteuid", "getgid", "getpgid", "getpriority", "getuid", "killpg",
            "getgroups", "getloadavg", "getpgrp", "getsid", "mkfifo", "mknod", "nice", "openpty", "posix_fadvise",
            "posix_fallocate", "posix_spawn", "pread", "preadv", "pwrite", "pwritev", "readv", "register_at_fork",
            "sched_setaffinity", "sendfile", "setgid", "setpgid", "setpriority", "setsid", "setuid", "statvfs", "sync",
            "sysconf", "ttyname", "uname", "wait", "wait3", "wait4", "waitid", "writev", "O_DIRECT", "O_DIRECTORY",
            "O_NOFOLLOW", "O_NONBLOCK",
        )
    },
    **{f"signal.{name}": {} for name in ("SIGALRM", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT",
                                         "SIGTSTP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGXCPU", "SIGXFSZ", "alarm",
                                         "pause", "pthread_kill", "pthread_sigmask", "setitimer", "sigpending",
                                         "sigwait", "siginterrupt")},
    **{f"select.{name}": {} for name in ("epoll", "kqueue", "poll")},
    **{f"socket.{name}": {} for name in ("AF_UNIX", "socketpair")},
    "time.tzset": {},
}  # fmt: skip
"""The same of attributes, which have to be asked for with `hasattr` in the same file. `make lint` knows all that there
are, from mypy for Windows and macOS; this list is what the test below takes away."""


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


WITHOUT = """
import builtins, io, os, platform, select, signal, socket, sys, time
import psutil, torch  # which need some of them themselves, or have their own for each system
for name in {modules!r}:
    sys.modules[name] = None
def no_links(*given, **named):
    raise OSError("no links here")
def no_proc(file, *given, really_open=open, **named):
    if str(file).startswith(("/proc/cpuinfo", "/proc/self/c", "/proc/self/status", "/sys/fs/cgroup")):
        raise FileNotFoundError(file)
    return really_open(file, *given, **named)
for call in {calls!r}:
    owner, _, name = call.partition(".")
    if name in {spared!r}:
        continue  # Python's own subprocess, asyncio, shutil and so on, which know where they are
    if hasattr(sys.modules[owner], name):
        delattr(sys.modules[owner], name)
os.link, platform.libc_ver, builtins.open, io.open = no_links, lambda: ("", ""), no_proc, no_proc
from hf_free.cli.main import main
for words in {commands!r}:
    code = main(words)
    if code:
        sys.exit(f"{{words}} ended with {{code}}")
"""

SPARED = (
    "fork", "register_at_fork", "waitid", "wait", "SIGKILL", "SIGCHLD", "SIGPIPE", "AF_UNIX", "socketpair", "poll",
    "epoll", "posix_spawn", "sendfile",
)  # fmt: skip


@pytest.mark.long
def test_the_verbs_go_through_without_any(tmp_path):
    models = [str(pico_folder(tmp_path / name, size=16, seed=seed)) for seed, name in enumerate("ab")]
    config = tmp_path / "config.yaml"
    config.write_text(FreeConfig.from_dict(merge(TINY, {"models": models})).to_yaml())
    for place in range(6):
        path = tmp_path / "examples" / "ab"[place % 2] / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (40 * place, 255 * (place % 2), 90)).save(path)
    run, pooled, kept, examples = (str(tmp_path / name) for name in ("run", "pooled", "kept", "examples"))
    commands = [
        ["train", "--config", str(config), "--output", run, "-q"],
        ["report", run, "-q", "--no-map"],
        ["pool", "--models", *models, "--output", pooled, "-q"],
        ["adapt", run, "--support", examples, "--output", kept, "-q"],
        ["export", kept, "--output", f"{kept}.pt2", "-q"],
        ["predict", kept, "--images", examples, "--output", f"{kept}.csv"],
        ["evaluate", run, "--dataset", examples, "--n-way", "2", "--k-shot", "1", "--n-query", "1", "--episodes", "2",
         "--output", f"{run}/results.json"],
    ]  # fmt: skip
    taken = sorted({*MODULES} - {"posix", "readline", "pwd", "grp"})  # of which Python's own library needs some
    code = WITHOUT.format(modules=taken, calls=sorted(CALLS), spared=SPARED, commands=commands)
    environment = {**os.environ, "USERNAME": "someone"}  # as on Windows; torch asks for it
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    made = [str(tmp_path / name) for name in ("run/learner", "run/report.html", "pooled", "kept", "kept.pt2")]
    assert done.stdout.splitlines()[:5] == made
    assert Path(f"{kept}.csv").is_file()
    assert Path(run, "results.json").is_file()
