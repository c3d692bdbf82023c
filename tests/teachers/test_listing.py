"""YAML lists and collections: what they name, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from pico import pico_files, pico_folder, pico_teacher
from replacing import replace_everywhere

from hf_free.cli.arguments import expand_list_files
from hf_free.cli.main import main
from hf_free.errors import ConfigError, TeacherError, TeacherReferenceError
from hf_free.runtime.files import read_bounded
from hf_free.teachers.listing import check_teachers, resolve
from hf_free.teachers.loader import load_teacher
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.reference import TeacherReference

ONE_FILE = """
- name: alone
  path: alone.safetensors
  architecture: conv4_32
  num_classes: 5
  model_args: {width: 8, img_size: 32}
  input_size: [3, 32, 32]
  mean: [0.5, 0.4, 0.3]
  std: [0.25, 0.2, 0.3]
  label_names: [a, b, c, d, e]
"""


def _write(folder: Path, text: str) -> str:
    path = folder / "teachers.yaml"
    path.write_text(text)
    return str(path)


@pytest.fixture
def alone(tmp_path: Path) -> str:
    """A list with a single weights file."""
    pico_folder(tmp_path / "whole")
    (tmp_path / "whole" / "model.safetensors").rename(tmp_path / "alone.safetensors")
    return _write(tmp_path, ONE_FILE)


def test_texts_stay_and_mappings_get_a_name(tmp_path):
    path = _write(
        tmp_path,
        "teachers:\n  - org/a@v1:0-4\n  - {id: org/b, revision: v2, classes: [3, 7]}\n"
        "  - {name: c, id: org/c, classes: 0-2, mean: [0, 0, 0]}\n",
    )
    references = resolve(["org/x", path, "org/y"])
    texts = list(map(str, references))
    assert texts == ["org/x", "org/a@v1:0-4", f"{path}#2", f"{path}#c", "org/y"]
    assert expand_list_files([path]) == texts[1:4]
    second, third = references[2:4]
    assert resolve(texts) == references
    assert (second.location, second.revision, second.classes, second.config) == ("org/b", "v2", (3, 7), None)
    assert (third.location, third.classes, json.loads(third.config or "")) == ("org/c", (0, 1, 2), {"mean": [0, 0, 0]})
    assert [str(second), str(third)] == texts[2:4]
    assert second != TeacherReference.parse("org/b@v2")


def test_a_single_weights_file_with_its_architecture(alone):
    teacher, expected = load_teacher(resolve([f"{alone}#alone"])[0]), pico_teacher("conv4")
    images = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(teacher.logits(images), expected.logits(images))
    record = teacher.record
    assert (record.architecture, record.label_names) == ("conv4_32", ("a", "b", "c", "d", "e"))
    assert (record.reference, list(record.sha256)) == (f"{alone}#alone", ["alone.safetensors"])


def test_a_list_works_wherever_teachers_are_named(alone, capsys):
    pool = TeacherPool([alone, alone], strict=True)
    assert [record.reference for record in pool.records] == [f"{alone}#alone"] * 2
    again = TeacherPool([pool.records[0]], strict=True)  # as a resumed run does
    assert again.records[0].sha256 == pool.records[0].sha256
    assert main(["inspect", alone, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["usable"], row["classes"]) == (True, 5)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ("width: 8", "alone.safetensors has other shapes: .*correct the entry's architecture"),
        ("num_classes: 5", "alone.safetensors has a head of 5 outputs for 7 classes"),
        ("[a, b, c, d, e]", "label_names is 2 names\n  allowed: a list of 5 names"),
    ],
)
def test_what_is_wrong_with_a_single_file_is_said_of_the_entry(alone, changed, problem):
    other = {"width: 8": "width: 16", "num_classes: 5": "num_classes: 7", "[a, b, c, d, e]": "[a, b]"}[changed]
    text = ONE_FILE.replace(changed, other)
    Path(alone).write_text(text.replace("a, b, c, d, e", "a, b, c, d, e, f, g") if "7" in other else text)
    with pytest.raises(TeacherError, match=f"(?s){problem}") as caught:
        load_teacher(resolve([f"{alone}#alone"])[0])
    assert "config.json" not in str(caught.value)


def test_yaml_errors_name_the_line_and_not_a_string(tmp_path):
    path = _write(tmp_path, "teachers: [\n")
    with pytest.raises(TeacherReferenceError, match=r"is not valid YAML: .* at line 2, column 1") as caught:
        resolve([path])
    assert "unicode string" not in str(caught.value)


def test_classes_of_an_entry_are_refused_with_their_own_rule(tmp_path):
    path = _write(tmp_path, "- {path: ., classes: [1, 1]}\n")
    with pytest.raises(TeacherReferenceError, match="names class 1 twice\n  allowed: classes: a list of different"):
        resolve([path])


def test_what_a_list_says_wins_over_the_folder_and_is_checked(tmp_path):
    pico_folder(tmp_path / "folder", label_names=["a", "b", "c", "d", "e"])
    path = _write(
        tmp_path,
        "- {path: folder, label_names: [k, l, m, n, o], mean: 0.5, interpolation: bicubic, classes: [4, 0]}\n"
        "- {path: folder, architecture: conv4_33}\n- {path: folder, num_classes: 7}\n"
        "- {path: folder, model_args: {checkpoint_path: x}}\n",
    )
    record = load_teacher(resolve([f"{path}#1"])[0]).record
    assert (record.label_names, record.mean, record.interpolation) == (("o", "k"), (0.5, 0.5, 0.5), "bicubic")
    assert (record.std, record.classes) == (pico_teacher().record.std, (4, 0))
    for name, problem in (
        ("2", "knows no architecture 'conv4_33'"),
        ("3", "num_classes is 5 where|a head of 5 outputs for 7 classes"),
        ("4", "model_args.checkpoint_path is not allowed"),
    ):
        with pytest.raises(TeacherError, match=problem):
            load_teacher(resolve([f"{path}#{name}"])[0])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "holds no list of teachers"),
        ("teachers: org/a", "holds no list of teachers"),
        ("{a: 1}", "holds no list of teachers"),
        ("{a: 1, teachers: [org/a]}", "holds other keys beside `teachers`: a"),
        ("{teachers: {teachers: [org/a]}}", "holds no list of teachers"),
        ("[[", "not valid YAML"),
        ("- 7", "names '7' without an organization"),
        ("- [7]", "entry 1 is a list"),
        ("- ", "'' is empty"),
        ("- resnet18", "without an organization"),
        ("- {revision: v2}", "not exactly one of id, path"),
        ("- {id: org/a, path: .}", "not exactly one of id, path"),
        ("- {id: a}", "entry 1 is wrong: 'a' names 'a' without"),
        ("- {id: org/a, revision: ../x}", "malformed revision"),
        ("- {id: org/a, classes: [1, 1]}", "names class 1 twice"),
        ("- {id: org/a, classes: {0: 1}}", "malformed classes"),
        ("- {id: org/a, weights: x}", "unknown key 'weights'"),
        ("- {id: org/a, mean: 2020-01-01}", "has mean with '2020-01-01', which is not a number"),
        ("- {id: org/a, model_args: {a: !!timestamp 2020-01-01}}", "other than a plain value"),
        ("- {id: org/a, name: a b}", "the name 'a b'"),
        ("- {id: org/a, name: x}\n- {id: org/b, name: x}", "the name 'x'"),
        ("- {path: gone}", "does not exist"),
        ("- {path: ., revision: v2}", "a revision beside a path"),
        ("- {path: teachers.yaml}", "a .safetensors file"),
        ("- {path: w.safetensors, num_classes: 5}", "a weights file without its architecture"),
        ("- {path: w.safetensors, architecture: resnet18}", "a weights file without its num_classes"),
    ],
)
def test_refused(tmp_path, text, problem):
    (tmp_path / "w.safetensors").write_bytes(b"")
    path = _write(tmp_path, text)
    with pytest.raises(TeacherReferenceError) as caught:
        resolve([path])
    error = caught.value
    assert problem in error.given or problem in error.allowed
    assert error.allowed
    assert error.action or path in error.given


def test_folders_of_texts_begin_at_the_lists_folder(tmp_path, monkeypatch):
    (tmp_path / "lists").mkdir()
    pico_folder(tmp_path / "lists" / "t")
    _write(tmp_path / "lists", "- ./t\n- ../lists/t\n")
    monkeypatch.chdir(tmp_path)
    for folder, path in ((tmp_path, "lists/teachers.yaml"), (tmp_path / "lists", "teachers.yaml")):
        monkeypatch.chdir(folder)
        references = resolve([path])
        assert expand_list_files([path]) == list(map(str, references))
        assert [Path(reference.location).resolve() for reference in references] == [tmp_path / "lists/t"] * 2


def test_an_entry_that_is_not_there(alone):
    with pytest.raises(TeacherReferenceError, match="no entry 'other'"):
        resolve([f"{alone}#other"])[0]
    with pytest.raises(TeacherReferenceError, match="cannot read"):
        resolve(["gone.yaml#1"])
    with pytest.raises(TeacherReferenceError, match="cannot read"):
        resolve(["~nosuch/gone.yaml#1"])


def test_texts_stay_what_was_written(tmp_path, monkeypatch):
    """YAML 1.1 would read 1.1, 5349, True, False, None and a date."""
    (tmp_path / "0012345").mkdir()
    path = _write(
        tmp_path,
        "- 0012345\n"
        "- {name: 007, id: org/b, revision: 1.10, classes: 010}\n"
        "- {id: org/on, revision: 2026-01-01, label_names: [yes, no, null, 1.50, ~], num_classes: 5, mean: 1}\n"
        "- {name: 'null', id: org/c, revision: null, label_descriptions: {no: off}, model_args: {a: yes, w: 1e-3}}\n",
    )
    monkeypatch.chdir(tmp_path)
    folder, second, third, last = resolve([path])
    assert (folder.location, folder.is_local) == ("0012345", True)
    assert (str(second), second.revision, second.classes) == (f"{path}#007", "1.10", (10,))
    given = json.loads(third.config or "")
    assert (third.location, third.revision) == ("org/on", "2026-01-01")
    assert given == {"label_names": ["yes", "no", "null", "1.50", "~"], "num_classes": 5, "mean": 1}
    assert (str(last), last.revision) == (f"{path}#null", None)
    assert json.loads(last.config or "") == {
        "label_descriptions": {"no": "off"},
        "model_args": {"a": "yes", "w": 1e-3},
    }


def test_a_list_is_read_once_however_many_of_its_entries_are_named(tmp_path, monkeypatch):
    pico_folder(tmp_path / "t")
    path = _write(tmp_path, "".join(f"- {{name: t{i}, path: t, classes: [{i % 4}, 4]}}\n" for i in range(50)))
    opened, real = [], read_bounded

    def counted(file: Path, **named) -> bytes:
        if Path(file).suffix == ".yaml":
            opened.append(Path(file))
        return real(file, **named)

    replace_everywhere(monkeypatch, "hf_free.runtime.files.read_bounded", counted)
    by_list = resolve([path, path])
    assert len(by_list) == 100
    assert opened == [Path(path)]
    assert resolve([str(reference) for reference in by_list]) == by_list
    assert len(opened) == 2
    assert len(TeacherPool([path, f"{path}#t3", f"{path}#t7"])) == 52
    assert len(opened) == 3


# ---- collections, over HTTP


def test_collections_over_http(hub, tokens, run_client, tmp_path):
    for name in ("one", "two"):
        hub.add_repo(f"alice/in-collection-{name}", pico_files())
    items = ["alice/in-collection-two", ("dataset", "alice/data"), "alice/in-collection-one", ("paper", "2312.0")]
    hub.add_collection("alice/birds-65f0c0ffee", items)
    hub.add_collection("alice/mine-65f0c0ffef", items, private=True)
    hub.add_collection("alice/empty-65f0c0fff0", [("paper", "2312.0")])
    hub.add_collection("alice/mixed-65f0c0fff1", ["alice/in-collection-gone", *items])
    code = """
import json
from pathlib import Path
from hf_free.errors import HfFreeError
from hf_free.teachers.listing import check_teachers, resolve
from hf_free.teachers.pool import TeacherPool
out = {}
Path("teachers.yaml").write_text("- alice/x\\n- collection:alice/birds-65f0c0ffee:0-2\\n")
out["list"] = list(map(str, resolve(["teachers.yaml"])))
Path("teachers.yaml").unlink()
for text in ("birds-65f0c0ffee", "birds-65f0c0ffee:0-2", "birds-65f0c0ffee@v2", "mine-65f0c0ffef", "empty-65f0c0fff0",
             "gone"):
    try:
        out[text] = list(map(str, resolve([f"collection:alice/{text}"])))
    except HfFreeError as error:
        out[text] = f"{type(error).__name__}: {error}"
pool = TeacherPool(["collection:alice/birds-65f0c0ffee:0,2"], strict=True)
out["pool"] = [[record.repo_id, record.num_classes, record.reference] for record in pool.records]
mixed = TeacherPool(["collection:alice/mixed-65f0c0fff1"], strict=True)
out["mixed"] = [[record.repo_id for record in mixed.records], list(map(list, mixed.skipped))]
print(json.dumps(out))
"""
    two, one = "alice/in-collection-two", "alice/in-collection-one"
    seen = run_client(code).json
    assert seen["birds-65f0c0ffee"] == [two, one]
    assert seen["birds-65f0c0ffee:0-2"] == [f"{two}:0-2", f"{one}:0-2"]
    assert seen["list"] == ["alice/x", f"{two}:0-2", f"{one}:0-2"]
    assert "a collection has no revisions" in seen["birds-65f0c0ffee@v2"]
    assert "holds no model" in seen["empty-65f0c0fff0"]
    for hidden in ("mine-65f0c0ffef", "gone"):
        assert seen[hidden].startswith(f"HubError: the Hub has no collection alice/{hidden}, or it is private")
    assert seen["pool"] == [[two, 2, f"{two}:0,2"], [one, 2, f"{one}:0,2"]]
    kept, left_out = seen["mixed"]
    assert kept == [two, one], left_out
    assert [name for name, _ in left_out] == ["alice/in-collection-gone"], "nobody named it"
    assert "does not exist" in left_out[0][1]
    owner = run_client(code, token=tokens["alice"], home=tmp_path / "owner").json
    assert owner["mine-65f0c0ffef"] == [two, one]


def test_revisions_and_subsets_are_tasks_of_their_own():
    check_teachers(["org/a", "org/a@v2"])
    check_teachers(["org/a:0-4", "org/a:5-9"])


def test_one_task_is_too_few_but_for_a_learner_that_has_others():
    for texts, problem in (
        ([], "no models given"),
        (["org/a:0-4", "org/a:0-4"], "the only teacher is org/a:0-4"),
        (["x:org/a:0-4", "y:org/a:0-4"], "only teacher"),
    ):
        with pytest.raises(ConfigError, match=problem):
            check_teachers(texts)
    check_teachers(["org/a:0-4"], least=1)
    check_teachers(["org/a:0-39"])  # two tasks of twenty
    check_teachers(["org/a"])  # its classes are known once it is there
    check_teachers(["collection:org/some"])
    with pytest.raises(TeacherReferenceError):
        check_teachers(["org/a", "no teacher"])
