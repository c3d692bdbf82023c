"""Pushing a saved learner, and results into a published card, to the loopback Hub."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from records import secret_teacher, teacher

from hf_free.errors import HubError, PushError, RunError, UnfitRepositoryError
from hf_free.provenance.learner_record import LearnerRecord
from hf_free.provenance.recorded_teacher import RecordedTeacher
from hf_free.provenance.results import EvaluationReport, ResultRow
from hf_free.publishing.card import write_card
from hf_free.publishing.push import add_results, address_card, push_made
from hf_free.publishing.redaction import public_record

ROW = ResultRow("learner", 5, 1, 15, 600, 48.5, 0.9, True, 1.0, 0.5)


def report(**changes) -> EvaluationReport:
    return EvaluationReport(**{"rows": [ROW], "dataset": "org/digits", "split": "test", **changes})


@pytest.fixture
def learner(tmp_path):
    """A learner's folder, its card without a repository's name; the weights are none."""
    folder = tmp_path / "learner"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architecture": "conv4_32", "hf_free": {"teachers": []}}))
    (folder / "model.safetensors").write_bytes(b"weights of the learner, as far as this test goes")
    write_card(folder, LearnerRecord())
    return folder


def test_the_card_names_the_repository_and_keeps_what_was_edited(learner):
    card = learner / "README.md"
    card.write_text(card.read_text() + "\nEdited by hand.\n")
    address_card(learner, "me/few-shot")
    text = card.read_text()
    assert 'from_pretrained("me/few-shot")' in text
    assert "ORG/NAME" not in text
    assert text.endswith("Edited by hand.\n")
    card.unlink()
    address_card(learner, "me/other")
    assert 'from_pretrained("me/other")' in card.read_text()
    card.write_text(" \n")
    address_card(learner, "me/third")
    assert 'from_pretrained("me/third")' in card.read_text(), "an empty one is none"
    (learner / "model.safetensors").unlink()
    card.unlink()
    address_card(learner, "me/other")
    assert not card.exists(), "no card for what is no learner"


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", bytes(99)], ids=["latin", "zeros"])
def test_a_card_that_is_no_text_is_named_and_left_alone(learner, data):
    """A machine that loses power may leave zeros."""
    (learner / "README.md").write_bytes(data)
    with pytest.raises(RunError, match=r"README\.md cannot be read as a text in UTF-8"):
        address_card(learner, "me/other")
    assert (learner / "README.md").read_bytes() == data


@pytest.mark.parametrize("call", ["publish_results(NAME, report)", "push_saved(Path(LEARNER), NAME)"])
def test_a_card_on_the_hub_that_is_no_text_is_named_by_its_repository(hub, tokens, run_client, learner, call):
    """It used to be named by its path in the cache, or lost what could not be read."""
    card = (learner / "README.md").read_bytes() + "\nMind the owls: Käuze.\n".encode("latin-1")
    hub.add_repo("alice/latin", {**{path.name: path.read_bytes() for path in learner.iterdir()}, "README.md": card})
    code = f"""
from pathlib import Path
from hf_free.errors import HfFreeError
from hf_free.provenance.results import EvaluationReport, ResultRow
from hf_free.publishing.push import publish_results, push_saved
NAME, LEARNER = "alice/latin", {str(learner)!r}
report = EvaluationReport([{ROW!r}], "org/digits", "test")
try:
    {call}
except HfFreeError as error:
    print(error.given)
"""
    said = run_client(code, token=tokens["alice"]).stdout
    assert said.startswith("the card of alice/latin on the Hub cannot be read as a text in UTF-8: it is no text from")
    assert hub.read_repo("alice/latin")["README.md"] == card


def test_results_with_a_card_that_is_no_text_change_nothing(learner):
    before = (learner / "config.json").read_bytes()
    (learner / "README.md").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RunError, match=r"README\.md cannot be read as a text in UTF-8"):
        add_results(learner, report())
    (learner / "README.md").unlink()
    (learner / "README.md").mkdir()
    with pytest.raises(RunError, match=r"README\.md cannot be read as a text in UTF-8"):
        add_results(learner, report())
    assert (learner / "config.json").read_bytes() == before


def test_results_go_into_the_record_and_the_card(learner):
    (learner / "README.md").write_text((learner / "README.md").read_text() + "\nEdited by hand.\n")
    add_results(learner, report())
    add_results(learner, report(rows=[ResultRow("learner", 5, 5, 15, 600, 64.4, 0.8, True, 1.0, 0.5)]))
    add_results(learner, report(seed=1))
    content = json.loads((learner / "config.json").read_text())
    assert content["architecture"] == "conv4_32"
    assert "by hand" in (learner / "README.md").read_text()
    shots = [[row["k_shot"] for row in kept["rows"]] for kept in content["hf_free"]["results"]]
    assert shots == [[5], [1]], "measured anew: 1-shot replaces 1-shot only"
    assert "5-way 5-shot 64.4" in (learner / "README.md").read_text()


def test_a_push_error_says_what_is_left_and_how_to_go_on(tmp_path):
    cause = HubError("the Hub is gone", allowed="one that answers", action="wait")
    kept = PushError(cause, folder=tmp_path, again="hf-free push here me/x")
    assert isinstance(kept, HubError)
    assert (kept.given, kept.allowed, kept.folder, kept.cause) == (
        "the Hub is gone",
        "one that answers",
        tmp_path,
        cause,
    )
    assert str(kept).splitlines()[2:] == [
        "  to do:   wait",
        f"           {tmp_path} is unchanged; try again with: hf-free push here me/x",
    ]
    assert PushError(HubError("gone"), again="x").action == "try again with: x"
    assert PushError(cause).action == "wait"
    unfit = UnfitRepositoryError("me/x holds a classifier", action="choose another name")
    assert PushError(unfit, folder=tmp_path, again="x").action.splitlines()[1:] == [
        f"           {tmp_path} is unchanged"
    ]


CODE = """
import json
from pathlib import Path
from huggingface_hub import HfApi
from hf_free.errors import PushError
from hf_free.provenance.results import EvaluationReport, ResultRow
from hf_free.publishing.push import publish_results, push_saved

folder, answers = Path({folder!r}), []
def finish(copy):
    (copy / "completed.txt").write_text("in the copy")
answers.append(push_saved(folder, "alice/saved", commit_message="First", private=True, complete=finish))
api = HfApi()
card = Path(api.hf_hub_download("alice/saved", "README.md")).read_text()
edited = (card + "\\nMind the owls.\\n").encode()
api.upload_file(path_or_fileobj=edited, path_in_repo="README.md", repo_id="alice/saved")
push_saved(folder, "alice/saved", complete=finish)
assert Path(api.hf_hub_download("alice/saved", "README.md")).read_bytes().strip() == edited.strip()
row = ResultRow("learner", 5, 1, 15, 600, 48.5, 0.9, True, 1.0, 0.5)
answers.append(publish_results("alice/saved", EvaluationReport([row], "org/digits", "test")))
for name in ("bob/saved", "alice/classifier"):
    try:
        push_saved(folder, name)
    except PushError as error:
        answers.append([str(error.folder), str(error), str(error.cause)])
push_saved(folder, "alice/by-hand")
try:
    publish_results("alice/theirs", EvaluationReport([row], "org/digits", "test"))
except PushError as error:
    answers.append([error.folder, str(error)])
print(json.dumps(answers))
"""


def test_push_and_results_over_http(hub, tokens, run_client, learner, tmp_path):
    before = {path.name: path.read_bytes() for path in learner.iterdir()}
    hub.add_repo("alice/theirs", before)
    own = b"# Mine\n\nOf my hand.\n"
    hub.add_repo("alice/classifier", {**before, "classifier.json": b"{}", "README.md": own})
    hub.add_repo("alice/by-hand", {**before, "README.md": own})
    measured = json.dumps(report(dataset="/home/me/secret project").to_dict()).encode()
    before |= {"results.json": measured, "notes.json": b'{"rows": 3}', "odd.json": b"{"}
    for name in ("results.json", "notes.json", "odd.json"):
        (learner / name).write_bytes(before[name])
    with hub.fault("status", "/api/models/alice/theirs/preupload", status=403, times=None):
        done = run_client(CODE.format(folder=str(learner)), token=tokens["alice"])
    address, with_results, refused, of_another_kind, results_refused = done.json
    assert {path.name: path.read_bytes() for path in learner.iterdir()} == before, "the folder stays as it is"
    assert address.endswith("/alice/saved")
    assert with_results.endswith("/alice/saved")
    published = hub.read_repo("alice/saved")
    assert published["model.safetensors"] == before["model.safetensors"]
    assert published["completed.txt"] == b"in the copy"
    assert published.keys() & {"results.json", "notes.json", "odd.json"} == {"notes.json", "odd.json"}, (
        "names a folder"
    )
    assert b"5-way 1-shot 48.5" in published["README.md"]
    assert b"\nMind the owls.\n" in published["README.md"]
    assert b'from_pretrained("alice/saved")' in published["README.md"]
    assert json.loads(published["config.json"])["hf_free"]["results"][0]["dataset"] == "org/digits"
    assert [entry.title for entry in hub.history("alice/saved")][::2] == ["Results on org/digits, test", "First"]
    assert hub.repository("alice/saved").private
    assert f"{learner} is unchanged; try again with: hf-free push {learner} bob/saved" in refused[1]
    assert of_another_kind[1].endswith(f"{learner} is unchanged"), "the same command would be refused again"
    assert [line for line in done.stderr.splitlines() if "is replaced" in line] == [
        "the card of alice/by-hand, which hf-free had not written, is replaced; its history keeps it"
    ], "said of what was done only"
    for answer in (refused, of_another_kind):
        assert answer[0] == str(learner)
        assert "/tmp" not in answer[1].replace(str(tmp_path), ""), "the copy is nobody's business"
        assert "try again with" not in answer[2]
    assert results_refused[0] is None
    assert "try again with: hf-free evaluate alice/theirs ... --push" in results_refused[1]


def test_results_of_a_learner_whose_record_is_redacted_already_do_not_name_its_private_teachers(learner):
    own = [teacher("lab/a"), secret_teacher()]
    config = json.loads((learner / "config.json").read_text())
    published = public_record({**config["hf_free"], "teachers": own})
    (learner / "config.json").write_text(json.dumps({**config, "hf_free": published}))
    rows = [ROW, replace(ROW, method="teacher lab/hush@hush-1:0-4"), replace(ROW, method="teacher lab/a")]
    add_results(learner, report(rows=rows), teachers=list(map(RecordedTeacher.from_dict, own)))
    text = (learner / "config.json").read_text() + (learner / "README.md").read_text()
    assert "hush" not in text
    assert "teacher lab/a" in text


def test_an_upload_of_what_was_made_for_it_does_not_send_people_to_a_folder_that_is_gone(tokens):
    def make(folder):
        (folder / "config.json").write_text("{}")
        made.append(folder)

    made = []
    upload = {"token": tokens["bob"], "private": True, "commit_message": "x", "create_pr": False}
    with pytest.raises(HubError) as refused:
        push_made(make, "no name", revision=None, replace_card=True, **upload)
    assert not isinstance(refused.value, PushError)
    assert str(made[0]) not in str(refused.value)
    assert not made[0].exists()


RACE = """
import json
from huggingface_hub import HfApi
from hf_free.errors import PushError
from hf_free.provenance.results import EvaluationReport, ResultRow
from hf_free.publishing import push

add, api, times = push.add_results, HfApi(), [1]
def meanwhile(*args, **kwargs):
    if times[0] > 0:
        times[0] -= 1
        text = f"---\\nlicense: mit\\n---\\nMind the owls, {times[0]}.\\n".encode()
        api.upload_file(path_or_fileobj=text, path_in_repo="README.md", repo_id="alice/raced")
    return add(*args, **kwargs)
push.add_results = meanwhile
report = EvaluationReport([ResultRow("learner", 5, 1, 15, 600, 48.5, 0.9, True, 1.0, 0.5)], "org/digits", "test")
push.publish_results("alice/raced", report)
times[0] = 9
try:
    push.publish_results("alice/raced", report)
except PushError as error:
    print(json.dumps([str(error), times[0]]))
"""


def test_results_do_not_write_over_an_edit_that_was_made_meanwhile(hub, tokens, run_client, learner):
    hub.add_repo("alice/raced", {path.name: path.read_bytes() for path in learner.iterdir()})
    said, left = run_client(RACE, token=tokens["alice"]).json
    assert "alice/raced has been changed by somebody else meanwhile" in said
    assert left == 6, "tried three times"
    titles = [commit.title for commit in hub.history("alice/raced")]
    assert titles.count("Results on org/digits, test") == 1
    assert titles.index("Results on org/digits, test") == 3
    after = next(commit for commit in hub.history("alice/raced") if commit.title.startswith("Results"))
    assert b"Mind the owls, 0." in hub.read_repo("alice/raced", after.id)["README.md"]
