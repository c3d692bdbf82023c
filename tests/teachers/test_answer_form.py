"""Answers of every kind are read rightly, or refused by name."""

from __future__ import annotations

import json
import math

import pytest

from hf_free.errors import TeacherError
from hf_free.teachers.answer_form import find_form, logits_of, read_answer


def answer(**scores: float) -> tuple[tuple[str, str], ...]:
    return tuple((label, repr(score)) for label, score in scores.items())


def test_json_is_read_strictly():
    one = [{"label": "a", "score": 0.5}, {"label": "b", "score": 1e-3, "more": 1}]
    assert read_answer(json.dumps(one).encode()) == [(("a", "0.5"), ("b", "0.001"))]
    assert read_answer(json.dumps([one]).encode()) == [(("a", "0.5"), ("b", "0.001"))]
    assert len(read_answer(json.dumps([one, one]).encode(), count=2)) == 2


@pytest.mark.parametrize(
    "text",
    [b"", b"<html>", b"{}", b"[]", b"[[]]", b'[{"label": "a"}]', b'[{"score": 1}]', b'[{"label": "a", "score": NaN}]',
     b'[{"label": "a", "score": "high"}]', b'[{"label": "a", "score": true}]', b'[{"label": "", "score": 1}]',
     b'[{"label": "a", "score": 1e99999}]', b"[" * 10**5, b"\xff\xfe"],
)  # fmt: skip
def test_anything_else_is_no_answer(text):
    with pytest.raises(ValueError, match=r"^gives"):
        read_answer(text)


def test_two_pictures_need_two_answers():
    with pytest.raises(ValueError, match="list of 2 answers"):
        read_answer(b'[{"label": "a", "score": 1}]', count=2)


def test_probabilities_in_any_order_become_their_logarithms():
    answers = [answer(b=0.25, a=0.75), answer(a=0.9, b=0.1)]
    form = find_form(answers, "it")
    assert (form.kind, form.labels, form.is_partial) == ("probabilities", ("a", "b"), False)
    assert logits_of(answers[0], form) == pytest.approx([math.log(0.75), math.log(0.25)])


def test_labels_are_ordered_as_people_count():
    form = find_form([answer(**{f"LABEL_{index}": 1 / 11 for index in range(11)})], "it")
    assert form.labels == tuple(f"LABEL_{index}" for index in range(11))


def test_percentages_are_seen():
    form = find_form([answer(a=60.0, b=40.0), answer(a=99.5, b=0.5)], "it")
    assert form.kind == "percentages"
    assert logits_of(answer(a=60.0, b=40.0), form) == pytest.approx([math.log(0.6), math.log(0.4)])


def test_logits_are_seen_by_a_negative_one():
    form = find_form([answer(a=-1.5, b=3.0)], "it")
    assert form.kind == "logits"
    assert logits_of(answer(b=1.0, a=2.0), form) == [2.0, 1.0]


def test_what_could_be_two_things_is_refused_with_the_way_out():
    with pytest.raises(TeacherError, match=r"sum to 7\.5") as refused:
        find_form([answer(a=5.0, b=2.5)], "it")
    assert "answers: percentages or logits" in str(refused.value)
    assert find_form([answer(a=5.0, b=2.5)], "it", kind="logits").kind == "logits"
    with pytest.raises(TeacherError, match=r"sum to 1\.6"):  # sigmoids
        find_form([answer(a=0.9, b=0.7)], "it", kind="probabilities")


def test_a_zero_is_half_of_the_last_digit():
    form = find_form([answer(a=0.998, b=0.002, c=0.0)], "it")
    assert form.decimals == 3
    assert logits_of(answer(a=1.0, b=0.0, c=0.0), form)[1:] == pytest.approx([math.log(0.0005)] * 2)


def test_the_likeliest_labels_only_are_refused_without_all_names_and_completed_with_them():
    answers = [answer(a=0.6, b=0.2), answer(c=0.5, a=0.3)]
    with pytest.raises(TeacherError, match="2 of its labels only") as refused:
        find_form(answers, "it")
    assert "label_names" in str(refused.value)
    form = find_form(answers, "it", labels=("c", "a", "d", "b"))
    assert form.is_partial
    found = logits_of(answers[0], form)
    assert [math.exp(value) for value in found] == pytest.approx([0.1, 0.6, 0.1, 0.2])  # what is left, shared equally
    with pytest.raises(TeacherError, match="of its labels only"):
        find_form([answer(a=-1.0, b=2.0)], "it", labels=("a", "b", "c"))  # logits: what is left is not known


def test_the_same_labels_each_time_that_do_not_sum_to_one_are_not_all():
    with pytest.raises(TeacherError, match="of its labels only"):
        find_form([answer(a=0.5, b=0.2), answer(a=0.3, b=0.3)], "it")


def test_a_label_that_comes_twice_is_one_class():
    crane = (("crane", "0.5"), ("crane", "0.25"), ("heron", "0.25"))
    form = find_form([crane], "it")
    assert form.labels == ("crane", "heron")
    assert logits_of(crane, form) == pytest.approx([math.log(0.75), math.log(0.25)])
    twice = (("crane", "1.0"), ("crane", "1.0"), ("heron", "-1.0"))
    assert logits_of(twice, find_form([twice], "it")) == pytest.approx([1 + math.log(2), -1.0])


def test_an_answer_of_another_form_is_none():
    form = find_form([answer(a=0.5, b=0.5)], "it")
    for other in (answer(a=0.5, c=0.5), answer(a=0.5), answer(a=50.0, b=50.0), answer(a=-0.5, b=1.0)):
        with pytest.raises(ValueError, match=r"^gives"):
            logits_of(other, form)


@pytest.mark.parametrize("labels", [("a",), ("a", "a", "b")])
def test_names_that_are_not_its_own_are_refused(labels):
    with pytest.raises(TeacherError, match=r"gives the label 'b'|has a label twice"):
        find_form([answer(a=0.5, b=0.5)], "it", labels=labels)


def test_one_label_is_no_classifier():
    with pytest.raises(TeacherError, match="one label only"):
        find_form([answer(a=1.0)], "it")
