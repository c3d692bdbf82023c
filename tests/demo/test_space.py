"""A Space's folder: what the Hub reads of it, and that its program starts the app."""

from __future__ import annotations

import ast

import pytest
import yaml

from hf_free.demo.space import write_space
from hf_free.errors import ConfigError, HubError
from hf_free.version import __version__


def test_a_space_names_its_learner_and_what_it_needs(tmp_path):
    app, requirements, card = write_space(tmp_path / "space", "me/few-shot", "lab/try-it")
    assert [call.args[0].value for call in ast.walk(ast.parse(app.read_text())) if isinstance(call, ast.Call)] == [
        "me/few-shot"
    ]
    assert f"hf-free[app]=={__version__}" in requirements.read_text().splitlines()
    metadata = yaml.safe_load(card.read_text(encoding="utf-8").split("---")[1])
    assert metadata["sdk"] == "gradio"
    assert metadata["python_version"] == "3.11", "a text: 3.10 as a number is 3.1"
    assert metadata["app_file"] == app.name
    assert metadata["models"] == ["me/few-shot"]


def test_a_folder_and_impossible_names_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="a folder, which a Space cannot read"):
        write_space(tmp_path / "space", str(tmp_path), "lab/try-it")
    for learner, space in (("me/few-shot", "no slash"), ("me/few-shot", "me/y3/z"), ("me/a/b", "lab/try-it")):
        with pytest.raises(HubError) as refused:
            write_space(tmp_path / "space", learner, space)
        assert "folder" not in str(refused.value)
        assert "ORG/NAME" in refused.value.allowed
    assert not (tmp_path / "space").exists()


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty"):
        write_space(tmp_path, "me/few-shot", "lab/try-it")
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    (tmp_path / "README.md").rename(tmp_path / "app.py")
    with pytest.raises(ConfigError, match="is not empty"):
        write_space(tmp_path, "me/few-shot", "lab/try-it")
    for learner in ("me/few-shot", "me/other"):  # what was made here may be made again
        write_space(tmp_path / "space", learner, "lab/try-it")
    assert "me/other" in (tmp_path / "space" / "app.py").read_text()


def test_what_was_edited_in_a_spaces_folder_is_kept_and_said(tmp_path, caplog):
    edits = {
        "app.py": lambda text: text + "# mine\n",
        "requirements.txt": lambda text: text + "einops\n",
        "README.md": lambda text: text.replace("title: try-it", "title: digits"),
    }
    for name, edit in edits.items():
        folder = tmp_path / name
        paths = write_space(folder, "me/few-shot", "lab/try-it")
        mine = edit((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(mine, encoding="utf-8")
        caplog.clear()
        assert write_space(folder, "me/other", "lab/try-it") == paths
        assert (folder / name).read_text(encoding="utf-8") == mine
        assert [record.getMessage().partition(" was edited")[0] for record in caplog.records] == [str(folder / name)]
        for path in paths[::2]:
            assert path.name == name or "me/other" in path.read_text(encoding="utf-8")
