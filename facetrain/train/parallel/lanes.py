"""The groups of a step: on a CPU they go through the networks side by side, each in one thread.

Threads that share one operation wait for each other after each of some thousand, by spinning: fast while nothing else
runs, and several times slower than one thread alone as soon as something does. A group of crops waits for the others
twice a step: for the counts that losses are divided by, and at the end. Its batch norms see the group alone, as with
the published recipe, whose two GPUs did not tell each other of theirs; so any number of lanes gives the same result,
bit by bit.
"""

import copy
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from facetrain.data.batch import Batch
from facetrain.data.batches import Item, Share
from facetrain.model.yunet import YuNet
from facetrain.train.parallel.world import World
from facetrain.train.step import Task, batch_losses
from facetrain.train.terms import Losses

Result = TypeVar("Result")

LARGEST_GROUP = 16  # crops whose batch norms are one, where `train.norm_group` does not say it: as published
_SMALLEST = 16  # batches below are one group: norms of fewer than 8 crops are known to cost AP


@dataclass(frozen=True)
class Division:
    """How a step is divided. groups: of its crops; lanes: groups at work at a time; threads: of each lane."""

    groups: int
    lanes: int
    threads: int

    def parts(self, batch: int) -> list[range]:
        """The positions of each group in a batch."""
        return [World(rank, self.groups).part(batch) for rank in range(self.groups)]

    def sentence(self, batch: int) -> str:
        """The division in words."""
        sizes = sorted({len(part) for part in self.parts(batch)})
        lanes = f"{self.lanes} lane{'s' if self.lanes > 1 else ''} of {self.threads} thread{'s'[: self.threads > 1]}"
        return f"step: {self.groups} groups of {' or '.join(map(str, sizes))} crops, batch norm of each, on {lanes}"


def divide(batch: int, norm_group: int | None, threads: int) -> Division:
    """Groups of nearly equal size, at most `norm_group` crops, for so many threads.

    norm_group: None: half of the batch, at most 16 crops; a batch below 16 whole
    What decides about groups is the configuration alone: they change what is learnt, and lanes do not.
    """
    usual = batch if batch < _SMALLEST else min(LARGEST_GROUP, -(-batch // 2))
    largest = norm_group or usual
    groups = -(-batch // largest)
    lanes = min(groups, threads)
    return Division(groups, lanes, max(1, threads // lanes))


class AbandonedError(Exception):
    """Another group has failed. Why, that one tells."""


class Meeting:
    """Where groups meet: at most `lanes` of them are at work, and a sum is complete when all have come."""

    def __init__(self, groups: int, lanes: int) -> None:
        self.free = lanes
        self.changed = threading.Condition()
        self.brought: dict[int, Tensor] = {}
        self.groups, self.rounds = groups, 0
        self.total = torch.zeros(0)
        self.abandoned = False

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """While this thread has one of the lanes."""
        with self.changed:
            self.changed.wait_for(lambda: self.free > 0)
            self.free -= 1
        try:
            yield
        finally:
            with self.changed:
                self.free += 1
                self.changed.notify_all()

    def abandon(self) -> None:
        """Let the others end where they would wait: a group has failed."""
        with self.changed:
            self.abandoned = True
            self.changed.notify_all()

    def sum(self, rank: int, tensor: Tensor) -> Tensor:
        """The sum of all groups' tensors in the order of their ranks; the lane is another's while this one waits."""
        with self.changed:
            self.brought[rank] = tensor
            if len(self.brought) == self.groups:
                self.total = torch.stack([self.brought[other] for other in range(self.groups)]).sum(0)
                self.brought = {}
                self.rounds += 1
                self.changed.notify_all()
                return self.total
            turn = self.rounds
            self.free += 1
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.rounds > turn or self.abandoned)
            total = self.total  # before a lane is waited for: another sum may be complete by then
            self.changed.wait_for(lambda: self.free > 0)
            self.free -= 1
            if self.rounds == turn:
                raise AbandonedError
            return total


@dataclass(frozen=True)
class GroupWorld(World):
    """The groups of a step as a loss sees them: counts are sums over all of them."""

    meeting: Meeting = field(kw_only=True)

    def sum(self, tensor: Tensor) -> Tensor:
        """See World."""
        return self.meeting.sum(self.rank, tensor)


class GroupGradients:
    """The gradients of a step from its groups, each a function that makes its batch; leaves them in the model.

    Every group has batch norms of its own, which begin where the model's are; afterwards the model's statistics are the
    mean of theirs. `threads` of torch are set outside.
    """

    def __init__(
        self,
        model: YuNet,
        task: Task,
        division: Division,
        losses: Callable[[YuNet, Batch, Task], Losses] = batch_losses,
    ) -> None:
        self.parameters = list(model.parameters())
        self.statistics = _statistics(model)
        self.counts = [buffer for buffer in model.buffers() if not buffer.is_floating_point()]
        self.losses, self.division = losses, division
        self.meeting = Meeting(division.groups, division.lanes)
        self.replicas = [_replica(model) for _ in range(division.groups)]
        self.moved = [_statistics(replica) for replica in self.replicas]  # listed once: it goes through all modules
        self.tasks = [
            replace(task, world=GroupWorld(rank, division.groups, meeting=self.meeting))
            for rank in range(division.groups)
        ]
        self.pool = ThreadPoolExecutor(division.groups, "group")
        self.source: Iterator[Item] = iter(())
        self.next: Item | None = None

    def ahead(self, items: Iterable[Item]) -> Iterator[Item]:
        """Pass items on. While a step ends and the optimiser works, the crops of the next one are drawn and cut."""
        self.source, self.next = iter(items), None
        while (item := self.next or next(self.source, None)) is not None:
            self.next = None
            yield item

    def __call__(self, shares: Sequence[Share]) -> Losses:
        """Gradients and losses of the whole batch."""
        making = [share if isinstance(share, _Begun) else self._begin(share) for share in shares]
        work = [self.pool.submit(self._group, rank, begun.batch) for rank, begun in enumerate(making)]
        following = next(self.source, None)
        if following is not None:
            crops, others = following
            self.next = crops, [self._begin(share) for share in others]
        results = _results(work)
        for parameter, gradient in zip(self.parameters, _added([gradients for gradients, _ in results]), strict=True):
            parameter.grad = gradient
        moved: list[Any] = _added(self.moved)
        torch._foreach_copy_(self.statistics, torch._foreach_div(moved, len(self.replicas)))
        torch._foreach_add_(self.counts, 1)
        names = results[0][1].keys()
        return {name: torch.stack([losses[name] for _, losses in results]).sum(0) for name in names}

    def close(self) -> None:
        """End the threads."""
        self.pool.shutdown(cancel_futures=True)

    def _begin(self, share: Share) -> "_Begun":
        """Have a batch made. Such work stands before that which waits for it, so a thread is always left for it."""
        return _Begun(self.pool.submit(self._make, share))

    def _make(self, share: Share) -> Batch:
        with self.meeting.at_work():
            return share()

    def _group(self, rank: int, batch: "Future[Batch]") -> tuple[list[Tensor | None], Losses]:
        """Gradients and losses of one group."""
        try:
            made = batch.result()
            with self.meeting.at_work():
                replica = self.replicas[rank]
                torch._foreach_copy_(self.moved[rank], self.statistics)
                terms = self.losses(replica, made, self.tasks[rank])
                total = torch.stack([value for name, value in terms.items() if name != "positives"]).sum()
                gradients = torch.autograd.grad(total, self.parameters, allow_unused=True)
        except BaseException:
            self.meeting.abandon()
            raise
        return list(gradients), {name: value.detach() for name, value in terms.items()}


@dataclass(frozen=True)
class _Begun:
    """A share whose batch is being made, or waits for its turn."""

    batch: "Future[Batch]"

    def __call__(self) -> Batch:
        return self.batch.result()


def _replica(model: YuNet) -> YuNet:
    """The same network with the same parameters, and statistics of its own."""
    shared = {id(parameter): parameter for parameter in model.parameters()}
    return copy.deepcopy(model, memo=shared)


def _statistics(model: YuNet) -> list[Tensor]:
    """Running means and variances."""
    return [buffer for buffer in model.buffers() if buffer.is_floating_point()]


def _added(parts: Sequence[Sequence[Tensor | None]]) -> list[Tensor | None]:
    """Element by element the sum of the groups' lists, in the order of groups; None where all have None."""
    first, *others = parts
    there = [index for index, tensor in enumerate(first) if tensor is not None]
    total: list[Any] = [first[index] for index in there]
    for number, other in enumerate(others):
        values: list[Any] = [other[index] for index in there]
        if number == 0:
            total = list(torch._foreach_add(total, values))
        else:
            torch._foreach_add_(total, values)
    found: list[Tensor | None] = [None] * len(first)
    for index, tensor in zip(there, total, strict=True):
        found[index] = tensor
    return found


def _results(work: "Sequence[Future[Result]]") -> list[Result]:
    """What the groups give. Raises the error of the first one that failed of itself."""
    wait(work)
    errors = [error for future in work if (error := future.exception()) is not None]
    for error in sorted(errors, key=lambda error: isinstance(error, AbandonedError)):
        raise error
    return [future.result() for future in work]
