"""What a request may be, and what an answer looks like."""

from __future__ import annotations

import base64
import json

import pytest
import torch

from hf_free.serving.protocol import Refusal, Request, answer_of, read_request, scores_of

PICTURE = b"\x89PNG not opened here"


def body(**values: object) -> bytes:
    return json.dumps({"inputs": base64.b64encode(PICTURE).decode(), **values}).encode()


@pytest.mark.parametrize("kind", ["", "image/png", "application/octet-stream"])
def test_bytes_are_a_picture_with_or_without_a_content_type(kind):
    assert read_request(PICTURE, kind) == Request((PICTURE,))


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", ""])
def test_json_holds_base64_and_parameters(kind):
    asked = body(parameters={"top_k": 3, "function_to_apply": "none"})
    assert read_request(asked, kind) == Request((PICTURE,), top_k=3, function="none")


def test_a_data_url_and_a_list_are_read_too():
    text = base64.b64encode(PICTURE).decode()
    asked = json.dumps({"inputs": [f"data:image/png;base64,{text}", text]}).encode()
    assert read_request(asked, "application/json") == Request((PICTURE, PICTURE), is_list=True)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (b"", "empty"),
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[1]", "inputs"),
        (json.dumps({"inputs": "https://example.org/cat.png"}).encode(), "base64"),
        (json.dumps({"inputs": []}).encode(), "0 inputs"),
        (json.dumps({"inputs": ["aa"] * 257}).encode(), "257 inputs"),
        (body(parameters=[1]), "parameters"),
        (body(parameters={"top_k": 0}), "top_k"),
        (body(parameters={"top_k": True}), "top_k"),
        (body(parameters={"function_to_apply": "max"}), "function_to_apply"),
    ],
)
def test_what_is_wrong_is_said(given, word):
    with pytest.raises(Refusal, match=word) as refused:
        read_request(given, "application/json")
    assert refused.value.status == 400


def test_an_answer_names_the_likeliest_labels_first():
    logits = torch.tensor([[0.0, 2.0, 1.0]])
    found = answer_of(scores_of(logits, "softmax"), ("a", "b", "c"), Request((PICTURE,), top_k=2))
    assert [entry["label"] for entry in found] == ["b", "c"]
    assert found[0]["score"] == pytest.approx(torch.tensor([0.0, 2.0, 1.0]).softmax(0)[1].item())
    assert answer_of(scores_of(logits, "none"), ("a", "b", "c"), Request((b"",), is_list=True))[0][0]["score"] == 2.0
    assert scores_of(logits, "sigmoid")[0, 0] == 0.5
