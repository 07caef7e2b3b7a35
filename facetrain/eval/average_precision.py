"""Average precision exactly as the official WIDER FACE tool computes it, vectorised over all pictures.

A box is one pixel longer than its corners say (+1 in every side), a detection belongs to the single box it overlaps
most, and the curve is cut at 1000 equal steps of the normalised score. Matching does not depend on the subset, so it is
done once; a subset is then two histograms.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.floating]
Doubles = NDArray[np.float64]
Indices = NDArray[np.int64]

STEPS = 1000
MIN_IOU = 0.5
_BLOCK = 2_000_000  # overlaps held at once


@dataclass(frozen=True)
class Matches:
    """Every detection of every picture with the box it overlaps most.

    scores: (D,) as the detector gave them
    box:    (D,) number of the box over all pictures, or -1 where no IoU reaches 0.5
    picture: (D,) number of the detection's picture
    boxes:  how many boxes there are in all
    """

    scores: Doubles
    box: Indices
    picture: Indices
    boxes: int


@dataclass(frozen=True)
class Curve:
    """Precision and recall at the 1000 steps, falling score.

    proposals: (1000,) detections that count so far, true or false
    found:     (1000,) counted faces found so far
    faces:     how many faces count
    """

    proposals: Indices
    found: Indices
    faces: int

    @property
    def precision(self) -> Doubles:
        """(1000,), 0 where there is no detection yet."""
        return np.divide(self.found, self.proposals, out=np.zeros(STEPS), where=self.proposals > 0)

    @property
    def recall(self) -> Doubles:
        """(1000,)."""
        return self.found / max(self.faces, 1)

    @property
    def ap(self) -> float | None:
        """Area under the curve, precision made monotonous; None where no face counts."""
        if self.faces == 0:
            return None
        recall = np.concatenate([[0.0], self.recall, [1.0]])
        precision = np.concatenate([[0.0], self.precision, [0.0]])
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        return float(((recall[1:] - recall[:-1]) * precision[1:]).sum())


def match(pictures: Sequence[tuple[Numbers, Numbers, Numbers]]) -> Matches:
    """Match every picture's detections to its boxes.

    pictures: per picture detections (N, 4) xyxy, scores (N,), boxes (K, 4) xyxy; any order of detections
    """
    scores, chosen, picture = [], [], []
    start = 0
    for number, (detections, confidence, boxes) in enumerate(pictures):
        best = best_box(detections, boxes)
        chosen.append(np.where(best >= 0, best + start, -1))
        scores.append(np.asarray(confidence, np.float64))
        picture.append(np.full(len(best), number, np.int64))
        start += len(boxes)
    if not scores:
        return Matches(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64), 0)
    return Matches(np.concatenate(scores), np.concatenate(chosen), np.concatenate(picture), start)


def best_box(detections: Numbers, boxes: Numbers) -> Indices:
    """For each detection (N, 4) the box (K, 4) of largest IoU, the first of equals, or -1 below 0.5. Returns (N,)."""
    detections, boxes = np.asarray(detections, np.float64), np.asarray(boxes, np.float64)
    best = np.full(len(detections), -1, np.int64)
    if len(boxes) == 0:
        return best
    rows = max(1, _BLOCK // len(boxes))
    area = _area(boxes)
    for start in range(0, len(detections), rows):
        some = detections[start : start + rows, None]
        width = np.minimum(some[..., 2], boxes[:, 2]) - np.maximum(some[..., 0], boxes[:, 0]) + 1
        height = np.minimum(some[..., 3], boxes[:, 3]) - np.maximum(some[..., 1], boxes[:, 1]) + 1
        # clipped before multiplying: two negative sides would make a positive overlap
        overlap = width.clip(0) * height.clip(0)
        union = _area(some[:, 0])[:, None] + area - overlap
        iou = np.divide(overlap, union, out=np.zeros_like(overlap), where=overlap > 0)
        found = iou.argmax(1)
        enough = np.take_along_axis(iou, found[:, None], 1)[:, 0] >= MIN_IOU
        best[start : start + rows] = np.where(enough, found, -1)
    return best


def curve(matches: Matches, counted: NDArray[np.bool_], skipped: NDArray[np.bool_] | None = None) -> Curve:
    """The curve of one subset.

    counted: (boxes,) which boxes count; the others are ignored: what hits them is neither true nor false
    skipped: (pictures,) pictures whose detections are left out, though their scores still take part in normalising
    """
    faces = int(counted.sum())
    if len(matches.scores) == 0:
        return Curve(np.zeros(STEPS, np.int64), np.zeros(STEPS, np.int64), faces)
    bins = _bins(matches.scores)
    hit = matches.box >= 0
    proposal = ~hit | counted[np.where(hit, matches.box, 0)] if matches.boxes else np.ones(len(bins), bool)
    if skipped is not None:
        proposal &= ~skipped[matches.picture]
    first = np.full(matches.boxes, STEPS, np.int64)  # the step at which each box is found
    true = proposal & hit
    np.minimum.at(first, matches.box[true], bins[true])
    return Curve(
        np.bincount(bins[proposal], minlength=STEPS).cumsum(),
        np.bincount(first[first < STEPS], minlength=STEPS).cumsum(),
        faces,
    )


def _bins(scores: Doubles) -> Indices:
    """The step at which each detection enters: the first t with 1 - t/1000 <= normalised score; (D,), 0 … 999."""
    low, high = np.min(scores), np.max(scores)
    normal = (scores - low) / (high - low) if high > low else np.ones_like(scores)
    thresholds = 1 - np.arange(STEPS, 0, -1) / STEPS  # rising: 0 … 0.999
    return STEPS - np.searchsorted(thresholds, normal, side="right")


def _area(boxes: Numbers) -> Doubles:
    area: Doubles = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    return area
