"""How a run is cut for a room, and what is said of its memory and time, from made-up measurements."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from pico import pico_teacher

from hf_free.config.reading import merge
from hf_free.config.tree import FreeConfig, parse_assignments
from hf_free.errors import RunError
from hf_free.inversion.base import TaskSize
from hf_free.runtime.text import parse_bytes
from hf_free.training.portions import Portions, choose_portions, few_steps, forecast, picture_bytes
from hf_free.training.trial import Load, Trial
from hf_free.training.workload import Workload

MB = 1e6
ONE = Load(0, MB, 0, 0)


def _config(**values):
    return _work(FreeConfig.from_dict({"learner": {"image_size": 224}, **values}))


def _work(config):
    return Workload(config.five, config.memory, config.bell, config.learner, config.trainer)


def _records(*classes):
    return [pico_teacher("conv4", num_classes=count).record for count in classes]


def _trial(inversion=ONE, answer=ONE, update=ONE, **others):
    nothing = Load(0, 0, 0, 0)
    parts = {"drawing": nothing, "embedding": nothing, "seconds": 0.0, **others}
    return Trial((inversion, inversion), (answer, answer), update=update, **parts)


# ---- measuring


# ---- task sizes


def test_fewer_pictures_a_class_then_fewer_classes():
    size = TaskSize(20, 10)
    assert size.within(None) == size.within(200) == size
    assert size.within(100) == (10, 10)
    assert size.within(25) == (2, 10)
    assert size.within(9) == (2, 4)
    assert size.within(1) == (2, 2)
    assert all(size.within(most).images <= most for most in range(4, 201))


# ---- portions


def test_where_all_fits_nothing_is_cut():
    config = _config(learner={"image_size": 32})
    portions = choose_portions(config, _records(5, 5), _trial(), answers=10, room=1e12)
    expected = Portions(task=None, asked=512, learned=None, embedded=256, memory=40_000, held_out=512, finished=2048)
    assert portions == expected


def test_every_part_fits_into_what_the_memory_of_pictures_leaves():
    config, records, room = _config(), _records(5, 12), 2000 * MB
    trial = _trial(Load(100 * MB, 20 * MB, 0, 0), Load(0, 5 * MB, 0, 0), Load(90 * MB, 30 * MB, 0, 0))
    portions = choose_portions(config, records, trial, answers=17, room=room)
    ring = 1.5 * (portions.memory + portions.held_out) * picture_bytes(config.learner, 17)
    assert ring <= 0.4 * room
    assert portions.memory < config.memory.max_images
    work = room - ring
    assert trial.inversions[0].bytes(portions.task) <= work
    assert trial.answers[0].bytes(portions.asked) <= work
    assert trial.update.bytes(portions.learned) <= work
    assert (portions.task, portions.asked, portions.learned) == (32, 128, 16)  # powers of two
    predicted = forecast(config, records, trial, portions, answers=17, base=300 * MB)
    assert predicted.peak_bytes <= 300 * MB + room


@pytest.mark.parametrize(("room", "at_once"), [(1000, 3), (300, 2), (100, 1)])
def test_several_teachers_are_inverted_at_once_as_far_as_there_is_room(room, at_once):
    config = _config(learner={"image_size": 32}, memory={"max_images": 100, "held_out_images": 2})
    trial = _trial(Load(0, MB, 0, 0), Load(0, 1, 0, 0), Load(0, 1, 0, 0))
    portions = choose_portions(config, _records(5, 5), trial, answers=10, room=room * MB, at_once=3)
    assert portions.inversions == at_once
    predicted = forecast(config, _records(5, 5), trial, portions, answers=10, base=0)
    pictures = 100 if room > 200 else 60  # of one inversion: five classes of 20, or of what fits into 64
    assert predicted.peak_bytes == pytest.approx(at_once * pictures * MB, rel=0.01)
    assert Portions.least([portions, replace(portions, inversions=1)]).inversions == 1


@pytest.mark.parametrize(
    ("part", "words"),
    [("inversion", "an inversion of two classes"), ("answer", "asking a teacher"), ("update", "a batch of two")],
)
def test_what_does_not_fit_at_all_is_refused(part, words):
    trial = _trial(**{part: Load(5000 * MB, MB, 0, 0)})
    with pytest.raises(RunError, match=words) as caught:
        choose_portions(_config(), _records(5, 5), trial, answers=10, room=1000 * MB)
    assert "224 pixels" in str(caught.value)
    assert "--memory" in str(caught.value)


def test_a_gpu_keeps_the_pictures_elsewhere():
    config = _config()
    alone = choose_portions(config, _records(5, 5), _trial(), answers=10, room=500 * MB, apart=1e12)
    assert alone.memory == config.memory.max_images
    assert (alone.task, alone.learned) == (None, None)


@pytest.mark.parametrize("objective", ["distill", "align"])
def test_where_whole_tasks_are_aligned_they_are_cut_and_counted_for_it(objective):
    settings = {"bell": {"objective": objective}, "five": {"images_per_class": 40, "max_classes": 10}}
    config, records = _config(**settings), _records(10)
    update = Load(500 * MB, 5 * MB, 0.5, 0.1)
    trial = _trial(Load(0, MB, 0, 0), update=update, alignment=Load(0, 10 * MB, 0, 0.1))
    portions = choose_portions(config, records, trial, answers=0, room=3000 * MB)
    predicted = forecast(config, records, trial, portions, answers=0, base=0)
    if objective == "distill":
        assert portions.task is None  # 400 pictures
    else:
        assert portions.task == 128
        assert predicted.peak_bytes > 128 * 10 * MB
        replayed = (config.bell.replay_patience + 1) * config.bell.replay_tasks * update.seconds(5 * 15)
        assert predicted.learning_seconds == pytest.approx(replayed + 120 * 0.1)  # 12 pictures of ten classes


def test_features_held_while_the_embedding_is_fitted_are_counted():
    config, records, trial = _config(), _records(5, 5), _trial(feature_bytes=int(MB))  # 26,000 features
    portions = choose_portions(config, records, trial, answers=10, room=2000 * MB)
    assert portions.finished == int(0.85 * (2000 * MB - 1.5 * (portions.memory + portions.held_out) * 150_556) / MB)
    predicted = forecast(config, records, trial, portions, answers=10, base=0)
    assert predicted.peak_bytes > portions.finished * MB
    roomy = choose_portions(config, records, trial, answers=10, room=1e12)
    assert roomy.finished == 2048


def test_little_stays_between_a_steps_parts():
    config, records = _config(), _records(5, 5)
    for part, kept in ((Load(0, 100 * MB, 0, 0), 0.3 * 100 * 100 * MB), (Load(0, MB, 0, 0), 256 * 2**20)):
        trial = _trial(part, Load(0, 0, 0, 0), Load(0, 0, 0, 0))
        portions = choose_portions(config, records, trial, answers=10, room=1e12)
        predicted = forecast(config, records, trial, portions, answers=10, base=0)
        activations = part.bytes(TaskSize.of(config.five, 5).images)
        assert predicted.idle_bytes == pytest.approx(predicted.peak_bytes - activations + kept)


# ---- time


def test_steps_and_seconds_by_hand():
    config = _config(
        five={"teachers_per_step": 2, "images_per_class": 10},
        memory={"drawn_per_step": 100},
        bell={"batch_size": 32, "updates_per_step": 5},
        trainer={"max_minutes": 10, "warmup_steps": 4},
    )
    trial = _trial(Load(0, 0, 0, 0.1), Load(0, 0, 0, 0.01), Load(0, 0, 0.2, 0.05), drawing=Load(0, 0, 0, 0.02))
    portions = choose_portions(config, _records(5, 5), trial, answers=10, room=1e12)
    predicted = forecast(config, _records(5, 5), trial, portions, answers=10, base=0)
    inverting = 2 * 50 * 0.1
    asking = 100 * 0.02 + 2 * (2 * 50 + 100) * 0.01
    learning = 5 * (0.2 + 32 * 0.05)
    assert predicted.learning_seconds == pytest.approx(learning)
    assert predicted.step_seconds == pytest.approx(inverting + asking + learning)
    step, steps = inverting + asking + learning, predicted.by_kind
    assert (inverting, step, learning) == pytest.approx((10, 25, 9))
    # 600 s: 4 of 10 s warm up, 13 of 25 s begin before 360 s are over, at 365 s; 26 of 9 s fit into what is left
    assert (steps.warming, steps.recovering, steps.learning) == (4, 13, 26)
    assert predicted.steps == steps.total == 43


def test_seconds_and_memory_of_one_of_three_processes_by_hand():
    config = _config(
        five={"teachers_per_step": 4, "images_per_class": 10},
        memory={"drawn_per_step": 100},
        bell={"batch_size": 32, "updates_per_step": 5},
        trainer={"steps": 10, "max_minutes": None},
    )
    records = _records(5, 5, 5, 5)
    both = Load(0, MB, 0, 0.1), Load(0, 2 * MB, 0, 0.01)
    trial = Trial(
        (both[0],) * 4, (both[1],) * 4, Load(0, 0, 0, 0.02), Load(0, 50 * MB, 0.2, 0.05), Load(0, 0, 0, 0), 0.0
    )
    portions = choose_portions(config, records, trial, answers=10, room=1e12)
    one, three = (
        forecast(config, records, trial, portions, answers=10, base=1000 * MB, processes=count) for count in (1, 3)
    )
    asked = 4 * 50 + 100
    inverting, asking, learning = 2 * 50 * 0.1, 34 * 0.02 + 2 * asked * 0.01, 5 * (0.2 + 11 * 0.05)
    assert three.step_seconds == pytest.approx(inverting + asking + learning)  # two teachers of the four, 11 of 32
    held = one.peak_bytes - 32 * 50 * MB
    assert three.peak_bytes == pytest.approx(held + asked * 2 * MB)  # 11 images learned take less than those asked
    crowded = forecast(config, records, trial.slowed(1.5), portions, answers=10, base=1000 * MB, processes=3)
    assert crowded.step_seconds == pytest.approx(1.5 * three.step_seconds)
    assert crowded.peak_bytes == three.peak_bytes


def test_accumulated_passes_are_what_memory_is_planned_for():
    none = Load(0, 0, 0, 0)
    trial, peaks = _trial(none, none, Load(0, 50 * MB, 0.2, 0.05)), []
    for passes in (1, 4):
        config = _config(
            bell={"batch_size": 32, "gradient_accumulation_steps": passes}, trainer={"steps": 9, "max_minutes": None}
        )
        portions = choose_portions(config, _records(5, 5), trial, answers=10, room=1e12)
        assert portions.learned is None  # nothing is cut
        peaks.append(forecast(config, _records(5, 5), trial, portions, answers=10, base=0).peak_bytes)
    assert peaks[0] - peaks[1] == pytest.approx(24 * 50 * MB)


def test_a_run_of_few_steps_says_what_to_make_smaller():
    def verdict(minutes, seconds, **trainer):
        config = _config(trainer={"max_minutes": minutes, **trainer})
        trial = _trial(Load(0, 0, 0, seconds), Load(0, 0, 0, seconds / 10), Load(0, 0, 0, seconds / 10))
        portions = choose_portions(config, _records(5, 5), trial, answers=10, room=1e12)
        predicted = forecast(config, _records(5, 5), trial, portions, answers=10, base=0)
        return few_steps(config, _records(5, 5), trial, portions, predicted)

    assert verdict(60, 1e-4) is None
    few = verdict(3, 0.02)
    assert few is not None
    assert not few.is_refused
    assert "50 or more" in few.note()
    bare = verdict(3, 0.12)
    assert "for about 4 steps" in bare.given
    assert not bare.is_refused  # a forecast made in a slow moment is several times too long
    refused = verdict(3, 5)
    assert refused.is_refused
    text = str(refused.refusal())
    assert "3 minutes are not enough for one step that recovers pictures and learns" in text
    assert "at least 3 steps" in text
    for way in ("--image-size", "--max-minutes"):
        assert way in text
    assert not verdict(3, 5, min_steps=0).is_refused
    assert "e+" not in text  # 1,240 s, not 1.24e+03
    assert "another machine" in verdict(3, 500).ways_out  # nothing that is suggested would be enough
    short = verdict(3, 5, steps=1)
    assert short is None or not short.is_refused or short.wanted == 1


@pytest.mark.parametrize("minutes", [0.2, 0.5, 1, 3])
def test_steps_that_are_forecast_fit_into_their_minutes(minutes):
    """What the forecast says of counts and seconds adds up, and what is said of a run that learns nothing too."""
    trial = _trial(Load(0, 0, 0.1, 0.01), Load(0, 0, 0, 0.005), Load(0, 0, 0, 0.002))
    config, records = _config(trainer={"max_minutes": minutes}), _records(5, 5)
    portions = choose_portions(config, records, trial, answers=10, room=1e12)
    predicted = forecast(config, records, trial, portions, answers=10, base=0)
    steps, warm_up = predicted.by_kind, 2 * (0.1 + 100 * 0.01)
    assert predicted.step_seconds > 12
    spent = steps.recovering * predicted.step_seconds + steps.learning * predicted.learning_seconds
    assert spent + steps.warming * warm_up <= 60 * minutes
    said = few_steps(config, records, trial, portions, predicted)
    if minutes < 0.5:  # 12 s, of which warm-up takes 4.4: no step of 14.5 s
        assert (steps.recovering, steps.learning) == (0, 0)
        assert said.is_refused
        assert "not enough for one step" in said.given
    else:
        assert steps.recovering > 0
        parts = [int(count) for count in re.findall(r"(\d+) (?:of warm-up|that)", said.given)]
        assert sum(parts) == predicted.steps


def test_what_is_suggested_is_enough():
    config = _config(trainer={"max_minutes": 10})
    trial = _trial(Load(0, 0, 0, 0.1), Load(0, 0, 0, 0.01), Load(0, 0, 0, 0.02))
    portions = choose_portions(config, _records(5, 5), trial, answers=10, room=1e12)

    def predicted(settings):
        return forecast(settings, _records(5, 5), trial, portions, answers=10, base=0)

    ways = few_steps(config, _records(5, 5), trial, portions, predicted(config)).ways_out
    first = ways.split(" or ")[0]
    assert first.startswith("--set ")
    given = {"learner": {"image_size": 224}, "trainer": {"max_minutes": 10}}
    changed = FreeConfig.from_dict(merge(given, parse_assignments(first.removeprefix("--set ").split())))
    assert predicted(_work(changed)).steps >= 50


def test_seconds_of_computing_are_the_same_however_slowed_the_machine_is():
    """What other programs take of the machine slows the forecast, and says by how much."""
    config, found = _config(learner={"image_size": 32}), {}
    for factor in (1, 3):
        trial = _trial().slowed(factor)
        portions = choose_portions(config, _records(5, 5), trial, answers=10, room=1e12)
        found[factor] = forecast(config, _records(5, 5), trial, portions, answers=10, base=0)
    assert (found[1].slowdown, found[3].slowdown) == (1, 3)
    assert found[3].step_seconds == pytest.approx(3 * found[1].step_seconds)


@pytest.mark.parametrize("room", [-100 * MB, 0, 30 * MB])
def test_a_refusal_says_how_much_memory_would_do(room):
    """The least there is then fits, of all parts; with a tenth less it does not."""
    parts = {"inversion": Load(20 * MB, MB, 0, 0), "update": Load(50 * MB, 2 * MB, 0, 0), "answer": Load(0, MB, 0, 0)}
    config, records, trial = _config(learner={"image_size": 32}), _records(5, 5), _trial(**parts)
    with pytest.raises(RunError) as refused:
        choose_portions(config, records, trial, answers=10, room=room)
    amount = re.search(r"about ([\d.]+ MiB) more --memory", str(refused.value))
    assert amount is not None
    enough = room + parse_bytes(amount[1])
    choose_portions(config, records, trial, answers=10, room=1.01 * enough)
    with pytest.raises(RunError):
        choose_portions(config, records, trial, answers=10, room=0.9 * enough)
