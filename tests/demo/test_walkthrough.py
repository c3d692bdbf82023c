"""A small slice of the demo, whole: teachers, real clients and a loopback Hub, train, publish, load back, evaluate."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import datasets
import pytest
import torch
from rich.console import Console

from hf_free.cli.main import main
from hf_free.demo import walkthrough
from hf_free.demo.digits import drawn_digits
from hf_free.demo.small_teachers import ClassifierRecipe
from hf_free.errors import RunError
from hf_free.hub.loopback.card_rules import card_errors, read_metadata
from hf_free.learner.meta_learner import MetaLearner

QUICK = ClassifierRecipe(architecture="conv4_32", epochs=2, batch_size=32, lr=1e-2, shift=0, flip=False)
SLICE = walkthrough.DemoLength(
    recipes=(QUICK, replace(QUICK, architecture="test_resnet")),
    workers=1,
    copies=1,
    steps=3,
    max_minutes=5,
    episodes=20,
    settings=(
        "trainer.warmup_steps=0",
        "trainer.log_every=1",
        "five.min_teacher_accuracy=0",
        "five.recover_share=1",
        "five.images_per_class=4",
        "five.width=16",
        "five.inner_steps=1",
        "memory.drawn_per_step=16",
        "memory.held_out_images=8",
        "bell.batch_size=16",
        "learner.views=[identity]",
    ),
    pooled_settings=("learner.views=[identity]", "five.images_per_class=4", "five.inner_steps=1"),
)


@pytest.fixture(scope="module")
def told(forks, tmp_path_factory):
    """The slice, run once: its folder, its results and what was told.

    Its commands run in forks; `test_a_command_that_fails_ends_the_demo_with_its_name` has one run as the demo does.
    """
    output, console = tmp_path_factory.mktemp("demo") / "run", Console(file=io.StringIO(), width=200)

    def run(argv, *, env, stdout):
        assert stdout is None, "a command's output goes where this process's goes"
        done = forks.run(argv, env=env, draws=True)
        for number, text in ((1, done.stdout), (2, done.stderr)):
            os.write(number, text.encode())
        return done

    with pytest.MonkeyPatch.context() as patch, captured_output() as written:
        patch.setattr(walkthrough, "subprocess", SimpleNamespace(run=run))
        results = walkthrough.run_demo(output, 3, console, length=SLICE)
    return output, results, console.file.getvalue() + written.text


class Written:
    """What processes wrote."""

    text = ""


@contextlib.contextmanager
def captured_output():
    """Take what this process and those that it starts write; a fixture of a module cannot ask for `capfd`."""
    written, kept = Written(), [os.dup(1), os.dup(2)]
    with tempfile.TemporaryFile("w+") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        try:
            yield written
        finally:
            for number, old in zip((1, 2), kept, strict=True):
                os.dup2(old, number)
                os.close(old)
            file.seek(0)
            written.text = file.read()


@pytest.mark.slow
def test_the_learner_is_measured_beside_everything_promised(told):
    output, results, _ = told
    assert results["dataset"] == walkthrough.DATASET
    found = {(row["method"].split(" (")[0], row["k_shot"]) for row in results["rows"] if row["accuracy"] is not None}
    methods = ("learner", "pixels", "untrained conv4_64", "best single teacher")
    assert {(method, k_shot) for method in methods for k_shot in (1, 5)} <= found
    assert {("all 2 teachers' features, concatenated", k_shot) for k_shot in (1, 5)} <= found
    assert {(str(output / "pooled"), k_shot) for k_shot in (1, 5)} <= found
    assert all(row["n_way"] == 3 and row["episodes"] == 20 and row["interval"] > 0 for row in results["rows"])
    assert results["warnings"] == []  # no teacher has a class named like the new ones


@pytest.mark.slow
def test_the_card_and_the_picture_lie_where_the_demo_says(told):
    output, results, text = told
    assert len(re.findall(r"\$ \S*hf-free ", text)) == 3 + 3
    card = output / "published" / "README.md"
    assert str(card) in text
    assert str(output / "pictures" / "recovered.png") in text
    assert (output / "pictures" / "recovered.png").read_bytes().startswith(b"\x89PNG")
    assert card_errors(card.read_text(encoding="utf-8")) == []
    metadata = read_metadata(card.read_text(encoding="utf-8"))
    assert metadata["base_model"] == ["demo/conv4-32-0", "demo/test-resnet-1"]
    learner = next(row for row in results["rows"] if row["method"] == "learner")
    assert f"{learner['accuracy']:.2f}" in card.read_text(encoding="utf-8")  # evaluate --push wrote it


@pytest.mark.slow
def test_no_address_is_told_that_is_gone(told):
    _, _, text = told
    assert "Published: demo/learner" in text
    assert not re.findall(r"https?://(?:127|localhost)\S*", text)


@pytest.mark.long
@pytest.mark.slow
def test_the_three_next_commands_work_as_printed(told, capsys):
    _, _, text = told
    lines = re.findall(r"\$ \S*hf-free (.*)", text.partition("Three commands to go on with")[2])
    verbs = [shlex.split(line) for line in lines]
    assert [words[0] for words in verbs] == ["predict", "evaluate", "train"]
    for words in verbs:
        assert main(words) == 0
    out = capsys.readouterr().out
    assert len(re.findall(r"(?m)^[789].\d\d\.png,[789],", out)) == 75  # every picture is named with one of the digits
    assert "3-way, 15 queries per class, 600 episodes" in " ".join(out.split())


@pytest.mark.slow
def test_the_readmes_first_lines_of_python_run_on_what_the_demo_leaves(told, capsys):
    output, _, _ = told
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)[0]
    assert "runs/demo" in lines
    exec(lines.replace("runs/demo", output.as_posix()), {})
    classes, labels = capsys.readouterr().out.splitlines()
    assert classes == "['7', '8', '9']"
    assert set(json.loads(labels.replace("'", '"'))) <= {"7", "8", "9"}


@pytest.mark.slow
def test_the_published_learner_predicts_bit_for_bit_alike_in_a_new_process(forks, told):
    output, _, _ = told
    code = f"""
import torch
from hf_free import MetaLearner
from hf_free.demo.digits import drawn_digits
torch.set_num_threads({torch.get_num_threads()})
data = drawn_digits((7, 8, 9))
learner = MetaLearner.from_pretrained({str(output / "published")!r})
classifier = learner.adapt(data.images[:30], data.labels[:30].tolist())
print(classifier.predict_proba(data.images[30:90]).numpy().tobytes().hex())
"""
    run = forks.run([sys.executable, "-c", code])
    assert run.returncode == 0, run.stderr
    data = drawn_digits((7, 8, 9))
    learner = MetaLearner.from_pretrained(output / "learner")  # as it was trained, before it went to the Hub
    classifier = learner.adapt(data.images[:30], data.labels[:30].tolist())
    assert run.stdout.strip() == classifier.predict_proba(data.images[30:90]).numpy().tobytes().hex()


@pytest.mark.slow
def test_the_teachers_stay_usable(told, capsys):
    output, _, text = told
    folders = sorted(str(path.parent) for path in (output / "teachers").glob("*/model.safetensors"))
    assert main(["inspect", *folders, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    listed = json.dumps(shown)
    assert "conv4_32" in listed
    assert "test_resnet" in listed
    assert "digit 7" not in listed
    assert "demo/conv4-32-0" in text


def test_the_new_digits_arrive_as_a_data_set(hub, tmp_path):
    """The Parquet file holds every picture, bit for bit, under its name."""
    walkthrough._publish_new_digits(hub)
    path = tmp_path / "data.parquet"
    path.write_bytes(hub.read_repo(walkthrough.DATASET, repo_type="dataset")["data/test-00000-of-00001.parquet"])
    loaded = datasets.load_dataset("parquet", data_files=str(path), cache_dir=str(tmp_path / "cache"))["train"]
    data = drawn_digits((7, 8, 9))
    assert loaded.features["label"].names == ["digit 7", "digit 8", "digit 9"]
    assert loaded["label"][:] == data.labels.tolist()
    first = torch.tensor(bytearray(loaded[0]["image"].tobytes())).view(32, 32, 3).permute(2, 0, 1)
    assert torch.equal(first, data.images[0])


def test_a_command_that_fails_ends_the_demo_with_its_name(capfd):
    client = walkthrough._Client({}, walkthrough._Teller(None))
    with pytest.raises(RunError, match="`hf-free evaluate` ended with 2") as failed:
        client.run(["evaluate", "--no-such-flag"])
    assert "no-such-flag" in capfd.readouterr().err
    assert "run hf-free demo again" in str(failed.value)


def test_the_demo_refuses_a_folder_with_something_in_it(tmp_path: Path, capfd):
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["demo", "--output", str(tmp_path)]) != 0
    assert "not empty" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
