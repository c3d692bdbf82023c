"""What a run leaves on disk: whole files or none, a log that goes on, checkpoints that survive a stop."""

from __future__ import annotations

import json

import pytest

from hf_free.config import FreeConfig
from hf_free.errors import RunError
from hf_free.run_folder import RunFolder


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "runs" / "first")


def _save(value):
    def save(folder):
        assert list(folder.iterdir()) == []
        (folder / "state.json").write_text(json.dumps(value), encoding="utf-8")

    return save


def _value(folder):
    return json.loads((folder / "state.json").read_text(encoding="utf-8"))


def test_nothing_is_made_before_something_is_written(run):
    assert not run.root.exists()
    assert run.read_log() == []
    assert not run.root.exists()


def test_configuration_is_read_back(run):
    config = FreeConfig.from_dict({"seed": 7, "models": ["org/a", "b"], "five": {"inner_steps": 9}})
    run.write_text(run.config, config.to_yaml())
    assert run.read_config() == config


def test_a_write_that_fails_leaves_the_old_file(run):
    run.write_json(run.record, {"name": "Größe"})
    before = run.record.read_bytes()
    assert json.loads(before.decode("utf-8")) == {"name": "Größe"}
    with pytest.raises(TypeError, match="not JSON serializable"):
        run.write_json(run.record, {"value": object()})
    with pytest.raises(UnicodeEncodeError):
        run.write_text(run.record, "half \ud800")
    assert run.record.read_bytes() == before
    assert [path.name for path in run.root.iterdir()] == ["record.json"]  # no scraps either


def test_log_grows_and_is_cut_where_a_run_goes_on(run):
    for step in (1, 10, 20, 30):
        run.append_log({"step": step, "answers": 1 / step})
    assert [row["step"] for row in run.read_log()] == [1, 10, 20, 30]
    assert [row["step"] for row in run.read_log(before_step=20)] == [1, 10, 20]
    run.append_log({"step": 21})
    assert [row["step"] for row in run.read_log()] == [1, 10, 20, 21]
    assert run.read_log()[1] == {"step": 10, "answers": 0.1}


def test_a_line_that_a_kill_cut_short_is_dropped(run):
    run.append_log({"step": 1})
    with run.log.open("a", encoding="utf-8") as file:
        file.write('{"step": 2, "answ')
    assert run.read_log(before_step=5) == [{"step": 1}]
    run.append_log({"step": 3})
    assert [row["step"] for row in run.read_log()] == [1, 3]


def test_checkpoint_is_replaced_whole(run):
    run.write_checkpoint(_save(1))
    run.write_checkpoint(_save(2))
    assert _value(run.checkpoint_to_resume()) == 2
    assert sorted(path.name for path in run.root.iterdir()) == ["checkpoint"]


def test_a_failed_save_keeps_the_old_checkpoint(run):
    run.write_checkpoint(_save(1))

    def fail(folder):
        (folder / "memory.safetensors").write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run.write_checkpoint(fail)
    assert _value(run.checkpoint_to_resume()) == 1
    run.write_checkpoint(_save(2))  # scraps of the failure are in nobody's way
    assert _value(run.checkpoint_to_resume()) == 2


def test_a_stop_between_the_two_renames(run):
    run.write_checkpoint(_save(1))
    run.checkpoint.rename(run.root / "checkpoint.old")
    assert _value(run.checkpoint_to_resume()) == 1
    with pytest.raises(ZeroDivisionError):
        run.write_checkpoint(lambda folder: 1 / 0)
    assert _value(run.checkpoint_to_resume()) == 1  # still the only one there is
    run.write_checkpoint(_save(2))
    assert _value(run.checkpoint_to_resume()) == 2


@pytest.mark.parametrize("exists", [False, True])
def test_nothing_to_resume(run, exists):
    if exists:
        run.checkpoint.mkdir(parents=True)
    with pytest.raises(RunError, match="holds no checkpoint to resume"):
        run.checkpoint_to_resume()
