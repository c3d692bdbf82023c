"""The model card: valid whatever strings occur, read back with the Hub's own client and a plain YAML parser."""

from __future__ import annotations

import copy
import json
import re

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard

from hf_free.config.reading import merge
from hf_free.config.recipes import recipe_values
from hf_free.config.sections import LearnerConfig
from hf_free.config.tree import FreeConfig
from hf_free.errors import RunError
from hf_free.hub.loopback.card_rules import card_errors
from hf_free.learner.meta_learner import MetaLearner
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.publishing.card import write_card
from hf_free.publishing.metadata import eval_results
from hf_free.publishing.redaction import PRIVATE, START, UNLOADED, public_record
from hf_free.publishing.results import valid_id

NASTY = [
    "mit\nbase_model: evil/x",
    "other: x",
    "`code` | cell <b>html</b> [link](javascript:x) ![i](x) &lt;",
    "---\n# heading\n---",
    "'quote' \"double\" {{ 7 * 7 }} {% raw %} \\ & * # @ %",
    "```\n~~~ end of fence",
    "ünïcode 数字 🦉 \x1b[2J\u2028x\x00",
    "- null",
    "yes",
]
PICTURE = "](pictures/recovered.png)"


def teacher(name="lab/a", **changes):
    values = TeacherRecord(
        reference=name, repo_id=name, commit="0123456789" * 4, architecture="conv4_32", parameters=28485,
        input_size=(3, 32, 32), fixed_input_size=False, mean=(0.5,) * 3, std=(0.2,) * 3, interpolation="bicubic",
        num_classes=5, label_names=("zero", "one", "two", "three", "four"), num_features=288,
        normalization={"BatchNorm2d": 4}, license="mit", sha256={"model.safetensors": "ab" * 32},
    ).to_dict()  # fmt: skip
    return {**values, **changes}


def local_teacher(path, **changes):
    return teacher(path, repo_id=None, commit=None, **changes)


def secret_teacher(**changes):
    """A private teacher: every word of it that must not come out holds `hush`, but for the commit."""
    changes = {"private": True, "notes": ["hush note"], "label_names": ["hush_face", "b"], **changes}
    return teacher("lab/hush", **{"reference": "lab/hush@hush-1:0-4", "commit": "feedbeef" * 5, **changes})


def row(method="learner", k_shot=1, accuracy=61.24, **changes):
    values = {"n_way": 3, "n_query": 15, "episodes": 600, "interval": 0.83, "inductive": True, "seconds": 1.0}
    return {"method": method, "k_shot": k_shot, "accuracy": accuracy, "note": "", **values, **changes}


def report(dataset="org/birds", split="test", **changes):
    rows = [row(), row(k_shot=5, accuracy=72.96), row("pixels (8x8)", accuracy=40.0)]
    values = {"warnings": [], "rows": rows, "seed": 0, "pictures": 60, "classes": 3}
    return {"dataset": dataset, "split": split, **values, **changes}


def record(teachers=None, results=(), hub=None, learner=None, models=(), **changes):
    """A record in the form that the trainer writes."""
    teachers = [teacher("lab/a"), teacher("lab/b")] if teachers is None else teachers
    config = {
        "models": [entry["reference"] for entry in teachers] + list(models),
        "hub": {"push_to_hub": "me/learner", **(hub or {})},
        "learner": learner or {},
    }
    return {
        "config": FreeConfig.from_dict(config).to_dict(),
        "teachers": teachers,
        "skipped": [],
        "left_out": {},
        "data_free": True,
        "results": list(results),
        "recovered": {"tasks": 4, "images": 80, "teacher_accuracy": 0.925, "diversity": 0.31},
        "training": {"minutes": 1.5, "steps": 100, "best_step": 90, "device": "cpu", "threads": 2,
                     "mixed_precision": "no"},
        "versions": {"hf_free": "0.1.0", "torch": "2.14.1"},
        **changes,
    }  # fmt: skip


def test_a_card_says_where_a_run_left_its_recipe(card):
    source = record(results=[])
    assert "not those of the recipe" not in card(source)
    source["config"] = FreeConfig.from_dict(
        {"recipe": "paper", "five": {"inner_steps": 9}, "learner": {"backbone": "resnet[12]"}}
    ).to_dict()
    said = "Settings that are not those of the recipe paper: `five.inner_steps` 9, `learner.backbone` resnet\\[12\\]."
    text = card(source)
    assert said in text


@pytest.fixture
def card(tmp_path):
    """Text of the card that a record gives in an empty folder."""

    def written(source):
        return write_card(tmp_path / "learner", source).read_text(encoding="utf-8")

    return written


def metadata(text):
    """The card's YAML, read by a plain parser."""
    return yaml.safe_load(re.match(r"---\n(.*?)\n---\n", text, re.DOTALL).group(1))


def body_of(text):
    return text.split("\n---\n", 1)[1]


def config_of(text):
    """The configuration block of a card, read back."""
    return yaml.safe_load(re.search(r"(?ms)^(`{3,})yaml\n(.*?)^\1$", text).group(2))


# ---- metadata


def test_the_clients_read_the_metadata_back(tmp_path):
    path = write_card(tmp_path, record(results=[report(rows=[*report()["rows"], row("learner, x", inductive=False)])]))
    assert path == tmp_path / "README.md"
    data = ModelCard.load(path).data
    assert (data.library_name, data.pipeline_tag, data.license) == ("hf-free", "image-classification", "mit")
    assert data.tags == ["few-shot", "meta-learning", "data-free", "timm", "FREE"]
    assert (data.base_model, data["base_model_relation"]) == (["lab/a", "lab/b"], "finetune")
    found = [(r.dataset_type, r.dataset_split, r.dataset_config, r.metric_value) for r in data.eval_results]
    assert found == [("org/birds", "test", "3-way 1-shot", 61.24), ("org/birds", "test", "3-way 1-shot", 61.24),
                     ("org/birds", "test", "3-way 5-shot", 72.96)]  # fmt: skip
    assert data.eval_results[0].metric_args == {
        "method": "learner", "n_way": 3, "k_shot": 1, "n_query": 15, "episodes": 600, "interval_95": 0.83,
    }  # fmt: skip
    assert data.eval_results[0].metric_name == "3-way 1-shot accuracy in percent, 95 % interval ± 0.83"
    assert "transductive" in data.eval_results[1].metric_name
    assert metadata(path.read_text()) == yaml.safe_load(data.to_yaml())


def test_base_models_are_public_hub_ids_each_once(card):
    teachers = [teacher("lab/a", reference="lab/a:0-4"), teacher("lab/a", reference="lab/a:5-9"),
                local_teacher("/home/alice/net"), secret_teacher(), teacher("x", repo_id="../x")]  # fmt: skip
    found = metadata(card(record(teachers, hub={"base_model_relation": "adapter"})))
    assert (found["base_model"], found["base_model_relation"]) == (["lab/a"], "adapter")
    alone = metadata(card(record([local_teacher("/home/alice/net")])))
    assert not {"base_model", "base_model_relation"} & set(alone)


@pytest.mark.parametrize("text", ["./a", "/a/b", "a", "a/b/c", "a/b\nc/d", "../b", "a/..", None, "~/b", "a/b@main"])
def test_paths_are_no_hub_ids(text):
    assert valid_id(text) is None
    assert valid_id("org.x/name_y-1") == "org.x/name_y-1"


@pytest.mark.parametrize(
    ("licenses", "chosen", "start", "expected", "said"),
    [
        (["mit", "MIT"], None, None, "mit", "mit, the licence of every teacher"),
        (["cc-by-4.0"], None, None, "cc-by-4.0", "the licence of every teacher"),
        (["mit", "apache-2.0"], None, None, None, "the teachers' licences differ"),
        (["mit", None], None, None, None, r"not every teacher states one.*1 × none stated"),
        (["cc-by-nc-4.0"] * 2, None, None, None, r"plainly allows.*2 × cc-by-nc-4.0 \(not for commercial use\)"),
        (["gpl-3.0"], None, None, None, "plainly allows any use"),
        (["mit"], None, "timm:resnet18", None, "weights it started from"),
        ([], None, None, None, "no teachers are recorded"),
        (["mit", None], "Apache-2.0", None, "apache-2.0", "Apache-2.0, chosen by the publisher"),
    ],
)
def test_the_licence_is_given_or_derived_and_never_invented(card, licenses, chosen, start, expected, said):
    teachers = [teacher(f"lab/t{index}", license=value) for index, value in enumerate(licenses)]
    text = card(record(teachers, hub={"license": chosen}, learner={"init_from": start}))
    assert metadata(text).get("license") == expected
    section = re.search(r"(?ms)^## Licence\n\n(.*?)\n\n##", text).group(1)
    assert re.search(said, section)
    assert section.startswith("No licence is stated") == (expected is None)


def test_a_licence_that_the_hub_does_not_list_is_called_other(card):
    found = metadata(card(record(hub={"license": "My Own License 1"})))
    assert (found["license"], found["license_name"]) == ("other", "my-own-license-1")


# ---- the text


def test_the_body_says_what_it_is_and_where_it_comes_from(card):
    source = record(
        results=[report(warnings=["few pictures"])],
        skipped=[{"reference": "lab/b", "reason": "outputs\nNaN"}] * 2,
        left_out={"lab/a: the teacher recognises 10%": 3},
    )
    text = card(source)
    for part in (
        "# learner\n",
        "from 2 pretrained image classifiers, without any of their data",
        "**Data-free.**",
        "Accuracy on org/birds, split test: 3-way 1-shot 61.2 ± 0.8 %, 3-way 5-shot 73.0 ± 0.8 %.",
        'MetaLearner.from_pretrained("me/learner")',
        "hf-free predict me/learner --support",
        "| method | 3-way 1-shot | 3-way 5-shot |\n|---|---:|---:|\n"
        "| **learner** | 61.24 ± 0.83 | 72.96 ± 0.83 |\n| pixels (8x8) | 40.00 ± 0.83 | – |",
        "600 episodes with 15 queries per class, drawn from 60 pictures of 3 classes, seed 0.",
        "- Mind: few pictures",
        f"| 1 | [lab/a](https://huggingface.co/lab/a/tree/{'0123456789' * 4}) | `01234567` "
        "| `abababababab` | conv4_32 | 28.5 k | 4 × BatchNorm2d | 3×32×32 | 5 | mit |",
        "Left out:\n\n- lab/b: outputs NaN\n\n",
        "- 3 × lab/a: the teacher recognises 10%",
        "80 pictures in 4 tasks were recovered and kept.\nTheir teachers recognise 92.5 % of them",
        "| 1.5 | 100 | 90 | cpu | 2 | no | 0 | default |",
        "Versions: hf_free 0.1.0, torch 2.14.1.",
        "can reveal what it was trained on",
        "{Wei, Yongxian and Hu, Zixuan",
        "arXiv:2405.00984",
    ):  # fmt: skip
        assert part in text
    assert FreeConfig.from_dict(config_of(text)).to_dict() == source["config"]


@pytest.mark.parametrize(
    ("name", "changes", "said", "others"),
    [
        ("default", {}, "default", []),
        ("paper", recipe_values("paper"), "paper", []),
        ("released", recipe_values("released"), "released", []),
        ("paper", {}, "paper", ["five.inner_lr", "five.latent_lr", "five.outer_lr"]),
        ("default", {"bell": {"lr": 0.5}, "five": {"inner_steps": 7}}, "default", ["five.inner_steps", "bell.lr"]),
        ("default", {"defects": ["outer_optimizer_reborn"]}, "default", ["defects"]),
        ("of a later version", {}, "of a later version", []),
        (None, {}, "–", []),
    ],
)
def test_the_recipe_is_named_as_it_was_run(card, name, changes, said, others):
    """The name alone proves nothing: a configuration may hold `paper` and other values than the recipe's."""
    source = record()
    source["config"] = {**merge(source["config"], changes), "recipe": name}
    text = card(source)
    line = next(line for line in text.splitlines() if line.startswith("| 1.5 | 100 |"))
    assert line.replace("\\", "").endswith(f"| {said} |")
    sentence = next((line for line in text.splitlines() if line.startswith("Settings that are not those")), "")
    assert sentence.startswith(f"Settings that are not those of the recipe {name}: ") == bool(others)
    named = re.findall(r"`([a-z_.]+)` ", sentence)
    assert named[: len(others)] == others
    assert len(named) == len(others) or name == "paper"


def test_classes_of_a_list_and_hashes_of_public_teachers_stand_in_the_table(card):
    chosen = {"reference": "teachers.yaml#2", "classes": (3, 7, 8, 9)}
    secret = secret_teacher(classes=(5, 6), sha256={"model.safetensors": "cd" * 32})
    teachers = [teacher("lab/a", **chosen), secret, local_teacher("/home/alice/net", classes=(0, 2))]
    text = card(record(teachers))
    assert f"tree/{'0123456789' * 4}), classes 3,7-9 | `01234567` | `abababababab` |" in text
    assert "| net (local), classes 0,2 | – | `abababababab` |" in text
    assert f"| {PRIVATE} | – | – |" in text
    assert "cdcdcd" not in text


@pytest.mark.parametrize(
    ("classes", "max_classes", "objective", "start", "said"),
    [
        ((5, 6, 8), 20, "align", None, "teachers 2, 3"),
        ((6, 7, 8), 20, "align", "timm:resnet18", "any of them"),
        ((5, 4, 2), 20, "align", None, None),
        ((5, 6, 8), 5, "align", None, None),
        ((5, 6, 8), 20, "distill", None, None),
        ((5, 6, 8), 20, "align", "lab/old", None),
    ],
)
def test_teachers_too_wide_for_the_head_of_align_are_named(card, classes, max_classes, objective, start, said):
    source = record([teacher(f"lab/{n}", num_classes=n) for n in classes], learner={"init_from": start})
    source["config"]["bell"]["objective"], source["config"]["five"]["max_classes"] = objective, max_classes
    text = " ".join(card(source).split())
    assert ("Nothing was distilled" in text) == (said is not None)
    assert said is None or f"Nothing was distilled from {said}: the head that was trained has 5 outputs" in text


def test_teachers_that_were_asked_but_not_inverted_are_not_called_left_out(card):
    reason = "not inverted any more: the teacher recognises 12% of its recovered pictures"
    skipped = [
        {"reference": "lab/b", "reason": reason, "asked": True},
        {"reference": "lab/a", "reason": "not inverted any more: its outputs are not finite"},
    ]
    text = card(record(skipped=skipped))
    asked, left_out = text.index("but not inverted:"), text.index("Left out:")
    assert asked < text.index(f"- lab/b: {reason}") < left_out < text.index("- lab/a: not inverted any more")


def test_rows_without_a_figure_and_transductive_rows_say_so(card):
    rows = [row("learner, soft k-means", inductive=False), row("teacher lab/a", accuracy=None, note="not available")]
    text = card(record(results=[report(rows=rows)]))
    assert "| teacher lab/a | – |" in text
    assert "- teacher lab/a: not available" in text
    assert "- learner, soft k-means: transductive, all queries of an episode are seen together" in text
    assert len(metadata(text)["model-index"][0]["results"]) == 1
    assert "Accuracy on" not in text


def test_a_bare_record_makes_a_card(card):
    text = card({})
    assert metadata(text) == {
        "library_name": "hf-free", "pipeline_tag": "image-classification",
        "tags": ["few-shot", "meta-learning", "data-free", "timm", "FREE"],
    }  # fmt: skip
    assert "How it was trained is not recorded." in text
    assert "Not measured yet" in text
    assert 'from_pretrained("ORG/NAME")' in text


def test_the_repository_can_be_named_when_it_is_known(tmp_path):
    text = write_card(tmp_path, record(results=[report()]), repo_id="you/other").read_text()
    assert 'from_pretrained("you/other")' in text
    assert metadata(text)["model-index"][0]["name"] == "other"


def test_a_start_from_published_weights_is_not_called_data_free(card):
    text = card(record(data_free=False, learner={"init_from": "timm:resnet18"}))
    assert "data-free" not in metadata(text)["tags"]
    assert "**Not data-free.** It started from weights that were trained on pictures (timm:resnet18)" in text
    assert "**Data-free.**" not in text
    assert "without any of their data" not in text


def test_many_teachers_are_folded(card):
    assert "<details><summary>All 13</summary>" in card(record([teacher(f"lab/t{i}") for i in range(13)]))
    assert "<summary>All" not in card(record([teacher(f"lab/t{i}") for i in range(12)]))


@pytest.mark.parametrize("nasty", NASTY)
def test_nothing_breaks_out_of_the_metadata_or_the_page(card, nasty):
    bad = teacher("lab/a", license=nasty, architecture=nasty, commit=nasty, normalization={nasty: 1})
    text = card(record(
        [bad, teacher(nasty, repo_id=nasty)],
        results=[report(nasty, nasty, warnings=[nasty], rows=[row(), row(nasty, note=nasty)])],
        hub={"license": nasty}, skipped=[{"reference": nasty, "reason": nasty}], left_out={nasty: 1},
        versions={nasty: nasty}, training={"steps": 1, "minutes": 1, "device": nasty},
    ))  # fmt: skip
    plain = card(record())
    found = metadata(text)
    assert set(found) == {*metadata(plain), "model-index", "license_name", "metrics"}
    assert (found["base_model"], found["license"]) == (["lab/a"], "other")
    assert yaml.safe_load(ModelCard(text).data.to_yaml()) == found
    headings = [[line for line in body_of(each).splitlines() if re.match(r"#{1,2} ", line)] for each in (text, plain)]
    assert headings[0] == headings[1]
    rows = [line for line in text.splitlines() if line.startswith("| ") and "28.5 k" in line]
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in rows] == [11, 11]
    outside = re.sub(r"(?ms)^(`{3,}).*?^\1$|(?<!\\)`[^`\n]*`", "", body_of(text))  # without code, where nothing acts
    assert not re.search(r"(?<!\\)<b>|(?<!\\)\]\(javascript|\{\{|(?<!\\)!|\x1b|\x00", outside)
    assert config_of(text)["hub"]["license"] == nasty


# ---- what is not published


@pytest.mark.parametrize("kind", ["private", "gated"])
def test_private_and_gated_teachers_are_named_nowhere_unless_asked_for(card, kind):
    cache = "/home/alice/.cache/huggingface/hub/models--lab--hush/snapshots/feedbeefff/config.json"
    reason = (
        f"LAB/hush at feedbee is bad, see https://huggingface.co/lab/hush/tree/feedbeef, {cache}: models--lab--hush"
    )
    rows = [row(), row("teacher lab/hush@hush-1:0-4", accuracy=None, note=reason)]
    source = record(
        [teacher("lab/a"), teacher("lab/hush2"), secret_teacher(**{"private": False, kind: True})],
        results=[report(rows=rows, warnings=["1 of 3 classes (hush face, owl): they may not be new"])],
        skipped=[{"reference": "lab/hush@hush-1:0-4", "reason": reason}],
        left_out={"lab/hush@hush-1:0-4: no accuracy": 3},
    )
    before = copy.deepcopy(source)
    text, public = card(source), public_record(source)
    for shown in (text, json.dumps(public)):
        kept = shown.replace("lab/hush2", "")  # another repository, whose name begins alike
        assert not re.search("hush|feedbee|alice", kept, re.IGNORECASE)
    assert metadata(text)["base_model"] == ["lab/a", "lab/hush2"]
    assert "1 of them is private or gated and not named" in text
    assert f"| 3 | {PRIVATE} | – |" in text
    assert f"- 3 × {PRIVATE}: no accuracy" in text
    assert config_of(text)["models"] == ["lab/a", "lab/hush2", PRIVATE]
    assert public["results"][0]["warnings"] == ["1 of 3 classes (…, owl): they may not be new"]
    assert source == before
    assert public_record(public) == public

    named = card({**source, "config": record(source["teachers"], hub={"name_private_teachers": True})["config"]})
    assert metadata(named)["base_model"] == ["lab/a", "lab/hush2", "lab/hush"]
    assert f") ({kind}), classes 0-4 | `feedbeef` |" in named
    assert "alice" not in named


def test_the_published_teachers_can_still_be_read(tmp_path):
    teachers = [teacher("lab/a"), secret_teacher(), local_teacher("/home/alice/net")]
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16), record(teachers))
    learner.save_pretrained(tmp_path)
    before = json.loads((tmp_path / "config.json").read_text())
    write_card(tmp_path, learner.hf_free_block())
    after = json.loads((tmp_path / "config.json").read_text())
    assert {key: value for key, value in after.items() if key != "hf_free"} == {
        key: value for key, value in before.items() if key != "hf_free"
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "README.md", "config.json", "hf_free.safetensors", "model.safetensors",
    ]  # fmt: skip
    loaded = MetaLearner.from_pretrained(tmp_path)
    found = [TeacherRecord.from_dict(entry) for entry in loaded.record["teachers"]]
    assert [entry.reference for entry in found] == ["lab/a", PRIVATE, "net"]
    assert found[0] == TeacherRecord.from_dict(teachers[0])
    assert (found[1].private, found[1].label_names, found[1].num_classes, found[1].license) == (True, None, 5, "mit")
    assert found[2].label_names == tuple(teachers[2]["label_names"])
    rewritten = (tmp_path / "config.json").stat().st_mtime_ns
    write_card(tmp_path, loaded.hf_free_block())
    assert (tmp_path / "config.json").stat().st_mtime_ns == rewritten  # nothing was left to redact


def test_teachers_that_could_not_be_loaded_are_not_named(card):
    reason = "'lab/hush' is private or does not exist (cached in '/home/alice/my files/hub')"
    skipped = [{"reference": "lab/hush@v1", "reason": reason}, {"reference": "/home/alice/net", "reason": "1 class"}]
    text = card(record(skipped=skipped, models=["lab/hush@v1", "/home/alice/net"]))
    assert "hush" not in text
    assert "alice" not in text
    assert f"- {UNLOADED}: '{UNLOADED}' is private or does not exist (cached in 'hub')" in text
    assert "- net: 1 class" in text
    assert config_of(text)["models"] == ["lab/a", "lab/b", UNLOADED, "net"]
    public = {"reference": "lab/pickles", "reason": "lab/pickles holds only pickles", "private": False, "gated": False}
    assert "- lab/pickles: lab/pickles holds only pickles" in card(record(skipped=[public], models=["lab/pickles"]))
    named = card(record(skipped=skipped, hub={"name_private_teachers": True}))
    assert "- lab/hush@v1: 'lab/hush' is private" in named


@pytest.mark.parametrize(
    ("path", "name"),
    [("/home/alice/zoo/net/", "net"), ("../alice/net", "net"), ("~/alice/net", "net"), ("C:\\alice\\net", "net"),
     ("alice/net", "net"), ("/home/alice/my net", "my net"), (".", "a local folder")],
)  # fmt: skip
def test_local_folders_shrink_to_their_name(card, path, name):
    skipped = [{"reference": path, "reason": f"{path} outputs NaN (read from {path}/config.json)"}]
    text = card(record([teacher("lab/a"), local_teacher(path)], skipped=skipped, left_out={f"{path}: NaN": 1}))
    assert "alice" not in text
    assert f"| 2 | {name} (local) | – |" in text
    assert config_of(text)["models"] == ["lab/a", name]


@pytest.mark.parametrize(
    ("start", "shown"),
    [("timm:resnet18", "timm:resnet18"), ("/home/alice/run/learner", "learner"), ("lab/hush@v1", START),
     ("lab/a", "lab/a")],
)  # fmt: skip
def test_a_learner_to_start_from_is_not_named_where_it_may_be_private(card, start, shown):
    source = record(learner={"init_from": start}) | {"init_from": start}
    assert config_of(card(source))["learner"]["init_from"] == shown
    assert public_record(source)["init_from"] == shown


def test_results_on_local_pictures_are_named_without_the_folder(card):
    again = report("/home/alice/data/birds", rows=[row(), row(k_shot=5)])
    text = card(record(results=[report("/home/alice/data/birds", rows=[row()]), again]))
    assert "alice" not in text
    assert [entry["dataset"] for entry in metadata(text)["model-index"][0]["results"]] == [
        {"name": "birds", "type": "local", "config": f"birds, 3-way {shot}-shot", "split": "test"} for shot in (1, 5)
    ]


# ---- every result keeps its own identity


def own_results(text):
    """(data set, setting, value) of the results that the Hub's client reads back, and as plain YAML has them."""
    data = ModelCard(text).data
    return [(r.dataset_name, f"{r.metric_args['n_way']}-way {r.metric_args['k_shot']}-shot", r.metric_value)
            for r in data.eval_results]  # fmt: skip


def measured(dataset, accuracy, split="test", **changes):
    return report(dataset, split, rows=[row(accuracy=accuracy)], **changes)


@pytest.mark.parametrize(
    ("reports", "names"),
    [
        ([measured("/data/birds", 20.0), measured("/data/cats", 72.2)], ["birds", "cats"]),
        ([measured("/a/birds", 20.0), measured("/b/birds", 72.2)], ["birds", "birds (2)"]),
        ([measured("org/birds:red", 20.0), measured("org/birds:blue", 72.2)], ["org/birds:red", "org/birds:blue"]),
        ([measured("org/birds", 20.0), measured("org/birds:blue", 72.2)], ["org/birds", "org/birds:blue"]),
        ([measured("org/birds", 20.0, "a"), measured("org/birds", 72.2, "b")], ["org/birds"] * 2),
        ([measured("org/birds", 20.0), measured("org/birds", 72.2, revision="v2")], ["org/birds"] * 2),
        ([measured("a/birds", 20.0, local=True), measured("a/birds", 72.2, local=False)], ["birds", "a/birds"]),
        ([measured("birds", 20.0, local=True, fingerprint="1"), measured("/x/birds", 72.2, fingerprint="2")],
         ["birds", "birds (2)"]),
    ],
)  # fmt: skip
def test_results_on_different_data_are_not_read_back_as_one(card, reports, names):
    text = card(record(results=reports))
    assert own_results(text) == [(names[0], "3-way 1-shot", 20.0), (names[1], "3-way 1-shot", 72.2)]
    assert len(metadata(text)["model-index"][0]["results"]) == 2
    body = body_of(text)
    assert body.count("### ") == 2
    public = public_record(record(results=reports))
    assert public_record(public) == public


def test_every_result_is_read_back_equal(card):
    """Folders, configurations, splits, ways, shots, transductive rows, and numbers as numpy and torch give them."""
    settings = [(5, 1), (5, 5), (3, 1), (20, 1)]
    reports = []
    for place, dataset in enumerate(["/d/birds", "/e/birds", "/d/cats", "org/set", "org/set:one", "org/set:two"]):
        for split in ("test", "validation"):
            rows = []
            for index, (n_way, k_shot) in enumerate(settings):
                accuracy = np.float32(20 + 7 * place + index)
                numbers = {"n_way": np.int64(n_way), "k_shot": torch.tensor(k_shot), "interval": np.float64(0.5)}
                rows += [row(accuracy=accuracy, **numbers), row("learner, soft k-means", inductive=False, **numbers)]
            reports.append(report(dataset, split, rows=tuple(rows), pictures=np.int64(9)))
    source = record(results=reports)
    written = eval_results(LearnerRecord.from_dict(public_record(source)))
    assert len(written) == 6 * 2 * 4 * 2
    text = card(source)
    assert ModelCard(text).data.eval_results == written
    assert not re.search(r"!!python|!!binary", text)
    identities = {(r.dataset_name, r.dataset_split, r.metric_args["n_way"], r.metric_args["k_shot"]) for r in written}
    assert len(identities) == 6 * 2 * 4
    kept = {result.unique_identifier: result.dataset_name for result in written}
    assert all(kept[result.unique_identifier] == result.dataset_name for result in written)
    assert card_errors(text) == []


@pytest.mark.parametrize("name", ["learner-old", "learners/b", "compared learner"])
def test_a_learner_that_it_is_compared_with_is_not_taken_for_itself(card, name):
    text = card(record(results=[report(rows=[row(), row(name, accuracy=99.0)])]))
    assert own_results(text) == [("org/birds", "3-way 1-shot", 61.24)]
    assert "99.00" in body_of(text)


def test_paths_are_found_and_other_slashes_left_alone():
    def scrubbed(text):
        return public_record({"recovered": {"note": text}})["recovered"]["note"]

    for text in ("and/or 3/4 of image/png", "https://a.org/b/c?d=/", "lab/a", "a // b", "1 / 2", "w/ it"):
        assert scrubbed(text) == text
    assert scrubbed("in /home/al/x.py: (/tmp/y), file:///z/w, dir:/q/r and '/a b/c d'") == (
        "in x.py: (y), w, dir:r and 'c d'"
    )
    labels = {"teachers": [teacher(label_names=["/m/01g317"])]}
    assert public_record(labels)["teachers"][0]["label_names"] == ["/m/01g317"]


@pytest.mark.parametrize(
    ("teachers", "asked", "shown"),
    [
        ([teacher()], None, True),
        ([teacher()], False, False),
        ([teacher(), secret_teacher()], None, False),
        ([teacher(), teacher("lab/g", gated=True)], None, False),
        ([teacher(), secret_teacher()], True, True),
        ([teacher(), local_teacher("/x/net")], None, False),
        ([teacher(), local_teacher("/x/net")], True, True),
    ],
)
def test_the_picture_is_pushed_only_for_public_teachers_or_on_request(tmp_path, teachers, asked, shown):
    picture = tmp_path / "pictures" / "recovered.png"
    picture.parent.mkdir()
    picture.write_bytes(b"png")
    text = write_card(tmp_path, record(teachers, hub={"card_images": asked})).read_text()
    assert (PICTURE in text) == picture.exists() == shown
    assert ("recovered pictures are not shown here" in text) != shown


def test_a_picture_that_stays_in_the_repository_stays_in_the_card(tmp_path):
    """Results are added in a folder with config.json and README.md alone."""
    assert PICTURE not in write_card(tmp_path, record()).read_text()
    (tmp_path / "README.md").write_text(f"![x{PICTURE}\n")
    assert PICTURE in write_card(tmp_path, record()).read_text()
    (tmp_path / "model.safetensors").write_bytes(b"")  # the whole repository: what is not here is nowhere
    assert PICTURE not in write_card(tmp_path, record()).read_text()


def test_a_broken_config_is_refused_and_left_alone(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RunError, match=r"config\.json is not JSON"):
        write_card(tmp_path, record())
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("config.json", "{")]


# ---- a Hub


def test_the_hub_takes_the_card(tokens, hub, run_client, tmp_path):
    """The real client has the metadata validated at the Hub, and uploads the card the same way it was written."""
    folders = []
    for index, (first, second) in enumerate(zip(NASTY, reversed(NASTY), strict=True)):
        folders.append(tmp_path / str(index))
        teachers = [teacher("lab/a", license=first), local_teacher("/home/alice/net")]
        write_card(folders[-1], record(teachers, results=[report(first, second)], hub={"license": second}))
    code = f"""
from pathlib import Path
from huggingface_hub import ModelCard
from hf_free.hub.upload import push_folder
for folder in {[str(folder) for folder in folders]!r}:
    ModelCard.load(Path(folder) / "README.md").validate()
bad = ModelCard(Path(folder, "README.md").read_text().replace("- lab/a", "- /home/alice/net"))
try:
    bad.validate()
except ValueError as error:
    print("refused:", "base_model" in str(error))
push_folder(Path(folder), "alice/card", token={tokens["alice"]!r})
print(ModelCard.load("alice/card", token={tokens["alice"]!r}).data.license_name)
"""
    assert run_client(code).stdout.split() == ["refused:", "True", "mit-base-model-evil-x"]
    assert hub.read_repo("alice/card")["README.md"] == (folders[-1] / "README.md").read_bytes()
