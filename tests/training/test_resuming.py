"""What a run that goes on must share with its checkpoint, and what it may change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hf_free.config.tree import FreeConfig
from hf_free.errors import RunError
from hf_free.provenance.renamed import RENAMED
from hf_free.training.checkpoint_store import WholeCheckpoint
from hf_free.training.manifest import Manifest, Topology
from hf_free.training.resuming import FIXED, check_configuration, check_is_whole, check_topology
from hf_free.version import __version__

CONFIG = FreeConfig(seed=1).to_dict()


def _checkpoint(**about):
    return WholeCheckpoint(Path("run/checkpoints/00001-step-5"), Manifest(5, CONFIG, **about))


def _with(key, value):
    section, _, name = key.rpartition(".")
    changed = {**CONFIG[section], name: value} if section else value
    return {**CONFIG, section or name: changed}


def test_the_same_settings_pass_in_silence():
    assert check_configuration(_checkpoint(), CONFIG) == []


@pytest.mark.parametrize("key", FIXED)
def test_a_setting_that_the_files_depend_on_is_refused_by_name(key):
    with pytest.raises(RunError, match=f"of another configuration: {key} was "):
        check_configuration(_checkpoint(), _with(key, "other"))


@pytest.mark.parametrize(
    ("key", "value"),
    [("trainer.steps", 3), ("trainer.max_minutes", 1.0), ("trainer.device", "cuda"), ("hub.push_to_hub", "a/b")],
)
def test_how_long_and_where_a_run_goes_on_is_free(key, value):
    assert check_configuration(_checkpoint(), _with(key, value)) == []


def test_other_settings_are_said_once_with_both_values():
    assert check_configuration(_checkpoint(), _with("bell.lr", 0.5)) == [
        "goes on with other settings: bell.lr 0.01 -> 0.5"
    ]


def test_muon_cannot_come_or_go():
    check_configuration(_checkpoint(), _with("bell.matrix_lr", 0.01))
    with pytest.raises(RunError, match=r"bell\.matrix_lr was 0\.03, now 0"):
        check_configuration(_checkpoint(), _with("bell.matrix_lr", 0))


def test_a_learner_that_is_continued_brings_its_own_settings():
    before = {**CONFIG, "learner": {**CONFIG["learner"], "init_from": "me/few-shot", "backbone": "resnet10_small"}}
    chosen = WholeCheckpoint(Path("x"), Manifest(5, before))
    now = {**before, "learner": {**before["learner"], "backbone": "conv4_64"}}
    assert check_configuration(chosen, now) == []


def test_another_number_of_processes_is_not_another_place():
    here = Topology(torch_version="2.0")
    assert check_topology(_checkpoint(topology=replace(here, ranks=2)), here) == []


def test_another_place_is_said_once():
    here = Topology(1, "cuda", 1, "2.0")
    assert check_topology(_checkpoint(topology=here), here) == []
    (line,) = check_topology(_checkpoint(topology=Topology(1, "cpu", 2, "2.0"), version="0.0"), here)
    changed = f"hf-free 0.0 -> {__version__}, device cpu -> cuda, threads 2 -> 1"
    assert line == f"goes on elsewhere ({changed}): not the same to the bit"


def test_a_configuration_that_was_cut_short_is_refused_with_the_copy_of_its_checkpoint(tmp_path):
    whole, written = FreeConfig(seed=1).to_yaml(), tmp_path / "config.yaml"
    written.write_text(whole)
    check_is_whole(written, _checkpoint())
    before_trainer = whole.partition("\ntrainer:")[0] + "\n"
    for left, missing in (
        (before_trainer, "trainer, queries, hub"),
        (whole.rpartition("\n  ")[0] + "\n", "hub"),
        ("", "method"),
        (whole[: len(whole) // 2], ""),
        ("\0" * 100, "method"),
    ):
        written.write_text(left)
        with pytest.raises(RunError, match=rf"config\.yaml is damaged: settings are missing of {missing}") as refused:
            check_is_whole(written, _checkpoint())
        assert "cp run/checkpoints/00001-step-5/run/config.yaml" in refused.value.action
    check_is_whole(written, None)  # nothing to compare with: reading it says what is wrong


def test_settings_that_have_got_new_names_meanwhile_are_not_missing(tmp_path):
    old, new = next((old, new) for old, new in RENAMED.items() if "." in old and "." in new)
    (was_in, was), (is_in, name) = old.split("."), new.split(".")
    before = {key: dict(value) if isinstance(value, dict) else value for key, value in CONFIG.items()}
    before.setdefault(was_in, {})[was] = before[is_in].pop(name)
    (tmp_path / "config.yaml").write_text(FreeConfig(seed=1).to_yaml())  # written anew by a later version
    chosen = WholeCheckpoint(Path("run/checkpoints/00001-step-5"), Manifest(5, before))
    check_is_whole(tmp_path / "config.yaml", chosen)
