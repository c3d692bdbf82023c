"""Fixtures for calls of the client."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hub_calls import FILES, HELPERS


@pytest.fixture
def ask(run_client):
    """Evaluate calls of the client, given as text, in one new process; gives what `show` gives for each."""

    def run(*calls: str, **options):
        body = ", ".join(f"show(client.{call})" for call in calls)
        result = run_client(f"{HELPERS}\nprint(json.dumps([{body}], default=str))", **options)
        answers = result.json
        for answer in answers:
            answer["log"] = result.stderr
        return answers if len(answers) > 1 else answers[0]

    return run


@pytest.fixture
def ask_all(ask, tmp_path):
    """Make calls at the same time, each in a process and with a cache of its own."""

    def run(calls: list[tuple[str, dict]]) -> list[dict]:
        with ThreadPoolExecutor(16) as pool:
            homes = [tmp_path / f"home-{index}" for index in range(len(calls))]
            running = [
                pool.submit(ask, call, home=home, **options)
                for (call, options), home in zip(calls, homes, strict=True)
            ]
            return [future.result() for future in running]

    return run


@pytest.fixture
def learner(tmp_path) -> Path:
    folder = tmp_path / "learner"
    (folder / "pictures").mkdir(parents=True)
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    (folder / "pictures" / "grid.png").write_bytes(b"\x89PNG")
    return folder
