"""Which earlier reports a new one replaces, and what folders are called once their paths are left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hf_free.provenance.results import EvaluationReport
from hf_free.publishing.results import data_set, fingerprint, is_own_row, plain, with_results, without_paths


def report(dataset, *settings, split="test", accuracy=50.0, **changes):
    rows = [{"method": "learner", "n_way": way, "k_shot": shot, "accuracy": accuracy} for way, shot in settings]
    return {"dataset": dataset, "split": split, "rows": rows, **changes}


def test_only_what_was_measured_in_the_same_way_is_replaced():
    old = report("org/birds", (5, 1), (5, 5), accuracy=1.0)
    others = [report("org/birds", (5, 1), split="train"), report("org/birds:red", (5, 1)), report("org/cats", (5, 1)),
              report("org/birds", (5, 1), revision="v2")]  # fmt: skip
    new = report("org/birds", (5, 1), (3, 1), accuracy=2.0)
    kept, *rest = with_results([old, *others], new)
    assert [(row["k_shot"], row["accuracy"]) for row in kept["rows"]] == [(5, 1.0)]
    assert rest == [*others, new]
    assert with_results([report("org/birds", (5, 1))], new) == [new]
    assert len(old["rows"]) == 2  # what was given is not changed


@pytest.mark.parametrize(
    ("earlier", "later", "same"),
    [
        ({"dataset": "/a/birds"}, {"dataset": "/a/birds"}, True),
        ({"dataset": "/a/birds"}, {"dataset": "/b/birds"}, False),
        ({"dataset": "birds"}, {"dataset": "/b/birds"}, True),
        ({"dataset": "birds", "fingerprint": "1"}, {"dataset": "/b/birds", "fingerprint": "1"}, True),
        ({"dataset": "birds", "fingerprint": "1"}, {"dataset": "/b/birds", "fingerprint": "2"}, False),
        ({"dataset": "birds (2)", "fingerprint": "1"}, {"dataset": "/b/birds", "fingerprint": "1"}, True),
        ({"dataset": "a/birds", "local": True}, {"dataset": "a/birds", "local": False}, False),
    ],
)
def test_folders_are_the_same_by_fingerprint_or_path(earlier, later, same):
    (first,), (second,) = (with_results([], report("", (5, 1)) | part) for part in (earlier, later))
    assert len(with_results([first], second)) == (1 if same else 2)
    names = [entry["dataset"] for entry in without_paths([first, second])]
    assert len(set(names)) == len(names) == (1 if same else 2)


def test_a_fingerprint_tells_folders_of_one_name_apart():
    first = fingerprint("/a/birds", ["owl", "wren"], [3, 4])
    assert first == fingerprint("./b/birds/", ["owl", "wren"], [3, 4])
    others = [("/a/cats", ["owl", "wren"], [3, 4]), ("/a/birds", ["owl", "tit"], [3, 4]),
              ("/a/birds", ["owl", "wren"], [4, 3])]  # fmt: skip
    assert len({first, *(fingerprint(*each) for each in others)}) == 4


def test_a_folder_that_looks_like_an_id_is_no_hub_data_set(tmp_path, monkeypatch):
    assert data_set(EvaluationReport.from_dict({"dataset": "org/birds:red"})).config == "red"
    assert data_set(EvaluationReport.from_dict({"dataset": "org/birds", "local": True})).hub_id is None
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "birds").mkdir(parents=True)
    assert data_set(EvaluationReport.from_dict({"dataset": "org/birds"})).hub_id is None
    assert data_set(EvaluationReport.from_dict({"dataset": "org/birds", "local": False})).hub_id == "org/birds"


def test_own_rows():
    own = ["learner", "learner (not data-free)", "learner, transductive BatchNorm", "learner (not data-free), x"]
    assert all(map(is_own_row, own))
    assert not any(
        map(is_own_row, ["learner-old", "learners", "my learner", "compared learner", "untrained conv4_32"])
    )


def test_numbers_of_libraries_become_plain(tmp_path):
    value = {"a": np.float32(0.5), "b": (np.int64(3), torch.tensor(2)), 1: np.array([1, 2]), "p": tmp_path, "n": None}
    assert plain(value) == {"a": 0.5, "b": [3, 2], "1": [1, 2], "p": str(tmp_path), "n": None}
    assert [type(part) for part in (plain(value)["a"], *plain(value)["b"])] == [float, int, int]
