"""What an AP does not tell: which faces are missed, how many false alarms there are, where a threshold should lie.

Matching is the official one (eval/average_precision.py): a detection belongs to the box it overlaps most, with IoU of
at least 0.5 on boxes one pixel longer; the best one finds the face, later ones are false; on an ignored box it is
neither.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetrain.core.faces import Faces, LabelledImage
from facetrain.eval.average_precision import best_box

SIZE_EDGES = (8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Outcome:
    """One picture at a score threshold.

    true, false: (N,) bool over its detections; neither: below the threshold, or on an ignored box
    found:       (F,) bool over its faces
    owner:       (N,) int64, the face that a true detection found, else -1
    """

    true: NDArray[np.bool_]
    false: NDArray[np.bool_]
    found: NDArray[np.bool_]
    owner: NDArray[np.int64]


@dataclass(frozen=True)
class SizeRecall:
    """Recall of the faces whose shorter side lies in [low, high) pixels; high None: no limit; recall None: no face."""

    low: int
    high: int | None
    faces: int
    found: int
    recall: float | None


@dataclass(frozen=True)
class OperatingPoint:
    """The lowest score threshold that keeps a wanted precision, and what comes with it."""

    precision: float
    score: float
    recall: float
    false_alarms: float  # per picture


@dataclass(frozen=True)
class LandmarkError:
    """Normalised mean error: distance over sqrt(width x height) of the labelled box, mean over points and faces."""

    mean: float
    per_point: list[float | None]
    faces: int


@dataclass(frozen=True)
class Details:
    """All of it at one score. operating_point and landmark_error are None where there is none."""

    score: float
    recall: float | None
    false_alarms: float | None  # per picture
    by_size: list[SizeRecall]
    operating_point: OperatingPoint | None
    landmark_error: LandmarkError | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def measure_details(
    found: Sequence[Faces], pictures: Sequence[LabelledImage], *, score: float = 0.5, precision: float = 0.95
) -> Details:
    """Everything beyond AP, false alarms at `score`, the threshold for `precision`."""
    results = outcomes(found, pictures, score)
    faces = sum(int((~picture.ignore).sum()) for picture in pictures)
    hits = sum(int(result.found.sum()) for result in results)
    return Details(
        score=score,
        recall=hits / faces if faces else None,
        false_alarms=sum(int(r.false.sum()) for r in results) / len(results) if results else None,
        by_size=recall_by_size(results, pictures),
        operating_point=operating_point(found, pictures, precision),
        landmark_error=landmark_error(found, pictures),
    )


def outcomes(found: Sequence[Faces], pictures: Sequence[LabelledImage], score: float) -> list[Outcome]:
    """What became of every detection that scores at least `score`, and of every face."""
    return [_outcome(faces, picture, score) for faces, picture in zip(found, pictures, strict=True)]


def _outcome(faces: Faces, picture: LabelledImage, score: float) -> Outcome:
    box = best_box(faces.boxes, picture.boxes)
    passed = faces.scores >= score
    ignored = (box >= 0) & picture.ignore[box] if len(picture.boxes) else np.zeros(len(box), bool)
    # detections are best first, so the first that belongs to a face finds it
    first = np.zeros(len(box), bool)
    candidates = np.flatnonzero(passed & (box >= 0) & ~ignored)
    first[candidates[np.unique(box[candidates], return_index=True)[1]]] = True
    found = np.zeros(len(picture.boxes), bool)
    found[box[first]] = True
    return Outcome(first, passed & ~first & ~ignored, found, np.where(first, box, -1))


def recall_by_size(results: Sequence[Outcome], pictures: Sequence[LabelledImage]) -> list[SizeRecall]:
    """Recall of faces by their shorter side, from below 8 pixels to 256 and more."""
    sides = [np.zeros(0, np.float32), *((p.boxes[:, 2:] - p.boxes[:, :2]).min(1)[~p.ignore] for p in pictures)]
    hits = [np.zeros(0, bool), *(r.found[~p.ignore] for r, p in zip(results, pictures, strict=True))]
    side, hit = np.concatenate(sides), np.concatenate(hits)
    rows = []
    for low, high in zip((0, *SIZE_EDGES), (*SIZE_EDGES, None), strict=True):
        # a few official boxes have a width below 0: they belong to the smallest
        inside = (side >= low if low else np.ones(len(side), bool)) & (side < (high or np.inf))
        faces, found = int(inside.sum()), int(hit[inside].sum())
        rows.append(SizeRecall(low, high, faces, found, found / faces if faces else None))
    return rows


def operating_point(
    found: Sequence[Faces], pictures: Sequence[LabelledImage], precision: float
) -> OperatingPoint | None:
    """The lowest threshold whose detections reach the wanted precision, over all scores that occur."""
    results = outcomes(found, pictures, -np.inf)
    faces = sum(int((~picture.ignore).sum()) for picture in pictures)
    scores = np.concatenate([np.zeros(0, np.float32), *(f.scores for f in found)])
    true = np.concatenate([np.zeros(0, bool), *(r.true for r in results)])
    false = np.concatenate([np.zeros(0, bool), *(r.false for r in results)])
    order = np.argsort(-scores, kind="stable")
    scores, hits, alarms = scores[order], true[order].cumsum(), false[order].cumsum()
    # detections of one score enter together: only the last of each counts as a threshold
    last = np.append(scores[1:] != scores[:-1], True)[: len(scores)]
    reached = np.flatnonzero(last & (hits > 0) & (hits >= precision * (hits + alarms)))
    if len(reached) == 0 or faces == 0:
        return None
    at = reached[-1]
    return OperatingPoint(precision, float(scores[at]), float(hits[at] / faces), float(alarms[at] / len(pictures)))


def landmark_error(found: Sequence[Faces], pictures: Sequence[LabelledImage]) -> LandmarkError | None:
    """Error of the landmarks of found faces, as LandmarkError says; None where labels or detections have none."""
    sums: NDArray[np.float64] | None = None
    counts: NDArray[np.int64] | None = None
    faces = 0
    for some, picture, result in zip(found, pictures, outcomes(found, pictures, -np.inf), strict=True):
        points = picture.landmarks.shape[1]
        if points == 0 or some.landmarks.shape[1] != points:
            continue
        mine = np.flatnonzero(result.true)
        truth = picture.landmarks[result.owner[mine]]  # (n, L, 3)
        usable = (truth[..., 2] > 0) & np.isfinite(some.landmarks[mine]).all(-1)
        box = picture.boxes[result.owner[mine]]
        size = np.sqrt(np.maximum((box[:, 2:] - box[:, :2]).prod(1), 1e-9))
        distance = np.linalg.norm(some.landmarks[mine] - truth[..., :2], axis=-1) / size[:, None]  # (n, L)
        sums = np.where(usable, distance, 0).sum(0) + (0 if sums is None else sums)
        counts = usable.sum(0) + (0 if counts is None else counts)
        faces += int(usable.any(1).sum())
    if sums is None or counts is None or faces == 0:
        return None
    per_point = [float(total / count) if count else None for total, count in zip(sums, counts, strict=True)]
    return LandmarkError(float(sums.sum() / counts.sum()), per_point, faces)
