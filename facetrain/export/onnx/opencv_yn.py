"""What OpenCV's FaceDetectorYN makes of a file's twelve outputs, step by step.

Not what facetrain's own detector makes of them: it shows the square root of the score, and its suppression compares
boxes whose corner and sides were cut to whole numbers. Read off its behaviour in OpenCV 4.8 to 5.0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetrain.core.faces import Floats

STRIDES = (8, 16, 32)  # constants of the class
POINTS = 5


@dataclass(frozen=True)
class Thresholds:
    """FaceDetectorYN's three settings; its own defaults are 0.9, 0.3, 5000."""

    score: float = 0.6
    nms: float = 0.3
    top_k: int = 5000


def candidates(outputs: Mapping[str, Floats], width: int, height: int) -> Floats:
    """All priors decoded, (P, 15): x y w h, ten landmark numbers, score; in the order of stride, row, column.

    outputs: arrays (1, P, C) by name, of a (height, width) input.
    """
    levels = []
    for stride in STRIDES:
        cls, obj, bbox, kps = (outputs[f"{kind}_{stride}"][0] for kind in ("cls", "obj", "bbox", "kps"))
        row, column = np.divmod(np.arange(len(cls)), width // stride)
        assert len(cls) == (width // stride) * (height // stride)
        corner = np.stack([column, row], 1).astype(np.float32)  # (P, 2), in cells
        score = np.sqrt(np.clip(cls, 0, 1) * np.clip(obj, 0, 1))
        sides = np.exp(bbox[:, 2:]) * stride
        box = np.concatenate([(corner + bbox[:, :2]) * stride - sides / 2, sides], 1)
        points = (kps.reshape(-1, POINTS, 2) + corner[:, None]) * stride
        levels.append(np.concatenate([box, points.reshape(-1, 2 * POINTS), score], 1))
    rows: Floats = np.concatenate(levels).astype(np.float32)
    return rows


def few(rows: Floats, thresholds: Thresholds, most: int) -> Thresholds:
    """Thresholds that at most so many candidates reach: in place of these the best ones, all of them, in a crowd."""
    scores = rows[:, 14]
    if np.count_nonzero(scores > thresholds.score) <= most:
        return thresholds
    return replace(thresholds, score=float(np.partition(scores, -most)[-most]), nms=1.0)


def possible_and_certain(rows: Floats, thresholds: Thresholds) -> tuple[set[int], set[int]]:
    """The candidates that may be returned and those that must be, if another runtime's last digits differ.

    A side of 9.99998 instead of 10.00001 is another whole number, and with that another face may be suppressed.
    """
    found = []
    for shift in (0.0, -1e-3, 1e-3):
        moved = rows.copy()
        moved[:, :4] += shift
        found += [set(chosen.tolist()) for chosen in _select(moved, thresholds, (0.0, -1e-4, 1e-4))]
    return set.union(*found), set.intersection(*found)


def _select(rows: Floats, thresholds: Thresholds, leniencies: Sequence[float]) -> list[NDArray[np.intp]]:
    """What is returned at the threshold plus each of these. Suppression goes from the best down, so what a higher
    threshold keeps is the beginning of what a lower one keeps, and the boxes are compared once for all.
    """
    scores = rows[:, 14]
    limits = [thresholds.score + leniency for leniency in leniencies]
    # From here on "equal to the threshold" no longer passes: OpenCV's NMSBoxes has its own rule.
    passed = np.flatnonzero(scores > min(limits))
    order = passed[np.argsort(-scores[passed], kind="stable")]
    if thresholds.top_k > 0:
        order = order[: thresholds.top_k]
    stays = _suppress(np.trunc(rows[order, :4]), np.float32(thresholds.nms))  # towards zero
    found = []
    for limit in limits:
        reached = np.flatnonzero(scores >= limit)
        count = np.count_nonzero(scores[order] > limit)
        found.append(reached if len(reached) <= 1 else order[:count][stays[:count]])
    return found


def _suppress(boxes: NDArray[np.floating[Any]], limit: np.float32) -> NDArray[np.bool_]:
    """Which boxes, best first, no better one that stays suppresses. boxes: (N, 4) x y w h, whole numbers."""
    low, sides = boxes[:, :2].astype(np.float64), boxes[:, 2:].astype(np.float64)
    high, area = low + sides, sides.prod(1)
    stays = np.ones(len(boxes), np.bool_)
    for index in range(len(boxes)):
        if not stays[index]:
            continue
        later = index + 1 + np.flatnonzero(stays[index + 1 :])
        overlap = _overlaps(low[index], high[index], area[index], low[later], high[later], area[later])
        stays[later[overlap > limit]] = False
    return stays


def _overlaps(
    low: NDArray[np.float64], high: NDArray[np.float64], area: np.float64, *others: NDArray[np.float64]
) -> Floats:
    """IoU of one box with (N,) others; 1 where both are empty."""
    lows, highs, areas = others
    sides = np.minimum(high, highs) - np.maximum(low, lows)
    common = np.where((sides > 0).all(1), sides.prod(1), 0.0)
    both = area + areas
    union = both - common
    empty = both <= np.finfo(np.float64).eps
    return np.where(empty, 1.0, common / np.where(empty, 1.0, union)).astype(np.float32)
