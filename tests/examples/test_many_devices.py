"""The files of examples/many_devices: launchers read them, and two launchers on one machine train together."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pico import pico_folder
from runs import TINY
from safetensors.torch import load_file

from hf_free.config.reading import merge
from hf_free.config.tree import FreeConfig
from hf_free.training.launch import free_port
from hf_free.training.trainer import train

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "many_devices"


@pytest.mark.parametrize("name", ["cpus.yaml", "gpus.yaml"])
def test_accelerate_takes_the_configurations_for_several_processes(name):
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.utils import DistributedType

    found = load_config_from_file(str(FOLDER / name))
    assert found.distributed_type == DistributedType.MULTI_GPU  # what starts several processes on CPUs, too
    assert (found.num_machines, found.num_processes, found.mixed_precision) == (1, 2, "no")


@pytest.mark.parametrize("missing", ["MACHINE", "FIRST"])
def test_a_machine_that_is_told_too_little_says_what_is_missing(missing):
    given = {"PATH": "/usr/bin:/bin", "MACHINE": "0", "FIRST": "10.0.0.1"}
    del given[missing]
    done = subprocess.run([str(FOLDER / "two_machines.sh")], env=given, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert {"MACHINE": "MACHINE: 0 on the first machine", "FIRST": "the address of the first"}[missing] in done.stderr


SCONTROL = """#!/bin/sh
[ "$*" = "show hostnames node[1-2]" ] && printf '127.0.0.1\\nnode2\\n'
"""
SRUN = """#!/bin/bash
shift  # --kill-on-bad-exit=1
for node in 0 1; do SLURM_NODEID=$node "$@" & done
wait -n && wait -n
"""
"""What SLURM's commands do here: the two nodes are this machine."""


def _environment(folder: Path) -> dict[str, str]:
    for name, text in {"scontrol": SCONTROL, "srun": SRUN}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "PORT": str(free_port()),
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_ID": "7",
        "HF_FREE_EXAMPLES": str(FOLDER),
    }


@pytest.mark.long
@pytest.mark.skipif(shutil.which("bash") is None or os.name == "nt", reason="scripts for bash")
@pytest.mark.parametrize("start", ["two launchers under SLURM", "accelerate launch with cpus.yaml"])
def test_processes_that_the_examples_start_train_one_learner(tmp_path, start):
    """The SLURM script starts two_machines.sh twice: two launchers, which meet on loopback."""
    models = [str(pico_folder(tmp_path / f"t{seed}", size=16, num_classes=3, seed=seed)) for seed in range(2)]
    values = merge(TINY, {"models": models, "trainer": {"steps": 3}})
    (tmp_path / "run.yaml").write_text(FreeConfig.from_dict(values).to_yaml(), encoding="utf-8")
    words = ["--config", str(tmp_path / "run.yaml"), "--output", str(tmp_path / "run")]
    if start.startswith("two"):
        command = ["bash", str(FOLDER / "train.slurm"), *words]
    else:
        launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(FOLDER / "cpus.yaml")]
        command = [*launcher, "-m", "hf_free.cli.main", "train", *words]
    done = subprocess.run(
        command, env=_environment(tmp_path), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "2 processes" in done.stderr
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    train(FreeConfig.from_dict(merge(values, {"trainer": {"chains": 2}})), output=tmp_path / "alone")
    torch.set_num_threads(threads)
    found, expected = (load_file(tmp_path / name / "learner" / "model.safetensors") for name in ("run", "alone"))
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
