"""The model card: valid whatever strings occur, silent about private teachers, updated without losing hand edits."""

from __future__ import annotations

import copy
import re

import pytest
import yaml
from huggingface_hub import ModelCard

from hf_free.card import publishable_record, render_card, shows_images, update_results, write_card
from hf_free.card_metadata import is_repo_id
from hf_free.config import FreeConfig
from hf_free.errors import HubError

NASTY = [
    "mit\nbase_model: evil/x",
    "other: x",
    "`code` | cell <b>html</b> [link](javascript:x) ![i](x)",
    "---\n# heading\n---",
    "'quote' \"double\" {{ 7 * 7 }} {% raw %} \\ & * # @ %",
    "```\n~~~ end of fence",
    "ünïcode 数字 🦉",
    "- null",
    "yes",
]


def teacher(name="lab/a", **changes):
    values = {
        "reference": name,
        "repo_id": name,
        "commit": "0123456789" * 4,
        "architecture": "conv4_32",
        "parameters": 28485,
        "input_size": [3, 32, 32],
        "num_classes": 5,
        "label_names": ["zero", "one", "two", "three", "four"],
        "normalization": {"BatchNorm2d": 4},
        "license": "mit",
        "private": False,
        "gated": False,
        "sha256": {"model.safetensors": "ab" * 32},
    }
    return {**values, **changes}


def row(method="learner", k_shot=1, accuracy=61.24, **changes):
    values = {"n_way": 3, "n_query": 15, "episodes": 600, "interval": 0.83, "inductive": True, "seconds": 1.0}
    return {"method": method, "k_shot": k_shot, "accuracy": accuracy, "note": "", **values, **changes}


def report(dataset="org/birds", split="test", **changes):
    rows = [row(), row(k_shot=5, accuracy=72.5), row("pixels", accuracy=40.0)]
    return {"dataset": dataset, "split": split, "warnings": [], "rows": rows, **changes}


def record(teachers=None, results=(), hub=None, **changes):
    teachers = [teacher("lab/a"), teacher("lab/b")] if teachers is None else teachers
    config = {
        "models": [entry["reference"] for entry in teachers],
        "hub": {"push_to_hub": "me/learner", **(hub or {})},
    }
    return {
        "format_version": 1,
        "config": FreeConfig.from_dict(config).to_dict(),
        "teachers": teachers,
        "skipped": [],
        "results": list(results),
        "recovered": {"tasks": 4, "images": 80, "teacher_accuracy": 0.925},
        "training": {"minutes": 1.5, "steps": 100, "device": "cpu"},
        "versions": {"hf_free": "0.1.0", "torch": "2.14.1"},
        **changes,
    }


def metadata(text):
    """The card's YAML, read by a plain parser."""
    _, front, _ = re.split(r"(?m)^---$", text, maxsplit=2)
    return yaml.safe_load(front)


def config_of(text):
    """The configuration block of a card, read back."""
    _, content = re.search(r"(?ms)^(`{3,})yaml\n(.*?)^\1$", text).groups()
    return yaml.safe_load(content)


def test_metadata_says_what_the_learner_is():
    found = metadata(render_card(record(results=[report()]), picture=False))
    assert found["library_name"] == "hf-free"
    assert found["pipeline_tag"] == "image-classification"
    assert found["base_model"] == ["lab/a", "lab/b"]
    assert found["base_model_relation"] == "finetune"
    assert found["license"] == "mit"
    assert "data-free" in found["tags"]
    (index,) = found["model-index"]
    assert index["name"] == "learner"
    assert [entry["dataset"]["config"] for entry in index["results"]] == ["3-way 1-shot", "3-way 5-shot"]
    first = index["results"][0]
    assert (first["dataset"]["type"], first["dataset"]["split"]) == ("org/birds", "test")
    assert first["metrics"][0]["value"] == 61.24
    assert first["metrics"][0]["args"] == {"n_query": 15, "episodes": 600, "interval_95": 0.83}
    assert "± 0.83" in first["metrics"][0]["name"]


def test_body_shows_teachers_results_usage_and_the_exact_configuration():
    source = record(results=[report()], skipped=[{"reference": "lab/c", "reason": "lab/c outputs NaN"}])
    text = render_card(source, picture=False)
    assert (
        "| [lab/a](https://huggingface.co/lab/a) | 01234567 | `conv4_32` | 28.5 k | 4 BatchNorm2d | 3×32×32 " in text
    )
    assert "| **learner** | 61.2 ± 0.8 | 72.5 ± 0.8 |" in text
    assert "| pixels | 40.0 ± 0.8 | – |" in text
    assert 'MetaLearner.from_pretrained("me/learner")' in text
    assert "- lab/c: lab/c outputs NaN" in text
    assert "can reveal what the teachers were trained on" in text
    assert FreeConfig.from_dict(config_of(text)).to_dict() == source["config"]


def test_flat_rows_and_reports_give_the_same_card():
    flat = [{**entry, "dataset": "org/birds", "split": "test"} for entry in report()["rows"]]
    assert render_card(record(results=flat), picture=False) == render_card(record(results=[report()]), picture=False)


def test_local_teachers_are_no_base_models_and_their_folders_stay_private():
    local = teacher("/home/alice/secret/net", repo_id=None, commit=None)
    text = render_card(record([teacher("lab/a"), local]), picture=False)
    assert metadata(text)["base_model"] == ["lab/a"]
    assert "alice" not in text
    assert "| net |" in text
    assert "base_model" not in metadata(render_card(record([local]), picture=False))


@pytest.mark.parametrize("text", ["a/b", "org.x/name_y-1"])
def test_repo_ids_are_recognised(text):
    assert is_repo_id(text)


@pytest.mark.parametrize("text", ["./a", "/a/b", "a", "a/b/c", "a/b\nc/d", "../b", "a/..", None, "~/b", "a/b@main"])
def test_paths_are_no_repo_ids(text):
    assert not is_repo_id(text)


@pytest.mark.parametrize("nasty", NASTY)
def test_nothing_breaks_out_of_the_yaml_or_the_page(nasty):
    bad = teacher("lab/a", license=nasty, architecture=nasty, commit=nasty, normalization={nasty: 1})
    source = record(
        [bad, teacher(nasty, repo_id=nasty)],
        results=[report(nasty, nasty, warnings=[nasty], rows=[row(), row(nasty, note=nasty)])],
        hub={"license": nasty},
        skipped=[{"reference": nasty, "reason": nasty}],
        versions={nasty: nasty},
        training={"steps": 1, "minutes": 1, "device": nasty},
    )
    text = render_card(source, picture=False)
    plain = render_card(record([teacher("lab/a"), teacher("lab/b")], hub={"license": "mit"}), picture=False)
    found = metadata(text)
    assert set(found) <= {*metadata(plain), "model-index", "license_name"}
    assert found["base_model"] == ["lab/a"]
    assert found["license"] in ("mit", "other")
    assert [line for line in text.split("---", 2)[2].splitlines() if re.match(r"#{1,2} ", line)] == [
        line for line in plain.split("---", 2)[2].splitlines() if re.match(r"#{1,2} ", line)
    ]
    table = [line for line in text.splitlines() if line.startswith("| ") and "28.5 k" in line]
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 9 for line in table)
    assert len(table) == 2
    body = re.sub(r"(?ms)^(`{3,}).*?^\1$|`[^`\n]*`", "", text.split("---", 2)[2])  # without code, where nothing acts
    assert not re.search(r"<b>|(?<!\\)\]\(javascript|\{\{|(?<![\\<])!", body)
    assert config_of(text)["hub"]["license"] == nasty
    assert metadata(str(ModelCard(text))) == found


def test_licence_is_given_or_derived_and_never_invented():
    def stated(licenses, chosen=None):
        teachers = [teacher(f"lab/t{i}", license=value) for i, value in enumerate(licenses)]
        text = render_card(record(teachers, hub={"license": chosen}), picture=False)
        return metadata(text).get("license"), text

    assert stated(["mit", "mit"])[0] == "mit"
    assert stated(["mit", "apache-2.0"])[0] is None
    assert stated(["mit", None])[0] is None
    assert stated([])[0] is None
    nothing, text = stated(["cc-by-nc-4.0", "cc-by-nc-4.0"])
    assert nothing is None
    assert "states no licence" in text
    assert "lab/t0: cc-by-nc-4.0, not for commercial use" in text
    assert stated(["mit", None], chosen="apache-2.0")[0] == "apache-2.0"
    assert metadata(stated(["mit"], chosen="My Own License 1")[1])["license_name"] == "my-own-license-1"
    assert stated(["mit"], chosen="My Own License 1")[0] == "other"


@pytest.mark.parametrize("kind", ["private", "gated"])
def test_private_and_gated_teachers_are_not_named_unless_asked_for(kind):
    secret = teacher("lab/secret", reference="lab/secret@v1", label_names=["face of bob", "b"], **{kind: True})
    source = record([teacher("lab/a"), secret], left_out={"lab/secret@v1: no accuracy": 3})
    before = copy.deepcopy(source)
    text = render_card(source, picture=True)
    assert "secret" not in text
    assert metadata(text)["base_model"] == ["lab/a"]
    assert "1 of them is private or gated and not named" in text
    assert "| private teacher 1 | – |" in text
    assert "recovered.png" not in text
    public = str(publishable_record(source))
    assert not any(word in public for word in ("secret", "bob"))
    assert source == before

    named = render_card(record([teacher("lab/a"), secret], hub={"name_private_teachers": True}), picture=True)
    assert metadata(named)["base_model"] == ["lab/a", "lab/secret"]
    asked = render_card(record([teacher("lab/a"), secret], hub={"card_images": True}), picture=True)
    assert "](pictures/recovered.png)" in asked
    assert "secret" not in asked


def test_teachers_skipped_for_want_of_rights_are_not_named():
    skipped = [{"reference": "lab/secret", "reason": "lab/secret is private or does not exist; give a token"}]
    assert "secret" not in render_card(record(skipped=skipped), picture=False)
    skipped = [{"reference": "/home/alice/net", "reason": "/home/alice/net has 1 class"}]
    assert "- net: net has 1 class" in render_card(record(skipped=skipped), picture=False)


def test_picture_is_shown_only_for_public_teachers_or_on_request(tmp_path):
    assert shows_images(record())
    assert not shows_images(record([teacher("/x/net", repo_id=None)]))
    assert not shows_images(record(hub={"card_images": False}))
    assert "](pictures/recovered.png)" not in write_card(tmp_path, record()).read_text()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/recovered.png").write_bytes(b"png")
    assert "](pictures/recovered.png)" in write_card(tmp_path, record()).read_text()
    (tmp_path / "pictures/recovered.png").unlink()  # as when only the card is rewritten, away from the picture
    assert "](pictures/recovered.png)" in write_card(tmp_path, record()).read_text()


def test_a_start_from_published_weights_is_not_called_data_free():
    text = render_card(record(data_free=False), picture=False)
    assert "data-free" not in metadata(text)["tags"]
    assert "**Not data-free:**" in text
    assert "No data set was used" not in text


def test_new_results_leave_the_rest_of_an_edited_card_alone(tmp_path):
    path = write_card(tmp_path, record(results=[report()]))
    edited = path.read_text().replace("## How to use it", "## By hand\n\nKept.\n\n## How to use it")
    edited = edited.replace("library_name: hf-free", "library_name: hf-free\nlanguage: en")
    path.write_text(edited)
    better = report(rows=[row(accuracy=66.61)])
    other = report("org/flowers", "validation")
    update_results(tmp_path, better)
    text = update_results(tmp_path, other)
    assert path.read_text() == text
    assert "## By hand\n\nKept." in text
    assert metadata(text)["language"] == "en"
    assert text.count("### org/birds, split test") == text.count("### org/flowers, split validation") == 1
    assert "66.6 ± 0.8" in text
    assert "61.2 ± 0.8" in text  # the other data set's
    (index,) = metadata(text)["model-index"]
    places = [(entry["dataset"]["type"], entry["dataset"]["config"]) for entry in index["results"]]
    assert places == [("org/birds", "3-way 1-shot")] + [("org/flowers", f"3-way {k}-shot") for k in (1, 5)]
    assert index["results"][0]["metrics"][0]["value"] == 66.61
    assert update_results(text, other) == text


def test_results_go_into_a_card_that_is_not_ours():
    text = update_results("---\nlicense: mit\n---\n# Mine\n", report())
    assert metadata(text)["license"] == "mit"
    assert "# Mine\n" in text
    assert "## Results" in text
    assert "| pixels | 40.0 ± 0.8 | – |" in text
    with pytest.raises(HubError, match="metadata cannot be read"):
        update_results("---\nlicense: [mit\n---\n# Mine\n", report())


def test_a_local_data_set_is_named_without_its_folder():
    text = render_card(record(results=[report("/home/alice/data/birds")]), picture=False)
    assert "alice" not in text
    assert metadata(text)["model-index"][0]["results"][0]["dataset"] == {
        "name": "birds",
        "type": "local",
        "config": "3-way 1-shot",
        "split": "test",
    }


def test_the_hub_takes_the_card(hub, tokens, run_client, tmp_path):
    """The real client validates metadata at the Hub before it uploads a card."""
    folder = tmp_path / "learner"
    folder.mkdir()
    results = [report(NASTY[4], NASTY[1])]
    write_card(folder, record([teacher("lab/a", license=NASTY[0])], results=results, hub={"license": NASTY[1]}))
    code = f"""
from pathlib import Path
from huggingface_hub import ModelCard
from hf_free.hub.client import push_folder
push_folder(Path({str(folder)!r}), "alice/card", token={tokens["alice"]!r})
print(ModelCard.load("alice/card", token={tokens["alice"]!r}).data.license_name)
"""
    assert run_client(code).stdout.strip().endswith("other-x")
    assert hub.read_repo("alice/card")["README.md"] == (folder / "README.md").read_bytes()
