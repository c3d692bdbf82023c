"""From an address to a black box: lists, tokens, kept answers, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from pico import pico_folder, pico_teacher
from scripted import GOOD, scripted
from served import pictures

from hf_free.config.sections import QueriesConfig
from hf_free.errors import (
    ConfigError,
    HubError,
    QueryBudgetError,
    TeacherError,
    TeacherReferenceError,
    UnfitTeacherError,
)
from hf_free.serving.served_model import ServedTeacher
from hf_free.serving.server import ModelServer
from hf_free.teachers.endpoints import EndpointAccess, check_tokens, open_endpoint, token_of_host
from hf_free.teachers.listing import resolve
from hf_free.teachers.loader import load_teacher
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.reference import TeacherReference

OTHER = [{"label": "a", "score": 0.5}, {"label": "b", "score": 0.5}]


@pytest.fixture(scope="module")
def server():
    with ModelServer(ServedTeacher(pico_teacher("conv4", size=16, num_classes=4))) as running:
        yield running


def listed(folder: Path, **entry: object) -> TeacherReference:
    path = folder / "teachers.yaml"
    path.write_text(json.dumps([{"name": "it", **entry}]))
    (reference,) = resolve([str(path)])
    return reference


def test_an_address_is_a_teacher_anywhere_a_teacher_is(server, tmp_path):
    text = f"endpoint:{server.address}"
    record = load_teacher(text).record
    assert (record.reference, record.num_classes, record.answers_only, record.is_hidden) == (text, 4, True, True)
    pool = TeacherPool([str(pico_folder(tmp_path / "t", size=16)), text], strict=True)
    assert pool.black_boxes == [1]
    assert pool[1].logits(pictures(2).float() / 255).shape == (2, 4)
    assert pool.loaded_bytes == pool.records[0].weight_bytes


def test_answers_are_kept_and_a_new_start_pays_for_none_of_them(server, tmp_path):
    text, before = f"endpoint:{server.address}", server.answered
    images = pictures(3).float() / 255
    expected = TeacherPool([text], endpoints=EndpointAccess.of(QueriesConfig(), folder=tmp_path))[0].logits(images)
    assert server.answered == before + 7  # four pictures to begin with, and three
    again = TeacherPool([text], endpoints=EndpointAccess.of(QueriesConfig(budget=7), folder=tmp_path))
    assert torch.equal(again[0].logits(images), expected)
    assert server.answered == before + 7
    assert (again.endpoints.budget.spent, again.endpoints.budget.left) == (7, 0)


def test_a_budget_too_small_to_begin_with_is_refused(server):
    with pytest.raises(QueryBudgetError, match="4 more times; 3 of 3"):
        TeacherPool([f"endpoint:{server.address}"], strict=True, endpoints=EndpointAccess.of(QueriesConfig(budget=3)))


def test_a_list_says_more_of_an_endpoint(server, tmp_path):
    reference = listed(tmp_path, endpoint=server.address, classes="1-2", input_size=[3, 8, 8], mean=[0.1, 0.2, 0.3])
    black_box = open_endpoint(reference, EndpointAccess())
    record = black_box.record
    assert (record.label_names, record.input_size, record.mean) == (("LABEL_1", "LABEL_2"), (3, 8, 8), (0.1, 0.2, 0.3))
    assert record.reference.endswith("teachers.yaml#it")
    assert server.address not in json.dumps(record.to_dict())
    logits = black_box.logits(pictures(2).float() / 255)
    assert logits.shape == (2, 2)


def test_pictures_of_one_request_and_logits_are_asked_for(server, tmp_path):
    reference = listed(tmp_path, endpoint=server.address, answers="logits", pictures_per_request=3, num_classes=4)
    black_box = open_endpoint(reference, EndpointAccess())
    expected = pico_teacher("conv4", size=16, num_classes=4).logits(pictures(5).float() / 255)
    assert torch.allclose(black_box.logits(pictures(5).float() / 255), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ({"architecture": "resnet18"}, "unknown key 'architecture'"),
        ({"revision": "v2"}, "unknown key 'revision'"),
        ({"endpoint": "ftp://x"}, "no http or https address"),
        ({"endpoint": "https://u:p@host"}, "user's name or password"),
        ({"pictures_per_request": "many"}, "not a number"),
    ],
)
def test_an_entry_that_cannot_be_is_refused(tmp_path, entry, word):
    with pytest.raises(TeacherReferenceError, match=word):
        listed(tmp_path, **{"endpoint": "https://host/path", **entry})


def test_what_the_answers_do_not_fit_is_refused_by_name(server, tmp_path):
    for entry, word in (
        ({"num_classes": 9}, "answers with 4 labels"),
        ({"answers": "guesses"}, "answers is 'guesses'"),
    ):
        with pytest.raises(TeacherError, match=word):
            open_endpoint(listed(tmp_path, endpoint=server.address, **entry), EndpointAccess())
    with scripted([GOOD]) as constant, pytest.raises(UnfitTeacherError, match="constant output"):
        load_teacher(f"endpoint:{constant.address}")
    with scripted([(404, {}, {})]) as nobody, pytest.raises(HubError, match=r"^endpoint:http.* status 404"):
        load_teacher(f"endpoint:{nobody.address}")


def test_only_some_labels_are_read_where_a_list_names_all(tmp_path):
    with scripted([GOOD, GOOD, GOOD, OTHER]) as two_of_three:
        reference = listed(tmp_path, endpoint=two_of_three.address, label_names=["c", "b", "a"])
        record = open_endpoint(reference, EndpointAccess()).record
    assert record.label_names == ("c", "b", "a")


def test_a_token_goes_to_its_host_only(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_hub")
    turns = [GOOD, OTHER] * 8
    with scripted(turns) as one, scripted(turns) as two:
        names = [f"endpoint:{server.address}" for server in (one, two)]
        hosts = [server.address.split("/")[2] for server in (one, two)]
        tokens = (f"{hosts[0]}=first", f"{hosts[1]}=second")
        TeacherPool(names, strict=True, token="hf_given", endpoints=EndpointAccess.of(QueriesConfig(), tokens=tokens))
        TeacherPool(names[:1], strict=True, token="hf_given")
        monkeypatch.setenv("SECRET", "third")
        open_endpoint(listed(tmp_path, endpoint=two.address, token_env="SECRET"), EndpointAccess(tokens=tokens))
    sent = [[headers.get("authorization") for headers, _ in server.requests] for server in (one, two)]
    assert sent == [["Bearer first"] * 4 + [None] * 4, ["Bearer second"] * 4 + ["Bearer third"] * 4]
    monkeypatch.delenv("SECRET")
    with pytest.raises(TeacherError, match="SECRET is not set"):
        open_endpoint(listed(tmp_path, endpoint="https://host", token_env="SECRET"), EndpointAccess())


def test_one_token_for_several_hosts_is_refused():
    check_tokens(("secret",), ["https://a.org/1", "https://a.org/2"])
    with pytest.raises(ConfigError, match="2 hosts") as refused:
        check_tokens(("secret",), ["https://a.org", "https://b.org"])
    assert "secret" not in str(refused.value)
    assert refused.value.action == "--endpoint-token a.org=... b.org=..."
    with pytest.raises(ConfigError, match=r"2 endpoint tokens for one host, a\.org\b") as refused:
        check_tokens(("sec", "ret"), ["https://a.org/1", "https://a.org/2"])  # one with a line break in it
    assert "a line break: they part the tokens in HF_FREE_ENDPOINT_TOKEN" in refused.value.allowed
    tokens = ("a.org=one", "localhost:80=two=", "pad.ded==", "plain")
    assert [token_of_host(tokens[:2], url) for url in ("https://A.org/x", "http://localhost:80", "https://c.org")] == [
        "one", "two=", None
    ]  # fmt: skip
    assert token_of_host(tokens[2:3], "https://c.org") == "pad.ded=="


def test_the_environments_token_is_taken_where_none_is_given(monkeypatch):
    monkeypatch.setenv("HF_FREE_ENDPOINT_TOKEN", "a.org=one b.org=two")
    assert EndpointAccess.of(QueriesConfig()).tokens == ("a.org=one", "b.org=two")
    assert EndpointAccess.of(QueriesConfig(), tokens=("given",)).tokens == ("given",)


def test_one_endpoint_as_several_teachers_is_asked_once_and_stays_in_a_small_pool(server, tmp_path):
    path = tmp_path / "teachers.yaml"
    entries = [{"endpoint": server.address, "classes": classes} for classes in ("0-1", "2-3")]
    path.write_text(json.dumps(entries))
    own = [str(pico_folder(tmp_path / f"t{seed}", size=16, seed=seed)) for seed in range(2)]
    before, kept, images = server.answered, tmp_path / "kept", pictures(3).float() / 255
    for _ in range(2):
        endpoints = EndpointAccess.of(QueriesConfig(), folder=kept)
        pool = TeacherPool([str(path), *own], budget="10KB", endpoints=endpoints)  # room for one of the own ones
        for place in (0, 2, 3, 1, 2, 0):
            pool[place].logits(images)
        assert server.answered == before + 7 == before + pool.endpoints.budget.spent
    assert len(list(kept.iterdir())) == 1
