"""The budget is refused before it is passed."""

from __future__ import annotations

import pytest

from hf_free.errors import QueryBudgetError
from hf_free.teachers.query_budget import QueryBudget


def test_nothing_is_taken_beyond_the_limit():
    budget = QueryBudget(5)
    budget.spend(3, "it")
    with pytest.raises(QueryBudgetError, match="it would be asked 3 more times; 2 of 5 queries are left"):
        budget.spend(3, "it")
    assert (budget.spent, budget.left) == (3, 2)
    budget.give_back(1)
    budget.spend(3, "it")
    assert budget.left == 0


def test_an_earlier_start_counts_whatever_the_limit_is_by_now():
    budget = QueryBudget(5)
    budget.recall(9)
    assert (budget.spent, budget.left) == (9, 0)
    assert QueryBudget().left is None
