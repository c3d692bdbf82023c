"""Chains: the parts that a step's work is cut into, for one process to do in turn or for several to do at once.

A run has as many chains as processes, or more. Each chain has its own teachers, its own random numbers and its own
part of every batch; what they find is added up in the order of the chains, wherever each was done. So one process
with two chains, and two processes with one each, come to the same weights, on CPUs to the bit: a float sum depends on
its order, and the order is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from hf_free.errors import RunError
from hf_free.runtime.distributed import ALONE, Ranks
from hf_free.runtime.random_streams import UNSEEDED, RandomStreams
from hf_free.runtime.sharding import joint_norm

T = TypeVar("T")


def check_even(chains: int, processes: int) -> None:
    """Refuse chains that processes cannot share out evenly.

    Raises:
        RunError: their number is no multiple of that of the processes.
    """
    if chains % processes:
        raise RunError(
            f"trainer.chains is {chains}, and there are {processes} processes",
            allowed="a multiple of the number of processes",
            action=f"--chains {processes}, or leave it out: one chain per process",
        )


class Chains:
    """The chains of a run, as one process sees them.

    Args:
        count: All of them, a multiple of the number of processes.
        ranks: The processes; each does `count / ranks.count` neighboring chains in turn.
        streams: Seeds code that is not ours for each chain.

    Raises:
        RunError: a number of chains that the processes cannot share out evenly.
    """

    def __init__(self, count: int = 1, *, ranks: Ranks = ALONE, streams: RandomStreams = UNSEEDED) -> None:
        check_even(count, ranks.count)
        self.count, self.ranks, self._streams = count, ranks, streams
        each, rank = count // ranks.count, ranks.launched.rank
        self.own = range(rank * each, (rank + 1) * each)
        """The chains that this process does."""

    def found(self, device: torch.device, precision: str) -> str:
        """What a run computes with, in words: processes, chains, device, threads, precision."""
        ranks, here, each, threads = self.ranks, self.ranks.launched, len(self.own), torch.get_num_threads()
        return (
            f"{ranks.count} process{'' if ranks.count == 1 else 'es'} ({here.local_count} on this machine), each with "
            f"{each} chain{'' if each == 1 else 's'} of work and {threads} thread{'' if threads == 1 else 's'}, "
            f"on {device.type}, precision {precision}"
        )

    def of(self, teacher: int) -> int:
        """The chain that a teacher belongs to, by its index in the pool."""
        return teacher % self.count

    def sizes(self, total: int) -> list[int]:
        """A number cut into nearly equal parts, one per chain."""
        return [total // self.count + (chain < total % self.count) for chain in range(self.count)]

    def each(self) -> Iterator[int]:
        """This process's chains, one after the other; in each, code that is not ours draws from other random
        numbers."""
        for chain in self.own:
            if self.count > 1:
                self._streams.seed_strangers(chain)
            yield chain

    def gather(self, values: Sequence[T]) -> list[T]:
        """One value for each own chain -> one for each chain of the run, in their order."""
        return [value for of_rank in self.ranks.gather(list(values)) for value in of_rank]

    def add_up(self, rows: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """For each own chain the same list of tensors -> their sums over all chains of the run."""
        if self.count == 1:
            return list(rows[0])
        table = self.ranks.rows(torch.stack([_packed(tensors) for tensors in rows]))
        return _unpacked(_summed(table), rows[0])

    def merged(self, rows: Tensor) -> Tensor:
        """Answers (N, A), in which each process has NaN for what it did not ask -> what any of them knows."""
        known, *others = self.ranks.gather(rows)
        for other in others:
            known = torch.where(known.isnan(), other, known)
        return known

    def step(self, network: nn.Module, work: Callable[[int], Tensor], *, may_overflow: bool = False) -> Tensor:
        """Do a backward pass per chain, and leave the sum of all chains' gradients in `.grad`, before an update.

        Every chain begins with the same buffers (BatchNorm's running statistics). After it each is the mean over the
        chains in every process; counters are the first chain's.

        Args:
            network: Its gradients are cleared first, where there are several chains.
            work: Does the backward pass of a chain's part of the loss, and gives that part; they add up to the loss.
            may_overflow: Whether a gradient that is not finite is the caller's to see to, as with a scaled loss.

        Returns:
            The sum of the parts.

        Raises:
            RunError: a chain's loss or gradient is not finite, in all processes alike; nothing has been updated.
        """
        if self.count == 1:
            return work(0)
        parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        buffers = list(network.buffers())
        begun, rows = [buffer.clone() for buffer in buffers], []
        for chain in self.each():
            with torch.no_grad():
                for buffer, before in zip(buffers, begun, strict=True):
                    buffer.copy_(before)
            for parameter in parameters:
                parameter.grad = None
            loss = work(chain).detach().reshape(1)
            gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
            rows.append(_packed([loss, *gradients, *buffers]))
        table = self.ranks.rows(torch.stack(rows))
        if not may_overflow:
            self._check_finite(table)
        like = [rows[0][:1], *parameters, *buffers]
        (loss, *found), (_, *first) = _unpacked(_summed(table), like), _unpacked(table[0], like)
        for parameter, gradient in zip(parameters, found, strict=False):
            if parameter.grad is not None:
                parameter.grad.copy_(gradient)
        with torch.no_grad():
            for buffer, total, own in zip(buffers, found[len(parameters) :], first[len(parameters) :], strict=True):
                buffer.copy_(total / self.count if buffer.is_floating_point() else own)
        return loss.reshape(())

    def step_shared_out(
        self, network: nn.Module, work: Callable[[int], Tensor], *, may_overflow: bool = False
    ) -> Tensor:
        """`step` of a network that is shared out over the processes, one chain in each (`hf_free.runtime.sharding`).

        Its backward pass takes the mean over the processes, so `work` has to multiply its loss by their number. Of
        gradients, only the norm is looked at: which chain's is not finite cannot be told.
        """
        loss = work(self.own[0]).detach().reshape(1)
        buffers = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
        table = self.ranks.rows(_packed([loss, *buffers])[None])
        if not may_overflow:
            self._check_finite(table)
        total, *sums = _unpacked(_summed(table), [loss, *buffers])
        with torch.no_grad():
            for buffer, found in zip(buffers, sums, strict=True):
                buffer.copy_(found / self.count)
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        if not may_overflow and not joint_norm(gradients).isfinite().item():
            raise _not_finite("of a chain")
        return total.reshape(())

    def _check_finite(self, table: Tensor) -> None:
        bad = [chain for chain, is_whole in enumerate(table.isfinite().all(1).tolist()) if not is_whole]
        if bad:
            each = len(self.own)
            named = ", ".join(f"{chain} (rank {chain // each})" for chain in bad)
            raise _not_finite(f"of chain {named}")


def _not_finite(whose: str) -> RunError:
    return RunError(
        f"the gradient {whose} is not finite",
        allowed="finite numbers; nothing was updated with it",
        action="lower --set bell.lr=..., or --mixed-precision no; the run's folder keeps what there is",
    )


def _packed(tensors: Sequence[Tensor]) -> Tensor:
    """All values as one fp32 vector, in the order of indices, however each tensor lies in memory."""
    return torch.cat([tensor.detach().reshape(-1).float() for tensor in tensors])


def _unpacked(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    parts = vector.split([tensor.numel() for tensor in like])
    return [part.view(tensor.shape) for part, tensor in zip(parts, like, strict=True)]


def _summed(table: Tensor) -> Tensor:
    """The sum over rows, one after the other: `sum` may take another order, which gives other bits."""
    total = table[0].clone()
    for row in table[1:]:
        total += row
    return total


ONE_CHAIN = Chains()
"""All work of a step in one piece."""
