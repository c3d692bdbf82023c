"""Teachers, however many, under a memory budget: loaded when asked for; the least recently used leave memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, overload

import torch
from torch import nn

from hf_free.backbones.weights import SMALL_FILE
from hf_free.errors import (
    HfFreeError,
    HubError,
    TeacherError,
    TeacherReferenceError,
    UnfitTeacherError,
    VanishedTeacherError,
)
from hf_free.hub.prefetch import NOT_THERE, Fetched, Prefetcher
from hf_free.hub.snapshot import Snapshot
from hf_free.provenance.teacher_record import PIXEL_FILES, TeacherRecord
from hf_free.runtime.allocator import give_back_memory, rare_collections
from hf_free.runtime.chains import ONE_CHAIN, Chains
from hf_free.runtime.device import Precision, choose_device, is_out_of_memory
from hf_free.runtime.given import check_cache_dir, check_function, check_kind, check_texts, from_home, short_form
from hf_free.runtime.side_by_side import MOST_PIXELS_BESIDE, in_order
from hf_free.runtime.text import listed, parse_bytes, size_text
from hf_free.teachers.building import NetworkBuilder
from hf_free.teachers.endpoints import EndpointAccess, check_tokens, open_endpoint
from hf_free.teachers.listing import Resolver
from hf_free.teachers.loader import NoCopyError, load_teacher, try_out
from hf_free.teachers.reference import TeacherReference
from hf_free.teachers.source import weights_name
from hf_free.teachers.teacher import Teacher

_READ_OF_CONFIG = ("architecture", "num_classes", "classes", "input_size", "mean", "std", "interpolation")
"""Fields that a YAML list may change for a teacher with the same files, and that change its answers."""

_SHORT = 160
"""Most characters of a rule that is quoted with the reason why a teacher is left out."""


class Pinned(NamedTuple):
    """A teacher that was loaded before: where it comes from now, and what it has to be."""

    reference: TeacherReference
    record: TeacherRecord
    """Its files' hashes and what changes its answers must be the same; its name is kept."""


Source = str | TeacherReference | TeacherRecord | Pinned


def _reason(reference: str, error: HfFreeError) -> str:
    """Why a teacher is left out, in one line, without its name: wherever it is shown, the name comes first."""
    reason = error.given.removeprefix(reference).removeprefix(":").strip()
    return f"{reason} (allowed: {error.allowed})" if 0 < len(error.allowed) <= _SHORT else reason


class TeacherPool(Sequence[Teacher]):
    """Teachers by index, held in memory only as far as a budget allows.

    Every source is loaded and checked once when the pool is made; an unusable one is left out, with the reason in
    `skipped`. A teacher that has left memory is loaded again from the very same commit and bytes.

    Args:
        sources: References, their texts, records of an earlier run (which pin the commit), or both together.
        budget: Memory for the weights, in bytes or as `4GiB`. A teacher in use elsewhere stays alive beyond it.
        device: Where the teachers compute.
        token: Hub token.
        cache_dir: Folder of the download cache.
        progress: Called with each source's text before it is loaded.
        fetched: Called with how far the downloads are; several run at once, while the first teachers are loaded.
        meanwhile: Called repeatedly with the pool while the next teacher downloads, until it returns False. It is
            never called where all files are in the cache.
        strict: Whether a source that cannot be fetched or read is an error. Intact checkpoints that are of no use as
            teachers (`UnfitTeacherError`), and models of a collection that are no teachers, are left out all the same.
        precision: What the teachers will be computed in, see `hf_free.teachers.loader.try_out`.
        endpoints: How black boxes are asked; None keeps no answers and knows no budget.
        chains: Where several processes make this pool at once: each loads and checks the teachers of its own chains,
            the first all black boxes, and is told the records of the others. Another process's teacher is loaded only
            if it is asked for all the same.
        absent: Places of records that an earlier start of the run could not load again: where one still cannot be
            loaded, it keeps its place, and is in `gone`.

    Attributes:
        records: Record of each teacher, in order.
        skipped: (reference, reason) of each source left out.
        gone: Index -> reason, of the teachers that could not be loaded again when they were asked for. They are not
            looked for any more.
    """

    @rare_collections()
    def __init__(
        self,
        sources: Iterable[Source],
        *,
        budget: int | str = "4GiB",
        device: str | torch.device = "cpu",
        token: str | None = None,
        cache_dir: str | Path | None = None,
        progress: Callable[[str], None] | None = None,
        fetched: Callable[[Fetched], None] | None = None,
        meanwhile: Callable[[TeacherPool], bool] | None = None,
        strict: bool = False,
        precision: Precision | None = None,
        endpoints: EndpointAccess | None = None,
        chains: Chains = ONE_CHAIN,
        absent: Collection[int] = (),
    ) -> None:
        if isinstance(sources, str) or not isinstance(sources, Iterable):
            raise TeacherReferenceError(
                f"sources={short_form(sources)} of type {type(sources).__name__}", allowed="a list of teachers"
            )
        check_texts(token=token)
        check_cache_dir(cache_dir)
        check_kind(precision, "precision", Precision, allowed="a Precision, as Precision.choose gives, or None")
        check_kind(endpoints, "endpoints", EndpointAccess, allowed="an EndpointAccess, or None")
        check_function(progress, "progress", ("source",))
        check_function(fetched, "fetched", ("state",))
        check_function(meanwhile, "meanwhile", ("pool",))
        device = choose_device(device)
        self.endpoints = endpoints or EndpointAccess()
        self.budget = parse_bytes(budget)
        self.records: list[TeacherRecord] = []
        self.skipped: list[tuple[str, str]] = []
        self.gone: dict[int, str] = {}
        self._device, self._token, self._cache_dir, self._precision = device, token, cache_dir, precision
        self._builder = NetworkBuilder()
        self._references: list[TeacherReference] = []
        self._loaded: OrderedDict[int, Teacher] = OrderedDict()
        self._folded: dict[int, int] = {}  # bytes of the folded copies
        self._added_bytes = 0  # of all weights: as long as they fit, nobody has to leave for the next one
        self._lock = threading.RLock()
        self.chains, places = chains, list[int]()
        every = enumerate(_as_references(sources, Resolver(token=token), strict=strict, absent=absent))
        found = [(place, *one) for place, one in every if _chain_at(place, one[1], chains) in chains.own]
        sure = [reference for place, _, reference, _ in found if place not in absent]
        good = [reference for reference in sure if isinstance(reference, TeacherReference)]
        addresses = [reference.location for reference in good if reference.is_endpoint]
        check_tokens(self.endpoints.tokens, addresses)
        unsure = [reference for reference in good if reference.from_collection]
        fetching = Prefetcher(
            good, optional=PIXEL_FILES, token=token, cache_dir=cache_dir, report=fetched, unsure=unsure
        )
        with fetching as prefetcher, ExitStack() as stack:
            ahead = stack.enter_context(closing(self._ahead(found, absent, prefetcher)))
            for (place, text, reference, expected), loaded in zip(found, ahead, strict=True):
                if progress is not None:
                    progress(text)
                if place in absent and expected is not None:
                    self._add_if_it_is_back(text, reference, expected)
                    places.append(place)
                    continue
                if meanwhile is not None and isinstance(reference, TeacherReference) and reference.is_on_hub:
                    while prefetcher.is_downloading(reference, fail_early=strict) and meanwhile(self):
                        pass
                try:
                    self._add(text, reference, expected, prefetcher, loaded, strict=strict)
                    places.append(place)
                except HfFreeError as error:
                    if strict and not _may_be_left_out(reference, error):
                        raise
                    self.skipped.append((text, _reason(text, error)))
        if chains.ranks.count > 1:
            self._hear_of_others(places)

    @classmethod
    def from_teachers(cls, teachers: Sequence[Teacher]) -> TeacherPool:
        """A pool of teachers already in memory; they stay there. An unusable one is left out, as one from a Hub would
        be."""
        pool = cls([], budget=max(1, 2 * sum(t.record.weight_bytes for t in teachers)))  # their folded copies, too
        for teacher in teachers:
            try:
                try_out(teacher)
            except UnfitTeacherError as error:
                pool.skipped.append((teacher.record.reference, _reason(teacher.record.reference, error)))
                continue
            except TeacherError as error:
                if error.__cause__ is None or not is_out_of_memory(error.__cause__):
                    raise
                # four pictures may be too many for the memory, and one not
            pool._loaded[len(pool.records)] = teacher
            pool.records.append(teacher.record)
        return pool

    def keep(self, places: Sequence[int]) -> None:
        """Go on with some of the teachers, in this order; the others leave the pool and the memory.

        Args:
            places: Which ones, from 0.
        """
        with self._lock:
            new = {old: place for place, old in enumerate(places)}
            self.records = [self.records[place] for place in places]
            if self._references:  # none of those that were given in memory
                self._references = [self._references[place] for place in places]
            self._loaded = OrderedDict((new[old], one) for old, one in self._loaded.items() if old in new)
            self._folded = {new[old]: size for old, size in self._folded.items() if old in new}
            self.gone = {new[old]: reason for old, reason in self.gone.items() if old in new}

    def __getstate__(self) -> dict[str, object]:
        """What is pickled, and copied: all but the token, which is a secret, and what belongs to this process.

        Raises:
            TeacherError: there is a black box, whose budget and kept answers are this process's.
        """
        if self.black_boxes:
            raise TeacherError("a pool with a black box cannot be copied", allowed="teachers with weights")
        here = ("_token", "_lock", "_builder", "endpoints")
        return {name: value for name, value in vars(self).items() if name not in here}

    def __setstate__(self, state: dict[str, object]) -> None:
        here = {
            "_token": None,
            "_lock": threading.RLock(),
            "_builder": NetworkBuilder(),
            "endpoints": EndpointAccess(),
        }
        vars(self).update(state | here)

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, index: int) -> Teacher: ...
    @overload
    def __getitem__(self, index: slice) -> list[Teacher]: ...
    def __getitem__(self, index: int | slice) -> Teacher | list[Teacher]:
        """The teacher at an index, loaded if it is not in memory; a slice loads all of its teachers at once.

        Raises:
            VanishedTeacherError: it cannot be loaded again; from then on it is in `gone`.
            TeacherError: its files have changed.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"teacher {index} of {len(self)}")
        index %= len(self)
        with self._lock:
            if index not in self._loaded:
                self._make_room(self.records[index].weight_bytes)
                self._loaded[index] = self._load_again(index)
            self._loaded.move_to_end(index)
            return self._loaded[index]

    @property
    def references(self) -> list[TeacherReference]:
        """Where each teacher comes from; those of the Hub with their commit."""
        return list(self._references)

    @property
    def given_networks(self) -> dict[int, nn.Module]:
        """The networks, by their teachers' places, that were given in memory and that no file holds."""
        return {place: one.network for place, one in self._loaded.items() if self.records[place].is_in_memory}

    @property
    def black_boxes(self) -> list[int]:
        """Places of the teachers that only answer."""
        return [place for place, record in enumerate(self.records) if record.answers_only]

    def chain_of(self, index: int, chains: Chains) -> int:
        """The chain that a teacher belongs to: black boxes are all the first's, which keeps their budget and answers
        in one place."""
        return 0 if self.records[index].answers_only else chains.of(index)

    def is_own(self, index: int, chains: Chains) -> bool:
        """Whether this process loads, inverts and asks a teacher."""
        return self.chain_of(index, chains) in chains.own

    @property
    def loaded_bytes(self) -> int:
        """Memory of the teachers the pool holds now, in bytes, with their folded copies."""
        return sum(self.records[i].weight_bytes + self._folded.get(i, 0) for i in self._loaded)

    def for_asking(self, index: int, precision: Precision) -> Teacher:
        """The teacher at an index, with a faster copy for `Teacher.labels` where the budget has room for it.

        It does so only where all teachers stay in memory: one that leaves it again and again would be folded each
        time.
        """
        with self._lock:
            teacher, weights = self[index], self.records[index].weight_bytes
            fits = self._total_bytes <= self.budget and self.loaded_bytes + weights <= self.budget
            if not teacher.is_tried and fits:
                teacher.fold(precision)
                self._folded[index] = teacher.folded_bytes
            return teacher

    @property
    def is_asked_beside(self) -> bool:
        """Whether several threads may ask a teacher each: on a CPU, where all are held, none is a black box, and their
        pictures are small."""
        is_held = self._total_bytes <= self.budget and not self.black_boxes
        return is_held and torch.device(self._device).type == "cpu" and self._are_small

    @property
    def _are_small(self) -> bool:
        return all(max(record.input_size[1:]) <= MOST_PIXELS_BESIDE for record in self.records)

    @property
    def _total_bytes(self) -> int:
        return sum(record.weight_bytes for record in self.records)

    def _add(
        self,
        text: str,
        reference: TeacherReference | HfFreeError,
        expected: TeacherRecord | None,
        prefetcher: Prefetcher,
        loaded: Teacher | HfFreeError | None,
        *,
        strict: bool,
    ) -> None:
        if isinstance(reference, HfFreeError):
            raise reference
        snapshot = None if not reference.is_on_hub else prefetcher.snapshot(reference, fail_early=strict)
        if isinstance(loaded, HfFreeError):
            raise loaded
        teacher = loaded or self._load(reference, snapshot, precision=self._precision)
        teacher.record = record = replace(teacher.record, reference=text)
        if expected is not None:
            _check_unchanged(record, expected)
        if record.weight_bytes > self.budget:
            raise UnfitTeacherError(
                f"{record.reference} needs {size_text(record.weight_bytes)} for its weights",
                allowed=f"at most the budget of {size_text(self.budget)} (--teacher-memory)",
                action="raise --teacher-memory, or leave it out",
            )
        # From here on the commit is fixed, so that a push in between changes nothing.
        pinned = reference if not reference.is_on_hub else replace(reference, revision=record.commit)
        self.records.append(record)
        self._references.append(pinned)
        self._added_bytes += record.weight_bytes
        if self._added_bytes > self.budget:
            self._make_room(record.weight_bytes)
        self._loaded[len(self.records) - 1] = teacher

    def _ahead(
        self, found: Sequence[_Placed], absent: Collection[int], prefetcher: Prefetcher
    ) -> Generator[Teacher | HfFreeError | None, None, None]:
        """Small teachers of kinds that are known by now, loaded by several threads a few places ahead of the caller.

        Yields:
            For each place the teacher, or why it cannot be one; None for the caller to load it in its turn.
        """

        def load(one: _Placed) -> Teacher | HfFreeError | None:
            place, _, reference, _ = one
            if isinstance(reference, HfFreeError) or reference.is_endpoint or place in absent:
                return None
            snapshot = prefetcher.arrived(reference) if reference.is_on_hub else None
            if reference.is_on_hub and snapshot is None:
                return None
            folder = from_home(reference.location) if snapshot is None else snapshot.folder
            try:
                if (folder / weights_name(reference)).stat().st_size > SMALL_FILE:
                    return None
                return self._load(reference, snapshot, precision=self._precision, only_copies=True)
            except (NoCopyError, OSError):
                return None
            except HfFreeError as error:
                return error

        if torch.get_num_threads() > 1 and torch.device(self._device).type == "cpu":
            yield from in_order(load, found)
        else:
            yield from (None for _ in found)

    def _load_again(self, index: int) -> Teacher:
        expected, error = self.records[index], None
        if index not in self.gone:
            try:
                # its precision was found out when it was first loaded, and stands in the record
                teacher = self._load(self._references[index], precision=Precision())
                _check_unchanged(teacher.record, expected)
                teacher.record = expected
                return teacher
            except HubError as failure:
                error, self.gone[index] = failure, _reason(expected.reference, failure)
        raise VanishedTeacherError(
            f"{expected.reference} cannot be loaded again: {self.gone[index]}",
            allowed="teachers whose files stay where they were, or in the download cache",
            action="restore it; or leave it out, and start anew",
        ) from error

    def _add_if_it_is_back(
        self, text: str, reference: TeacherReference | HfFreeError, expected: TeacherRecord
    ) -> None:
        """Give a teacher of an earlier start its place, whether it can be loaded again or not."""
        if isinstance(reference, HfFreeError):  # its folder is still missing
            reference = TeacherReference(text, is_local=True, text=text)
        self.records.append(expected)
        self._references.append(reference)
        self._added_bytes += expected.weight_bytes
        with suppress(VanishedTeacherError):
            _ = self[len(self.records) - 1]

    def _hear_of_others(self, places: Sequence[int]) -> None:
        """Take note of the teachers that other processes have loaded, each in its place among all."""
        ranks = self.chains.ranks
        own = list(zip(places, self.records, self._references, strict=True))
        every = sorted((one for of_rank in ranks.gather(own) for one in of_rank), key=itemgetter(0))
        index = {place: number for number, (place, _, _) in enumerate(every)}
        self._loaded = OrderedDict((index[places[one]], teacher) for one, teacher in self._loaded.items())
        gone = {index[places[one]]: reason for one, reason in self.gone.items()}
        self.gone = {one: reason for of_rank in ranks.gather(gone) for one, reason in of_rank.items()}
        self.records = [record for _, record, _ in every]
        self._references = [reference for _, _, reference in every]
        self.skipped = [one for of_rank in ranks.gather(self.skipped) for one in of_rank]

    def _load(
        self,
        reference: TeacherReference,
        snapshot: Snapshot | None = None,
        *,
        precision: Precision | None,
        only_copies: bool = False,
    ) -> Teacher:
        if reference.is_endpoint:
            return open_endpoint(reference, self.endpoints, token=self._token, device=self._device)
        return load_teacher(
            reference,
            token=self._token,
            cache_dir=self._cache_dir,
            device=self._device,
            snapshot=snapshot,
            precision=precision,
            builder=self._builder,
            only_copies=only_copies,
        )

    def _make_room(self, needed: int) -> None:
        held = self.loaded_bytes
        if held + needed <= self.budget:
            return
        before = len(self._loaded)
        leaving = [
            place for place in self._loaded if not self.records[place].answers_only
        ]  # a black box takes no room
        for place in leaving:
            if held + needed <= self.budget:
                break
            del self._loaded[place]
            held -= self.records[place].weight_bytes + self._folded.pop(place, 0)
        if len(self._loaded) < before:
            give_back_memory()  # glibc keeps what lies between blocks in use, here half a budget's worth


def _chain_at(place: int, reference: TeacherReference | HfFreeError, chains: Chains) -> int:
    """`TeacherPool.chain_of`, before a teacher is loaded."""
    return 0 if isinstance(reference, TeacherReference) and reference.is_endpoint else chains.of(place)


_Found = tuple[str, TeacherReference | HfFreeError, TeacherRecord | None]
"""A teacher's text, its reference or why it has none, and the record of an earlier run."""

_Placed = tuple[int, str, TeacherReference | HfFreeError, TeacherRecord | None]
"""The same, behind its place among all."""


def _as_references(
    sources: Iterable[Source], resolver: Resolver, *, strict: bool, absent: Collection[int] = ()
) -> list[_Found]:
    """All teachers that the sources stand for; a text that names none is an error, or (not strict, or at a place of
    `absent`) left out later."""
    found: list[_Found] = []
    for source in sources:
        if isinstance(source, TeacherReference):
            found.append((str(source), source, None))
            continue
        if isinstance(source, Pinned):
            found.append((source.record.reference, *source))
            continue
        record = source if isinstance(source, TeacherRecord) else None
        text = source if isinstance(source, str) else source.reference
        try:
            if record is not None and record.is_in_memory:  # its name may be that of something else
                raise TeacherReferenceError(
                    f"{text} was given as a network in memory, which no file holds",
                    allowed="teachers of the Hub or of folders",
                    action="give the network again, in Python",
                )
            references = resolver.references(text)
        except TeacherReferenceError as error:
            if strict and len(found) not in absent:
                raise
            found.append((text, error, record))
            continue
        if record is not None and record.commit is not None:
            references = [replace(reference, revision=record.commit) for reference in references]
        found += [(str(reference), reference, record) for reference in references]
    return found


def _may_be_left_out(reference: TeacherReference | HfFreeError, error: HfFreeError) -> bool:
    if isinstance(reference, TeacherReference) and reference.from_collection:
        return isinstance(error, (TeacherError, *NOT_THERE))
    return isinstance(error, UnfitTeacherError)


def _check_unchanged(found: TeacherRecord, expected: TeacherRecord) -> None:
    if found.sha256 != expected.sha256:
        names = sorted(found.sha256.keys() | expected.sha256.keys())
        other = [name for name in names if found.sha256.get(name) != expected.sha256.get(name)]
        raise TeacherError(
            f"{expected.reference} has other files than when it was first read",
            allowed=f"the same {listed(other)} as then",
            action="restore them, or start anew",
        )
    for key in _READ_OF_CONFIG:
        if (now := getattr(found, key)) != (before := getattr(expected, key)):
            raise TeacherError(
                f"{expected.reference} has {key} {now}, and had {before} when it was first read",
                allowed="the same entry of its YAML list as then",
                action="restore it, or start anew",
            )
