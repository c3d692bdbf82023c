"""The pool: any number of teachers, little memory, the very same teacher each time."""

from __future__ import annotations

import gc
import json
import shutil
import weakref

import pytest
import torch
from pico import pico_folder, pico_teacher
from safetensors.torch import load_file, save_file

from hf_free.errors import ConfigError, TeacherError, TeacherReferenceError, VanishedTeacherError
from hf_free.runtime.text import parse_bytes
from hf_free.teachers.pool import TeacherPool


@pytest.fixture
def folders(tmp_path):
    return [str(pico_folder(tmp_path / f"t{seed}", "conv4", seed=seed)) for seed in range(4)]


@pytest.mark.parametrize(
    ("text", "amount"),
    [("4GiB", 2**32), ("500MB", 500_000_000), ("1.5 kb", 1500), (123, 123), ("2k", 2000), ("1TiB", 2**40), ("7B", 7)],
)
def test_amounts_of_memory(text, amount):
    assert parse_bytes(text) == amount


@pytest.mark.parametrize("text", ["", "GiB", "-1GB", "4 GiBs", "0", "1e9", 0, "4PB"])
def test_amounts_refused(text):
    with pytest.raises(ConfigError, match="is not an amount of memory"):
        parse_bytes(text)


def test_least_recently_used_teachers_leave(folders):
    one = TeacherPool(folders[:1]).records[0].weight_bytes
    pool = TeacherPool(folders, budget=2 * one + one // 2)
    assert len(pool) == 4
    assert pool.loaded_bytes == 2 * one
    first, second = pool[0], pool[1]
    assert pool[0] is first  # used again, so 1 is the older one now
    dead = weakref.ref(second)
    del second
    assert pool[2] is not None
    gc.collect()
    assert dead() is None, "an evicted teacher's memory must be given back"
    assert pool[0] is first
    assert pool.loaded_bytes == 2 * one


def test_a_teacher_that_vanishes_is_named_with_the_reason_and_not_looked_for_again(folders, tmp_path):
    pool = TeacherPool(folders, budget=10_000)
    shutil.move(folders[1], tmp_path / "elsewhere")
    with pytest.raises(VanishedTeacherError, match=f"{folders[1]} cannot be loaded again: is not a folder"):
        pool[1]
    shutil.move(tmp_path / "elsewhere", folders[1])
    with pytest.raises(VanishedTeacherError):
        pool[1]
    assert list(pool.gone) == [1]
    assert pool[2].record is pool.records[2]


@pytest.mark.parametrize("is_back", [False, True])
def test_a_record_that_may_be_absent_keeps_its_place(folders, tmp_path, is_back):
    records = TeacherPool(folders).records
    if not is_back:
        shutil.move(folders[1], tmp_path / "elsewhere")
    pool = TeacherPool(records, strict=True, absent=[1])
    assert pool.records == records
    assert list(pool.gone) == ([] if is_back else [1])
    if not is_back:
        with pytest.raises(TeacherReferenceError, match="t1"):
            TeacherPool(records, strict=True)


def test_teacher_loaded_again_is_the_same(folders):
    images = torch.rand(2, 3, 20, 20)
    pool = TeacherPool(folders, budget=10_000)
    expected = [pico_teacher("conv4", seed=seed).logits(images) for seed in range(4)]
    for index in (0, 3, 1, -2, 0, 3):
        torch.testing.assert_close(pool[index].logits(images), expected[index], rtol=0, atol=0)
    assert [teacher.record.reference for teacher in pool] == folders
    assert [teacher.record.reference for teacher in pool[1:3]] == folders[1:3]
    with pytest.raises(IndexError, match="teacher 4 of 4"):
        pool[4]


def test_changed_files_are_noticed(folders, tmp_path):
    pool = TeacherPool(folders, budget=10_000)
    pico_folder(tmp_path / "t0", "conv4", seed=9)
    with pytest.raises(TeacherError, match=r"t0 has other files than when it was first read"):
        pool[0]
    again = TeacherPool(pool.records)
    assert [record.reference for record in again.records] == folders[1:]
    assert "other files" in again.skipped[0][1]


def test_records_of_an_earlier_run_make_the_same_pool(folders):
    records = TeacherPool(folders).records
    assert TeacherPool([type(r).from_dict(json.loads(json.dumps(r.to_dict()))) for r in records]).records == records


def test_bad_teachers_are_left_out_with_a_reason(folders, tmp_path):
    config = json.loads((tmp_path / "t1" / "config.json").read_text())
    (tmp_path / "t1" / "config.json").write_text(json.dumps({**config, "architecture": "nothing"}))
    (tmp_path / "t2" / "model.safetensors").write_bytes(b"short")
    (tmp_path / "empty").mkdir()
    seen = []
    big = str(pico_folder(tmp_path / "big", "mobilenet"))
    sources = [*folders, str(tmp_path / "empty"), "./nowhere", "bad name", big]
    pool = TeacherPool(sources, budget="100kB", progress=seen.append)
    assert [record.reference for record in pool.records] == [folders[0], folders[3]]
    assert seen == sources
    reasons = dict(pool.skipped)
    assert list(reasons) == [folders[1], folders[2], str(tmp_path / "empty"), "./nowhere", "bad name", big]
    expected = ("knows no architecture 'nothing'", "truncated or broken", "config.json", "does not exist", "org/name")
    for reason, words in zip(reasons.values(), (*expected, "at most the budget of 97.66 KiB"), strict=True):
        assert words in reason


def test_pool_of_teachers_in_memory():
    teachers = [pico_teacher("conv4"), pico_teacher("vit")]
    pool = TeacherPool.from_teachers(teachers)
    assert list(pool) == teachers
    assert pool.records == [teacher.record for teacher in teachers]
    assert len(TeacherPool.from_teachers([])) == 0


@pytest.mark.parametrize(("value", "reason"), [(0.0, "constant output"), (float("nan"), "outputs NaN")])
def test_teachers_in_memory_that_are_of_no_use_are_left_out(value, reason):
    good, bad, last = (pico_teacher("conv4", seed=seed) for seed in range(3))
    with torch.no_grad():
        for parameter in bad.network.get_classifier().parameters():
            parameter.fill_(value)
    pool = TeacherPool.from_teachers([good, bad, last])
    assert list(pool) == [good, last]
    ((reference, why),) = pool.skipped
    assert reference == bad.record.reference
    assert reason in why


def test_hub_teachers_stay_at_the_commit_first_read(hub, tokens, run_client):
    from pico import pico_files

    first = hub.add_repo("alice/pool-moving", pico_files("conv4", seed=1))
    hub.add_repo("alice/pool-other", pico_files("conv4", seed=2))
    weights = pico_files("conv4", seed=3)["model.safetensors"]
    code = f"""
import json, sys, torch
from huggingface_hub import HfApi
from hf_free.teachers.pool import TeacherPool
pool = TeacherPool(["alice/pool-moving", "alice/pool-other"], budget=10_000)
images = torch.zeros(1, 3, 32, 32)
before = pool[0].logits(images)
pool[1]
HfApi().upload_file(path_or_fileobj=bytes.fromhex({weights.hex()!r}), path_in_repo="model.safetensors",
                    repo_id="alice/pool-moving")
after = pool[0].logits(images)
print(json.dumps([pool.records[0].commit, torch.equal(before, after), pool[0].record == pool.records[0]]))
"""
    assert run_client(code, token=tokens["alice"]).json == [first, True, True]


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def _spoil(folder, value):
    """Give a saved teacher's head other weights."""
    path = f"{folder}/model.safetensors"
    tensors = load_file(path)
    tensors["head.weight"].fill_(value)
    save_file(tensors, path)


def test_teachers_that_threads_load_ahead_are_those_that_are_loaded_in_turn(tmp_path, two_threads):
    kinds = ["conv4"] * 4 + ["resnet"] + ["conv4"] * 5
    folders = [str(pico_folder(tmp_path / f"t{seed}", kind, seed=seed)) for seed, kind in enumerate(kinds)]
    _spoil(folders[6], torch.nan), _spoil(folders[8], 0.0)
    drawn = torch.random.get_rng_state()
    together = TeacherPool([*folders, f"{tmp_path}/t3"])
    assert torch.equal(torch.random.get_rng_state(), drawn)
    torch.set_num_threads(1)
    alone = [TeacherPool([folder]) for folder in folders]
    assert [text for text, _ in together.skipped] == [folders[6], folders[8]]
    assert together.skipped == [one for pool in alone for one in pool.skipped]
    expected = [pool[0] for pool in alone if len(pool)]
    assert together.records[:-1] == [teacher.record for teacher in expected]
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for found, plain in zip(together, [*expected, alone[3][0]], strict=True):
        assert torch.equal(found.logits(images), plain.logits(images))


def test_a_strict_pool_of_many_threads_ends_at_the_first_teacher_that_cannot_be_read(tmp_path, two_threads):
    folders = [str(pico_folder(tmp_path / f"t{seed}", "conv4", seed=seed)) for seed in range(6)]
    for place in (4, 5):
        with open(f"{folders[place]}/model.safetensors", "r+b") as file:
            file.truncate(1000)
    with pytest.raises(TeacherError, match=r"t4: model\.safetensors cannot be read"):
        TeacherPool(folders, strict=True)
