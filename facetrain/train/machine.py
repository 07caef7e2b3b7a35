"""How a run uses the machine: number format and memory allocator."""

import ctypes
import platform
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from facetrain.core.errors import DeviceError, TrainingError
from facetrain.core.machine import cpu_has_bf16

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_big_buffers() -> bool:
    """Tell glibc to keep freed memory instead of giving it back: call before the first large allocation.

    A step frees and takes the same hundreds of megabytes again; by default each time through the system, page fault by
    page fault, which costs a third of the whole time on a CPU. Returns whether it was done (glibc only).
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    done = [mallopt(_M_MMAP_MAX, 0), mallopt(_M_TRIM_THRESHOLD, 2**31 - 1), mallopt(_M_TOP_PAD, 256 << 20)]
    return all(done)


def choose_precision(wanted: str, device: torch.device) -> torch.dtype:
    """The number format of the network's forward and backward pass: bfloat16 where it is asked for, or pays.

    wanted: auto, fp32 or bf16. Weights, batch-norm statistics, assignment, losses and updates are float32 in any case.
    """
    if wanted == "fp32":
        return torch.float32
    if wanted == "bf16":
        if device.type == "mps":
            raise DeviceError("train.precision bf16 is not offered on mps", "use fp32 or auto")
        return torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if device.type == "cpu" and cpu_has_bf16() else torch.float32


@contextmanager
def tuned_kernels(wanted: bool) -> Iterator[None]:
    """Let cuDNN try its kernels at each new shape: good where shapes stay, bad where every image has its own."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = wanted
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


class StepsAhead:
    """Keeps the host at most two steps ahead of a GPU, so that memory of few steps is in use; a CPU has no lead."""

    def __init__(self, device: torch.device, event: Callable[[], torch.cuda.Event] | None = None) -> None:
        self.event = event or (torch.cuda.Event if device.type == "cuda" else None)
        self.events: deque[torch.cuda.Event] = deque()

    def after_step(self) -> None:
        """Remember where the step ends on the GPU, and wait for the end of the one before the last."""
        if self.event is None:
            return
        event = self.event()
        event.record()
        self.events.append(event)
        if len(self.events) > 2:
            self.events.popleft().synchronize()


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn an allocation that fails, on a GPU or a CPU, into a TrainingError that says what to change."""
    hint = "a smaller `batch`, a smaller `data.size`, or `data.store=ram` (disk) to keep images elsewhere"
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TrainingError(f"out of memory: {(str(error).splitlines() or ['no more to be had'])[0]}", hint) from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        raise TrainingError("out of memory: the CPU's memory does not suffice", hint) from error


def peak_memory(device: torch.device) -> int | None:
    """Most bytes held so far: of the GPU's memory, or of this process's; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:  # Windows
        return None
    peak = getrusage(RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
