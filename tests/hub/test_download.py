"""A file whole or resumed, whatever happens on the way."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import time
from pathlib import Path

from hub_calls import FILES, WEIGHTS, partial_files, place

from hf_free.hub.loopback.server import HubHandler

PASSING_FAULTS = [
    ("status", "info", {"status": 503, "times": 2}),
    ("status", "body", {"status": 500, "times": 2}),
    ("status", "body", {"status": 429, "headers": {"Retry-After": "1"}}),
    ("close", "info", {}),
    ("reset", "info", {}),
    ("close", "body", {"after": 300_000, "times": 2}),
    ("reset", "body", {"after": 300_000, "times": 2}),
    ("truncate", "body", {}),
    ("corrupt", "body", {}),
]


def test_passing_faults_are_survived(hub, ask_all, tmp_path):
    with contextlib.ExitStack() as stack:
        faults, calls = [], []
        for index, (kind, where, details) in enumerate(PASSING_FAULTS):
            name = f"fault/pass-{index}"
            hub.add_repo(name, FILES)
            faults.append(stack.enter_context(hub.fault(kind, place(name, where), method="GET", **details)))
            calls.append((f"fetch_snapshot, '{name}'", {}))
        answers = ask_all(calls)
    for case, fault, answer in zip(PASSING_FAULTS, faults, answers, strict=True):
        assert fault.hits == case[2].get("times", 1), case
        assert answer["error"] is None, case
        assert (Path(answer["value"]["folder"]) / "model.safetensors").read_bytes() == WEIGHTS, case
        assert answer["seconds"] < 30, case
    assert not partial_files(tmp_path)


def test_a_cut_download_goes_on_where_it_ended(hub, ask):
    hub.add_repo("fault/resume", FILES)
    with hub.fault("close", "/fault/resume/resolve/.*safetensors", after=200_000, times=None) as fault:
        answer = ask("fetch_snapshot, 'fault/resume'")
    assert answer["error"] is None, "1.28 MB arrive in pieces of 0.2 MB, although no request gets through"
    assert fault.hits == 7
    assert (Path(answer["value"]["folder"]) / "model.safetensors").read_bytes() == WEIGHTS


def test_a_download_that_was_stopped_just_before_its_end_goes_on_in_the_next_call(hub, ask, run_client, tmp_path):
    hub.add_repo("fetch/stopped", FILES)
    code = (
        "from hf_free.hub.snapshot import fetch_snapshot\n"
        "def arrived(name, done, size):\n"
        "    if name == 'model.safetensors' and done > 0.99 * size:\n"
        "        raise KeyboardInterrupt\n"
        "fetch_snapshot('fetch/stopped', arrived=arrived)"
    )
    assert run_client(code, home=tmp_path / "home", check=False).returncode != 0
    (partial,) = partial_files(tmp_path)
    assert partial.stat().st_size > 0.9 * len(WEIGHTS)
    with hub.fault("close", "/fetch/stopped/resolve/.*safetensors", after=len(WEIGHTS) // 5, times=None) as fault:
        answer = ask("fetch_snapshot, 'fetch/stopped'")
    assert answer["error"] is None
    assert fault.hits <= 1  # from its beginning it would take five requests
    assert (Path(answer["value"]["folder"]) / "model.safetensors").read_bytes() == WEIGHTS
    assert not partial_files(tmp_path)


def test_old_partial_downloads_are_swept(hub, ask, tmp_path):
    hub.add_repo("fetch/sweep", FILES)
    blobs = tmp_path / "home" / "hub" / "models--fetch--sweep" / "blobs"
    blobs.mkdir(parents=True)
    for name, age in (("old.incomplete", 2 * 86400), ("young.incomplete", 60)):
        (blobs / name).write_bytes(b"x")
        os.utime(blobs / name, (time.time() - age,) * 2)
    ask("fetch_snapshot, 'fetch/sweep'")
    assert [path.name for path in partial_files(tmp_path)] == ["young.incomplete"]
    assert json.loads(next(blobs.parent.glob("hf_free/*.json")).read_text())["license"] == "mit"


def test_a_download_that_trickles_or_stalls_is_left_and_named(hub, run_client):
    """Each byte is in time; the limit is handed in."""
    hub.add_repo("fault/drip", FILES)
    code = f"""
import json, time
from pathlib import Path
from hf_free.hub.download import ExpectedFile, download
from hf_free.hub.session import StalledError
begin = time.monotonic()
try:
    expected = ExpectedFile({len(WEIGHTS)}, "sha256", "0" * 64)
    address = "{hub.endpoint}/fault/drip/resolve/main/model.safetensors"
    download(address, Path("partial"), expected, {{}}, name="model.safetensors of fault/drip", patience=0.6)
except StalledError as error:
    print(json.dumps([str(error), time.monotonic() - begin, Path("partial").exists()]))
"""
    for kind, details in (("trickle", {"seconds": 0.1}), ("stall", {"after": 1000})):
        with hub.fault(kind, "/fault/drip/resolve/.*safetensors", times=None, **details) as fault:
            message, seconds, kept = run_client(code).json
        assert fault.hits, kind
        assert message.startswith("next to nothing for "), kind
        assert message.endswith(" s of model.safetensors of fault/drip"), kind
        assert seconds < 12, kind  # 14 s without the limit
        assert not kept, kind


def test_a_server_that_ignores_the_range_begins_anew_and_gives_the_right_bytes(hub, ask, monkeypatch):
    hub.add_repo("fault/no-range", FILES)
    monkeypatch.setattr(HubHandler, "_ranged", lambda self, answer, data: (answer.status, data))
    with hub.fault("close", "/fault/no-range/resolve/.*safetensors", after=500_000, times=2) as fault:
        answer = ask("fetch_snapshot, 'fault/no-range'")
    assert fault.hits == 2
    assert answer["error"] is None
    assert (Path(answer["value"]["folder"]) / "model.safetensors").read_bytes() == WEIGHTS


def test_a_packing_that_is_damaged_on_its_way_is_fetched_again(hub, ask, monkeypatch):
    """The library's error for a wrong checksum is none of the connection's."""
    hub.add_repo("fault/packed", FILES)
    send, seen = HubHandler._send, []

    def packed(self, answer, fault):
        if self.command == "GET" and "/fault/packed/resolve/" in self.path and "safetensors" in self.path and not seen:
            seen.append(self.path)
            data = gzip.compress(answer.body[:-1] + b"x", 1)
            answer.body = data[:-8] + bytes(4) + data[-4:]
            answer.headers["Content-Encoding"] = "gzip"
        send(self, answer, fault)

    monkeypatch.setattr(HubHandler, "_send", packed)
    answer = ask("fetch_snapshot, 'fault/packed'")
    assert seen
    assert answer["error"] is None
    assert (Path(answer["value"]["folder"]) / "model.safetensors").read_bytes() == WEIGHTS


def test_a_body_that_is_cut_after_its_last_byte_is_whole(hub, ask):
    hub.add_repo("fault/last-byte", FILES)
    with hub.fault("reset", "/fault/last-byte/resolve/.*safetensors", after=len(WEIGHTS)) as fault:
        answer = ask("fetch_snapshot, 'fault/last-byte'")
    assert fault.hits == 1
    assert answer["error"] is None
    assert (Path(answer["value"]["folder"]) / "model.safetensors").read_bytes() == WEIGHTS


def test_a_file_that_ends_before_its_announced_size_is_called_too_short(hub, run_client, tmp_path):
    """The server answers the question about the rest with 416."""
    hub.add_repo("fault/short", FILES)
    code = f"""
from pathlib import Path
from hf_free.errors import HubError
from hf_free.hub.download import ExpectedFile, download
expected = ExpectedFile({len(WEIGHTS) + 10}, "sha256", "0" * 64)
try:
    url = "{hub.endpoint}/fault/short/resolve/main/model.safetensors"
    download(url, Path({str(tmp_path / "weights")!r}), expected, {{}}, name="weights", patience=0.5)
except HubError as error:
    print(error)
"""
    said = run_client(code).stdout
    assert said.startswith(f"the Hub sends only {len(WEIGHTS)} of {len(WEIGHTS) + 10} bytes of weights")
