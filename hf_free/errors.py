"""Errors a user can meet. Each says what was given, what is allowed and what to do next."""

from __future__ import annotations

from pathlib import Path


class HfFreeError(Exception):
    """Base of all errors that hf-free raises on purpose; the command line prints them without a traceback.

    Args:
        given: What was found or given, with the value.
        allowed: The rule or the allowed values.
        action: What to do next, preferably a command or a flag.
    """

    def __init__(self, given: str, *, allowed: str = "", action: str = "") -> None:
        self.given, self.allowed, self.action = given, allowed, action
        super().__init__(given)

    def __str__(self) -> str:
        lines = [self.given]
        if self.allowed:
            lines.append(f"  allowed: {self.allowed}")
        if self.action:
            lines.append(f"  to do:   {self.action}")
        return "\n".join(lines)


class ConfigError(HfFreeError):
    """A configuration key or value that cannot be used."""


class TeacherReferenceError(HfFreeError):
    """A text that names no teacher."""


class HubError(HfFreeError):
    """Something that the Hub does not have or does not give, or a Hub that cannot be reached."""


class VanishedTeacherError(HubError):
    """A teacher that was loaded before and cannot be loaded again: its repository, folder or files have gone. A run
    leaves it out and goes on with the others."""


class MissingFilesError(HubError):
    """A repository or folder that was found, but lacks a file that it should hold."""


class UnavailableRepositoryError(HubError):
    """A repository that the Hub does not have, or does not show to this token."""


class UnfitRepositoryError(HubError):
    """A repository that what is to be pushed may not go into: the same command would be refused again."""


class PushError(HubError):
    """An upload that failed. Nothing of what was to be uploaded is lost.

    Args:
        cause: What went wrong.
        folder: What was to be uploaded, as it was before; None where it was made for the upload only.
        again: The command that tries again; empty where there is none. Not told where it would be refused again.
    """

    def __init__(self, cause: HubError, *, folder: Path | None = None, again: str = "") -> None:
        self.cause, self.folder, self.again = cause, folder, again
        ways = [f"{folder} is unchanged"] if folder is not None else []
        ways += [f"try again with: {again}"] if again and not isinstance(cause, UnfitRepositoryError) else []
        lines = [line for line in (cause.action, "; ".join(ways)) if line]
        super().__init__(cause.given, allowed=cause.allowed, action="\n           ".join(lines))


class TeacherError(HfFreeError):
    """A checkpoint that cannot serve as a teacher."""


class UnfitTeacherError(TeacherError):
    """An intact checkpoint whose network is of no use as a teacher: a run leaves it out and goes on with the
    others."""


class QueryBudgetError(TeacherError):
    """A black box that may not be asked any more: the queries that are left are not enough."""


class StorageError(HfFreeError):
    """A file that cannot be written: a full disk, a quota, a file system that is read-only."""


class DatasetError(HfFreeError):
    """A data set that cannot be read or cannot fill an episode."""


class RunError(HfFreeError):
    """A training run that cannot start or go on."""


class FailedElsewhere(RunError):
    """A process of a run that ends because another one has failed, and has said why."""


class LearnerError(HfFreeError):
    """A learner's repository that cannot be read, or pictures and labels it cannot adapt to."""


class BrokenLearnerError(LearnerError):
    """A learner whose features are no numbers, though its weights may be."""
