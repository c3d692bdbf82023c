"""The Hub's image-classification protocol, as a server reads it: pictures and parameters in, labels and scores out.

A request is a picture file's bytes, or JSON: `{"inputs": base64, "parameters": {"top_k": 5, "function_to_apply":
"softmax"}}`, as `huggingface_hub.InferenceClient.image_classification` sends it (ImageClassificationInput of
`@huggingface/tasks`). `inputs` may be a list of pictures, as a pipeline of transformers takes it; the answer is a list
of answers then.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from hf_free.provenance.reading import Json

Function = Literal["softmax", "sigmoid", "none"]
"""What turns logits into scores."""

DEFAULT_TOP_K = 5
"""Labels in an answer where the request does not say how many, as in transformers' pipeline."""

MOST_PICTURES = 256
"""Most pictures of one request."""


class Refusal(Exception):
    """A request that is not answered.

    Args:
        status: HTTP status.
        message: What is wrong with it, in words for whoever sent it.
    """

    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message
        super().__init__(message)


@dataclass(frozen=True)
class Request:
    """What was asked."""

    pictures: tuple[bytes, ...]
    """Picture files, none of them opened yet."""
    is_list: bool = False
    """Whether the answer is a list of answers."""
    top_k: int = DEFAULT_TOP_K
    """Most labels in an answer."""
    function: Function = "softmax"


def read_request(body: bytes, content_type: str) -> Request:
    """Read the body of a request.

    A body counts as JSON if its Content-Type says so or it begins with a brace, as no picture file does: clients send
    pictures with and without a Content-Type.

    Raises:
        Refusal: a body that is neither, or parameters that are not allowed.
    """
    if not body:
        raise Refusal(400, "an empty body; send a picture file, or JSON with inputs")
    kind = content_type.partition(";")[0].strip().lower()
    if kind != "application/json" and body.lstrip()[:1] != b"{":
        return Request((body,))
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal(400, "a body that is no JSON") from None
    if not isinstance(values, dict) or "inputs" not in values:
        raise Refusal(400, 'JSON without "inputs"; allowed: {"inputs": base64 of a picture file, "parameters": {}}')
    given = values["inputs"]
    is_list = isinstance(given, list)
    texts: Sequence[object] = given if is_list else [given]
    if not 1 <= len(texts) <= MOST_PICTURES:
        raise Refusal(400, f"{len(texts)} inputs; allowed: 1 to {MOST_PICTURES}")
    top_k, function = _parameters(values.get("parameters") or {})
    return Request(tuple(_decoded(text) for text in texts), is_list, top_k, function)


def _decoded(text: object) -> bytes:
    """A picture file's bytes, of base64 with or without the beginning of a data URL."""
    if isinstance(text, str):
        head, comma, rest = text.partition(",")
        try:
            return base64.b64decode(rest if comma and head.startswith("data:") else text, validate=True)
        except (binascii.Error, ValueError):
            pass
    raise Refusal(400, "inputs that are no base64; addresses are not fetched")


def _parameters(given: object) -> tuple[int, Function]:
    if not isinstance(given, Mapping):
        raise Refusal(400, "parameters that are no JSON object")
    top_k, function = given.get("top_k"), given.get("function_to_apply")
    if top_k is None:
        top_k = DEFAULT_TOP_K
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
        raise Refusal(400, f"top_k {str(top_k)[:40]!r}; allowed: a whole number of at least 1")
    if function is None:
        function = "softmax"
    for known in get_args(Function):
        if function == known:
            return top_k, known
    raise Refusal(400, f"function_to_apply {str(function)[:40]!r}; allowed: {', '.join(get_args(Function))}")


def scores_of(logits: Tensor, function: Function) -> Tensor:
    """Logits (B, N) as scores (B, N)."""
    if function == "none":
        return logits
    return logits.softmax(1) if function == "softmax" else torch.sigmoid(logits)


def answer_of(scores: Tensor, labels: Sequence[str], request: Request) -> list[Json] | list[list[Json]]:
    """Scores (B, N) as the protocol's answer, the most likely labels first."""
    values, places = scores.double().topk(min(request.top_k, len(labels)), dim=1)
    rows = [
        [{"label": labels[place], "score": value} for value, place in zip(*row, strict=True)]
        for row in zip(values.tolist(), places.tolist(), strict=True)
    ]
    return rows if request.is_list else rows[0]
