"""What a checkpoint says of itself is read strictly: nothing outside its folder, nothing half."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from hf_free.errors import RunError
from hf_free.training.manifest import FORMAT, MANIFEST, Manifest, Topology, files_of, refuse_unknown_format


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "rank").mkdir()
    (tmp_path / "rank" / "random_0").write_bytes(b"abc")
    (tmp_path / "rank" / "random_1").write_bytes(b"abcd")
    about = Manifest(7, {"seed": 3}, Topology.here(torch.device("cpu"), ranks=2), files_of(tmp_path))
    about.write(tmp_path)
    return tmp_path


def test_it_lists_the_files_of_all_ranks_and_is_read_back(folder):
    read = Manifest.read(folder)
    assert {name: entry.bytes for name, entry in read.files.items()} == {"rank/random_0": 3, "rank/random_1": 4}
    assert (read.step, read.config, read.topology.ranks, read.bytes) == (7, {"seed": 3}, 2, 7)
    assert read.topology.torch_version == torch.__version__
    assert read.problem(folder) is None


def test_a_file_that_is_missing_cut_or_changed_is_named(folder):
    read = Manifest.read(folder)
    (folder / "rank" / "random_1").write_bytes(b"abXd")
    assert read.problem(folder, contents=False) is None
    assert read.problem(folder) == "rank/random_1 is not the file that was written"
    (folder / "rank" / "random_1").write_bytes(b"ab")
    assert read.problem(folder, contents=False) == "rank/random_1 has 2 bytes and should have 4"
    (folder / "rank" / "random_0").unlink()
    assert read.problem(folder, contents=False) == "rank/random_0 is missing"


def _tamper(folder, **changes):
    values = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**values, **changes}))


@pytest.mark.parametrize(
    "changes",
    [
        {"files": {"../outside": {"bytes": 1, "sha256": "0"}}},
        {"files": {"/etc/passwd": {"bytes": 1, "sha256": "0"}}},
        {"files": {"a": {"bytes": "1", "sha256": "0"}}},
        {"files": {"a": None}},
        {"files": []},
        {"step": None},
        {"step": "7"},
        {"format": None},
        {"topology": {"ranks": "two"}},
    ],
)
def test_a_tampered_manifest_is_damaged(folder, changes):
    _tamper(folder, **changes)
    with pytest.raises(ValueError, match=r"^it"):
        Manifest.read(folder)


def test_a_later_format_is_refused_with_its_version(folder):
    later = replace(Manifest.read(folder), format=FORMAT + 1, version="9.1")
    with pytest.raises(RunError, match=r"written by hf-free 9\.1, in format 2"):
        refuse_unknown_format(later, folder)
