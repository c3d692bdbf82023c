"""A resumption with new settings that fails leaves the settings of the run as they were."""

from __future__ import annotations

import pytest
from pico import pico_network, pico_run

from hf_free.config.tree import FreeConfig
from hf_free.errors import RunError
from hf_free.training import setup
from hf_free.training.trainer import train


def test_settings_are_written_down_once_the_run_goes_on(tmp_path, monkeypatch):
    networks = [pico_network(seed=seed) for seed in (0, 1)]

    def run(steps, *, resume):
        values = pico_run()
        values["trainer"]["steps"] = steps
        return train(FreeConfig.from_dict(values), output=tmp_path / "run", models=networks, resume=resume)

    run(1, resume=False)
    kept = {name: (tmp_path / "run" / name).read_bytes() for name in ("config.yaml", "teachers.json", "log.jsonl")}
    with monkeypatch.context() as patch:
        patch.setattr(setup, "load_checkpoint", lambda *_: (_ for _ in ()).throw(RunError("of another kind")))
        with pytest.raises(RunError, match="of another kind"):
            run(2, resume=True)
    assert {name: (tmp_path / "run" / name).read_bytes() for name in kept} == kept
    run(2, resume=True)
    assert "steps: 2" in (tmp_path / "run" / "config.yaml").read_text()
