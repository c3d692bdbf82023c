"""Batches of pictures of any kind, and that every verb and Python see the same ones."""

from __future__ import annotations

import csv
import io
import json
import shutil
from typing import get_args

import numpy as np
import pytest
import timm
import torch
from odd_pictures import color, gray, write_all
from PIL import Image, ImageOps

from hf_free.cli.main import main
from hf_free.config.sections import LearnerConfig, View
from hf_free.config.tree import FreeConfig
from hf_free.data.decoding import PictureError
from hf_free.data.episodes import sample_episodes
from hf_free.data.images import VIEWS, WRITING_VIEWS, Preprocessing, as_batch, fit, match_channels, read_batch, resize
from hf_free.errors import DatasetError
from hf_free.evaluation.datasets import LabeledImages, load_folder_images, load_labeled_images
from hf_free.evaluation.features import ImageSizes
from hf_free.learner.classifier import FewShotClassifier
from hf_free.learner.meta_learner import MetaLearner
from hf_free.learner.scoring import mean_and_interval
from hf_free.runtime.memory_budget import peak_memory

SIZE = 16
OWN = Preprocessing(SIZE)


@pytest.fixture(autouse=True)
def _wide_and_plain(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


@pytest.fixture(scope="module")
def learner(tmp_path_factory):
    """A learner's folder."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("learner")
    MetaLearner(LearnerConfig(backbone="conv4_32", image_size=SIZE)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Odd pictures in `flat/`, dealt out to two classes in `classes/`."""
    root = tmp_path_factory.mktemp("odd")
    written = write_all(root / "flat")
    for place, path in enumerate(written):
        folder = root / "classes" / ("even", "uneven")[place % 2]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path.name)
    return root


# ---- one door


def test_predict_evaluate_and_python_agree_on_forty_odd_pictures_to_the_last_digit(capsys, tmp_path, learner, odd):
    support, flat = odd / "classes", sorted((odd / "flat").iterdir())
    assert len(flat) > 45
    loaded = MetaLearner.from_pretrained(learner)
    shown = sorted(support.glob("*/*"))
    labels = [path.parent.name for path in shown]

    assert main(["predict", str(learner), "--support", str(support), "--images", str(odd / "flat"), "--json"]) == 0
    out, err = capsys.readouterr()
    rows = {row["image"]: row["probabilities"] for row in json.loads(out)}
    assert "4 files hold several frames" in err
    for kind in (list, lambda paths: [str(path) for path in paths], lambda paths: [Image.open(path) for path in paths],
                 lambda paths: [path.read_bytes() for path in paths]):  # fmt: skip
        classifier = loaded.adapt(kind(shown), labels)
        by_python = classifier.predict_proba(kind(flat)).tolist()
        assert [rows[path.name] for path in flat] == [dict(zip(classifier.classes, p, strict=True)) for p in by_python]

    small = [path for path in flat if not path.name.startswith(("large", "deep", "float"))]
    for as_given in (np.asarray, lambda picture: torch.from_numpy(np.array(picture)).permute(2, 0, 1)):
        arrays = [as_given(Image.fromarray(_plain(path))) for path in small]
        assert torch.equal(as_batch(arrays, OWN), as_batch(small, OWN))

    results = tmp_path / "results.json"
    words = ["--n-way", "2", "--k-shot", "3", "--n-query", "5", "--episodes", "20", "--output", str(results)]
    assert main(["evaluate", str(learner), "--dataset", str(support), *words]) == 0
    assert "4 files hold several frames" in capsys.readouterr().err
    data = load_labeled_images(support)
    seen = data.read(OWN).images
    episodes = sample_episodes(
        data.labels, n_way=2, k_shot=3, n_query=5, episodes=20, generator=torch.Generator().manual_seed(0)
    )
    files = [path for name in data.class_names for path in sorted((support / name).iterdir())]
    assert torch.equal(seen, as_batch(files, OWN))
    shares = []
    for support_at, query_at in zip(episodes.support.flatten(1), episodes.query.flatten(1), strict=True):
        classifier = loaded.adapt([files[i] for i in support_at], [0] * 3 + [1] * 3)
        right = torch.tensor(classifier.predict([files[i] for i in query_at])) == torch.tensor([0] * 5 + [1] * 5)
        shares.append(right.float().mean())
    row = json.loads(results.read_text())["rows"][0]
    assert row["accuracy"] == 100 * mean_and_interval(torch.stack(shares))[0]


def _plain(path) -> np.ndarray:
    """A picture as bytes (H, W, 3), by Pillow's own means."""
    with Image.open(path) as picture:
        picture.load()
        if "broken" not in path.name:
            picture = ImageOps.exif_transpose(picture)
        clear = picture.mode in ("RGBA", "LA") or "transparency" in picture.info
        if clear:
            white = Image.new("RGBA", picture.size, "white")
            picture = Image.alpha_composite(white, picture.convert("RGBA"))
        return np.asarray(picture.convert("RGB"))


def test_the_background_is_one_for_the_verbs_and_python(capsys, tmp_path, learner, odd):
    words = ["--support", str(odd / "classes"), "--images", str(odd / "flat"), "--json"]
    assert main(["predict", str(learner), *words, "--background", "#204060"]) == 0
    rows = {row["image"]: row["probability"] for row in json.loads(capsys.readouterr().out)}
    shown = sorted((odd / "classes").glob("*/*"))
    classifier = MetaLearner.from_pretrained(learner).adapt(
        shown, [path.parent.name for path in shown], background="#204060"
    )
    classifier.save_pretrained(tmp_path)
    for kept in (classifier, FewShotClassifier.from_pretrained(tmp_path)):
        found = kept.predict_proba(sorted((odd / "flat").iterdir())).amax(1).tolist()
        assert [rows[path.name] for path in sorted((odd / "flat").iterdir())] == found
    assert main(["predict", str(learner), *words, "--background", "whitish"]) == 1
    assert "background 'whitish'" in capsys.readouterr().err


# ---- what cannot be read


@pytest.fixture
def damaged(tmp_path):
    """Two classes of six pictures, one of them cut short and one empty; `new/` holds three, one cut short."""
    for name in ("cat", "dog"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for index in range(6):
            Image.fromarray(color(index)).save(tmp_path / "set" / name / f"{index}.png")
    (tmp_path / "new").mkdir()
    for index in range(3):
        Image.fromarray(color(index)).save(tmp_path / "new" / f"{index}.png")
    for path in (tmp_path / "set" / "cat" / "3.png", tmp_path / "new" / "1.png"):
        path.write_bytes(path.read_bytes()[:300])
    (tmp_path / "set" / "dog" / "2.png").write_bytes(b"")
    shutil.copytree(tmp_path / "set", tmp_path / "whole")
    for name in ("cat/3.png", "dog/2.png"):
        (tmp_path / "whole" / name).unlink()
    return tmp_path


def test_predict_writes_a_row_for_an_unreadable_picture_and_fails_in_the_end(capsys, learner, damaged):
    words = ["predict", str(learner), "--support", str(damaged / "whole"), "--images", str(damaged / "new")]
    assert main(words) == 1
    out, err = capsys.readouterr()
    first, broken, last = csv.DictReader(io.StringIO(out))
    assert first["label"] in ("cat", "dog")
    assert last["label"] in ("cat", "dog")
    assert (broken["image"], broken["label"], broken["probability"]) == ("1.png", "", "")
    assert "1.png cannot be decoded" in broken["error"]
    assert first["error"] == ""
    assert "1 of 3 pictures could not be read" in err
    assert "Unexpected" not in err
    assert main([*words, "--json"]) == 1
    row = json.loads(capsys.readouterr().out)[1]
    assert (row["label"], row["probability"], row["probabilities"]) == (None, None, None)


def test_predict_refuses_examples_that_cannot_be_read(capsys, learner, damaged):
    words = ["--support", str(damaged / "set"), "--images", str(damaged / "new")]
    assert main(["predict", str(learner), *words]) == 1
    err = capsys.readouterr().err
    assert "2 of 12 pictures cannot be read" in err
    assert str(damaged / "set" / "cat" / "3.png") in err
    assert str(damaged / "set" / "dog" / "2.png") in err


def test_evaluate_refuses_unreadable_pictures_or_leaves_them_out(capsys, tmp_path, learner, damaged):
    words = ["--n-way", "2", "--k-shot", "1", "--n-query", "4", "--episodes", "20"]
    assert main(["evaluate", str(learner), "--dataset", str(damaged / "set"), *words]) == 1
    err = capsys.readouterr().err
    assert "2 of 12 pictures cannot be read" in err
    for part in ("3.png", "2.png", "--skip-unreadable"):
        assert part in err
    assert "Unexpected" not in err
    accuracies = []
    for name in ("set", "whole"):
        output = tmp_path / f"{name}.json"
        folder = str(damaged / name)
        assert (
            main(["evaluate", str(learner), "--dataset", folder, *words, "--skip-unreadable", "--output", str(output)])
            == 0
        )
        accuracies.append(json.loads(output.read_text())["rows"][0]["accuracy"])
        assert ("2 of 12 pictures cannot be read" in capsys.readouterr().err) == (name == "set")
    assert accuracies[0] == accuracies[1]


def test_leaving_pictures_out_is_advised_only_where_enough_are_left(capsys, learner, damaged):
    shutil.rmtree(damaged / "whole")
    shutil.copytree(damaged / "set", damaged / "whole")
    for path in (damaged / "whole").rglob("*.png"):
        path.write_bytes(b"no picture")
    words = ["--n-way", "2", "--n-query", "4", "--episodes", "20"]
    for folder, shots, counted in (("whole", "1", "12 of 12"), ("set", "2", "2 of 12")):  # four and two of six
        assert main(["evaluate", str(learner), "--dataset", str(damaged / folder), *words, "--k-shot", shots]) == 1
        err = capsys.readouterr().err
        assert f"{counted} pictures cannot be read" in err
        assert "--skip-unreadable" not in err
        assert "too few are left for an episode" in err


def test_unreadable_pictures_are_found_by_their_places_in_the_whole_set(damaged):
    good, bad = damaged / "new" / "0.png", damaged / "new" / "1.png"
    data = LabeledImages([good, bad, good, bad, bad], torch.zeros(5, dtype=torch.long), ["a"])
    with pytest.raises(PictureError) as caught:
        ImageSizes(data, torch.tensor([0, 3, 4])).at(OWN)
    assert caught.value.places == (3, 4)
    with pytest.raises(PictureError) as caught:
        list(ImageSizes(data, torch.tensor([0, 2, 4])).batches(OWN, 2))
    assert caught.value.places == (4,)


def test_a_class_without_readable_pictures_is_left_out_and_a_set_of_none_is_refused(damaged):
    good, bad = damaged / "new" / "0.png", damaged / "new" / "1.png"
    data = LabeledImages([good, bad, good], torch.tensor([0, 1, 2]), ["a", "b", "c"])
    readable, errors = data.readable()
    assert (readable.class_names, readable.labels.tolist(), len(errors)) == (["a", "c"], [0, 1], 1)
    with pytest.raises(DatasetError, match="none of the 1 pictures"):
        LabeledImages([bad], torch.tensor([0]), ["a"]).readable()


# ---- batches


def test_a_batch_is_each_picture_by_itself_whatever_the_threads(odd):
    paths = sorted((odd / "flat").iterdir())
    alone = torch.cat([as_batch(path, OWN) for path in paths])
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            assert torch.equal(as_batch(paths, OWN), alone)
            one = Image.open(odd / "flat" / "large.jpg")
            assert torch.equal(as_batch([one] * 6, OWN), as_batch(one, OWN).expand(6, -1, -1, -1))
    finally:
        torch.set_num_threads(before)


def test_progress_and_errors_keep_the_order(damaged):
    told = []
    good, bad = damaged / "new" / "0.png", damaged / "new" / "1.png"
    batch = read_batch([good] * 40 + [bad, good], OWN, progress=lambda *what: told.append(what), keep_going=True)
    assert batch.places.tolist() == [*range(40), 41]
    assert list(batch.errors) == [40]
    assert told == [("pictures read", 32, 42), ("pictures read", 42, 42)]


def test_bytes_are_rounded_as_a_data_set_keeps_them_and_deep_pictures_are_not():
    values = torch.from_numpy(color(0)).permute(2, 0, 1)
    expected = torch.nn.functional.interpolate(
        values[None].double(), size=(SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False
    )
    batch = as_batch([values], OWN)
    assert (255 * batch - expected).abs().max() <= 0.501
    assert torch.equal((255 * batch).round() / 255, batch)
    deep = (65535 * gray(0)).astype(np.uint16)
    batch = as_batch([deep], Preprocessing(SIZE, 1))
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(deep.astype(np.float64))[None, None] / 65535,
        size=(SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False,
    )  # fmt: skip
    assert (batch - expected).abs().max() < 1e-6
    data = LabeledImages([deep, color(0)], torch.tensor([0, 1]), ["a", "b"])
    assert torch.equal(data.read(OWN).images, as_batch([deep, color(0)], OWN))
    assert data.at_size(SIZE).dtype == torch.uint8
    assert (data.at_size(SIZE) / 255 - as_batch([deep, color(0)], OWN)).abs().max() <= 0.501 / 255


def test_arrays_of_several_pictures_have_their_channels_at_either_end():
    values = np.stack([color(0), color(1)])
    expected = as_batch(list(values), OWN)
    assert torch.equal(as_batch(values, OWN), expected)
    assert torch.equal(as_batch(values.transpose(0, 3, 1, 2), OWN), expected)
    assert torch.equal(as_batch(torch.from_numpy(values).permute(0, 3, 1, 2), OWN), expected)
    assert torch.equal(as_batch((values / 255).astype(np.float32)[:1], OWN), as_batch([values[0] / 255], OWN))
    for nothing in ([], values[:0], torch.rand(0, 3, 8, 8)):
        with pytest.raises(PictureError, match="no pictures"):
            as_batch(nothing, OWN)


def test_a_picture_that_is_missing_is_called_that():
    with pytest.raises(PictureError, match="picture 1 is missing"):
        as_batch([np.zeros((8, 8, 3), np.uint8), None], OWN)


def test_masked_pixels_are_not_taken_for_pixels():
    values = np.full((2, 8, 8, 3), 9, np.uint8)
    with pytest.raises(PictureError, match="an array of which parts are masked"):
        as_batch(np.ma.masked_greater(values, 3), OWN)
    assert torch.equal(as_batch(np.ma.asarray(values), OWN), as_batch(values, OWN))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("size", [SIZE, 24])
def test_a_learner_takes_floats_of_any_width(learner, dtype, size):
    network = MetaLearner.from_pretrained(learner)
    images = torch.rand(4, 3, size, size).to(dtype)
    with torch.no_grad():
        assert torch.equal(network.features(images), network.features(images.float()))
        assert torch.equal(network.raw_answers(images), network.raw_answers(images.float()))
    classifier = network.adapt(images, [0, 1, 0, 1])
    assert torch.equal(classifier.predict_proba(images), classifier.predict_proba(images.float()))


def test_nested_lists_of_numbers_are_one_color_picture_or_several_gray_ones():
    array = color(5, 32, 32)
    for one in (array, array[..., :1], np.dstack([array, array[..., :1]])):
        assert torch.equal(as_batch(one.tolist(), OWN), as_batch(one, OWN))
    gray_ones = [array[..., 0].tolist(), array[..., 1].tolist()]
    assert torch.equal(as_batch(gray_ones, OWN), as_batch([array[..., 0], array[..., 1]], OWN))


def test_columns_of_arrays_keep_the_type_that_the_file_states(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    expected = None
    for kind, scale in (("uint8", 1), ("uint16", 257), ("float32", 1 / 255), ("int64", 1), ("float64", 1 / 255)):
        rows = [(color(seed) * np.float64(scale)).astype(kind).tolist() for seed in (0, 1)]
        column = pa.array(rows, type=pa.list_(pa.list_(pa.list_(getattr(pa, kind)()))))
        pq.write_table(pa.table({"image": column, "label": ["a", "b"]}), tmp_path / f"{kind}.parquet")
        seen = load_labeled_images(tmp_path / f"{kind}.parquet").at_size(SIZE)
        expected = seen if expected is None else expected
        assert (seen.int() - expected.int()).abs().max() <= 1
    assert load_labeled_images(tmp_path / "uint16.parquet").images[0].size == (30, 40)


def test_folders_take_every_suffix_of_a_picture(tmp_path):
    for name in ("a.jfif", "b.tif", "c.webp"):
        Image.fromarray(color(0)).save(tmp_path / name)
    (tmp_path / "d.heic").write_bytes(b"\0\0\0\x18ftypheic")
    found = load_folder_images(tmp_path)
    assert [path.name for path in found.paths] == ["a.jfif", "b.tif", "c.webp", "d.heic"]
    assert found.images[1].size == (30, 40)


# ---- how teachers see pictures


@pytest.mark.parametrize(("height", "width"), [(90, 60), (60, 90), (84, 84)])
@pytest.mark.parametrize("crop", [0.875, 1.0, 0.95])
def test_the_crop_is_timms_own(height, width, crop):
    picture = Image.fromarray(color(0, height, width)).resize((width, height))
    way = timm.data.create_transform(
        (3, 32, 32), interpolation="bicubic", crop_pct=crop, mean=(0, 0, 0), std=(1, 1, 1), is_training=False
    )
    ours = fit(torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None], Preprocessing(32, 3, "bicubic", crop))[0]
    difference = 255 * way(picture) - ours
    assert difference.abs().mean() < 1.5, "bicubic in floats and in Pillow's integers"
    assert difference.mean().abs() < 0.1


def test_moved_views_show_the_same_picture_at_a_corner_with_its_edges_repeated():
    picture = torch.arange(32 * 40.0).view(1, 1, 32, 40).repeat(2, 3, 1, 1)
    for name, down, right in (("up_left", -3, -4), ("up_right", -3, 4), ("down_left", 3, -4), ("down_right", 3, 4)):
        rows = [min(max(row - down, 0), 31) for row in range(32)]
        columns = [min(max(column - right, 0), 39) for column in range(40)]
        assert torch.equal(VIEWS[name](picture), picture[:, :, rows][..., columns])
    assert torch.equal(VIEWS["up_left"](picture[..., :1, :1]), picture[..., :1, :1])  # one pixel: edges alone


def test_the_configuration_knows_the_views_that_there_are():
    assert list(get_args(View)) == list(VIEWS)
    views = FreeConfig.load(assignments=[WRITING_VIEWS]).learner.views
    assert views == ["identity", "up_left", "up_right", "down_left", "down_right"]


def test_channels_and_sizes_are_matched():
    images = torch.rand(2, 3, 8, 6)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    torch.testing.assert_close(match_channels(images, 1), (images * weights).sum(1, keepdim=True))
    assert match_channels(images[:, :1], 3).shape == (2, 3, 8, 6)
    assert resize(images, 5).shape == (2, 3, 5, 5)


CPU = torch.device("cpu")


@pytest.mark.parametrize("shape", [(1, 60_000), (60_000, 1)])
def test_a_line_of_one_pixel_is_cut_before_it_is_enlarged(shape):
    picture = torch.zeros(1, 3, *shape, dtype=torch.uint8)
    picture[..., shape[0] // 2, shape[1] // 2] = 255
    made: list[torch.Tensor] = []
    taken = peak_memory(lambda: made.append(fit(picture, Preprocessing(64, 3, "bilinear", 0.875))), CPU)
    assert taken < 64 * 2**20, "whole, it would take 1.1 GB"
    assert made[0].shape == (1, 3, 64, 64)
    assert made[0].max() > 200, "what lies in the middle stays there"
