"""A learner as three files: everything comes back, timm reads the backbone, and nothing else is read."""

from __future__ import annotations

import json

import pytest
import timm
import torch
from learners import RECORD, SIZE, make, pictures
from safetensors.torch import load_file, save_file
from torch import nn

from hf_free.config.sections import LearnerConfig
from hf_free.errors import LearnerError
from hf_free.learner.classifier import FewShotClassifier
from hf_free.learner.embedder import Embedder
from hf_free.learner.meta_learner import MetaLearner
from hf_free.learner.persistence import find_learner, rebuild, write_files


class TestSaving:
    @pytest.fixture
    def saved(self, tmp_path):
        learner = make(record=RECORD, views=("identity", "flip"), mean=(1 / 3, 0.5, 0.5), std=(0.3, 0.2, 1 / 7))
        learner.embedding.projection = nn.Linear(learner.backbone_dim, 5, bias=False)
        learner.embedding.center = torch.full((5,), 0.1)
        learner.save_pretrained(tmp_path / "learner")
        return learner, tmp_path / "learner"

    def test_everything_comes_back(self, saved):
        learner, folder = saved
        again = MetaLearner.from_pretrained(folder)
        assert not again.training
        assert (again.config, again.views, again.batchnorm) == (learner.config, learner.views, "running")
        assert {key: again.record.block[key] for key in RECORD} == RECORD
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

    def test_a_format_that_is_none_is_not_called_newer(self, folder):
        content = json.loads((folder / "config.json").read_text())
        content["hf_free"]["format_version"] = None
        (folder / "config.json").write_text(json.dumps(content))
        with pytest.raises(LearnerError, match=r"learner format None[\s\S]*save it again"):
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
        with pytest.raises(LearnerError, match=r"knows no backbone 'resnet_nowhere'[\s\S]*timm.list_models"):
            MetaLearner(LearnerConfig(backbone="resnet_nowhere"))


def test_an_embedder_is_written_and_read_with_a_record_beside_it(tmp_path):
    learner = make("conv4_32", record=RECORD)
    write_files(learner, learner.record, tmp_path)
    embedder, record = rebuild(find_learner(tmp_path, "here"), Embedder)
    assert type(embedder) is Embedder
    assert record.to_dict() == RECORD
    assert torch.equal(embedder.embed(pictures()), learner.embed(pictures()))


def test_what_nobody_could_open_is_not_saved(tmp_path):
    """Another network in the place of the backbone that the configuration names."""
    learner = make("conv4_32")
    learner.backbone = make("test_resnet").backbone
    with pytest.raises(LearnerError, match="is not the network 'conv4_32' of its configuration"):
        learner.save_pretrained(tmp_path / "learner")
    learner.backbone = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(LearnerError, match="whose backbone is a Sequential cannot be saved"):
        learner.save_pretrained(tmp_path / "learner")
    assert not (tmp_path / "learner").exists()


def test_two_revisions_of_one_learner_are_refused():
    with pytest.raises(LearnerError, match="the learner 'org/a@v1' and the revision v2: two revisions"):
        MetaLearner.from_pretrained("org/a@v1", revision="v2")


def test_a_folder_has_no_revision(tmp_path):
    with pytest.raises(LearnerError, match="is a folder, and a folder has no revision 'main'"):
        MetaLearner.from_pretrained(tmp_path, revision="main")


def test_of_a_run_the_learners_own_folder_is_named(tmp_path):
    make().save_pretrained(tmp_path / "run" / "learner")
    for load in (MetaLearner.from_pretrained, FewShotClassifier.from_pretrained):
        with pytest.raises(LearnerError, match=r"run' is the folder of a run[\s\S]*give '.*run/learner'"):
            load(tmp_path / "run")


def test_a_file_is_no_learner(tmp_path):
    (tmp_path / "learner.zip").touch()
    with pytest.raises(LearnerError, match=r"learner\.zip' is a file\n[\s\S]*unpack an archive"):
        MetaLearner.from_pretrained(tmp_path / "learner.zip")
