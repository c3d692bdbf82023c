"""Checkpoints in a private repository of a Hub: each replaces the one before in one commit, a run goes on from there.

They hold recovered pictures, so the repository has to be private. What is read back has to be the user's own: the
optimizers' and random numbers' states are files of `torch.save`, which Accelerate reads with `weights_only=True`.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from hf_free.config.sections import HubConfig
from hf_free.errors import HubError, MissingFilesError, RunError
from hf_free.hub.names import ENDPOINT
from hf_free.hub.snapshot import fetch_snapshot
from hf_free.hub.upload import check_can_push, push_folder
from hf_free.runtime.files import new_folder
from hf_free.runtime.text import listed
from hf_free.training.folder import COMPANIONS, RunFolder
from hf_free.training.manifest import MANIFEST, Manifest, refuse_unknown_format

logger = logging.getLogger(__name__)

_TAKEN = ("license", "base_model_relation", "teacher_memory")
"""Settings of the section `hub` that are taken from a repository: they write, publish and name nothing."""


class RemoteCheckpoints:
    """Where a run's checkpoints go besides its folder.

    Args:
        repo_id: `org/name`, created private if it does not exist.
        token: Hub token with the write role; None takes the user's own.
    """

    def __init__(self, repo_id: str, token: str | None) -> None:
        self.repo_id, self._token = repo_id, token

    def check(self) -> None:
        """Ask whether checkpoints may be pushed, before anything is trained.

        Raises:
            HubError: no token, no right to write there, or a public repository.
        """
        check_can_push(self.repo_id, self._token, private=True, always_private="checkpoints")

    def push(self, checkpoint: Path, step: int) -> None:
        """Upload a whole checkpoint in one commit; a failure is said and does not end the run."""
        message = f"Checkpoint of step {step}"
        try:
            push_folder(checkpoint, self.repo_id, token=self._token, private=True, commit_message=message)
        except HubError as error:
            reason = str(error).splitlines()[0]
            logger.warning("the checkpoint of step %d was not pushed to %s: %s", step, self.repo_id, reason)


def restore_run(output: Path, repo_id: str, *, token: str | None = None, cache_dir: str | None = None) -> None:
    """Make a run's folder of the checkpoint in a repository; it can be resumed then.

    Its configuration may be a stranger's: what says where files are written and what is published is left out, and so
    is code to import. Who resumes the run gives these again.

    Args:
        output: The folder; not there yet, or empty.
        repo_id: `org/name`.
        token: Hub token; None takes the user's own.
        cache_dir: Folder of the download cache.

    Raises:
        HubError: it cannot be fetched.
        RunError: the repository holds no whole checkpoint, its run asks a black box, or something else lies in the
            folder.
        ConfigError: its configuration cannot be read.
        StorageError: the folder cannot be written.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise RunError(
            f"{output} is not empty and holds no run to resume",
            allowed="no such folder, or an empty one, to fetch the run into",
            action="give another --output",
        )
    fetch = partial(fetch_snapshot, repo_id, token=token, cache_dir=cache_dir)
    try:
        first = fetch(required=(MANIFEST,))
        manifest = Manifest.read(first.folder)
        refuse_unknown_format(manifest, Path(repo_id))
        fetched = fetch(revision=first.commit, required=(MANIFEST, *manifest.files))
        problem = manifest.problem(fetched.folder)
    except MissingFilesError as error:
        problem = error.given.removeprefix(f"{repo_id}@")
    except ValueError as error:
        problem = f"its manifest cannot be read: {error}"
    if problem is not None:
        raise RunError(
            f"{repo_id} holds no whole checkpoint: {problem}",
            allowed="a repository that hub.push_checkpoints pushed to",
            action="name another, or an earlier run's folder",
        )

    def fill(folder: Path) -> None:
        checkpoint = folder / "checkpoints" / f"00001-step-{manifest.step}"
        for name in (MANIFEST, *manifest.files):
            target = checkpoint / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(fetched.folder / name, target)
        for name in COMPANIONS:  # and nothing else that lies beside them
            if (checkpoint / "run" / name).is_file():
                shutil.copyfile(checkpoint / "run" / name, folder / name)
        _keep_to_the_run(RunFolder(folder), repo_id)

    if output.is_dir() and not any(output.iterdir()):
        output.rmdir()
    new_folder(output, fill, needed=manifest.bytes)
    logger.info("%s was made of the checkpoint of step %d in %s", output, manifest.step, repo_id)


def _keep_to_the_run(run: RunFolder, repo_id: str) -> None:
    """Leave out of a configuration from a repository what concerns this computer and the user's account.

    Raises:
        ConfigError: it cannot be read.
        RunError: its teachers are black boxes: a token of the user's would go to addresses that a stranger has chosen.
    """
    config = run.read_config()
    asked = [model for model in config.models if model.startswith(ENDPOINT)]
    if asked:
        raise RunError(
            f"the run in {repo_id} asks {listed(asked)}, which a repository cannot decide",
            allowed="runs whose teachers have weights",
            action="train a new run with these teachers, or resume it from its own folder",
        )
    given = asdict(config.hub)
    hub = HubConfig(push_checkpoints=repo_id, **{key: given[key] for key in _TAKEN})
    left_out = [
        f"hub.{key}" for key, value in asdict(replace(hub, push_checkpoints=None)).items() if given[key] != value
    ]
    left_out = ["imports"] * bool(config.imports) + [key for key in left_out if key != "hub.push_checkpoints"]
    if left_out:
        logger.warning("not taken from %s, give it again where it is wanted: %s", repo_id, ", ".join(left_out))
    run.write_text(run.config, replace(config, imports=[], hub=hub).to_yaml())
