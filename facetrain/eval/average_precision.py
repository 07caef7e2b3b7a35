"""Average precision exactly as the official WIDER FACE tool computes it, vectorised over all images.

A box is one pixel longer than its corners say (+1 in every side), a detection belongs to the single box it overlaps
most, and the curve is cut at 1000 equal steps of the normalised score. Matching does not depend on the subset, so it is
done once; a subset is then two histograms of each image, and a curve their sum.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.floating]
Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

STEPS = 1000
MIN_IOU = 0.5
_BLOCK = 2_000_000  # overlaps held at once
_IMAGES, _DRAWS = 4096, 64  # of a bootstrap, held at once
_FEW_DRAWS = 16  # held at once with a row for each found face


@dataclass(frozen=True)
class Matches:
    """Every detection of every image with the box it overlaps most.

    step:   (D,) at which of the curve's steps it enters, 0 … 999
    box:    (D,) number of the box over all images, or -1 where no IoU reaches 0.5
    image:  (D,) number of the detection's image, rising
    owner:  (K,) number of each box's image, rising
    images: how many images there are
    """

    step: Indices
    box: Indices
    image: Indices
    owner: Indices
    images: int


@dataclass(frozen=True)
class Tally:
    """What each image adds to the curve of a subset: with it the curve of any weighting of the images is a sum.

    proposals: (2, n) image and step of each detection that counts, true or false
    found:     (2, m) image and step of each counted face that is found
    faces:     (images,) counted faces of each image
    """

    proposals: Indices
    found: Indices
    faces: Indices

    @property
    def images(self) -> int:
        """How many images there are."""
        return len(self.faces)


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


def match(images: Sequence[tuple[Numbers, Numbers, Numbers]]) -> Matches:
    """Match every image's detections to its boxes.

    images: per image detections (N, 4) xyxy, scores (N,), boxes (K, 4) xyxy; any order of detections
    """
    scores: list[Doubles] = [np.zeros(0)]
    chosen, detections, owners = [np.zeros(0, np.int64)], [], []
    start = 0
    for found, confidence, boxes in images:
        best = best_box(found, boxes)
        chosen.append(np.where(best >= 0, best + start, -1))
        scores.append(np.asarray(confidence, np.float64))
        detections.append(len(best))
        owners.append(len(boxes))
        start += len(boxes)
    number = np.arange(len(images))
    image, owner = (np.repeat(number, np.array(counts, np.int64)) for counts in (detections, owners))
    return Matches(_steps(np.concatenate(scores)), np.concatenate(chosen), image, owner, len(images))


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


def tally(matches: Matches, counted: NDArray[np.bool_], skipped: NDArray[np.bool_] | None = None) -> Tally:
    """What each image adds to the curve of one subset.

    counted: (K,) which boxes count; the others are ignored: what hits them is neither true nor false
    skipped: (images,) images whose detections are left out, though their scores still take part in normalising
    """
    faces = np.bincount(matches.owner[counted], minlength=matches.images)
    step, hit = matches.step, matches.box >= 0
    proposal = ~hit | np.append(counted, False)[matches.box]  # the last is what hits no box
    if skipped is not None:
        proposal &= ~skipped[matches.image]
    first = np.full(len(counted), STEPS, np.int64)  # the step at which each box is found
    true = proposal & hit
    np.minimum.at(first, matches.box[true], step[true])
    found = first < STEPS
    return Tally(
        np.stack([matches.image[proposal], step[proposal]]),
        np.stack([matches.owner[found], first[found]]),
        faces,
    )


def curve(tally: Tally) -> Curve:
    """The curve of one subset over all images."""
    return Curve(
        np.bincount(tally.proposals[1], minlength=STEPS).cumsum(),
        np.bincount(tally.found[1], minlength=STEPS).cumsum(),
        int(tally.faces.sum()),
    )


def weighted_ap(tally: Tally, weights: Floats) -> Doubles:
    """The AP of many weightings of the images at once, such as those of a bootstrap.

    weights: (D, images) float32, how often each image counts; whole numbers up to 2^24 in all are summed exactly

    Returns (D,), NaN where no face has a weight. Each is the area under the official curve of its weighting; but the
    lowest and the highest score, between which the curve's 1000 steps are spread, stay those of all images: a
    weighting that leaves out the image of the highest score has the steps of the whole set, not steps of its own.
    """
    # between two of these only proposals are added: no precision there exceeds that of the step before
    steps = np.unique(tally.found[1])
    proposals = _drawn_proposals(tally, weights, steps)
    found = _drawn_found(tally, weights, steps)
    counted = tally.faces.astype(np.float64)
    area, faces = np.zeros(len(weights)), np.zeros(len(weights))
    for start in range(0, len(weights), _DRAWS):
        rows = slice(start, start + _DRAWS)
        seen = proposals[rows].cumsum(1, dtype=np.float64)
        hits = found[rows].cumsum(1, dtype=np.float64)
        precision = np.divide(hits, seen, out=seen, where=seen > 0)
        np.maximum.accumulate(precision[:, ::-1], axis=1, out=precision[:, ::-1])
        area[rows] = np.einsum("ds,ds->d", found[rows], precision)
        faces[rows] = weights[rows] @ counted
    whole: Doubles = np.divide(area, faces, out=np.full(len(area), np.nan), where=faces > 0)
    return whole


def _drawn_proposals(tally: Tally, weights: Floats, steps: Indices) -> Floats:
    """Proposals of each weighting that enter at each of these steps or since the one before.

    weights: (D, images); steps: (S,) rising. Returns (D, S)
    """
    column = np.searchsorted(steps, np.arange(STEPS))
    width = len(steps) + 1  # the last: those after all steps
    sums = np.zeros((len(weights), len(steps)), np.float32)
    for start, count, image, step in _in_blocks(tally.proposals, tally.images):
        place = image * width + column[step]
        table = np.bincount(place, minlength=count * width).reshape(count, width)[:, :-1]
        np.add(sums, weights[:, start : start + count] @ table.astype(np.float32), out=sums)
    return sums


def _drawn_found(tally: Tally, weights: Floats, steps: Indices) -> Floats:
    """Found faces of each weighting at each of these steps, at which all of them are found.

    A face at a time and a few weightings at once, so that these stay in the processor's cache: an image has few found
    faces, and a product with its row of mostly zeros takes twice as long.

    weights: (D, images); steps: (S,) rising. Returns (D, S)
    """
    sums = np.zeros((len(weights), len(steps)), np.float32)
    for start, count, image, step in _in_blocks(tally.found, tally.images):
        order = np.argsort(step, kind="stable")
        here, first = np.unique(step[order], return_index=True)
        columns = np.searchsorted(steps, here)
        for low in range(0, len(weights) if len(here) else 0, _FEW_DRAWS):
            rows = slice(low, low + _FEW_DRAWS)
            some = np.ascontiguousarray(weights[rows, start : start + count].T)
            sums[rows, columns] += np.add.reduceat(some.take(image[order], axis=0), first, axis=0).T
    return sums


def _in_blocks(entries: Indices, images: int) -> Iterator[tuple[int, int, Indices, Indices]]:
    """Entries of a tally, (2, n), by blocks of images: the first image, how many, and within these image and step."""
    for start in range(0, images, _IMAGES):
        count = min(_IMAGES, images - start)
        low, high = np.searchsorted(entries[0], (start, start + count))
        yield start, count, entries[0, low:high] - start, entries[1, low:high]


def ap_influence(tally: Tally) -> Doubles:
    """How much AP changes with the weight of each image, (images,): its derivative, exact.

    Where the envelope at step s is the precision at the later step m(s), AP is the sum of found[s] * precision[m(s)] by
    the number of faces, and linear in what an image adds at each step once the derivatives of those precisions are
    summed up: no image needs a curve of its own. An image that holds much of all faces weighs more by leaving it out
    than its derivative says, by 1 / (1 - its share of the faces). Zeros where no face counts.
    """
    faces = tally.faces.sum()
    if faces == 0:
        return np.zeros(tally.images)
    proposals = np.bincount(tally.proposals[1], minlength=STEPS).cumsum().astype(np.float64)
    gained = np.bincount(tally.found[1], minlength=STEPS).astype(np.float64)
    found = gained.cumsum(0)
    precision = np.divide(found, proposals, out=np.zeros(STEPS), where=proposals > 0)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    at = _later_maximum(precision)
    resting = np.bincount(at, gained, minlength=STEPS)
    there = proposals > 0
    by_found = _later_sum(np.divide(resting, proposals, out=np.zeros(STEPS), where=there))
    by_proposals = _later_sum(np.divide(resting * found, proposals**2, out=np.zeros(STEPS), where=there))
    gain = np.bincount(tally.found[0], (envelope + by_found)[tally.found[1]], minlength=tally.images)
    loss = np.bincount(tally.proposals[0], by_proposals[tally.proposals[1]], minlength=tally.images)
    ap = float(gained @ envelope) / faces
    derivative = (gain - loss - ap * tally.faces) / faces
    return without(derivative.astype(np.float64), tally.faces)


def without(influence: Doubles, share: NDArray[Any]) -> Doubles:
    """Derivatives by the weights of images, (images,), as what leaving each image out does.

    share: (images,) what each adds to the denominator
    """
    rest = share.sum() - share
    left_out: Doubles = np.divide(influence * share.sum(), rest, out=np.zeros(len(share)), where=rest > 0)
    return left_out


def _later_sum(values: Doubles) -> Doubles:
    """For each step the sum of its value and all later ones, (STEPS,)."""
    summed: Doubles = values[::-1].cumsum(0)[::-1]
    return summed


def _later_maximum(precision: Doubles) -> Indices:
    """For each step the one, itself or later, of the largest precision, (STEPS,)."""
    backwards = precision[::-1]
    highest = np.maximum.accumulate(backwards)
    number = np.arange(STEPS)
    new = np.append(True, highest[1:] > highest[:-1])
    at = np.maximum.accumulate(np.where(new, number, 0))
    return STEPS - 1 - at[::-1]


def _steps(scores: Doubles) -> Indices:
    """The step at which each detection enters: the first t with 1 - t/1000 <= normalised score; (D,), 0 … 999."""
    if len(scores) == 0:
        return np.zeros(0, np.int64)
    low, high = np.min(scores), np.max(scores)
    normal = (scores - low) / (high - low) if high > low else np.ones_like(scores)
    thresholds = 1 - np.arange(STEPS, 0, -1) / STEPS  # rising: 0 … 0.999
    return STEPS - np.searchsorted(thresholds, normal, side="right")


def _area(boxes: Numbers) -> Doubles:
    area: Doubles = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    return area
