"""Evaluation rows against a loop over `adapt` and `predict`, and the baselines against their definitions."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest
import torch
from measured import SETTING, episodes_of, everything, make
from pico import pico_folder, pico_teacher
from PIL import Image

from hf_free.data.episodes import sample_episodes
from hf_free.errors import DatasetError, LearnerError
from hf_free.evaluation.datasets import LabeledImages, load_labeled_images
from hf_free.evaluation.evaluate import Comparison, EpisodeSettings, evaluate
from hf_free.learner.scoring import mean_and_interval, score_episodes
from hf_free.learner.transductive import TRANSDUCTIVE
from hf_free.teachers.pool import TeacherPool


def loop_accuracy(learner, data, k_shot):
    """Adapt and predict one episode after the other, in percent with the interval."""
    accuracies = []
    drawn = episodes_of(data, k_shot)
    for support, query in zip(drawn.support, drawn.query, strict=True):
        named = {label: f"class {label}" for label in range(5)}
        labels = [named[label] for label in data.labels[support.flatten()].tolist()]
        predicted = learner.adapt(data.images[support.flatten()], labels).predict(data.images[query.flatten()])
        expected = [named[label] for label in data.labels[query.flatten()].tolist()]
        accuracies.append(sum(p == e for p, e in zip(predicted, expected, strict=True)) / 15)
    mean, interval = mean_and_interval(torch.tensor(accuracies))
    return pytest.approx(100 * mean, abs=1e-3), pytest.approx(100 * interval, abs=1e-3)


@pytest.mark.parametrize("head", ["nearest_mean", "ridge", "maml"])
@pytest.mark.parametrize("batchnorm", ["running", "support"])
def test_rows_equal_a_loop_over_adapt_and_predict(data, head, batchnorm):
    learner = make(head, batchnorm)
    report = evaluate(learner, data, SETTING)
    assert [row.k_shot for row in report.rows] == [1, 4]
    for row in report.rows:
        assert (row.accuracy, row.interval) == loop_accuracy(learner, data, row.k_shot)
        assert (row.n_way, row.n_query, row.episodes, row.inductive) == (3, 5, 12, True)


def test_transductive_rows_are_named_so(data):
    report = evaluate(make(), data, SETTING, transductive=[*TRANSDUCTIVE, "batchnorm"])
    named = {row.method: row.inductive for row in report.rows}
    assert named == {
        "learner": True,
        "learner, centered by support and queries (transductive)": False,
        "learner, soft k-means on the queries (transductive)": False,
        "learner, centered soft k-means on the queries (transductive)": False,
        "learner, optimal-transport means (transductive)": False,
        "learner, balanced optimal-transport means (transductive)": False,
        "learner, transductive BatchNorm": False,
    }
    assuming = {row.method for row in report.rows if row.note == "assumes as many queries of each class"}
    assert assuming == {"learner, balanced optimal-transport means (transductive)"}
    transductive = [row for row in report.rows if row.method.endswith("transductive BatchNorm")]
    for row in transductive:
        assert (row.accuracy, row.interval) == loop_accuracy(make(batchnorm="transductive"), data, row.k_shot)


def test_a_transductive_row_is_the_accuracy_of_the_classifier_of_that_name(data):
    learner, setting = make(), replace(SETTING, episodes=5)
    report = evaluate(learner, data, setting, transductive=["transport"])
    drawn = sample_episodes(
        data.labels,
        n_way=setting.n_way,
        k_shot=report.rows[0].k_shot,
        n_query=setting.n_query,
        episodes=5,
        generator=torch.Generator().manual_seed(0),
    )
    pictures, right = data.at_size(learner.config.image_size), []
    for support, query in zip(drawn.support.flatten(1), drawn.query.flatten(1), strict=True):
        classifier = learner.adapt(pictures[support], drawn.labels("support"), transductive="transport")
        right.append((classifier.predict_proba(pictures[query]).argmax(1) == drawn.labels("query")).float().mean())
    (row,) = (row for row in report.rows if "transport" in row.method and row.k_shot == report.rows[0].k_shot)
    assert row.accuracy == pytest.approx(100 * torch.stack(right).mean().item())


def test_an_unknown_transductive_row_is_refused(data):
    with pytest.raises(LearnerError, match=r"unknown transductive head 'kmeans'[\s\S]*soft-kmeans, .*batchnorm"):
        evaluate(make(), data, SETTING, transductive=["kmeans"])


def test_without_asking_no_row_is_transductive_unless_the_learner_is(data):
    assert all(row.inductive for row in evaluate(make(), data, SETTING).rows)
    report = evaluate(make(batchnorm="transductive"), data, SETTING)
    assert {(row.method, row.inductive) for row in report.rows} == {("learner, transductive BatchNorm", False)}


def test_the_same_seed_gives_the_same_figures_and_another_does_not(data):
    def figures(seed):
        report = evaluate(make(), data, replace(SETTING, seed=seed), beside=Comparison(baselines="untrained"))
        return [row.accuracy for row in report.rows]

    torch.manual_seed(1)
    first = figures(0)
    torch.manual_seed(2)
    assert figures(0) == first
    assert figures(1) != first


def test_a_teacher_that_cannot_be_loaded_is_a_row_that_says_why(data, tmp_path):
    pico_folder(tmp_path / "good", "conv4", size=16)
    pool = TeacherPool([str(tmp_path / "good"), str(tmp_path / "good@nowhere"), "./gone"])
    assert len(pool) == 1
    report = evaluate(make(), data, SETTING, beside=everything(pool))
    broken = [row for row in report.rows if row.accuracy is None]
    assert [(row.method, row.k_shot) for row in broken if "gone" in row.method] == [
        ("teacher ./gone", 1),
        ("teacher ./gone", 4),
    ]
    assert all(row.note.startswith("not available: ") and row.interval is None for row in broken)


def test_no_teachers_is_a_row_too(data):
    report = evaluate(make(), data, SETTING, beside=everything(None))
    assert [row.note for row in report.rows if row.method == "teachers"] == [
        "not available: no teachers were given"
    ] * 2


def test_classes_that_the_teachers_know_are_named(data, teachers):
    knowing = pico_teacher("conv4", size=16, label_names=["RED", "dark-green", "x", "y", "z"])
    recorded = make(record={"teachers": [{"label_names": ["blue"]}, {"label_names": None}]})
    report = evaluate(recorded, data, SETTING, beside=Comparison(teachers=TeacherPool.from_teachers([knowing])))
    assert len(report.warnings) == 1
    assert "3 of 5 classes" in report.warnings[0]
    assert "(red, Dark_Green, blue)" in report.warnings[0]
    others = Comparison(teachers=TeacherPool.from_teachers(teachers))
    assert evaluate(make(), data, SETTING, beside=others).warnings == []


def test_one_transductive_head_may_be_a_text_as_adapt_takes_it(data):
    one, listed = (evaluate(make(), data, SETTING, transductive=given) for given in ("centered", ["centered"]))
    assert [row.method for row in one.rows] == [row.method for row in listed.rows]
    with pytest.raises(LearnerError, match="unknown transductive head 'no'"):
        evaluate(make(), data, SETTING, transductive="no")


def test_classes_left_out_are_counted(data):
    few = LabeledImages(data.images[:-1], data.labels[:-1], data.class_names)
    report = evaluate(make(), few, EpisodeSettings(n_way=3, n_query=8, episodes=5, k_shots=(4,)))
    assert "1 of 5 classes have fewer than 12 pictures" in report.warnings[0]


def test_weights_from_elsewhere_are_named_not_data_free(data):
    report = evaluate(make(record={"data_free": False}), data, SETTING)
    assert {row.method for row in report.rows} == {"learner (not data-free)"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_way": 6}, "6-way episodes out of 5 classes"),
        ({"k_shots": (1, 8)}, "only 0 of 5 classes have 13"),
    ],
)
def test_what_cannot_be_measured_is_refused(data, change, message):
    with pytest.raises(DatasetError, match=message):
        evaluate(make(), data, replace(SETTING, **change))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"episodes": 1}, r"episodes=1\n.*at least 2"),
        ({"k_shots": ()}, "at least one number of shots"),
        ({"k_shots": (1, 0)}, r"k_shots=0\n.*at least 1"),
        ({"n_way": -1}, r"n_way=-1\n.*at least 2"),
        ({"n_query": 0}, r"n_query=0\n.*at least 1"),
    ],
)
def test_episodes_that_cannot_be_are_refused_where_they_are_written(given, message):
    with pytest.raises(DatasetError, match=message):
        EpisodeSettings(**given)


@pytest.mark.parametrize(("name", "value"), [("labels", torch.zeros(2)), ("class_names", ["a"])])
def test_a_data_set_of_which_a_part_was_changed_by_hand_is_compared_again(data, name, value):
    changed = replace(data)
    setattr(changed, name, value)
    with pytest.raises(DatasetError, match=r"labels"):
        evaluate(make(), changed, SETTING)


def test_an_unknown_set_of_baselines_is_refused():
    with pytest.raises(DatasetError, match=r"baselines='some'[\s\S]*none, untrained, all"):
        Comparison(baselines="some")


def test_a_data_set_is_loaded_by_its_name(data, tmp_path):
    for index, (picture, label) in enumerate(zip(data.images, data.labels.tolist(), strict=True)):
        path = tmp_path / data.class_names[label] / f"{index:02d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(path)
    report = evaluate(make(), tmp_path, SETTING)
    loaded = evaluate(make(), load_labeled_images(tmp_path), SETTING)
    assert [row.accuracy for row in report.rows] == [row.accuracy for row in loaded.rows]
    assert (report.dataset, report.pictures) == (str(tmp_path), 60)


def test_progress_is_told(data, teachers):
    told = []
    evaluate(
        make(),
        data,
        SETTING,
        beside=everything(TeacherPool.from_teachers(teachers)),
        progress=lambda what, done, total: told.append((what, done, total)),
    )
    assert ("features of the learner", 1, 1) in told
    assert ("features of the teachers", 3, 3) in told


def test_other_learners_are_rows_on_the_same_episodes_with_their_own_heads(data):
    others = {"org/ridge": make("ridge"), "runs/paper": make("maml", "support", record={"data_free": False})}
    report = evaluate(make(), data, SETTING, beside=Comparison(learners=others))
    alone = {row.k_shot: row.accuracy for row in evaluate(make(), data, SETTING).rows}
    found = {(row.method, row.k_shot): (row.accuracy, row.interval) for row in report.rows}
    for k_shot in (1, 4):
        assert found["learner", k_shot][0] == alone[k_shot]
        assert found["org/ridge", k_shot] == loop_accuracy(make("ridge"), data, k_shot)
        name = "runs/paper (not data-free), BatchNorm of the support"
        assert found[name, k_shot] == loop_accuracy(make("maml", "support"), data, k_shot)
    assert len(found) == 6


class CountedPictures(list):
    """Pictures that remember which of them were looked at."""

    def __init__(self, pictures):
        super().__init__(pictures)
        self.seen = set()

    def __getitem__(self, index):
        self.seen.add(index)
        return super().__getitem__(index)


def test_only_pictures_of_the_episodes_are_looked_at(data):
    setting = EpisodeSettings(n_way=3, n_query=2, episodes=2, k_shots=(1,))
    pictures = CountedPictures(data.images)
    counted = LabeledImages(pictures, data.labels, data.class_names)
    few = evaluate(make(), counted, setting, beside=Comparison(baselines="untrained"))
    drawn = sample_episodes(
        data.labels, n_way=3, k_shot=1, n_query=2, episodes=2, generator=torch.Generator().manual_seed(0)
    )
    used = set(drawn.support.flatten().tolist()) | set(drawn.query.flatten().tolist())
    assert pictures.seen == used
    assert len(used) < len(data)
    assert few.pictures == len(data)
    expected = score_episodes(make().embed(data.images), drawn)
    assert few.rows[0].accuracy == pytest.approx(100 * expected.mean().item(), abs=1e-3)


def test_the_first_teachers_concatenated_are_a_row(data, teachers):
    pool = TeacherPool.from_teachers(teachers)
    report = evaluate(make(), data, SETTING, beside=everything(pool, concatenations=(2, 3, 5)))
    rows = {(row.method, row.k_shot): row.accuracy for row in report.rows}
    with torch.no_grad():
        features = [torch.nn.functional.normalize(t.features(data.images.float() / 255)) for t in teachers[:2]]
    expected = 100 * score_episodes(torch.cat(features, 1), episodes_of(data, 4)).mean().item()
    assert rows["first 2 teachers' features, concatenated", 4] == pytest.approx(expected, abs=1e-3)
    assert [method for method, k_shot in rows if k_shot == 1 and method.startswith("first ")] == [
        "first 2 teachers' features, concatenated"  # three are all of them, five are more than there are
    ]


def test_a_report_says_which_pictures_it_was_measured_on(data, tmp_path):
    report = evaluate(make(), data, SETTING)
    assert (report.local, report.fingerprint) == (False, "")
    (tmp_path / "noise").mkdir()
    folders = [replace(data, source=str(tmp_path / "noise")), replace(data, source=str(tmp_path / "noise"))]
    folders[1].labels = folders[1].labels.clone()
    folders[1].labels[0] = (folders[1].labels[0] + 1) % 5
    found = [evaluate(make(), folder, SETTING) for folder in folders]
    assert [report.local for report in found] == [True, True]
    assert len({report.fingerprint for report in found}) == 2


def test_a_compared_learner_of_the_same_name_is_another_row(data):
    report = evaluate(make(), data, SETTING, beside=Comparison(learners={"learner": make("ridge")}))
    assert {row.method for row in report.rows} == {"learner", "compared learner"}


def test_evaluate_compares_learners_of_the_hub_and_of_folders(data, hub, run_client, tmp_path):
    for index, (picture, label) in enumerate(zip(data.images, data.labels.tolist(), strict=True)):
        path = tmp_path / "pictures" / data.class_names[label] / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(path)
    make().save_pretrained(tmp_path / "first" / "learner")
    make("ridge").save_pretrained(tmp_path / "second" / "learner")
    make("ridge").save_pretrained(tmp_path / "on_hub")
    files = {path.name: path.read_bytes() for path in (tmp_path / "on_hub").iterdir()}
    commit = hub.add_repo("lab/compared", files)
    hub.add_repo("lab/compared", {"model.safetensors": b"broken since"})
    command = [sys.executable, "-m", "hf_free.cli.main", "evaluate", "first", "--dataset", "pictures", "--json"]
    command += ["--n-way", "3", "--n-query", "5", "--episodes", "12", "--k-shot", "4"]
    done = run_client([*command, "--compare", "second", f"lab/compared@{commit}"], cwd=tmp_path)
    found = {row["method"]: row["accuracy"] for row in json.loads(done.stdout)["rows"]}
    assert list(found) == ["learner", "second", f"lab/compared@{commit}"]
    assert found["second"] == pytest.approx(found[f"lab/compared@{commit}"])
    assert found["second"] != pytest.approx(found["learner"])
