"""Sessions of the app: the same answers as in Python, classes of one's own, at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from learners import as_pil, make, pictures

from hf_free.demo.class_sessions import MOST_PICTURES, ClassSessions
from hf_free.errors import LearnerError
from hf_free.learner.classifier import FewShotClassifier


@pytest.fixture(scope="module")
def learner():
    return make()


@pytest.fixture
def sessions(learner):
    made = ClassSessions(learner, most_sessions=3)
    yield made
    made.close()


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for place, picture in enumerate(as_pil(pictures(9, size=20))):
        picture.save(folder / f"{place}.png")
    return [folder / f"{place}.png" for place in range(9)]


def _two_classes(sessions, paths):
    key = sessions.new()
    sessions.add(key, "cat", paths[:3])
    assert sessions.add(key, " dog\n", paths[3:5]) == {"cat": 3, "dog": 2}
    return key


def test_answers_are_those_of_python_to_the_last_bit(sessions, learner, paths):
    key = _two_classes(sessions, paths)
    answer = sessions.ask(key, paths[8])
    classifier = learner.adapt([str(path) for path in paths[:5]], ["cat"] * 3 + ["dog"] * 2)
    expected = classifier.predict_proba([str(paths[8])])[0].tolist()
    assert answer.probabilities == dict(zip(["cat", "dog"], expected, strict=True))
    assert answer.label == classifier.predict([str(paths[8])])[0]
    sessions.add(key, "eel", paths[5:7])
    sessions.remove(key, "eel")
    assert sessions.ask(key, paths[8]) == answer
    assert torch.is_grad_enabled()


def test_the_nearest_picture_of_a_support_picture_is_itself(sessions, paths):
    key = _two_classes(sessions, paths)
    nearest = sessions.ask(key, paths[4]).nearest
    assert nearest[0].label == "dog"
    assert nearest[0].path.read_bytes() == paths[4].read_bytes()
    assert nearest[0].similarity == pytest.approx(1, abs=1e-5)
    assert [one.similarity for one in nearest] == sorted((one.similarity for one in nearest), reverse=True)


def test_none_of_these_is_calibrated_and_taken_back(sessions, learner, paths):
    key = _two_classes(sessions, paths)
    classifier = learner.adapt([str(path) for path in paths[:5]], ["cat"] * 3 + ["dog"] * 2)
    classifier.calibrate_rejection(0.4)
    expected = classifier.predict([str(path) for path in paths[5:]])
    assert [sessions.ask(key, path, reject=0.4).label for path in paths[5:]] == expected
    assert None not in [sessions.ask(key, path).label for path in paths[5:]]


def test_an_exported_classifier_answers_alike(sessions, paths, tmp_path):
    import shutil

    key = _two_classes(sessions, paths)
    answer = sessions.ask(key, paths[7])
    shutil.unpack_archive(sessions.export(key), tmp_path)
    kept = FewShotClassifier.from_pretrained(tmp_path / "classifier")
    assert kept.predict_proba([str(paths[7])])[0].tolist() == list(answer.probabilities.values())


def test_renaming_keeps_the_pictures_and_joins_classes_of_one_name(sessions, paths):
    key = _two_classes(sessions, paths)
    sessions.add(key, "puppy", paths[5:7])
    assert sessions.rename(key, "puppy", "dog") == {"cat": 3, "dog": 4}
    assert sessions.rename(key, "cat", "lion") == {"dog": 4, "lion": 3}


def test_users_at_once_keep_their_own_classes(sessions, learner, paths):
    def user(number):
        key = f"user {number}"
        names = [f"{number} a", f"{number} b"]
        sessions.add(key, names[0], paths[number : number + 2])
        sessions.add(key, names[1], paths[number + 2 : number + 5])
        seen = [sessions.ask(key, paths[8]).probabilities for _ in range(5)]
        labels = [names[0]] * 2 + [names[1]] * 3
        alone = learner.adapt([str(path) for path in paths[number : number + 5]], labels)
        return seen, dict(zip(names, alone.predict_proba([str(paths[8])])[0].tolist(), strict=True))

    with ThreadPoolExecutor(3) as pool:
        for seen, expected in pool.map(user, range(3)):
            assert all(answer == expected for answer in seen)


def test_the_session_of_longest_ago_makes_room(sessions, paths):
    first = _two_classes(sessions, paths)
    sessions.new()
    sessions.new()
    kept = sessions.ask(first, paths[4]).nearest[0].path
    assert kept.is_file()
    for _ in range(3):
        sessions.new()
    assert not kept.exists()
    assert sessions.classes(first) == {}


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda s, k, p: s.add(k, " \n", p[:1]), "without a name"),
        (lambda s, k, p: s.add(k, "eel", []), "without pictures"),
        (lambda s, k, p: s.add(k, "eel", [p[0]] * MOST_PICTURES), f"{MOST_PICTURES} pictures in all"),
        (lambda s, k, p: s.add(k, "eel", [p[0].parent / "none.png"]), r"none\.png"),
        (lambda s, k, p: s.remove(k, "eel"), "no class 'eel'"),
        (lambda s, k, p: s.rename(k, "cat", ""), "without a name"),
        (lambda s, k, p: s.ask(s.new(), p[0]), "0 classes"),
        (lambda s, k, p: s.export(s.new()), "0 classes"),
        (lambda s, k, p: s.classes(""), "no session"),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(sessions, paths, act, message):
    key = _two_classes(sessions, paths)
    with pytest.raises(LearnerError, match=message):
        act(sessions, key, paths)
    assert sessions.classes(key) == {"cat": 3, "dog": 2}
