"""Models on the Hub, found by text, author and tag."""

from __future__ import annotations

import pytest
from hub_calls import HELPERS, paths
from pico import pico_files
from safetensors.torch import load

from hf_free.hub.search import weight_bytes_of


def test_search(hub, run_client):
    card = b"---\nlicense: apache-2.0\nlibrary_name: timm\ntags:\n- birds\n---\n"
    weights = pico_files()["model.safetensors"]
    for index in range(3):
        hub.add_repo(f"finder/net-{index}", {"README.md": card, **(pico_files() if index == 1 else {})})
    other = {
        "README.md": b"---\nlibrary_name: transformers\n---\n",
        "model.safetensors": weights,
        "config.json": b"{}",
    }
    hub.add_repo("finder/other", {**other, "preprocessor_config.json": b"{}"})
    hub.add_repo("finder/words", other)
    code = """
find = lambda **options: [asdict(model) for model in client.search_models(author="finder", **options)]
print(json.dumps([find(), find(query="net-1"), find(tag="birds", limit=2), find(library=None)]))
"""
    everything, one, two, unfiltered = run_client(HELPERS + code).json
    assert [model["repo_id"] for model in everything] == [f"finder/net-{index}" for index in range(3)]
    assert everything[0]["license"] == "apache-2.0"
    assert [model["repo_id"] for model in one] == ["finder/net-1"]
    assert (one[0]["parameters"], one[0]["looks_usable"]) == (sum(t.numel() for t in load(weights).values()), True)
    assert (everything[0]["parameters"], everything[0]["looks_usable"]) == (None, False)
    assert one[0]["weight_bytes"] == sum(t.numel() * t.element_size() for t in load(weights).values())
    assert everything[0]["weight_bytes"] is None
    assert len(two) == 2
    usable = {model["repo_id"]: model["looks_usable"] for model in unfiltered}
    assert len(usable) == 5
    assert (usable["finder/other"], usable["finder/words"]) == (True, False)


def test_an_empty_object_is_not_taken_for_a_list_of_nothing(hub, run_client):
    code = """
try:
    print(json.dumps(client.search_models(query="nothing")))
except HubError as error:
    print(json.dumps(str(error)))
"""
    assert run_client(HELPERS + code).json == []
    with hub.fault("status", "/api/models", status=200, times=None, body=b"{}"):
        assert "the listing is {}, not a list" in run_client(HELPERS + code).json


def test_a_listing_that_is_cut_each_time_is_left(hub, run_client):
    """A question beside each round of repetitions began the patience anew: 125 s."""
    code = """
from functools import partial
search.patiently = partial(search.patiently, patience=0.5)
print(json.dumps(show(client.search_models)))
"""
    hub.add_repo("finder/cut", {"README.md": b"---\nlibrary_name: timm\n---\n"})
    start = len(hub.requests)
    with hub.fault("close", "^/api/models", after=50, times=None) as fault:
        answer = run_client(f"{HELPERS}\nfrom hf_free.hub import search\n{code}").json
    assert "for the search: last answer: 200, which broke off" in answer["error"]
    assert (fault.hits, paths(hub, start, "HEAD").count("/")) == (1, 1)


@pytest.mark.parametrize(
    ("counts", "size"),
    [({"F32": 10, "I64": 1}, 48), ({"BF16": 3, "BOOL": 2, "F8_E4M3": 4}, 12), ({"F4": 5}, 2), ({}, 0)],
)
def test_what_listed_weights_take(counts, size):
    assert weight_bytes_of(counts) == size
