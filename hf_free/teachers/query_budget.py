"""How many questions black boxes may be asked in a run, and how many were."""

from __future__ import annotations

import threading

from hf_free.errors import QueryBudgetError


class QueryBudget:
    """Counts pictures that are sent, and refuses before the limit is passed.

    Args:
        limit: Pictures that all black boxes together may be asked about; None for any number.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit, self._spent, self._lock = limit, 0, threading.Lock()
        self._expected = 0  # queries of earlier starts that are counted, and of which no ledger has told yet

    @property
    def spent(self) -> int:
        """Pictures that were sent so far, those of earlier starts of the run included."""
        return self._spent

    @property
    def left(self) -> int | None:
        """Pictures that may still be sent; None for any number."""
        return None if self.limit is None else max(0, self.limit - self._spent)

    @property
    def missing(self) -> int:
        """Queries that earlier starts are known to have spent, and that no ledger has told of so far."""
        return self._expected

    def spend(self, count: int, name: str) -> None:
        """Take so many queries.

        Raises:
            QueryBudgetError: fewer are left, and none is taken.
        """
        with self._lock:
            if self.limit is not None and self._spent + count > self.limit:
                raise QueryBudgetError(
                    f"{name} would be asked {count} more time{'' if count == 1 else 's'}; "
                    f"{self.limit - self._spent} of {self.limit} queries are left",
                    allowed="no more than --query-budget",
                    action="a higher --query-budget",
                )
            self._spent += count

    def give_back(self, count: int) -> None:
        """Give back queries that were not taken up."""
        with self._lock:
            self._spent -= count

    def expect(self, count: int) -> None:
        """Count queries that earlier starts are known to have spent, before their ledgers tell of them: of a ledger
        that is lost, too."""
        with self._lock:
            self._spent += count
            self._expected += count

    def recall(self, count: int) -> None:
        """Count queries of an earlier start, whatever the limit is by now; those expected, not again."""
        with self._lock:
            told = max(0, min(count, self._expected))
            self._expected -= told
            self._spent += count - told
