"""`hf-free evaluate`: results that agree with Python, in files and cards."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from program import refused
from verbs_at_work import PROGRAM

from hf_free.cli.main import main
from hf_free.cli.verbs.evaluate import PRIVATE_LEARNER, without_names
from hf_free.config.sections import LearnerConfig
from hf_free.learner.meta_learner import MetaLearner
from hf_free.provenance.learner_record import LearnerRecord
from hf_free.provenance.results import EvaluationReport, ResultRow
from hf_free.teachers.reference import TeacherReference

SMALL = ("--n-way", "3", "--n-query", "3", "--episodes", "20")


def test_which_split_was_taken_is_said_where_there_are_several(capsys, tmp_path, learner_run, pictures):
    for split in ("train", "validation"):
        shutil.copytree(pictures / "train", tmp_path / "set" / split)
    words = ["evaluate", str(learner_run), "--dataset", str(tmp_path / "set"), *SMALL, "--k-shot", "1"]
    assert main(words) == 0
    assert f"No --split given: using 'validation' of {tmp_path}/set, which also has train" in capsys.readouterr().err
    assert main([*words, "--split", "train"]) == 0
    assert "No --split" not in capsys.readouterr().err


def test_evaluate_agrees_with_python_and_writes_its_results(capsys, tmp_path, learner_run, pictures):
    from hf_free.evaluation.datasets import load_labeled_images
    from hf_free.evaluation.evaluate import EpisodeSettings, evaluate

    output = tmp_path / "results.json"
    words = ["--dataset", str(pictures / "train"), *SMALL, "--k-shot", "1", "2", "--seed", "3", "--device", "cpu"]
    assert main(["evaluate", str(learner_run), *words, "--json", "--output", str(output)]) == 0
    out, err = capsys.readouterr()
    results = json.loads(out)
    assert json.loads(output.read_text()) == results
    assert "split" not in err  # there is nothing to choose
    expected = evaluate(
        MetaLearner.from_pretrained(learner_run / "learner"),
        load_labeled_images(str(pictures / "train")),
        EpisodeSettings(n_way=3, k_shots=(1, 2), n_query=3, episodes=20, seed=3),
    )  # fmt: skip
    found = [(row["method"], row["k_shot"], row["accuracy"], row["interval"]) for row in results["rows"]]
    assert found == [(row.method, row.k_shot, row.accuracy, row.interval) for row in expected.rows]


@pytest.mark.parametrize(("method", "is_said"), [("default", True), ("paper", False)])
def test_a_learner_that_is_likely_to_be_better_is_pointed_out(capsys, tmp_path, pictures, method, is_said):
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16))
    teachers = [{"reference": f"lab/{name}", "architecture": "conv4_32"} for name in "ab"]
    learner.record = LearnerRecord.from_dict({"config": {"method": method}, "teachers": teachers})
    learner.save_pretrained(tmp_path)
    words = ["--dataset", str(pictures / "train"), *SMALL, "--k-shot", "1", "--baselines", "none"]
    assert main(["evaluate", str(tmp_path), *words]) == 0
    assert ("hf-free pool makes one" in capsys.readouterr().err) == is_said


@pytest.mark.parametrize("before", [True, False])
def test_evaluate_takes_shots_before_and_after_the_model(capsys, learner_run, pictures, before):
    shots, model = ["--k-shot", "1", "2"], [str(learner_run)]
    words = ["--dataset", str(pictures / "train"), "--split", "train", *SMALL, "--baselines", "untrained"]
    assert main(["evaluate", *(shots + model if before else model + shots), *words]) == 0
    out, err = capsys.readouterr()
    assert "using" not in err
    lines = [line for line in out.splitlines() if "learner" in line or "untrained" in line]
    assert len(lines) == 4
    assert all("±" in line for line in lines)
    assert "3-way, 3 queries per class, 20 episodes" in " ".join(out.split())


def test_a_teacher_that_is_gone_is_a_row_that_says_so(capsys, tmp_path, pictures, teacher_folder):
    from hf_free.teachers.loader import read_record

    gone = Path(shutil.copytree(teacher_folder, tmp_path / "gone"))
    records = [read_record(TeacherReference.parse(str(folder))).to_dict() for folder in (teacher_folder, gone)]
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16))
    learner.record = LearnerRecord.from_dict({"teachers": records})
    learner.save_pretrained(tmp_path / "learner")
    shutil.rmtree(gone)
    words = ["--dataset", str(pictures / "train"), *SMALL, "--k-shot", "1", "--baselines", "all", "--json"]
    assert main(["evaluate", str(tmp_path / "learner"), *words]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    missing = [row for row in rows if row["accuracy"] is None]
    assert any(str(gone) in row["method"] + row["note"] for row in missing)
    assert any("pixels" in row["method"] for row in rows)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--n-way", "5"], "classes"),
        (["--n-way", "3", "--k-shot", "5", "--n-query", "15"], "pictures"),
        (["--split", "test"], "has no split 'test'"),
        (["--image-column", "photo"], "has no column 'photo'"),
    ],
)
def test_evaluate_refuses_data_that_cannot_fill_an_episode(capsys, learner_run, pictures, words, message):
    assert main(["evaluate", str(learner_run), "--dataset", str(pictures / "train"), *words]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert "Traceback" not in err


def test_evaluate_refuses_a_data_set_that_is_not_there(capsys, learner_run):
    assert main(["evaluate", str(learner_run), "--dataset", "./nowhere"]) == 1
    assert "there is no file or folder ./nowhere" in capsys.readouterr().err


def test_evaluate_asks_whether_it_may_push_before_it_works(hub, tokens, run_client, learner_run, pictures):
    hub.add_repo("alice/cli-foreign", learner_run / "learner")
    words = ["evaluate", "alice/cli-foreign", "--dataset", str(pictures / "train"), *SMALL, "--push"]
    done = run_client([*PROGRAM, *words], token=tokens["bob"], check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "may not write to alice/cli-foreign" in done.stderr


def test_evaluate_push_writes_the_results_into_the_card(hub, tokens, run_client, learner_run, pictures):
    hub.add_repo("alice/cli-measured", learner_run / "learner")
    before = hub.read_repo("alice/cli-measured")
    words = ["--dataset", str(pictures / "train"), *SMALL, "--k-shot", "1", "--push", "--json"]
    done = run_client([*PROGRAM, "evaluate", "alice/cli-measured", *words], token=tokens["alice"])
    (row,) = json.loads(done.stdout)["rows"]
    after = hub.read_repo("alice/cli-measured")
    assert {name for name in before if after[name] != before[name]} == {"config.json", "README.md"}
    (report,) = json.loads(after["config.json"])["hf_free"]["results"]
    assert report["rows"] == [row]
    card = after["README.md"].decode()
    assert "model-index" in card
    assert f"{row['accuracy']:.1f}" in card
    again = run_client([*PROGRAM, "predict", "alice/cli-measured", "--support", str(pictures / "train"),
                        "--images", str(pictures / "new")])  # fmt: skip
    assert len(again.stdout.splitlines()) == 7


def test_results_of_a_revision_are_not_pushed_to_the_main_branch(capsys, pictures):
    words = ["--dataset", str(pictures / "train"), *SMALL, "--revision", "v1", "--push"]
    assert main(["evaluate", "alice/somewhere", *words]) == 1
    assert "--push with --revision v1" in capsys.readouterr().err
    assert main(["evaluate", "alice/x@v1", *words[:-3], "--push"]) == 1
    assert "--push with alice/x@v1: results go to the learner's main branch" in capsys.readouterr().err


def test_rows_that_are_published_do_not_name_private_learners():
    row = ResultRow("alice/secret", 5, 1, 15, 600, 48.5, 0.9, True, 1.0, 0.5)
    report = EvaluationReport([row, replace(row, method="alice/open")], "org/digits", "test")
    published = without_names(report, ["alice/secret"])
    assert [row.method for row in published.rows] == [PRIVATE_LEARNER, "alice/open"]
    assert report.rows[0].method == "alice/secret", "what is shown here stays"


def test_two_folders_of_one_name_are_two_results_in_the_card(capsys, tmp_path, learner_run, pictures):
    learner = tmp_path / "learner"
    shutil.copytree(learner_run / "learner", learner)
    for parent in ("day", "night"):
        shutil.copytree(pictures / "train", tmp_path / parent / "birds")
    (tmp_path / "night" / "birds" / "red" / "0.png").unlink()
    for parent, shot in (("day", "1"), ("night", "1"), ("night", "2"), ("day", "1")):
        words = ["--dataset", str(tmp_path / parent / "birds"), *SMALL, "--k-shot", shot, "--push"]
        assert main(["evaluate", str(learner), *words]) == 0
    card = ModelCard.load(learner / "README.md")
    found = {(r.dataset_name, r.metric_args["k_shot"]) for r in card.data.eval_results}
    assert found == {("birds", 1), ("birds (2)", 1), ("birds (2)", 2)}
    assert len(card.data.eval_results) == 3  # measuring the first again replaced it
    assert str(tmp_path) not in card.content
    capsys.readouterr()


def test_a_card_that_cannot_take_results_is_found_before_anything_is_measured(capsys, tmp_path):
    words = ["evaluate", str(tmp_path), "--dataset", "nowhere", "--push"]
    (tmp_path / "README.md").write_bytes(b"\xff")
    assert "README.md cannot be read as a text in UTF-8" in " ".join(refused(capsys, *words).split())
    (tmp_path / "classifier.json").write_text("{}")
    assert "is a classifier" in refused(capsys, *words)
