"""`hf-free adapt`: a classifier to keep, that answers as the learner with its examples does."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml
from PIL import Image
from verbs_at_work import PROGRAM

from hf_free.cli.main import main
from hf_free.errors import HubError, PushError, UnfitRepositoryError
from hf_free.learner.classifier import FewShotClassifier
from hf_free.learner.meta_learner import MetaLearner


def test_the_kept_classifier_answers_as_python_and_as_the_learner_does(capsys, tmp_path, learner_run, pictures):
    support, kept = ["--support", str(pictures / "train")], tmp_path / "kept"
    assert main(["adapt", str(learner_run), *support, "--output", str(kept), "--reject", "0.2", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [entry["images"] for entry in said["classes"]] == [6, 6, 6]
    classifier = FewShotClassifier.from_pretrained(kept)
    assert said["threshold"] == classifier.rejection.threshold
    images = ["--images", str(pictures / "new"), "--json"]
    assert main(["predict", str(kept), *images]) == 0
    of_classifier = json.loads(capsys.readouterr().out)
    assert main(["predict", str(learner_run), *support, *images, "--reject", "0.2"]) == 0
    assert json.loads(capsys.readouterr().out) == of_classifier
    shots = sorted((pictures / "train").glob("*/*.png"))
    again = MetaLearner.from_pretrained(learner_run / "learner").adapt(shots, [path.parent.name for path in shots])
    new = [Image.open(path) for path in sorted((pictures / "new").iterdir())]
    found = [list(row["probabilities"].values()) for row in of_classifier]
    assert found == again.predict_proba(new).tolist()


def test_names_of_class_folders_steer_no_terminal(capsys, tmp_path, learner_run, pictures):
    for name, own in zip(("one\nline", "red\x1b[31m"), sorted((pictures / "train").iterdir()), strict=False):
        shutil.copytree(own, tmp_path / "support" / name)
    words = ["--support", str(tmp_path / "support"), "--output", str(tmp_path / "kept")]
    assert main(["adapt", str(learner_run), *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "2 classes: one\N{REPLACEMENT CHARACTER}line (6), red\N{REPLACEMENT CHARACTER}[31m (6)" in lines


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nowhere to keep the classifier"),
        (["--output", "{kept}"], "holds a classifier"),
        (["--output", "{learner}"], "is not empty"),
        (["--output", "{new}", "--reject", "1"], "'1' is not a number above 0 and below 1"),
        (["--output", "{new}", "--transductive", "magic"], "unknown transductive head 'magic'"),
    ],
)
def test_what_cannot_be_kept_is_refused(capsys, tmp_path, learner_run, pictures, words, message):
    places = {"kept": tmp_path / "kept", "learner": learner_run / "learner", "new": tmp_path / "new"}
    start = ["adapt", str(learner_run), "--support", str(pictures / "train")]
    assert main([*start, "--output", str(places["kept"])]) == 0
    before = (places["kept"] / "classifier.json").read_bytes()
    assert main([*start, *[word.format(**places) for word in words]]) in (1, 2)
    assert message in capsys.readouterr().err
    assert (places["kept"] / "classifier.json").read_bytes() == before
    assert main([*start, "--output", str(places["kept"]), "--overwrite"]) == 0


def test_it_is_published_and_predicts_from_the_hub(hub, tokens, run_client, learner_run, pictures):
    done = run_client(
        [*PROGRAM, "adapt", str(learner_run), "--support", str(pictures / "train"), "--push-to-hub", "alice/colors"],
        token=tokens["alice"],
    )
    assert "hf-free predict alice/colors" in done.stdout
    files = hub.read_repo("alice/colors")
    assert yaml.safe_load(files["README.md"].decode().split("---")[1])["pipeline_tag"] == "image-classification"
    again = run_client([*PROGRAM, "predict", "alice/colors", "--images", str(pictures / "new"), "--json"])
    assert len(json.loads(again.stdout)) == 6


@pytest.mark.parametrize(("fit", "keeps"), [(True, True), (False, True), (True, False)])
def test_an_upload_that_fails_says_how_to_publish_what_is_kept(
    capsys, monkeypatch, tmp_path, learner_run, pictures, fit, keeps
):
    def push_folder(copy, repo_id, **_options):
        raise PushError((HubError if fit else UnfitRepositoryError)("the storage refuses it"), folder=copy, again="x")

    monkeypatch.setattr("hf_free.publishing.push.push_folder", push_folder)
    monkeypatch.setattr("hf_free.hub.upload.check_can_push", lambda *_, **__: None)
    kept = tmp_path / "kept"
    words = ["adapt", str(learner_run), "--support", str(pictures / "train"), "--push-to-hub", "alice/colors"]
    assert main([*words, "--private", *(["--output", str(kept)] if keeps else [])]) == 1
    err = capsys.readouterr().err
    assert "the storage refuses it" in err
    assert (kept / "classifier.json").is_file() is keeps
    assert (f"{kept} is unchanged" in err) is keeps
    assert (f"try again with: hf-free push {kept} alice/colors --private" in err) is (keeps and fit)


def test_a_kept_classifier_is_pushed_with_its_own_card(hub, tokens, run_client, tmp_path, learner_run, pictures):
    words = ["--support", str(pictures / "train"), "--output", str(tmp_path / "kept")]
    assert main(["adapt", str(learner_run), *words]) == 0
    push = [*PROGRAM, "push", str(tmp_path / "kept"), "alice/kept-colors"]
    run_client(push, token=tokens["alice"])
    assert "FewShotClassifier.from_pretrained" in hub.read_repo("alice/kept-colors")["README.md"].decode()
    assert hub.history("alice/kept-colors")[0].title == "Upload few-shot classifier with hf-free"
