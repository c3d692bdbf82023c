"""What surrounds a run is as before when it is over, whatever ended it."""

from __future__ import annotations

import errno
import signal
from contextlib import nullcontext

import pytest
import torch

from hf_free.config.sections import HubConfig, TrainerConfig
from hf_free.errors import QueryBudgetError, RunError, StorageError
from hf_free.teachers.query_budget import QueryBudget
from hf_free.training.folder import RunFolder
from hf_free.training.session import opened


def _opened(output, **trainer):
    return opened(
        output,
        trainer=TrainerConfig(device="cpu", **trainer),
        hub=HubConfig(),
        token=None,
        resume=False,
        overwrite=False,
        progress=False,
        console=None,
    )


@pytest.mark.parametrize("end", [None, KeyboardInterrupt, ZeroDivisionError])
def test_signals_and_algorithms_are_as_before(tmp_path, end):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(end) if end else nullcontext(), _opened(tmp_path / "run", deterministic=True):
        assert torch.are_deterministic_algorithms_enabled()
        assert signal.getsignal(signal.SIGTERM) != before[1]
        if end is not None:
            raise end
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_folder_is_this_sessions_until_it_ends(tmp_path):
    with _opened(tmp_path / "run") as begun:
        assert begun.folder.root == tmp_path / "run"
        assert begun.ranks.count == 1
        with pytest.raises(RunError, match="in use"), _opened(tmp_path / "run"):
            pass
    with _opened(tmp_path / "run"):
        pass


def test_a_full_disk_is_said_with_what_is_safe(tmp_path):
    place = tmp_path / "run"
    with pytest.raises(StorageError) as full, _opened(place):
        raise StorageError(
            f"{place / 'log.jsonl'} cannot be written: {errno.errorcode[errno.ENOSPC]}", action="make room"
        )
    assert f"{place / 'log.jsonl'} cannot be written" in str(full.value)
    assert "nothing was trained yet" in str(full.value)


@pytest.mark.parametrize("step", [None, 7])
def test_a_budget_that_is_too_small_advises_to_resume_where_there_is_a_checkpoint(tmp_path, monkeypatch, step):
    place = tmp_path / "run"
    monkeypatch.setattr(RunFolder, "last_step", lambda _: step)
    with pytest.raises(QueryBudgetError, match="4 more times; 2 of 2 queries are left") as small, _opened(place):
        QueryBudget(2).spend(4, "endpoint:http://host/x")
    resumes = f": hf-free train --resume --output {place} --query-budget N"
    assert small.value.action == "a higher --query-budget" + (resumes if step else "")


def test_a_run_that_left_files_is_begun_again_with_overwrite(tmp_path):
    """The same command alone would be refused: the folder is not empty."""
    place = tmp_path / "run"

    def fail():
        (place / "config.yaml").write_text("seed: 1\n")
        raise StorageError("best.safetensors cannot be written", action="make room")

    with pytest.raises(StorageError, match="type the same command again, with --overwrite"), _opened(place):
        fail()
