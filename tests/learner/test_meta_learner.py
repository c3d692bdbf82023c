"""The learner: features, adaptation to any kind of pictures and labels, saving, and the Hub."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from hf_free.config.sections import LearnerConfig
from hf_free.errors import LearnerError
from hf_free.learner.classifier import FewShotClassifier
from hf_free.learner.meta_learner import MetaLearner

SIZE = 16


def make(backbone="test_resnet", *, head="nearest_mean", channels=3, record=None, train_steps=2, **options):
    """A learner whose BatchNorm statistics and weights are no longer those of the initialisation."""
    torch.manual_seed(0)
    config = LearnerConfig(backbone=backbone, image_size=SIZE, channels=channels, head=head)
    learner = MetaLearner(config, record, **options)
    learner.train()
    with torch.no_grad():
        for _ in range(train_steps):
            learner.features(torch.rand(8, 3, SIZE, SIZE))
    return learner.eval()


def pictures(count=6, size=SIZE, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def as_pil(images):
    return [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]


LABELS = ["cat", "ant", "cat", "bee", "cat", "ant"]


class TestFeatures:
    def test_they_are_the_backbone_of_the_normalised_picture(self):
        learner = make(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
        images = pictures() / 255
        by_hand = torch.stack([(images[:, c] - (0.1, 0.2, 0.3)[c]) / (0.5, 0.6, 0.7)[c] for c in range(3)], 1)
        with torch.no_grad():
            torch.testing.assert_close(learner.features(images), learner.backbone(by_hand))
        assert learner.feature_dim == learner.features(images).shape[1]

    def test_any_size_and_one_channel_are_taken_and_gradients_flow_back(self):
        learner = make()
        images = torch.rand(2, 1, 40, 23, requires_grad=True)
        learner.features(images).square().sum().backward()
        assert images.grad.abs().sum() > 0

    def test_a_grey_learner_sees_luma(self):
        learner = make(channels=1)
        red = torch.zeros(1, 3, SIZE, SIZE)
        red[:, 0] = 1
        with torch.no_grad():
            torch.testing.assert_close(learner.features(red), learner.features(torch.full((1, 1, SIZE, SIZE), 0.299)))

    def test_views_are_averaged(self):
        images = pictures() / 255
        one, two = make(), make(views=("identity", "flip"))
        two.load_state_dict(one.state_dict())
        with torch.no_grad():
            expected = (one.features(images) + one.features(images.flip(-1))) / 2
            torch.testing.assert_close(two.features(images), expected)
            assert not torch.allclose(one.features(images), expected)

    def test_projection_and_center_enter_in_that_order(self):
        images = pictures() / 255
        learner = make()
        learner.projection = nn.Linear(learner.backbone_dim, 5)
        learner.center = torch.arange(5.0)
        plain = make()
        with torch.no_grad():
            projected = learner.projection(plain.features(images))
            torch.testing.assert_close(learner.features(images), projected)
            embedded = projected / projected.norm(dim=1, keepdim=True) - torch.arange(5.0)
            torch.testing.assert_close(learner.embed(images), embedded)
        assert learner.feature_dim == 5

    def test_embedding_leaves_every_mode_as_it_was(self):
        learner = make()
        learner.train()
        learner.backbone.bn1.eval()
        learner.embed(pictures())
        assert learner.training
        assert learner.backbone.layer1.training
        assert not learner.backbone.bn1.training

    @pytest.mark.parametrize("backbone", ["test_vit", "test_convnext", "mobilenetv3_small_050", "conv4_32"])
    def test_backbones_of_every_kind_take_the_learners_size(self, backbone):
        learner = MetaLearner(LearnerConfig(backbone=backbone, image_size=32))
        assert learner.embed(pictures(2, 50)).shape == (2, learner.feature_dim)


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
            (["b", 1, "b", 1, "b", 2], ["b", 1, 2]),
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
    def test_each_head_recognises_what_it_was_shown_and_probabilities_sum_to_one(self, head):
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
        adapted = learner.adapt(pictures(), LABELS).learner
        assert all(torch.equal(before[name], value) for name, value in learner.state_dict().items())
        assert not torch.equal(adapted.backbone.conv1[0].weight, learner.backbone.conv1[0].weight)

    @pytest.mark.parametrize(
        ("support", "labels", "message"),
        [
            (pictures(), LABELS[:4], "6 support pictures and 4 labels"),
            ([], [], "no pictures"),
            (pictures()[:0], [], "no pictures"),
            (pictures(), ["a"] * 6, r"the label 'a'[\s\S]*at least two classes"),
            (pictures(), [0.5] * 6, "label '0.5' of type float"),
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
            ([3, 1, 4, 1, 5, 9], LABELS, r"is of type int[\s\S]*a flat list of numbers is no picture"),
            (torch.full((6, 3, SIZE, SIZE), float("nan")), LABELS, "values from nan"),
            (pictures().long() * 257, LABELS, r"type torch.int64[\s\S]*make them uint16"),
            (pictures() / 127.5 - 1, LABELS, r"values from -1 to 1[\s\S]*\(x \+ 1\) / 2"),
        ],
    )
    def test_what_cannot_be_learned_is_refused(self, support, labels, message):
        with pytest.raises(LearnerError, match=message):
            make().adapt(support, labels)


class TestBatchNorm:
    def test_support_statistics_are_those_of_the_support_set(self):
        learner = make(batchnorm="support")
        before = {name: value.clone() for name, value in learner.state_dict().items()}
        support = pictures() / 255
        adapted = learner.adapt(support, LABELS).learner
        inputs = learner.backbone.conv1[0]((support - 0.5) / 0.25)  # what the first BatchNorm sees
        torch.testing.assert_close(adapted.backbone.conv1[1].running_mean, inputs.mean((0, 2, 3)))
        torch.testing.assert_close(adapted.backbone.conv1[1].running_var, inputs.transpose(0, 1).flatten(1).var(1))
        assert all(torch.equal(before[name], value) for name, value in learner.state_dict().items())

    @pytest.mark.parametrize("mode", ["running", "support"])
    def test_inductive_modes_answer_each_query_by_itself(self, mode):
        classifier = make(batchnorm=mode).adapt(pictures(), LABELS)
        queries = pictures(5, seed=3)
        alone = torch.cat([classifier.predict_proba(query[None]) for query in queries])
        torch.testing.assert_close(alone, classifier.predict_proba(queries))

    def test_the_transductive_mode_does_not_and_leaves_the_running_statistics(self):
        learner = make(batchnorm="transductive")
        before = {name: value.clone() for name, value in learner.state_dict().items()}
        classifier = learner.adapt(pictures(), LABELS)
        queries = pictures(6, seed=3)
        together = classifier.predict_proba(queries, batch_size=2)  # one pass all the same
        assert not torch.allclose(classifier.predict_proba(queries[:3]), together[:3], atol=1e-4)
        assert all(torch.equal(before[name], value) for name, value in learner.state_dict().items())

    @pytest.mark.parametrize("head", ["ridge", "maml"])
    def test_a_transductive_learner_asked_about_one_picture_says_why_it_cannot(self, head):
        classifier = make(batchnorm="transductive", head=head).adapt(pictures(), LABELS)
        with pytest.raises(LearnerError, match=r"one picture for a transductive learner[\s\S]*batchnorm = .support"):
            classifier.predict(pictures(1))
        assert len(classifier.predict(pictures(2))) == 2
        without_batchnorm = make("test_vit", batchnorm="transductive", head=head, model_args={"patch_size": 4})
        assert len(without_batchnorm.adapt(pictures(), LABELS).predict(pictures(1))) == 1

    def test_an_unknown_mode_or_view_is_refused(self):
        with pytest.raises(LearnerError, match=r"batchnorm='batch'[\s\S]*running, support, transductive"):
            make(batchnorm="batch")
        with pytest.raises(LearnerError, match=r"views \['mirror'\][\s\S]*identity, flip"):
            make(views=["mirror"])


RECORD = {
    "teachers": [{"repo_id": "org/teacher", "label_names": ["cat"]}],
    "results": [],
    "versions": {"hf_free": "x"},
}


class TestSaving:
    @pytest.fixture
    def saved(self, tmp_path):
        learner = make(record=RECORD, views=("identity", "flip"), mean=(1 / 3, 0.5, 0.5), std=(0.3, 0.2, 1 / 7))
        learner.projection = nn.Linear(learner.backbone_dim, 5, bias=False)
        learner.center = torch.full((5,), 0.1)
        learner.save_pretrained(tmp_path / "learner")
        return learner, tmp_path / "learner"

    def test_everything_comes_back(self, saved):
        learner, folder = saved
        again = MetaLearner.from_pretrained(folder)
        assert not again.training
        assert (again.config, again.views, again.batchnorm) == (learner.config, learner.views, "running")
        assert {key: again.record[key] for key in RECORD} == RECORD
        assert torch.equal(again.mean, learner.mean)
        assert torch.equal(again.embed(pictures()), learner.embed(pictures()))
        again.save_pretrained(folder.parent / "again")
        for name in ("config.json", "model.safetensors", "hf_free.safetensors"):
            assert (folder.parent / "again" / name).read_bytes() == (folder / name).read_bytes()

    def test_timm_loads_the_backbone_with_exactly_its_keys(self, saved):
        learner, folder = saved
        network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        assert load_file(folder / "model.safetensors").keys() == network.state_dict().keys()
        images = torch.rand(2, 3, SIZE, SIZE)
        with torch.no_grad():
            assert torch.equal(network(images), learner.backbone(images))
        assert network.pretrained_cfg["input_size"] == [3, SIZE, SIZE]
        assert network.pretrained_cfg["mean"][0] == 1 / 3

    @pytest.mark.parametrize(
        ("backbone", "channels", "model_args"),
        [
            ("conv4_32", 3, {}),
            ("test_vit", 1, {"patch_size": 4}),
            ("mobilenetv3_small_050", 3, {}),
            ("conv4_64", 1, {}),
        ],
    )
    def test_so_it_does_for_other_architectures(self, tmp_path, backbone, channels, model_args):
        learner = make(backbone, channels=channels, model_args=model_args)
        learner.save_pretrained(tmp_path)
        network = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
        images = torch.rand(2, channels, SIZE, SIZE)
        with torch.no_grad():
            assert torch.equal(network(images), learner.backbone(images))
        again = MetaLearner.from_pretrained(tmp_path)
        assert torch.equal(again.embed(pictures()), learner.embed(pictures()))

    def test_a_card_in_the_folder_stays(self, saved):
        learner, folder = saved
        (folder / "README.md").write_text("mine")
        learner.save_pretrained(folder)
        assert sorted(path.name for path in folder.iterdir()) == [
            "README.md", "config.json", "hf_free.safetensors", "model.safetensors",
        ]  # fmt: skip
        assert (folder / "README.md").read_text() == "mine"

    def test_an_adapted_classifier_predicts_the_same_bit_for_bit_in_another_process(self, tmp_path):
        classifier = make(head="ridge", batchnorm="support").adapt(pictures(), LABELS)
        classifier.save(tmp_path)
        save_file({"queries": pictures(9, 21, seed=4)}, tmp_path / "queries.safetensors")
        code = (
            "import json, sys, torch; from safetensors.torch import load_file; torch.set_num_threads(1);"
            "from hf_free.learner.classifier import FewShotClassifier;"
            "classifier = FewShotClassifier.load(sys.argv[1]);"
            "answers = classifier.predict_proba(load_file(sys.argv[1] + '/queries.safetensors')['queries']);"
            "print(json.dumps([classifier.classes, answers.tolist()]))"
        )
        run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            expected = classifier.predict_proba(pictures(9, 21, seed=4)).tolist()
        finally:
            torch.set_num_threads(threads)
        assert json.loads(run.stdout) == [["ant", "bee", "cat"], expected]

    def test_integer_classes_stay_integers(self, tmp_path):
        make(head="maml").adapt(pictures(), [3, 1, 3, 1, 3, 1]).save(tmp_path)
        assert FewShotClassifier.load(tmp_path).classes == [1, 3]

    def test_a_folder_without_classifier_is_refused(self, saved):
        with pytest.raises(LearnerError, match=r"holds no adapted classifier[\s\S]*classifier.json"):
            FewShotClassifier.load(saved[1])


class TestStrictLoading:
    @pytest.fixture
    def folder(self, tmp_path):
        make(record=RECORD).save_pretrained(tmp_path)
        return tmp_path

    def change_config(self, folder, change):
        content = json.loads((folder / "config.json").read_text())
        change(content)
        (folder / "config.json").write_text(json.dumps(content))

    def change_weights(self, folder, change, name="model.safetensors"):
        tensors = load_file(folder / name)
        change(tensors)
        save_file(tensors, folder / name)

    @pytest.mark.parametrize("name", ["config.json", "model.safetensors", "hf_free.safetensors"])
    def test_a_missing_file_is_an_error_even_beside_a_pickle(self, folder, name):
        torch.save({}, folder / "pytorch_model.bin")
        (folder / name).unlink()
        with pytest.raises(LearnerError, match=f"has no {name}"):
            MetaLearner.from_pretrained(folder)

    @pytest.mark.parametrize("name", ["model.safetensors", "hf_free.safetensors"])
    def test_a_truncated_file_is_an_error(self, folder, name):
        (folder / name).write_bytes((folder / name).read_bytes()[:-7])
        with pytest.raises(LearnerError, match=f"{name} is damaged"):
            MetaLearner.from_pretrained(folder)

    def test_a_missing_weight_is_an_error(self, folder):
        self.change_weights(folder, lambda tensors: tensors.pop("layer1.0.conv1.weight"))
        with pytest.raises(LearnerError, match=r"Missing key.*layer1.0.conv1.weight"):
            MetaLearner.from_pretrained(folder)

    def test_a_weight_too_many_is_an_error(self, folder):
        self.change_weights(folder, lambda tensors: tensors.update(stray=torch.ones(1)))
        with pytest.raises(LearnerError, match=r"Unexpected key.*stray"):
            MetaLearner.from_pretrained(folder)
        self.change_weights(folder, lambda tensors: tensors.pop("stray"))
        self.change_weights(folder, lambda tensors: tensors.update(stray=torch.ones(1)), "hf_free.safetensors")
        with pytest.raises(LearnerError, match=r"does not hold what config.json declares[\s\S]*stray"):
            MetaLearner.from_pretrained(folder)

    def test_a_weight_of_another_shape_is_an_error(self, folder):
        self.change_weights(folder, lambda tensors: tensors.update({"conv1.0.weight": torch.ones(2)}))
        with pytest.raises(LearnerError, match=r"size mismatch for conv1\.0\.weight"):
            MetaLearner.from_pretrained(folder)

    def test_a_plain_timm_checkpoint_is_no_learner(self, folder):
        self.change_config(folder, lambda content: content.pop("hf_free"))
        with pytest.raises(LearnerError, match=r"no hf_free block[\s\S]*--models"):
            MetaLearner.from_pretrained(folder)

    def test_a_newer_format_is_refused(self, folder):
        self.change_config(folder, lambda content: content["hf_free"].update(format_version=2))
        with pytest.raises(LearnerError, match=r"learner format 2[\s\S]*newer hf-free"):
            MetaLearner.from_pretrained(folder)

    def test_an_incomplete_block_is_refused(self, folder):
        self.change_config(folder, lambda content: content["hf_free"]["learner"].pop("views"))
        with pytest.raises(LearnerError, match="missing views"):
            MetaLearner.from_pretrained(folder)

    def test_a_value_that_no_configuration_has_is_refused(self, folder):
        self.change_config(folder, lambda content: content["hf_free"]["learner"].update(head="forest"))
        with pytest.raises(LearnerError, match=r"learner\.head = .forest."):
            MetaLearner.from_pretrained(folder)

    def test_an_unknown_backbone_is_refused(self):
        with pytest.raises(LearnerError, match=r"'resnet_nowhere' cannot be built[\s\S]*timm model name"):
            MetaLearner(LearnerConfig(backbone="resnet_nowhere"))


def test_a_transductive_maml_learner_never_uses_running_statistics():
    """FREE's published learner has none: support and query pictures are normalised by themselves."""
    learner = make("conv4_32", head="maml", batchnorm="transductive")
    other = make("conv4_32", head="maml", batchnorm="transductive")
    for layer in other.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(1, 9)
    found = [one.adapt(pictures(), LABELS).predict_proba(pictures(9, seed=2)) for one in (learner, other)]
    torch.testing.assert_close(*found)


class TestStartingFrom:
    def test_another_learner_gives_its_weights_and_provenance(self, tmp_path):
        other = make(record={"data_free": False})
        other.save_pretrained(tmp_path)
        config = LearnerConfig(backbone="test_resnet", image_size=SIZE, init_from=str(tmp_path), head="ridge")
        learner = MetaLearner.create(config, {"teachers": []})
        assert torch.equal(learner.eval().embed(pictures()), other.embed(pictures()))
        assert learner.config.head == "ridge"
        assert learner.record == {"teachers": [], "init_from": str(tmp_path), "data_free": False}

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
    embed = "learner.embed(torch.arange(3 * 256).remainder(256).to(torch.uint8).view(1, 3, 16, 16)).tolist()"
    code = (
        "import json, torch; torch.set_num_threads(1);"
        "from hf_free.learner.meta_learner import MetaLearner;"
        f"learner = MetaLearner.from_pretrained({{source!r}}); {{more}}; print(json.dumps({embed}))"
    )
    push = "learner.push_to_hub('alice/digits', commit_message='Publish')"
    pushed = run_client(code.format(source=str(tmp_path / "learner"), more=push), token=tokens["alice"])
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


def test_a_repository_with_only_a_pickle_is_refused(hub, run_client):
    hub.add_repo("lab/pickled", {"config.json": b"{}", "pytorch_model.bin": b"cos\nsystem\n"})
    code = "from hf_free.learner.meta_learner import MetaLearner; MetaLearner.from_pretrained('lab/pickled')"
    result = run_client(code, check=False)
    assert result.returncode != 0
    assert "MissingFilesError" in result.stderr
    assert not any("pytorch_model.bin" in request.path and request.method == "GET" for request in hub.requests)
