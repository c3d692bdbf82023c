"""A run saved whole, and resumed with its own teachers."""

from __future__ import annotations

import pytest
from pico import pico_folder
from records import teacher

from hf_free import FreeConfig
from hf_free.errors import RunError
from hf_free.teachers.pool import TeacherPool
from hf_free.training.checkpoint import teachers_to_resume, write_teachers
from hf_free.training.folder import RunFolder


@pytest.fixture
def begun(tmp_path):
    """A run over a YAML list, as far as its note of teachers goes."""
    for seed in range(2):
        pico_folder(tmp_path / f"t{seed}", "conv4", seed=seed)
    entries = "- {name: one, path: t0, mean: [0.5, 0.5, 0.5]}\n- {name: two, path: t1}\n"
    (tmp_path / "list.yaml").write_text(entries)
    config = FreeConfig.from_dict({"models": [str(tmp_path / "list.yaml")]})
    run, pool = RunFolder(tmp_path / "run"), TeacherPool(config.models, strict=True)
    write_teachers(run, config.models, pool)
    return run, config, pool.records


def test_a_list_that_says_something_else_is_noticed(begun, tmp_path):
    run, config, records = begun
    assert TeacherPool(teachers_to_resume(run, config.models), strict=True).records == records
    text = (tmp_path / "list.yaml").read_text()
    (tmp_path / "list.yaml").write_text(text.replace("0.5, 0.5, 0.5", "0.5, 0.5, 0.4") + "- {name: three, path: t0}\n")
    left_out = dict(TeacherPool(teachers_to_resume(run, config.models)).skipped)
    (reason,) = left_out.values()
    assert "has mean (0.5, 0.5, 0.4), and had (0.5, 0.5, 0.5) when it was first read" in reason


def test_other_teachers_than_the_runs_own_are_refused(begun):
    run, config, _ = begun
    other = FreeConfig.from_dict({"models": [*config.models, "alice/another"]})
    with pytest.raises(RunError, match=r"was begun with other teachers: .*list.yaml\n"):
        teachers_to_resume(run, other.models)
    run.teachers.unlink()
    assert teachers_to_resume(run, other.models) == other.models  # a run of an earlier version has no such note


@pytest.fixture
def teachers(tmp_path):
    """Two local teachers."""
    return [str(pico_folder(tmp_path / "teachers" / f"t{seed}", seed=seed)) for seed in range(2)]


def test_a_note_of_teachers_by_relative_paths_is_still_read(tmp_path, teachers, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = RunFolder(tmp_path / "run")
    run.write_json(run.teachers, {"models": ["teachers/t0"], "teachers": []})
    assert teachers_to_resume(run, [teachers[0]]) == []
    with pytest.raises(RunError, match="begun with other teachers"):
        teachers_to_resume(run, [teachers[1]])


@pytest.mark.parametrize(
    "text", ["{", "[]", "null", '{"models": 3}', '{"models": ["a"], "teachers": [3]}', "[" * 100_000]
)
def test_a_damaged_note_of_teachers_is_one_message(tmp_path, text):
    run = RunFolder(tmp_path / "run")
    run.root.mkdir()
    run.teachers.write_text(text)
    with pytest.raises(RunError, match=r"teachers\.json[^$]*--overwrite"):
        teachers_to_resume(run, ["a"])


def test_a_note_whose_teacher_has_a_value_of_another_type_names_it(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.write_json(run.teachers, {"models": ["a/b"], "teachers": [{**teacher(), "label_names": {"a": 1}}]})
    with pytest.raises(RunError, match=r"teachers\.json is damaged: label_names is \{'a': 1\}"):
        teachers_to_resume(run, ["a/b"])
