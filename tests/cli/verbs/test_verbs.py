"""The verbs at work: on real files, and as clients of the loopback Hub in processes of their own."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file

from hf_free.cli.main import main
from hf_free.config.sections import LearnerConfig
from hf_free.evaluation.flops import count
from hf_free.learner.meta_learner import MetaLearner
from hf_free.teachers.loader import load_teacher
from hf_free.teachers.reference import TeacherReference
from hf_free.teachers.saving import save_teacher

PROGRAM = [sys.executable, "-m", "hf_free.cli.main"]
COLORS = {"blue": (20, 30, 220), "green": (20, 200, 40), "red": (230, 20, 30)}


@pytest.fixture(autouse=True)
def _wide_and_plain(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


@pytest.fixture(scope="module")
def learner_run(tmp_path_factory) -> Path:
    """A run's folder with an untrained learner in it; other tests only read it."""
    run = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16)).save_pretrained(run / "learner")
    (run / "learner" / "README.md").write_text("---\nlibrary_name: hf-free\n---\n# A learner\n")
    return run


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """`train/CLASS/*.png` of three colours with a little noise, and `new/*.png` beside it."""
    root = tmp_path_factory.mktemp("pictures")
    generator = torch.Generator().manual_seed(0)
    for name, color in COLORS.items():
        for index in range(8):
            noise = torch.randint(-20, 20, (20, 20, 3), generator=generator)
            values = (torch.tensor(color) + noise).clamp(0, 255).to(torch.uint8).numpy()
            path = root / "train" / name / f"{index}.png" if index < 6 else root / "new" / f"{name}{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(path)
    return root


@pytest.fixture(scope="module")
def teacher_folder(tmp_path_factory) -> Path:
    """A small real teacher in timm's Hub layout."""
    folder = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=4)
    save_teacher(network, folder, label_names=["ant", "bee", "cat", "dog"], extra_cfg={"input_size": (3, 32, 32)})
    return folder


# ---- predict


def expected_labels(learner_run: Path, pictures: Path) -> dict[str, str]:
    """What the Python interface says, picture by picture."""
    shots = sorted((pictures / "train").glob("*/*.png"))
    classifier = MetaLearner.from_pretrained(learner_run / "learner").adapt(
        [Image.open(path) for path in shots], [path.parent.name for path in shots]
    )
    return {path.name: classifier.predict([Image.open(path)])[0] for path in sorted((pictures / "new").iterdir())}


def test_predict_writes_csv_that_agrees_with_python(capsys, learner_run, pictures):
    words = ["--support", str(pictures / "train"), "--images", str(pictures / "new")]
    assert main(["predict", str(learner_run), *words]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["image"]: row["label"] for row in rows} == expected_labels(learner_run, pictures)
    assert all(1 / 3 <= float(row["probability"]) <= 1 for row in rows)


def test_predict_json_is_pure_and_files_are_written(capsys, tmp_path, learner_run, pictures):
    words = ["--support", str(pictures / "train"), "--images", str(pictures / "new"), "--device", "cpu"]
    output = tmp_path / "labels.json"
    assert main(["predict", str(learner_run / "learner"), *words, "--json", "--output", str(output)]) == 0
    out, err = capsys.readouterr()
    rows = json.loads(out)
    assert json.loads(output.read_text()) == rows
    assert f"6 labels: {output}" in err
    for row in rows:
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert row["probability"] == max(row["probabilities"].values()) == row["probabilities"][row["label"]]


@pytest.mark.parametrize(
    ("support", "images", "message"),
    [
        ("new", "new", "pictures and no class folders"),
        ("none", "new", "none is not a folder"),
        ("train", "none", "none is not a folder"),
    ],
)
def test_predict_refuses_folders_it_cannot_use(capsys, learner_run, pictures, support, images, message):
    words = ["--support", str(pictures / support), "--images", str(pictures / images)]
    assert main(["predict", str(learner_run), *words]) == 1
    assert message in capsys.readouterr().err


def test_predict_refuses_a_device_that_is_not_there(capsys, learner_run, pictures):
    words = ["--support", str(pictures / "train"), "--images", str(pictures / "new"), "--device", "cuda:99"]
    assert main(["predict", str(learner_run), *words]) == 1
    assert "device 'cuda:99' cannot be used" in capsys.readouterr().err


def test_predict_refuses_a_folder_without_a_learner(capsys, tmp_path, pictures):
    words = ["--support", str(pictures / "train"), "--images", str(pictures / "new")]
    assert main(["predict", str(tmp_path), *words]) == 1
    assert "config.json" in capsys.readouterr().err


# ---- inspect, locally and on the Hub


def test_inspect_shows_a_teacher(capsys, teacher_folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["inspect", str(teacher_folder)]) == 0
    out = capsys.readouterr().out
    for part in (
        "test_resnet",
        "32x32",
        "ant, bee, cat, dog",
        "BatchNorm",
        "Licence: not given",
        "Commit: local",
        "yes",
    ):
        assert part in out
    assert "…" not in out  # nothing is cut off in 80 columns
    assert max(map(len, out.splitlines())) <= 80
    parameters = sum(tensor.numel() for key, tensor in load_file(teacher_folder / "model.safetensors").items()
                     if not key.endswith(("running_mean", "running_var", "num_batches_tracked")))  # fmt: skip
    assert f"{parameters / 1e3:.3g} k" in out


def test_inspect_and_cost_show_what_a_picture_costs(capsys, teacher_folder, tmp_path):
    passes = count(load_teacher(TeacherReference.parse(str(teacher_folder))))
    assert main(["inspect", str(teacher_folder), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["forward_flops"], row["backward_flops"]) == (passes.forward_flops, passes.backward_flops)
    assert main(["cost", str(teacher_folder), str(tmp_path), "--json"]) == 0
    found, missing = json.loads(capsys.readouterr().out)
    assert (found["forward_flops"], found["backward_flops"]) == (passes.forward_flops, passes.backward_flops)
    assert not missing["usable"]
    assert main(["cost", str(teacher_folder)]) == 0
    output = capsys.readouterr()
    assert f"{passes.backward_flops / 1e6:.3g} MFLOP" in output.out
    assert "two operations a multiply-add" in output.err
    assert main(["cost", str(tmp_path)]) == 1
    assert "cannot be used" in capsys.readouterr().err


def test_cost_without_a_model_prints_the_papers_table(capsys):
    assert main(["cost"]) == 0
    out = capsys.readouterr().out
    for row in ("0.03 / 0.03", "7.87 / 7.8", "128.34 / 127."):
        assert row in out


def test_inspect_shows_hostile_labels_as_text(capsys, tmp_path):
    network = timm.create_model("test_resnet", num_classes=2)
    save_teacher(network, tmp_path, label_names=["[/red]x", "a\x1b[2Jb"], extra_cfg={"input_size": (3, 32, 32)})
    assert main(["inspect", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "[/red]x" in out
    assert "\x1b" not in out


def test_inspect_json_without_a_usable_model(capsys, tmp_path):
    assert main(["inspect", str(tmp_path), "--json"]) == 1
    (row,) = json.loads(capsys.readouterr().out)
    assert row["usable"] is False
    assert "config.json" in row["reason"]


def test_inspect_on_the_hub(hub, tokens, run_client, teacher_folder):
    weights, config = (teacher_folder / name for name in ("model.safetensors", "config.json"))
    files = {"config.json": config.read_bytes(), "model.safetensors": weights.read_bytes()}
    card = b"---\nlicense: mit\n---\n"
    commit = hub.add_repo("lab/cli-good", {**files, "README.md": card})
    hub.add_repo("lab/cli-private", files, private=True)
    hub.add_repo("lab/cli-pickled", {"config.json": files["config.json"], "pytorch_model.bin": b"pickle"})
    hub.add_repo("lab/cli-transformers", {**files, "config.json": b'{"model_type": "vit"}'})
    hub.add_repo("lab/cli-truncated", {**files, "model.safetensors": files["model.safetensors"][:5000]})
    names = ["good", "private", "pickled", "transformers", "truncated", "absent", "good@v9"]
    done = run_client([*PROGRAM, "inspect", *(f"lab/cli-{name}" for name in names), "--json"])
    rows = {row["reference"].removeprefix("lab/cli-"): row for row in json.loads(done.stdout)}
    assert list(rows) == names
    assert [name for name in names if rows[name]["usable"]] == ["good"]
    assert (rows["good"]["commit"], rows["good"]["licence"], rows["good"]["classes"]) == (commit, "mit", 4)
    assert rows["good"]["record"]["label_names"] == ["ant", "bee", "cat", "dog"]
    for name, reason in {
        "private": "token", "pickled": "only pickled weights", "transformers": "architecture",
        "truncated": "model.safetensors", "absent": "lab/cli-absent", "good@v9": "v9",
    }.items():  # fmt: skip
        assert reason in rows[name]["reason"], name
        assert "Traceback" not in rows[name]["reason"]
    with_token = run_client([*PROGRAM, "inspect", "lab/cli-private", "--token", tokens["alice"], "--json"])
    assert json.loads(with_token.stdout)[0]["access"] == "private"


# ---- search


def test_search(hub, run_client, teacher_folder):
    card = b"---\nlibrary_name: timm\nlicense: mit\ntags: [timm]\n---\n"
    hub.add_repo("seeker/needle-net", {"README.md": card, "config.json": b"{}"})
    done = run_client([*PROGRAM, "search", "needle", "--author", "seeker", "--json"])
    assert [row["repo_id"] for row in json.loads(done.stdout)] == ["seeker/needle-net"]
    table = run_client([*PROGRAM, "search", "needle"]).stdout
    assert "seeker/needle-net" in table
    nothing = run_client([*PROGRAM, "search", "no-such-word"])
    assert (nothing.stdout, "No model found" in nothing.stderr) == ("", True)


# ---- push


def test_push_publishes_a_run(hub, tokens, run_client, learner_run):
    words = ["push", str(learner_run), "alice/cli-pushed", "--private", "--commit-message", "First learner", "--json"]
    done = run_client([*PROGRAM, *words], token=tokens["alice"])
    assert json.loads(done.stdout)["url"].startswith(hub.endpoint)
    published = hub.read_repo("alice/cli-pushed")
    for name in ("config.json", "model.safetensors", "hf_free.safetensors", "README.md"):
        assert published[name] == (learner_run / "learner" / name).read_bytes()
    assert hub.repository("alice/cli-pushed").private
    assert hub.history("alice/cli-pushed")[0].title == "First learner"


def test_a_failed_push_leaves_the_learner_and_says_how_to_go_on(tokens, run_client, learner_run, tmp_path):
    folder = Path(shutil.copytree(learner_run / "learner", tmp_path / "learner"))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    done = run_client([*PROGRAM, "push", str(folder), "bob/cli-pushed"], token=tokens["alice"], check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("try again with: hf-free push ") == 1
    assert f"{folder} is unchanged; try again with: hf-free push {folder} bob/cli-pushed" in done.stderr
    assert "Traceback" not in done.stderr
    assert tokens["alice"] not in done.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


# ---- evaluate

SMALL = ("--n-way", "3", "--n-query", "3", "--episodes", "20")


def test_evaluate_agrees_with_python_and_writes_its_results(capsys, tmp_path, learner_run, pictures):
    from hf_free.evaluation.datasets import load_labelled_images
    from hf_free.evaluation.evaluate import evaluate

    output = tmp_path / "results.json"
    words = ["--dataset", str(pictures / "train"), *SMALL, "--k-shot", "1", "2", "--seed", "3", "--device", "cpu"]
    assert main(["evaluate", str(learner_run), *words, "--json", "--output", str(output)]) == 0
    out, err = capsys.readouterr()
    results = json.loads(out)
    assert json.loads(output.read_text()) == results
    assert "No --split given: using 'train'" in err
    expected = evaluate(
        MetaLearner.from_pretrained(learner_run / "learner"),
        load_labelled_images(str(pictures / "train")),
        n_way=3, k_shots=(1, 2), n_query=3, episodes=20, seed=3,
    )  # fmt: skip
    found = [(row["method"], row["k_shot"], row["accuracy"], row["interval"]) for row in results["rows"]]
    assert found == [(row.method, row.k_shot, row.accuracy, row.interval) for row in expected.rows]


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
    from hf_free.teachers.reference import TeacherReference

    gone = Path(shutil.copytree(teacher_folder, tmp_path / "gone"))
    records = [read_record(TeacherReference.parse(str(folder))).to_dict() for folder in (teacher_folder, gone)]
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16), {"teachers": records})
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
