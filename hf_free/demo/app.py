"""The app: drop pictures into classes, ask about a new picture. What it does is in `class_sessions`.

Pictures come as files: Gradio's own picture components turn, clip and recompress them. Gradio keeps no state but a
session's key in the page, and nothing outside this computer is asked. People and programs have doors of their own:
the page's handlers are private, and programs call `app_tools`.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable
from functools import wraps
from importlib.util import find_spec
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from hf_free.demo.answer_html import STYLE, answer_html, in_letters
from hf_free.demo.app_tools import AppTools
from hf_free.demo.class_sessions import ClassSessions
from hf_free.errors import ConfigError, HfFreeError
from hf_free.learner.meta_learner import MetaLearner

if TYPE_CHECKING:
    import gradio

P = ParamSpec("P")
R = TypeVar("R")

_KEEP_SECONDS = 3600
"""Files that were uploaded are deleted after this long; a session keeps copies of its own."""


def serve(
    learner: str,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    device: str = "cpu",
    mcp: bool = False,
    started: Callable[[str], object] | None = None,
) -> None:
    """Load a learner and serve its app until it is stopped.

    Args:
        learner: Hub id or folder.
        host: Address to listen at; "0.0.0.0" lets other computers in.
        port: Port; None takes the first free one from 7860 on.
        device: Where to compute.
        mcp: Whether to serve the app's tools to MCP clients too.
        started: Told the address once the app can be opened there.
    """
    loaded = MetaLearner.from_pretrained(learner, map_location=device)
    host = "0.0.0.0" if "SPACE_ID" in os.environ else host
    app = build_app(ClassSessions(loaded))
    address = launch(app, host=host, port=port, mcp=mcp)
    if started is not None:
        started(address)
    app.block_thread()


def check_installed(*, mcp: bool = False) -> None:
    """Refuse to go on without Gradio, and without the package `mcp` where it is needed.

    Raises:
        ConfigError: one of them is not installed.
    """
    if find_spec("gradio") is None:
        raise ConfigError("Gradio is not installed", action="pip install 'hf-free[app]'")
    if mcp and find_spec("mcp") is None:
        raise ConfigError("the package mcp is not installed", action="pip install 'hf-free[mcp]'")


def launch(app: gradio.Blocks, *, host: str = "127.0.0.1", port: int | None = None, mcp: bool = False) -> str:
    """Serve an app in the background; its address.

    Args:
        app: Made by `build_app`.
        host: Address to listen at.
        port: Port; None takes the first free one from 7860 on.
        mcp: Whether to serve its tools to MCP clients, at `gradio_api/mcp/`.
    """
    import gradio as gr

    # Gradio's own gray, orange and red have too little contrast on their grounds (WCAG 2.2, 1.4.3: at least 4.5 to 1).
    theme = gr.themes.Default().set(
        body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_300",
        input_placeholder_color="*neutral_600", input_placeholder_color_dark="*neutral_300",
        button_primary_background_fill="*primary_700", button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800", button_primary_background_fill_hover_dark="*primary_800",
        button_cancel_background_fill=gr.themes.colors.red.c700,
    )  # fmt: skip
    _, address, _ = app.launch(
        server_name=host, server_port=port, share=False, quiet=True, prevent_thread_lock=True, mcp_server=mcp,
        theme=theme, css=STYLE, footer_links=["api", "gradio"],
    )  # fmt: skip
    return str(address)


def build_app(sessions: ClassSessions) -> gradio.Blocks:
    """The app as Gradio's Blocks, for `launch`.

    Raises:
        ConfigError: Gradio is not installed.
    """
    check_installed()
    # Both: the first stops Gradio's own analytics, the second what gradio_client asks of the Hub.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["GRADIO_RUN_HISTORY"] = "False"  # it would keep what was asked in the browser
    import gradio as gr

    def shown(counts: dict[str, int]) -> tuple[str, gradio.Dropdown]:
        listed = [
            f"- {in_letters(name)} ({count} picture{'' if count == 1 else 's'})" for name, count in counts.items()
        ]
        return "\n".join(listed) or "No class yet.", gr.Dropdown(choices=list(counts), value=None)

    def add_pictures(session: str, name: str, pictures: list[str] | None) -> tuple[object, ...]:
        return (*shown(sessions.add(session, name, pictures or [])), None, "")

    def rename_class(session: str, name: str, new_name: str) -> tuple[object, ...]:
        return (*shown(sessions.rename(session, name, new_name)), "")

    def remove_class(session: str, name: str) -> tuple[object, ...]:
        return shown(sessions.remove(session, name))

    def classify(session: str, picture: str | None, reject: float) -> str:
        if not picture:
            raise gr.Error("drop a picture first")
        return answer_html(sessions.ask(session, picture, reject=reject or None), picture)

    def export(session: str) -> gradio.DownloadButton:
        return gr.DownloadButton(value=str(sessions.export(session)), visible=True)

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
                said = gr.HTML(elem_id="answer")
                gr.Markdown("## 3. Keep it")
                save = gr.Button("Prepare the classifier as a file", elem_id="save")
                file = gr.DownloadButton("Download the classifier", visible=False, elem_id="file")
                gr.Markdown("Once unpacked, `FewShotClassifier.from_pretrained` reads it.")
        with gr.Accordion("Session", open=False):
            session = gr.Textbox(
                label="Key of this session",
                info="Classes belong to a key. Programs that call this app begin a session of their own.",
                elem_id="session",
            )
        for tool in AppTools(sessions).all():  # first, as Gradio numbers whatever has the name of an earlier one
            _add_tool(_saying(tool))
        app.load(sessions.new, outputs=session, api_visibility="private")
        kept = [table, chosen]
        for press, call, given, changed in (
            (add, add_pictures, [session, name, pictures], [*kept, pictures, name]),
            (rename, rename_class, [session, chosen, new_name], [*kept, new_name]),
            (remove, remove_class, [session, chosen], kept),
            (ask, classify, [session, query, reject], [said]),
            (save, export, [session], [file]),
        ):
            press.click(_saying(call), given, changed, api_visibility="private")
    return app


def _saying(call: Callable[P, R]) -> Callable[P, R]:
    """A handler whose refusals are shown in full."""
    import gradio as gr

    class Refused(gr.Error):  # type: ignore[misc]
        """An error whose text is what MCP clients are told; Gradio's own gives them a Python literal."""

        def __str__(self) -> str:
            return str(self.message)

    @wraps(call)
    def handler(*given: P.args, **named: P.kwargs) -> R:
        try:
            return call(*given, **named)
        except HfFreeError as error:
            raise Refused(str(error)) from None

    return handler


def _add_tool(tool: Callable[..., object]) -> None:
    """Let programs call a function: an event of hidden components, whose files Gradio has checked. Its answer is a
    text, a file, or JSON.

    It goes past the queue, which would have Gradio's MCP server call itself over HTTP; the sessions have a lock.
    """
    import gradio as gr

    @wraps(tool)
    def as_text(*given: object) -> str:
        answer = tool(*given)
        return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)

    made = {"picture": lambda: gr.File(type="filepath", visible=False), "reject": lambda: gr.Number(0, visible=False)}
    given = [made.get(name, lambda: gr.Textbox(visible=False))() for name in inspect.signature(tool).parameters]
    answer = (gr.File if tool.__name__ == "export" else gr.Textbox)(visible=False)
    gr.Button(visible=False).click(as_text, given, answer, api_name=tool.__name__, queue=False)
