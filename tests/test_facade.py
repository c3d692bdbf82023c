"""What `import hf_free` gives: every public name, and nothing heavy before it is used."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import hf_free

HEAVY = ("torch", "timm", "datasets", "huggingface_hub", "matplotlib", "numpy", "PIL", "accelerate", "safetensors")


def modules_after(code: str) -> set[str]:
    """Names of all modules that a fresh interpreter has loaded after some code."""
    report = "; import json, sys; sys.stderr.write('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code + report], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_the_public_names_are_those_that_the_readme_needs():
    verbs = {"train", "plan", "evaluate", "invert", "load_teacher", "save_teacher", "load_labeled_images"}
    assert verbs | {"MetaLearner", "FewShotClassifier", "FreeConfig", "HfFreeError"} <= set(hf_free.__all__)


@pytest.mark.parametrize("name", [name for name in hf_free.__all__ if name != "__version__"])
def test_every_public_name_can_be_imported_and_says_what_it_is(name):
    value = getattr(hf_free, name)
    assert value.__name__ == name
    assert (value.__doc__ or "").strip()
    assert not value.__doc__.startswith(f"{name}("), "what dataclasses write themselves says nothing"


def test_every_error_of_the_package_is_public():
    from hf_free import errors

    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert kinds <= set(hf_free.__all__)
    assert all(issubclass(getattr(hf_free, name), hf_free.HfFreeError) for name in kinds)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'learn'"):
        hf_free.learn  # noqa: B018
    assert set(hf_free.__all__) <= set(dir(hf_free))


def test_importing_the_package_loads_nothing_heavy():
    loaded = modules_after("import hf_free")
    assert not loaded & set(HEAVY)
    ours = {name for name in loaded if name.split(".")[0] == "hf_free"}
    assert ours == {
        "hf_free", "hf_free.errors", "hf_free.version", "hf_free.backbones", "hf_free.backbones.timm_hook",
        "hf_free.learner", "hf_free.learner.backbone_kinds",
    }  # fmt: skip


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["push", "--help"], ["--version"]])
def test_the_help_of_the_program_loads_nothing_heavy(words):
    loaded = modules_after(f"from hf_free.cli.main import main; assert main({words!r}) == 0")
    assert not loaded & set(HEAVY)
    assert len(loaded) < 700  # typer, rich and the standard library; torch alone would bring a thousand more
