"""Which part of a moving source is looked at: `--every`, `--from`, `--to`."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, TypeVar

from facetrain.core.errors import UsageError

_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)s?", re.ASCII)


class _Timed(Protocol):
    """A frame, or what will become one: `every` costs less where pixels are made of the chosen ones alone."""

    @property
    def time(self) -> Fraction | None: ...


_Any = TypeVar("_Any", bound=_Timed)


@dataclass(frozen=True)
class Cut:
    """every: each so-manieth frame of what lies from `start` on and before `end`, in seconds of the source."""

    every: int = 1
    start: Fraction = Fraction(0)
    end: Fraction | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise UsageError(f"`every` {self.every}: must be at least 1", "2 is each second frame")
        if self.end is not None and self.end <= self.start:
            raise UsageError(f"`to` {float(self.end):g} s is not after `from` {float(self.start):g} s")

    @property
    def whole(self) -> bool:
        """Whether nothing is left out."""
        return self == Cut()

    def of(self, frames: Iterable[_Any]) -> Iterator[_Any]:
        """The frames of this part. What comes after its end is not asked for."""
        taken = 0
        for frame in frames:
            time = frame.time or Fraction(0)
            if self.end is not None and time >= self.end:
                return
            if time >= self.start:
                if taken % self.every == 0:
                    yield frame
                taken += 1

    def count(self, frames: int | None, rate: Fraction | None) -> int | None:
        """How many of a source's `frames` are in this part, about. rate: frames a second."""
        if rate is not None and rate > 0:
            last = None if self.end is None else int(self.end * rate)
            frames = last if frames is None else frames if last is None else min(frames, last)
            frames = None if frames is None else max(frames - int(self.start * rate), 0)
        return None if frames is None else -(-frames // self.every)


def parse_time(text: str, field: str) -> Fraction:
    """Seconds of `12.5`, `1:30` or `0:01:30`. Raises UsageError that names the field."""
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"`{field}` {text}: not a time", "seconds such as 12.5, or 1:30, or 0:01:30")
    hours, minutes, seconds = (Fraction(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds
