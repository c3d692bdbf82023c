"""The files of examples/many_devices: launchers can read them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "many_devices"


@pytest.mark.parametrize("name", ["cpus.yaml", "gpus.yaml"])
def test_accelerate_takes_the_configurations_for_several_processes(name):
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.utils import DistributedType

    found = load_config_from_file(str(FOLDER / name))
    assert found.distributed_type == DistributedType.MULTI_GPU  # what starts several processes on CPUs, too
    assert (found.num_machines, found.num_processes, found.mixed_precision) == (1, 2, "no")


@pytest.mark.parametrize("name", ["two_machines.sh", "train.slurm"])
def test_scripts_are_whole_and_say_what_is_missing(name):
    subprocess.run(["bash", "-n", str(FOLDER / name)], check=True)


def test_a_machine_without_a_number_is_told_so():
    done = subprocess.run(
        [str(FOLDER / "two_machines.sh")], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "MACHINE: 0 on the first machine" in done.stderr
