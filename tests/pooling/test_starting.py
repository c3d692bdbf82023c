"""A network that starts from a teacher's own weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pico import pico_folder, pico_teacher
from torch.nn.functional import interpolate, normalize

from hf_free import ConfigError
from hf_free.config.sections import LearnerConfig
from hf_free.data.resizing import resize
from hf_free.learner.pooled_backbone import PooledBackbone
from hf_free.learner.pooled_teachers import PooledTeachers
from hf_free.pooling.fit import fit_pooled
from hf_free.pooling.pictures import Said
from hf_free.pooling.starting import (
    Start,
    affordable_pixels,
    best_start,
    fitted_map,
    network_of,
    own_part,
    place_of,
    why_not,
)
from hf_free.teachers.pool import TeacherPool


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    root = tmp_path_factory.mktemp("teachers")
    return TeacherPool([str(pico_folder(root / kind, kind, size=16)) for kind in ("conv4", "resnet", "vit")])


@pytest.mark.parametrize("place", [0, 1, 2])
def test_its_features_are_the_teachers(pool, place):
    learner = network_of(pool, Start(place, 16), LearnerConfig(views=["identity"])).eval()
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    expected = pool[place](images).features.flatten(1)
    assert torch.allclose(learner.raw_answers(images), expected, atol=1e-4 * expected.abs().max().item())
    assert learner.config.image_size == 16
    assert learner.config.backbone == pool.records[place].architecture
    assert learner.inputs.mean == pytest.approx(pool.records[place].mean)


def test_the_map_is_that_of_ridge_regression():
    generator = torch.Generator().manual_seed(0)
    features, weight = torch.randn(400, 5, generator=generator), torch.randn(5, 3, generator=generator)
    said = features @ weight + torch.tensor([1.0, -2.0, 3.0])
    fitted = fitted_map(features, said)
    rows = (features - features.mean(0)).double()
    gram = rows.T @ rows
    penalty = 0.01 * gram.diagonal().mean()
    slow = (
        torch.linalg.inv(gram + penalty * torch.eye(5, dtype=torch.float64)) @ rows.T @ (said - said.mean(0)).double()
    )
    assert torch.allclose(fitted.weight.double(), slow.T, atol=1e-5)
    assert torch.allclose(fitted(features).mean(0), said.mean(0), atol=1e-4)


def test_the_best_is_the_one_that_says_most_of_what_all_say(pool):
    sizes = [record.num_features for record in pool.records]
    network = PooledBackbone(pool, sizes, [record.num_classes for record in pool.records])
    images = (torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(2)) * 255).to(torch.uint8)
    for place in range(3):
        weights = PooledTeachers(sizes, network.answer_sizes)
        weights.answer_weights.zero_()
        weights.feature_weights.zero_()
        weights.feature_weights[place] = 1.0  # what all say is what this one says
        assert best_start(pool, network, weights, pool.records, images, [1, 1, 1]) == (place, 16)
        costs = [5 if other == place else 1 for other in range(3)]
        assert best_start(pool, network, weights, pool.records, images, costs).place != place, (
            "too large a share of all operations"
        )
    alone = TeacherPool.from_teachers([pool[0]])
    with pytest.raises(ConfigError, match="more than 50%"):
        best_start(
            alone, PooledBackbone(alone, sizes[:1], [0]), PooledTeachers(sizes[:1], [0]), alone.records, images, [1]
        )


def test_a_teacher_that_costs_too_much_sees_smaller_pictures():
    record = replace(pico_teacher("resnet", size=16).record, input_size=(3, 224, 224), fixed_input_size=False)
    assert affordable_pixels(record, 100, 200) == 224
    for flops, total in ((100, 199), (100, 150), (90, 100), (100, 100)):
        pixels = affordable_pixels(record, flops, total)
        assert flops * (pixels / 224) ** 2 <= 0.5 * total < flops * ((pixels + 16) / 224) ** 2
    assert affordable_pixels(replace(record, fixed_input_size=True), 100, 199) is None
    small = replace(record, input_size=(3, 64, 64))
    assert affordable_pixels(small, 100, 200) == 64
    assert affordable_pixels(small, 100, 199) is None, "small pictures have no pixels to spare"


def test_a_network_of_smaller_pictures_is_the_teachers_at_that_size(tmp_path):
    folders = [pico_folder(tmp_path / "large", "resnet", size=128), pico_folder(tmp_path / "small", size=16)]
    teachers = TeacherPool([str(folder) for folder in folders])
    sizes = [record.num_features for record in teachers.records]
    network = PooledBackbone(teachers, sizes, [record.num_classes for record in teachers.records])
    weights = PooledTeachers(sizes, network.answer_sizes)
    weights.answer_weights.zero_()
    weights.feature_weights.copy_(torch.tensor([1.0, 0.0]))
    coarse = torch.rand(256, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    images = (interpolate(coarse, size=32, mode="bicubic").clamp(0, 1) * 255).to(torch.uint8)
    start = best_start(teachers, network, weights, teachers.records, images, [60, 40])
    assert start == (0, 112)
    learner = network_of(teachers, start, LearnerConfig(views=["identity"])).eval()
    assert learner.config.image_size == 112
    shown = images[:3].float() / 255
    resized = resize(shown, 112)
    teacher = teachers[0]
    expected = teacher.network.forward_head(
        teacher.network.forward_features((resized - teacher.mean) / teacher.std), pre_logits=True
    )
    assert torch.allclose(learner.raw_answers(shown), expected, atol=1e-4 * expected.abs().max().item())
    assert not torch.allclose(expected, teacher(shown).features, atol=1e-2 * expected.abs().max().item())


def test_a_teachers_own_part_is_what_the_pooled_learner_makes_of_its_features(pool):
    generator = torch.Generator().manual_seed(4)
    sizes, answers = [record.num_features for record in pool.records], [record.num_classes for record in pool.records]
    said = Said(
        tuple(torch.randn(300, size, generator=generator) * torch.rand(size, generator=generator) for size in sizes),
        tuple(torch.randn(300, size, generator=generator) for size in answers),
    )
    weights = fit_pooled(said, ["a", "b", "c"])
    whole = weights(torch.cat([*said.features, *said.logits], 1))
    for place, part in enumerate(whole[:, : sum(sizes)].split(sizes, 1)):
        own = normalize(own_part(weights, place)(said.features[place]), dim=1)
        assert torch.allclose(own * weights.feature_weights[place], part, atol=1e-5)


def test_a_teacher_is_found_by_its_name(pool):
    reference = pool.records[1].reference
    assert place_of(reference, pool.records, 3) == 1
    assert place_of(reference + "/", pool.records, 3) == 1
    with pytest.raises(ConfigError, match="no teacher of the name") as refused:
        place_of("org/other", pool.records, 3)
    assert reference in str(refused.value)
    with pytest.raises(ConfigError, match="square ones of 1 channels"):
        place_of(reference, pool.records, 1)


def test_a_folder_is_found_by_any_path_to_it(pool, tmp_path, monkeypatch):
    folder = Path(pool.records[1].reference)
    (tmp_path / "link").symlink_to(folder)
    assert place_of(str(tmp_path / "link"), pool.records, 3) == 1
    assert place_of(f"{folder}/../{folder.name}", pool.records, 3) == 1
    monkeypatch.chdir(folder.parent)
    assert place_of(f"./{folder.name}/", pool.records, 3) == 1
    for name in ("", "~nobody-at-all", "a\0b", "Best"):
        with pytest.raises(ConfigError, match="no teacher of the name"):
            place_of(name, pool.records, 3)


def test_parts_of_one_repository_are_told_apart_by_their_classes():
    record = replace(pico_teacher("conv4", size=16).record, repo_id="org/a", license="mit")
    parts = [replace(record, reference=reference) for reference in ("org/a:0,1", "org/a@main:2-4")]
    assert place_of("org/a@main:2-4", parts, 3) == 1
    with pytest.raises(ConfigError, match="2 teachers of the name") as refused:
        place_of("org/a", parts, 3)
    assert "org/a:0,1" in str(refused.value)
    assert place_of("org/a", [*parts, replace(record, reference="org/a")], 3) == 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"answers_only": True}, "black box"),
        ({"transformers_version": "5.0"}, "transformers"),
        ({"input_size": (3, 16, 32)}, "square"),
        ({"repo_id": "org/a", "license": "mit", "gated": True}, "gated"),
        ({"repo_id": "org/a", "license": None}, "none stated"),
        ({"repo_id": "org/a", "license": "cc-by-nc-4.0"}, "cc-by-nc-4.0"),
        ({"repo_id": "org/a", "license": "MIT"}, None),
        ({"license": "cc-by-nc-nd-4.0"}, "cc-by-nc-nd-4.0"),
        ({"license": "mit"}, None),
        ({}, None),
    ],
)
def test_what_a_network_cannot_start_from(changes, reason):
    record = replace(pico_teacher("conv4", size=16).record, **changes)
    found = why_not(record, 3)
    assert (found is None) if reason is None else (reason in (found or ""))
