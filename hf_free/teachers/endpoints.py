"""From an endpoint's reference to a black box: how it is asked, with which token, and where its answers are kept."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import torch

from hf_free.config.sections import QueriesConfig
from hf_free.errors import ConfigError, TeacherError, UnfitTeacherError
from hf_free.hub.inference import InferenceClient, host_of, token_for
from hf_free.provenance.reading import Json, JsonView, list_of, texts_of, whole_of
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.teachers.answer_form import Kind, find_form
from hf_free.teachers.answer_ledger import AnswerLedger
from hf_free.teachers.black_box import BlackBox
from hf_free.teachers.config_check import check_classes
from hf_free.teachers.oracle import Client, Oracle
from hf_free.teachers.query_budget import QueryBudget
from hf_free.teachers.reference import TeacherReference

logger = logging.getLogger(__name__)

ARCHITECTURE = "endpoint"
"""Stands for the architecture of a network that cannot be seen."""

TOKEN_VARIABLE = "HF_FREE_ENDPOINT_TOKEN"
"""Environment variable with the token of the endpoints, as `--endpoint-token` takes it."""

PROBES, PROBE_SIZE = 4, 64
"""Noise pictures that a black box is asked about first, and their height and width where it names none."""

ALL_LABELS = 10_000
"""Labels that are asked for where their number is unknown; servers give as many as they have."""

_HOST_AND_TOKEN = re.compile(r"((?:[\w-]+\.)+[\w-]+(?::\d+)?|localhost(?::\d+)?|\[[0-9a-f:]+\](?::\d+)?)=(?!=*$)(.+)")


@dataclass(frozen=True)
class EndpointAccess:
    """How the black boxes of a run are asked."""

    queries: QueriesConfig = field(default_factory=QueriesConfig)
    budget: QueryBudget = field(default_factory=QueryBudget)
    """The query budget of all of them together."""
    folder: Path | None = None
    """Where answers are kept; None keeps them in memory."""
    tokens: tuple[str, ...] = ()
    """Tokens of the endpoints: `TOKEN` where they have one host, else `HOST=TOKEN` each."""
    ledgers: dict[str, AnswerLedger] = field(default_factory=dict, repr=False)
    """Ledgers in use; an endpoint that several teachers are made of has one."""

    def ledger(self, identity: str) -> AnswerLedger:
        """The answers of an endpoint; what earlier starts have spent on it counts from now on."""
        if identity not in self.ledgers:
            path = None if self.folder is None else self.folder / f"{identity}.answers"
            self.ledgers[identity] = AnswerLedger(path)
            if self.budget.missing and not self.ledgers[identity].sent:
                logger.warning(
                    "%s is gone or empty, though its black box was asked: its answers are lost, and the same pictures "
                    "are asked about again",
                    path or "a file of answers",
                )
            self.budget.recall(self.ledgers[identity].sent)
        return self.ledgers[identity]

    @classmethod
    def of(cls, queries: QueriesConfig, *, folder: Path | None = None, tokens: Sequence[str] = ()) -> EndpointAccess:
        """The access of a run.

        Args:
            queries: What its black boxes may be asked.
            folder: Where answers are kept, a run's `answers/`; None keeps them in memory.
            tokens: Tokens of the endpoints; none takes those of the environment (`TOKEN_VARIABLE`).
        """
        check_tokens(tokens, [])
        given = tuple(tokens) or tuple(os.environ.get(TOKEN_VARIABLE, "").split())
        return cls(queries, QueryBudget(queries.budget), folder, given)


def token_of_host(tokens: Iterable[str], url: str) -> str | None:
    """The token for an address, by its host; one without a host is for any."""
    named, bare = {}, None
    for text in tokens:
        match = _HOST_AND_TOKEN.fullmatch(text)
        if match:
            named[match[1].lower()] = match[2]
        else:
            bare = text
    return named.get(host_of(url).lower(), bare)


def check_tokens(tokens: Sequence[str], urls: Sequence[str]) -> None:
    """Refuse a token that would go to several hosts.

    Raises:
        ConfigError: with the hosts.
    """
    is_list = isinstance(tokens, list | tuple | set | frozenset)
    if not is_list or not all(isinstance(text, str) for text in tokens):  # none of them is shown
        kind = "one text" if isinstance(tokens, str) else f"a {type(tokens).__name__}, or not of texts"
        raise ConfigError(
            f"endpoint tokens that are {kind}", allowed="a list of TOKEN or HOST=TOKEN", action="[token]"
        )
    hosts = sorted({host_of(url) for url in urls})
    bare = [text for text in tokens if not _HOST_AND_TOKEN.fullmatch(text)]
    if len(hosts) == 1 and len(bare) > 1:
        raise ConfigError(
            f"{len(bare)} endpoint tokens for one host, {hosts[0]}",
            allowed=f"one token, without a blank or a line break: they part the tokens in {TOKEN_VARIABLE}",
            action="give the one that is meant",
        )
    if len(hosts) > 1 and bare:
        raise ConfigError(
            f"{len(bare)} endpoint token{'' if len(bare) == 1 else 's'} without a host for {len(hosts)} hosts",
            allowed="HOST=TOKEN for each host: a token goes to its own host only",
            action="--endpoint-token " + " ".join(f"{host}=..." for host in hosts),
        )


def open_endpoint(
    reference: TeacherReference,
    access: EndpointAccess,
    *,
    token: str | None = None,
    device: str | torch.device = "cpu",
    client: Client | None = None,
) -> BlackBox:
    """Ask an endpoint about a few noise pictures, and make a teacher of what it answers.

    Args:
        reference: The endpoint.
        access: How it is asked.
        token: The Hub's token, for an endpoint of the Hub itself.
        device: Where its logits go.
        client: Sends the requests; None makes an `InferenceClient`.

    Raises:
        HubError: it does not answer.
        QueryBudgetError: not even these pictures are within the budget.
        TeacherError: answers that cannot be read, see `hf_free.teachers.answer_form`; an `UnfitTeacherError` for one
            that answers all pictures alike.
    """
    name, given = str(reference), _given(reference)
    labels = texts_of(given.get("label_names")) or None
    stated = given.get("answers")
    kind: Kind | None = stated if stated in get_args(Kind) else None  # type: ignore[assignment]
    if stated is not None and kind is None:
        raise TeacherError(
            f"{name}: answers is {stated!r}", allowed=", ".join(get_args(Kind)), action="correct the list"
        )
    function = "none" if kind == "logits" else "softmax"
    top_k = len(labels) if labels else whole_of(given.get("num_classes")) or ALL_LABELS
    queries, own = access.queries, token_of_host(access.tokens, reference.location)
    if (variable := given.get("token_env")) is not None:
        own = os.environ.get(str(variable))
        if not own:
            raise TeacherError(
                f"{name}: the environment variable {variable} is not set",
                allowed="the endpoint's token in it",
                action="set it, or take token_env out of the list",
            )
    if client is None:
        sent = token_for(reference.location, own=own, hub=token)
        client = InferenceClient(reference.location, token=sent, per_second=queries.per_second)
    identity = hashlib.sha256(json.dumps([reference.location, function, top_k]).encode()).hexdigest()[:16]
    oracle = Oracle(
        name,
        client,
        access.ledger(identity),
        access.budget,
        top_k=top_k,
        function=function,
        per_request=whole_of(given.get("pictures_per_request")) or queries.pictures_per_request,
        concurrent=queries.concurrent,
    )
    size = _size(given)
    probes = torch.rand((PROBES, *(size or (3, PROBE_SIZE, PROBE_SIZE))), generator=torch.Generator().manual_seed(0))
    answers = [answer for answer in oracle.answers((probes * 255).round().to(torch.uint8)) if answer is not None]
    form = find_form(answers, name, kind=kind, labels=labels)
    _check_count(given, len(form.labels), name)
    record = _record(reference, given, form.labels, size or (3, PROBE_SIZE, PROBE_SIZE))
    black_box = BlackBox(oracle, form, record, resizes=size is not None)
    logits = black_box.logits(probes)
    if torch.equal(logits, logits[:1].expand_as(logits)):
        raise UnfitTeacherError(
            f"{name} has a constant output", action="leave this teacher out; it distinguishes nothing"
        )
    return black_box.to(device)  # type: ignore[return-value]


def _given(reference: TeacherReference) -> JsonView:
    found: Json = json.loads(reference.config) if reference.config else {}
    return found


def _size(given: JsonView) -> tuple[int, int, int] | None:
    """(channels, height, width) that pictures are brought to before they are sent, where the list says so."""
    sizes = [whole_of(number) or 0 for number in list_of(given.get("input_size"))]
    return (sizes[0], sizes[1], sizes[2]) if len(sizes) == 3 and sizes[0] in (1, 3) and min(sizes) > 0 else None


def _check_count(given: JsonView, found: int, name: str) -> None:
    wanted = whole_of(given.get("num_classes"))
    if wanted is not None and wanted != found:
        raise TeacherError(
            f"{name} has num_classes {wanted}, and answers with {found} labels",
            allowed="the number of its labels; labels of one name count once",
            action="correct the list",
        )


def _record(
    reference: TeacherReference, given: JsonView, labels: tuple[str, ...], size: tuple[int, int, int]
) -> TeacherRecord:
    digest = hashlib.sha256(json.dumps(labels).encode()).hexdigest()
    chosen = reference.classes
    if chosen is not None:
        check_classes(chosen, len(labels), str(reference))
    names = labels if chosen is None else tuple(labels[index] for index in chosen)
    return TeacherRecord(
        reference=str(reference),
        repo_id=None,
        commit=None,
        architecture=ARCHITECTURE,
        parameters=0,
        input_size=size,
        fixed_input_size=False,
        mean=_numbers(given, "mean", size[0], 0.5),
        std=_numbers(given, "std", size[0], 0.25),
        interpolation="bilinear",
        num_classes=len(names),
        label_names=names,
        num_features=len(names),
        private=True,  # a private endpoint's address is not told to others
        sha256={"labels": digest},
        classes=chosen,
        answers_only=True,
        notes=("a black box: it is asked, and not inverted by gradients",),
    )


def _numbers(given: JsonView, key: str, channels: int, default: float) -> tuple[float, ...]:
    values = [float(value) for value in list_of(given.get(key)) if isinstance(value, int | float)]
    return tuple(values) if len(values) == channels else (default,) * channels
