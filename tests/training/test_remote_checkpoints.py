"""Checkpoints pushed to a loopback Hub as they are made, and a run resumed from there with its folder gone."""

from __future__ import annotations

import hashlib
import json

import pytest
from pico import pico_folder
from runs import TINY

from hf_free import FreeConfig
from hf_free.config.reading import merge

RUN = """
import json, shutil, signal, sys
from pathlib import Path
import hf_free.training.finishing
from hf_free import FreeConfig, train
from hf_free.errors import HfFreeError
from hf_free.runtime.interrupts import Stopped
for name in ("draw_pictures", "draw_heterogeneity"):
    setattr(hf_free.training.finishing, name, lambda *_, **__: None)
config, here = FreeConfig.from_yaml(sys.argv[1]), Path(sys.argv[2])

def losses(folder):
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "minutes"} for row in rows]

def weights(folder):
    return (folder / "learner" / "model.safetensors").read_bytes()

signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite that runs in the background has it ignored
steps = []
def stop(learner, minutes):
    steps.append(minutes)
    if len(steps) == 3:
        signal.raise_signal(signal.SIGINT)
"""
RESUMED = """
train(config, output=here / "whole")
try:
    train(config, output=here / "run", watch=stop)
except Stopped:
    stopped = True
shutil.rmtree(here / "run")
train(config, output=here / "run", resume=True)
equal = losses(here / "whole") == losses(here / "run"), weights(here / "whole") == weights(here / "run")
print(json.dumps({"stopped": stopped, "equal": equal, "steps": len(losses(here / "run"))}))
"""


@pytest.fixture
def config(tmp_path):
    def write(repo):
        models = [str(pico_folder(tmp_path / f"t{seed}", seed=seed)) for seed in range(2)]
        values = {"models": models, "hub": {"push_checkpoints": repo}, "trainer": {"steps": 4}}
        path = tmp_path / "run.yaml"
        path.write_text(FreeConfig.from_dict(merge(TINY, values)).to_yaml())
        return str(path)

    return write


def test_a_run_goes_on_from_the_hub_when_its_folder_is_gone(hub, tokens, run_client, config, tmp_path):
    code = RUN.replace("sys.argv[1]", repr(config("alice/checkpoints"))).replace("sys.argv[2]", repr(str(tmp_path)))
    done = run_client(code + RESUMED, token=tokens["alice"])
    assert done.json == {"stopped": True, "equal": [True, True], "steps": 4}
    files = hub.read_repo("alice/checkpoints")
    assert json.loads(files["manifest.json"])["step"] == 4
    assert {"state.json", "memory.safetensors", "run/config.yaml", "run/log.jsonl"} <= files.keys()


def test_a_push_that_fails_is_said_and_the_run_goes_on(hub, tokens, run_client, config, tmp_path):
    code = RUN.replace("sys.argv[1]", repr(config("alice/broken"))).replace("sys.argv[2]", repr(str(tmp_path)))
    with hub.fault("status", "/alice/broken/commit", times=None, status=400):
        done = run_client(code + 'train(config, output=here / "run"); print(1)', token=tokens["alice"])
    assert "the checkpoint of step 3 was not pushed to alice/broken: " in done.stderr
    assert (tmp_path / "run" / "learner" / "model.safetensors").is_file()


REFUSED = """
from hf_free.training.remote_checkpoints import RemoteCheckpoints, restore_run
said = []
for attempt in (
    lambda: RemoteCheckpoints("lab/public-one", None).check(),
    lambda: restore_run(here / "a", "lab/no-checkpoint"),
    lambda: restore_run(here / "b", "lab/damaged"),
    lambda: restore_run(here / "b", "lab/public-one"),
):
    try:
        attempt()
    except HfFreeError as error:
        said.append(str(error).splitlines()[0])
print(json.dumps(said))
"""


def test_what_is_public_or_no_checkpoint_is_refused(hub, tokens, run_client, config, tmp_path):
    manifest = {"format": 1, "step": 3, "files": {"state.json": {"bytes": 2, "sha256": "0" * 64}}}
    hub.add_repo("lab/public-one", {"a": b"b"})
    hub.add_repo("lab/no-checkpoint", {"manifest.json": b"[]"})
    hub.add_repo("lab/damaged", {"manifest.json": json.dumps(manifest).encode(), "state.json": b"{}"})
    code = RUN.replace("sys.argv[1]", repr(config("lab/x"))).replace("sys.argv[2]", repr(str(tmp_path)))
    said = run_client(code + REFUSED, token=tokens["alice"]).json
    assert "exists and is public, and checkpoints are pushed to private repositories only" in said[0]
    assert said[1].startswith("lab/no-checkpoint holds no whole checkpoint: its manifest cannot be read")
    assert said[2] == "lab/damaged holds no whole checkpoint: state.json is not the file that was written"
    assert said[3] == "lab/public-one holds no whole checkpoint: main has no manifest.json"
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


STRANGE = """
import logging
logging.basicConfig(format="%(message)s")
from hf_free.training.remote_checkpoints import restore_run
restore_run(here / "restored", "lab/strange")
try:
    restore_run(here / "asking", "lab/asking")
except HfFreeError as error:
    print(json.dumps(str(error)))
"""


def test_what_a_repository_may_not_decide_is_left_out(hub, tokens, run_client, config, tmp_path):
    """A configuration from there had code imported that lay beside it, and named what is published and where."""
    values = {"models": ["org/a", "org/b"], "imports": ["restored/evil.py"]}
    values["hub"] = {"push_to_hub": "evil/take", "create_pr": True, "cache_dir": "/elsewhere", "license": "mit"}
    for name, models in (("lab/strange", values["models"]), ("lab/asking", ["endpoint:https://evil.example/x"])):
        text = FreeConfig.from_dict({**values, "models": models}).to_yaml()
        files = {"run/config.yaml": text.encode(), "run/evil.py": b"open('ran', 'w')", "state.json": b"{}"}
        entries = {
            path: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for path, data in files.items()
        }
        hub.add_repo(name, {**files, "manifest.json": json.dumps({"format": 1, "step": 3, "files": entries}).encode()})
    code = RUN.replace("sys.argv[1]", repr(config("lab/x"))).replace("sys.argv[2]", repr(str(tmp_path)))
    done = run_client(code + STRANGE, token=tokens["alice"])
    restored = FreeConfig.from_yaml(tmp_path / "restored" / "config.yaml")
    assert (restored.imports, restored.hub.push_to_hub, restored.hub.cache_dir) == ([], None, None)
    assert (restored.models, restored.hub.license) == (["org/a", "org/b"], "mit")
    assert sorted(path.name for path in (tmp_path / "restored").iterdir()) == ["checkpoints", "config.yaml"]
    assert "not taken from lab/strange" in done.stderr
    assert "imports, hub.push_to_hub" in done.stderr
    assert "asks endpoint:https://evil.example/x, which a repository cannot decide" in done.json
    assert not (tmp_path / "asking").exists()
