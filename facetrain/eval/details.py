"""What an AP does not tell: which faces are missed, how many alarms are false, where a score threshold should lie.

Everything rests on the official matching (eval/average_precision.py): a detection belongs to the one box it overlaps
most, with an IoU of at least 0.5 on boxes one pixel longer. The best detection of a face finds it, later ones are
false, and what belongs to an ignored box is dropped: neither true nor false.

Pictures and their detections come as two sequences of equal length; detections are best first. N detections, F faces
and L landmarks of a picture. A number that has no value, such as the recall of no faces, is None and never 0.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetrain.core.faces import Faces, LabelledImage
from facetrain.eval.average_precision import best_box

Flags = NDArray[np.bool_]

SIZE_EDGES = (8, 16, 32, 64, 128, 256)  # pixels


@dataclass(frozen=True)
class Outcome:
    """One picture at a score threshold.

    true, false, dropped: (N,) bool, what each detection is; below the threshold it is none of them
    found, missed:        (F,) bool, what became of each face; an ignored one is neither
    owner:                (N,) int64, the face that a true detection found, else -1
    """

    true: Flags
    false: Flags
    dropped: Flags
    found: Flags
    missed: Flags
    owner: NDArray[np.int64]


@dataclass(frozen=True)
class SizeRecall:
    """Recall of the faces whose shorter side lies in [low, high) pixels; high is None for the largest."""

    low: int
    high: int | None
    faces: int
    found: int
    recall: float | None


@dataclass(frozen=True)
class OperatingPoint:
    """The lowest score threshold that keeps a wanted precision.

    precision:    the wanted one
    score:        the threshold, a score that occurs; detections that reach it are kept
    reached:      precision at this threshold
    recall:       share of the faces found at it
    false_alarms: per picture
    """

    precision: float
    score: float
    reached: float
    recall: float
    false_alarms: float


@dataclass(frozen=True)
class LandmarkError:
    """Mean distance between found and labelled landmarks, as a share of sqrt(width x height) of the labelled box.

    mean:      of a face over its usable points, then over the faces
    per_point: (L,) over the faces that have the point; None where no face has it
    faces:     found faces with at least one usable point
    """

    mean: float
    per_point: list[float | None]
    faces: int


@dataclass(frozen=True)
class Details:
    """Everything of this module in one.

    faces:            that count, in all pictures
    score:            the threshold of recall, precision, false_alarms and by_size
    false_alarms:     per picture
    by_size:          recall by the shorter side of the face
    by_size_any:      the same with every detection, however low its score: what no threshold can bring back
    wanted_precision: the one that operating_point keeps; it is None where no threshold does
    """

    images: int
    faces: int
    score: float
    recall: float | None
    precision: float | None
    false_alarms: float | None
    by_size: list[SizeRecall]
    by_size_any: list[SizeRecall]
    wanted_precision: float
    operating_point: OperatingPoint | None
    landmark_error: LandmarkError | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def measure_details(
    found: Sequence[Faces], pictures: Sequence[LabelledImage], *, score: float = 0.5, precision: float = 0.95
) -> Details:
    """Every number of this module, with the boxes matched only once.

    score:     threshold for recall, precision and false alarms
    precision: what a threshold is looked for, above 0 and at most 1
    """
    everything = outcomes(found, pictures)
    at_score = [_above(outcome, faces, score) for outcome, faces in zip(everything, found, strict=True)]
    faces = _count(~p.ignore for p in pictures)
    hits, alarms = _count(o.true for o in at_score), _count(o.false for o in at_score)
    return Details(
        images=len(pictures),
        faces=faces,
        score=score,
        recall=_share(hits, faces),
        precision=_share(hits, hits + alarms),
        false_alarms=_share(alarms, len(pictures)),
        by_size=_recall_by_size(at_score, pictures, SIZE_EDGES),
        by_size_any=_recall_by_size(everything, pictures, SIZE_EDGES),
        wanted_precision=precision,
        operating_point=_operating_point(everything, found, pictures, precision),
        landmark_error=_landmark_error(everything, found, pictures),
    )


def outcomes(found: Sequence[Faces], pictures: Sequence[LabelledImage], score: float | None = None) -> list[Outcome]:
    """What became of every detection that scores at least `score` (None: of all), and of every face."""
    results = []
    for faces, picture in zip(found, pictures, strict=True):
        box = best_box(faces.boxes, picture.boxes)
        hit = box >= 0
        dropped = np.zeros(len(box), bool)
        dropped[hit] = picture.ignore[box[hit]]
        candidates = np.flatnonzero(hit & ~dropped)
        # detections are best first, so the first that belongs to a face is the one that finds it
        true = np.zeros(len(box), bool)
        true[candidates[np.unique(box[candidates], return_index=True)[1]]] = True
        owner = np.where(true, box, -1)
        seen = np.zeros(len(picture.boxes), bool)
        seen[owner[true]] = True
        outcome = Outcome(true, ~true & ~dropped, dropped, seen, ~seen & ~picture.ignore, owner)
        results.append(outcome if score is None else _above(outcome, faces, score))
    return results


def recall_by_size(
    found: Sequence[Faces],
    pictures: Sequence[LabelledImage],
    score: float | None = None,
    edges: Sequence[int] = SIZE_EDGES,
) -> list[SizeRecall]:
    """Recall of faces by their shorter side at a score threshold (None: with all detections).

    edges: rising, in pixels; the first class is below the first edge, the last one from the last edge on
    """
    return _recall_by_size(outcomes(found, pictures, score), pictures, edges)


def false_alarms(found: Sequence[Faces], pictures: Sequence[LabelledImage], score: float) -> float | None:
    """False detections that score at least `score`, per picture; None without pictures."""
    return _share(_count(o.false for o in outcomes(found, pictures, score)), len(pictures))


def operating_point(
    found: Sequence[Faces], pictures: Sequence[LabelledImage], precision: float
) -> OperatingPoint | None:
    """The lowest threshold, of all scores that occur, at which true / (true + false) reaches `precision`.

    A higher threshold need not reach it too: precision does not rise evenly. None where no threshold does.
    """
    return _operating_point(outcomes(found, pictures), found, pictures, precision)


def landmark_error(found: Sequence[Faces], pictures: Sequence[LabelledImage]) -> LandmarkError | None:
    """The normalised mean error of landmarks, over the faces found at any score.

    A distance is divided by sqrt(width x height) of the labelled box, in pixels without the extra one: the distance
    between the eyes, the other usual normaliser, vanishes on faces seen from the side. A point is usable with a
    weight above 0 and a finite detection; faces without area are left out.

    None where no label has landmarks, or the detector has none or another number of them.
    """
    return _landmark_error(outcomes(found, pictures), found, pictures)


def _above(outcome: Outcome, faces: Faces, score: float) -> Outcome:
    """The outcome at a threshold, from that of all detections: the best of a face is the last to fall below it."""
    passed = faces.scores >= score
    true = outcome.true & passed
    owner = np.where(true, outcome.owner, -1)
    found = np.zeros(len(outcome.found), bool)
    found[owner[true]] = True
    counted = outcome.found | outcome.missed
    return Outcome(true, outcome.false & passed, outcome.dropped & passed, found, counted & ~found, owner)


def _recall_by_size(
    results: Sequence[Outcome], pictures: Sequence[LabelledImage], edges: Sequence[int]
) -> list[SizeRecall]:
    sides = [np.zeros(0, np.float32), *((p.boxes[:, 2:] - p.boxes[:, :2]).min(1)[~p.ignore] for p in pictures)]
    hits = [np.zeros(0, bool), *(r.found[~p.ignore] for r, p in zip(results, pictures, strict=True))]
    # a few official boxes are turned inside out, with a side below 0: they fall into the smallest class
    group = np.searchsorted(np.asarray(edges), np.concatenate(sides), side="right")
    faces = np.bincount(group, minlength=len(edges) + 1).tolist()
    found = np.bincount(group[np.concatenate(hits)], minlength=len(edges) + 1).tolist()
    limits = zip((0, *edges), (*edges, None), faces, found, strict=True)
    return [SizeRecall(low, high, count, seen, _share(seen, count)) for low, high, count, seen in limits]


def _operating_point(
    everything: Sequence[Outcome], found: Sequence[Faces], pictures: Sequence[LabelledImage], precision: float
) -> OperatingPoint | None:
    scores = np.concatenate([np.zeros(0, np.float32), *(faces.scores for faces in found)])
    true = np.concatenate([np.zeros(0, bool), *(outcome.true for outcome in everything)])
    false = np.concatenate([np.zeros(0, bool), *(outcome.false for outcome in everything)])
    order = np.argsort(-scores, kind="stable")
    scores, hits, alarms = scores[order], true[order].cumsum(), false[order].cumsum()
    # detections of one score enter together: a threshold stands behind the last of them
    last = np.append(scores[1:] != scores[:-1], True)[: len(scores)]
    # divided, not multiplied: 55 of 100 are 0.55, but 0.55 * 100 is a little more than 55
    reached = np.divide(hits, hits + alarms, out=np.zeros(len(scores)), where=hits > 0)
    enough = np.flatnonzero(last & (hits > 0) & (reached >= precision))
    if len(enough) == 0:
        return None
    at = enough[-1]
    return OperatingPoint(
        precision=precision,
        score=float(scores[at]),
        reached=float(reached[at]),
        recall=float(hits[at] / _count(~p.ignore for p in pictures)),
        false_alarms=float(alarms[at] / len(pictures)),
    )


def _landmark_error(
    everything: Sequence[Outcome], found: Sequence[Faces], pictures: Sequence[LabelledImage]
) -> LandmarkError | None:
    count = next((p.landmarks.shape[1] for p in pictures if (p.landmarks[..., 2] > 0).any()), 0)
    errors = [np.zeros((0, count))]  # (n, L) of each picture, NaN where a point is not usable
    for faces, picture, outcome in zip(found, pictures, everything, strict=True):
        if faces.landmarks.shape[1] != count or picture.landmarks.shape[1] != count:
            continue
        owner = outcome.owner[outcome.true]
        box = picture.boxes[owner].astype(np.float64)
        truth = picture.landmarks[owner].astype(np.float64)  # (n, L, 3)
        size = np.sqrt(np.clip(box[:, 2:] - box[:, :2], 0, None).prod(1))
        distance = np.linalg.norm(faces.landmarks[outcome.true] - truth[..., :2], axis=-1)  # (n, L)
        usable = (truth[..., 2] > 0) & np.isfinite(distance) & (size > 0)[:, None]
        errors.append(np.divide(distance, size[:, None], out=np.full_like(distance, np.nan), where=usable))
    table = np.concatenate(errors)
    usable = np.isfinite(table)
    table, usable = table[usable.any(1)], usable[usable.any(1)]
    if len(table) == 0:
        return None
    # not nanmean, which warns of a point that no face has
    summed = np.where(usable, table, 0)
    per_point = [_share(total, int(n)) for total, n in zip(summed.sum(0).tolist(), usable.sum(0), strict=True)]
    return LandmarkError(float((summed.sum(1) / usable.sum(1)).mean()), per_point, len(table))


def _count(flags: Iterable[Flags]) -> int:
    return sum(int(some.sum()) for some in flags)


def _share(part: float, whole: int) -> float | None:
    return part / whole if whole else None
