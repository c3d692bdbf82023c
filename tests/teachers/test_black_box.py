"""A teacher that only answers: what it says, and what it refuses by name."""

from __future__ import annotations

import pytest
import torch
from pico import pico_teacher
from served import pictures

from hf_free.errors import QueryBudgetError, TeacherError
from hf_free.runtime.device import Precision
from hf_free.serving.served_model import ServedTeacher
from hf_free.serving.server import ModelServer
from hf_free.teachers.endpoints import EndpointAccess, open_endpoint
from hf_free.teachers.query_budget import QueryBudget
from hf_free.teachers.reference import TeacherReference


@pytest.fixture(scope="module")
def teacher():
    return pico_teacher("conv4", size=16, num_classes=4)


@pytest.fixture(scope="module")
def address(teacher):
    with ModelServer(ServedTeacher(teacher)) as server:
        yield f"endpoint:{server.address}"


@pytest.fixture
def black_box(address):
    return open_endpoint(TeacherReference.parse(address), EndpointAccess())


def centered(logits):
    return logits - logits.mean(1, keepdim=True)


def test_its_logits_are_the_networks_up_to_a_shift(black_box, teacher):
    images = pictures(5).float() / 255
    expected = centered(teacher.logits(images))
    assert torch.allclose(centered(black_box.logits(images)), expected, atol=1e-4)
    output = black_box(images)
    assert torch.allclose(output.features, expected, atol=1e-4)
    assert torch.equal(output.features, black_box.features(images))


def test_what_differs_by_less_than_a_gray_level_is_one_picture(black_box):
    images = pictures(2).float() / 255
    spent = black_box.oracle.budget.spent
    black_box.logits(images)
    black_box.logits(images + 0.001)
    assert black_box.oracle.budget.spent == spent + 2


def test_what_it_does_not_have_is_refused_by_name(black_box, address):
    images = (pictures(1).float() / 255).requires_grad_()
    with pytest.raises(TeacherError, match=f"{address} is a black box, which gives no gradients") as refused:
        black_box.logits(images)
    assert "--inversion zero-order" in str(refused.value)
    with torch.no_grad():
        assert black_box.logits(images).shape == (1, 4)
    with pytest.raises(TeacherError, match="has no network"):
        _ = black_box.network
    assert black_box.batchnorm_layers() == []
    assert not black_box.record.has_batchnorm
    black_box.fold(Precision(None))
    assert black_box.to("cpu").train().training is False
    assert list(black_box.parameters()) == []


def test_beyond_its_budget_labels_are_unknown_and_logits_an_error(address):
    access = EndpointAccess(budget=QueryBudget(6))
    black_box = open_endpoint(TeacherReference.parse(address), access)  # takes four
    found = black_box.labels(pictures(4).float() / 255)
    assert found.isnan().any(1).tolist() == [False, False, True, True]
    with pytest.raises(QueryBudgetError, match="0 of 6 queries are left"):
        black_box.logits(pictures(4).float() / 255)


def test_an_answer_of_another_form_than_at_first_is_an_error(black_box):
    black_box.oracle.ledger.keep("p", (("LABEL_0", "1"),))
    black_box.oracle.answers = lambda sent, keep_going=False: [(("LABEL_0", "0.1"), ("other", "0.9"))]
    with pytest.raises(TeacherError, match="gives the label 'other'"):
        black_box.logits(pictures(1).float() / 255)
