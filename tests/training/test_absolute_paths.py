"""Paths of a configuration, absolute."""

from __future__ import annotations

import os

from hf_free import FreeConfig
from hf_free.training.absolute_paths import absolute_config


def test_paths_are_absolute_and_names_of_the_hub_are_not(tmp_path, monkeypatch):
    for path in ("local/set/cat", "lab/one", "runs/first"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "list.yaml").write_text("teachers: []\n")
    monkeypatch.chdir(tmp_path)
    config = absolute_config(
        FreeConfig.from_dict(
            {
                "models": ["lab/one", "lab/two@v1:0-4", "list.yaml", "list.yaml#a", "collection:lab/all", "./gone"],
                "imports": ["nets.py", "~/nets.py"],
                "learner": {"init_from": "runs/first"},
                "trainer": {"validation_dataset": "./local/set:small"},
                "hub": {"cache_dir": "cache"},
            }
        )
    )
    here = str(tmp_path)
    assert config.models == [
        *(f"{here}/lab/one", "lab/two@v1:0-4", f"{here}/list.yaml", f"{here}/list.yaml#a", "collection:lab/all"),
        "./gone",
    ]
    assert config.imports == [f"{here}/nets.py", os.path.expanduser("~/nets.py")]
    assert config.learner.init_from == f"{here}/runs/first"
    assert config.trainer.validation_dataset == f"{here}/local/set:small"
    assert config.hub.cache_dir == f"{here}/cache"
    other = FreeConfig.from_dict({"learner": {"init_from": "timm:resnet18"}, "trainer": {"validation_dataset": "a/b"}})
    assert absolute_config(other) == other
