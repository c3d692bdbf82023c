"""Runs of two processes: the same learner as one process with two chains, wherever they stop, start and fail."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time

import pytest
import torch
import yaml
from pico import pico_files, pico_folder, pico_teacher
from ranks import run_ranks
from runs import TINY
from safetensors.torch import load_file

from hf_free.config.reading import merge
from hf_free.config.tree import FreeConfig
from hf_free.serving.served_model import ServedTeacher
from hf_free.serving.server import ModelServer
from hf_free.training.folder import RunFolder
from hf_free.training.launch import free_port
from hf_free.training.trainer import train

PAPER = {
    "recipe": "paper",
    "bell": {"n_way": 3, "n_query": 2, "replay_tasks": 3, "replay_patience": 1, "replay_inner_steps": 1},
    "memory": {"max_images": 400},
    "trainer": {"steps": 4},
}
"""The paper's recipe, small."""


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """Four teachers, one of them without BatchNorm: two for each chain, of other sizes and numbers of classes."""
    folder = tmp_path_factory.mktemp("zoo")
    pico_folder(folder / "a", "conv4", size=16, num_classes=3, seed=0)
    pico_folder(folder / "b", "vit", size=16, num_classes=2, seed=1)
    pico_folder(folder / "c", "conv4", size=24, num_classes=4, seed=2)
    pico_folder(folder / "d", "resnet", size=16, num_classes=5, seed=3)
    return sorted(map(str, folder.iterdir()))


def _config(zoo, **values):
    return FreeConfig.from_dict(merge(merge(TINY, {"models": zoo}), values))


def _weights(folder):
    files = ("learner/model.safetensors", "learner/hf_free.safetensors", "generator.safetensors")
    return {f"{name}/{key}": value for name in files for key, value in load_file(folder / name).items()}


def _same(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


SESSION = """
import sys
import torch
from pathlib import Path
from hf_free.cli.main import main
from hf_free.config.tree import FreeConfig
from hf_free.errors import RunError
from hf_free.runtime.interrupts import Stopped
from hf_free.runtime.launched import Launched
from hf_free.training import step, trainer
import hf_free.training.finishing as finishing
trainer.draw_pictures = finishing.draw_pictures = lambda *args: None
finishing.draw_heterogeneity = lambda *args, **options: None

root, here = Path(sys.argv[1]), Launched.here()

def config(name):
    return FreeConfig.from_yaml(root / f"{name}.yaml")

learner = trainer.train(config("paper"), output=root / "paper")
torch.save(learner.state_dict(), root / f"paper-{here.rank}.pt")

steps = []
def stop(learner, minutes):
    steps.append(minutes)
    if len(steps) == 3:
        raise Stopped
try:
    trainer.train(config("default"), output=root / "stopped", watch=stop)
except Stopped:
    pass

fill = step.fill
def breaks(*args, **options):
    if here.rank == 1:
        raise RunError("the second disk is full")
    fill(*args, **options)
step.fill = breaks
sys.exit(main(["train", "--config", str(root / "default.yaml"), "--output", str(root / "failed")]))
"""


@pytest.fixture(scope="module")
def session(zoo, forks, tmp_path_factory):
    """Two processes that do a run of the paper's recipe, one that is stopped after three steps, and one that fails."""
    root = tmp_path_factory.mktemp("session")
    for name, values in {"paper": PAPER, "default": {}}.items():
        (root / f"{name}.yaml").write_text(_config(zoo, **values).to_yaml(), encoding="utf-8")
    begun = time.monotonic()
    return root, run_ranks(forks, SESSION, str(root)), time.monotonic() - begun


@pytest.fixture
def black_box():
    """A teacher behind an address, which counts the pictures that it answers."""
    with ModelServer(ServedTeacher(pico_teacher("conv4", size=16, seed=7, num_classes=3))) as running:
        yield running


def test_two_processes_of_the_command_line_give_what_two_chains_give(zoo, forks, black_box, tmp_path):
    models = [zoo[0], f"endpoint:{black_box.address}", *zoo[1:]]  # were it a network, the second process had it
    config = _config(models, queries={"budget": 50, "pictures_per_request": 64}, trainer={"steps": 4})
    written = tmp_path / "run.yaml"
    written.write_text(config.to_yaml(), encoding="utf-8")
    words = ["train", "--config", str(written), "--num-processes", "2", "--output", str(tmp_path / "two"), "--json"]
    (scratch := tmp_path / "scratch").mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TMPDIR": str(scratch)}
    command = [sys.executable, "-m", "hf_free.cli.main", *words]
    done = forks.run(command, env=environment)
    assert done.returncode == 0, done.stderr
    assert not [left.name for left in scratch.iterdir() if "elastic" in left.name or "launcher" in left.name]
    assert json.loads(done.stdout)["output"] == str(tmp_path / "two")  # one document: the first process alone prints
    assert "2 processes (2 on this machine), each with 1 chain of work and 1 thread, on cpu" in done.stderr
    assert done.stderr.count("Training conv4_32") == 1
    assert done.stderr.count("query budget is spent") == 1
    assert black_box.answered == 50
    one = FreeConfig.from_dict(merge(config.to_dict(), {"trainer": {"chains": 2}}))
    train(one, output=tmp_path / "one")
    assert black_box.answered == 100
    assert _same(_weights(tmp_path / "two"), _weights(tmp_path / "one"))
    rows = [RunFolder(tmp_path / name).read_log() for name in ("two", "one")]
    assert [row.keys() - {"communication"} for row in rows[0]] == [row.keys() for row in rows[1]]
    assert rows[0][-1]["communication"] > 0
    assert [row["step"] for row in rows[0]] == list(range(1, 5))  # no row twice
    assert (rows[0][-1]["queries"], rows[0][-1]["queries_left"]) == (50, 0)
    assert len(list((tmp_path / "two" / "answers").iterdir())) == 1
    assert yaml.safe_load((tmp_path / "two" / "config.yaml").read_text())["trainer"]["chains"] is None


def test_the_papers_replay_is_shared_out_as_well(zoo, session, tmp_path):
    root, _, _ = session
    train(_config(zoo, **merge(PAPER, {"trainer": {"chains": 2}})), output=tmp_path / "one")
    assert _same(_weights(root / "paper"), _weights(tmp_path / "one"))


def test_all_processes_come_to_the_same_learner(session):
    root, _, _ = session
    states = [torch.load(root / f"paper-{rank}.pt") for rank in range(2)]
    assert _same(*states)


def test_a_run_of_two_processes_goes_on_in_one_with_the_same_numbers(zoo, session, tmp_path, caplog):
    root, _, _ = session
    assert RunFolder(root / "stopped").checkpoint_state()["step"] == 3
    with caplog.at_level(logging.WARNING, logger="hf_free"):
        train(_config(zoo), output=root / "stopped", resume=True)
    assert sum("goes on with 1, which do the same 2 chain(s)" in message for message in caplog.messages) == 1
    train(_config(zoo, trainer={"chains": 2}), output=tmp_path / "whole")
    assert _same(_weights(root / "stopped"), _weights(tmp_path / "whole"))


def test_a_process_that_fails_ends_all_and_says_why_alone(session):
    _, (first, second), seconds = session
    assert first.returncode == second.returncode == 1, (first, second)
    assert "rank 1 of 2: Error: the second disk is full" in second.stderr
    assert "Error" not in first.stderr
    assert "Traceback" not in first.stderr + second.stderr
    assert seconds < 300


def test_two_chains_learn_other_than_one(zoo, tmp_path):
    for chains in (1, 2):
        train(_config(zoo, trainer={"chains": chains, "steps": 3}), output=tmp_path / str(chains))
    assert not _same(_weights(tmp_path / "1"), _weights(tmp_path / "2"))


VANISHING = """
import os, shutil, sys
from pathlib import Path
import torch
from huggingface_hub import HfApi
from hf_free.config.tree import FreeConfig
from hf_free.runtime.launched import Launched
from hf_free.training import step, trainer
import hf_free.training.finishing as finishing
finishing.draw_pictures = lambda *args: None
finishing.draw_heterogeneity = lambda *args, **options: None
root, here = Path(sys.argv[1]), Launched.here()

fills, fill = [], step.fill
def vanishes(*args, **options):
    fills.append(None)
    if len(fills) == 3 and here.rank == 1:
        HfApi().delete_repo("alice/vanishes")
        shutil.rmtree(Path(os.environ["HF_HOME"]) / "hub" / "models--alice--vanishes")
    fill(*args, **options)
step.fill = vanishes
learner = trainer.train(FreeConfig.from_yaml(root / "run.yaml"), output=root / "run")
torch.save(learner.state_dict(), root / f"{here.rank}.pt")
"""


def test_a_teacher_that_vanishes_from_the_hub_is_left_out_by_all_alike(hub, tokens, forks, tmp_path):
    names = ["alice/stays-0", "alice/vanishes", "alice/stays-2", "alice/stays-3"]
    for seed, name in enumerate(names):
        hub.add_repo(name, pico_files("conv4", seed=seed, size=16, num_classes=3))
    config = _config(names, hub={"teacher_memory": "9kB"})  # room for one in each process
    (tmp_path / "run.yaml").write_text(config.to_yaml(), encoding="utf-8")
    client = hub.environment(tokens["alice"], tmp_path / "home")
    more = {name: value for name, value in client.items() if name.startswith("HF_")} | {"HF_HUB_OFFLINE": "0"}
    first, second = run_ranks(forks, VANISHING, str(tmp_path), more=more)
    assert first.returncode == second.returncode == 0, (first, second)
    assert _same(*(torch.load(tmp_path / f"{rank}.pt") for rank in range(2)))
    told = "left out: alice/vanishes: it cannot be loaded any more: "
    assert [one.stderr.count(told) for one in (first, second)] == [1, 0]
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert record["training"]["steps"] == 6
    (skipped,) = record["skipped"]
    assert skipped["reference"] == "alice/vanishes"
    assert skipped["asked"]  # what it said before stays learned


KILLED = """
import os, signal, sys
from hf_free.cli.main import main
from hf_free.runtime.launched import Launched
from hf_free.training import step, trainer

fills, fill = [], step.fill
def dies(*args, **options):
    fills.append(None)
    if len(fills) == 5 and Launched.here().rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    fill(*args, **options)
step.fill = dies
sys.exit(main(["train", "--config", sys.argv[1], "--output", sys.argv[2]]))
"""


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL on Windows")
def test_a_process_that_is_killed_ends_the_others_and_the_last_checkpoint_goes_on(zoo, forks, tmp_path):
    config = _config(zoo, trainer={"checkpoint_every": 2})
    (tmp_path / "run.yaml").write_text(config.to_yaml(), encoding="utf-8")
    begun = time.monotonic()
    first, second = run_ranks(forks, KILLED, str(tmp_path / "run.yaml"), str(tmp_path / "run"))
    assert second.returncode in (-9, 137), second
    assert first.returncode == 1
    assert "rank 0 of 2: Error: rank 0 of 2 has lost the others" in first.stderr
    assert "rank 1 did not come to where it waited" in first.stderr
    assert "--resume goes on from the last checkpoint" in first.stderr
    assert "Traceback" not in first.stderr
    assert time.monotonic() - begun < 300  # not the half hour that a slow one is waited for
    assert RunFolder(tmp_path / "run").checkpoint_state()["step"] == 4
    train(config, output=tmp_path / "run", resume=True)
    train(_config(zoo, trainer={"checkpoint_every": 2, "chains": 2}), output=tmp_path / "whole")
    assert _same(_weights(tmp_path / "run"), _weights(tmp_path / "whole"))


FULL = """
import errno, os, pathlib, sys
from hf_free.cli.main import main

write_text, saves = pathlib.Path.write_text, []
def write(path, *args, **named):
    saves.extend([None] if path.name == "state.json" else [])
    if len(saves) == 2:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    return write_text(path, *args, **named)
pathlib.Path.write_text = write
sys.exit(main(["train", "--config", sys.argv[1], "--output", sys.argv[2]]))
"""


@pytest.mark.long
def test_a_disk_that_fills_up_in_the_first_processs_save_ends_all_and_the_last_checkpoint_goes_on(
    zoo, forks, tmp_path
):
    config, run = _config(zoo, trainer={"checkpoint_every": 2}), tmp_path / "run"
    (tmp_path / "run.yaml").write_text(config.to_yaml(), encoding="utf-8")
    first, second = run_ranks(forks, FULL, str(tmp_path / "run.yaml"), str(run))
    assert first.returncode == second.returncode == 1, (first, second)
    assert f"rank 0 of 2: Error: cannot write 00002-step-4 in {run / 'checkpoints'}: " in first.stderr
    assert f"the checkpoint of step 2 is whole: then go on with hf-free train --resume --output {run}" in first.stderr
    # without a word, or, where the store has gone with the first process, in ignorance of who failed first
    assert not second.stderr or "rank 1 of 2: Error: rank 1 of 2 has lost the others" in second.stderr
    assert "Traceback" not in first.stderr + second.stderr
    train(config, output=run, resume=True)
    train(_config(zoo, trainer={"checkpoint_every": 2, "chains": 2}), output=tmp_path / "whole")
    assert _same(_weights(run), _weights(tmp_path / "whole"))


AGAIN = """
import os, signal, sys, time
from hf_free.cli.main import main
from hf_free.training import step
import hf_free.training.finishing as finishing
finishing.draw_pictures = lambda *args: None
finishing.draw_heterogeneity = lambda *args, **options: None

fills, fill = [], step.fill
def dies(*args, **options):
    fills.append(None)
    if len(fills) == 5 and os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    fill(*args, **options)
step.fill = dies
if os.environ["RANK"] == "0" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "1":
    time.sleep(3)  # until the other has found what the dead first process left
sys.exit(main(["train", "--config", sys.argv[1], "--output", sys.argv[2]]))
"""


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL on Windows")
def test_torchrun_starts_all_again_and_they_go_on_by_themselves(zoo, tmp_path):
    config = _config(zoo, trainer={"checkpoint_every": 2})
    (tmp_path / "run.yaml").write_text(config.to_yaml(), encoding="utf-8")
    (tmp_path / "again.py").write_text(AGAIN, encoding="utf-8")
    # of a fixed port torchrun keeps one store for all attempts: it still says where the dead process was
    words = ["--master-port", str(free_port()), "--nproc-per-node", "2", "--max-restarts", "1"]
    command = [sys.executable, "-m", "torch.distributed.run", *words, str(tmp_path / "again.py")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command += [str(tmp_path / "run.yaml"), str(tmp_path / "run")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Started again after a failure") == 1
    assert [row["step"] for row in RunFolder(tmp_path / "run").read_log()] == list(range(1, 7))
    train(_config(zoo, trainer={"checkpoint_every": 2, "chains": 2}), output=tmp_path / "whole")
    assert _same(_weights(tmp_path / "run"), _weights(tmp_path / "whole"))
