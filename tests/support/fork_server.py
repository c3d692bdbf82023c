"""Two processes that have libraries imported and run each Python command in a fork of themselves.

`forked.py` starts them and speaks with them. Run as a program: the arguments are the numbers of their open control
sockets. The first has only what reads nothing of the environment that tests change: neither huggingface_hub nor timm
and datasets (which import it), nor hf_free. The second, a fork of the first, has these too, but for datasets; what
huggingface_hub read of the environment is read again in each of its forks. Both stay at one thread, so that a fork of
them is whole.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import gc
import importlib
import importlib.machinery
import importlib.util
import json
import linecache
import os
import runpy
import selectors
import signal
import socket
import sys
import types
from collections.abc import Sequence
from dataclasses import dataclass

PRELOADED = (
    *("numpy", "PIL.Image", "torch", "torch._dynamo", "torch.distributed.fsdp", "torchvision", "safetensors.torch"),
    *("yaml", "jinja2", "tqdm.auto", "httpx", "httpx2", "typer.rich_utils", "rich.table", "rich.progress"),
    *("scipy.cluster.hierarchy", "scipy.optimize", "matplotlib.figure", "matplotlib.backends.backend_agg"),
    *("pydantic.types", "pydantic.json_schema", "httpcore2", "h11", "h2", "anyio", "psutil", "filelock", "truststore"),
    *("fsspec", "unittest.mock", "http.server"),
)
"""What most commands import sooner or later; what is not installed is left out. pyarrow begins a thread."""

READ_AT_IMPORT = ("huggingface_hub", "hf_free", "timm", "datasets")
"""Libraries that the first process lacks: they read their settings from the environment as they are imported."""

OURS = (
    *("huggingface_hub.hf_api", "timm", "accelerate", "hf_free.cli.main", "hf_free.training.trainer"),
    *("hf_free.training.pool", "hf_free.training.distill", "hf_free.evaluation.evaluate", "hf_free.publishing.card"),
)
"""What the second process has besides; with what these import, nearly all of hf_free."""

FIGURES = {
    "hf_free.reporting.recovered": "draw_pictures",
    "hf_free.reporting.heterogeneity": "draw_heterogeneity",
}
"""What a run draws with: with the libraries for it, longer than a short run itself takes."""

FILES_SENT = 4
"""Ends of pipes that come with a request: the command to read, stdout, stderr, and the line for its end."""


@dataclass(frozen=True)
class Command:
    """A command line of this Python and where it runs."""

    words: list[str]
    """What follows the interpreter: `-c CODE ...`, `-m MODULE ...` or `SCRIPT ...`."""
    environment: dict[str, str]
    folder: str
    draws: bool
    """Whether a run draws its figures."""

    def run(self, ending: Ending) -> None:
        """Be the process that this command would be."""
        os.environ.clear()
        os.environ.update(self.environment)
        read_again()
        os.chdir(self.folder)
        if not self.draws:
            WithoutFigures.install()
        inherited = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
        sys.path[1:1] = [path for path in inherited if path not in sys.path]
        kind, *rest = self.words
        sys.path[0] = {"-c": "", "-m": os.getcwd()}.get(kind, os.path.dirname(os.path.realpath(kind)))
        sys.argv = [kind, *rest[1:]] if kind in ("-c", "-m") else self.words
        try:
            if kind == "-c":
                ending.names = _new_main()
                if sys.version_info >= (3, 13):  # since then its lines are shown in tracebacks and warnings
                    lines = rest[0].splitlines(keepends=True)
                    linecache.cache["<string>"] = (len(rest[0]), None, lines, "<string>")
                exec(compile(rest[0], "<string>", "exec"), ending.names)
            elif kind == "-m":
                runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
            else:
                if os.path.isdir(kind):  # which runpy puts there itself
                    del sys.path[0]
                runpy.run_path(kind, run_name="__main__")
        except SystemExit as left:
            ending.status = _status(left.code)
        except BaseException as error:
            below = error.__traceback__.tb_next if error.__traceback__ else None
            sys.excepthook(type(error), error.with_traceback(below), below)
            ending.status = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1


class WithoutFigures:
    """Finds the modules of `FIGURES`, and has each draw nothing."""

    @classmethod
    def install(cls) -> None:
        """From now on, also in what is imported already."""
        sys.meta_path.insert(0, cls())
        for home, name in FIGURES.items():
            if home in sys.modules:
                draws = getattr(sys.modules[home], name)
                _replace(name, draws, lambda *_, **__: None)

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The module as it is found without this, but for its loader."""
        if name not in FIGURES:
            return None
        found = importlib.machinery.PathFinder.find_spec(name, path, target)
        if found is None or found.origin is None:
            return None
        return importlib.util.spec_from_file_location(name, found.origin, loader=_Undrawn(name, found.origin))


class _Undrawn(importlib.machinery.SourceFileLoader):
    def exec_module(self, module: types.ModuleType) -> None:
        super().exec_module(module)
        setattr(module, FIGURES[module.__name__], lambda *_, **__: None)


class Ending:
    """The end of a fork: what an interpreter does last, but for taking the libraries apart, half a second's work.

    Registered before all other functions that are to run at the end, so that it runs after them, and after threads.
    """

    status: int = 0
    """Exit status; of an end by a signal, as an interpreter ends when it is interrupted, minus its number."""
    names: dict[str, object] | None = None
    """Names of the command's main module, let go first: files that it left open are written out."""

    def __call__(self) -> None:
        """Leave."""
        if self.names is not None:
            self.names.clear()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                self.status = self.status or 120
        if self.status < 0:
            signal.signal(-self.status, signal.SIG_DFL)
            os.kill(os.getpid(), -self.status)
        os._exit(self.status)


def _new_main() -> dict[str, object]:
    """Names of a new main module."""
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = main
    return main.__dict__


def _status(code: object) -> int:
    """Exit status that an interpreter makes of `sys.exit(code)`."""
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    sys.stderr.write(f"{code}\n")
    return 1


def preload(names: Sequence[str], without: Sequence[str]) -> None:
    """Import libraries.

    Args:
        names: Modules; what is not installed is left out.
        without: Packages that a command is to import itself.

    Raises:
        RuntimeError: one of them has begun a thread, or has imported what a command is to import itself.
    """
    for name in names:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    if loaded := sorted({name.partition(".")[0] for name in sys.modules} & set(without)):
        raise RuntimeError(f"imported with the others: {loaded}")
    if (threads := len(os.listdir("/proc/self/task"))) > 1:
        raise RuntimeError(f"{threads} threads after the imports; a fork would have one")
    gc.collect()
    gc.freeze()


def read_again() -> None:
    """What huggingface_hub reads of the environment as it is imported, as if it were imported now."""
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is None:
        return
    before = dict(vars(constants))
    importlib.reload(constants)
    for name, value in vars(constants).items():
        if name.isupper() and before.get(name, _ABSENT) != value:
            _replace(name, before.get(name), value)
    functions = sys.modules["huggingface_hub.hf_api"].api  # whose methods are the library's functions
    functions.endpoint = constants.ENDPOINT


_ABSENT = object()


def _replace(name: str, old: object, new: object) -> None:
    """Give a name that several modules import a new value wherever it has the old one."""
    for module in list(sys.modules.values()):
        if module.__name__.partition(".")[0] in READ_AT_IMPORT and vars(module).get(name, _ABSENT) is old:
            setattr(module, name, new)


def serve(control: socket.socket) -> Command | None:
    """Fork at each request and tell the status of each fork that ends.

    Returns:
        In a fork, the command to run; None in this process, once the other side is gone.
    """
    events = selectors.DefaultSelector()
    events.register(control, selectors.EVENT_READ)
    while True:
        for key, _ in events.select():
            if key.fileobj is control:
                _, files, _, _ = socket.recv_fds(control, 1, FILES_SENT)
                if not files:
                    return None
                command, out, err, line = files
                if (pid := os.fork()) == 0:
                    for other in [*(key.fd for key in events.get_map().values()), line]:
                        os.close(other)
                    control.detach()
                    events.close()
                    return _begin(command, out, err)
                for file in (command, out, err):
                    os.close(file)
                ends = os.pidfd_open(pid)
                events.register(ends, selectors.EVENT_READ, (pid, line))
                events.register(line, selectors.EVENT_READ, pid)
            elif isinstance(key.data, tuple):
                pid, line = key.data
                status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with contextlib.suppress(BrokenPipeError):
                    os.write(line, str(status).encode())
                for file in (key.fd, line):
                    if file in events.get_map():
                        events.unregister(file)
                    os.close(file)
                break  # the line's own event, if it is among these, is of a file that is closed
            else:  # whoever waited has gone
                os.kill(key.data, signal.SIGKILL)
                events.unregister(key.fd)


def _begin(command: int, out: int, err: int) -> Command:
    """Take over the output and read what is to be run."""
    for file, number in ((out, 1), (err, 2)):
        os.dup2(file, number)
        os.close(file)
    if "numpy" in sys.modules:  # seeded at its import; Python's own generator is seeded anew by a fork
        sys.modules["numpy"].random.seed()
    with open(command, encoding="utf-8") as file:
        return Command(**json.load(file))


if __name__ == "__main__":
    last = Ending()
    atexit.register(last)
    first, second = (socket.socket(fileno=int(number)) for number in sys.argv[1:])
    preload(PRELOADED, without=READ_AT_IMPORT)
    other = os.fork()
    if other == 0:
        first.close()
        preload(OURS, without=("datasets",))
    else:
        second.close()
    with first if other else second as listening:
        listening.send(b"1")
        begun = serve(listening)
    if begun is not None:
        begun.run(last)
    elif other:
        os.waitpid(other, 0)
