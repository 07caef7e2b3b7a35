"""What OpenCV's FaceDetectorYN makes of a file's twelve outputs, step by step.

Not what facetrain's own detector makes of them: it shows the square root of the score, and its suppression compares
boxes whose corner and sides were cut to whole numbers. Read off its behaviour in OpenCV 4.8 to 5.0.
"""

from collections.abc import Mapping
from dataclasses import dataclass

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


def select(rows: Floats, thresholds: Thresholds) -> NDArray[np.intp]:
    """Which of the candidates FaceDetectorYN returns, best first."""
    kept = np.flatnonzero(rows[:, 14] >= thresholds.score)
    if len(kept) <= 1:
        return kept
    # From here on "equal to the threshold" no longer passes: OpenCV's NMSBoxes has its own rule.
    kept = kept[rows[kept, 14] > thresholds.score]
    kept = kept[np.argsort(-rows[kept, 14], kind="stable")]
    if thresholds.top_k > 0:
        kept = kept[: thresholds.top_k]
    whole = np.trunc(rows[:, :4]).astype(np.int64)  # towards zero
    chosen: list[int] = []
    for index in kept:
        if all(_overlap(whole[index], whole[other]) <= np.float32(thresholds.nms) for other in chosen):
            chosen.append(int(index))
    return np.array(chosen, np.intp)


def possible_and_certain(rows: Floats, thresholds: Thresholds) -> tuple[set[int], set[int]]:
    """The candidates that may be returned and those that must be, if another runtime's last digits differ.

    A side of 9.99998 instead of 10.00001 is another whole number, and with that another face may be suppressed.
    """
    found = []
    for shift in (0.0, -1e-3, 1e-3):
        for leniency in (0.0, -1e-4, 1e-4):
            moved = rows.copy()
            moved[:, :4] += shift
            found.append(set(select(moved, Thresholds(thresholds.score + leniency, thresholds.nms, thresholds.top_k))))
    return set.union(*found), set.intersection(*found)


def _overlap(a: NDArray[np.int64], b: NDArray[np.int64]) -> np.float32:
    """IoU of two boxes x y w h of whole numbers; 1 where both are empty."""
    area = float(a[2] * a[3] + b[2] * b[3])
    if area <= np.finfo(np.float64).eps:
        return np.float32(1)
    sides = np.minimum(a[:2] + a[2:], b[:2] + b[2:]) - np.maximum(a[:2], b[:2])
    common = float(sides[0] * sides[1]) if (sides > 0).all() else 0.0
    return np.float32(common / (area - common))
