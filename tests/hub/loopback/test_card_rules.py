"""Cards that the Hub takes and refuses."""

from __future__ import annotations

import json

from cards import CARD

from hf_free.hub.loopback.card_rules import card_errors, read_metadata

RESULT = {"task": {"type": "t"}, "dataset": {"type": "a/b", "name": "n"}, "metrics": [{"type": "a", "value": 1}]}


BAD_CARDS = {
    "base_model: ./runs/a": "base_model",
    "base_model:\n- org/a\n- /home/me/model": "base_model",
    "base_model:\n- org/a\n- ../b": "base_model",
    "datasets: null": "datasets",
    "datasets:": "datasets",
    "license:\n  name: x": "license",
    "model-index: none": "model-index",
    "model-index:\n- results: []": "model-index[0].name",
    "model-index:\n- name: ''\n  results: []": "model-index[0].name",
    "model-index:\n- name: x": "model-index[0].results",
    "model-index:\n- name: x\n  results:\n  - task:\n      type: t\n": "model-index[0].results[0].dataset",
}

BAD_RESULTS = {
    "task.type": {"task": {"name": "t"}},
    "dataset.type": {"dataset": {"name": "n"}},
    "dataset.name": {"dataset": {"type": "n", "name": 3}},
    "dataset.config": {"dataset": {"type": "n", "name": "n", "config": 1.5}},
    "metrics": {"metrics": 3},
    "metrics[0].type": {"metrics": [{"value": 3}]},
    "metrics[1].value": {"metrics": [{"type": "a", "value": 3}, {"type": "a"}]},
    "source.url": {"source": {"name": "s"}},
}
for place, change in BAD_RESULTS.items():
    index = json.dumps([{"name": "x", "results": [RESULT | change]}])
    BAD_CARDS[f"model-index: {index}"] = f"model-index[0].results[0].{place}"


def test_cards_the_hub_refuses(hub, tokens, run_client):
    hub.add_repo("alice/cards", {"a.txt": b"a"})
    result = run_client(
        f"""
import json
from huggingface_hub import HfApi
said = []
for metadata in {list(BAD_CARDS)!r}:
    card = f"---\\n{{metadata}}\\n---\\n# Model".encode()
    try:
        HfApi().upload_file(repo_id="alice/cards", path_or_fileobj=card, path_in_repo="README.md")
        said.append("taken")
    except ValueError as error:
        said.append(str(error))
print(json.dumps(said))
""",
        token=tokens["alice"],
    )
    assert len(result.json) == len(BAD_CARDS)
    for said, problem in zip(result.json, BAD_CARDS.values(), strict=True):
        assert f'"{problem}"' in said
    assert "README.md" not in hub.read_repo("alice/cards")
    assert card_errors("---\njust words\n---\n") == ["Invalid YAML: cannot read the line 'just words'"]
    (said,) = card_errors("---\nmodel-index: !!python/tuple [1, 2]\n---\n")
    assert said.startswith("Invalid YAML: could not determine a constructor for the tag")


def test_cards_the_hub_takes():
    text = CARD.decode()
    assert card_errors(text) == []
    assert read_metadata(text)["base_model"] == ["org/teacher"]
    nested = f"---\nbase_model: [org/a, org/b]\nmodel-index: {json.dumps([{'name': 'x', 'results': [RESULT]}])}\n---\n"
    assert card_errors(nested) == []
    assert read_metadata("---\nlicense: yes\n---\n") == {"license": "yes"}
    assert read_metadata(nested)["base_model"] == ["org/a", "org/b"]
    assert card_errors("no metadata at all") == []
