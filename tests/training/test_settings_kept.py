"""A resumption with new settings that fails before its first step is done leaves the run as it was."""

from __future__ import annotations

import json

import pytest
from pico import pico_network, pico_run

from hf_free.config.tree import FreeConfig
from hf_free.errors import RunError
from hf_free.training import setup, step
from hf_free.training.trainer import train


def _fail(*_, **__):
    raise RunError("of another kind")


def _files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_settings_are_written_down_once_a_step_is_done(tmp_path, monkeypatch):
    """A resumption that failed in its first step had written them, and a checkpoint with them."""
    networks = [pico_network(seed=seed) for seed in (0, 1)]

    def run(steps, *, resume):
        values = pico_run()
        values["trainer"]["steps"] = steps
        return train(FreeConfig.from_dict(values), output=tmp_path / "run", models=networks, resume=resume)

    run(1, resume=False)
    kept = _files(tmp_path / "run")
    for module, name in ((setup, "load_checkpoint"), (step, "take_step")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, _fail)
            with pytest.raises(RunError, match="of another kind"):
                run(2, resume=True)
        assert _files(tmp_path / "run") == kept
    run(2, resume=True)
    assert "steps: 2" in (tmp_path / "run" / "config.yaml").read_text()
    rows = [json.loads(line)["step"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert rows == [1, 2]
