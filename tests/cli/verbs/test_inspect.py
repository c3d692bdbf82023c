"""`hf-free inspect`: what a model can be used for."""

from __future__ import annotations

import json

import timm
from pico import pico_teacher
from safetensors.torch import load_file
from verbs_at_work import PROGRAM

from hf_free.cli.main import main
from hf_free.evaluation.flops import count
from hf_free.serving.served_model import ServedTeacher
from hf_free.serving.server import ModelServer
from hf_free.teachers.loader import load_teacher
from hf_free.teachers.reference import TeacherReference
from hf_free.teachers.saving import save_teacher


def test_inspect_shows_a_teacher(capsys, teacher_folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["inspect", str(teacher_folder)]) == 0
    out = capsys.readouterr().out
    for part in (
        "test_resnet",
        "32x32",
        "ant, bee, cat, dog",
        "BatchNorm",
        "License: not given",
        "Commit: local",
        "yes",
    ):
        assert part in out
    assert "…" not in out  # nothing is cut off in 80 columns
    assert max(map(len, out.splitlines())) <= 80
    parameters = sum(tensor.numel() for key, tensor in load_file(teacher_folder / "model.safetensors").items()
                     if not key.endswith(("running_mean", "running_var", "num_batches_tracked")))  # fmt: skip
    assert f"{parameters / 1e3:.3g} k" in out


def test_quiet_it_names_what_can_be_used_and_says_why_the_rest_cannot(capsys, teacher_folder, tmp_path):
    assert main(["inspect", str(tmp_path), str(teacher_folder), "-q"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{teacher_folder}\n"
    assert str(tmp_path) in err
    assert main(["inspect", str(tmp_path), "-q"]) == 1
    assert capsys.readouterr().out == ""


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
    hub.add_repo("lab/cli-transformers", {**files, "config.json": b'{"model_type": "bert"}'})
    hub.add_repo("lab/cli-truncated", {**files, "model.safetensors": files["model.safetensors"][:5000]})
    names = ["good", "private", "pickled", "transformers", "truncated", "absent", "good@v9"]
    done = run_client([*PROGRAM, "inspect", *(f"lab/cli-{name}" for name in names), "--json"])
    rows = {row["reference"].removeprefix("lab/cli-"): row for row in json.loads(done.stdout)}
    assert list(rows) == names
    assert [name for name in names if rows[name]["usable"]] == ["good"]
    assert (rows["good"]["commit"], rows["good"]["license"], rows["good"]["classes"]) == (commit, "mit", 4)
    assert rows["good"]["record"]["label_names"] == ["ant", "bee", "cat", "dog"]
    for name, reason in {
        "private": "token", "pickled": "only pickled weights", "transformers": "transformers",
        "truncated": "model.safetensors", "absent": "lab/cli-absent", "good@v9": "v9",
    }.items():  # fmt: skip
        assert reason in rows[name]["reason"], name
        assert "Traceback" not in rows[name]["reason"]
    with_token = run_client([*PROGRAM, "inspect", "lab/cli-private", "--token", tokens["alice"], "--json"])
    assert json.loads(with_token.stdout)[0]["access"] == "private"


def test_a_black_box_is_inspected_by_its_answers(capsys):
    with ModelServer(ServedTeacher(pico_teacher("conv4", size=16))) as server:
        assert main(["inspect", f"endpoint:{server.address}", "--measure", "--json"]) == 0
        (row,) = json.loads(capsys.readouterr().out)
        assert (row["usable"], row["classes"], "inversion" in row) == (True, 5, False)
        assert server.answered == 4
        for name in ("parameters", "forward_flops", "backward_flops", "commit", "normalization", "batchnorm"):
            assert row[name] is None, name
        assert main(["inspect", f"endpoint:{server.address}"]) == 0
        out = capsys.readouterr().out
        for name in ("Parameters", "Cost", "Normalization", "Commit"):
            assert f"{name}: unknown" in out
        for wrong in ("FLOP", "local", " 0"):
            assert wrong not in out.replace(server.address, "")
