"""Fixtures that many tests share: a loopback Hub, and real clients in processes of their own."""

from __future__ import annotations

import gc
import json
import re
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from drawing import with_drawing, without_drawing
from forked import Forks

from hf_free.hub.loopback.hub import LoopbackHub

LONG_FILES = (
    *("training/test_trainer", "system/test_several_processes", "demo/test_walkthrough", "docs/test_tutorial"),
    *("metalearning/test_continual", "examples/test_benchmark_bell", "training/test_warm_up", "training/test_pool"),
    *("methods/test_every_method", "system/test_interrupted_runs", "learner/test_classifier", "hub/test_download"),
    *("system/test_killed_runs", "runtime/test_distributed", "training/test_distill_checkpoint"),
    *("inversion/test_five", "system/test_train_on_hub", "hub/test_prefetch", "hub/test_failures"),
    *("learner/test_backbone", "examples/test_benchmark_five", "backbones/test_timm_hook"),
    *("evaluation/test_timm_sweep", "evaluation/test_evaluate", "demo/test_small_teachers", "data/test_decoding"),
)
"""The files of tests that take longest, handed out first: where one comes last, one worker waits for the other."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """No garbage is looked for while thousands of tests are found, nor among them from then on."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


UNSTEADY = re.compile(r" at 0x[0-9a-f]|\{'[^':]*', '[^':]*'")
"""An object's address, or the beginning of a set of texts, whose order depends on the process."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bring the long files to the front; all else stays in its order.

    Raises:
        UsageError: a test's id that differs from process to process, with which pytest-xdist ends all of a run.
    """
    if unsteady := [item.nodeid for item in items if UNSTEADY.search(item.nodeid)]:
        raise pytest.UsageError(f"ids with an address or a set of texts: {unsteady[:3]}")
    places = {Path(__file__).parent / f"{name}.py": place for place, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@dataclass(frozen=True)
class ClientResult:
    """What a client's process left behind."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The last line of the output, read as JSON."""
        return json.loads(self.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="session", autouse=True)
def _runs_draw_nothing() -> Iterator[None]:
    """Before all fixtures that train."""
    with without_drawing():
        yield


@pytest.fixture(scope="session", autouse=True)
def _pools_ask_about_few_pictures() -> Iterator[None]:
    """Drawing a thousand and asking all teachers about them takes longer than all else in a small pool; forks do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_free.training.pool.PICTURES", 128)
        yield


@pytest.fixture(scope="session", autouse=True)
def _nothing_waits_for_the_disk() -> Iterator[None]:
    """Each file that is saved is flushed to the disk, which takes longer than all else; forks and processes do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_free.runtime.files.sync", lambda path: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _runs_are_tried_in_two_sizes() -> Iterator[None]:
    """Before a run each part is done with few pictures and with more, but not again and again to be timed; tests of
    these measurements undo it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_free.training.trial.ONCE_IS_ENOUGH", 0.0)
        patch.setattr("hf_free.training.trial.LONG", 0.0)
        yield


@pytest.fixture(autouse=True)
def _marked_runs_draw(request: pytest.FixtureRequest) -> Iterator[None]:
    """Runs of a test marked `draws`; a fixture of a wider scope draws with `drawing.with_drawing`."""
    with with_drawing() if "draws" in request.keywords else nullcontext():
        yield


@pytest.fixture(scope="session")
def hub() -> Iterator[LoopbackHub]:
    """A loopback Hub for the whole session; tests use repository names of their own."""
    with LoopbackHub() as server:
        yield server


@pytest.fixture(scope="session")
def tokens(hub: LoopbackHub) -> dict[str, str]:
    """Tokens of users: alice (also of the organization `lab`) and bob may write, reader's token may only read."""
    return {
        "alice": hub.add_user("alice", "hf_alice_secret", organizations=("lab",)),
        "bob": hub.add_user("bob", "hf_bob_secret"),
        "reader": hub.add_user("reader", "hf_reader_secret", role="read"),
    }


@pytest.fixture(scope="session")
def forks(hub: LoopbackHub) -> Iterator[Forks]:
    """Python commands in forks of one process, with the environment of the loopback Hub's clients."""
    with Forks(hub.environment()) as server:
        yield server


@pytest.fixture
def run_client(hub: LoopbackHub, forks: Forks, tmp_path: Path) -> Callable[..., ClientResult]:
    """Run Python code (a text) or a command (a list) as a client of the loopback Hub, in a process of its own.

    The environment is `LoopbackHub.environment`: no proxies, no inherited HF_* settings, a cache that only this test
    uses. With `check` (the default) a failure of the client fails the test and shows what it wrote. A run draws its
    figures with `draws` only. With `imports` the client imports hf_free and the Hub's libraries itself.
    """

    def run(
        code_or_argv: str | Sequence[str],
        *,
        token: str | None = None,
        home: Path | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float = 120,
        cwd: Path | None = None,
        draws: bool = False,
        imports: bool = False,
    ) -> ClientResult:
        python = isinstance(code_or_argv, str)
        argv = [sys.executable, "-c", code_or_argv] if python else list(code_or_argv)
        environment = {**hub.environment(token, home or tmp_path / "home"), "OMP_NUM_THREADS": "1", **(env or {})}
        done = forks.run(argv, env=environment, timeout=timeout, cwd=cwd, draws=draws, imports=imports)
        if check and done.returncode != 0:
            pytest.fail(f"the client ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return ClientResult(done.returncode, done.stdout, done.stderr)

    return run
