"""`--pictures`: unlabeled pictures of the user's own beside the drawn ones, and a learner that says so."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from pico import pico_folder
from PIL import Image

from hf_free import DatasetError, FreeConfig, distill, pool, train
from hf_free.config.reading import merge
from hf_free.data.own_pictures import OWN_SHARE, OwnPictures
from hf_free.memory.filling import draw_beside
from hf_free.runtime.random_streams import Stream
from hf_free.teachers.pool import TeacherPool
from hf_free.training import own_pictures
from hf_free.training.own_pictures import read_own_pictures


def _picture(path, color):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((20, 30, 3), color, dtype=np.uint8)).save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eighteen plain pictures in three folders, and a file that is none."""
    root = tmp_path_factory.mktemp("own")
    for number in range(18):
        _picture(root / ("." if number < 6 else "a" if number < 12 else "a/b") / f"{number:02d}.png", 10 * number)
    (root / "a" / "broken.png").write_bytes(b"no picture")
    return root


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    root = tmp_path_factory.mktemp("teachers")
    return [str(pico_folder(root / kind, kind, size=16)) for kind in ("conv4", "resnet")]


def test_all_folders_are_read_at_the_size_wanted(folder, caplog):
    own = read_own_pictures(str(folder), (3, 16), flip=False)
    assert own.images.shape == (18, 3, 16, 16)
    assert sorted(own.images.float().mean((1, 2, 3)).tolist()) == [10.0 * number for number in range(18)]
    assert not own.flip
    assert "broken.png" in caplog.text
    assert "18 pictures of yours" in caplog.text
    assert "not data-free" in caplog.text
    assert read_own_pictures(str(folder), (1, 16), flip=True).images.shape == (18, 1, 16, 16)
    assert read_own_pictures(None, (3, 16), flip=True) is None


def test_of_too_many_every_so_manyth_is_used(folder, monkeypatch, caplog):
    monkeypatch.setattr(own_pictures, "MOST_PICTURES", 17)
    assert len(read_own_pictures(str(folder), (3, 16), flip=True).images) in (16, 17)
    assert "of 19 pictures" in caplog.text


def test_too_few_or_no_folder_are_refused(tmp_path):
    for number in range(3):
        _picture(tmp_path / f"{number}.png", number)
    with pytest.raises(DatasetError, match=r"holds 3 picture\(s\) that can be read") as refused:
        read_own_pictures(str(tmp_path), (3, 16), flip=True)
    assert "--pictures" in refused.value.action
    with pytest.raises(DatasetError, match="nowhere"):
        read_own_pictures(str(tmp_path / "nowhere"), (3, 16), flip=True)
    with pytest.raises(DatasetError, match=r"0\.png is a file"):
        read_own_pictures(str(tmp_path / "0.png"), (3, 16), flip=True)


def test_deep_pictures_make_floats_of_few_others(folder, tmp_path, monkeypatch):
    """One picture of 16 bits among many: those that are read with it, and no others, are floats for a moment."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    Image.fromarray(np.full((20, 30), 65535, dtype=np.uint16)).save(tmp_path / "00.png")
    monkeypatch.setattr(own_pictures, "AT_ONCE", 8)
    kinds, read = [], own_pictures.read_batch
    monkeypatch.setattr(
        own_pictures, "read_batch", lambda *given, **named: kinds.append(read(*given, **named)) or kinds[-1]
    )
    own = read_own_pictures(str(tmp_path), (3, 16), flip=True)
    assert own.images.dtype == torch.uint8
    assert sorted({batch.images.dtype for batch in kinds}, key=str) == [torch.float32, torch.uint8]
    means = sorted(own.images.float().mean((1, 2, 3)).tolist())
    assert means == [*(10.0 * number for number in range(1, 18)), 255.0]


def test_a_dash_is_no_list_here_and_what_cannot_be_read_is_named_once(folder, caplog):
    with pytest.raises(DatasetError, match=r"-.* is not a folder or a file") as refused:
        read_own_pictures("-", (3, 16), flip=True)
    assert "for a list" not in str(refused.value)
    read_own_pictures(str(folder), (3, 16), flip=True)
    (line,) = [text for text in caplog.messages if "broken.png" in text]
    assert line.count("broken.png") == 1


def test_they_stand_for_a_part_of_the_drawn_ones(teachers):
    assert OWN_SHARE == 0.5
    loaded = TeacherPool(teachers)
    own = OwnPictures(torch.full((4, 3, 16, 16), 7, dtype=torch.uint8))
    made = draw_beside(loaded, 11, (3, 16), Stream(0), own=own)
    assert made.shape == (11, 3, 16, 16)
    is_own = (made == 7).flatten(1).all(1)
    assert is_own.sum() in (5, 6)
    drawn = draw_beside(loaded, int((~is_own).sum()), (3, 16), Stream(0))
    assert torch.equal(made[~is_own], drawn)


@pytest.fixture
def _few_pictures(monkeypatch):
    for name, count in {"FIRST_PICTURES": 64, "HELD_OUT": 64, "PICTURES_AT_ONCE": 16}.items():
        monkeypatch.setattr(f"hf_free.training.distill.{name}", count)


@pytest.mark.usefixtures("_few_pictures")
def test_a_pooled_learner_and_its_network_say_that_they_are_not_data_free(folder, teachers, tmp_path):
    plain = pool(teachers, rounds=0, device="cpu")
    pooled = pool(teachers, output=tmp_path / "pooled", rounds=0, device="cpu", pictures=folder)
    assert plain.record.is_data_free
    assert not pooled.record.is_data_free
    centers = [made.embedding.pooled.center for made in (plain, pooled)]
    assert not torch.equal(*centers), "the teachers were asked about other pictures"
    options = {"minutes": 0.01, "device": "cpu"}
    later = distill(plain, tmp_path / "later", pictures=folder, **options)
    earlier = distill(pooled, tmp_path / "earlier", **options)
    assert [made.record.is_data_free for made in (later, earlier)] == [False, False]
    assert distill(plain, tmp_path / "neither", **options).record.is_data_free
    for name in ("pooled", "later", "earlier"):
        card = (tmp_path / name / "README.md").read_text()
        assert "**Not data-free.** The teachers were asked about real pictures" in card
        assert "Data-free.**" not in card.replace("**Not data-free.**", "")
        assert "--pictures DIR" in card
        assert str(folder) not in card, "its name alone"
        assert "data-free" not in card.split("---")[1], "no tag"


def test_a_run_asks_about_them_too_and_says_so(folder, teachers, tmp_path, monkeypatch):
    asked = []
    draw = OwnPictures.draw
    monkeypatch.setattr(
        OwnPictures, "draw", lambda own, count, stream: asked.append(count) or draw(own, count, stream)
    )
    five = {"images_per_class": 2, "latent_dim": 8, "width": 4, "inner_steps": 1}
    easy = {"min_teacher_accuracy": 0.0, "min_diversity": 0.0}
    config = FreeConfig.from_dict(
        {
            "models": teachers,
            "five": {**five, **easy},
            "memory": {"drawn_per_step": 32, "pictures": str(folder)},
            "trainer": {"steps": 1, "warmup_steps": 0, "max_minutes": None, "device": "cpu"},
        }
    )
    few = {"memory": {"pictures": str(folder / "a" / "b")}}
    with pytest.raises(DatasetError, match="holds 6 picture"):
        train(FreeConfig.from_dict(merge(config.to_dict(), few)), output=tmp_path / "run")
    assert not (tmp_path / "run").exists(), "the same output may be given again"
    made = train(config, output=tmp_path / "run")
    assert asked
    assert set(asked) == {16}
    assert not made.record.is_data_free
    block = json.loads((tmp_path / "run" / "learner" / "config.json").read_text())["hf_free"]
    assert block["data_free"] is False
    assert block["config"]["memory"]["pictures"] == folder.name
