"""`new_version` in the card of the learner that another one continued: the Hub's page of it then links the new one."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from hf_free.config.init_from import InitFrom
from hf_free.errors import HubError
from hf_free.hub.snapshot import fetch_snapshot
from hf_free.hub.upload import check_can_push, is_private, push_folder
from hf_free.provenance.reading import Json
from hf_free.publishing.edits import STUMBLES, read_card
from hf_free.publishing.results import is_path, valid_id
from hf_free.runtime.text import one_line

_CARD = "README.md"

"""Most bytes of a card."""

_FRONT_MATTER = re.compile(
    r"(?P<opening>\ufeff?\s*---[ \t]*(?P<end>\r?\n))(?P<block>.*?)(?P<closing>^---[ \t]*(\r?\n|\Z))",
    re.DOTALL | re.MULTILINE,
)

_ENTRY = re.compile(r"^new_version[ \t]*:[^\r\n]*", re.MULTILINE)

_BY_HAND = "write `new_version` into its card by hand, or leave --mark-predecessor out"


@dataclass(frozen=True)
class NewVersion:
    """A line for the card of one learner on the Hub, which names another one that continued it."""

    predecessor: str
    """The repository whose card gets the line."""
    repo_id: str
    """The repository that the line names."""
    before: str | None
    """What the line says so far; None where there is none."""
    card: str
    """The card with the line."""
    made_from: str | None = None
    """The commit of the card that it was made from."""

    @property
    def said(self) -> str:
        """What changes, in a line."""
        change = "" if self.before in (None, self.repo_id) else f" (so far {self.before})"
        return f"new_version: {self.repo_id} in the card of {self.predecessor}{change}"

    def commit(self, *, token: str | None = None, create_pr: bool = False) -> str:
        """Upload the card in one commit, or in a pull request; the same card makes none.

        Returns:
            The address of the repository, or of the pull request.

        Raises:
            PushError: the upload failed.
        """
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
            (Path(scratch) / _CARD).write_bytes(self.card.encode())  # with the line ends that it has
            return push_folder(
                Path(scratch),
                self.predecessor,
                token=token,
                commit_message=f"New version: {self.repo_id}",
                create_pr=create_pr,
                parent=self.made_from,
            )


def predecessor_on_hub(start: object) -> str:
    """The repository of the learner that a run continued.

    Args:
        start: The run's `learner.init_from`.

    Raises:
        HubError: it continued none, or none on the Hub.
    """
    source = InitFrom.parse(start) if isinstance(start, str) and start else None
    if source is None or not source.is_learner:
        raise HubError(
            "--mark-predecessor, and this learner continues no other one",
            allowed="a learner of hf-free train --from ORG/NAME",
            action="leave --mark-predecessor out",
        )
    repo_id = None if is_path(source.text) else valid_id(source.text.partition("@")[0])
    if repo_id is None:
        raise HubError(
            f"--mark-predecessor, and this learner continues {source.text}, which names no repository",
            allowed="a learner of hf-free train --from ORG/NAME, pushed from the folder of its run",
            action=_BY_HAND,
        )
    return repo_id


def plan_new_version(
    predecessor: str,
    repo_id: str,
    *,
    token: str | None = None,
    private: bool = False,
    create_pr: bool = False,
    revision: str | None = None,
) -> NewVersion:
    """What would change in a predecessor's card, once it is sure that it may be changed. Nothing is.

    Args:
        predecessor: `org/name` of the learner that was continued.
        repo_id: Where the new learner goes.
        token: Hub token with the write role.
        private: Whether the new repository is created private.
        create_pr: Whether the card is changed by a pull request, which needs no right to write there.
        revision: Branch that the new learner goes to; None for main.

    Raises:
        HubError: no such repository, no right to write to it, a card that cannot be read, or a new learner that
            readers of the card could not find.
    """
    if predecessor.casefold() == repo_id.casefold():
        raise HubError(
            f"--mark-predecessor, and {repo_id} is the predecessor itself",
            allowed="a new version in a repository of its own",
            action="push to another repository, or leave --mark-predecessor out",
        )
    if revision not in (None, "main"):
        raise HubError(
            f"--mark-predecessor with --revision {revision}",
            allowed="a new version on the main branch: a card names a repository",
            action="leave one of the two out",
        )
    check_can_push(predecessor, token, create_pr=create_pr)
    found = fetch_snapshot(predecessor, required=(), optional=(_CARD,), token=token)
    if found.from_cache:
        raise HubError(f"the Hub does not answer for {predecessor}, whose card is to be changed", action="try again")
    if not found.private and (private or is_private(repo_id, token)):
        raise HubError(
            f"--mark-predecessor, and {predecessor} is public but {repo_id} is private",
            allowed="a new version that every reader of the card may see",
            action="make it public, or leave --mark-predecessor out",
        )
    try:
        text = read_card(found.folder / _CARD, repo_id=predecessor) if _CARD in found.sha256 else ""
        changed = with_new_version(text, repo_id)
    except (OSError, ValueError, yaml.YAMLError) as error:
        problem = " ".join(str(error).split())
        raise HubError(f"the card of {predecessor} cannot be changed safely: {problem}", action=_BY_HAND) from None
    before = _metadata(text).get("new_version")
    return NewVersion(predecessor, repo_id, None if before is None else str(before), changed, found.commit)


def with_new_version(card: str, repo_id: str) -> str:
    """A card whose metadata say `new_version: ORG/NAME`; all else stays as it is, to the byte.

    Raises:
        ValueError: metadata that hold more than a line of text under that key, or are no mapping.
        yaml.YAMLError: metadata that are no YAML.
    """
    line = f"new_version: {repo_id}"
    match = _FRONT_MATTER.match(card)
    if match is None:
        return f"---\n{line}\n---\n{card}"
    before, block = _metadata(card), match["block"]
    entry = _ENTRY.search(block)
    changed = block + line + match["end"] if entry is None else block[: entry.start()] + line + block[entry.end() :]
    whole = card[: match.end("opening")] + changed + card[match.start("closing") :]
    if _metadata(whole) != {**before, "new_version": repo_id}:
        raise ValueError("its metadata say `new_version` in more than one line, or in a way that is not understood")
    return whole


def _metadata(card: str) -> Json:
    """The metadata of a card.

    Raises:
        ValueError: no mapping.
        yaml.YAMLError: no YAML.
    """
    match = _FRONT_MATTER.match(card)
    try:
        values = {} if match is None else yaml.safe_load(match["block"])
    except STUMBLES as error:
        raise ValueError(f"its metadata cannot be read: {one_line(error)[:200]}") from None
    if not isinstance(values or {}, dict):
        raise ValueError("its metadata are no mapping")
    return values or {}
