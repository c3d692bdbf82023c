"""`hf-free predict`: labels that agree with Python."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from pico import pico_folder
from PIL import Image

from hf_free.cli.main import main
from hf_free.learner.meta_learner import MetaLearner


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


def test_local_files_take_neither_the_hubs_client_nor_other_large_libraries(run_client, learner_run, pictures):
    words = ["predict", str(learner_run), "--support", str(pictures / "train"), "--images", str(pictures / "new")]
    code = f"""
import sys
before = set(sys.modules)
from hf_free.cli.main import main
assert main({words!r}) == 0
large = {{"accelerate", "datasets", "huggingface_hub", "pandas", "pyarrow", "sklearn", "timm", "PIL.PdfParser"}}
print(sorted(large & (set(sys.modules) - before)))
"""
    assert run_client(code, imports=True).stdout.splitlines()[-1] == "[]"


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


def rows_of(capsys, *words: str) -> list[dict[str, str]]:
    assert main(["predict", *words]) == 0
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def test_folders_files_patterns_and_lists_name_the_same_pictures(capsys, monkeypatch, learner_run, pictures):
    start = [str(learner_run), "--support", str(pictures / "train"), "--images"]
    new = pictures / "new"
    paths = sorted(new.iterdir())
    alone = {row["image"]: row["label"] for row in rows_of(capsys, *start, str(new))}
    assert alone.keys() == {path.name for path in paths}
    expected = {str(new / name): label for name, label in alone.items()}
    for given in ([str(new / "*.png")], [str(paths[0]), str(new)], list(map(str, paths))):
        assert {row["image"]: row["label"] for row in rows_of(capsys, *start, *given)} == expected
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(map(str, paths)) + "\n\n"))
    assert {row["image"]: row["label"] for row in rows_of(capsys, *start, "-")} == expected


def test_the_likeliest_classes_and_rejection_have_columns_of_their_own(capsys, tmp_path, learner_run, pictures):
    start = [str(learner_run), "--support", str(pictures / "train"), "--images", str(pictures / "new")]
    rows = rows_of(capsys, *start, "--top-k", "2", "--reject", "0.9", "--sheet", str(tmp_path / "sheet.png"))
    assert list(rows[0]) == ["image", "label", "probability", "label_2", "probability_2", "rejected", "error"]
    assert {row["rejected"] for row in rows} <= {"yes", "no"}
    assert any(row["rejected"] == "yes" for row in rows)
    for row in rows:
        assert (row["label"] == "") == (row["rejected"] == "yes") == (row["probability"] == "")
        assert row["label_2"] != row["label"]
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 500


def test_images_that_are_classified_together_can_help_each_other(capsys, learner_run, pictures):
    start = [str(learner_run), "--support", str(pictures / "train"), "--images", str(pictures / "new")]
    alone = rows_of(capsys, *start)
    together = rows_of(capsys, *start, "--transductive", "soft-kmeans")
    assert [row["label"] for row in alone] == [row["label"] for row in together]
    assert [row["probability"] for row in alone] != [row["probability"] for row in together]


def test_a_learner_without_examples_is_told_what_to_do(capsys, learner_run, pictures):
    assert main(["predict", str(learner_run / "learner"), "--images", str(pictures / "new")]) == 1
    error = capsys.readouterr().err
    assert "holds no adapted classifier" in error
    assert "--support DIR" in error


def test_a_teacher_in_a_learners_place_is_told_what_it_is_for(capsys, tmp_path, pictures, hub, run_client):
    folder = str(pico_folder(tmp_path / "teacher", "conv4"))
    images = ["--images", str(pictures / "new")]
    to_do = f"a plain image classifier can be a teacher: hf-free pool --models {folder} ... --output runs/pooled"
    for words in (images, [*images, "--support", str(pictures / "train")]):
        assert main(["predict", folder, *words]) == 1
        error = capsys.readouterr().err
        assert to_do in error
        assert "--support DIR" not in error
    hub.add_repo("org/teacher", Path(folder))
    code = """
from hf_free.errors import HubError
from hf_free.learner.classifier import FewShotClassifier
from hf_free.learner.meta_learner import MetaLearner
for kind in (FewShotClassifier, MetaLearner):
    try:
        kind.from_pretrained("org/teacher")
    except HubError as error:
        print(error.given, "|", error.action)
"""
    lines = run_client(code).stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert "has no hf_free.safetensors" in line
        assert f"| {to_do.replace(folder, 'org/teacher')}" in line


@pytest.mark.parametrize("where", ["new/*.png", "train/*/*.png"])
def test_a_contact_sheet_takes_no_images_place(where, capsys, learner_run, pictures):
    image = next(pictures.glob(where))
    before = image.read_bytes()
    words = ["--support", str(pictures / "train"), "--images", str(pictures / "new"), "--sheet", str(image)]
    assert main(["predict", str(learner_run), *words]) == 1
    assert "is one of the images" in capsys.readouterr().err
    assert image.read_bytes() == before
