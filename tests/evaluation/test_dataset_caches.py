"""Data sets of a Hub on this computer: offline, and on a full disk."""

from __future__ import annotations

import errno

import pytest

from hf_free.errors import StorageError
from hf_free.evaluation.dataset_caches import caches, is_local
from hf_free.evaluation.dataset_sources import read_or_explain

datasets = pytest.importorskip("datasets")


def _full(**named):
    raise OSError(errno.ENOSPC, "No space left on device", *named.values())


def test_a_data_set_that_was_never_fetched_is_not_to_be_had_offline(hub, run_client, parquet):
    for name in ("lab/never", "lab/fetched"):
        hub.add_repo(name, parquet, repo_type="dataset")
    code = """
import json
from hf_free.errors import DatasetError
from hf_free.evaluation.datasets import load_labeled_images
said = []
for name in %r:
    try:
        said.append(load_labeled_images(name).class_names)
    except DatasetError as error:
        said.append(str(error))
print(json.dumps(said))
"""
    assert run_client(code % ["lab/fetched"]).json == [["ape", "bee"]]
    names = ["lab/fetched:other", "lab/never", "lab/none"]
    fetched, *absent = run_client(code % ["lab/fetched", *names], env={"HF_HUB_OFFLINE": "1"}).json
    assert fetched == ["ape", "bee"]
    for name, said in zip(names, absent, strict=True):
        assert f"data set '{name}' is not in the cache /" in said, said
        assert "the Hub is not asked (--offline, HF_HUB_OFFLINE)" in said
        assert "leave --offline out" in said


def test_a_cache_on_a_full_disk_is_named_with_its_space(tmp_path):
    with pytest.raises(
        StorageError, match=rf"(?s)cannot write lab--full in {tmp_path}: no space .* are free.*--cache-dir"
    ):
        read_or_explain(_full, "lab/full", str(tmp_path))
    with pytest.raises(StorageError, match=f"cannot write lab--full in ({'|'.join(map(str, caches()))}): no space"):
        read_or_explain(_full, "lab/full")


def test_a_full_disk_behind_an_error_of_datasets_is_one():
    def fail():
        try:
            _full()
        except OSError as error:
            raise datasets.exceptions.DatasetGenerationError("An error occurred") from error

    with pytest.raises(StorageError, match=r"cannot write lab--full in .*: no space"):
        read_or_explain(fail, "lab/full")


def test_a_file_that_the_system_names_stays_named(tmp_path):
    with pytest.raises(StorageError, match="b in /a: no space"):
        read_or_explain(lambda: _full(file="/a/b"), "lab/full")
    with pytest.raises(StorageError, match="cannot read or write a file: no space"):
        read_or_explain(_full, str(tmp_path))


def test_what_lies_here_is_local(tmp_path):
    assert is_local(str(tmp_path))
    assert is_local(f"{tmp_path}:birds")
    assert not is_local("lab/set:birds")
