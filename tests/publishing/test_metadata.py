"""The card's metadata, as huggingface_hub writes and reads it."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from records import body_of, local_teacher, metadata, record, report, row, secret_teacher, teacher

from hf_free.hub.loopback.card_rules import card_errors
from hf_free.provenance.learner_record import LearnerRecord
from hf_free.publishing.card import write_card
from hf_free.publishing.metadata import eval_results
from hf_free.publishing.redaction import public_record
from hf_free.publishing.results import valid_id


def test_the_clients_read_the_metadata_back(tmp_path):
    source = record(results=[report(rows=[*report()["rows"], row("learner, x", inductive=False)])])
    path = write_card(tmp_path, LearnerRecord.from_dict(source))
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
        (["mit", "MIT"], None, None, "mit", "mit, the license of every teacher"),
        (["cc-by-4.0"], None, None, "cc-by-4.0", "the license of every teacher"),
        (["mit", "apache-2.0"], None, None, None, "the teachers' licenses differ"),
        (["mit", None], None, None, None, r"not every teacher states one.*1 × none stated"),
        (["cc-by-nc-4.0"] * 2, None, None, None, r"plainly allows.*2 × cc-by-nc-4.0 \(not for commercial use\)"),
        (["gpl-3.0"], None, None, None, "plainly allows any use"),
        (["mit"], None, "timm:resnet18", None, "weights it started from"),
        ([], None, None, None, "no teachers are recorded"),
        (["mit", None], "Apache-2.0", None, "apache-2.0", "Apache-2.0, chosen by the publisher"),
    ],
)
def test_the_license_is_given_or_derived_and_never_invented(card, licenses, chosen, start, expected, said):
    teachers = [teacher(f"lab/t{index}", license=value) for index, value in enumerate(licenses)]
    text = card(record(teachers, hub={"license": chosen}, learner={"init_from": start}))
    assert metadata(text).get("license") == expected
    section = re.search(r"(?ms)^## License\n\n(.*?)\n\n##", text).group(1)
    assert re.search(said, section)
    assert section.startswith("No license is stated") == (expected is None)


def test_a_license_that_the_hub_does_not_list_is_called_other(card):
    found = metadata(card(record(hub={"license": "My Own License 1"})))
    assert (found["license"], found["license_name"]) == ("other", "my-own-license-1")


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


def test_a_license_section_names_the_license_of_the_weights_it_is_derived_from(card):
    teachers = [teacher("lab/a", license="mit"), teacher("lab/b", license="cc-by-4.0")]
    derived = card({**record(teachers), "imitation": {"started_from": 1}})
    assert "derived from the weights of one of them (cc-by-4.0)" in " ".join(body_of(derived).split())
    assert "license" not in metadata(derived), "the teachers' differ"
    assert "It began as the network of teacher 2 below" in derived
    for place in (None, 2, -1):
        assert "derived from the weights" not in card({**record(teachers), "imitation": {"started_from": place}})
