"""Several processes that train one model: who they are, and what they tell each other.

Every process makes its own part of the global batch, cut by position, and sums travel over torch.distributed (NCCL
between GPUs, gloo between CPUs). Everything that is decided (stop now, this loss is not finite, this is the best
AP) is decided from what all have, so that no process waits for one that has left.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from facetrain.core.errors import TrainingError, UsageError

Item = TypeVar("Item")

# A process that dies ends the others from outside (launch.py, or torchrun). Waiting is no sign of death: the
# others wait for as long as the first one writes or measures.
_PATIENCE = timedelta(days=7)


class LostContactError(TrainingError):
    """Another process has ended. Why, that one tells; this is only a consequence."""


@dataclass(frozen=True)
class World:
    """The processes of a run. Alone, everything below is the identity.

    rank, size:             number of this process, from 0, and of all
    local_rank, local_size: the same among the processes on this machine
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def is_rank_0(self) -> bool:
        """Whether this process writes, prints and validates for all."""
        return self.rank == 0

    def part(self, count: int) -> range:
        """The positions of `count` that this process has, cut into parts that differ by one at most."""
        return range(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over all processes, in place."""
        if self.size == 1:
            return tensor
        with _contact():
            dist.all_reduce(tensor)
        return tensor

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Whether a flag is set in any process: the same answer for all, at once."""
        if self.size == 1:
            return flags
        seen = self.sum(torch.tensor([float(flag) for flag in flags]))
        return tuple(value > 0 for value in seen.tolist())

    def gather(self, item: Item) -> list[Item]:
        """What every process has, by rank, for all."""
        if self.size == 1:
            return [item]
        items: list[Any] = [None] * self.size
        with _contact():
            dist.all_gather_object(items, item)
        return items

    def share(self, make: Callable[[], Item]) -> Item:
        """What the first process makes, for all."""
        if self.size == 1:
            return make()
        box = [make() if self.is_rank_0 else None]
        with _contact():
            dist.broadcast_object_list(box, device=torch.device("cpu"))
        return box[0]  # type: ignore[return-value]

    @contextmanager
    def one_after_the_other(self) -> Iterator[None]:
        """The first process does this, then all others."""
        if not self.is_rank_0:
            self.gather(None)
        yield
        if self.is_rank_0:
            self.gather(None)

    def sum_gradients(self, model: nn.Module, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Sum gradients and losses over all processes, as one flat message. Returns the losses of the global batch.

        A sum and not a mean: the losses are divided by the global batch's counts already.
        """
        if self.size == 1:
            return dict(losses)
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        parts = [*gradients, torch.stack([value.float() for value in losses.values()])]
        flat = self.sum(torch.cat([part.flatten() for part in parts]))
        *summed, terms = torch.split(flat, [part.numel() for part in parts])
        views = [some.view(gradient.shape) for some, gradient in zip(summed, gradients, strict=True)]
        torch._foreach_copy_(gradients, views)
        return dict(zip(losses, terms.unbind(), strict=True))

    def broadcast(self, model: nn.Module) -> None:
        """Give all processes the first one's weights and statistics."""
        if self.size > 1:
            state = self.share(lambda: {key: value.cpu() for key, value in model.state_dict().items()})
            model.load_state_dict(state)


ALONE = World()


@contextmanager
def _contact() -> Iterator[None]:
    """Say plainly that another process is gone; torch's own text tells of sockets."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise LostContactError(f"another process of this run has ended ({first})") from error


@contextmanager
def join(device: torch.device) -> Iterator[World]:
    """Meet the other processes, if there are any: started by launch.py, or by torchrun on any number of machines.

    Both set RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE; the first also names a file to meet at, so that no port
    has to be free.
    """
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # streams, graphs and NCCL take the current one
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"{size} processes on {device}: only CPUs and CUDA GPUs can train together", "use one process")
    rank, local_rank = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    world = World(rank, size, local_rank, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    meeting = os.environ.get("FACETRAIN_MEETING")
    with _contact():
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            init_method=f"file://{meeting}" if meeting else "env://",
            rank=rank,
            world_size=size,
            timeout=_PATIENCE,
        )
    yield world
    dist.destroy_process_group()  # not after an error: there the others may never come to say goodbye


def check_batch(batch: int, world: World) -> None:
    """Every process needs an image."""
    if batch < world.size:
        raise UsageError(
            f"train.batch is {batch}, but there are {world.size} processes and each needs an image",
            f"`batch` {world.size} or more: it is the global batch of all processes",
        )


def check_same(what: str, value: object, world: World) -> None:
    """Refuse to train where processes do not have the same, as on machines with different copies of the data."""
    values = world.gather(value)
    for rank, other in enumerate(values):
        if other != values[0]:
            raise TrainingError(
                f"{what} is not the same everywhere: process 0 has {values[0]}, process {rank} has {other}",
                "give every machine the same files",
            )
