"""Scores that give a wanted precision, as a file of weights says them of itself."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import cast

from facetrain.core.documents.info import OperatingPointsDocument
from facetrain.core.errors import UsageError

METADATA = "operating_points"  # the key in an ONNX file, and in a checkpoint
PRECISIONS = (0.99, 0.95, 0.9)
_LONGEST = 4096  # characters; these are some hundred
_SETS = {"widerface": "validation images of WIDER FACE", "labelled": "validation images"}


@dataclass(frozen=True)
class OperatingScore:
    """The lowest score at which so large a part of what is found are faces.

    precision: the wanted part
    score:     what a face needs to count
    low, high: ends of the score's 95 % interval, what other images of the same kinds would have given; None: not known
    recall:    part of the labelled faces that is found at it
    """

    precision: float
    score: float
    low: float | None
    high: float | None
    recall: float


@dataclass(frozen=True)
class OperatingPoints:
    """What was measured, on how many images of which benchmark, each at its original size.

    of: the name of the benchmark, widerface or labelled
    """

    images: int
    of: str
    points: tuple[OperatingScore, ...]

    @property
    def where(self) -> str:
        """On what it was measured, in words."""
        return f"{self.images:,} {_SETS[self.of]}"

    def as_dict(self) -> OperatingPointsDocument:
        """Plain values for JSON."""
        return cast("OperatingPointsDocument", asdict(self))

    def as_text(self) -> str:
        """As it stands in files."""
        return json.dumps(asdict(self), separators=(",", ":"))


def parse_points(text: object) -> OperatingPoints | None:
    """What a file says, which may be anything; None where it is nothing that can be relied on."""
    try:
        found = json.loads(text) if isinstance(text, str) and len(text) <= _LONGEST else {}
        points = tuple(OperatingScore(**point) for point in found["points"])
        images, of = found["images"], found["of"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    known = type(images) is int and images > 0 and isinstance(of, str) and of in _SETS
    return OperatingPoints(images, of, points) if known and points and all(map(_possible, points)) else None


def _possible(point: OperatingScore) -> bool:
    ends = [end for end in (point.low, point.high) if end is not None]
    numbers = [point.precision, point.score, point.recall, *ends]
    return all(type(n) in (int, float) and math.isfinite(n) and 0 <= n <= 1 for n in numbers) and point.precision > 0


def as_metadata(points: OperatingPoints | None) -> Mapping[str, str]:
    """What is written into a file; nothing of one that has not been measured."""
    return {} if points is None or not points.points else {METADATA: points.as_text()}


def score_at(points: OperatingPoints | None, precision: float, weights: str) -> tuple[OperatingScore, str]:
    """The operating point of a precision that a file has, and on what it was measured, in words.

    Raises UsageError where it has none of this precision.
    """
    measured = "`facetrain eval` looks for one on labelled images (its `at_precision`): give it as `score`"
    if not 0 < precision <= 1:
        raise UsageError(f"`at_precision` {precision:g}: must be above 0 and at most 1", "0.95 is 95 %")
    if points is None:
        raise UsageError(f"`at_precision` {precision:g}: {weights} does not say its operating points", measured)
    known = {point.precision: point for point in points.points}
    if precision not in known:
        there = ", ".join(f"{one:g}" for one in known)
        raise UsageError(f"`at_precision` {precision:g}: {weights} has operating points for {there}", measured)
    return known[precision], points.where
