"""What a run leaves on disk: whole files or none, a log that goes on, checkpoints that survive a stop."""

from __future__ import annotations

import json
import os

import pytest
import torch

from hf_free.config.tree import FreeConfig
from hf_free.errors import RunError
from hf_free.training.folder import RunFolder, learner_of_run
from hf_free.training.manifest import Manifest


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "runs" / "first")


def _save(value):
    def save(folder):
        assert list(folder.iterdir()) == []
        (folder / "state.json").write_text(json.dumps(value), encoding="utf-8")

    return save


def _write(run, value, step=0, **options):
    return run.write_checkpoint(_save(value), Manifest(step), **options)


def _value(folder):
    return json.loads((folder / "state.json").read_text(encoding="utf-8"))


def test_nothing_is_made_before_something_is_written(run):
    assert not run.root.exists()
    assert run.read_log() == []
    assert not run.root.exists()


def test_configuration_is_read_back(run):
    config = FreeConfig.from_dict({"seed": 7, "models": ["org/a", "b"], "five": {"inner_steps": 9}})
    run.write_text(run.config, config.to_yaml())
    assert run.read_config() == config


def test_a_pipe_in_the_place_of_the_configuration_is_not_waited_for(run):
    run.root.mkdir(parents=True, exist_ok=True)
    os.mkfifo(run.config)
    with pytest.raises(RunError, match=r"config\.yaml is no file"):
        run.read_config()


def test_a_write_that_fails_leaves_the_old_file(run):
    run.write_json(run.record, {"name": "Größe"})
    before = run.record.read_bytes()
    assert json.loads(before.decode("utf-8")) == {"name": "Größe"}
    with pytest.raises(TypeError, match="not JSON serializable"):
        run.write_json(run.record, {"value": object()})
    assert run.record.read_bytes() == before
    assert [path.name for path in run.root.iterdir()] == ["record.json"]  # no scraps either


def test_log_grows_and_is_cut_where_a_run_goes_on(run):
    for step in (1, 10, 20, 30):
        run.append_log({"step": step, "answers": 1 / step})
    assert [row["step"] for row in run.read_log()] == [1, 10, 20, 30]
    assert [row["step"] for row in run.read_log(before_step=20)] == [1, 10, 20]
    run.append_log({"step": 21})
    assert [row["step"] for row in run.read_log()] == [1, 10, 20, 21]
    assert run.read_log()[1] == {"step": 10, "answers": 0.1}


def test_a_line_that_a_kill_cut_short_is_dropped(run):
    run.append_log({"step": 1})
    with run.log.open("a", encoding="utf-8") as file:
        file.write('{"step": 2, "answ')
    assert run.read_log(before_step=5) == [{"step": 1}]
    run.append_log({"step": 3})
    assert [row["step"] for row in run.read_log()] == [1, 3]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="makes a pipe")
def test_a_pipe_in_the_place_of_the_log_is_not_waited_for(run):
    run.root.mkdir(parents=True)
    os.mkfifo(run.log)
    with pytest.raises(RunError, match=r"log\.jsonl is no file"):
        run.read_log(1)


def test_damaged_lines_are_left_out_and_counted(run, caplog):
    run.append_log({"step": 1})
    with run.log.open("ab") as file:
        file.write(b"half a li\n\n")
    run.append_log({"step": 2})
    assert [row["step"] for row in run.read_log(before_step=9)] == [1, 2]
    assert caplog.messages == [f"{run.log}: 2 damaged lines left out"]
    assert [row["step"] for row in run.read_log()] == [1, 2]
    assert len(caplog.messages) == 1  # gone from the file


def test_the_newest_checkpoint_is_the_one_to_resume(run):
    _write(run, 1)
    _write(run, 2)
    assert _value(run.whole_checkpoint().folder) == 2
    assert sorted(path.name for path in run.root.iterdir()) == ["checkpoints"]


def test_a_failed_save_keeps_the_old_checkpoint(run):
    _write(run, 1)

    def fail(folder):
        (folder / "memory.safetensors").write_bytes(b"half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run.write_checkpoint(fail, Manifest(2))
    assert _value(run.whole_checkpoint().folder) == 1
    assert [path.name for path in run.checkpoints.root.iterdir()] == ["00001-step-0"]  # no scraps either


def test_a_checkpoint_of_before_there_were_manifests_is_called_that(run):
    (run.root / "checkpoint").mkdir(parents=True)
    with pytest.raises(RunError, match="wrote no manifest"):
        run.whole_checkpoint()


@pytest.mark.parametrize("exists", [False, True])
def test_nothing_to_resume(run, exists):
    if exists:
        run.checkpoints.root.mkdir(parents=True)
    with pytest.raises(RunError, match="holds no checkpoint to resume"):
        run.whole_checkpoint()


# ---- an earlier run is never lost


def _snapshot(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def earlier(run):
    """A folder as a finished run left it."""
    run.write_text(run.config, "seed: 7\n")
    _write(run, {"step": 9, "kept_tasks": 3, "seconds": 400.0})
    run.write_text(run.learner / "config.json", "{}")
    return run


def _claim(run, **flags):
    with run.claimed(**{"overwrite": False, "resume": False, **flags}):
        pass


def test_a_run_in_use_is_refused_and_untouched(earlier):
    before = _snapshot(earlier.root)
    with pytest.raises(RunError, match=r"is not empty.*\n.*new or empty folder.*\n.*overwrite=True"):
        _claim(earlier)
    assert _snapshot(earlier.root) == before


@pytest.mark.parametrize("flags", [{}, {"overwrite": True}])
def test_what_is_no_run_is_never_replaced(tmp_path, flags):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match=r"give another --output$"):
        _claim(RunFolder(tmp_path), **flags)
    assert _snapshot(tmp_path) == {"thesis.txt": "years of work"}


def test_refusals_of_what_cannot_be(run, earlier, tmp_path):
    with pytest.raises(RunError, match="--overwrite and --resume together"):
        _claim(earlier, overwrite=True, resume=True)
    (tmp_path / "file").write_text("kept")
    with pytest.raises(RunError, match="is a file"):
        _claim(RunFolder(tmp_path / "file"))
    with pytest.raises(RunError, match="nothing to resume in"):
        _claim(RunFolder(tmp_path / "none"), resume=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "runs"]


def test_overwriting_removes_the_earlier_run_only_after_success(earlier):
    with earlier.claimed(overwrite=True, resume=False):
        assert not earlier.config.exists()
        earlier.write_text(earlier.config, "seed: 8\n")
    assert _snapshot(earlier.root) == {"config.yaml": "seed: 8\n"}
    assert [path.name for path in earlier.root.parent.iterdir()] == ["first"]


def test_overwriting_puts_the_earlier_run_back_after_an_early_failure(earlier, caplog):
    before = _snapshot(earlier.root)
    with pytest.raises(ZeroDivisionError), earlier.claimed(overwrite=True, resume=False):  # noqa: PT012
        earlier.write_text(earlier.config, "seed: 8\n")
        1 / 0  # noqa: B018
    assert _snapshot(earlier.root) == before
    assert [path.name for path in earlier.root.parent.iterdir()] == ["first"]
    assert caplog.messages == [f"{earlier.root} is as it was before"]


def test_overwriting_keeps_both_where_the_new_run_got_somewhere(earlier, caplog):
    before = _snapshot(earlier.root)
    with pytest.raises(KeyboardInterrupt), earlier.claimed(overwrite=True, resume=False):  # noqa: PT012
        _write(earlier, {"step": 1})
        raise KeyboardInterrupt
    assert _value(earlier.whole_checkpoint().folder) == {"step": 1}
    aside = earlier.root.with_name("first.previous")
    assert _snapshot(aside) == before
    assert caplog.messages == [f"the run before is kept in {aside}"]


@pytest.mark.parametrize("flags", [{}, {"resume": True}, {"overwrite": True}])
def test_a_folder_that_a_process_writes_to_is_nobody_elses(earlier, flags):
    before = _snapshot(earlier.root)
    with earlier.claimed(overwrite=False, resume=True), pytest.raises(RunError, match=f"by process {os.getpid()} "):
        _claim(earlier, **flags)
    assert _snapshot(earlier.root) == before


def test_scraps_of_a_killed_run_go_when_it_is_resumed(earlier):
    before = _snapshot(earlier.root)
    (earlier.root / ".best.safetensors.1234.new").write_text("half")
    _claim(earlier, resume=True)
    assert _snapshot(earlier.root) == before


# ---- a run without a learner says how to come to one


def test_a_finished_run_is_its_learner_and_other_folders_are_themselves(earlier, tmp_path):
    assert learner_of_run(earlier.root) == earlier.learner
    assert learner_of_run(tmp_path) == tmp_path
    assert learner_of_run(tmp_path / "none") == tmp_path / "none"


@pytest.mark.parametrize(
    ("state", "ways"),
    [
        (None, ["it has no checkpoint to go on from; start it again with --overwrite"]),
        ({"step": 3, "kept_tasks": 0, "seconds": 9.0}, ["go on with it: {resume}"]),
        (
            {"step": 40, "kept_tasks": 7, "seconds": 400.0},
            ["go on with it: {resume}", "or make a learner of what it has: {resume} --max-minutes 6.66"],
        ),
    ],
)
def test_an_interrupted_run_names_the_commands_that_finish_it(run, state, ways):
    run.write_text(run.config, "seed: 7\n")
    if state is not None:
        _write(run, state)
    with pytest.raises(RunError, match="is not finished and has no learner yet") as refused:
        learner_of_run(run.root)
    resume = f"hf-free train --resume --output {run.root}"
    assert [line.strip() for line in refused.value.action.split("\n")] == [way.format(resume=resume) for way in ways]
    assert ("of step 40" in str(refused.value)) == (state is not None and state["step"] == 40)


def test_a_run_under_way_says_who_is_at_it(run):
    run.write_text(run.config, "seed: 7\n")
    _write(run, {"step": 3})
    with run.claimed(overwrite=False, resume=True), pytest.raises(RunError, match="no learner yet") as refused:
        learner_of_run(run.root)
    assert f"wait: it is being trained by process {os.getpid()}" in refused.value.action


def test_answers_that_were_paid_for_outlive_the_run(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.answers.mkdir(parents=True)
    (folder.answers / "x.answers").write_text("one")
    folder.check_usable()  # what a start has left that came to nothing
    folder.begin("seed: 1\n", resume=False)
    with pytest.raises(RunError, match="not empty"):
        folder.check_usable()
    with folder.claimed(overwrite=True, resume=False):
        assert (folder.answers / "x.answers").read_text() == "one"
        folder.learner.mkdir()
    assert not (tmp_path / "run.previous").exists()
    folder.learner.rmdir()
    folder.begin("seed: 1\n", resume=False)

    def fail() -> None:
        with folder.claimed(overwrite=True, resume=False):
            (folder.answers / "y.answers").write_text("two")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert sorted(path.name for path in folder.answers.iterdir()) == ["x.answers", "y.answers"]
    assert folder.config.read_text() == "seed: 1\n"  # put back, with what the new run had paid for


@pytest.mark.parametrize("name", ["checkpoints", "pictures", "trackers", "learner", "pooled", "answers", "log.jsonl"])
def test_links_in_the_place_of_what_a_run_writes_into_are_refused(earlier, tmp_path, name):
    elsewhere = tmp_path / "elsewhere"
    if (earlier.root / name).exists():
        (earlier.root / name).rename(elsewhere)
    (earlier.root / name).symlink_to(elsewhere)
    with pytest.raises(RunError, match=f"{name} is a link"):
        earlier.check_usable(resume=True)


def test_answers_that_are_a_link_are_not_added_to(tmp_path):
    run = RunFolder(tmp_path / "new")
    run.root.mkdir()
    run.answers.symlink_to(tmp_path)
    with pytest.raises(RunError, match="answers is a link"):
        run.check_usable()


def test_a_generator_whose_weights_are_others_than_were_saved_is_damaged(run):
    """A machine that loses power may leave zeros in the place of the rest."""
    run.root.mkdir(parents=True)
    run.config.write_text(FreeConfig().to_yaml(), encoding="utf-8")
    run.write_generator({"a": torch.ones(100)})
    assert run.read_generator().weights["a"].sum() == 100
    whole = run.generator.read_bytes()
    run.generator.write_bytes(whole[:-40] + bytes(40))
    with pytest.raises(RunError, match=r"generator\.safetensors is damaged: its weights are not those"):
        run.read_generator()
