"""The folder of a Space on the Hub that serves a learner's app."""

from __future__ import annotations

import json
import logging
import re
import shlex
from contextlib import suppress
from pathlib import Path

from hf_free.errors import ConfigError, HubError, UnfitRepositoryError
from hf_free.hub.failures import check_names
from hf_free.hub.snapshot import fetch_snapshot
from hf_free.hub.space_files import files_of_space
from hf_free.hub.upload import push_folder
from hf_free.learner.format import CLASSIFIER_CONFIG
from hf_free.runtime.files import read_bounded, write_text, write_together
from hf_free.runtime.saved_kind import holds_learner
from hf_free.version import __version__

_APP = '''"""Made with `hf-free app --space`."""

from hf_free.demo.app import serve

serve({learner})
'''

_MADE_BESIDE = frozenset({"README.md", ".gitattributes"})
"""What a Space holds that was only just made on the Hub's site."""

_VERSION = r"[\w.+-]+"

_GRADIO = "6.31.0"
"""Release of Gradio that the app was tested with."""

_README = f"""---
title: {{title}}
emoji: 🖼️
colorFrom: green
colorTo: gray
sdk: gradio
sdk_version: "{_GRADIO}"
python_version: "3.11"
app_file: app.py
models:
- {{learner}}
pinned: false
---

# {{title}}

Show it a few pictures of each class, then ask it about a new one. The learner is [{{learner}}](https://huggingface.co/{{learner}}),
made with hf-free; nothing is trained here, and pictures are deleted when the Space stops.
"""

_FILES = {"app.py": _APP, "requirements.txt": f"hf-free[app]=={__version__}\n", "README.md": _README}
"""Texts of a Space's files, with the learner's and the Space's names left open."""

logger = logging.getLogger(__name__)

_MOST_APP = 2**20
"""Most bytes of an app.py that is looked at."""


def write_space(folder: Path, learner: str, space: str) -> list[Path]:
    """Write app.py, requirements.txt and README.md of a Space.

    Args:
        folder: Made where it is missing; in a Space's own these three files are replaced, those that were edited stay.
        learner: The learner's Hub id: a Space cannot read a folder of this computer.
        space: The Space's id.

    Returns:
        The three files.

    Raises:
        ConfigError: a learner that is a folder, or a folder that holds something else than such a Space.
        HubError: an id that no repository can have.
    """
    if Path(learner).exists():
        raise ConfigError(
            f"{learner} is a folder, which a Space cannot read",
            allowed="a learner on the Hub",
            action="hf-free push it first, then name it ORG/NAME",
        )
    for name in (learner, space):
        check_names(name, None, to_push=True)  # neither may be a folder
    _check_is_own(folder)
    title = space.split("/")[1]
    named = {"app.py": json.dumps(learner)}
    for name, template in _FILES.items():
        if _is_edited_file(folder / name, template):
            logger.warning("%s was edited here, and is kept: remove it to have it made anew", folder / name)
        else:
            write_text(folder / name, template.format(title=title, learner=named.get(name, learner)))
    return [folder / name for name in _FILES]


def _is_edited_file(path: Path, template: str) -> bool:
    """Whether a file is there that is not as this program makes it."""
    try:
        return _is_edited(read_bounded(path, max_bytes=_MOST_APP), template)
    except OSError:  # none; or what is in its place, which writing names
        return False
    except ValueError:  # too large for one of ours
        return True


def _is_edited(content: bytes, template: str) -> bool:
    """Whether a file is not as any version of this program makes it, for whichever learner and Space."""
    try:
        found = content.decode()
    except ValueError:
        return True
    made = re.escape(template)
    for name in ("title", "learner"):
        place = re.escape(f"{{{name}}}")
        made = made.replace(place, rf'(?P<{name}>"?[\w./-]+"?)', 1).replace(place, f"(?P={name})")
    for version in (__version__, _GRADIO):
        made = made.replace(re.escape(version), _VERSION)
    return re.fullmatch(made, found.replace("\r\n", "\n")) is None


def _check_is_own(folder: Path) -> None:
    """Refuse a folder that is not this program's: files in it would be replaced, and all of them uploaded."""
    app = folder / "app.py"
    if folder.is_dir() and any(folder.iterdir()):
        with suppress(OSError, ValueError):
            if _is_own_app(read_bounded(app, max_bytes=_MOST_APP)):
                return
        raise ConfigError(
            f"the output folder {folder} is not empty",
            allowed="a new or empty folder, or that of a Space that hf-free app made",
            action="give another --output",
        )


def _is_own_app(content: bytes) -> bool:
    return content.startswith(_APP.splitlines()[0].encode())


def _keep_theirs(folder: Path, space: str, token: str | None) -> None:
    """Let files that were edited in the Space go before those in the folder that were not.

    Raises:
        HubError: the Space holds something else, or cannot be looked at.
    """
    found = files_of_space(space, tuple(_FILES), token=token)
    if found.names and not _is_own_app(found.read.get("app.py", b"")) and not _MADE_BESIDE.issuperset(found.names):
        raise UnfitRepositoryError(
            f"the Space {space} holds something else than an app of hf-free",
            allowed="a new Space, or one that hf-free app made",
            action="choose another name",
        )
    if _MADE_BESIDE.issuperset(found.names):
        return
    for name, content in found.read.items():
        if _is_edited(content, _FILES[name]) and not _is_edited_file(folder / name, _FILES[name]):
            write_together({folder / name: content})
            logger.warning(
                "%s was edited in the Space %s, and is kept: remove it there to have it made anew", name, space
            )


def push_space(folder: Path, learner: str, space: str, *, token: str | None = None, private: bool = False) -> str:
    """Upload what `write_space` wrote; the Space is made where it is missing. A file that was edited there is kept.

    Returns:
        Its address.

    Raises:
        HubError: there is no learner of that name for the Space to serve, or the Space is of something else.
        PushError: the upload failed; it says how to go on.
    """
    found = fetch_snapshot(learner, required=("config.json",), optional=(CLASSIFIER_CONFIG,), token=token)
    if not holds_learner(found.folder) and CLASSIFIER_CONFIG not in found.sha256:
        raise HubError(
            f"{learner} holds no learner of hf-free",
            allowed="a learner that hf-free push or --push-to-hub has published",
            action="hf-free train or pool makes one of models such as this",
        )
    if CLASSIFIER_CONFIG in found.sha256:
        logger.warning("%s is a classifier: the Space opens its learner, without its classes", learner)
    if found.private and not private:
        logger.warning("%s is private: the Space needs a token that may read it, as its secret HF_TOKEN", learner)
    _keep_theirs(folder, space, token)
    return push_folder(
        folder,
        space,
        token=token,
        private=private,
        commit_message=f"App of {learner} by hf-free",
        kind="space",
        again=f"hf-free app {learner} --space {space} --output {shlex.quote(str(folder))}",
    )
