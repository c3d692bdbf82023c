"""Saving over a saved learner: a process killed at any moment leaves the old learner or the new one, whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from kills import killed
from torch import Tensor, nn

from hf_free.config.sections import LearnerConfig
from hf_free.errors import LearnerError, StorageError
from hf_free.learner.classifier import FewShotClassifier
from hf_free.learner.meta_learner import MetaLearner
from hf_free.provenance.learner_record import LearnerRecord

IMAGES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
LABELS = ["a", "a", "b", "b"]


def make(seed: int) -> MetaLearner:
    torch.manual_seed(seed)
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16), backbone={"width": 4})
    learner.embedding.projection = nn.Linear(learner.backbone_dim, 3)
    return learner.eval()


OLD, NEW = make(1), make(2)
CLASSIFIERS = {id(learner): learner.adapt(IMAGES, LABELS) for learner in (OLD, NEW)}
"""Adapted here: in a forked process many threads' work could stand still."""


def answers(folder: Path) -> Tensor:
    return MetaLearner.from_pretrained(folder).embed(IMAGES)


def probabilities(folder: Path) -> Tensor:
    return FewShotClassifier.from_pretrained(folder).predict_proba(IMAGES)


def save(learner: MetaLearner, folder: Path) -> None:
    learner.save_pretrained(folder)


def adapt_and_save(learner: MetaLearner, folder: Path) -> None:
    CLASSIFIERS[id(learner)].save_pretrained(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "learner").mkdir()
    (tmp_path / "learner" / "README.md").write_text("edited by hand")
    return tmp_path / "learner"


def test_a_learner_killed_at_every_step_of_saving(folder: Path) -> None:
    save(OLD, folder)
    old, new = answers(folder), NEW.embed(IMAGES)
    seen, call = [], 0
    while True:
        call += 1
        save(OLD, folder)  # sweeps what the last kill has left
        assert not list(folder.glob(".saving-*"))
        if not killed(lambda: save(NEW, folder), at_call=call):
            break
        found = answers(folder)
        assert torch.equal(found, old) or torch.equal(found, new), f"a mixture after a kill at call {call}"
        seen.append(torch.equal(found, new))
    assert call > 10
    assert seen == sorted(seen)  # the old one up to a step, the new one from there on
    assert 3 < sum(seen) < len(seen)
    assert (folder / "README.md").read_text() == "edited by hand"


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.long), 4])
def test_a_classifier_killed_at_every_step_of_saving(folder: Path, every: int) -> None:
    """Its learner's saving is tested above: the quick form takes every fourth step."""
    adapt_and_save(OLD, folder)
    old, learner = probabilities(folder), answers(folder)
    new = CLASSIFIERS[id(NEW)].predict_proba(IMAGES)
    call = 1 - every
    while True:
        call += every
        adapt_and_save(OLD, folder)
        if not killed(lambda: adapt_and_save(NEW, folder), at_call=call):
            break
        found = probabilities(folder)
        assert torch.equal(found, old) or torch.equal(found, new), f"a mixture after a kill at call {call}"
        assert any(torch.equal(answers(folder), known) for known in (learner, NEW.embed(IMAGES)))
    assert call > 10
    assert torch.equal(probabilities(folder), new)


@pytest.mark.parametrize("milliseconds", [3, 11, 29, 47])
def test_killed_at_any_time_while_it_is_saved_again_and_again(folder: Path, milliseconds: int) -> None:
    save(OLD, folder)
    known = [answers(folder), NEW.embed(IMAGES)]
    assert killed(lambda: (save(NEW, folder), save(OLD, folder)), after=milliseconds / 1000)
    assert any(torch.equal(answers(folder), learner) for learner in known)


@pytest.mark.parametrize("fails_at", [1, 2, 3])
def test_a_replacement_that_fails_leaves_a_learner(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    save(OLD, folder)
    replace, calls = os.replace, 0

    def failing(source: Path, target: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise OSError(28, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", failing)
        with pytest.raises(StorageError, match=r"no space is left.*\([\d.]+ KiB are needed; "):
            save(NEW, folder)
    expected = OLD if fails_at == 1 else NEW
    assert torch.equal(answers(folder), expected.embed(IMAGES))
    save(NEW, folder)
    assert torch.equal(answers(folder), NEW.embed(IMAGES))
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "config.json", "hf_free.safetensors", "model.safetensors",
    ]  # fmt: skip


def test_what_cannot_be_written_leaves_the_old_learner_and_nothing_else(folder: Path) -> None:
    save(OLD, folder)
    broken = make(3)
    broken.record = LearnerRecord.from_dict({"teachers": [object()]})  # no JSON
    with pytest.raises(TypeError):
        save(broken, folder)
    assert torch.equal(answers(folder), OLD.embed(IMAGES))
    assert not list(folder.glob(".saving-*"))


def test_zeros_in_the_place_of_weights_are_not_read_for_their_hash(folder: Path) -> None:
    """A file without an end of them takes no longer than an empty one."""
    save(OLD, folder)
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(LearnerError, match=r"model\.safetensors is damaged"):
        MetaLearner.from_pretrained(folder)


def test_files_have_the_rights_that_the_umask_gives(folder: Path) -> None:
    before = os.umask(0o027)
    try:
        adapt_and_save(OLD, folder)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir() if path.name != "README.md"}
    assert set(modes.values()) == {0o640}, modes


def test_a_mixture_of_two_learners_is_refused(folder: Path, tmp_path: Path) -> None:
    from hf_free.errors import LearnerError

    save(OLD, folder)
    save(NEW, tmp_path / "new")
    os.replace(tmp_path / "new" / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(LearnerError, match=r"model.safetensors is not the file that config.json was saved with"):
        answers(folder)


SAVING = """
import sys
from pathlib import Path
from hf_free.learner.one_step import replaced_in_one_step
from hf_free.provenance.learner_record import LearnerRecord
with replaced_in_one_step(Path(sys.argv[1]), []) as staging:
    (staging / "model.safetensors").write_bytes(b"half")
    print(staging.name, flush=True)
    input()
"""


def test_a_save_sweeps_what_dead_processes_left_and_spares_a_living_one(folder: Path) -> None:
    words = [sys.executable, "-c", SAVING, str(folder)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        theirs = folder / process.stdout.readline().strip()
        (folder / ".saving-abandoned").mkdir()
        save(NEW, folder)
        assert [path.name for path in folder.glob(".saving-*")] == [theirs.name]
        assert (theirs / "model.safetensors").read_bytes() == b"half"
        process.kill()
        process.wait()
    save(OLD, folder)
    assert not list(folder.glob(".saving-*"))
    assert torch.equal(answers(folder), OLD.embed(IMAGES))
