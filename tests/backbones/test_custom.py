"""Networks of the user's own: a file she names registers them; nothing else is run."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import timm
import torch

from hf_free.backbones.custom import import_networks
from hf_free.cli.main import main
from hf_free.config.sections import LearnerConfig
from hf_free.errors import ConfigError, LearnerError, TeacherError
from hf_free.learner.meta_learner import MetaLearner
from hf_free.teachers.loader import load_teacher
from hf_free.teachers.reference import TeacherReference
from hf_free.teachers.saving import save_teacher

DOCUMENT = Path(__file__).parents[2] / "docs" / "guides" / "own-networks.md"


def documented_code(name: str) -> str:
    """The network of docs/guides/own-networks.md under another name: timm has one registry per process."""
    code = re.search(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    return code[1].replace("my_net", name)


@pytest.fixture
def own_file(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, str]:
    """A file as the document shows it, and the name that it registers."""
    name = "own_" + re.sub(r"\W", "_", request.node.name)
    path = tmp_path / "my_networks.py"
    path.write_text(documented_code(name), encoding="utf-8")
    return path, name


def own_teacher(name: str, folder: Path) -> TeacherReference:
    torch.manual_seed(0)
    save_teacher(timm.create_model(name, num_classes=3), folder, label_names=["a", "b", "c"])
    return TeacherReference.parse(str(folder))


def test_documented_network_is_a_teacher(own_file, tmp_path):
    path, name = own_file
    import_networks([path])
    network = timm.create_model(name, num_classes=3)
    teacher = load_teacher(own_teacher(name, tmp_path / "teacher"))
    assert (teacher.record.num_features, teacher.record.normalization) == (64, {"BatchNorm2d": 1})
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=3).eval()
    pictures = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(teacher.logits(pictures), network((pictures - 0.5) / 0.5))


def test_file_runs_once(tmp_path):
    path = tmp_path / "counted.py"
    path.write_text(
        "from pathlib import Path\nwith Path(__file__).with_suffix('.log').open('a') as log:\n    log.write('x')\n"
    )
    import_networks([path, str(path)])
    import_networks([path])
    assert path.with_suffix(".log").read_text() == "x"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.py", None, "does not exist"),
        ("notes.txt", "x = 1", "is not a Python file"),
        ("broken.py", "import timm\n\n1 / 0\n", "line 3 fails: ZeroDivisionError"),
        ("unreadable.py", "def (:\n", "fails: SyntaxError"),
    ],
)
def test_files_that_cannot_be_imported(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    before = set(sys.modules)
    with pytest.raises(ConfigError, match=message):
        import_networks([tmp_path / name])
    assert not {module for module in set(sys.modules) - before if module.startswith("hf_free_own_")}


def test_code_in_a_teachers_folder_is_never_run(own_file, tmp_path):
    path, name = own_file
    code = path.read_text(encoding="utf-8")
    folder = tmp_path / "teacher"
    folder.mkdir()
    (folder / "networks.py").write_text(code)
    (folder / "config.json").write_text(
        f'{{"architecture": "{name}", "num_classes": 3, "imports": ["{folder}/networks.py"]}}'
    )
    (folder / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    with pytest.raises(TeacherError, match="knows no architecture"):
        load_teacher(TeacherReference.parse(str(folder)))


def test_inspect_and_cost_import_the_file_they_are_given(own_file, tmp_path, run_client):
    path, name = own_file
    import_networks([path])
    own_teacher(name, tmp_path / "teacher")
    words = [sys.executable, "-m", "hf_free.cli.main", "inspect", str(tmp_path / "teacher"), "--json"]
    without = run_client(words, check=False)
    assert without.returncode == 1
    assert "knows no architecture" in without.stdout
    row = run_client([*words, "--import", str(path)]).stdout
    assert f'"architecture": "{name}"' in row
    cost = ["cost" if word == "inspect" else word for word in words]
    assert f'"architecture": "{name}"' in run_client([*cost, "--import", str(path)]).stdout


def test_a_network_without_features_is_no_backbone(tmp_path, own_file):
    path, name = own_file
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(" if num_classes else nn.Identity()", ""), encoding="utf-8")
    import_networks([path])
    learner = MetaLearner(LearnerConfig(backbone=name))
    with pytest.raises(LearnerError, match=f"backbone '{name}' gives no features"):
        _ = learner.backbone_dim


def test_train_takes_the_file_from_flag_and_saved_configuration(own_file, tmp_path, monkeypatch, capsys):
    path, name = own_file
    import_networks([path])
    teachers = [str(own_teacher(name, tmp_path / f"teacher{i}").location) for i in (0, 1)]
    monkeypatch.chdir(tmp_path)
    words = ["--models", *teachers, "--import", path.name, "--steps", "3", "--device", "cpu"]
    small = ["five.images_per_class=2", "five.width=4", "five.latent_dim=4", "trainer.warmup_steps=0",
             "bell.updates_per_step=1", "bell.batch_size=4", "memory.drawn_per_step=4", "memory.held_out_images=2",
             "five.min_teacher_accuracy=0", f"learner.backbone={name}", "five.inner_steps=1"]  # fmt: skip
    run = tmp_path / "run"
    assert main(["train", *words, "--output", str(run), "--set", *small]) == 0
    assert f"imports:\n- {path}" in (run / "config.yaml").read_text()
    monkeypatch.chdir(run)  # a run is resumed from anywhere
    capsys.readouterr()
    assert main(["train", "--dry-run", "--json", "--config", str(run / "config.yaml")]) == 0
    assert f'"architecture": "{name}"' in capsys.readouterr().out
