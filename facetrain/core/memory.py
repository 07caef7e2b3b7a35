"""How much memory a piece of work may take, asked before it is taken."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from facetrain.core.errors import DataError
from facetrain.core.machine import free_memory

_MOST = 4 << 30  # bytes for one image, however much is free
_OPENCV_NO_MEMORY = -4
_LARGE = 1 << 28  # images that take more than this go one at a time
_STILL_TRUE = 0.5  # seconds
_LITTLE = 32  # so many of them would fit
_one_at_a_time = threading.Lock()


class _Room:
    """Bytes that one image may take: half of what is free, at most 4 GiB.

    The system is asked anew where an image takes much of it; what takes little may go by an answer of half a second
    ago: asking takes half a millisecond, as long as decoding a frame of a video.
    """

    def __init__(self) -> None:
        self._last: tuple[float, Callable[[], int], int] | None = None  # when, whom, the answer

    def for_need(self, need: int) -> int:
        """At least `need`, or an answer of now."""
        now = time.monotonic()
        if self._last is not None:
            then, whom, most = self._last
            if whom is free_memory and now - then < _STILL_TRUE and need * _LITTLE < most:
                return most
        most = min(free_memory() // 2, _MOST)
        self._last = now, free_memory, most
        return most


_room = _Room()


@contextmanager
def taking(need: int, name: str | None, size: tuple[int, int], limit: int = _MOST) -> Iterator[None]:
    """Hold `need` bytes for one image of (width, height) pixels; of large ones only one at a time.

    name:  the image's, None where only the caller knows it
    limit: bytes, however much is free
    Raises DataError with both numbers where there is no room, and in place of a MemoryError.
    """
    with _one_at_a_time if need > _LARGE else nullcontext():
        most = min(_room.for_need(need), limit)
        if need > most:
            raise DataError(
                f"{_named(name)}{size[0]}x{size[1]} pixels would take {in_mib(need)} of memory, at most {in_mib(most)} "
                "are taken for one image",
                "scale it down, or cut it into parts",
            )
        with no_memory_error(name):
            yield


@contextmanager
def no_memory_error(name: str | None) -> Iterator[None]:
    """Turn a failed allocation, Python's or a library's own, into a DataError that names what it was for."""
    try:
        yield
    except Exception as error:
        if not _is_failed_allocation(error):
            raise
        raise DataError(f"{_named(name)}not enough memory", "scale it down, or end other programs") from error


def _named(name: str | None) -> str:
    return f"{name}: " if name else ""


def _is_failed_allocation(error: Exception) -> bool:
    """MemoryError, torch's RuntimeErrors of a processor and of a GPU, OpenCV's error -4."""
    by_torch = isinstance(error, RuntimeError) and "memory" in str(error).lower()
    return isinstance(error, MemoryError) or by_torch or getattr(error, "code", None) == _OPENCV_NO_MEMORY


def in_mib(size: int) -> str:
    """A number of bytes in MiB, or in GiB from ten thousand of them on."""
    return f"{size >> 20:,} MiB" if size < 10_000 << 20 else f"{size / (1 << 30):,.1f} GiB"
