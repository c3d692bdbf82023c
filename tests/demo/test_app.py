"""The app without a browser: what it refuses without Gradio, and with it what its handlers are."""

from __future__ import annotations

import importlib.util
import os
from urllib.request import urlopen

import pytest
from learners import make

from hf_free.demo import app
from hf_free.demo.class_sessions import ClassSessions
from hf_free.errors import ConfigError


def test_without_gradio_the_way_to_install_it_is_said(monkeypatch):
    monkeypatch.setattr(app, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"hf-free\[app\]"):
        app.check_installed()
    with pytest.raises(ConfigError, match="Gradio is not installed"):
        app.build_app(ClassSessions(make()))


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="pip install -e '.[app]'")
def test_no_state_is_kept_by_gradio_and_both_switches_are_off(monkeypatch):
    for name in ("GRADIO_ANALYTICS_ENABLED", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    blocks = app.build_app(ClassSessions(make()))
    kinds = {type(block).__name__ for block in blocks.blocks.values()}
    assert "State" not in kinds
    assert not blocks.analytics_enabled
    assert (os.environ["GRADIO_ANALYTICS_ENABLED"], os.environ["HF_HUB_OFFLINE"]) == ("False", "1")
    names = {handler.api_name for handler in blocks.fns.values()}
    assert {"new_session", "add_pictures", "rename_class", "remove_class", "classify", "export"} <= names


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="pip install -e '.[app]'")
def test_the_address_is_told_once_the_app_answers_there(monkeypatch, tmp_path):
    import gradio

    make().save_pretrained(tmp_path / "learner")
    monkeypatch.setattr(gradio.Blocks, "block_thread", lambda blocks: blocks.close(verbose=False))
    answered = []
    app.serve(str(tmp_path / "learner"), started=lambda address: answered.append(urlopen(address, timeout=60).status))
    assert answered == [200]
