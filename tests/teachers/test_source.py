"""Files as people have them: prefixed names, pointers instead of files, byte order marks, networks channels-last."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import yaml
from pico import pico_folder, pico_network, pico_teacher
from safetensors.torch import load_file, save_file

from hf_free.errors import HfFreeError, TeacherError, TeacherReferenceError
from hf_free.hub.licenses import UNREADABLE
from hf_free.teachers.listing import resolve
from hf_free.teachers.loader import load_teacher, read_record
from hf_free.teachers.reference import TeacherReference
from hf_free.teachers.saving import save_teacher
from hf_free.teachers.source import MAX_TEACHER_CONFIG_BYTES
from hf_free.teachers.teacher import Teacher
from hf_free.training.notices import license_notes

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return pico_folder(tmp_path / "teacher", "conv4")


def _load(folder: Path) -> Teacher:
    return load_teacher(TeacherReference(str(folder), is_local=True))


def _rename(folder: Path, rename) -> None:
    path = folder / "model.safetensors"
    save_file({rename(name): tensor for name, tensor in load_file(path).items()}, path)


def _same_answers(teacher: Teacher, kind: str = "conv4") -> None:
    images = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(teacher.logits(images), pico_teacher(kind).logits(images))


@pytest.mark.parametrize("prefix", ["model.", "_orig_mod.", "module.", "module._orig_mod.", "model._orig_mod.module."])
def test_a_prefix_of_all_names_is_taken_off_and_said(folder, prefix):
    _rename(folder, lambda name: prefix + name)
    teacher = _load(folder)
    _same_answers(teacher)
    assert any(prefix in note and "taken off" in note for note in teacher.record.notes)


def test_a_prefix_of_some_names_is_not(folder):
    _rename(folder, lambda name: name if name.startswith("head") else f"model.{name}")
    with pytest.raises(TeacherError, match="lacks"):
        _load(folder)


def test_prefixed_names_of_an_older_timm_are_converted_too(tmp_path):
    network = pico_network("vit")
    save_teacher(network, tmp_path, extra_cfg={"input_size": (3, 32, 32)})
    plain = _load(tmp_path)
    _rename(tmp_path, lambda name: f"module.{name}")
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(_load(tmp_path).logits(images), plain.logits(images))


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_git_lfs_pointers_are_named(folder, file):
    (folder / file).write_bytes(POINTER)
    with pytest.raises(TeacherError, match=f"{file} is a git-lfs pointer") as caught:
        _load(folder)
    assert "git lfs pull" in caught.value.action


def test_byte_order_marks_are_read_over(folder):
    for name, text in (("config.json", None), ("README.md", "---\nlicense: mit\n---\n# Pico\n")):
        path = folder / name
        path.write_bytes(b"\xef\xbb\xbf" + (path.read_bytes() if text is None else text.encode()))
    teacher = _load(folder)
    _same_answers(teacher)
    assert teacher.record.license == "mit"


def test_a_path_or_a_text_names_a_teacher(folder, monkeypatch):
    for named in (str(folder), folder):
        _same_answers(load_teacher(named))
        assert read_record(named).architecture == "conv4_32"
    monkeypatch.chdir(folder.parent)
    _same_answers(load_teacher("./teacher"))
    for wrong, message in (("no teacher", "without an organization"), (folder / "gone", "does not exist")):
        with pytest.raises(TeacherReferenceError, match=message):
            load_teacher(wrong)


def put_zeros(path: Path) -> None:
    """A file that takes no space on the disk, and hours to read."""
    with path.open("wb") as file:
        file.truncate(2**40)


HOSTILE_FILES = {
    "a pipe as config.json": ("config.json", os.mkfifo, "config.json is not a regular file"),
    "a pipe as weights": ("model.safetensors", os.mkfifo, "model.safetensors is not a regular file"),
    "an endless config.json": ("config.json", lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    "a folder as weights": ("model.safetensors", os.mkdir, "model.safetensors is not a regular file"),
    "a circle": ("config.json", lambda path: path.symlink_to("config.json"), "has no config.json"),
    "a large config.json": (
        "config.json",
        lambda path: path.write_bytes(b" " * (MAX_TEACHER_CONFIG_BYTES + 1)),
        "config.json cannot be read: it has more than",
    ),
    "a terabyte of zeros": ("config.json", put_zeros, "config.json cannot be read: it has more than"),
    "weights of a terabyte of zeros": ("model.safetensors", put_zeros, "model.safetensors cannot be read"),
    "pixels of a terabyte of zeros": ("preprocessor_config.json", put_zeros, "it has more than"),
    "a deep config.json": ("config.json", lambda path: path.write_bytes(b"[" * 100_000), "nested too deeply"),
}


@pytest.mark.parametrize("name", HOSTILE_FILES)
def test_only_regular_files_of_bounded_size_are_read(name, folder):
    """Bytes that cannot hang or grow: pipes are opened without waiting, and what never ends is not begun."""
    file, make, problem = HOSTILE_FILES[name]
    (folder / file).unlink(missing_ok=True)
    make(folder / file)
    with pytest.raises(HfFreeError, match=problem):
        _load(folder)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "endless"])
def test_a_card_that_is_no_file_is_passed_over(make, folder):
    (folder / "README.md").unlink(missing_ok=True)
    make(folder / "README.md")
    assert _load(folder).record.license == UNREADABLE


@pytest.mark.parametrize(
    "card", ["---\nlicense: mit\n---\n# é".encode("latin-1"), b"---\nlicense: [mit\n---\n", bytes(9)]
)
def test_a_card_that_cannot_be_read_may_state_a_license(card, folder):
    (folder / "README.md").write_bytes(card)
    record = _load(folder).record
    assert license_notes([("a", record.license)]) == [
        "license unclear: a (unknown (its README.md cannot be read)); read it before you publish a learner"
    ]


def test_the_license_of_a_card_with_endless_metadata_is_read_from_its_line_alone(folder, monkeypatch):
    """YAML of a mebibyte takes seconds, and a pooled learner has a hundred teachers."""
    read, plain = [], yaml.safe_load
    monkeypatch.setattr(yaml, "safe_load", lambda text: read.append(len(text)) or plain(text))
    many = "".join(f"key{number}: [{{a: b}}]\n" for number in range(40_000))
    (folder / "README.md").write_text(f"---\n{many}license: mit\nlicense_name: {'x' * 70_000}\n---\n# A card\n")
    assert _load(folder).record.license == "mit"
    assert max(read) < 1000


def test_a_list_gives_another_size_to_networks_of_convolutions_alone(tmp_path):
    for kind in ("resnet", "vit"):
        pico_folder(tmp_path / kind, kind, size=32)
    entries = [{"name": kind, "path": f"./{kind}", "input_size": [3, 16, 16]} for kind in ("resnet", "vit")]
    (tmp_path / "smaller.yaml").write_text(yaml.safe_dump({"teachers": entries}))
    resnet, vit = resolve([str(tmp_path / "smaller.yaml")])
    smaller, images = load_teacher(resnet), torch.rand(2, 3, 16, 16)
    assert smaller.record.input_size == (3, 16, 16)
    plain = (images - torch.tensor(smaller.record.mean)[:, None, None]) / torch.tensor(smaller.record.std)[
        :, None, None
    ]
    with torch.no_grad():
        torch.testing.assert_close(smaller.logits(images), pico_network("resnet").eval()(plain))
    with pytest.raises(TeacherError, match=r"is \[3, 16, 16\], and the network is built for 32 x 32") as refused:
        load_teacher(vit)
    assert "leave out input_size" in str(refused.value)
