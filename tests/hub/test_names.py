"""What a repository, a revision, a commit may be called."""

from __future__ import annotations

import pytest
from hub_calls import FILES

from hf_free.cli.main import main
from hf_free.hub.names import id_in_address, id_of_cache_folder


def test_an_impossible_commit_is_refused(hub, ask, tmp_path):
    hub.add_repo("fault/evil", FILES)
    repository = hub.repository("fault/evil")
    commit = repository.resolve("main")
    repository.commits["../../../evil"] = type(commit)(**{**commit.__dict__, "id": "../../../evil"})
    repository.refs["refs/heads/main"] = "../../../evil"
    answer = ask("fetch_snapshot, 'fault/evil'")
    assert "impossible commit '../../../evil'" in answer["error"]
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("https://huggingface.co/org/name", "org/name"),
        ("http://127.0.0.1:8000/datasets/org/name/", "org/name"),
        ("hf.co/org/name/tree/v1.0/folder", "org/name@v1.0"),
        ("hf://org/name", "org/name"),
        ("org/name", None),
        ("./org/name", None),
        ("https://host/one/two/three", None),
    ],
)
def test_the_id_in_the_address_of_a_page(text, named):
    assert id_in_address(text) == named


def test_a_black_box_in_the_place_of_a_model_is_said(capsys):
    for verb in (["serve"], ["evaluate", "--dataset", "x"], ["export", "--output", "x.onnx"]):
        assert main([verb[0], "endpoint:http://127.0.0.1:9/x", *verb[1:]]) == 1
        err = capsys.readouterr().err
        assert "'endpoint:http://127.0.0.1:9/x' is a black box, which only answers" in err, verb
        assert "check that it exists" not in err


def test_a_repositorys_folder_in_the_cache_is_known(tmp_path):
    for name in ("models--org--few--shot", "datasets--org--name", "other"):
        (tmp_path / name / "snapshots").mkdir(parents=True)
    (tmp_path / "models--org--empty").mkdir()
    found = {path.name: id_of_cache_folder(path) for path in tmp_path.iterdir()}
    assert {name: named for name, named in found.items() if named} == {"models--org--few--shot": "org/few--shot"}
