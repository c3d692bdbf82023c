"""The app's tools for programs: each caller's classes are its own; every tool and parameter is described."""

from __future__ import annotations

import inspect

import pytest
from learners import as_pil, make, pictures

from hf_free.demo.app_tools import AppTools
from hf_free.demo.class_sessions import ClassSessions
from hf_free.errors import LearnerError


@pytest.fixture(scope="module")
def tools():
    return AppTools(ClassSessions(make()))


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for place, picture in enumerate(as_pil(pictures(3))):
        picture.save(folder / f"{place}.png")
    return [str(path) for path in sorted(folder.iterdir())]


def test_one_caller_s_classes_are_not_another_s(tools, paths):
    one, other = tools.new_session(), tools.new_session()
    assert tools.add_picture(one, "cat", paths[0]) == {"cat": 1}
    assert tools.add_picture(other, "ant", paths[1]) == {"ant": 1}
    assert tools.add_picture(one, "dog", paths[1]) == {"cat": 1, "dog": 1}
    answer = tools.classify(one, paths[2])
    assert answer["label"] in answer["probabilities"]
    assert list(answer["probabilities"]) == ["cat", "dog"]
    assert {near["label"] for near in answer["nearest"]} == {"cat", "dog"}
    assert tools.rename_class(one, "cat", "lion") == {"dog": 1, "lion": 1}
    assert tools.remove_class(one, "lion") == {"dog": 1}
    assert tools.list_classes(other) == {"ant": 1}


def test_no_picture_and_no_key_are_refused(tools):
    with pytest.raises(LearnerError, match="no picture"):
        tools.add_picture(tools.new_session(), "cat", "")
    with pytest.raises(LearnerError, match="no session"):
        tools.list_classes("")


def test_every_tool_and_parameter_is_described(tools):
    for tool in tools.all():
        text = inspect.getdoc(tool)
        for name in inspect.signature(tool).parameters:
            assert f"    {name}: " in text, f"{tool.__name__} does not say what {name} is"
