"""Whole runs of a few steps with pico teachers: what they leave, stops and resumptions, bad teachers, every recipe."""

from __future__ import annotations

import io
import itertools
import json
import math
import shutil
import signal
from dataclasses import replace

import pytest
import torch
from drawing import with_drawing
from metered import TAKEN, meter_all_runs
from pico import CrampedNetwork, constant_folder, pico_folder, pico_teacher
from PIL import Image
from replacing import replace_everywhere
from rich.console import Console
from runs import TINY, last_checkpoint
from safetensors.torch import load_file, save_file

from hf_free.config.reading import merge
from hf_free.config.recipes import recipe_values
from hf_free.config.tree import FreeConfig
from hf_free.errors import ConfigError, HfFreeError, RunError
from hf_free.evaluation.datasets import load_labeled_images
from hf_free.evaluation.evaluate import EpisodeSettings, evaluate
from hf_free.inversion.five import invert_teacher
from hf_free.inversion.inversion_loss import InversionLoss
from hf_free.learner.embedding import Embedding
from hf_free.learner.meta_learner import MetaLearner
from hf_free.memory.bank import NO_CLASS
from hf_free.metalearning.continual import PreviousLearner
from hf_free.metalearning.distill import Distiller
from hf_free.provenance.recorded_teacher import LeftOut
from hf_free.publishing.redaction import public_record
from hf_free.runtime.interrupts import StopBetweenSteps
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.soft_labels import TeacherSource
from hf_free.teachers.teacher import Teacher
from hf_free.training.budgeting import make_budget
from hf_free.training.folder import RunFolder
from hf_free.training.progress import RunProgress
from hf_free.training.screening import MAX_FAILURES
from hf_free.training.trainer import train
from hf_free.training.trial import Load, Trial

REPLAY = {
    "five": {"width": 4, "latent_dim": 8, "images_per_class": 4, "inner_steps": 2},
    "memory": {"max_images": 400, "held_out_images": 2},
    "bell": {"n_way": 3, "n_query": 2, "replay_tasks": 1, "replay_patience": 1, "replay_inner_steps": 2},
    "learner": {"image_size": 16},
    "trainer": {**TINY["trainer"], "steps": 5},
}
"""The paper's recipe, small."""


@pytest.fixture(autouse=True)
def ctrl_c_as_in_a_terminal():
    """Python's own handler: a shell that starts the tests in the background has them ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def _steps_are_waited_for(monkeypatch):
    """However long they take on a busy machine; tests/system/test_interrupted_runs.py stops inside them."""
    monkeypatch.setattr("hf_free.runtime.interrupts.GRACE_SECONDS", 1e9)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _config(**values):
    return FreeConfig.from_dict(merge(TINY, values))


def _pool(*extra):
    teachers = [
        pico_teacher("conv4", size=16, num_classes=3, seed=0, label_names=("cat", "dog", "owl")),
        pico_teacher("vit", size=16, num_classes=2, seed=1),
        pico_teacher("conv4", size=24, num_classes=4, seed=2),
    ]
    return TeacherPool.from_teachers([*teachers, *extra])


def _weights(path):
    return load_file(path / "learner" / "model.safetensors") | load_file(path / "learner" / "hf_free.safetensors")


def _same(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


# ---- what a run leaves


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    torch.set_num_threads(1)
    output = tmp_path_factory.mktemp("run") / "first"
    config = _config(trainer={"picture_every": 2}, hub={"push_generator": True, "card_images": True})
    with with_drawing():
        learner = train(config, output=output, pool=_pool())
    return config, output, learner


def test_a_run_leaves_its_folder(finished):
    config, output, _ = finished
    assert RunFolder(output).read_config() == config
    files = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    expected = {
        "config.yaml",
        "teachers.json",
        "log.jsonl",
        "record.json",
        "best.safetensors",
        "generator.safetensors",
        "pictures/recovered.png",
        "pictures/losses.png",
        *(f"checkpoints/00003-step-6/{name}" for name in ("manifest.json", "state.json", "memory.safetensors")),
        "checkpoints/00002-step-6/held_out.safetensors",
        "learner/config.json",
        "learner/model.safetensors",
        "learner/hf_free.safetensors",
        "learner/README.md",
        "learner/generator.safetensors",
        "learner/pictures/recovered.png",
    }
    assert expected <= files
    assert not [name for name in files if ".new" in name or ".old" in name or name.endswith(".tmp")]
    for picture in ("recovered.png", "losses.png"):
        with Image.open(output / "pictures" / picture) as opened:
            assert opened.convert("L").getextrema() != (255, 255)


def test_log_has_a_row_a_step(finished):
    rows = RunFolder(finished[1]).read_log()
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[0]["memory"] == 0  # warm-up
    assert rows[-1]["memory"] > rows[1]["memory"] > 0
    assert [("answers" in row) for row in rows] == [False, True, True, True, True, True]
    recovers = [("cross_entropy" in row) for row in rows]
    assert recovers == [True, True, True, True, True, False]  # 0.7 of 6 steps: the fifth starts at 4/6
    assert ["adversarial" in row for row in rows] == [False, True, True, True, True, False]  # not in the warm-up
    minutes = [row["minutes"] for row in rows]
    assert minutes == sorted(minutes)
    assert all(math.isfinite(value) for row in rows for value in row.values())


def test_record_says_where_the_learner_comes_from(finished):
    config, output, learner = finished
    record = json.loads((output / "record.json").read_text(encoding="utf-8"))
    published = json.loads((output / "learner" / "config.json").read_text(encoding="utf-8"))["hf_free"]
    assert published == public_record(record)  # what names private teachers or local folders stays here
    assert record["config"] == config.to_dict()
    assert [entry["num_classes"] for entry in record["teachers"]] == [3, 2, 4]
    assert record["data_free"] is True
    assert record["training"]["steps"] == 6
    assert record["training"]["best_step"] in (3, 6)
    assert record["training"]["mixed_precision"] == "no"
    assert record["skipped"] == []
    # steps 2 to 5, two teachers each; a teacher's classes have 4 pictures each
    assert record["recovered"]["tasks"] == 8
    assert 8 * 2 * 4 <= record["recovered"]["images"] <= 8 * 4 * 4
    assert learner.record.versions["torch"] == torch.__version__


def test_the_published_learner_is_the_one_returned(finished):
    _, output, learner = finished
    loaded = MetaLearner.from_pretrained(output / "learner")
    pictures = torch.rand(5, 3, 20, 20)
    assert torch.allclose(loaded.embed(pictures), learner.embed(pictures), atol=1e-6)
    assert not learner.training
    shared = loaded.embedding.shared_classes
    # all answers, what teachers know together, and the backbone's features
    assert loaded.feature_dim == 3 + 2 + 4 + (0 if shared is None else len(shared)) + 32
    classifier = loaded.adapt(pictures, ["a", "b", "a", "b", "c"])
    assert set(classifier.predict(torch.rand(4, 3, 16, 16))) <= {"a", "b", "c"}


def test_the_best_checkpoint_is_the_one_published(finished):
    _, output, _ = finished
    best, published = load_file(output / "best.safetensors"), _weights(output)
    for name, value in best.items():
        assert torch.equal(value, published[name.removeprefix("backbone.").removeprefix("embedding.")])


def test_the_generator_can_be_used_afterwards(finished):
    _, output, _ = finished
    task = invert_teacher(
        pico_teacher("conv4", size=16), steps=1, images_per_class=2, generator=RunFolder(output).read_generator()
    )
    assert task.images.shape == (10, 3, 16, 16)


@pytest.mark.draws
def test_what_is_not_asked_for_is_not_published(tmp_path):
    train(_config(), output=tmp_path, pool=_pool())
    assert not (tmp_path / "learner" / "generator.safetensors").exists()
    assert not (tmp_path / "learner" / "pictures" / "recovered.png").exists()  # these teachers are not public
    assert (tmp_path / "pictures" / "recovered.png").exists()
    assert (tmp_path / "generator.safetensors").exists()


# ---- stop and resume


class StoppingPool(TeacherPool):
    """Has something happen when the n-th teacher of a run is asked for."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.countdown, self.event = math.inf, None

    def __getitem__(self, index):
        self.countdown -= 1
        if self.countdown == 0:
            self.event()
        return super().__getitem__(index)


def _stopping_pool(after, event):
    pool = _pool()
    stopping = StoppingPool([])
    stopping.__dict__.update(pool.__dict__)
    stopping.countdown, stopping.event = after, event
    return stopping


@pytest.fixture(autouse=True)
def _what_is_measured_before_a_run_does_not_count(monkeypatch):
    def uncounted(work, inverter, pool, *args, **options):
        if not isinstance(pool, StoppingPool):
            return make_budget(work, inverter, pool, *args, **options)
        countdown, pool.countdown = pool.countdown, math.inf
        made = make_budget(work, inverter, pool, *args, **options)
        pool.countdown = countdown
        return made

    replace_everywhere(monkeypatch, "hf_free.training.budgeting.make_budget", uncounted)


def _power_cut():
    raise SystemError("power cut")


def _ctrl_c():
    signal.raise_signal(signal.SIGINT)


def _without_minutes(path):
    return [{k: v for k, v in row.items() if k != "minutes"} for row in RunFolder(path).read_log()]


class Uninterrupted(dict):
    """Folders of runs by recipe, never stopped; each is made when it is first asked for."""

    def __init__(self, root):
        super().__init__()
        self.root, self.learners = root, {}

    def __missing__(self, name):
        self[name] = self.root / name
        self.learners[name] = train(CONFIGS[name], output=self[name], pool=_pool())
        return self[name]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    torch.set_num_threads(1)
    return Uninterrupted(tmp_path_factory.mktemp("uninterrupted"))


CONFIGS = {
    "default": _config(
        trainer={"steps": 8, "checkpoint_every": 2},
        memory={"max_images": 60},
        five={"teachers_per_step": 3, "inner_steps": 2},
    ),
    "paper": FreeConfig.from_dict(merge(recipe_values("paper"), {**REPLAY, "seed": 1})),
    "released": FreeConfig.from_dict(merge(recipe_values("released"), {**REPLAY, "seed": 1})),
}


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("default", _power_cut),
        pytest.param("default", _ctrl_c, marks=pytest.mark.long),
        ("paper", _power_cut),
        pytest.param("paper", _ctrl_c, marks=pytest.mark.long),
        pytest.param("released", _power_cut, marks=pytest.mark.long),
        pytest.param("released", _ctrl_c, marks=pytest.mark.long),
    ],
)
def test_stopped_and_resumed_is_bit_identical(tmp_path, uninterrupted, name, event):
    config = CONFIGS[name]
    every = config.trainer.checkpoint_every
    calls = _calls_until_after(config, every)
    with pytest.raises(SystemError if event is _power_cut else KeyboardInterrupt):
        train(config, output=tmp_path, pool=_stopping_pool(calls, event))
    state = json.loads((last_checkpoint(tmp_path) / "state.json").read_text(encoding="utf-8"))
    assert state["step"] == every + (event is _ctrl_c)  # Ctrl-C waits for the step under way
    assert not (tmp_path / "learner").exists()
    train(config, output=tmp_path, pool=_pool(), resume=True)
    assert _same(_weights(tmp_path), _weights(uninterrupted[name]))
    assert _same(
        load_file(tmp_path / "generator.safetensors"), load_file(uninterrupted[name] / "generator.safetensors")
    )
    assert _without_minutes(tmp_path) == _without_minutes(uninterrupted[name])


def _calls_until_after(config, steps):
    """How often a teacher is asked for until the first inversion after some steps."""
    drawn = min(config.five.teachers_per_step, 3)
    lent = 1 if config.five.donor_batchnorm else 0  # with all three drawn, the ViT is always among them
    asked = 3  # each teacher, about new pictures; in the paper's recipe because two of them name no classes
    return steps * (drawn + lent + asked) - config.trainer.warmup_steps * asked + 1


def test_same_seed_same_learner_another_seed_another(tmp_path):
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        train(_config(seed=seed, trainer={"steps": 3}), output=tmp_path / name, pool=_pool())
    assert _same(_weights(tmp_path / "again"), _weights(tmp_path / "first"))
    assert not _same(_weights(tmp_path / "other"), _weights(tmp_path / "first"))


def test_two_threads_recover_what_one_does(tmp_path):
    """A teacher each, that is, in a whole run; what is computed of the learner may be rounded otherwise."""
    rows = []
    for threads in (1, 2):
        teachers = [pico_teacher("conv4", size=16, num_classes=3, seed=seed) for seed in range(4)]
        config = _config(trainer={"steps": 3, "threads": threads}, five={"inner_steps": 2})
        train(config, output=tmp_path / str(threads), pool=TeacherPool.from_teachers(teachers))
        rows.append(RunFolder(tmp_path / str(threads)).read_log())
    terms = [
        [{name: row[name] for name in ("batchnorm", "cross_entropy", "diversity")} for row in log] for log in rows
    ]
    assert terms[0][:2] == terms[1][:2], "the steps before it learns"
    assert rows[1][2]["answers"] == pytest.approx(rows[0][2]["answers"], rel=0.01)


def test_resumed_after_the_end_nothing_changes(tmp_path, finished):
    config, output, _ = finished
    run = shutil.copytree(output, tmp_path / "run")
    train(config, output=run, pool=_pool(), resume=True)
    assert _same(_weights(run), _weights(output))
    assert _without_minutes(run) == _without_minutes(output)


def _asking_two(**values):
    return _config(**merge({"memory": {"teachers_per_image": 2}}, values))


def _a_stop(at):
    """What `watch` is told, until a Ctrl-C after so many steps."""
    steps = itertools.count(1)

    def watch(learner, minutes):
        if next(steps) == at:
            raise KeyboardInterrupt

    return watch


def test_a_run_that_asks_two_of_three_teachers_resumes_to_the_bit(tmp_path, monkeypatch):
    """The learner, the memory, and whose turn it is to be asked; the energy adds up."""
    meter_all_runs(monkeypatch)
    config = _asking_two(trainer={"checkpoint_every": 2})
    train(config, output=tmp_path / "whole", pool=_pool())
    with pytest.raises(KeyboardInterrupt):
        train(config, output=tmp_path / "parts", pool=_pool(), watch=_a_stop(4))
    resumed = train(config, output=tmp_path / "parts", pool=_pool(), resume=True)
    assert resumed.record.training.energy == TAKEN + TAKEN
    whole, parts = (last_checkpoint(tmp_path / name) for name in ("whole", "parts"))
    assert _same(_weights(tmp_path / "whole"), _weights(tmp_path / "parts"))
    for name in ("memory.safetensors", "held_out.safetensors"):
        assert _same(
            *({key: value.nan_to_num() for key, value in load_file(at / name).items()} for at in (whole, parts))
        )
    assert load_file(whole / "memory.safetensors")["blocks"].shape[1] == 2
    states = [json.loads((folder / "state.json").read_text(encoding="utf-8")) for folder in (whole, parts)]
    assert states[0]["asked"] == states[1]["asked"]
    assert sum(states[0]["asked"]) > 0


def test_a_run_with_a_memory_of_five_pictures_comes_to_its_end(tmp_path):
    learner = train(_asking_two(memory={"max_images": 5}), output=tmp_path, pool=_pool())
    assert len(load_file(last_checkpoint(tmp_path) / "memory.safetensors")["images"]) <= 5
    assert all(tensor.isfinite().all() for tensor in learner.state_dict().values() if tensor.is_floating_point())


@pytest.mark.long
def test_a_folder_of_full_answers_is_resumed_by_a_run_that_asks_two(tmp_path):
    """As versions left it that asked everybody."""
    train(_config(memory={"teachers_per_image": None}, trainer={"steps": 3}), output=tmp_path, pool=_pool())
    (tmp_path / "config.yaml").write_text(_asking_two().to_yaml(), encoding="utf-8")
    longer = _asking_two(trainer={"steps": 5})
    train(longer, output=tmp_path, pool=_pool(), resume=True)
    assert json.loads((last_checkpoint(tmp_path) / "state.json").read_text(encoding="utf-8"))["step"] == 5
    held = load_file(last_checkpoint(tmp_path) / "memory.safetensors")
    assert "blocks" not in held


def test_nothing_to_resume(tmp_path):
    with pytest.raises(RunError, match="nothing to resume in"):
        train(_config(), output=tmp_path, pool=_pool(), resume=True)
    (tmp_path / "config.yaml").write_text(_config().to_yaml(), encoding="utf-8")
    with pytest.raises(RunError, match="holds no checkpoint to resume"):
        train(_config(), output=tmp_path, pool=_pool(), resume=True)


def test_a_second_ctrl_c_stops_at_once():
    with pytest.raises(KeyboardInterrupt), StopBetweenSteps() as stop:  # noqa: PT012
        _ctrl_c()
        assert stop.wanted
        _ctrl_c()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_ctrl_c_nothing_changes():
    with StopBetweenSteps() as stop:
        assert not stop.wanted
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopBetweenSteps() as stop:
            _ctrl_c()  # a run in the background that ignores it goes on ignoring it
            assert not stop.wanted
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_how_often_is_logged_changes_nothing(tmp_path, uninterrupted, monkeypatch):
    """The gradients' cosine is measured in logged steps only."""
    monkeypatch.setattr("hf_free.training.trackers.FIRST_LINES", 1)
    config = FreeConfig.from_dict(merge(CONFIGS["paper"].to_dict(), {"trainer": {"log_every": 4}}))
    train(config, output=tmp_path, pool=_pool())
    rows = RunFolder(tmp_path).read_log()
    assert ["gradient_cosine" in row for row in rows] == [False, True, False]  # steps 1, 4 and the last
    assert _same(_weights(tmp_path), _weights(uninterrupted["paper"]))


# ---- which state is published


def _choice(path):
    return json.loads((path / "record.json").read_text(encoding="utf-8"))["training"]


def test_held_out_pictures_choose_among_states_since_they_are_complete(tmp_path):
    """While they fill, every score is one on other pictures."""
    config = _config(memory={"held_out_images": 30}, trainer={"checkpoint_every": 1, "steps": 10})
    train(config, output=tmp_path, pool=_pool())
    chosen = _choice(tmp_path)
    assert chosen["best_step"] >= 5  # a quarter of the 24 to 40 pictures a step from the second on
    assert chosen["chosen_on"] == "30 recovered pictures kept aside"


def test_held_out_pictures_that_stay_few_choose_all_the_same(tmp_path):
    values = {"memory": {"held_out_images": 6000}, "five": {"recover_share": 0.5}}
    train(_config(**values, trainer={"steps": 8, "checkpoint_every": 1}), output=tmp_path, pool=_pool())
    chosen, aside = _choice(tmp_path), load_file(last_checkpoint(tmp_path) / "held_out.safetensors")["images"]
    assert chosen["chosen_on"] == f"{len(aside)} recovered pictures kept aside"
    assert chosen["best_step"] >= 4  # the last in which a task was recovered


def test_only_recovered_pictures_are_held_out_and_a_short_run_learns_from_the_others(tmp_path):
    config = _config(memory={"held_out_images": 60, "drawn_per_step": 64}, trainer={"steps": 4})
    train(config, output=tmp_path, pool=_pool())
    aside, kept = (load_file(last_checkpoint(tmp_path) / f"{name}.safetensors") for name in ("held_out", "memory"))
    assert len(aside["images"]) > 0
    assert (aside["class_ids"] != NO_CLASS).all()
    assert len(aside["images"]) <= 0.25 * len(kept["images"]) + 16  # one task of 4 pictures of up to 4 classes
    assert (kept["class_ids"] != NO_CLASS).any()


def test_a_learner_that_breaks_is_an_error_and_what_there_is_stays(tmp_path):
    config = _config(bell={"lr": 9.0, "weight_decay": 1e30}, trainer={"checkpoint_every": 100})
    with pytest.raises(RunError, match="score is not a number at step 6") as caught:
        train(config, output=tmp_path, pool=_pool())
    assert "bell.lr" in str(caught.value)
    assert len(load_file(last_checkpoint(tmp_path) / "memory.safetensors")["images"]) > 0
    assert not (tmp_path / "learner").exists()


def _picture_set(path, splits, classes=4, each=6):
    for split in splits:
        for label in range(classes):
            folder = path / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(each):
                pixels = torch.randint(256, (20, 20, 3), dtype=torch.uint8).numpy() // (label + 1)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return str(path)


EPISODE = {"n_way": 3, "k_shot": 1, "n_query": 3}


def test_a_validation_set_chooses(tmp_path):
    torch.manual_seed(0)
    pictures = _picture_set(tmp_path / "pictures", ["train", "validation", "test"])
    config = _config(bell=EPISODE, trainer={"validation_dataset": pictures, "checkpoint_every": 1})
    learner = train(config, output=tmp_path / "run", pool=_pool())
    chosen = _choice(tmp_path / "run")
    said = f"{pictures}, split validation (5 3-way 1-shot episodes, inductive)"
    assert chosen["chosen_on"] == said
    card = (tmp_path / "run" / "learner" / "README.md").read_text(encoding="utf-8")
    assert "chosen on pictures, split validation" in card  # the last part of the path only
    state = json.loads((last_checkpoint(tmp_path / "run") / "state.json").read_text(encoding="utf-8"))
    data = load_labeled_images(pictures, split="validation")
    learner.embedding = Embedding(learner.embedding.projection, learner.embedding.sizes)  # the rest is fitted last
    rows = evaluate(learner, data, EpisodeSettings(n_way=3, k_shots=(1,), n_query=3, episodes=5)).rows
    assert rows[0].accuracy == pytest.approx(state["best_score"])


@pytest.mark.parametrize(
    ("source", "split", "message"),
    [
        ("both", "test", "it is named test"),
        ("only_test", None, "it is named test"),
        ("both/test", None, "it is named test"),
        (None, "validation", "without a data set"),
        ("both", "train", "only 4 classes|out of 4 classes"),
    ],
)
def test_validation_sets_that_are_refused(tmp_path, source, split, message):
    _picture_set(tmp_path / "both", ["train", "test"], each=2)
    _picture_set(tmp_path / "only_test", ["test"], each=2)
    config = _config(
        trainer={"validation_dataset": source and str(tmp_path / source), "validation_split": split},
        bell={"n_way": 5},
    )
    with pytest.raises(HfFreeError, match=message):
        train(config, output=tmp_path / "run", pool=_pool())
    assert not (tmp_path / "run").exists()


# ---- how long


@pytest.mark.parametrize("recipe", ["default", "paper"])
def test_a_run_without_an_end_is_refused(tmp_path, recipe):
    config = FreeConfig.from_dict(merge(recipe_values(recipe), {"trainer": {"steps": None, "max_minutes": None}}))
    with pytest.raises(ConfigError, match=r"a run without an end.*both unset") as caught:
        train(config, output=tmp_path / "run", pool=_pool())
    assert "--max-minutes" in str(caught.value)
    assert not (tmp_path / "run").exists()


class FakeTime:
    """Stands for `time` in `hf_free.training.schedule`: it stands still until it is told to go on."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def pass_an_hour(self):
        self.now += 3600


def test_minutes_end_a_run(tmp_path, monkeypatch):
    clock = FakeTime()
    monkeypatch.setattr("hf_free.training.schedule.time", clock)
    config = _config(
        trainer={"steps": None, "max_minutes": 50.0, "warmup_steps": 0, "min_steps": 0}, memory={"held_out_images": 2}
    )

    def ten_minutes(learner, minutes):
        clock.now += 600

    train(config, output=tmp_path, pool=_pool(), watch=ten_minutes)
    assert [row["minutes"] for row in RunFolder(tmp_path).read_log()] == [0, 10, 20, 30, 40]


# ---- bad teachers


def _break(teacher, value=float("nan")):
    """Spoil a teacher that the pool has tried out already, as one may be that fails on recovered pictures only."""
    with torch.no_grad():
        for parameter in teacher.network.get_classifier().parameters():
            parameter.fill_(value)


LONG = {"trainer": {"steps": MAX_FAILURES + 3}, "five": {"recover_share": 1.0, "teachers_per_step": 4}}
"""Long enough for a teacher to fail until it is left alone; every teacher is drawn every step."""


def test_a_teacher_of_nan_is_skipped_and_the_others_go_on(tmp_path):
    pool = _pool(pico_teacher("conv4", size=16, num_classes=3, seed=9))
    _break(pool[3])
    learner = train(_config(**LONG), output=tmp_path, pool=pool)
    (skipped,) = learner.record.skipped
    assert "not finite" in skipped.reason
    assert list(learner.record.left_out.values()) == [MAX_FAILURES]
    assert learner.record.recovered.tasks == (MAX_FAILURES + 2) * 3
    assert all(torch.isfinite(value).all() for value in _weights(tmp_path).values())
    rows = RunFolder(tmp_path).read_log()
    assert all(math.isfinite(value) for row in rows for value in row.values())
    answers = [row["answers"] for row in rows if "answers" in row]
    assert answers[-1] < 10  # the loss of the others, not a division by nothing
    classes = load_file(last_checkpoint(tmp_path) / "memory.safetensors")["classes"]
    assert set(classes[:, 0].tolist()) <= {0, 1, 2}  # none of its pictures was kept


def test_a_teacher_with_constant_output_is_skipped_and_the_others_go_on(tmp_path):
    pool = _pool(pico_teacher("conv4", size=16, num_classes=8, seed=9))
    _break(pool[3], 0.0)
    learner = train(_config(**merge(LONG, {"five": {"min_teacher_accuracy": 0.2}})), output=tmp_path, pool=pool)
    reasons = [entry.reason for entry in learner.record.skipped]
    reason = "the teacher recognizes 12% of its recovered pictures (at least 20% are needed)"
    assert f"not inverted any more: {reason}" in reasons
    rows = RunFolder(tmp_path).read_log()
    assert max(row.get("answers", 0) for row in rows) < 100


def test_broken_folders_are_named_with_their_reasons(tmp_path):
    folders = [pico_folder(tmp_path / name, size=16, num_classes=3, seed=i) for i, name in enumerate("abcd")]
    for folder, value in ((folders[1], float("nan")), (folders[3], 0.0)):
        weights = load_file(folder / "model.safetensors")
        weights["head.weight"].fill_(value)
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
    config = FreeConfig.from_dict(merge(TINY, {"models": [str(folder) for folder in folders]}))
    learner = train(config, output=tmp_path / "run")
    reasons = {entry.reference: entry.reason for entry in learner.record.skipped}
    assert set(reasons) == {str(folders[1]), str(folders[3])}
    assert "NaN" in reasons[str(folders[1])]
    assert "constant output" in reasons[str(folders[3])]
    assert len(learner.record.teachers) == 2
    assert "constant output" in (tmp_path / "run" / "learner" / "README.md").read_text(encoding="utf-8")


def test_a_run_says_licenses_first_and_names_a_folder_that_reads_like_a_repository(tmp_path, caplog, monkeypatch):
    folders = [pico_folder(tmp_path / "lab" / name, size=16, num_classes=3, seed=i) for i, name in enumerate("abc")]
    weights = load_file(folders[2] / "model.safetensors")
    weights["head.weight"].fill_(0.0)
    save_file(weights, folders[2] / "model.safetensors", {"format": "pt"})
    (folders[0] / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    train(FreeConfig.from_dict(merge(TINY, {"models": ["lab/a", "lab/b", "lab/c"]})), output=tmp_path / "run")
    said = [record.message for record in caplog.records if record.name == "hf_free.training.screening"]
    assert said[:3] == [
        f"non-commercial license: {folders[0]} (cc-by-nc-4.0); a learner made of them may be bound by it",
        f"no license stated: {folders[1]}; ask the authors before you publish a learner",
        f"left out: {folders[2]}: has a constant output",
    ]
    card = (tmp_path / "run" / "learner" / "README.md").read_text(encoding="utf-8")
    assert "- c: has a constant output\n" in card


def test_a_run_that_learned_hardly_anything_says_so(tmp_path, caplog):
    pool = _pool()
    run = tmp_path / "run"
    train(FreeConfig.from_dict(merge(TINY, {"trainer": {"steps": 2}})), output=run, pool=pool)
    last = RunFolder(run).read_log()[-1]
    assert last["answers"] > 0.7
    said = f"hardly trained: {100 * last['answers']:.0f} % of what the teachers' answers vary by is not predicted yet"
    assert said in caplog.text
    caplog.clear()
    log = (run / "log.jsonl").read_text(encoding="utf-8")
    (run / "log.jsonl").write_text(log.replace(f'"answers": {last["answers"]}', '"answers": 0.1'), encoding="utf-8")
    train(FreeConfig.from_dict(merge(TINY, {"trainer": {"steps": 2}})), output=run, pool=pool, resume=True)
    assert "hardly trained" not in caplog.text


def test_fewer_than_two_tasks_to_begin_with(tmp_path):
    folder = pico_folder(tmp_path / "a", size=16)
    constant = constant_folder(tmp_path / "constant", size=16)
    config = FreeConfig.from_dict(merge(TINY, {"models": [str(folder), str(constant)]}))
    with pytest.raises(RunError, match=r"(?s)fewer than two tasks: 1 usable teacher\(s\); left out.*constant output"):
        train(config, output=tmp_path / "run", console=(console := Console(file=io.StringIO(), width=400)))
    assert not (tmp_path / "run").exists()
    assert "Output folder" not in console.file.getvalue(), "there is none"
    with pytest.raises(RunError, match=r"fewer than two tasks: 0 usable"):
        train(_config(), output=tmp_path / "run")


def test_a_teacher_that_cannot_be_had_is_an_error_however_many_others_there_are(tmp_path):
    folders = [str(pico_folder(tmp_path / name, size=16)) for name in "abc"]
    config = FreeConfig.from_dict(merge(TINY, {"models": [*folders, str(tmp_path / "not" / "there")]}))
    with pytest.raises(HfFreeError, match="there"):
        train(config, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_fewer_than_two_tasks_on_the_way(tmp_path):
    teachers = [pico_teacher("conv4", size=16, num_classes=3, seed=seed) for seed in (0, 9)]
    pool = TeacherPool.from_teachers(teachers)
    _break(teachers[1])
    config = _config(**merge(LONG, {"trainer": {"checkpoint_every": 1000}}))
    with pytest.raises(RunError, match=r"fewer than two tasks: 1 usable teacher\(s\)") as caught:
        train(config, output=tmp_path, pool=pool)
    assert "not finite" in str(caught.value)
    kept = load_file(last_checkpoint(tmp_path) / "memory.safetensors")["images"]
    assert len(kept) > 0  # what there was is kept
    with pytest.raises(RunError, match="fewer than two tasks"):
        train(config, output=tmp_path, pool=pool, resume=True)


def test_a_run_that_never_leaves_its_warm_up(tmp_path):
    with pytest.raises(ConfigError, match="a run of 6 steps, all of them warm-up"):
        train(_config(trainer={"warmup_steps": 50}), output=tmp_path / "other", pool=_pool())
    assert not (tmp_path / "other").exists(), "the same command with more steps is not refused"


# ---- the other recipes


@pytest.fixture(scope="module")
def recipes(uninterrupted):
    """Learner and folder by recipe."""
    folders = {name: uninterrupted[name] for name in ("paper", "released")}
    return {name: (uninterrupted.learners[name], folder) for name, folder in folders.items()}


@pytest.mark.parametrize("name", ["paper", "released"])
def test_recipes_of_the_paper_run(recipes, name):
    learner, output = recipes[name]
    rows = RunFolder(output).read_log()
    assert "distillation" not in rows[0]
    # the second step's tasks are held out, so that learning starts with the third
    assert {"distillation", "gradient_cosine", "replay_accuracy", "replay_updates"} <= set(rows[-1])
    assert 0 <= rows[-1]["replay_accuracy"] <= 1
    assert rows[-1]["replay_updates"] >= 1
    assert "batchnorm" not in rows[-1]  # the prior that the released code never registers
    loaded = MetaLearner.from_pretrained(output / "learner")
    assert loaded.config.head == "maml"
    assert loaded.embedding.projection is None
    classifier = loaded.adapt(torch.rand(4, 3, 16, 16), [0, 1, 0, 1])
    assert len(classifier.predict(torch.rand(3, 3, 16, 16))) == 3
    assert learner.record.config["method"] == name


def test_the_defects_show(recipes):
    paper, released = recipes["paper"][0], recipes["released"][0]
    assert paper.record.config["defects"] == []
    assert len(released.record.config["defects"]) == 8
    assert (paper.batchnorm, released.batchnorm) == ("support", "transductive")
    # four steps after the warm-up; three teachers each, or only the last of them
    assert paper.record.recovered.tasks == 12
    assert released.record.recovered.tasks == 4
    assert not _same(_weights(recipes["paper"][1]), _weights(recipes["released"][1]))


QUICK_DEFECTS = {"transductive_batchnorm", "store_last_teacher_only"}
ALL_DEFECTS = [
    defect if defect in QUICK_DEFECTS else pytest.param(defect, marks=pytest.mark.long)
    for defect in recipe_values("released")["defects"]
]


@pytest.mark.parametrize("defect", ALL_DEFECTS)
def test_each_defect_can_be_switched_on_alone(tmp_path, uninterrupted, defect):
    config = FreeConfig.from_dict(merge(CONFIGS["paper"].to_dict(), {"defects": [defect]}))
    learner = train(config, output=tmp_path, pool=_pool())
    assert all(torch.isfinite(value).all() for value in _weights(tmp_path).values())
    if defect == "transductive_batchnorm":  # changes how a learner is used, not how it is trained
        assert learner.batchnorm == "transductive"
    else:
        changed = not _same(_weights(tmp_path), _weights(uninterrupted["paper"])) or _without_minutes(
            tmp_path
        ) != _without_minutes(uninterrupted["paper"])
        assert changed


def test_a_learner_can_leave_out_its_teachers_answers(tmp_path, uninterrupted):
    config = FreeConfig.from_dict(merge(CONFIGS["default"].to_dict(), {"learner": {"answers": False}}))
    train(config, output=tmp_path, pool=_pool())
    learner, usual = (MetaLearner.from_pretrained(run / "learner") for run in (tmp_path, uninterrupted["default"]))
    assert usual.embedding.projection is not None
    assert learner.embedding.projection is None
    assert learner.embedding.gate is None
    assert not [name for name in _weights(tmp_path) if "projection" in name]
    assert _same(dict(learner.backbone.state_dict()), dict(usual.backbone.state_dict()))  # trained alike
    pictures = torch.rand(2, 3, 16, 16)
    assert torch.equal(learner.raw_answers(pictures), learner.backbone((pictures - learner.mean) / learner.std))
    assert PreviousLearner(learner, learner.record.teachers).blocks == ()


@pytest.mark.parametrize("channels", [1, pytest.param(3, marks=pytest.mark.long)])
def test_a_learner_of_one_channel_or_three(tmp_path, channels):
    pool = _pool(pico_teacher("conv4", size=16, in_chans=1, num_classes=2))
    learner = train(_config(learner={"channels": channels}), output=tmp_path, pool=pool)
    shared = len(learner.embedding.shared_classes or ())
    assert learner.embed(torch.rand(2, channels, 16, 16)).shape == (2, 11 + shared + 32)
    assert load_file(last_checkpoint(tmp_path) / "memory.safetensors")["images"].shape[1:] == (channels, 16, 16)


@pytest.mark.parametrize(
    ("objective", "backbone", "size"),
    [
        ("distill", "conv4_64", 32),
        ("distill", "resnet10_small", 16),
        ("align", "test_vit", 32),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in (
                ("distill", "conv4_32", 32),
                ("distill", "resnet12_small", 16),
                ("distill", "resnet18_small", 16),
                ("distill", "test_resnet", 48),
                ("distill", "test_vit", 160),  # its own size
                ("align", "conv4_64", 16),
                ("align", "resnet10_small", 16),
            )
        ),
    ],
)
def test_every_backbone_trains(tmp_path, backbone, size, objective):
    """Two steps that recover, learn, score, publish and are read back."""
    pool = TeacherPool.from_teachers([pico_teacher("conv4", size=16, num_classes=3, seed=seed) for seed in range(2)])
    few = {"n_way": 3, "n_query": 1, "replay_tasks": 1, "replay_patience": 1, "replay_inner_steps": 1}
    config = _config(
        learner={"backbone": backbone, "image_size": size},
        bell={"objective": objective, "batch_size": 4, "updates_per_step": 1, **few},
        memory={"drawn_per_step": 0, "held_out_images": 2},
        trainer={"steps": 2, "warmup_steps": 0},
        five={"images_per_class": 2, "inner_steps": 1},
    )
    learner = train(config, output=tmp_path, pool=pool)
    pictures = torch.rand(2, 3, size, size)
    loaded = MetaLearner.from_pretrained(tmp_path / "learner")
    torch.testing.assert_close(loaded.embed(pictures), learner.embed(pictures))
    assert ("answers" if objective == "distill" else "distillation") in RunFolder(tmp_path).read_log()[-1]


# ---- what is shown


def _shown(total_steps, *updates, width=160):
    """What stands on the terminal at the end."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    with RunProgress(console, total_steps=total_steps) as progress:
        for update in updates:
            progress.show(*update)
    return console.file.getvalue().rpartition("step ")[2]


def test_progress_shows_steps_losses_speed_and_time_left():
    last = _shown(40, (1, 0.025, {"answers": 9.0}, 1.0), (10, 0.25, {"answers": 0.51234, "cross_entropy": 2.0}, 123.4))
    assert "unexplained variance 9" not in last
    assert last.startswith("10/40")
    assert "25%" in last
    assert "123 recovered images/s" in last
    assert "unexplained variance 0.512 (lower is better)" in last
    assert "cross-entropy 2 nats (lower is better)" in last
    assert "left" in last


def test_progress_of_a_run_that_only_the_clock_ends():
    last = _shown(None, (7, 0.5, {}, 0.0))
    assert last.startswith("7 ")
    assert "50%" in last


@pytest.mark.parametrize(("step", "progress", "says"), [(9, 0.9, False), (9, 1.0, True), (40, 1.0, False)])
def test_progress_says_when_the_clock_and_not_the_steps_ended_a_run(step, progress, says):
    assert ("time is up" in _shown(40, (step, progress, {}, 1.0))) is says


def test_a_run_draws_on_the_console_it_is_given(tmp_path):
    console = Console(file=io.StringIO(), width=160, force_terminal=True, color_system=None)
    train(_config(), output=tmp_path, pool=_pool(), console=console)
    assert "step 6/6" in console.file.getvalue()
    assert "recovered images/s" in console.file.getvalue()


# ---- more than there is, and teachers' views


@pytest.mark.draws
def test_a_teacher_too_large_for_memory_is_left_out_at_once(tmp_path, caplog):
    small = pico_teacher("conv4", size=16, num_classes=3)
    record, huge = replace(small.record, reference="lab/huge"), CrampedNetwork(small.network, 0)
    config = _config(five={"teachers_per_step": 4}, trainer={"warmup_steps": 2})
    learner = train(config, output=tmp_path, pool=_pool(Teacher(huge, record)))
    (skipped,) = learner.record.skipped
    reason = "not inverted any more: its inversion needs more memory than there is"
    assert skipped == LeftOut("lab/huge", reason)
    assert f"left out: lab/huge: {reason}" in caplog.text
    # named in the first step already, though that only warms up, and never asked again
    assert learner.record.left_out == {"lab/huge: its inversion needs more memory than there is": 1}
    card = (tmp_path / "learner" / "README.md").read_text()  # names nobody whose visibility is unknown
    assert "its inversion needs more memory than there is" in card
    assert (tmp_path / "pictures" / "teachers.png").read_bytes().startswith(b"\x89PNG")


def test_batchnorm_is_borrowed_where_there_is_none(tmp_path):
    short = {"steps": 3}
    five = {"donor_batchnorm": 1.0, "teachers_per_step": 3}
    train(_config(five=five, trainer=short), output=tmp_path / "on", pool=_pool())
    rows = [
        row for row in RunFolder(tmp_path / "on").read_log() if "cross_entropy" in row
    ]  # while tasks are recovered
    assert rows
    assert all(row["donor_batchnorm"] > 0 for row in rows)
    train(_config(five={**five, "donor_batchnorm": 0.0}, trainer=short), output=tmp_path / "off", pool=_pool())
    assert not any("donor_batchnorm" in row for row in RunFolder(tmp_path / "off").read_log())


def test_tasks_without_variety_are_left_out(tmp_path):
    config = _config(five={"min_diversity": 1.9}, trainer={"steps": 20})
    with pytest.raises(RunError, match=r"fewer than two tasks(.|\n)*nearly one picture"):
        train(config, output=tmp_path, pool=_pool())


# ---- the minutes end within a step


@pytest.mark.parametrize(
    "where", ["inversion", *(pytest.param(where, marks=pytest.mark.long) for where in ("asking", "learning"))]
)
def test_the_minutes_end_a_run_within_an_inner_step(tmp_path, monkeypatch, where):
    watch = FakeTime()
    monkeypatch.setattr("hf_free.training.schedule.time", watch)
    done = {"inversion": 0, "asking": 0, "learning": 0}

    def counted(kind, name, at):
        """Count what is begun, and let the time be over in the `at`-th of the kind that is tried."""
        original = getattr(kind, name)

        def work(self, *args, **options):
            done[where] += watch.now == 0
            assert watch.now == 0, f"{where} went on after the end"
            if done[where] == at:
                watch.pass_an_hour()
            return original(self, *args, **options)

        monkeypatch.setattr(kind, name, work)

    config = _config(trainer={"steps": 100, "max_minutes": 50.0, "min_steps": 0}, bell={"updates_per_step": 3})
    budget = make_budget

    def then_count(*args, **options):  # what is measured before the run is not counted
        made = budget(*args, **options)
        kind, name, at = {
            "inversion": (InversionLoss, "terms", 9),  # 4 of the first step, 4 of the second, in the third
            "asking": (TeacherSource, "logits", 5),
            "learning": (Distiller, "_predict", 5),
        }[where]
        counted(kind, name, at)
        return made

    replace_everywhere(monkeypatch, "hf_free.training.budgeting.make_budget", then_count)
    replace_everywhere(monkeypatch, "hf_free.training.selection.keep_best", lambda *args, **options: None)
    replace_everywhere(monkeypatch, "hf_free.training.selection.restore_best", lambda *args: None)
    train(config, output=tmp_path, pool=_pool())
    state = json.loads((last_checkpoint(tmp_path) / "state.json").read_text(encoding="utf-8"))
    assert 1 <= state["step"] < 6
    assert (tmp_path / "learner" / "config.json").is_file()


def _slow(seconds):
    """A trial in which each part takes so many seconds a picture."""
    load = Load(0, 0, 0, seconds)
    return lambda config, five, pool, *args, **options: Trial(
        (load,) * len(pool.records), (load,) * len(pool.records), load, load, load, 1.0
    )


def test_a_run_of_too_few_steps_is_refused_before_it_begins(tmp_path, monkeypatch):
    replace_everywhere(monkeypatch, "hf_free.training.trial.try_parts", _slow(1.0))
    values = {"steps": None, "max_minutes": 0.5, "warmup_steps": 0}
    with pytest.raises(RunError, match=r"0\.5 minutes are not enough for one step that recovers pictures") as caught:
        train(_config(trainer=values), output=tmp_path / "run", pool=_pool())
    assert "--max-minutes" in str(caught.value)
    assert "measured on this machine" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_run_of_few_steps_begins_and_says_so(tmp_path, monkeypatch, caplog):
    """Forecasts are several times too long while other programs run: one of three steps may be a run of twenty."""
    replace_everywhere(monkeypatch, "hf_free.training.trial.try_parts", _slow(1.0))
    monkeypatch.setattr("hf_free.training.schedule.time", FakeTime())
    config = _config(trainer={"max_minutes": 8.5, "warmup_steps": 0})
    train(config, output=tmp_path, pool=_pool())
    assert "8.5 minutes are enough for about" in caplog.text
    assert RunFolder(tmp_path).read_log()[-1]["step"] == 6
    assert (tmp_path / "learner" / "config.json").is_file()


def test_a_memory_that_is_too_small_is_refused_before_it_begins(tmp_path):
    with pytest.raises(RunError, match="16 pixels needs about") as caught:
        train(_config(trainer={"memory": "1MiB"}), output=tmp_path / "run", pool=_pool())
    assert "--memory" in str(caught.value)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="'much' is not an amount of memory") as caught:
        train(_config(trainer={"memory": "much"}), output=tmp_path / "run", pool=_pool())
    assert "--memory 4GiB" in str(caught.value)
