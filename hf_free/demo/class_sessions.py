"""What the app keeps for each of its users: their classes and pictures; one learner and one lock for all of them.

A session is named by a key that its user holds. Servers have no other reliable way to tell callers apart: to an MCP
server they are all one.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from hf_free.data.decoding import decode
from hf_free.errors import LearnerError
from hf_free.learner.classifier import FewShotClassifier
from hf_free.learner.meta_learner import MetaLearner
from hf_free.runtime.text import one_line

MOST_SESSIONS = 100
"""Most sessions kept; the least recently used one makes room."""

MOST_PICTURES = 200
"""Support pictures of a session."""

NEAREST = 4
"""Support pictures that an answer names."""


@dataclass(frozen=True)
class Near:
    """A support picture that is like the query."""

    path: Path
    label: str
    similarity: float
    """Cosine of the two pictures' features."""


@dataclass(frozen=True)
class Answer:
    """What is said of a picture."""

    label: str | None
    """The most likely class; None where the picture is of none of them."""
    probabilities: dict[str, float]
    """Probability of each class, as `FewShotClassifier.predict_proba` gives it."""
    nearest: list[Near]


@dataclass
class _Session:
    folder: Path
    classes: dict[str, list[Path]] = field(default_factory=dict)
    classifier: FewShotClassifier | None = None
    """Adapted to `classes`; None until it is asked, and again after each change."""
    features: Tensor | None = None
    """(S, D) of the support pictures, in the order of `classes`."""


class ClassSessions:
    """Classes of several users of one learner, told apart by keys.

    All methods may be called from several threads at once.

    Args:
        learner: Shared by all users, one at a time.
        most_sessions: Sessions kept.

    Example:
        >>> sessions = ClassSessions(learner)  # doctest: +SKIP
        >>> key = sessions.new()  # doctest: +SKIP
        >>> sessions.add(key, "cat", ["a.png", "b.png"])  # doctest: +SKIP
        >>> sessions.ask(key, "new.png").probabilities  # doctest: +SKIP
    """

    def __init__(self, learner: MetaLearner, *, most_sessions: int = MOST_SESSIONS) -> None:
        self._learner, self._most = learner.eval(), most_sessions
        self._lock = threading.RLock()
        self._scratch = tempfile.TemporaryDirectory(prefix="hf-free-app-", ignore_cleanup_errors=True)
        self._sessions: OrderedDict[str, _Session] = OrderedDict()

    def close(self) -> None:
        """Forget everything, and delete the copies of pictures."""
        with self._lock:
            self._sessions.clear()
            self._scratch.cleanup()

    def new(self) -> str:
        """Begin a session; its key."""
        key = secrets.token_urlsafe(12)
        with self._session(key):
            return key

    def classes(self, key: str) -> dict[str, int]:
        """Names of a session's classes, each with its number of pictures."""
        with self._session(key) as session:
            return {name: len(paths) for name, paths in session.classes.items()}

    def add(self, key: str, name: str, paths: Sequence[str | Path]) -> dict[str, int]:
        """Add pictures to a class; a class that does not exist is created.

        Args:
            key: The session.
            name: The class.
            paths: Picture files; they are copied as they are.

        Returns:
            What `classes` says then.

        Raises:
            LearnerError: no name, no pictures, a file that is no picture, or too many.
        """
        name = one_line(name)
        if not name or not paths:
            raise LearnerError("a class without " + ("pictures" if name else "a name"), allowed="a name and pictures")
        with self._session(key) as session:
            held = sum(map(len, session.classes.values()))
            if held + len(paths) > MOST_PICTURES:
                raise LearnerError(f"{held + len(paths)} pictures", allowed=f"{MOST_PICTURES} pictures in all classes")
            for path in paths:
                decode(str(path), size=self._learner.config.image_size)
            for path in map(Path, paths):
                kept = session.folder / f"{secrets.token_hex(8)}{path.suffix.lower()}"
                shutil.copyfile(path, kept)
                session.classes.setdefault(name, []).append(kept)
            _forget(session)
            return self.classes(key)

    def rename(self, key: str, name: str, new_name: str) -> dict[str, int]:
        """Call a class something else; with the name of another class the two become one.

        Raises:
            LearnerError: no such class, or no new name.
        """
        new_name = one_line(new_name)
        if not new_name:
            raise LearnerError("a class without a name", allowed="a name")
        with self._session(key) as session:
            paths = session.classes.pop(_known(session, name))
            session.classes.setdefault(new_name, []).extend(paths)
            _forget(session)
            return self.classes(key)

    def remove(self, key: str, name: str) -> dict[str, int]:
        """Forget a class and its pictures.

        Raises:
            LearnerError: no such class.
        """
        with self._session(key) as session:
            for path in session.classes.pop(_known(session, name)):
                path.unlink(missing_ok=True)
            _forget(session)
            return self.classes(key)

    def ask(self, key: str, path: str | Path, *, reject: float | None = None) -> Answer:
        """Classify a picture.

        Args:
            key: The session.
            path: The picture's file.
            reject: Share of the support that may be called none of the classes when left out, above 0 and below 1;
                None always names a class.

        Raises:
            LearnerError: fewer than two classes, a file that is no picture, or a share that no support can give.
        """
        with self._session(key) as session:
            classifier = self._adapted(session)
            classifier.rejection = None
            if reject is not None:
                classifier.calibrate_rejection(reject)
            query = classifier.embed([str(path)])
            answers = classifier.answers(query)
            (label,) = classifier.labels_of(answers)
            values = answers.probabilities[0].tolist()
            likeness = torch.nn.functional.cosine_similarity(session.features, query.cpu())  # type: ignore[arg-type]
            owners = [(kept, name) for name, paths in session.classes.items() for kept in paths]
            best = likeness.topk(min(NEAREST, len(owners)))
            nearest = [
                Near(owners[place][0], owners[place][1], similarity)
                for place, similarity in zip(best.indices.tolist(), best.values.tolist(), strict=True)
            ]
            named = dict(zip(map(str, classifier.classes), values, strict=True))
            return Answer(None if label is None else str(label), named, nearest)

    def export(self, key: str, name: str = "classifier") -> Path:
        """The session's classifier as a ZIP file of the folder that `FewShotClassifier.from_pretrained` reads.

        Raises:
            LearnerError: fewer than two classes.
        """
        with self._session(key) as session:
            classifier = self._adapted(session)
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
                classifier.save_pretrained(Path(scratch) / name)
                return Path(shutil.make_archive(str(session.folder / name), "zip", scratch, name))

    def _adapted(self, session: _Session) -> FewShotClassifier:
        if session.classifier is None:
            paths = [str(path) for kept in session.classes.values() for path in kept]
            labels = [name for name, kept in session.classes.items() for _ in kept]
            if len(session.classes) < 2:
                raise LearnerError(f"{len(session.classes)} classes", allowed="two or more", action="add a class")
            session.classifier = self._learner.adapt(paths, labels)
            session.features = session.classifier.embed(paths).cpu()
        return session.classifier

    @contextmanager
    def _session(self, key: str) -> Iterator[_Session]:
        """A key's session, made where there is none, with the learner to itself; gradients are off inside."""
        if not key or len(key) > 100:
            raise LearnerError("no session", allowed="a key of 1 to 100 letters", action="reload the page")
        with self._lock, torch.no_grad():
            if key not in self._sessions:
                if len(self._sessions) >= self._most:
                    _, oldest = self._sessions.popitem(last=False)
                    shutil.rmtree(oldest.folder, ignore_errors=True)
                self._sessions[key] = _Session(Path(tempfile.mkdtemp(dir=self._scratch.name)))
            self._sessions.move_to_end(key)
            yield self._sessions[key]


def _forget(session: _Session) -> None:
    session.classifier = session.features = None


def _known(session: _Session, name: str) -> str:
    if name not in session.classes:
        raise LearnerError(f"there is no class {name!r}", allowed=", ".join(session.classes) or "none yet")
    return name
