"""Each picture is asked about once, within the budget; what was answered stays."""

from __future__ import annotations

import io
import json
import threading

import pytest
import torch
from PIL import Image
from served import pictures, png

from hf_free.errors import HubError, QueryBudgetError, TeacherError
from hf_free.teachers.answer_ledger import AnswerLedger
from hf_free.teachers.oracle import Oracle, png_of
from hf_free.teachers.query_budget import QueryBudget


class Client:
    """Answers with the mean of a picture; notes how many came at once."""

    def __init__(self, fails_after: int | None = None) -> None:
        self.requests: list[int] = []
        self.fails_after, self.lock = fails_after, threading.Lock()
        self.answered = 0

    def ask(self, files, *, top_k, function, counted):
        counted.sent()
        with self.lock:
            self.requests.append(len(files))
            if self.fails_after is not None and self.answered >= self.fails_after:
                counted.refused()
                raise HubError("the endpoint answers with status 500")
            self.answered += len(files)
        answers = []
        for file in files:
            mean = torch.tensor(list(Image.open(io.BytesIO(file)).tobytes())).float().mean().item() / 255
            answers.append([{"label": "a", "score": mean}, {"label": "b", "score": 1 - mean}])
        return json.dumps(answers[0] if len(files) == 1 else answers).encode()


def oracle(client=None, ledger=None, limit=None, **options):
    ledger, budget = AnswerLedger() if ledger is None else ledger, QueryBudget(limit)
    return Oracle("it", client or Client(), ledger, budget, top_k=2, **options)


def means(answers):
    return [None if answer is None else float(answer[0][1]) for answer in answers]


def test_pictures_are_sent_exactly():
    for channels in (1, 3):
        picture = pictures(1)[0][:channels]
        opened = Image.open(io.BytesIO(png_of(picture)))
        assert bytes(opened.tobytes()) == picture.permute(1, 2, 0).contiguous().numpy().tobytes()
    assert png_of(pictures(1)[0])[:4] == png(pictures(1)[0])[:4]


@pytest.mark.parametrize("per_request", [1, 4])
def test_each_picture_is_asked_about_once_and_answers_stay_in_order(per_request):
    client, shown = Client(), pictures(9)
    found = oracle(client, per_request=per_request)
    twice = torch.cat([shown, shown[:3]])
    expected = pytest.approx((twice.float().mean((1, 2, 3)) / 255).tolist())
    assert means(found.answers(twice)) == expected
    assert sum(client.requests) == 9
    assert max(client.requests) == per_request
    assert means(found.answers(twice)) == expected
    assert (sum(client.requests), found.budget.spent) == (9, 9)


def test_a_new_start_knows_what_was_answered(tmp_path):
    path, shown = tmp_path / "x.answers", pictures(4)
    oracle(ledger=AnswerLedger(path)).answers(shown[:3])
    client, ledger = Client(), AnswerLedger(path)
    assert ledger.sent == 3
    assert None not in means(oracle(client, ledger, limit=1).answers(shown))
    assert sum(client.requests) == 1


def test_the_budget_is_refused_before_anything_is_sent_or_used_up_quietly(caplog):
    client = Client()
    found = oracle(client, limit=5)
    with pytest.raises(QueryBudgetError, match="5 of 5 queries are left"):
        found.answers(pictures(6))
    assert not client.requests
    answers = means(found.answers(pictures(9), keep_going=True))
    assert [answer is None for answer in answers] == [False] * 5 + [True] * 4
    found.answers(pictures(9), keep_going=True)
    assert caplog.text.count("query budget is spent") == 1
    assert found.budget.spent == 5


def test_what_came_before_a_failure_is_kept_and_the_endpoint_left_alone(caplog):
    client = Client(fails_after=4)
    found = oracle(client, concurrent=1)
    with pytest.raises(HubError, match=r"^it answers with status 500"):
        found.answers(pictures(6))
    assert (len(found.ledger), found.budget.spent) == (4, 4)
    asked = len(client.requests)
    assert means(found.answers(pictures(6), keep_going=True))[4:] == [None, None]
    assert len(client.requests) == asked + 1
    assert means(found.answers(pictures(6), keep_going=True))[4:] == [None, None]
    assert len(client.requests) == asked + 1  # it was given up
    assert caplog.text.count("not asked any more in this run") == 1


def test_an_answer_that_is_none_names_the_endpoint():
    class Wrong(Client):
        def ask(self, files, **options):
            return b"<html>"

    with pytest.raises(TeacherError, match=r"^it gives no JSON"):
        oracle(Wrong()).answers(pictures(1))
