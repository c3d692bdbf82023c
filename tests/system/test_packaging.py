"""What the wheel holds, and whether the pinned set-up agrees with itself. No network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import torch
import torchvision
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy so that no build/ is left in the working tree."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("hf_free", "cli"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    built = subprocess.run([*command, "--wheel-dir", target, source], capture_output=True, text=True, cwd=target)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = target.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with the wheel unpacked, which is all that installing a pure wheel does."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run_python(installed, *arguments):
    """Run Python with the unpacked wheel first on its path, away from the working tree."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=installed.parent, env=environment, timeout=60
    )


def test_wheel_is_pure_python_and_licensed(wheel):
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
        scripts = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: >=3.11" in metadata
    assert "hf-free = hf_free.cli.main:main" in scripts
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_wheel_holds_every_module_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {path.relative_to(ROOT).as_posix() for path in (ROOT / "hf_free").rglob("*.py")}
    expected |= {f"hf_free/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "cli").rglob("*.py")}
    for folder in ("publishing", "reporting"):
        templates = (ROOT / "hf_free" / folder / "templates").iterdir()
        expected |= {path.relative_to(ROOT).as_posix() for path in templates if path.is_file()}
    assert "hf_free/cli/__init__.py" in expected
    assert "hf_free/publishing/templates/model_card.md.jinja" in expected
    assert names == expected | {"hf_free/py.typed"}  # so: no top-level module named cli


def test_unpacked_wheel_is_imported_and_leaves_the_name_cli_alone(installed):
    located = run_python(installed, "-c", "import hf_free.cli; print(hf_free.__file__, hf_free.cli.__file__)")
    assert located.stdout.split() == [
        str(installed / "hf_free/__init__.py"),
        str(installed / "hf_free/cli/__init__.py"),
    ], located.stderr
    taken = run_python(installed, "-c", "import cli")
    assert "No module named 'cli'" in taken.stderr


def test_program_of_the_wheel_shows_its_help(installed):
    shown = run_python(installed, "-m", "hf_free.cli.main", "--help")
    assert shown.returncode == 0, shown.stderr
    for verb in ("train", "evaluate", "inspect", "invert", "predict", "push", "demo"):
        assert verb in shown.stdout


def read_pins(python: str = "3.11") -> dict[str, str]:
    """The version of each package on a version of Python."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins: dict[str, str] = {}
    for line in lines:
        if not line or line.startswith("#"):
            continue
        # names no host, no folder, no commit
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+(; python_version [<>=]+ \"3\.\d+\")?", line), line
        pinned = Requirement(line)
        if pinned.marker is None or pinned.marker.evaluate({"python_version": python}):
            assert (
                pins.setdefault(canonicalize_name(pinned.name), str(pinned.specifier)[2:]) == str(pinned.specifier)[2:]
            )
    return pins


@pytest.mark.parametrize("python", ["3.11", "3.14"])
def test_constraints_pin_every_requirement_above_its_floor(python):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = read_pins(python)
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *(text for name in sorted(extras) for text in extras[name])]:
        requirement = Requirement(text)
        if requirement.name == project["name"]:  # an extra of our own, which is among them
            assert requirement.extras <= set(extras)
            continue
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier, text
        assert all(part.operator == ">=" for part in requirement.specifier), f"{text}: floors only"


def test_pinned_torch_and_torchvision_are_one_pair():
    # torch 2.N goes with torchvision 0.(N + 15): the compatibility table of torchvision's README.
    pins = read_pins()
    torch_minor, vision_minor = (int(pins[name].split(".")[1]) for name in ("torch", "torchvision"))
    assert vision_minor == torch_minor + 15
    assert pins["torch"].split(".")[2] == pins["torchvision"].split(".")[2]


def test_installed_torch_and_torchvision_agree():
    boxes, scores = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1)
    assert torchvision.ops.nms(boxes, scores, 0.5).tolist() == [0]  # compiled for one version of torch


def test_ci_and_makefile_name_the_users_two_commands():
    assert "make test" in (ROOT / ".ci/run").read_text()
    assert os.access(ROOT / ".ci/run", os.X_OK)
    planned = subprocess.run(["make", "--dry-run", "demo"], cwd=ROOT, capture_output=True, text=True)
    assert ".venv/bin/hf-free demo" in planned.stdout, planned.stderr
