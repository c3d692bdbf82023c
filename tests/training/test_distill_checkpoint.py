"""`distill`, stopped or killed, goes on from its last checkpoint with the same numbers."""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import signal
from types import SimpleNamespace

import pytest
import torch
from metered import TAKEN, meter_all_runs
from pico import pico_folder
from records import config_of
from safetensors.torch import load_file

from hf_free import FreeConfig, MetaLearner, RunError, distill, pool
from hf_free.config.sections import BellConfig, FiveConfig, LearnerConfig
from hf_free.pooling.imitation import PictureBank
from hf_free.training.distill import checkpoints_of

NETWORK = LearnerConfig(backbone="conv4_32", image_size=16, views=["identity"])
BELL = BellConfig(batch_size=16)


@pytest.fixture(scope="module")
def pooled(tmp_path_factory):
    root = tmp_path_factory.mktemp("pooled")
    folders = [str(pico_folder(root / name, kind, size=16)) for name, kind in (("a", "conv4"), ("b", "resnet"))]
    views = LearnerConfig(views=["identity"])
    pool(folders, output=root / "learner", five=FiveConfig(), rounds=0, learner=views, device="cpu")
    return root / "learner"


@pytest.fixture(autouse=True)
def _small_and_timed_by_turns(monkeypatch):
    """Each turn of asking or learning takes one second."""
    for name, count in {"FIRST_PICTURES": 64, "HELD_OUT": 64, "PICTURES_AT_ONCE": 16}.items():
        monkeypatch.setattr(f"hf_free.training.distill.{name}", count)
    seconds = itertools.count()
    monkeypatch.setattr("hf_free.training.distill.time", SimpleNamespace(monotonic=lambda: float(next(seconds))))


def _distil(pooled, output, **options):
    return distill(pooled, output, **{"minutes": 0.4, "learner": NETWORK, "bell": BELL, "device": "cpu", **options})


def _weights(folder):
    files = ("model.safetensors", "hf_free.safetensors")
    return {f"{name}/{key}": value for name in files for key, value in load_file(folder / name).items()}


def _same(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def _breaks_after(seconds, how):
    def progress(what, done, total):
        if done >= seconds and "distilling" in what:
            how()

    return progress


class PowerCut(Exception):
    """What ends a run at once."""


def _cut():
    raise PowerCut


@pytest.fixture(scope="module")
def cut(pooled, tmp_path_factory):
    """A run that was cut off in its second half, and its learner, had it not been."""
    with pytest.MonkeyPatch.context() as patched:
        _small_and_timed_by_turns.__wrapped__(patched)
        root = tmp_path_factory.mktemp("cut")
        whole = _distil(pooled, root / "whole")
        torch.manual_seed(7)
        with pytest.raises(PowerCut):
            _distil(pooled, root / "cut", progress=_breaks_after(20, _cut))
    return root, whole


def test_what_goes_on_ends_with_the_same_bits(pooled, cut, tmp_path, monkeypatch):
    root, whole = cut
    assert not (root / "cut" / "config.json").exists()
    shutil.copytree(root / "cut", tmp_path / "run")
    with pytest.raises(RunError, match="not finished") as refused:
        _distil(pooled, tmp_path / "run")
    assert "--resume" in refused.value.action
    asked, draw = [], PictureBank.draw
    monkeypatch.setattr(PictureBank, "draw", lambda bank, count: asked.append(count) or draw(bank, count))
    again = _distil(pooled, tmp_path / "run", resume=True)
    assert _same(_weights(tmp_path / "run"), _weights(root / "whole"))
    assert again.record.training.steps == whole.record.training.steps > 8
    assert again.record.imitation == whole.record.imitation
    assert set(asked) == {16}, "neither the first pictures nor the held-out ones are asked about again"
    assert not checkpoints_of(tmp_path / "run").root.exists()


def test_a_signal_ends_it_after_the_update_with_a_whole_learner(pooled, cut, tmp_path, monkeypatch):
    root, whole = cut
    meter_all_runs(monkeypatch)
    before = signal.getsignal(signal.SIGTERM)
    stop = _breaks_after(13, lambda: os.kill(os.getpid(), signal.SIGTERM))
    stopped = _distil(pooled, tmp_path / "run", progress=stop)
    assert signal.getsignal(signal.SIGTERM) is before
    assert 0 < stopped.record.training.steps < whole.record.training.steps
    usable = MetaLearner.from_pretrained(tmp_path / "run")
    assert usable.adapt(torch.rand(4, 3, 16, 16), [0, 0, 1, 1]).predict_proba(torch.rand(2, 3, 16, 16)).shape == (2, 2)
    assert stopped.record.training.energy == TAKEN
    card = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    assert "`hf-free distill --models ID... --config FILE --output DIR --max-minutes 0.4` repeats it" in card
    again = FreeConfig.from_dict(config_of(card))
    assert (again.learner, again.bell, again.trainer.max_minutes) == (stopped.config, BELL, 0.4)
    resumed = _distil(pooled, tmp_path / "run", resume=True)
    assert resumed.record.training.energy == TAKEN + TAKEN
    assert _same(_weights(tmp_path / "run"), _weights(root / "whole"))


def test_only_what_belongs_to_it_is_resumed(pooled, cut, tmp_path, caplog):
    root, _ = cut
    shutil.copytree(root / "cut", tmp_path / "run")
    with pytest.raises(RunError, match="no checkpoint to resume"):
        _distil(pooled, tmp_path / "new", resume=True)
    with pytest.raises(RunError, match="together"):
        _distil(pooled, tmp_path / "run", resume=True, overwrite=True)
    with pytest.raises(RunError, match=r"learner.image_size was 16, now 24"):
        _distil(pooled, tmp_path / "run", resume=True, learner=LearnerConfig(backbone="conv4_32", image_size=24))
    with pytest.raises(RunError, match="seed was 0, now 1"):
        _distil(pooled, tmp_path / "run", resume=True, seed=1)
    other = tmp_path / "other"
    pool([str(pico_folder(tmp_path / "c", "conv4", size=16, seed=5))], output=other, rounds=0, device="cpu")
    with pytest.raises(RunError, match="of another pooled learner"):
        _distil(other, tmp_path / "run", resume=True)
    with caplog.at_level(logging.WARNING, logger="hf_free"):
        _distil(pooled, tmp_path / "run", resume=True, bell=BellConfig(batch_size=8), minutes=0.35)
    assert any("bell.batch_size 16 -> 8" in line for line in caplog.messages)


def test_a_damaged_checkpoint_is_not_used_and_overwrite_begins_anew(pooled, cut, tmp_path):
    root, _ = cut
    shutil.copytree(root / "cut", tmp_path / "run")
    for folder in checkpoints_of(tmp_path / "run").folders():
        (folder / "state.json").write_text("{}")
    with pytest.raises(RunError, match=r"no whole checkpoint to resume in .*; damaged: "):
        _distil(pooled, tmp_path / "run", resume=True)
    _distil(pooled, tmp_path / "run", overwrite=True)
    assert _same(_weights(tmp_path / "run"), _weights(root / "whole"))


def test_the_pooled_learner_is_not_replaced_by_what_imitates_it(pooled):
    with pytest.raises(RunError, match=r"would replace .*learner, which it is made of"):
        _distil(pooled, pooled, overwrite=True)


@pytest.mark.parametrize("start", [pytest.param(1, marks=pytest.mark.long), "best"])
def test_a_network_that_starts_from_a_teacher_goes_on_with_the_same_bits(pooled, tmp_path, monkeypatch, start):
    monkeypatch.setattr("hf_free.training.distill.ASKED", 64)
    name = start if start == "best" else MetaLearner.from_pretrained(pooled).record.teachers[start].reference
    options = {"learner": None, "start_from": name, "mixed_precision": "no"}
    _distil(pooled, tmp_path / "whole", **options)
    torch.manual_seed(7)
    with pytest.raises(PowerCut):
        _distil(pooled, tmp_path / "cut", progress=_breaks_after(20, _cut), **options)
    assert checkpoints_of(tmp_path / "cut").folders()
    torch.manual_seed(11)
    _distil(pooled, tmp_path / "cut", resume=True, **options)
    assert _same(_weights(tmp_path / "cut"), _weights(tmp_path / "whole"))


def test_a_network_that_is_not_a_number_any_more_is_not_saved(pooled, cut, tmp_path, monkeypatch):
    root, _ = cut
    shutil.copytree(root / "cut", tmp_path / "run")
    before = [path.name for path in checkpoints_of(tmp_path / "run").folders()]
    with monkeypatch.context() as broken:
        broken.setattr("hf_free.training.distill.imitation_loss", lambda said, _: said.sum() * float("nan"))
        with pytest.raises(RunError, match="not a number any more after") as refused:
            _distil(pooled, tmp_path / "run", resume=True)
        with pytest.raises(RunError, match="not a number any more after"):
            _distil(pooled, tmp_path / "new")
    assert "--set trainer.mixed_precision=no" in refused.value.action
    assert not (tmp_path / "new" / "config.json").exists()
    assert [path.name for path in checkpoints_of(tmp_path / "run").folders()] == before
