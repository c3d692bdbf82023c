"""The model card: what it says of a record, and that nothing breaks out of its place."""

from __future__ import annotations

import cProfile
import inspect
import re

import pytest
import yaml
from huggingface_hub import ModelCard, repocard
from records import body_of, config_of, local_teacher, metadata, record, report, row, secret_teacher, teacher

from hf_free.config.reading import merge
from hf_free.config.recipes import recipe_values
from hf_free.config.tree import FreeConfig
from hf_free.errors import RunError
from hf_free.methods.registry import METHODS
from hf_free.provenance.against_teachers import BEST_TEACHER
from hf_free.provenance.learner_record import LearnerRecord
from hf_free.publishing.card import write_card
from hf_free.publishing.redaction import PRIVATE

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


def typed(*arguments, **changes):
    """A record as `write_card` takes it."""
    return LearnerRecord.from_dict(record(*arguments, **changes))


def test_a_card_says_where_a_run_left_its_recipe(card):
    source = record(results=[])
    assert "not those of the method" not in card(source)
    source["config"] = FreeConfig.from_dict(
        {"method": "paper", "five": {"inner_steps": 9}, "learner": {"backbone": "resnet[12]"}}
    ).to_dict()
    said = "Settings that are not those of the method paper: `five.inner_steps` 9, `learner.backbone` resnet\\[12\\]."
    text = card(source)
    assert said in text


@pytest.mark.parametrize(
    ("method", "count", "said"),
    [
        ("default", 3, "a pooled learner of these teachers is likely to be the most accurate"),
        ("default", 40, "the learner that hf-free train makes of these teachers is likely"),
        ("paper", 3, None),
    ],
)
def test_a_card_forecasts_which_learner_of_these_teachers_is_best(card, method, count, said):
    config = FreeConfig.from_dict({"method": method}).to_dict()
    text = card(record(config=config, teachers=[teacher(f"lab/{index}") for index in range(count)], results=[]))
    assert ("Forecast" in text) == (said is not None)
    if said:
        assert said in text
        assert ("This is another kind of learner." if count == 3 else "This is one.") in text


def test_the_body_says_what_it_is_and_where_it_comes_from(card):
    source = record(
        results=[report(warnings=["few pictures"])],
        skipped=[{"reference": "lab/b", "reason": "outputs\nNaN"}] * 2,
        left_out={"lab/a: the teacher recognizes 10%": 3},
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
        "- 3 × lab/a: the teacher recognizes 10%",
        "80 pictures in 4 tasks were recovered and kept.\nTheir teachers recognize 92.5 % of them",
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
    source["config"] = {**merge(source["config"], changes), "method": name}
    text = card(source)
    line = next(line for line in text.splitlines() if line.startswith("| 1.5 | 100 |"))
    assert line.replace("\\", "").endswith(f"| {said} |")
    sentence = next((line for line in text.splitlines() if line.startswith("Settings that are not those")), "")
    assert sentence.startswith(f"Settings that are not those of the method {name}: ") == bool(others)
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
    reason = "not inverted any more: the teacher recognizes 12% of its recovered pictures"
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


@pytest.mark.parametrize(
    ("kind", "called"),
    [
        ({}, "only on pictures recovered from the teachers"),
        ({"learner": {"backbone": "pooled", "pooled": {"features": [4, 4], "answers": [0, 0]}}}, "**Pooled.**"),
        ({"imitation": {"pictures": 900, "agreement": 0.8}}, "what a *pooled learner* says of"),
    ],
    ids=["trained", "pooled", "distilled"],
)
def test_one_sentence_says_whether_the_learner_beats_its_teachers(card, kind, called):
    beside = [
        row(BEST_TEACHER, ahead=2.04, ahead_interval=0.5),
        row("all 2 teachers' features, concatenated", ahead=-1.5, ahead_interval=0.5),
    ]
    said = (
        "The learner beats its best teacher, chosen on other episodes (3-way 1-shot +2.0 ± 0.5) and loses to its "
        "teachers' features concatenated (3-way 1-shot -1.5 ± 0.5); points on the same episodes."
    )
    text = card(record(results=[report(rows=[row(), *beside])]) | kind)
    assert f"Accuracy on org/birds, split test: 3-way 1-shot 61.2 ± 0.8 %. {said}\n" in text
    assert called in text
    unknown = "How it does against its teachers was not measured: `hf-free evaluate me/learner"
    assert unknown not in text
    assert unknown in card(record(results=[report()]) | kind)
    assert unknown not in card(record(results=[]) | kind)


def test_the_paper_of_the_method_is_what_the_card_asks_to_cite(card):
    assert card(record()).count("@inproceedings{wei2024free,") == 1
    text = card(record(method=METHODS["purer"].facts.to_dict()))
    assert "@inproceedings{hu2023architecture,\n  title     = {Architecture, Dataset and Model-Scale" in text
    assert "wei2024free" not in text
    assert re.search(r"\nMethod: .*\.\n\nIt departs from its authors' code:\n\n- ", text), "a paragraph of its own"
    assert (
        "```"
        not in card(record(method={"paper": "```\n# x", "url": "https://x.org/```"}))
        .rpartition("@misc")[2]
        .split("\n```\n")[0]
    )


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
    text = write_card(tmp_path, typed(results=[report()]), repo_id="you/other").read_text()
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
    # without our comments and without code, where nothing acts
    markers = r"^<!-- hf-free: [a-z]+ (?:begins[a-z; ]*|ends) -->$"
    outside = re.sub(
        markers + r"|(?ms:^(`{3,}).*?^\1$)|(?<!\\)`[^`\n]*`", "", body_of(text), flags=re.MULTILINE
    )  # without code, where nothing acts
    assert not re.search(r"(?<!\\)<b>|(?<!\\)\]\(javascript|\{\{|(?<!\\)!|\x1b|\x00", outside)
    assert config_of(text)["hub"]["license"] == nasty


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
    text = write_card(tmp_path, typed(teachers, hub={"card_images": asked})).read_text()
    assert (PICTURE in text) == picture.exists() == shown
    assert ("recovered pictures are not shown here" in text) != shown


def test_a_picture_that_stays_in_the_repository_stays_in_the_card(tmp_path):
    """Results are added in a folder with config.json and README.md alone."""
    assert PICTURE not in write_card(tmp_path, typed()).read_text()
    (tmp_path / "README.md").write_text(f"![x{PICTURE}\n")
    assert PICTURE in write_card(tmp_path, typed()).read_text()
    (tmp_path / "model.safetensors").write_bytes(b"")  # the whole repository: what is not here is nowhere
    assert PICTURE not in write_card(tmp_path, typed()).read_text()


def test_a_broken_config_is_refused_and_left_alone(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RunError, match=r"config\.json cannot be read: "):
        write_card(tmp_path, typed())
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("config.json", "{")]


def test_the_hub_takes_the_card(tokens, hub, run_client, tmp_path):
    """The real client has the metadata validated at the Hub, and uploads the card the same way it was written."""
    if "https://huggingface.co/api" in inspect.getsource(repocard):
        pytest.skip("this huggingface_hub has cards validated at one Hub alone")
    folders = []
    for index, (first, second) in enumerate(zip(NASTY, reversed(NASTY), strict=True)):
        folders.append(tmp_path / str(index))
        teachers = [teacher("lab/a", license=first), local_teacher("/home/alice/net")]
        write_card(folders[-1], typed(teachers, results=[report(first, second)], hub={"license": second}))
    code = f"""
from pathlib import Path
from huggingface_hub import ModelCard, repocard
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


def test_a_card_of_ten_times_as_many_teachers_takes_ten_times_as_many_calls(tmp_path):
    """Of hidden ones too, whose names are looked for in every text."""

    def calls(count):
        hidden = [secret_teacher(reference=f"lab/hush{i}@x", repo_id=f"lab/hush{i}") for i in range(count)]
        profile = cProfile.Profile()
        profile.enable()
        write_card(tmp_path, typed(teachers=hidden))
        profile.disable()
        return sum(entry.callcount for entry in profile.getstats())

    assert calls(400) < 12 * calls(40)
