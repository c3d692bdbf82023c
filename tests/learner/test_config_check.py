"""A stranger's learner: what its files may say; all else is refused by name before anything is built."""

from __future__ import annotations

import copy
import json
import math
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from replacing import replace_everywhere
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode

from hf_free.config.sections import LearnerConfig
from hf_free.errors import LearnerError
from hf_free.learner.classifier import FewShotClassifier
from hf_free.learner.meta_learner import MetaLearner
from hf_free.provenance.learner_record import LearnerRecord
from hf_free.publishing.card import write_card

FORMAT_1 = Path(__file__).parents[1] / "fixtures" / "learner_format_1"
"""A learner and a classifier saved by the version that wrote format 1 without SHA-256, with all its parts."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FORMAT_1, tmp_path / "learner"))


def read(folder: Path, name: str = "config.json") -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def write(folder: Path, content: Any, name: str = "config.json") -> None:
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


class TestFormatOne:
    def test_its_tensors_are_loaded_bit_for_bit(self, folder: Path, tmp_path: Path) -> None:
        learner = MetaLearner.from_pretrained(folder)
        stored = load_file(folder / "model.safetensors")
        assert stored.keys() == learner.backbone.state_dict().keys()
        assert all(torch.equal(value, stored[name]) for name, value in learner.backbone.state_dict().items())
        rest = {n: v for n, v in learner.state_dict().items() if not n.startswith("backbone.")}
        extra = load_file(folder / "hf_free.safetensors")
        of_format_1 = {"gate": "relevance", "whitening": "damping"}
        parts = {name.removeprefix("embedding.").partition(".") for name in rest}
        assert {of_format_1.get(part, part) + dot + name for part, dot, name in parts} == extra.keys()
        for part, dot, name in parts:
            assert torch.equal(rest[f"embedding.{part}{dot}{name}"], extra[of_format_1.get(part, part) + dot + name])
        learner.save_pretrained(tmp_path / "again")
        again = load_file(tmp_path / "again" / "hf_free.safetensors")
        assert again.keys() == extra.keys()
        assert all(torch.equal(value, extra[name]) for name, value in again.items())

    def test_it_answers_as_it_did(self, folder: Path) -> None:
        expected = load_file(folder / "expected.safetensors")
        classifier = FewShotClassifier.from_pretrained(folder)
        assert classifier.classes == ["b", "ä"]
        features = MetaLearner.from_pretrained(folder).embed(expected["images"])
        torch.testing.assert_close(features, expected["features"], rtol=1e-5, atol=1e-6)
        found = classifier.predict_proba(expected["images"])
        torch.testing.assert_close(found, expected["probabilities"], rtol=1e-5, atol=1e-6)

    def test_saved_again_it_is_the_same_learner(self, folder: Path, tmp_path: Path) -> None:
        first = FewShotClassifier.from_pretrained(folder)
        first.save_pretrained(tmp_path / "again")
        again = FewShotClassifier.from_pretrained(tmp_path / "again")
        images = load_file(folder / "expected.safetensors")["images"]
        assert torch.equal(first.predict_proba(images), again.predict_proba(images))
        old, new = read(folder), read(tmp_path / "again")
        assert {key: new[key] for key in old} == old  # what older versions read has not changed
        assert new.keys() - old.keys() == {"hf_free_files"}


Change = Callable[[dict[str, Any]], object]


def learner_part(**values: Any) -> Change:
    return lambda content: content["hf_free"]["learner"].update(values)


def cfg(**values: Any) -> Change:
    return lambda content: content["pretrained_cfg"].update(values)


def block(**values: Any) -> Change:
    return lambda content: content["hf_free"].update(values)


def model_args(**values: Any) -> Change:
    return lambda content: content.update(model_args=values)


def without(*path: str) -> Change:
    def change(content: dict[str, Any]) -> None:
        for key in path[:-1]:
            content = content[key]
        del content[path[-1]]

    return change


TAMPERED: list[tuple[Change, str]] = [
    # what would name a file or an address
    (learner_part(backbone="hf-hub:org/name"), "names the backbone 'hf-hub:org/name'"),
    (learner_part(backbone="local-dir:/etc"), "names the backbone"),
    (learner_part(backbone="timm/resnet18"), "names the backbone"),
    (learner_part(backbone="../conv4_32"), "names the backbone"),
    (learner_part(backbone="conv4_32.a/b"), "names the backbone"),
    (learner_part(backbone="con4_32"), r"close: conv4_32"),
    (learner_part(backbone=["conv4_32"]), "names the backbone"),
    (model_args(pretrained=True), "model_args.pretrained is not allowed"),
    (model_args(checkpoint_path="/etc/passwd"), "model_args.checkpoint_path is not allowed"),
    (model_args(pretrained_cfg={"file": "/etc/passwd"}), "model_args.pretrained_cfg is not allowed"),
    (model_args(pretrained_cfg_overlay={"url": "http://localhost/x"}), "model_args.pretrained_cfg_overlay is not"),
    (model_args(cache_dir="/tmp"), "model_args.cache_dir is not allowed"),
    (model_args(features_only=True), "model_args.features_only is not allowed"),
    (model_args(norm_layer="os.system"), "model_args.norm_layer is os.system"),
    (model_args(block={"a": 1}), "model_args.block is not allowed"),
    # what would take more memory than the files justify
    (model_args(width=2048), "size mismatch for blocks.0"),
    (model_args(width=10**9), "model_args.width is 1000000000"),
    (learner_part(backbone="conv4_64.mine"), "names the backbone 'conv4_64.mine', which timm"),
    (learner_part(backbone="vit_giant_patch14_224"), "model_args.width|do not fit|cannot be built"),
    (learner_part(image_size=10**9), "learner.image_size = 1000000000"),
    (learner_part(image_size=1024), "says feature_dim 22"),
    (learner_part(views=["flip"] * 9), "views of config.json"),
    (learner_part(projection={"bias": True, "shape": [900_000, 900_000]}), "answer_sizes"),
    (learner_part(projection={"bias": True, "shape": [8, 900_000]}), "a projection of 900000 features"),
    (learner_part(damping=10**6), "whitens 1000000 directions"),
    (learner_part(damping=5), r"size mismatch for damping.directions"),
    (learner_part(answer_sizes=[2] * 4), r"size mismatch for relevance"),
    (learner_part(shared_classes=7), "says feature_dim 22"),
    # wrong types, ranges, what does not go together
    (learner_part(image_size="16"), "image_size of config.json is '16'"),
    (learner_part(image_size=True), "image_size of config.json is True"),
    (learner_part(image_size=16.0), "image_size of config.json is 16.0"),
    (learner_part(image_size=-16), "learner.image_size = -16"),
    (learner_part(image_size=10**400), "a whole number of 401 digits"),
    (learner_part(image_size=None), "image_size of config.json is None"),
    (learner_part(channels=2), "learner.channels = 2"),
    (learner_part(channels=1), r"pretrained_cfg.mean of config.json is \[0.5, 0.4, 0.3\]"),
    (learner_part(head="forest"), "learner.head = 'forest'"),
    (learner_part(head=[]), "learner.head"),
    (learner_part(views=[]), "views of config.json"),
    (learner_part(views="flip"), "views of config.json is 'flip'"),
    (learner_part(views=[["flip"]]), "views of config.json"),
    (learner_part(batchnorm="batch"), "batchnorm of config.json is 'batch'"),
    (learner_part(batchnorm={}), "batchnorm of config.json"),
    (learner_part(feature_dim=21), "says feature_dim 21"),
    (learner_part(feature_dim="22"), "feature_dim of config.json is '22'"),
    (learner_part(projection=[8, 8]), "projection of config.json"),
    (learner_part(projection={"bias": 1, "shape": [8, 8]}), "projection of config.json"),
    (learner_part(projection={"bias": True, "shape": [8, -8]}), "projection of config.json"),
    (learner_part(projection=None), "answer_sizes of config.json"),
    (learner_part(answer_sizes=[3, 6]), "a sum of 8"),
    (learner_part(answer_sizes=[-3, 11]), "answer_sizes of config.json"),
    (learner_part(answer_sizes=[3, 5.0]), "answer_sizes of config.json"),
    (learner_part(answer_sizes=None), "sizes, for relevance or shared_classes"),
    (learner_part(centered=True), "false beside relevance"),
    (learner_part(centered="no"), "centered of config.json is 'no'"),
    (learner_part(relevance=1), "relevance of config.json is 1"),
    (learner_part(relevance=False), "does not hold what config.json declares, relevance"),
    (learner_part(damping=True), "damping of config.json is True"),
    (learner_part(damping=0), "damping of config.json is 0"),
    (learner_part(shared_classes=-1), "shared_classes of config.json is -1"),
    (learner_part(shared_classes=[6]), "shared_classes of config.json"),
    (learner_part(init_from={"a": 1}), "init_from of config.json"),
    (learner_part(init_from="a\n\x1b[2Jb"), "init_from of config.json"),
    (learner_part(whitening=3), "a learner with whitening, which is not known here"),
    (cfg(mean=[0.5, 0.4]), "pretrained_cfg.mean of config.json"),
    (cfg(mean=0.5), "pretrained_cfg.mean of config.json"),
    (cfg(mean=[0.5, 0.4, "0.3"]), "pretrained_cfg.mean of config.json"),
    (cfg(mean=[1e9, 0, 0]), "pretrained_cfg.mean of config.json"),
    (cfg(std=[0.2, 0.2, 0]), "pretrained_cfg.std of config.json"),
    (cfg(std=[0.2, 0.2, -0.2]), "pretrained_cfg.std of config.json"),
    (cfg(std=[0.2, 0.2, True]), "pretrained_cfg.std of config.json"),
    (model_args(width=[8, [8, [8]]]), "model_args.width"),
    (model_args(width="8"), "model_args.width is 8"),
    (lambda content: content.update(model_args=[1]), r"model_args is \[1\]"),
    (lambda content: content.update(pretrained_cfg=[]), r"pretrained_cfg of config.json is \[\]"),
    (lambda content: content.update(hf_free=[]), "no hf_free block"),
    (lambda content: content.update(hf_free_files=[1]), "hf_free_files is not a SHA-256"),
    (lambda content: content.update(hf_free_files={"model.safetensors": "0" * 64}), "hf_free_files is not a SHA-256"),
    (
        lambda content: content.update(hf_free_files=dict.fromkeys(["model.safetensors", "hf_free.safetensors"], "0")),
        r"model.safetensors is not the file that config.json was saved with",
    ),
    (block(learner=None), "incomplete, missing"),
    (block(learner=[1]), r"hf_free.learner of config.json is \[1\]"),
    (block(format_version=True), "learner format True"),
    (block(format_version=1.0), "learner format 1.0"),
    (block(format_version="1"), "learner format '1'"),
    (block(format_version=None), "learner format None"),
    (block(format_version=-1), "learner format -1"),
    (block(teachers="org/name"), "teachers of config.json is 'org/name'"),
    (block(teachers=["org/name"]), r"teachers\[0\] of config.json is 'org/name'"),
    (block(teachers=[{"repo_id": ["x"]}]), r"teachers\[0\].repo_id"),
    (block(teachers=[{"sha256": "x"}]), r"teachers\[0\].sha256"),
    (block(teachers=[{"classes": ["a", "b"]}]), r"teachers\[0\].classes"),
    (block(teachers=[{"classes": [0, [1]]}]), r"teachers\[0\].classes"),
    (block(teachers=[{"input_size": [3, 32.5, 32]}]), r"teachers\[0\].input_size"),
    (block(teachers=[{"label_names": [{"a": 1}]}]), r"teachers\[0\].label_names"),
    (block(results=[{"rows": [{"method": "x"}]}]), r"results\[0\].rows"),
    (block(config={"hub": "x"}), "config.hub"),
    (block(answer_outputs=[None]), "answer_outputs"),
    (block(answer_outputs=[None, ["a"]]), "answer_outputs"),
    (block(anything=2**63), "a whole number of 19 digits"),
    (without("hf_free", "format_version"), "learner format None"),
    (without("hf_free", "learner", "image_size"), "incomplete, missing image_size"),
    (without("pretrained_cfg", "std"), "incomplete, missing pretrained_cfg.std"),
    (without("pretrained_cfg"), "incomplete, missing"),
]


@pytest.mark.parametrize("place", range(len(TAMPERED)))
def test_a_tampered_configuration_is_refused_by_name(folder: Path, place: int) -> None:
    change, message = TAMPERED[place]
    content = read(folder)
    change(content)
    write(folder, content)
    with pytest.raises(LearnerError, match=message):
        MetaLearner.from_pretrained(folder)


def test_a_byte_order_mark_is_passed_over(folder: Path) -> None:
    path = folder / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert MetaLearner.from_pretrained(folder).feature_dim == 22


def test_every_value_of_a_record_may_be_of_any_type(folder: Path, tmp_path: Path) -> None:
    """Whatever stands in a place is refused, or the learner that loads can be saved and has a card."""
    content = read(folder)
    teacher = {"reference": "org/x", "license": "mit", "sha256": {}, "label_names": ["a"], "input_size": [3, 9, 9]}
    row = {"method": "x", "n_way": 2, "k_shot": 1, "n_query": 1, "episodes": 9, "accuracy": 9.0, "interval": 1.0}
    report = {"dataset": "d", "split": "s", "rows": [row], "warnings": []}
    content["hf_free"] |= {"teachers": [teacher], "results": [report], "config": {"hub": {}, "bell": {"n_way": 5}}}
    outcomes = {"loaded": 0, "refused": 0}
    for path in _paths({"hf_free": {key: value for key, value in content["hf_free"].items() if key != "learner"}}):
        for value in (True, "../x", [[None]]):
            tampered = copy.deepcopy(content)
            place = tampered
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
            write(folder, tampered)
            try:
                learner = MetaLearner.from_pretrained(folder)
            except LearnerError:
                outcomes["refused"] += 1
                continue
            outcomes["loaded"] += 1
            learner.save_pretrained(tmp_path / "again")
            write_card(tmp_path / "again", learner.full_record())
    assert outcomes["refused"] > 30
    assert outcomes["loaded"] > 10


def _paths(value: Any) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [(key, *rest) for key, inner in value.items() for rest in [(), *_paths(inner)]]
    return [(0, *rest) for rest in [(), *_paths(value[0])]] if isinstance(value, list) and value else []


class Allocations(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive, and their most so far; those of the meta device take none."""

    def __init__(self) -> None:
        super().__init__()
        self.held = self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, list | tuple) else [made]:
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "cpu":
                self._take(tensor.untyped_storage())
        return made

    def _take(self, storage: torch.UntypedStorage) -> None:
        key, count = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.held += count
            self.most = max(self.most, self.held)
            weakref.finalize(storage, self._give_back, key, count)

    def _give_back(self, key: int, count: int) -> None:
        self._known.discard(key)
        self.held -= count


def swin(window: int) -> MetaLearner:
    """A network of 9,000 weights that computes tables of window^4 numbers for itself."""
    arguments = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 1), "patch_size": 1, "window_size": window}
    config = LearnerConfig(backbone="swin_tiny_patch4_window7_224", image_size=window)
    return MetaLearner(config, backbone=arguments)


def test_tables_that_a_network_computes_are_bounded_and_so_is_what_is_taken_to_compute_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_everywhere(monkeypatch, "hf_free.learner.persistence.MAX_COMPUTED_BYTES", 2 * 2**20)
    swin(20).save_pretrained(tmp_path / "allowed")
    weights = (tmp_path / "allowed" / "model.safetensors").stat().st_size
    with Allocations() as counted:
        MetaLearner.from_pretrained(tmp_path / "allowed")
    assert 20**4 * 8 < counted.most < 5 * (2 * weights + 2 * 2**20)
    swin(24).save_pretrained(tmp_path / "large")
    with Allocations() as counted, pytest.raises(LearnerError, match="its backbone would take"):
        MetaLearner.from_pretrained(tmp_path / "large")
    assert counted.most < 2**16  # nothing was built


def test_no_picture_goes_through_a_network_while_it_is_read(tmp_path: Path) -> None:
    """One of 1,024 pixels takes a Conv-4 of 0.1 MB beyond 0.3 GB."""
    MetaLearner(LearnerConfig(backbone="conv4_32", image_size=1024)).save_pretrained(tmp_path)
    files = sum(path.stat().st_size for path in tmp_path.iterdir())
    with Allocations() as counted:
        learner = MetaLearner.from_pretrained(tmp_path)
    assert counted.most < 10 * files  # a few copies while they are read; a picture would take 2,500 times as much
    assert learner.backbone_dim == learner.feature_dim


def change_tensors(folder: Path, name: str, **tensors: torch.Tensor | None) -> None:
    kept = load_file(folder / name)
    for key, value in tensors.items():
        kept.pop(key) if value is None else kept.__setitem__(key, value)
    try:
        save_file(kept, folder / name)
    except KeyError as error:  # of the oldest safetensors
        pytest.skip(f"this safetensors does not write {error}")


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        ("model.safetensors", "blocks.0.conv.bias", torch.full((8,), math.nan), "blocks.0.conv.bias holds NaN"),
        ("model.safetensors", "blocks.3.bn.running_var", torch.full((8,), math.inf), "blocks.3.bn.running_var holds"),
        ("model.safetensors", "blocks.0.conv.bias", torch.ones(8, dtype=torch.int32), "has type I32"),
        ("model.safetensors", "blocks.0.conv.bias", torch.ones(8, dtype=torch.complex64), "has type C64"),
        ("model.safetensors", "blocks.0.bn.num_batches_tracked", torch.tensor(1.5), "has type F32"),
        ("model.safetensors", "blocks.0.conv.bias", None, "Missing key blocks.0.conv.bias"),
        ("hf_free.safetensors", "damping.scale", torch.tensor(math.nan), "damping.scale holds NaN"),
        ("hf_free.safetensors", "projection.bias", torch.ones(9), "size mismatch for projection.bias"),
        ("hf_free.safetensors", "shared_classes.groups", torch.ones(8), "has type F32"),
        ("hf_free.safetensors", "shared_classes.groups", torch.arange(8) - 1, "shared classes do not fit"),
        ("hf_free.safetensors", "center", torch.ones(22), "does not hold what config.json declares, center"),
    ],
)
def test_tampered_weights_are_refused_by_name(
    folder: Path, name: str, key: str, value: torch.Tensor | None, message: str
) -> None:
    change_tensors(folder, name, **{key: value})
    with pytest.raises(LearnerError, match=message):
        MetaLearner.from_pretrained(folder)


def test_nothing_is_built_of_a_configuration_that_the_files_do_not_bear_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A huge network is asked for beside 10 kB of weights: only torch's meta device, which takes no memory, has it."""
    built, create = [], timm.create_model

    def watched(*args: Any, **kwargs: Any) -> Any:
        network = create(*args, **kwargs)
        built.append({weight.device.type for weight in network.parameters()})
        return network

    monkeypatch.setattr(timm, "create_model", watched)
    content = read(folder)
    content["hf_free"]["learner"].update(backbone="test_vit", image_size=1024)
    content["model_args"] = {"embed_dim": 4096, "depth": 4, "num_heads": 8, "img_size": 1024}
    write(folder, content)
    with pytest.raises(LearnerError, match="do not fit"):
        MetaLearner.from_pretrained(folder)
    assert built
    assert set().union(*built) == {"meta"}


def test_arguments_that_only_shape_the_network_pass(tmp_path: Path) -> None:
    args = {"patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2}
    learner = MetaLearner(LearnerConfig(backbone="test_vit", image_size=16), backbone=args)
    learner.save_pretrained(tmp_path)
    again = MetaLearner.from_pretrained(tmp_path)
    assert again.model_args == args
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(again.embed(images), learner.eval().embed(images))


class TestClassifier:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ({"format_version": 2, "classes": ["a", "b"]}, "classifier format 2"),
            ({"format_version": True, "classes": ["a", "b"]}, "classifier format True"),
            ({"format_version": 1}, "classes of classifier.json is None"),
            ({"format_version": 1, "classes": "ab"}, "classes of classifier.json is 'ab'"),
            ({"format_version": 1, "classes": ["a", "a"]}, "classes of classifier.json"),
            ({"format_version": 1, "classes": ["a", True]}, "classes of classifier.json"),
            ({"format_version": 1, "classes": ["a", ["b"]]}, "classes of classifier.json"),
            ({"format_version": 1, "classes": ["a"]}, "classes of classifier.json"),
            ({"format_version": 1, "classes": ["a", "b", "c"]}, "size mismatch for bias"),
            ({"format_version": 1, "classes": ["a", "b"], "background": "white"}, "background of classifier.json"),
            ({"format_version": 1, "classes": ["a", "b"], "background": [0, 0]}, "background of classifier.json"),
            ({"format_version": 1, "classes": ["a", "b"], "background": [0, 0, 256]}, "background of classifier"),
            ({"format_version": 1, "classes": ["a", "b"], "background": [0, 0, True]}, "background of classifier"),
            (
                {"format_version": 1, "classes": ["a", "b"], "background": None},
                "background of classifier.json is None",
            ),
            ({"format_version": 1, "classes": ["a", "b"], "hf_free_files": 3}, "hf_free_files"),
            ({"format_version": 1, "classes": ["a", "b"], "hf_free_files": {}}, "hf_free_files is not a SHA-256"),
            ([1], "holds a list"),
        ],
    )
    def test_a_tampered_description_is_refused(self, folder: Path, content: Any, message: str) -> None:
        write(folder, content, "classifier.json")
        with pytest.raises(LearnerError, match=message):
            FewShotClassifier.from_pretrained(folder)

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("weight", torch.full((2, 22), math.nan), "weight holds NaN"),
            ("bias", torch.full((2,), math.inf), "bias holds NaN or infinite"),
            ("weight", torch.ones(2, 21), "size mismatch for weight"),
            ("bias", torch.ones(2, dtype=torch.long), "bias has type I64"),
            ("bias", None, "Missing key bias"),
            ("stray", torch.ones(1), "Unexpected key stray"),
        ],
    )
    def test_tampered_weights_are_refused(
        self, folder: Path, key: str, value: torch.Tensor | None, message: str
    ) -> None:
        change_tensors(folder, "classifier.safetensors", **{key: value})
        with pytest.raises(LearnerError, match=message):
            FewShotClassifier.from_pretrained(folder)

    def test_another_learner_in_its_folder_is_refused(self, folder: Path, tmp_path: Path) -> None:
        FewShotClassifier.from_pretrained(folder).save_pretrained(tmp_path / "new")
        other = MetaLearner.from_pretrained(tmp_path / "new")
        with torch.no_grad():
            other.embedding.projection.weight.mul_(2)
        other.save_pretrained(tmp_path / "other")
        for path in (tmp_path / "other").iterdir():
            shutil.copy(path, tmp_path / "new")
        with pytest.raises(LearnerError, match=r"classifier.json and config.json were not saved together"):
            FewShotClassifier.from_pretrained(tmp_path / "new")


def test_a_record_of_very_many_classes_is_saved_without_their_descriptions(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    learner = MetaLearner.from_pretrained(folder)
    names = [f"n{i:08}" for i in range(1000)]
    entries = [
        {"reference": f"org/{i}", "label_names": names, "label_descriptions": ["what it looks like" * 10] * 1000}
        for i in range(50)
    ]
    learner.record = LearnerRecord.from_dict({"teachers": entries})
    learner.save_pretrained(tmp_path / "large")
    assert "the teachers' label_descriptions are left out" in caplog.text
    teachers = MetaLearner.from_pretrained(tmp_path / "large").record.teachers
    assert (teachers[7].label_names, teachers[7].label_descriptions) == (tuple(names), ())
    assert learner.record.teachers[7].label_descriptions
