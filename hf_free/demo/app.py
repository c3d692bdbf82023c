"""The app: drop pictures into classes, ask about a new picture. What it does is in `class_sessions`.

Pictures come and go as files: Gradio's own picture components turn, clip and recompress them. Gradio's State holds
only a session's key, and nothing outside this computer is asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from hf_free.data.decoding import decode
from hf_free.data.images import to_float
from hf_free.demo.class_sessions import Answer, ClassSessions
from hf_free.errors import ConfigError, HfFreeError
from hf_free.learner.meta_learner import MetaLearner

if TYPE_CHECKING:
    import gradio
    from PIL.Image import Image as Picture

P = ParamSpec("P")
R = TypeVar("R")

_SHOWN = 320
"""About how many pixels a shown picture has."""

_KEEP_SECONDS = 3600
"""Files that were uploaded are deleted after this long; a session keeps copies of its own."""


def serve(learner: str, *, host: str = "127.0.0.1", port: int | None = None, device: str = "cpu") -> None:
    """Load a learner and serve its app until it is stopped.

    Args:
        learner: Hub id or folder.
        host: Address to listen at; "0.0.0.0" lets other computers in.
        port: Port; None takes the first free one from 7860 on.
        device: Where to compute.
    """
    loaded = MetaLearner.from_pretrained(learner, map_location=device)
    in_space = "SPACE_ID" in os.environ
    build_app(ClassSessions(loaded)).launch(
        server_name="0.0.0.0" if in_space else host, server_port=port, share=False, quiet=True
    )


def check_installed() -> None:
    """Refuse to go on without Gradio.

    Raises:
        ConfigError: it is not installed.
    """
    if find_spec("gradio") is None:
        raise ConfigError("Gradio is not installed", action="pip install 'hf-free[app]'")


def build_app(sessions: ClassSessions) -> gradio.Blocks:
    """The app as Gradio's Blocks, to launch.

    Raises:
        ConfigError: Gradio is not installed.
    """
    check_installed()
    # Both: the first stops Gradio's own analytics, the second what gradio_client asks of the Hub.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_OFFLINE"] = "1"
    import gradio as gr

    def saying(call: Callable[P, R]) -> Callable[P, R]:
        """A handler whose refusals are shown in full."""

        def handler(*given: P.args, **named: P.kwargs) -> R:
            try:
                return call(*given, **named)
            except HfFreeError as error:
                raise gr.Error(str(error)) from None

        handler.__name__, handler.__doc__ = call.__name__, call.__doc__
        return handler

    def shown(counts: dict[str, int]) -> tuple[str, gradio.Dropdown]:
        listed = [
            f"- {_markdown(name)} ({count} picture{'' if count == 1 else 's'})" for name, count in counts.items()
        ]
        return "\n".join(listed) or "No class yet.", gr.Dropdown(choices=list(counts), value=None)

    def add_pictures(session: str, name: str, pictures: list[str] | None) -> tuple[object, ...]:
        return (*shown(sessions.add(session, name, pictures or [])), None, "")

    def rename_class(session: str, name: str, new_name: str) -> tuple[object, ...]:
        return (*shown(sessions.rename(session, name, new_name)), "")

    def remove_class(session: str, name: str) -> tuple[object, ...]:
        return shown(sessions.remove(session, name))

    def classify(session: str, picture: str | None, reject: float) -> tuple[object, ...]:
        if not picture:
            raise gr.Error("drop a picture first")
        answer = sessions.ask(session, picture, reject=reject or None)
        near = [(_picture(one.path), f"{one.label}, similarity {one.similarity:.3f}") for one in answer.nearest]
        return _sentence(answer), answer.probabilities, answer.probabilities, near, _picture(picture)

    def export(session: str) -> str:
        return str(sessions.export(session))

    with gr.Blocks(title="hf-free: a few-shot classifier", delete_cache=(_KEEP_SECONDS, _KEEP_SECONDS)) as app:
        gr.Markdown("# A few-shot classifier\n\nShow it a few pictures of each class, then ask about a new one.")
        with gr.Row():
            with gr.Column():
                gr.Markdown("## 1. Classes")
                name = gr.Textbox(label="Name of a class", max_lines=1, elem_id="class-name")
                pictures = gr.File(
                    label="Its pictures", file_count="multiple", type="filepath", file_types=["image"],
                    elem_id="class-pictures",
                )  # fmt: skip
                add = gr.Button("Add to this class", variant="primary", elem_id="add")
                table = gr.Markdown("No class yet.", elem_id="classes")
                with gr.Accordion("Rename or remove a class", open=False):
                    chosen = gr.Dropdown(choices=[], label="Class")
                    new_name = gr.Textbox(label="New name", max_lines=1)
                    with gr.Row():
                        rename, remove = gr.Button("Rename"), gr.Button("Remove", variant="stop")
            with gr.Column():
                gr.Markdown("## 2. A new picture")
                query = gr.File(label="A picture", type="filepath", file_types=["image"], elem_id="query")
                reject = gr.Slider(
                    0, 0.5, value=0, step=0.05, label="None of these",
                    info="0 always names a class; 0.1 rejects one in ten of your own pictures when left out",
                )  # fmt: skip
                ask = gr.Button("Which class?", variant="primary", elem_id="ask")
                said = gr.Markdown(elem_id="answer")
                seen = gr.Image(label="The picture as the learner reads it", format="png", interactive=False)
                shares = gr.Label(label="Probabilities")
                near = gr.Gallery(label="Nearest of your pictures", format="png", columns=4, height=180)
                with gr.Accordion("Probabilities to the last digit", open=False):
                    exact = gr.JSON(label="Probabilities", elem_id="exact")
                gr.Markdown("## 3. Keep it")
                save = gr.Button("Prepare the classifier as a file", elem_id="save")
                file = gr.File(label="For FewShotClassifier.from_pretrained, once unpacked", interactive=False)
        with gr.Accordion("Session", open=False):
            session = gr.Textbox(
                label="Key of this session",
                info="Whoever calls this app over its API or MCP gives a key of their own: classes belong to a key.",
                elem_id="session",
            )
        app.load(sessions.new, outputs=session, api_name="new_session")
        kept = [table, chosen]
        add.click(saying(add_pictures), [session, name, pictures], [*kept, pictures, name], api_name="add_pictures")
        rename.click(saying(rename_class), [session, chosen, new_name], [*kept, new_name], api_name="rename_class")
        remove.click(saying(remove_class), [session, chosen], kept, api_name="remove_class")
        ask.click(saying(classify), [session, query, reject], [said, shares, exact, near, seen], api_name="classify")
        save.click(saying(export), session, file, api_name="export")
    return app


def _sentence(answer: Answer) -> str:
    if answer.label is None:
        return "### None of these"
    return f"### {_markdown(answer.label)}, {100 * answer.probabilities[answer.label]:.1f} %"


def _markdown(text: str) -> str:
    """A class's name as Markdown that shows its own letters."""
    return "".join(f"&#{ord(letter)};" if not letter.isalnum() and letter != " " else letter for letter in text)


def _picture(path: str | Path) -> Picture:
    """A picture as the learner reads it: upright, on its ground, eight bits."""
    from PIL import Image

    pixels = to_float(decode(str(path), size=_SHOWN).pixels).expand(3, -1, -1)
    return Image.fromarray((255 * pixels).round().byte().permute(1, 2, 0).numpy())
