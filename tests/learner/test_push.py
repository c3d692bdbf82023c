"""Pushing a learner's folder: what a killed save left is completed in what is uploaded, not in the folder."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
import torch

from hf_free.config.sections import LearnerConfig
from hf_free.errors import HubError, LearnerError, PushError, RunError, StorageError, UnfitRepositoryError
from hf_free.learner.meta_learner import MetaLearner
from hf_free.learner.push import plan_push_of, push_learner

IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def make(seed: int) -> MetaLearner:
    torch.manual_seed(seed)
    return MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16), backbone={"width": 4}).eval()


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def killed_while_saving(learner: MetaLearner, folder: Path) -> None:
    """Save in a process that dies after it has put the first file into its place."""
    child = os.fork()
    if not child:
        real = os.replace

        def once(*paths) -> None:
            real(*paths)
            os._exit(9)

        os.replace = once
        learner.save_pretrained(folder)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.fixture
def no_repository(monkeypatch):
    """A Hub that has no repository yet, without asking one."""

    def fetch_snapshot(repo_id: str, **_options) -> None:
        raise HubError(f"{repo_id} does not exist")

    monkeypatch.setattr("hf_free.publishing.push.fetch_snapshot", fetch_snapshot)


@pytest.mark.usefixtures("no_repository")
def test_a_killed_save_is_completed_in_the_copy(tmp_path, monkeypatch):
    old, new = make(1), make(2)
    folder, uploaded = tmp_path / "learner", tmp_path / "uploaded"
    old.save_pretrained(folder)
    killed_while_saving(new, folder)
    before = content(folder)
    assert any("/" in name for name in before), "the killed save left something behind"

    def push_folder(copy: Path, repo_id: str, **options) -> str:
        shutil.copytree(copy, uploaded)
        return f"{repo_id}: {options['commit_message']}"

    monkeypatch.setattr("hf_free.publishing.push.push_folder", push_folder)
    assert push_learner(folder, "me/few-shot") == "me/few-shot: Upload meta-learner with hf-free"
    assert content(folder) == before
    assert set(content(uploaded)) == {"config.json", "model.safetensors", "hf_free.safetensors", "README.md"}
    arrived = MetaLearner.from_pretrained(uploaded).embed(IMAGES)
    assert any(torch.equal(arrived, whole.embed(IMAGES)) for whole in (old, new))
    assert 'from_pretrained("me/few-shot")' in (uploaded / "README.md").read_text()


@pytest.mark.usefixtures("no_repository")
def test_a_failure_names_the_folder(tmp_path, monkeypatch):
    make(1).save_pretrained(tmp_path / "my learner")

    def push_folder(copy: Path, repo_id: str, **options) -> str:
        raise HubError(f"{repo_id} is not yours", action="choose another name")

    monkeypatch.setattr("hf_free.publishing.push.push_folder", push_folder)
    with pytest.raises(PushError, match="me/few-shot is not yours") as caught:
        push_learner(tmp_path / "my learner", "me/few-shot")
    assert caught.value.folder == tmp_path / "my learner"
    assert caught.value.again == f"hf-free push '{tmp_path}/my learner' me/few-shot"


def put_pipe(path: Path) -> None:
    os.mkfifo(path)


def put_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def put_circle(path: Path) -> None:
    path.mkdir()
    (path / "again").symlink_to(path.parent)


def put_dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def put_private(path: Path) -> None:
    private = path.parent.with_name("key")
    private.write_text("private")
    path.symlink_to(private)


@pytest.mark.parametrize("push", [push_learner, plan_push_of])
@pytest.mark.parametrize("put", [put_pipe, put_device, put_circle, put_dangling, put_private])
def test_what_is_no_file_of_the_folders_is_named_and_not_copied(tmp_path, put, push):
    """A device has no end: a copy of it filled the disk. What a link leads to elsewhere was published."""
    folder = tmp_path / "learner"
    make(1).save_pretrained(folder)
    put(folder / "notes")
    with pytest.raises(RunError, match=rf"{folder} cannot be uploaded: .*notes") as refused:
        push(folder, "me/few-shot")
    assert "move away" in refused.value.action


@pytest.mark.parametrize(
    ("repo_id", "revision", "says"),
    [
        ("https://huggingface.co/me/u4", None, "write me/u4"),
        ("https://huggingface.co/me/u4/tree/main", None, "write me/u4"),
        ("./me/u4", None, "write it as ORG/NAME"),
        ("me/u4/z", None, "write it as ORG/NAME"),
        ("u4", None, "write org/u4"),
        ("me/u--4", None, "write it as ORG/NAME"),
        ("me/u4", "../x", "write it as the Hub shows it, such as main"),
    ],
)
def test_a_name_that_cannot_be_is_refused_without_advice_to_repeat_it(tmp_path, repo_id, revision, says):
    make(1).save_pretrained(tmp_path / "learner")
    for push in (push_learner, plan_push_of):
        with pytest.raises(UnfitRepositoryError) as refused:
            push(tmp_path / "learner", repo_id, revision=revision)
        assert refused.value.action == says
        assert "folder" not in str(refused.value).replace(repo_id, "")
        assert "try again" not in str(refused.value)


@pytest.mark.parametrize(
    ("number", "reason"), [(errno.ENOSPC, "no space is left"), (errno.EDQUOT, "the quota of this user is used up")]
)
def test_a_disk_without_room_for_the_copy_is_said(tmp_path, monkeypatch, number, reason):
    folder = tmp_path / "learner"
    make(1).save_pretrained(folder)
    real = Path.open

    def full(path, mode="r", *arguments, **named):
        if "x" in mode and path.name == "model.safetensors":
            raise OSError(number, os.strerror(number), str(path))
        return real(path, mode, *arguments, **named)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(StorageError, match=rf"cannot write model\.safetensors in .*: {reason}") as refused:
        push_learner(folder, "me/few-shot")
    assert f"{folder} is unchanged; TMPDIR says where" in refused.value.action


def test_a_card_that_is_none_is_refused_before_anything_is_copied(tmp_path, monkeypatch):
    folder = tmp_path / "learner"
    make(1).save_pretrained(folder)
    with (folder / "README.md").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(RunError, match=rf"{folder}/README\.md cannot be read .* more than 16777216 bytes"):
        push_learner(folder, "me/few-shot")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("model.safetensors", None, r"model\.safetensors is not the file that config\.json was saved with"),
        ("classifier.safetensors", None, r"classifier\.safetensors is not the file that classifier\.json was saved"),
        ("support.safetensors", None, r"support\.safetensors is not the file that classifier\.json was saved with"),
        ("classifier.json", '{"format_version": 1, "classes": ["a"]}', r"classes of classifier\.json is \['a'\]"),
        ("config.json", "[[", r"config\.json"),
        ("config.json", '{"hf_free": {"learner": {}}}', r"classifier\.json and config\.json were not saved together"),
    ],
)
def test_what_nobody_could_open_is_not_uploaded(tmp_path, name, text, says):
    folder = tmp_path / "classifier"
    make(1).adapt(IMAGES, ["a", "b"]).save_pretrained(folder)
    path = folder / name
    path.write_bytes(path.read_bytes()[:-1] if text is None else text.encode())
    for push in (push_learner, plan_push_of):
        with pytest.raises(LearnerError, match=says):
            push(folder, "me/few-shot")


def test_a_git_lfs_pointer_is_named_before_anything_is_copied(tmp_path):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n"
    (tmp_path / "model.safetensors").write_text(pointer)
    with pytest.raises(LearnerError, match=r"model\.safetensors is a git-lfs pointer"):
        push_learner(tmp_path, "me/x")
