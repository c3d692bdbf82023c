"""The learner: adaptation to any kind of pictures and labels, starting from others, and the Hub."""

from __future__ import annotations

import numpy as np
import pandas
import pytest
import torch
from learners import LABELS, RECORD, SIZE, as_pil, make, pictures
from PIL import Image

from hf_free.config.sections import LearnerConfig
from hf_free.errors import HubError, LearnerError
from hf_free.learner.meta_learner import MetaLearner
from hf_free.provenance.learner_record import LearnerRecord


class TestAdapt:
    def test_pil_pictures_lists_and_batches_give_the_same_classifier(self):
        learner, queries = make(), pictures(4, seed=2)
        expected = learner.adapt(pictures(), LABELS).predict_proba(queries)
        kinds = [as_pil(pictures()), list(pictures()), pictures() / 255, list(pictures() / 255)]
        for support in kinds:
            torch.testing.assert_close(learner.adapt(support, LABELS).predict_proba(queries), expected)
        classifier = learner.adapt(pictures(), LABELS)
        torch.testing.assert_close(classifier.predict_proba(as_pil(queries)), expected)
        assert classifier.predict(as_pil(queries)[0]) == classifier.predict(queries[0])

    def test_pictures_of_many_sizes_and_modes_in_one_list(self):
        support = [
            Image.new("L", (30, 20), 10),
            Image.new("RGBA", (9, 9)),
            Image.new("1", (50, 8)),
            torch.rand(1, 12, 9),
        ]
        classifier = make().adapt(support, [0, 1, 0, 1])
        assert set(classifier.predict(support)) <= {0, 1}

    @pytest.mark.parametrize(
        ("labels", "classes"),
        [
            (LABELS, ["ant", "bee", "cat"]),
            ([70, -3, 70, 5, 70, 5], [-3, 5, 70]),
            (torch.tensor([9, 2, 9, 2, 2, 9]), [2, 9]),
            (np.array(LABELS), ["ant", "bee", "cat"]),
            (["b", 1, "b", 1, "b", 2], [1, 2, "b"]),
            ([True, False] * 3, [False, True]),
            (np.array([True, False] * 3), [False, True]),
            (list(np.array([7, 3, 7, 3, 3, 5])), [3, 5, 7]),
            ([np.str_(label) for label in LABELS], ["ant", "bee", "cat"]),
            (list(torch.tensor([9, 2, 9, 2, 2, 9])), [2, 9]),
            (pandas.Series(LABELS, dtype="category"), ["ant", "bee", "cat"]),
            (pandas.Categorical([7, 3, 7, 3, 3, 5]), [3, 5, 7]),
        ],
    )
    def test_labels_of_any_value_come_back(self, labels, classes):
        classifier = make().adapt(pictures(), labels)
        assert classifier.classes == classes
        assert [type(label) for label in classifier.classes] == [type(label) for label in classes]
        assert all(label in classes for label in classifier.predict(pictures()))

    @pytest.mark.parametrize("head", ["nearest_mean", "ridge", "logistic", "anil", "maml"])
    def test_each_head_recognizes_what_it_was_shown_and_probabilities_sum_to_one(self, head):
        learner = make(head=head)
        support = torch.zeros(6, 3, SIZE, SIZE)
        for index in range(6):
            support[index, index % 3] = 0.5 + 0.05 * index
        classifier = learner.adapt(support, ["r", "g", "b"] * 2)
        assert classifier.predict(support) == ["r", "g", "b"] * 2
        probabilities = classifier.predict_proba(support)
        assert probabilities.shape == (6, 3)
        torch.testing.assert_close(probabilities.sum(1), torch.ones(6))

    def test_the_size_of_internal_batches_changes_nothing(self):
        classifier = make().adapt(pictures(), LABELS)
        torch.testing.assert_close(
            classifier.predict_proba(pictures(7), batch_size=2), classifier.predict_proba(pictures(7))
        )

    def test_maml_changes_a_copy_only(self):
        learner = make(head="maml")
        before = {name: value.clone() for name, value in learner.state_dict().items()}
        adapted = learner.adapt(pictures(), LABELS).embedder
        assert all(torch.equal(before[name], value) for name, value in learner.state_dict().items())
        assert not torch.equal(adapted.backbone.conv1[0].weight, learner.backbone.conv1[0].weight)

    @pytest.mark.parametrize(
        ("support", "labels", "message"),
        [
            (pictures(), LABELS[:4], "6 support pictures and 4 labels"),
            ([], [], "no pictures"),
            (pictures()[:0], [], "no pictures"),
            (pictures(), ["a"] * 6, r"the label 'a'[\s\S]*at least two classes"),
            (pictures(), [0.5] * 6, "label 0.5 of type float"),
            (pictures(), [True, 1, 0] * 2, "labels of the types bool and int"),
            (pictures(), ["a", None] * 3, "a picture has no label"),
            (pictures(), pandas.Categorical(["a", None] * 3), "a picture has no label"),
            (pictures(), torch.eye(6).long(), "of type list"),
            (pictures(), "abcabc", "the labels are one text"),
            (pictures(), torch.tensor(3), "6 support pictures and 1 labels"),
            (pictures().float(), LABELS, r"values from 0 to 255[\s\S]*divide by 255"),
            (pictures().permute(0, 2, 3, 1), LABELS, "16 channels"),
            (torch.rand(6, SIZE), LABELS, "1 support pictures and 6 labels"),
            (torch.rand(1, 6, 3, SIZE, SIZE), LABELS, r"a tensor of shape \(1, 6, 3, 16, 16\)"),
            (["cat.png"] * 6, LABELS, r"6 of 6 pictures[\s\S]*cat.png cannot be decoded: there is no such file"),
            ([3, 1, 4, 1, 5, 9], LABELS, r"is of type int[\s\S]*a flat list of numbers is not a picture"),
            (torch.full((6, 3, SIZE, SIZE), float("nan")), LABELS, "values that are no finite numbers"),
            (pictures().long() * 257, LABELS, r"type torch.int64[\s\S]*make them uint16"),
            (pictures() / 127.5 - 1, LABELS, r"values from -1 to 1[\s\S]*\(x \+ 1\) / 2"),
        ],
    )
    def test_what_cannot_be_learned_is_refused(self, support, labels, message):
        with pytest.raises(LearnerError, match=message):
            make().adapt(support, labels)


class TestStartingFrom:
    def test_another_learner_gives_its_weights_and_provenance(self, tmp_path):
        other = make(record={"data_free": False})
        other.save_pretrained(tmp_path)
        config = LearnerConfig(backbone="test_resnet", image_size=SIZE, init_from=str(tmp_path), head="ridge")
        learner = MetaLearner.create(config)
        assert torch.equal(learner.eval().embed(pictures()), other.embed(pictures()))
        assert learner.config.head == "ridge"
        assert learner.record.to_dict() == {"init_from": str(tmp_path), "data_free": False}

    def test_another_architecture_is_refused(self, tmp_path):
        make().save_pretrained(tmp_path)
        with pytest.raises(LearnerError, match="do not fit"):
            MetaLearner.create(LearnerConfig(backbone="conv4_32", image_size=SIZE, init_from=str(tmp_path)))

    def test_timm_weights_that_do_not_exist_are_refused(self):
        with pytest.raises(LearnerError, match=r"cannot start from 'timm:conv4_32'[\s\S]*timm:NAME"):
            MetaLearner.create(LearnerConfig(backbone="conv4_32", init_from="timm:conv4_32"))


def test_a_published_learner_comes_back_from_the_hub_in_a_new_process(hub, run_client, tokens, tmp_path):
    learner = make("conv4_32", record=RECORD)
    learner.save_pretrained(tmp_path / "learner")
    hub.add_repo("alice/digits", {"README.md": b"# written by hand\n"})
    hub.add_repo("alice/digits-before", {"README.md": b"---\nlicense: mit\n---\n"})
    embed = "learner.embed(torch.arange(3 * 256).remainder(256).to(torch.uint8).view(1, 3, 16, 16)).tolist()"
    code = (
        "import json, torch; torch.set_num_threads(1);"
        "from hf_free.learner.meta_learner import MetaLearner;"
        f"learner = MetaLearner.from_pretrained({{source!r}}); {{more}}; print(json.dumps({embed}))"
    )
    push = (
        "learner.push_to_hub('alice/digits', commit_message='Publish');"
        "from hf_free.provenance.learner_record import LearnerRecord;"
        "config = {'learner': {'init_from': 'alice/digits-before'}};"
        "learner.record = LearnerRecord.from_dict({'config': config});"
        "learner.push_to_hub('alice/digits-after', mark_predecessor=True)"
    )
    pushed = run_client(code.format(source=str(tmp_path / "learner"), more=push), token=tokens["alice"])
    marked = b"---\nlicense: mit\nnew_version: alice/digits-after\n---\n"
    assert hub.read_repo("alice/digits-before")["README.md"] == marked
    files = hub.read_repo("alice/digits")
    assert files["README.md"] == b"# written by hand\n"
    for name in ("config.json", "model.safetensors", "hf_free.safetensors"):
        assert files[name] == (tmp_path / "learner" / name).read_bytes()
    more = (
        "import timm, hf_free; network = timm.create_model('hf-hub:alice/digits', pretrained=True);"
        "assert network.state_dict().keys() == learner.backbone.state_dict().keys();"
        "assert all(torch.equal(v, learner.backbone.state_dict()[k]) for k, v in network.state_dict().items())"
    )
    pulled = run_client(code.format(source="alice/digits", more=more), home=tmp_path / "elsewhere")
    assert pulled.json == pushed.json


def test_a_learner_that_continues_none_on_the_hub_marks_no_predecessor():
    for start, says in ((None, "continues no other one"), ("/home/me/first", "names no repository")):
        learner = make("conv4_32", record={**RECORD, "config": {"learner": {"init_from": start}}})
        with pytest.raises(HubError, match=says):
            learner.push_to_hub("alice/unmarked", mark_predecessor=True)


def test_a_repository_with_only_a_pickle_is_refused(hub, run_client):
    hub.add_repo("lab/pickled", {"config.json": b"{}", "pytorch_model.bin": b"cos\nsystem\n"})
    code = "from hf_free.learner.meta_learner import MetaLearner; MetaLearner.from_pretrained('lab/pickled')"
    result = run_client(code, check=False)
    assert result.returncode != 0
    assert "MissingFilesError" in result.stderr
    assert not any("pytorch_model.bin" in request.path and request.method == "GET" for request in hub.requests)


def test_a_notebook_shows_it_with_texts_as_texts_and_whatever_its_record_holds():
    private = {"reference": "lab/hush", "repo_id": "lab/hush", "private": True}
    learner = make(record={**RECORD, "teachers": [*RECORD["teachers"], private], "versions": {"<b>": "1 & 2"}})
    shown = learner._repr_html_()
    for text in (
        "<caption>MetaLearner</caption>",
        "test_resnet",
        "3×16×16",
        "nearest_mean",
        "<td>2</td>",
        "1 &amp; 2",
    ):
        assert text in shown
    assert "<b>" not in shown
    assert "hush" not in shown
    for odd in (None, 3, [1], {"a": object()}):
        learner.record = LearnerRecord.from_dict({"teachers": odd, "results": odd, "training": odd, "config": odd})
        assert learner._repr_html_().startswith("<table>")
    learner.record = 3
    assert "It cannot be shown" in learner._repr_html_()


def test_that_a_classifiers_learner_comes_without_its_classes_is_said(tmp_path, caplog):
    learner = make()
    learner.save_pretrained(tmp_path / "learner")
    learner.adapt(pictures(), LABELS).save_pretrained(tmp_path / "pets")
    MetaLearner.from_pretrained(tmp_path / "learner")
    assert not caplog.records
    MetaLearner.from_pretrained(tmp_path / "pets")
    assert "is a classifier: its learner is opened, without its classes" in caplog.text


def test_a_repositorys_folder_in_the_cache_is_named_by_its_id(tmp_path):
    (tmp_path / "models--org--few-shot" / "snapshots").mkdir(parents=True)
    with pytest.raises(LearnerError, match="folder in the Hub's cache") as caught:
        MetaLearner.from_pretrained(tmp_path / "models--org--few-shot")
    assert caught.value.action == "name it org/few-shot"
