"""What programs can do with the app, over its API and as tools of an MCP server: one picture per call.

Gradio takes a tool's name and its parameters from the function, and their descriptions from a docstring in this form.
It refuses every call with a list of files, and it has one State for all MCP clients; hence single pictures, and a
session's key in each call.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hf_free.demo.class_sessions import ClassSessions
from hf_free.errors import LearnerError


class AppTools:
    """The tools, on the sessions of one learner.

    Args:
        sessions: Whose classes they change and ask.
    """

    def __init__(self, sessions: ClassSessions) -> None:
        self._sessions = sessions

    def all(self) -> list[Callable[..., object]]:
        """Every tool, in the order in which they are used."""
        return [
            self.new_session, self.add_picture, self.list_classes, self.rename_class, self.remove_class,
            self.classify, self.export,
        ]  # fmt: skip

    def new_session(self) -> str:
        """Begin a session with classes of its own. Every other tool takes the key that this one returns."""
        return self._sessions.new()

    def add_picture(self, session: str, name: str, picture: str) -> dict[str, int]:
        """Add an example picture to a class; a class that does not exist is created. Returns classes and their sizes.

        Args:
            session: Key of the session.
            name: Name of the class.
            picture: A picture's address on the web, or data:image/png;base64,... with the picture itself.
        """
        return self._sessions.add(session, name, [_given(picture)])

    def list_classes(self, session: str) -> dict[str, int]:
        """The session's classes, each with its number of pictures.

        Args:
            session: Key of the session.
        """
        return self._sessions.classes(session)

    def rename_class(self, session: str, name: str, new_name: str) -> dict[str, int]:
        """Give a class another name; with the name of another class the two become one.

        Args:
            session: Key of the session.
            name: Name of the class.
            new_name: Its new name.
        """
        return self._sessions.rename(session, name, new_name)

    def remove_class(self, session: str, name: str) -> dict[str, int]:
        """Forget a class and its pictures.

        Args:
            session: Key of the session.
            name: Name of the class.
        """
        return self._sessions.remove(session, name)

    def classify(self, session: str, picture: str, reject: float = 0) -> dict[str, object]:
        """Classify a picture: its label (null for none of the classes), probabilities, and nearest examples.

        Args:
            session: Key of the session, which has two classes or more.
            picture: A picture's address on the web, or data:image/png;base64,... with the picture itself.
            reject: Share of the example pictures that may be called none of the classes; 0 always names a class.
        """
        answer = self._sessions.ask(session, _given(picture), reject=reject or None)
        near = [{"label": one.label, "similarity": one.similarity} for one in answer.nearest]
        return {"label": answer.label, "probabilities": answer.probabilities, "nearest": near}

    def export(self, session: str) -> str:
        """The classifier as a ZIP file, for FewShotClassifier.from_pretrained once unpacked.

        Args:
            session: Key of the session, which has two classes or more.
        """
        return str(self._sessions.export(session))


def _given(picture: str | Path | None) -> str:
    if not picture:
        raise LearnerError("no picture", allowed="a picture's file")
    return str(picture)
