"""Accelerate's set-up: one process, several, and what is refused."""

from __future__ import annotations

import json
import random
import signal

import pytest
import torch
import torch.distributed as dist
from ranks import run_ranks

from hf_free.errors import ConfigError, FailedElsewhere, RunError
from hf_free.runtime.distributed import (
    ALONE,
    SETTINGS,
    Ranks,
    check_environment,
    connect,
    make_accelerator,
    seed_everything,
    threads_of_a_rank,
)
from hf_free.runtime.launched import Launched


def test_a_seed_makes_the_same_numbers_everywhere():
    drawn = []
    for seed in (3, 3, 4):
        seed_everything(seed)
        drawn.append((random.random(), torch.rand(3).tolist()))
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_on_a_cpu_there_is_one_process_on_the_cpu():
    accelerator = make_accelerator(torch.device("cpu"))
    assert (accelerator.num_processes, accelerator.device.type) == (1, "cpu")


def test_alone_everything_is_ones_own():
    assert connect(Launched(), "auto", environment={}) is ALONE
    assert ALONE.gather({"a": 1}) == [{"a": 1}]
    assert ALONE.first(3) == 3
    rows = torch.rand(2, 3)
    assert ALONE.rows(rows) is rows
    with pytest.raises(RunError, match="mine"), ALONE.failing_together():
        raise RunError("mine")


@pytest.mark.parametrize("name", SETTINGS)
def test_environment_variables_that_would_make_the_configuration_lie_are_refused(name):
    plain, key = SETTINGS[name]
    check_environment({})
    check_environment({name: plain})
    with pytest.raises(ConfigError, match=name) as refused:
        check_environment({name: "BF16"})
    assert key is None or key in refused.value.action


def test_a_device_of_ones_own_is_not_for_several_processes():
    with pytest.raises(ConfigError, match="2 processes"):
        connect(Launched(1, 2, 1, 2), "cuda:1", environment={})


def test_processes_of_one_machine_share_its_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    assert [threads_of_a_rank(count) for count in (1, 2, 3, 8, 20)] == [8, 4, 2, 1, 1]
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)  # as OMP_NUM_THREADS=1 asks for
    assert threads_of_a_rank(2) == 1


TALK = """
import atexit, json, sys, time
from pathlib import Path
import torch

def show():
    names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    print(json.dumps([name for name in names if "gloo" in name]), flush=True)

atexit.register(show)  # runs after those that are registered later
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from hf_free.errors import FailedElsewhere, RunError
from hf_free.runtime.distributed import LostRank, connect, make_accelerator, remember
from hf_free.runtime.launched import Launched

here, found = Launched.here(), {}
found["by itself"] = Accelerator().num_processes  # what connect has to be on guard against
AcceleratorState._reset_state(reset_partial_state=True)
torch.distributed.barrier()  # one that leaves earlier is a failure of the other
torch.distributed.destroy_process_group()  # which it has made all the same
ranks = connect(here, "cpu")
assert connect(here, "cpu").count == 2  # a second run in the same processes
found["processes"] = make_accelerator(ranks.device).num_processes
found["objects"] = ranks.gather({"rank": here.rank})
found["first"] = ranks.first(f"of {here.rank}")
found["rows"] = ranks.rows(torch.tensor([[here.rank + 1.0, 1e-8]])).tolist()
values = torch.full((2, 3), float(here.rank)).T
ranks.copy_from_first([values])
found["copied"] = values.sum().item()
network = torch.nn.Linear(2, 2)
accelerator = make_accelerator(ranks.device)
remember(accelerator, [network], [torch.optim.Adam(network.parameters())])
found["wrapped"] = accelerator._models[-1] is not network
found["talked"] = ranks.seconds > 0
ranks.wait()
try:
    with ranks.failing_together():
        if here.rank == 1:
            raise RunError("broken")
        try:
            ranks.wait()
        except LostRank:
            found["lost"] = True
            raise
except FailedElsewhere:
    found["ends"] = "silently"
except RunError as error:
    found["ends"] = str(error)
print(json.dumps(found), flush=True)
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="Accelerator() takes the GPU there")
def test_two_processes_talk_and_fail_together(forks):
    """In a store that has seen an attempt before, in which a process failed that called the others."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    for key in ("hf_free/failed", "hf_free/meeting"):
        store.set(key, "dead")
    ended = run_ranks(forks, TALK, store=store)
    assert [one.returncode for one in ended] == [0, 0], ended
    # a thread of gloo's that asks for Python's lock while the interpreter ends would end the process with SIGABRT
    assert [one.stdout.splitlines()[-1] for one in ended] == ["[]", "[]"]
    first, second = (json.loads(one.stdout.splitlines()[-2]) for one in ended)
    for found in (first, second):
        assert found["by itself"] == 1  # on a machine without GPU each process is alone unless cpu=True
        assert found["processes"] == 2
        assert found["objects"] == [{"rank": 0}, {"rank": 1}]
        assert found["first"] == "of 0"
        assert found["rows"] == [[1.0, torch.tensor(1e-8).item()], [2.0, torch.tensor(1e-8).item()]]
        assert found["copied"] == 0
        assert not found["wrapped"]
        assert found["talked"]
    assert second["ends"] == "broken"
    assert first["lost"]
    assert first["ends"] == "silently"


def test_a_port_where_nobody_answers_is_named(monkeypatch):
    def refuses(**options):
        raise RuntimeError("The server socket has failed to listen: EADDRINUSE\nException raised from listen: a stack")

    monkeypatch.setattr("hf_free.runtime.distributed.Accelerator", refuses)
    monkeypatch.setattr("hf_free.runtime.distributed.end_with_launcher", lambda: None)
    there = {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}
    before = torch.get_num_threads()
    with pytest.raises(
        RunError, match=r"rank 0 of 2 cannot meet the others at 10.0.0.1:29500 .*EADDRINUSE"
    ) as refused:
        connect(Launched(0, 2, 0, 2), "cpu", environment=there)
    torch.set_num_threads(before)
    assert "stack" not in str(refused.value)
    assert "--main_process_port" in refused.value.action


def test_fewer_processes_than_started_are_noticed(monkeypatch):
    monkeypatch.setattr("hf_free.runtime.distributed.end_with_launcher", lambda: None)
    monkeypatch.setattr(
        "hf_free.runtime.distributed.Accelerator", lambda **options: type("A", (), {"num_processes": 1})
    )
    with pytest.raises(RunError, match=r"sees 1 process.* started 2"):
        connect(Launched(0, 2, 0, 2), "cpu", environment={})


def test_who_ends_without_a_word_is_an_error_all_the_same():
    assert issubclass(FailedElsewhere, RunError)
    assert str(Ranks(Launched(1, 2, 1, 2)).launched) == "rank 1 of 2"


def test_a_store_that_has_gone_with_its_launcher_keeps_nobody_from_talking(monkeypatch):
    class Gone:
        def set(self, *_):
            raise RuntimeError("Connection reset by peer")

    monkeypatch.setattr("torch.distributed.distributed_c10d._get_default_store", Gone)
    monkeypatch.setattr("torch.distributed.all_gather_object", lambda found, value: found.insert(0, value))
    assert Ranks(Launched(0, 2, 0, 2)).gather("said")[0] == "said"


STANDS = """
import os, signal, time
from hf_free.runtime import distributed
from hf_free.runtime.launched import Launched

distributed.TIMEOUT_MINUTES = 2 / 60
here = Launched.here()
ranks = distributed.connect(here, "cpu")
ranks.wait()
if here.rank == 1:
    if os.fork() == 0:  # wakes it again, so that the test ends
        time.sleep(6)
        os.kill(os.getppid(), signal.SIGCONT)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGSTOP)
else:
    try:
        ranks.wait()
    except distributed.LostRank as error:
        print(error, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="nothing stops a process there")
def test_a_process_that_stands_still_is_named(forks):
    first, _ = run_ranks(forks, STANDS)
    assert "rank 0 of 2 has lost the others" in first.stdout
    assert "rank 1 did not come to where it waited" in first.stdout
