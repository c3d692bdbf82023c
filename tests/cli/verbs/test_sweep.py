"""`hf-free sweep`: a file that can be resumed, and what is refused."""

from __future__ import annotations

import errno
import io
import json
import os
from pathlib import Path

import pytest
from program import refused

from hf_free.cli.main import main
from hf_free.evaluation import timm_sweep
from hf_free.evaluation.timm_sweep import SweepRow


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


ROW = {"module": "resnet", "model": "x", "outcome": "passed", "parameters": 5, "input_size": [3, 8, 8]}
ROW |= {"reason": "", "model_args": {}, "normalization": {}, "seconds": {"load": 0.5}}


def test_rows_that_no_sweep_writes_are_refused_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "rows.jsonl"
    words = ("sweep", "resnet", "--output", str(output), "--resume")
    output.write_text(json.dumps(ROW) + "\n")
    assert main([*words, "-q"]) == 0
    assert capsys.readouterr().out == "resnet\n"
    odd = {"parameters": ["many", float("nan"), 10**400, -1], "seconds": [[1], {"a": "b"}], "outcome": [5, "fine"]}
    odd |= {"model_args": [7], "input_size": ["abc", [[1]]], "normalization": [{"a": {}}], "module": [None, ["a"]]}
    texts = [json.dumps({**ROW, key: value}) + "\n" for key, values in odd.items() for value in values]
    for text in (*texts, "notes of mine", json.dumps(ROW) + "\nnotes of mine"):
        output.write_text(text)
        assert "hf-free sweep" in refused(capsys, *words), text
        assert output.read_text() == text


def test_a_file_of_zeros_takes_no_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "rows.jsonl"
    with output.open("wb") as file:
        file.truncate(2**40)
    assert "is not a result of hf-free sweep" in refused(capsys, "sweep", "--output", str(output), "--resume")


def test_what_power_loss_leaves_at_the_end_is_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "rows.jsonl"
    whole = json.dumps(ROW).encode() + b"\n"
    for rest in (b"\0" * 100, b'{"module": "cut', b'{"mod'):
        output.write_bytes(whole + rest)
        assert main(["sweep", "resnet", "--output", str(output), "--resume", "-q"]) == 0
        assert output.read_bytes() == whole
    assert capsys.readouterr().out == "resnet\n" * 3


def test_a_link_in_a_circle_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.jsonl").symlink_to("rows.jsonl")
    message = refused(capsys, "sweep", "conv4", "--output", str(tmp_path / "rows.jsonl"))
    assert "Unexpected" not in message
    assert "is a link that leads in a circle" in message


@pytest.mark.parametrize("before", ["", json.dumps({**ROW, "module": "vgg"}) + "\n"])
def test_a_full_disk_is_said_of_the_file_which_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], before: str
) -> None:
    class Full(io.FileIO):
        def write(self, data: bytes) -> int:  # type: ignore[override]
            super().write(data[:10])
            raise OSError(errno.ENOSPC, "No space left on device")

    output, real = tmp_path / "rows.jsonl", Path.open
    if before:
        output.write_text(before)
    monkeypatch.setattr(timm_sweep, "sweep", lambda *_, **__: [SweepRow.from_dict(ROW)])
    monkeypatch.setattr(
        Path, "open", lambda path, mode="r", *a, **k: Full(path, mode) if "a" in mode else real(path, mode, *a, **k)
    )
    words = ("sweep", "resnet", "vgg", "--output", str(output))
    message = refused(capsys, *words, *(["--resume"] if before else []))
    assert f"cannot write rows.jsonl in {tmp_path}: no space is left on its file system" in message
    assert ("the same command with --resume" in message) is bool(before)
    assert output.exists() is bool(before)
    assert not before or output.read_text() == before
