"""Inverting one classifier from Python."""

from __future__ import annotations

import pytest
import torch
from pico import pico_folder, pico_teacher

from hf_free import ConfigError, HubError, RunError, TeacherReferenceError, invert
from hf_free.config.sections import QueriesConfig
from hf_free.inversion.five import invert_teacher
from hf_free.serving.served_model import ServedTeacher
from hf_free.serving.server import ModelServer
from hf_free.teachers.endpoints import EndpointAccess
from hf_free.teachers.loader import load_teacher
from hf_free.training.invert import default_steps


def test_a_folder_or_a_loaded_teacher_gives_the_same_task(tmp_path):
    folder = pico_folder(tmp_path / "teacher", "conv4", size=16)
    options = {"steps": 2, "images_per_class": 3, "seed": 1, "device": "cpu"}
    by_name = invert(folder, **options)
    assert by_name.images.shape == (15, 3, 16, 16)
    assert by_name.images.dtype == torch.uint8
    assert by_name.labels.bincount().tolist() == [3] * 5
    assert by_name.soft_labels.sum(1).allclose(torch.ones(15))
    teacher = pico_teacher("conv4", size=16)
    loaded = invert(teacher, **options)
    plainly = invert_teacher(teacher, steps=2, images_per_class=3, seed=1)
    assert torch.equal(loaded.images, plainly.images)
    assert torch.equal(loaded.images, by_name.images)
    assert not torch.equal(invert(teacher, **options | {"seed": 2}).images, loaded.images)


def test_a_trained_generator_takes_few_steps(tmp_path):
    assert default_steps(None) > default_steps(tmp_path) > 0


def test_what_cannot_be_inverted_is_refused_with_the_rule(tmp_path):
    teacher = pico_teacher("conv4", size=16)
    with pytest.raises(RunError, match="steps=0"):
        invert(teacher, steps=0)
    with pytest.raises(RunError, match=r"images_per_class=0\n.*at least 2 and at most"):
        invert(teacher, images_per_class=0)
    with pytest.raises(RunError, match="no meta-generator"):
        invert(teacher, generator=tmp_path)
    with pytest.raises(TeacherReferenceError):
        invert("no teacher")
    with pytest.raises(ConfigError, match="device 'nowhere'"):
        invert("org/name", device="nowhere")


def test_a_black_box_is_inverted_by_its_answers_within_its_queries():
    teacher = pico_teacher("conv4", size=16, num_classes=2)
    with ModelServer(ServedTeacher(teacher)) as server:
        name = f"endpoint:{server.address}"
        queries = QueriesConfig(directions=3, pictures_per_request=64, budget=100)
        access = EndpointAccess.of(queries)
        black_box = load_teacher(name, endpoints=access)
        task = invert(black_box, steps=2, images_per_class=2, queries=queries)
        assert len(task.images) == 4
        assert 4 < access.budget.spent == server.answered <= 4 + 4 * 2 * 4 + 4  # the same picture is asked about once
        with pytest.raises(RunError, match="takes 644 queries, and") as refused:
            invert(black_box, steps=40, images_per_class=2, queries=queries)
        assert "a higher --query-budget; or fewer --steps" in str(refused.value)
        with pytest.raises(RunError, match="take gradients"):
            invert(black_box, generator="runs/x")


def test_a_black_box_that_fails_for_good_is_not_put_down_to_the_budget(monkeypatch):
    teacher = pico_teacher("conv4", size=16, num_classes=2)
    queries = QueriesConfig(directions=3, pictures_per_request=64, budget=100)
    with ModelServer(ServedTeacher(teacher)) as server:
        name = f"endpoint:{server.address}"
        black_box = load_teacher(name, endpoints=EndpointAccess.of(queries))

        def fail(*_asked, **_options):
            raise HubError("the endpoint answers with status 500: CUDA out of memory")

        monkeypatch.setattr(black_box.oracle._client, "ask", fail)
        with pytest.raises(RunError) as failed:
            invert(black_box, steps=2, images_per_class=2, queries=queries)
    assert failed.value.given == f"{name} answers with status 500: CUDA out of memory"
    assert "server" in failed.value.action
    assert "budget" not in str(failed.value)


def test_another_way_to_invert_goes_by_its_name():
    teacher = pico_teacher("conv4", size=16)
    options = {"images_per_class": 3, "seed": 1, "device": "cpu"}
    pixels = invert(teacher, inversion="pixels", steps=2, **options)
    assert pixels.images.shape == (15, 3, 16, 16)
    assert not torch.equal(pixels.images, invert(teacher, steps=2, **options).images)
    assert torch.equal(pixels.images, invert(teacher, inversion="pixels", steps=2, **options).images)
    assert torch.equal(
        invert(teacher, inversion="five", steps=2, **options).images, invert(teacher, steps=2, **options).images
    )
    assert (default_steps(None, "pixels"), default_steps(None, "five")) == (1000, default_steps(None))


@pytest.mark.parametrize("inversion", ["five", "generator", "pixels", "zero-order"])
def test_progress_is_told_before_each_step(inversion):
    said: list[tuple[str, int, int]] = []
    teacher = pico_teacher("conv4", size=16, num_classes=2)
    name = teacher.record.reference
    if inversion != "zero-order":
        options = {"inversion": inversion, "device": "cpu"}
        invert(teacher, steps=3, images_per_class=2, progress=lambda *told: said.append(told), **options)
    else:
        with ModelServer(ServedTeacher(teacher)) as server:
            name, queries = f"endpoint:{server.address}", QueriesConfig(directions=3)
            invert(name, steps=3, images_per_class=2, queries=queries, progress=lambda *told: said.append(told))
    assert said == [(f"inverting {name}", done, 3) for done in range(3)]


def test_a_way_that_is_not_there_or_has_no_generator_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"inversion = 'pixel'[\s\S]*'pixels'"):
        invert(pico_teacher("conv4", size=16), inversion="pixel", steps=2)
    with pytest.raises(ConfigError, match="belongs to the inversion five"):
        invert(pico_teacher("conv4", size=16), inversion="pixels", generator=tmp_path, steps=2)
