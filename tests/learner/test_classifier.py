"""What adaptation leaves behind, saved and loaded."""

from __future__ import annotations

import copy
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import yaml
from learners import LABELS, RECORD, as_pil, make, pictures
from safetensors.torch import load_file, save_file

from hf_free.errors import LearnerError
from hf_free.learner.classifier import FewShotClassifier
from hf_free.learner.rejection import Rejection
from hf_free.learner.transductive import transductive_probabilities


def test_an_adapted_classifier_predicts_the_same_bit_for_bit_in_another_process(forks, tmp_path):
    classifier = make(head="ridge", batchnorm="support").adapt(pictures(), LABELS)
    classifier.save_pretrained(tmp_path)
    save_file({"queries": pictures(9, 21, seed=4)}, tmp_path / "queries.safetensors")
    code = (
        "import json, sys, torch; from safetensors.torch import load_file; torch.set_num_threads(1);"
        "from hf_free.learner.classifier import FewShotClassifier;"
        "classifier = FewShotClassifier.from_pretrained(sys.argv[1]);"
        "answers = classifier.predict_proba(load_file(sys.argv[1] + '/queries.safetensors')['queries']);"
        "print(json.dumps([classifier.classes, answers.tolist()]))"
    )
    run = forks.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        expected = classifier.predict_proba(pictures(9, 21, seed=4)).tolist()
    finally:
        torch.set_num_threads(threads)
    assert json.loads(run.stdout) == [["ant", "bee", "cat"], expected]


def test_integer_classes_stay_integers(tmp_path):
    make(head="maml").adapt(pictures(), [3, 1, 3, 1, 3, 1]).save_pretrained(tmp_path)
    assert FewShotClassifier.from_pretrained(tmp_path).classes == [1, 3]


def test_a_folder_without_classifier_is_refused(tmp_path):
    make(record=RECORD).save_pretrained(tmp_path)
    with pytest.raises(LearnerError, match=r"holds no adapted classifier[\s\S]*classifier.json"):
        FewShotClassifier.from_pretrained(tmp_path)


def test_it_is_loaded_without_what_trains_and_publishes_and_keeps_its_record(forks, tmp_path):
    make("conv4_32", record=RECORD).adapt(pictures(), LABELS).save_pretrained(tmp_path / "first")
    code = (
        "import sys; from hf_free.learner.classifier import FewShotClassifier;"
        "FewShotClassifier.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[2]);"
        "assert 'hf_free.learner.meta_learner' not in sys.modules"
    )
    forks.run(
        [sys.executable, "-c", code, str(tmp_path / "first"), str(tmp_path / "second")], check=True, imports=True
    )
    files = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert len(files) == 6
    for name in files:
        assert (tmp_path / "second" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()


KINDS = [
    {"head": "ridge"},
    {"head": "logistic"},
    {"head": "ridge", "batchnorm": "support"},
    {"head": "nearest_mean", "batchnorm": "transductive"},
    {"head": "maml"},
]
SHOWN, QUERIES = pictures(10), pictures(7, 23, seed=4)
NAMES = ["cat", "ant", "cat", "bee", "cat", "ant", "dog", "dog", "bee", "ant"]


def of(name, *, of_names=NAMES):
    return SHOWN[[index for index, label in enumerate(of_names) if label == name]]


@pytest.mark.parametrize("kind", KINDS)
def test_after_adding_and_removing_in_any_order_it_is_the_one_adapted_at_once(kind):
    learner = make(**kind)
    expected = learner.adapt(SHOWN, NAMES)
    reversed_order = learner.adapt(SHOWN.flip(0), NAMES[::-1])
    grown = learner.adapt(torch.cat([of("dog"), of("cat")[1:]]), ["dog"] * 2 + ["cat"] * 2)
    grown.add_class("emu", pictures(2, seed=9))
    grown.add_class("bee", as_pil(of("bee").flip(0)))
    grown.add_class("ant", of("ant")[:1])
    grown.remove_class("emu")
    grown.add_examples("ant", [of("ant")[2], of("ant")[1]])
    grown.add_examples("cat", of("cat")[:1])
    for classifier in (reversed_order, grown):
        assert classifier.classes == expected.classes == ["ant", "bee", "cat", "dog"]
        assert torch.equal(classifier.predict_proba(QUERIES), expected.predict_proba(QUERIES))
    expected.remove_class("cat")
    left = [index for index, name in enumerate(NAMES) if name != "cat"]
    smaller = learner.adapt(SHOWN[left], [NAMES[index] for index in left])
    assert torch.equal(expected.predict_proba(QUERIES), smaller.predict_proba(QUERIES))


@pytest.mark.parametrize("kind", KINDS[:4])
def test_a_loaded_classifier_changes_as_the_one_that_was_saved(tmp_path, kind):
    classifier = make(**kind).adapt(SHOWN[:6], NAMES[:6])
    classifier.calibrate_rejection(0.25)
    loaded = FewShotClassifier.from_pretrained(classifier.save_pretrained(tmp_path, with_pictures=True))
    for one in (classifier, loaded):
        one.add_class("dog", of("dog"))
        one.remove_class("bee")
    assert torch.equal(loaded.predict_proba(QUERIES), classifier.predict_proba(QUERIES))
    assert loaded.rejection == classifier.rejection


def test_pictures_are_saved_on_request_only_and_the_message_says_so(tmp_path):
    classifier = make(batchnorm="support").adapt(SHOWN, NAMES)
    loaded = FewShotClassifier.from_pretrained(classifier.save_pretrained(tmp_path))
    assert load_file(tmp_path / "support.safetensors")["rows"].shape == (10, classifier.embedder.feature_dim)
    assert torch.equal(loaded.predict_proba(QUERIES), classifier.predict_proba(QUERIES))
    with pytest.raises(LearnerError, match=r"support pictures were not saved[\s\S]*with_pictures=True"):
        loaded.add_class("emu", pictures(2))


def test_a_learner_of_maml_changes_no_classes_once_loaded(tmp_path):
    classifier = make(head="maml").adapt(SHOWN, NAMES)
    loaded = FewShotClassifier.from_pretrained(classifier.save_pretrained(tmp_path, with_pictures=True))
    with pytest.raises(LearnerError, match=r"its head maml changed the network[\s\S]*adapt the learner again"):
        loaded.remove_class("ant")


def test_what_was_saved_without_support_answers_and_says_what_it_cannot(tmp_path):
    classifier = make().adapt(SHOWN, NAMES)
    classifier.save_pretrained(tmp_path)
    content = json.loads((tmp_path / "classifier.json").read_text())
    del content["support"]  # as versions of before it wrote it
    (tmp_path / "classifier.json").write_text(json.dumps(content))
    loaded = FewShotClassifier.from_pretrained(tmp_path)
    assert torch.equal(loaded.predict_proba(QUERIES), classifier.predict_proba(QUERIES))
    for change in (lambda: loaded.add_class("emu", pictures(1)), loaded.calibrate_rejection):
        with pytest.raises(LearnerError, match="saved without its support"):
            change()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.add_class("ant", pictures(1)), "a class 'ant' already"),
        (lambda c: c.add_class(1, pictures(1)), None),
        (lambda c: c.add_class(2.5, pictures(1)), "label 2.5 of type float"),
        (lambda c: c.add_examples("emu", pictures(1)), r"no class 'emu'[\s\S]*ant, bee, cat, dog"),
        (lambda c: c.remove_class("emu"), "no class 'emu'"),
        (lambda c: c.add_class("emu", []), "no pictures"),
        (lambda c: c.top_k(QUERIES, 0), "k=0"),
        (lambda c: c.calibrate_rejection(1.0), "false_rejections=1.0"),
    ],
)
def test_impossible_changes_are_refused_and_leave_it_as_it_was(change, message):
    classifier = make().adapt(SHOWN, NAMES)
    before = classifier.predict_proba(QUERIES)
    if message is None:
        change(classifier)
        assert classifier.classes == [1, "ant", "bee", "cat", "dog"]
        classifier.remove_class(1)
    else:
        with pytest.raises(LearnerError, match=message):
            change(classifier)
    assert torch.equal(classifier.predict_proba(QUERIES), before)


def test_the_last_two_classes_stay():
    classifier = make().adapt(SHOWN[:2], NAMES[:2])
    with pytest.raises(LearnerError, match="would have one class"):
        classifier.remove_class("ant")


def test_several_threads_may_change_it_and_ask_it_at_once():
    """None of their classes is lost, and an answer is of the classes of one moment."""
    classifier, images = make("conv4_32").adapt(as_pil(pictures()), LABELS), as_pil(pictures(2))

    def work(number):
        classifier.add_class(f"new {number}", images)
        given = classifier.top_k(images, 99)
        if number % 2:
            classifier.remove_class(f"new {number}")
        return {round(sum(probability for _, probability in row), 3) for row in given}

    with ThreadPoolExecutor(4) as threads:
        assert set.union(*threads.map(work, range(8))) == {1.0}
    assert sorted(classifier.classes) == ["ant", "bee", "cat", *(f"new {number}" for number in range(0, 8, 2))]
    assert copy.deepcopy(classifier).classes == classifier.classes


def test_top_k_is_the_sorted_probabilities():
    classifier = make().adapt(SHOWN, NAMES)
    for row, found in zip(classifier.predict_proba(QUERIES).tolist(), classifier.top_k(QUERIES, 3), strict=True):
        assert found == sorted(zip(classifier.classes, row, strict=True), key=lambda pair: -pair[1])[:3]
    assert len(classifier.top_k(QUERIES, 9)[0]) == 4


def test_rejected_pictures_get_none_and_the_others_their_class(tmp_path):
    classifier = make(head="ridge").adapt(SHOWN, NAMES)
    named = classifier.predict(QUERIES)
    confidence = classifier.answers(classifier.embed(QUERIES)).confidence
    middle = confidence.sort().values[3].item()
    classifier.rejection = Rejection(middle)
    expected = [label if sure >= middle else None for label, sure in zip(named, confidence.tolist(), strict=True)]
    assert classifier.predict(QUERIES) == expected
    assert expected.count(None) == 3
    loaded = FewShotClassifier.from_pretrained(classifier.save_pretrained(tmp_path))
    assert loaded.predict(QUERIES) == expected
    loaded.remove_class("dog")
    assert loaded.rejection == Rejection(middle), "a threshold set by hand stays"
    classifier.rejection = None
    assert classifier.predict(QUERIES) == named


def test_a_transductive_head_is_named_kept_and_is_what_the_head_itself_says(tmp_path):
    learner = make(head="ridge")
    classifier = learner.adapt(SHOWN, NAMES, transductive="soft-kmeans")
    indices = torch.tensor([classifier.classes.index(name) for name in NAMES])
    expected = transductive_probabilities("soft-kmeans", learner.embed(SHOWN), indices, learner.embed(QUERIES))
    torch.testing.assert_close(classifier.predict_proba(QUERIES), expected, rtol=1e-4, atol=1e-5)
    assert not torch.equal(classifier.predict_proba(QUERIES), learner.adapt(SHOWN, NAMES).predict_proba(QUERIES))
    loaded = FewShotClassifier.from_pretrained(classifier.save_pretrained(tmp_path))
    assert loaded.transductive == "soft-kmeans"
    assert torch.equal(loaded.predict_proba(QUERIES), classifier.predict_proba(QUERIES))
    with pytest.raises(LearnerError, match=r"unknown transductive head 'no'[\s\S]*soft-kmeans"):
        learner.adapt(SHOWN, NAMES, transductive="no")


def test_it_has_a_repository_of_its_own_and_answers_there_as_here(hub, tokens, run_client, tmp_path):
    make("conv4_32", record=RECORD).save_pretrained(tmp_path / "learner")
    save_file({"shown": SHOWN, "queries": QUERIES}, tmp_path / "pictures.safetensors")
    start = (
        "import json, torch; from safetensors.torch import load_file;"
        "from hf_free import FewShotClassifier, MetaLearner;"
        f"tensors = load_file({str(tmp_path / 'pictures.safetensors')!r});"
    )
    end = "print(json.dumps([c.classes, c.predict_proba(tensors['queries']).tolist()]))"
    code = (
        f"{start}MetaLearner.from_pretrained({str(tmp_path / 'learner')!r}).push_to_hub('alice/pet-learner');"
        "learner = MetaLearner.from_pretrained('alice/pet-learner');"
        f"c = learner.adapt(tensors['shown'], {NAMES!r}); c.calibrate_rejection(); c.push_to_hub('alice/pets');{end}"
    )
    pushed = run_client(code, token=tokens["alice"])
    files = hub.read_repo("alice/pets")
    card = files["README.md"].decode()
    front = yaml.safe_load(card.split("---")[1])
    assert front["pipeline_tag"] == "image-classification"
    assert (front["library_name"], front["base_model"]) == ("hf-free", ["alice/pet-learner"])
    assert 'FewShotClassifier.from_pretrained("alice/pets")' in card
    assert "| cat | 3 |" in card
    pulled = run_client(
        f"{start}c = FewShotClassifier.from_pretrained('alice/pets');{end}",
        token=tokens["alice"],
        home=tmp_path / "elsewhere",
    )
    assert pulled.json == pushed.json


def test_a_notebook_shows_its_classes_with_texts_as_texts():
    classifier = make().adapt(pictures(), ["<b>", "ant", "<b>", "bee", "<b>", "ant"])
    classifier.calibrate_rejection(0.2)
    shown = classifier._repr_html_()
    for text in ("<caption>FewShotClassifier</caption>", "&lt;b&gt; (3), ant (2), bee (1)", "below a confidence of"):
        assert text in shown
    assert "<b>" not in shown
    del classifier.support
    assert "It cannot be shown: AttributeError" in classifier._repr_html_()
