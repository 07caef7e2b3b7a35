"""Covers that hold: a face that a detector loses for some frames of a video stays covered meanwhile.

Frames wait until it is known what the next half second shows. A face is covered where it is seen. In frames that do not
show it, but are within `hold` of one that does, it is covered where it was last, where it will be next, and, where both
are known, on the line between.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from facetrain.core.boxes import box_iou
from facetrain.core.faces import Floats, Image
from facetrain.media.frame import Frame, Source

MOST_BYTES = 1 << 30  # of waiting frames: half a second of 1080p at 30 a second is a tenth, of 4K at 60 three quarters
_ALIKE = 0.3  # IoU of boxes of which one covers what the other does, but for a part
_REACH = 3.0  # how far a face may go between two sightings, in lengths of its side


@dataclass(frozen=True)
class Shot:
    """A frame as it is to be covered. pixels: (H, W, 3) uint8 BGR; boxes: (N, 4) xyxy, in its pixels."""

    source: Source
    frame: Frame
    pixels: Image
    boxes: Floats


@dataclass(eq=False)
class _Waiting:
    """A frame that waits. number: among those that came; boxes: what is to be covered besides what was seen."""

    shot: Shot
    number: int
    time: Fraction
    boxes: list[Floats] = field(default_factory=list)

    def whole(self) -> Shot:
        """With all that is to be covered."""
        shot = self.shot
        return Shot(shot.source, shot.frame, shot.pixels, np.array([*shot.boxes, *self.boxes]).reshape(-1, 4))


@dataclass(eq=False)  # two are the same only if they are one: arrays do not compare
class _Sighting:
    """Where a face was seen last. ended: another place has been taken for its next one, far away."""

    box: Floats
    number: int
    time: Fraction
    ended: bool = False


class Hold:
    """Takes the frames of one source in order, and gives them back with what is to be covered.

    hold: seconds; 0 covers what is seen and nothing else. Above 0 it is at least one frame, however long that lasts.
    """

    def __init__(self, hold: float, most_bytes: int = MOST_BYTES) -> None:
        self._hold = Fraction(hold).limit_denominator(1_000_000)
        self._most_bytes = most_bytes
        self._bytes = 0
        self._number = 0
        self._waiting: deque[_Waiting] = deque()
        self._seen: list[_Sighting] = []

    def add(self, shot: Shot) -> Iterator[Shot]:
        """One more frame; gives those of which all is known."""
        if self._hold == 0:
            yield shot
            return
        now = _Waiting(shot, self._number, shot.frame.time or Fraction(0))
        self._number += 1
        while self._waiting and not self._near(self._waiting[0], now):
            yield self._leave()
        self._link(now)
        self._waiting.append(now)
        self._bytes += shot.pixels.nbytes
        while self._bytes > self._most_bytes and len(self._waiting) > 1:
            yield self._leave()

    def end(self) -> Iterator[Shot]:
        """The source is through: what waits."""
        while self._waiting:
            yield self._leave()

    def _leave(self) -> Shot:
        first = self._waiting.popleft()
        self._bytes -= first.shot.pixels.nbytes
        return first.whole()

    def _near(self, one: "_Waiting | _Sighting", other: "_Waiting | _Sighting") -> bool:
        """Whether what one shows is covered in the other."""
        return abs(other.time - one.time) <= self._hold or abs(other.number - one.number) <= 1

    def _link(self, now: _Waiting) -> None:
        """Take what the frame shows for what was seen before, and cover what lies between."""
        pairs = _nearest([seen.box for seen in self._seen if not seen.ended], list(now.shot.boxes))
        going = [seen for seen in self._seen if not seen.ended]
        followed: set[int] = set()
        found: list[_Sighting] = []
        for row, column in pairs:
            last, box = going[row], now.shot.boxes[column]
            followed.add(column)
            self._between(last, now, box)
            found.append(_Sighting(box, now.number, now.time))
            # Farther off it may also be another face, and this one still be there, unseen: then both are covered.
            if _alike(last.box, box):
                self._seen.remove(last)
            else:
                last.ended = True
                self._before(now, box)
        for column, box in enumerate(now.shot.boxes):
            if column not in followed:
                self._before(now, box)
                found.append(_Sighting(box, now.number, now.time))
        now.boxes += [seen.box for seen in self._seen if self._near(seen, now)]
        self._seen = [seen for seen in self._seen if self._lives(seen, now)] + found

    def _lives(self, seen: _Sighting, now: _Waiting) -> bool:
        """Whether frames to come have to do with it: the last that is near it may be as near the next sighting."""
        far = now.time - seen.time
        return far <= self._hold or now.number - seen.number <= 1 or (not seen.ended and far <= 2 * self._hold)

    def _between(self, last: _Sighting, now: _Waiting, box: Floats) -> None:
        """Cover a face in the waiting frames since it was seen last."""
        for waiting in self._waiting:
            if waiting.number > last.number and self._near(waiting, now):
                waiting.boxes.append(box)
                if self._near(last, waiting):
                    share = _share(last, waiting, now)
                    waiting.boxes.append(last.box + (box - last.box) * share)

    def _before(self, now: _Waiting, box: Floats) -> None:
        """Cover a face that nobody saw before in all waiting frames near it."""
        for waiting in self._waiting:
            if self._near(waiting, now):
                waiting.boxes.append(box)


def _share(last: _Sighting, waiting: _Waiting, now: _Waiting) -> float:
    """How much of the way is done, 0 to 1: by time, or by frames where time stands still."""
    if now.time > last.time:
        return min(max(float((waiting.time - last.time) / (now.time - last.time)), 0.0), 1.0)
    return (waiting.number - last.number) / (now.number - last.number)


def _alike(one: Floats, other: Floats) -> bool:
    return float(box_iou(one[None], other[None])[0, 0]) >= _ALIKE


def _nearest(before: list[Floats], after: list[Floats]) -> list[tuple[int, int]]:
    """Pairs of boxes that may be one face, nearest first, each box once: by the distance of their middles in sides."""
    if not before or not after:
        return []
    old, new = np.array(before, np.float64), np.array(after, np.float64)
    far = np.linalg.norm(_middles(old)[:, None] - _middles(new)[None], axis=2)
    far /= np.maximum(_sides(old)[:, None], _sides(new)[None])
    pairs: list[tuple[int, int]] = []
    rows: set[int] = set()
    columns: set[int] = set()
    for row, column in zip(*np.unravel_index(np.argsort(far, axis=None, kind="stable"), far.shape), strict=True):
        if far[row, column] > _REACH:
            break
        if row not in rows and column not in columns:
            rows.add(int(row))
            columns.add(int(column))
            pairs.append((int(row), int(column)))
    return pairs


def _middles(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _sides(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    sides: NDArray[np.float64] = np.maximum(np.abs(boxes[:, 2:] - boxes[:, :2]).max(1), 1.0)
    return sides
