"""`hf-free sweep`: a file that can be resumed, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from program import refused

from hf_free.cli.main import main


def test_sweep_writes_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "sweep.jsonl"
    assert main(["sweep", "conv4", "--output", str(output), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["model"], row["outcome"]) == ("conv4_32", "passed")
    assert main(["sweep", "conv4", "--output", str(output)]) == 1
    assert "exists" in capsys.readouterr().err
    failed = {**row, "module": "starnet", "outcome": "failed", "reason": "load: something"}
    output.write_text(output.read_text() + json.dumps(failed) + "\n" + '{"module": "cut')
    assert main(["sweep", "conv4", "starnet", "--output", str(output), "--resume", "--strict"]) == 1
    out, err = capsys.readouterr()
    assert "conv4_32" in out
    assert "starnet: failed (conv4_32): load: something" in err
    assert "1 passed, 1 failed" in err
    assert output.read_text().count("\n") == 2  # nothing was tried again
    assert main(["sweep", "conv4", "starnet", "--output", str(output), "--resume", "-q"]) == 0
    assert capsys.readouterr().out == "conv4\n"
    output.write_text(output.read_text() + '{"module": "cut')
    assert main(["sweep", "conv4", "starnet", "resnet_small", "--output", str(output), "--resume", "--json"]) == 0
    modules = [json.loads(line)["module"] for line in output.read_text().splitlines()]
    assert modules == ["conv4", "starnet", "resnet_small"]  # the torn line is gone, the new row has its own


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no_such_module"], "timm has no module 'no_such_module'"),
        (["--resume"], "--resume without --output"),
        (["--output", "x.txt"], "--output x.txt"),
    ],
)
def test_sweep_refuses(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", *words]) == 1
    assert message in capsys.readouterr().err


def test_a_pipe_is_not_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "rows.jsonl")
    message = refused(capsys, "sweep", "resnet", "--output", str(tmp_path / "rows.jsonl"), "--resume")
    assert "rows.jsonl is no regular file" in message
