"""The folder of a Space on the Hub that serves a learner's app."""

from __future__ import annotations

import json
import logging
import shlex
from pathlib import Path

from hf_free.errors import ConfigError
from hf_free.hub.names import check_repo_id
from hf_free.hub.snapshot import fetch_snapshot
from hf_free.hub.upload import push_folder
from hf_free.runtime.files import write_text
from hf_free.version import __version__

_APP = '''"""Made with `hf-free app --space`."""

from hf_free.demo.app import serve

serve({learner})
'''

_README = """---
title: {title}
emoji: 🖼️
colorFrom: green
colorTo: gray
sdk: gradio
sdk_version: "{gradio}"
python_version: "3.11"
app_file: app.py
models:
- {learner}
pinned: false
---

# {title}

Show it a few pictures of each class, then ask it about a new one. The learner is [{learner}](https://huggingface.co/{learner}),
made with hf-free; nothing is trained here, and pictures are deleted when the Space stops.
"""

logger = logging.getLogger(__name__)

_GRADIO = "6.31.0"
"""Release of Gradio that the app was tested with."""


def write_space(folder: Path, learner: str, space: str) -> list[Path]:
    """Write app.py, requirements.txt and README.md of a Space.

    Args:
        folder: Made where it is missing; these three files in it are replaced.
        learner: The learner's Hub id: a Space cannot read a folder of this computer.
        space: The Space's id.

    Returns:
        The three files.

    Raises:
        ConfigError: a learner that is a folder.
        TeacherReferenceError: an id that no repository can have.
    """
    if Path(learner).exists():
        raise ConfigError(
            f"{learner} is a folder, which a Space cannot read",
            allowed="a learner on the Hub",
            action="hf-free push it first, then name it ORG/NAME",
        )
    check_repo_id(learner)
    check_repo_id(space)
    title = space.split("/")[1]
    files = {
        "app.py": _APP.format(learner=json.dumps(learner)),
        "requirements.txt": f"hf-free[app]=={__version__}\n",
        "README.md": _README.format(title=title, learner=learner, gradio=_GRADIO),
    }
    return [write_text(folder / name, text) for name, text in files.items()]


def push_space(folder: Path, learner: str, space: str, *, token: str | None = None, private: bool = False) -> str:
    """Upload what `write_space` wrote; the Space is made where it is missing.

    Returns:
        Its address.

    Raises:
        HubError: there is no learner of that name for the Space to serve.
        PushError: the upload failed; it says how to go on.
    """
    if fetch_snapshot(learner, required=("config.json",), token=token).private and not private:
        logger.warning("%s is private: the Space needs a token that may read it, as its secret HF_TOKEN", learner)
    return push_folder(
        folder,
        space,
        token=token,
        private=private,
        commit_message=f"App of {learner} by hf-free",
        kind="space",
        again=f"hf-free app {learner} --space {space} --output {shlex.quote(str(folder))}",
    )
