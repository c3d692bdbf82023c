"""What the app says of a picture, as HTML: a table and pictures that every reader of a screen can follow.

Gradio's own components for this leave buttons without a name and write numbers in colors that few can read.
"""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

from hf_free.data.decoding import decode
from hf_free.data.images import to_float
from hf_free.demo.class_sessions import Answer

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_SHOWN = 320
"""About how many pixels a shown picture has."""


def answer_html(answer: Answer, path: str | Path) -> str:
    """The answer about a picture: its class, the picture, probabilities, the nearest support pictures.

    Args:
        answer: What is said of it.
        path: The picture's file.
    """
    rows = "".join(
        f'<tr><th scope="row">{in_letters(name)}</th><td>{100 * value:.1f} %</td></tr>'
        for name, value in sorted(answer.probabilities.items(), key=lambda pair: -pair[1])
    )
    near = "".join(
        f"<figure>{_image(one.path, '')}<figcaption>{in_letters(one.label)}, similarity {one.similarity:.3f}"
        "</figcaption></figure>"
        for one in answer.nearest
    )
    exact = in_letters(json.dumps(answer.probabilities, indent=1, ensure_ascii=False))
    return (
        f"<h3>{sentence(answer)}</h3>{_image(path, 'The picture as the learner reads it')}"
        f'<table><thead><tr><th scope="col">Class</th><th scope="col">Probability</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
        f'<h4>Nearest of your pictures</h4><div class="near">{near}</div>'
        f'<details><summary>Probabilities to the last digit</summary><pre id="exact">{exact}</pre></details>'
    )


STYLE = """
#answer img { height: 6rem; image-rendering: auto; }
#answer .near { display: flex; flex-wrap: wrap; gap: 0.75rem; }
#answer figure { margin: 0; }
#answer pre { white-space: pre-wrap; overflow-wrap: anywhere; }
#answer td { text-align: right; font-variant-numeric: tabular-nums; }
"""
"""CSS of the answer, inside an element `answer`."""


def sentence(answer: Answer) -> str:
    """The most likely class and its probability, or that it is none of these; HTML."""
    if answer.label is None:
        return "None of these"
    return f"{in_letters(answer.label)}, {100 * answer.probabilities[answer.label]:.1f} %"


def in_letters(text: str) -> str:
    """A text that shows its own letters, in HTML and in Markdown, and that no template takes for its own."""
    plain = " \n"
    return "".join(f"&#{ord(letter)};" if not letter.isalnum() and letter not in plain else letter for letter in text)


def read_picture(path: str | Path) -> Picture:
    """A picture as the learner reads it: upright, on its ground, eight bits."""
    from PIL import Image

    pixels = to_float(decode(str(path), size=_SHOWN).pixels).expand(3, -1, -1)
    return Image.fromarray((255 * pixels).round().byte().permute(1, 2, 0).numpy())


def _image(path: str | Path, what: str) -> str:
    """An image within the page, in PNG: every gray level as it is, and no file that stays behind."""
    file = io.BytesIO()
    read_picture(path).save(file, "PNG")
    return f'<img alt="{what}" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"/>'
