"""Asks a black box about pictures: about each once, several at a time, within the budget; answers are kept."""

from __future__ import annotations

import hashlib
import io
import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from PIL import Image
from torch import Tensor

from hf_free.errors import HubError, QueryBudgetError, TeacherError
from hf_free.hub.inference import Accounting
from hf_free.teachers.answer_form import Answer, read_answer
from hf_free.teachers.answer_ledger import AnswerLedger
from hf_free.teachers.query_budget import QueryBudget

logger = logging.getLogger(__name__)


class Client(Protocol):
    """Sends pictures; `hf_free.hub.inference.InferenceClient` is one."""

    def ask(self, pictures: Sequence[bytes], *, top_k: int, function: str, counted: Accounting) -> bytes:
        """Picture files -> the answer's JSON."""


class Oracle:
    """Asks a black box.

    Args:
        name: What errors call it.
        client: Sends the requests.
        ledger: Answers that are there already, and where new ones are kept.
        budget: How many pictures may be sent.
        top_k: Labels to ask for.
        function: What turns logits into scores.
        per_request: Pictures of one request; more than one where the server takes lists.
        concurrent: Most requests at the same time.
    """

    def __init__(
        self,
        name: str,
        client: Client,
        ledger: AnswerLedger,
        budget: QueryBudget,
        *,
        top_k: int,
        function: str = "softmax",
        per_request: int = 1,
        concurrent: int = 4,
    ) -> None:
        self.name, self.ledger, self.budget = name, ledger, budget
        self._client, self._top_k, self._function = client, top_k, function
        self._per_request, self._concurrent = per_request, concurrent
        self._is_given_up = self._said_budget = False

    def answers(self, pictures: Tensor, *, keep_going: bool = False) -> list[Answer | None]:
        """Its answers about pictures (N, C, H, W) uint8; pictures that it was asked about before cost nothing.

        Args:
            pictures: The pictures to ask about.
            keep_going: Whether pictures without an answer give None, where the budget is spent or the endpoint fails.
                That is logged once, and the endpoint is not asked again.

        Raises:
            QueryBudgetError: the budget is not enough for all of them; none is sent.
            HubError: it cannot be reached, or does not answer.
            TeacherError: answers that cannot be read.
        """
        keys = [picture_hash(picture) for picture in pictures]
        found: dict[str, Answer | None] = {}
        missing: dict[str, int] = {}
        for place, key in enumerate(keys):
            if key not in found and key not in missing:
                answer = self.ledger.get(key)
                if answer is None:
                    missing[key] = place
                else:
                    found[key] = answer
        wanted = list(missing.items())
        left = self.budget.left
        if left is not None and len(wanted) > left:
            if not keep_going:
                self.budget.spend(len(wanted), self.name)  # refuses
            self._say_budget()
            wanted = wanted[:left]
        if wanted and not (keep_going and self._is_given_up):
            try:
                self._ask(wanted, pictures, found)
            except QueryBudgetError:
                if not keep_going:
                    raise
                self._say_budget()
            except (HubError, TeacherError) as error:
                if not keep_going:
                    raise
                self._is_given_up = True
                logger.warning("%s is not asked any more in this run: %s", self.name, error.given)
        return [found.get(key) for key in keys]

    def _ask(self, wanted: Sequence[tuple[str, int]], pictures: Tensor, found: dict[str, Answer | None]) -> None:
        """Send pictures, several requests at a time; answers go into `found` and the ledger as they come."""
        groups = [wanted[start : start + self._per_request] for start in range(0, len(wanted), self._per_request)]

        failed = threading.Event()

        def ask(group: Sequence[tuple[str, int]]) -> None:
            if failed.is_set():
                return  # nothing more is paid for once nobody waits
            try:
                answers = self._request([pictures[at] for _, at in group])
            except BaseException:
                failed.set()
                raise
            for (key, _), answer in zip(group, answers, strict=True):
                self.ledger.keep(key, answer)
                found[key] = answer

        if len(groups) == 1:
            ask(groups[0])
            return
        with ThreadPoolExecutor(self._concurrent, thread_name_prefix="hf-free-ask") as threads:
            futures = [threads.submit(ask, group) for group in groups]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                failed.set()  # requests under way come to an end, and their answers are kept
                raise

    def _request(self, pictures: Sequence[Tensor]) -> list[Answer]:
        count = len(pictures)

        def sent() -> None:
            self.budget.spend(count, self.name)
            self.ledger.count(count)

        def refused() -> None:
            self.budget.give_back(count)
            self.ledger.count(-count)

        files = [png_of(picture) for picture in pictures]
        try:
            text = self._client.ask(
                files, top_k=self._top_k, function=self._function, counted=Accounting(sent, refused)
            )
        except HubError as error:
            given = error.given.replace("the endpoint", self.name, 1)
            raise HubError(given, allowed=error.allowed, action=error.action) from error
        try:
            return read_answer(text, count=count)
        except ValueError as error:
            raise TeacherError(
                f"{self.name} {error}",
                allowed='[{"label": text, "score": number}, ...], as image classifiers of the Hub answer',
                action="check its address, and pictures_per_request if it is set",
            ) from None

    def _say_budget(self) -> None:
        if not self._said_budget:
            self._said_budget = True
            logger.warning(
                "the query budget is spent: %s is not asked about further pictures (--query-budget %s)",
                self.name,
                self.budget.limit,
            )


def picture_hash(picture: Tensor) -> str:
    """SHA-256 of a picture's shape and bytes (C, H, W), in hexadecimal."""
    shape = "x".join(map(str, picture.shape))
    return hashlib.sha256(f"{shape}:".encode() + picture.contiguous().numpy().tobytes()).hexdigest()


def png_of(picture: Tensor) -> bytes:
    """A picture (1 or 3, H, W) uint8 as a PNG file, exact."""
    pixels = picture.permute(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray((pixels[..., 0] if pixels.shape[-1] == 1 else pixels).contiguous().numpy()).save(
        buffer, "png", compress_level=1
    )
    return buffer.getvalue()
