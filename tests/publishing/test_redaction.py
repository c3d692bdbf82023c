"""What of a record may be published: no private teacher's name, no path of somebody's machine."""

from __future__ import annotations

import copy
import json
import re

import pytest
from records import config_of, local_teacher, metadata, record, report, row, secret_teacher, teacher

from hf_free.config.sections import LearnerConfig
from hf_free.learner.meta_learner import MetaLearner
from hf_free.provenance.learner_record import LearnerRecord
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.publishing.card import write_card, write_public_config
from hf_free.publishing.redaction import PRIVATE, START, UNLOADED, public_record


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
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16))
    learner.record = LearnerRecord.from_dict(record(teachers))
    learner.save_pretrained(tmp_path)
    before = json.loads((tmp_path / "config.json").read_text())
    write_card(tmp_path, learner.full_record())
    after = json.loads((tmp_path / "config.json").read_text())
    assert {key: value for key, value in after.items() if key != "hf_free"} == {
        key: value for key, value in before.items() if key != "hf_free"
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "README.md", "config.json", "hf_free.safetensors", "model.safetensors",
    ]  # fmt: skip
    loaded = MetaLearner.from_pretrained(tmp_path)
    found = [entry.as_loaded() for entry in loaded.record.teachers]
    assert [entry.reference for entry in found] == ["lab/a", PRIVATE, "net"]
    assert found[0] == TeacherRecord.from_dict(teachers[0])
    assert (found[1].private, found[1].label_names, found[1].num_classes, found[1].license) == (True, None, 5, "mit")
    assert found[2].label_names == tuple(teachers[2]["label_names"])
    rewritten = (tmp_path / "config.json").stat().st_mtime_ns
    write_card(tmp_path, loaded.full_record())
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


def test_settings_that_hold_paths_are_replaced_whole_wherever_they_are_told():
    places = {
        "imports": ["/home/alice/my networks/own.py"],
        "hub": {"cache_dir": "/home/alice/big disk/cache"},
        "trainer": {"validation_dataset": "/home/alice/holiday photos/birds"},
    }
    source = record(left_out={f"{place} is not there": 1 for place in ("/home/alice/holiday photos/birds",)})
    source["config"] = {**source["config"], "imports": places["imports"]}
    source["config"]["hub"] |= places["hub"]
    source["config"]["trainer"] |= places["trainer"]
    public = public_record(source)
    assert public["config"]["imports"] == ["own.py"]
    assert public["config"]["hub"]["cache_dir"] == "cache"
    assert public["config"]["trainer"]["validation_dataset"] == "birds"
    assert public["left_out"] == {"birds is not there": 1}
    assert not re.search("alice|my networks|big disk|holiday photos", json.dumps(public))


def test_where_checkpoints_went_is_not_told():
    source = record(hub={"push_checkpoints": "alice/half-done"})
    public = public_record(source)
    assert "half-done" not in json.dumps(public)
    assert public["config"]["hub"]["push_checkpoints"] is None
    assert source["config"]["hub"]["push_checkpoints"] == "alice/half-done", "the run's own record stays"


def test_a_classifiers_config_does_not_say_where_its_learner_was_published(tmp_path):
    block = {**record(hub={"push_to_hub": "alice/learner"}), "repo_id": "alice/learner"}
    for folder in ("learner", "classifier"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(json.dumps({"hf_free": block}))
    (tmp_path / "classifier" / "classifier.json").write_text("{}")
    found = {}
    for folder in ("learner", "classifier"):
        write_public_config(tmp_path / folder / "config.json")
        found[folder] = json.loads((tmp_path / folder / "config.json").read_text())["hf_free"]
    assert "alice" not in json.dumps(found["classifier"])
    assert found["learner"]["repo_id"] == found["learner"]["config"]["hub"]["push_to_hub"] == "alice/learner"
    assert found["classifier"]["teachers"] == found["learner"]["teachers"]
