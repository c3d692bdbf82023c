"""`hf-free train --num-processes N`: this command again in N processes on this machine, by Accelerate's launcher."""

from __future__ import annotations

import logging
import os
import signal
import socket
import tempfile
from collections.abc import Mapping, Sequence

import psutil

from hf_free.errors import RunError
from hf_free.runtime.processes import available_cores
from hf_free.training.folder import RunFolder

logger = logging.getLogger(__name__)

PROGRAM = "hf_free.cli.main"
"""The module that each process runs, as `accelerate launch -m` and `torchrun -m` take it."""

STOPPING_SECONDS = "600"
"""How long the launcher waits for processes that were asked to stop: they end their step first. torch's own 30 seconds
are less than a step can take (docs/experiments/speed.md)."""


def launch(words: Sequence[str], processes: int) -> int:
    """Run `hf-free WORDS` in several processes that know of each other, and wait for them.

    Where there are GPUs each process has one of them; on CPUs they share the cores.

    Args:
        words: The command line without the program's name.
        processes: How many, at least 2.

    Returns:
        The exit code of the first process that failed, 128 and its number where a signal ended the launcher, else 0.

    Raises:
        RunError: no port is free for the processes to meet at.
    """
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # --multi_gpu is Accelerate's word for several processes on one machine: --cpu starts one, whatever else is asked
    given = ["--multi_gpu", "--num_processes", str(processes), "--num_machines", "1", "--mixed_precision", "no"]
    given += ["--dynamo_backend", "no", "--main_process_port", str(free_port()), "-m", PROGRAM, *words]
    # torchrun would set OMP_NUM_THREADS to 1 where nobody has, which no process could tell from a user's own wish
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // processes)))
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", STOPPING_SECONDS)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # stacks of C++ where a connection ends, as warnings
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the failed process has said why
    try:
        with tempfile.TemporaryDirectory(prefix="hf-free-launcher-", ignore_cleanup_errors=True) as logs:
            # the launcher's own folder of logs would stay in the temporary folder for good
            launch_command(launch_command_parser().parse_args(["--log_dir", logs, *given]))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:  # which leaves a process no time for a message of its own
            name = signal.Signals(-failure.exitcode).name
            logger.error("rank %d of %d was ended by %s from outside, perhaps for its memory", rank, processes, name)
        return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
    except SignalException as error:
        return 128 + error.sigval
    return 0


def is_another_attempt(run: RunFolder, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether torchrun has started this process again after a failure, and an attempt before has left a checkpoint.

    A checkpoint from before the launcher's own start is another run's, which nobody has asked to go on.

    Args:
        run: The run's folder.
        environment: This process's; torchrun counts its attempts there.
    """
    if environment.get("TORCHELASTIC_RESTART_COUNT", "0") == "0" or run.last_step() is None:
        return False
    written = (run.whole_checkpoint().folder / "state.json").stat().st_mtime
    return written > psutil.Process(os.getppid()).create_time()


def free_port() -> int:
    """A port of this machine that nobody uses.

    Raises:
        RunError: there is none.
    """
    try:
        with socket.socket() as asked:
            asked.bind(("127.0.0.1", 0))
            return int(asked.getsockname()[1])
    except OSError as error:
        raise RunError(
            f"no port is free for the processes to meet at: {error.strerror}",
            allowed="one free TCP port of this machine",
            action="end what holds them, or train in one process",
        ) from error
