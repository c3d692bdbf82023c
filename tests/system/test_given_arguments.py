"""The public Python interface with arguments of odd types and values: one error, and nothing wrong in silence."""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

import numpy as np
import pytest
import torch
from learners import LABELS, as_pil, make, pictures
from pico import brightness_classes, pico_network
from PIL import Image

import hf_free
from hf_free import Comparison, EpisodeSettings, FewShotClassifier, FreeConfig, HfFreeError, MetaLearner
from hf_free.evaluation.datasets import LabeledImages
from hf_free.learner.labels import LONGEST_LABEL
from hf_free.teachers.endpoints import check_tokens

PICTURES = pictures()
SHOWN = as_pil(PICTURES)
FEW = EpisodeSettings(n_way=2, k_shots=(1,), n_query=2, episodes=3)


@pytest.fixture(scope="module")
def learner():
    return make()


@pytest.fixture(scope="module")
def classifier(learner):
    return learner.adapt(SHOWN, LABELS)


# ---- labels


@pytest.mark.parametrize(
    "labels",
    [None, 3, set(LABELS), dict(enumerate(LABELS)), [2**63, 1] * 3, ["\ud800", "b"] * 3, ["a" * 20_000, "b"] * 3],
)
def test_labels_that_have_no_order_or_that_no_file_keeps_are_refused(learner, labels):
    with pytest.raises(hf_free.LearnerError):
        learner.adapt(SHOWN, labels)


def test_labels_that_are_taken_come_back_from_a_file(learner, tmp_path):
    class Kind(IntEnum):
        A = 1

    for labels in ([2**63 - 1, -(2**63)] * 3, ["a" * LONGEST_LABEL, ""] * 3, [Kind.A, 2] * 3, [True, False] * 3):
        adapted = learner.adapt(SHOWN, labels)
        loaded = FewShotClassifier.from_pretrained(adapted.save_pretrained(tmp_path / "saved"))
        assert loaded.classes == adapted.classes
        assert [type(label) for label in loaded.classes] == [type(label) for label in adapted.classes]


# ---- pictures


@pytest.mark.parametrize(
    "odd",
    [
        lambda: [Image.new("RGB", (0, 5))] * 6,
        lambda: torch.nested.nested_tensor(list(PICTURES.float() / 255)),
        lambda: torch.quantize_per_tensor(PICTURES.float() / 255, 0.1, 0, torch.quint8),
        lambda: list(torch.quantize_per_tensor(PICTURES.float() / 255, 0.1, 0, torch.quint8).unbind()),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_pictures_without_pixels_or_of_odd_tensors_are_refused(learner, odd: Callable[[], object]):
    with pytest.raises(hf_free.LearnerError):
        learner.adapt(odd(), LABELS)


# ---- classifiers and learners


@pytest.mark.parametrize("size", [0, -1, None, 2.5, "2", True])
def test_batch_sizes_and_numbers_of_classes_are_whole(classifier, size):
    with pytest.raises(hf_free.LearnerError, match="batch_size="):
        classifier.predict(SHOWN, batch_size=size)
    with pytest.raises(hf_free.LearnerError, match="k="):
        classifier.top_k(SHOWN, size)


@pytest.mark.parametrize(
    "features", [torch.zeros(2, 3), torch.zeros(96), np.zeros((2, 96)), torch.zeros(2, 96).long(), None]
)
def test_features_that_are_not_those_of_embed_are_refused(classifier, features):
    with pytest.raises(hf_free.LearnerError, match="features that are"):
        classifier.answers(features)


@pytest.mark.parametrize("device", ["tpu", "cuda:99", None, 3, "meta"])
def test_a_device_that_is_not_there_is_one_message_everywhere(learner, device, tmp_path):
    learner.save_pretrained(tmp_path / "learner")
    for call in (
        lambda: MetaLearner.from_pretrained(tmp_path / "learner", map_location=device),
        lambda: FewShotClassifier.from_pretrained(tmp_path / "learner", device=device),
        lambda: hf_free.evaluate(learner, brightness_classes(40), FEW, device=device),
        lambda: hf_free.load_teacher(tmp_path / "learner", device=device),
    ):
        with pytest.raises(hf_free.ConfigError, match="cannot be used"):
            call()


@pytest.mark.parametrize("name", ["", "a\0b", "a" * 300, "a/" * 3000, os.fsdecode(b"a\xff"), None, b"x"])
def test_a_folder_that_cannot_be_is_refused_before_anything_is_made(learner, classifier, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = FreeConfig.from_dict({"models": ["./a", "./b"]})
    for call in (
        lambda: learner.save_pretrained(name),
        lambda: classifier.save_pretrained(name),
        lambda: hf_free.save_teacher(pico_network(), name),
        lambda: hf_free.train(config, output=name),
        lambda: hf_free.distill("./pooled", name),
        lambda: hf_free.report([tmp_path], name),
    ):
        with pytest.raises(HfFreeError):
            call()
    assert os.listdir() == []
    if not isinstance(name, str) or name.isprintable():
        with pytest.raises(HfFreeError):
            MetaLearner.from_pretrained(name)


def test_weights_below_a_folder_that_is_no_text_are_called_so(learner, tmp_path):
    learner.save_pretrained(tmp_path / "a")
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    os.rename(tmp_path / "a", odd)
    with pytest.raises(hf_free.LearnerError, match="no UTF-8"):
        MetaLearner.from_pretrained(odd)


def test_a_learner_of_16_bits_is_saved_and_opened(tmp_path):
    half = make().half()
    half.save_pretrained(tmp_path / "learner")
    opened = MetaLearner.from_pretrained(tmp_path / "learner")
    assert opened.adapt(SHOWN, LABELS).predict(SHOWN) == half.adapt(SHOWN, LABELS).predict(SHOWN)


@pytest.mark.parametrize("name", [None, 3])
def test_a_repository_that_is_no_text_is_refused(learner, name):
    with pytest.raises(HfFreeError):
        learner.push_to_hub(name)


# ---- measuring


@pytest.mark.parametrize(
    "odd",
    [
        {"n_way": 2.0},
        {"n_way": "2"},
        {"k_shots": 1},
        {"k_shots": (1.5,)},
        {"k_shots": "15"},
        {"k_shots": None},
        {"n_query": None},
        {"episodes": 2.5},
        {"episodes": "3"},
        {"episodes": 10**12},
        {"seed": 1.5},
        {"seed": -1},
    ],
)
def test_episodes_are_counted_in_whole_numbers(learner, odd):
    given = {"n_way": 2, "k_shots": (1,), "n_query": 2, "episodes": 3, **odd}
    with pytest.raises(hf_free.DatasetError):
        hf_free.evaluate(learner, brightness_classes(40), EpisodeSettings(**given))


def test_lists_that_are_read_twice_may_be_of_any_kind(learner):
    """A generator of rows left them all out, without a word."""
    data, asked = brightness_classes(40), {"n_way": 2, "n_query": 2, "episodes": 3}
    found = [
        hf_free.evaluate(learner, data, EpisodeSettings(k_shots=shots, **asked), transductive=rows)
        for shots, rows in ((np.array([1, 2]), iter(["centered"])), ([1, 2], ("centered",)))
    ]
    assert [row.accuracy for row in found[0].rows] == [row.accuracy for row in found[1].rows]
    assert len(found[0].rows) == 4
    for rows in (None, 3):
        with pytest.raises(hf_free.LearnerError, match="transductive="):
            hf_free.evaluate(learner, data, FEW, transductive=rows)


@pytest.mark.parametrize("odd", [None, "./learner", torch.nn.Linear(2, 2)])
def test_what_is_no_learner_is_not_measured(learner, classifier, odd):
    data = brightness_classes(40)
    for measured in (odd, classifier):
        with pytest.raises(hf_free.LearnerError, match="a MetaLearner"):
            hf_free.evaluate(measured, data, FEW)
    with pytest.raises(hf_free.LearnerError, match="a MetaLearner"):
        hf_free.evaluate(learner, data, FEW, beside=Comparison(learners={"other": odd}))


@pytest.mark.parametrize("learners", [[make], {3: make}, None])
def test_learners_beside_have_names(learner, learners):
    with pytest.raises(hf_free.DatasetError, match="learners="):
        Comparison(learners=learners)
    with pytest.raises(hf_free.DatasetError, match="beside of type"):
        hf_free.evaluate(learner, brightness_classes(40), FEW, beside=learners)


@pytest.mark.parametrize("source", [None, 3, PICTURES, [], "a\0b", "a" * 5000])
def test_what_names_no_data_set_is_refused(source):
    with pytest.raises(hf_free.DatasetError, match="data set"):
        hf_free.load_labeled_images(source)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([0.0, 1.0], ["a", "b"]),
        (["a", "b"], ["a", "b"]),
        ([True, False], ["a", "b"]),
        (None, ["a", "b"]),
        ([-1, 1], ["a", "b"]),
        ([0, 7], ["a", "b"]),
        ([0, 1], None),
        ([0, 1], ["a"]),
        ([[0], [1]], ["a", "b"]),
    ],
)
def test_labels_of_a_data_set_are_positions(labels, names):
    with pytest.raises(hf_free.DatasetError):
        LabeledImages(SHOWN[:2], labels, names)


def test_pictures_of_a_data_set_may_be_read_once_only():
    assert len(LabeledImages(iter(SHOWN[:2]), [0, 1], ["a", "b"]).images) == 2


# ---- teachers


@pytest.mark.parametrize(
    "odd",
    [
        {"label_names": ["a"]},
        {"label_names": [None] * 5},
        {"label_names": "abcde"},
        {"label_names": {*"abcde"}},
        {"extra_cfg": [1]},
        {"extra_cfg": {"mean": {1, 2}}},
        {"extra_cfg": {"mean": (float("nan"),) * 3}},
        {"model_args": {"width": print}},
        {"network": torch.nn.Linear(2, 2)},
        {"network": None},
    ],
)
def test_a_teacher_that_would_not_be_read_again_is_not_written(odd, tmp_path):
    with pytest.raises(hf_free.TeacherError):
        hf_free.save_teacher(**{"network": pico_network(), "folder": tmp_path / "new", **odd})
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("mean", [np.array([0.1, 0.2, 0.3]), torch.tensor([0.1, 0.2, 0.3]).double()])
def test_an_array_is_written_as_its_numbers(mean, tmp_path):
    hf_free.save_teacher(pico_network(), tmp_path, extra_cfg={"mean": mean})
    assert hf_free.load_teacher(tmp_path).record.mean == pytest.approx((0.1, 0.2, 0.3))


@pytest.mark.parametrize("models", [None, 3, "./a", Path("a"), {"./a": 1}, [1, 2], [None]])
def test_teachers_are_a_list(models, tmp_path):
    config = FreeConfig.from_dict({"models": ["./a", "./b"], "trainer": {"steps": 1}})
    with pytest.raises(HfFreeError):
        hf_free.pool(models)
    if models is not None:
        with pytest.raises(HfFreeError):
            hf_free.train(config, output=tmp_path / "run", models=models)


# ---- the long calls


def test_what_is_no_configuration_is_refused(tmp_path):
    for config in (None, {"models": ["./a"]}, "run.yaml"):
        with pytest.raises(hf_free.ConfigError, match="FreeConfig"):
            hf_free.train(config, output=tmp_path / "run")
        with pytest.raises(hf_free.ConfigError, match="FreeConfig"):
            hf_free.plan(config)
    with pytest.raises(hf_free.ConfigError, match="five of type dict"):
        hf_free.pool(["./a"], five={"inner_steps": 1})
    with pytest.raises(hf_free.ConfigError, match="a mapping"):
        FreeConfig.from_dict(["models"])


@pytest.mark.parametrize(
    "odd",
    [
        {"steps": 1.5},
        {"steps": "3"},
        {"images_per_class": 2.5},
        {"images_per_class": 10**12},
        {"seed": "x"},
        {"seed": -1},
        {"generator": 3},
    ],
)
def test_an_inversion_takes_whole_numbers(odd):
    from pico import pico_teacher

    with pytest.raises(HfFreeError):
        hf_free.invert(pico_teacher(), **{"steps": 1, "images_per_class": 2, **odd})


@pytest.mark.parametrize(
    "odd",
    [
        {"minutes": "1"},
        {"minutes": True},
        {"mixed_precision": "fp8"},
        {"start_from": 3},
        {"learner": {"head": "ridge"}},
        {"seed": "x"},
    ],
)
def test_settings_of_distill_are_refused_before_anything_is_loaded(odd, tmp_path):
    with pytest.raises(hf_free.ConfigError):
        hf_free.distill("./nowhere", tmp_path / "new", **odd)
    assert not (tmp_path / "new").exists()


def test_further_numbers_of_plan_and_pool():
    config = FreeConfig.from_dict({"models": ["./a", "./b"]})
    for count in (0, -1, "2"):
        with pytest.raises(hf_free.ConfigError, match="processes="):
            hf_free.plan(config, processes=count)
    for rounds in (-1, 1.5, "1"):
        with pytest.raises(hf_free.ConfigError, match="rounds="):
            hf_free.pool(["./a"], rounds=rounds)
    with pytest.raises(hf_free.ConfigError, match="one text"):
        check_tokens("secret", [])


def test_threads_that_no_machine_has_are_refused():
    """Some million of them end the process by a signal."""
    with pytest.raises(hf_free.ConfigError, match=r"trainer\.threads"):
        FreeConfig.from_dict({"trainer": {"threads": 1025}})


def test_a_report_is_a_page_beside_what_it_reads(learner, tmp_path):
    learner.save_pretrained(tmp_path / "learner")
    before = (tmp_path / "learner" / "config.json").read_bytes()
    for output in (tmp_path, tmp_path / "learner" / "config.json", tmp_path / "x.txt"):
        with pytest.raises(hf_free.RunError, match="the output"):
            hf_free.report([tmp_path / "learner"], output)
    for runs in ("learner", None, 3):
        with pytest.raises(hf_free.RunError):
            hf_free.report(runs, tmp_path / "page.html")
    assert (tmp_path / "learner" / "config.json").read_bytes() == before


# ---- objects of another type


def test_a_rejection_by_hand_is_one(learner):
    from hf_free.learner.rejection import Rejection

    adapted = learner.adapt(SHOWN, LABELS)
    adapted.rejection = Rejection(0.5)
    for odd in (0.5, "0.5", (0.5, None), True):
        with pytest.raises(hf_free.LearnerError, match=r"rejection=.*\n.*Rejection"):
            adapted.rejection = odd
    assert adapted.rejection == Rejection(0.5)
    for odd in ("0.5", None, float("nan"), True):
        with pytest.raises(hf_free.LearnerError, match="threshold="):
            Rejection(odd)
    with pytest.raises(hf_free.LearnerError, match="false_rejections="):
        Rejection(0.5, 2)


ODD = [object(), 3, "x", [], lambda: None]


@pytest.mark.parametrize("odd", ODD)
def test_who_is_told_is_a_function_everywhere(learner, odd, tmp_path):
    from pico import pico_teacher

    config = FreeConfig.from_dict({"models": ["./a", "./b"]})
    data = brightness_classes(40)
    for name, call in (
        ("progress", lambda: hf_free.invert(pico_teacher(), steps=1, images_per_class=2, progress=odd)),
        ("progress", lambda: hf_free.pool(["./a"], progress=odd)),
        ("progress", lambda: hf_free.distill("./a", tmp_path / "new", progress=odd)),
        ("progress", lambda: hf_free.evaluate(learner, data, FEW, progress=odd)),
        ("progress", lambda: data.read(learner.preprocessing, odd)),
        ("watch", lambda: hf_free.train(config, output=tmp_path / "new", watch=odd)),
    ):
        with pytest.raises(HfFreeError, match=f"^{name}=.*\n  allowed: None, or a function"):
            call()
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("odd", [value for value in ODD if not callable(value)])
def test_objects_of_another_type_are_refused_by_their_arguments_name(learner, odd, tmp_path):
    from pico import pico_teacher

    config = FreeConfig.from_dict({"models": ["./a", "./b"]})
    given = {"config": config, "output": tmp_path / "new"}
    for name, call in (
        ("pool", lambda: hf_free.train(**given, pool=odd)),
        ("console", lambda: hf_free.train(**given, console=odd)),
        ("progress", lambda: hf_free.train(**given, progress=odd)),
        ("console", lambda: hf_free.plan(config, console=odd)),
        ("measure", lambda: hf_free.plan(config, measure=odd)),
        ("queries", lambda: hf_free.invert(pico_teacher(), steps=1, images_per_class=2, queries=odd)),
        ("precision", lambda: hf_free.load_teacher("./a", precision=odd)),
        ("builder", lambda: hf_free.load_teacher("./a", builder=odd)),
        ("snapshot", lambda: hf_free.load_teacher("./a", snapshot=odd)),
        ("endpoints", lambda: hf_free.load_teacher("./a", endpoints=odd)),
        ("teachers", lambda: Comparison(teachers=odd)),
        ("concatenations", lambda: Comparison(concatenations=[str(odd)])),
        ("off_the_shelf", lambda: Comparison(off_the_shelf=[odd])),
        ("five", lambda: hf_free.pool(["./a"], five=odd)),
        ("hub", lambda: hf_free.distill("./a", tmp_path / "new", hub=odd)),
    ):
        with pytest.raises(HfFreeError, match=f"^{name}[= ]"):
            call()
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("odd", ["no", None, 2.5])
def test_a_text_is_no_truth_value(learner, classifier, odd, tmp_path):
    """`overwrite="no"` was taken for yes, `private=None` published to everybody."""
    config = FreeConfig.from_dict({"models": ["./a", "./b"]})
    for name, call in (
        ("overwrite", lambda: hf_free.train(config, output=tmp_path / "new", overwrite=odd)),
        ("resume", lambda: hf_free.train(config, output=tmp_path / "new", resume=odd)),
        ("overwrite", lambda: hf_free.pool(["./a"], overwrite=odd)),
        ("keep_views", lambda: hf_free.distill("./a", tmp_path / "new", keep_views=odd)),
        ("private", lambda: learner.push_to_hub("me/x", private=odd)),
        ("create_pr", lambda: classifier.push_to_hub("me/x", create_pr=odd)),
        ("with_pictures", lambda: classifier.save_pretrained(tmp_path / "new", with_pictures=odd)),
        ("local_files_only", lambda: MetaLearner.from_pretrained("me/x", local_files_only=odd)),
        ("draws_map", lambda: hf_free.read_run(tmp_path, draws_map=odd)),
    ):
        with pytest.raises(HfFreeError, match=f"^{name}="):
            call()
    assert not (tmp_path / "new").exists()


def test_what_describes_a_network_in_memory_is_looked_at():
    from hf_free.teachers.in_memory import as_teacher, pool_in_memory

    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
    usual = {"input_size": (3, 2, 2), "mean": np.zeros(3), "std": torch.ones(3)}
    assert as_teacher(network, **usual).record.num_classes == 2
    for name, odd in (("input_size", 3), ("input_size", "224"), ("mean", "x"), ("std", 3), ("label_names", "ab")):
        with pytest.raises(hf_free.TeacherError, match=f"^{name}="):
            as_teacher(network, **{**usual, name: odd})
    with pytest.raises(hf_free.ConfigError, match="device"):
        pool_in_memory([pico_network()], device=object())


@pytest.mark.parametrize(
    "odd",
    [{"images": 3}, {"images": "ab"}, {"class_names": 3}, {"class_names": "ab"}, {"source": 3}, {"background": "no"}],
)
def test_parts_of_a_data_set_are_named(odd):
    given = {"images": SHOWN[:2], "labels": [0, 1], "class_names": ["a", "b"], **odd}
    with pytest.raises(HfFreeError, match=next(iter(odd))):
        LabeledImages(**given)
