"""What an AP does not tell: which faces are missed, how many alarms are false, where a score threshold should lie.

Everything rests on what became of detections and faces (eval/outcomes.py).

Images, their detections and what became of them come as sequences of equal length; detections are best first. N
detections, F faces and L landmarks of an image. A number that has no value, such as the recall of no faces, is None and
never 0.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from facetrain.config.landmark_names import landmarks_of
from facetrain.core.documents.eval import DetailsDocument
from facetrain.core.faces import Faces, LabelledImage
from facetrain.eval.intervals import Estimate, Resampling, Sums, sum_estimates
from facetrain.eval.metrics import METRICS
from facetrain.eval.outcomes import Flags, Outcome, above

Doubles = NDArray[np.float64]

SIZE_EDGES = (8, 16, 32, 64, 128, 256)  # pixels


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
    false_alarms: per image
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
    names:     (L,) of the points
    faces:     found faces with at least one usable point
    """

    mean: float
    per_point: list[float | None]
    names: list[str]
    faces: int

    @property
    def by_name(self) -> list[tuple[str, float, int]]:
        """Name, error and number of each point that a face has."""
        points = enumerate(zip(self.names, self.per_point, strict=True))
        return [(name, error, number) for number, (name, error) in points if error is not None]


@dataclass(frozen=True)
class Details:
    """Everything of this module in one.

    faces:            that count, in all images
    score:            the threshold of `numbers` and by_size
    numbers:          by the names of `METRICS`: recall, precision, false_alarms (per image), …
    by_size:          recall by the shorter side of the face
    by_size_any:      the same with every detection, however low its score: what no threshold can bring back
    wanted_precision: the one that operating_point keeps; it is None where no threshold does
    intervals:        of these numbers, by their place: `recall`, `by_size.2.recall`, `landmark_error.mean`; that of the
                      operating point is for its threshold as it was found here
    """

    images: int
    faces: int
    score: float
    numbers: Mapping[str, float | None]
    by_size: list[SizeRecall]
    by_size_any: list[SizeRecall]
    wanted_precision: float
    operating_point: OperatingPoint | None
    landmark_error: LandmarkError | None
    intervals: Mapping[str, Estimate] = field(default_factory=dict)

    @property
    def recall(self) -> float | None:
        """Share of the faces found."""
        return self.numbers["recall"]

    @property
    def precision(self) -> float | None:
        """Share of the detections that are faces."""
        return self.numbers["precision"]

    @property
    def false_alarms(self) -> float | None:
        """Per image."""
        return self.numbers["false_alarms"]

    def as_dict(self) -> DetailsDocument:
        """Plain values for JSON."""
        point, error = self.operating_point, self.landmark_error
        document = {
            "images": self.images,
            "faces": self.faces,
            "score": self.score,
            **self.numbers,
            "by_size": [asdict(size) for size in self.by_size],
            "by_size_any": [asdict(size) for size in self.by_size_any],
            "wanted_precision": self.wanted_precision,
            "operating_point": None if point is None else asdict(point),
            "landmark_error": None if error is None else asdict(error),
            "intervals": {place: estimate.as_dict() for place, estimate in self.intervals.items()},
        }
        return cast("DetailsDocument", document)


def measure_details(
    everything: Sequence[Outcome],
    found: Sequence[Faces],
    images: Sequence[LabelledImage],
    *,
    landmarks: Sequence[str] = (),
    score: float = 0.5,
    precision: float = 0.95,
    resampling: Resampling | None = None,
) -> Details:
    """Every number of this module.

    everything: of all detections, whatever their score
    landmarks:  names of the labels' points; by default the usual ones, or numbers
    score:      threshold for recall, precision and false alarms
    precision:  what a threshold is looked for, above 0 and at most 1
    resampling: gives the intervals; None: none
    """
    at_score = [above(outcome, faces, score) for outcome, faces in zip(everything, found, strict=True)]
    errors = landmark_errors(everything, found, images)
    rates = [Sums(name, *metric.sums(at_score, found, images), metric.share) for name, metric in METRICS.items()]
    details = Details(
        images=len(images),
        faces=_count(~image.ignore for image in images),
        score=score,
        numbers={some.name: _share(float(some.numerator.sum()), float(some.denominator.sum())) for some in rates},
        by_size=recall_by_size(at_score, images),
        by_size_any=recall_by_size(everything, images),
        wanted_precision=precision,
        operating_point=operating_point(everything, found, images, precision),
        landmark_error=landmark_error(errors, landmarks),
    )
    if resampling is None or not resampling.draws:
        return details
    sums = [*rates, *_size_sums("by_size", at_score, images)]
    sums += _size_sums("by_size_any", everything, images)
    point = details.operating_point
    if point is not None:
        there = [above(outcome, faces, point.score) for outcome, faces in zip(everything, found, strict=True)]
        sums += _point_sums(there, found, images)
    sums += _landmark_sums(errors, len(images))
    return replace(details, intervals=sum_estimates(sums, resampling))


def recall_by_size(
    results: Sequence[Outcome], images: Sequence[LabelledImage], edges: Sequence[int] = SIZE_EDGES
) -> list[SizeRecall]:
    """Recall of faces by their shorter side.

    edges: rising, in pixels; the first class is below the first edge, the last one from the last edge on
    """
    faces, found = (table.sum(0).tolist() for table in _by_size(results, images, edges))
    limits = zip((0, *edges), (*edges, None), faces, found, strict=True)
    return [SizeRecall(low, high, count, seen, _share(seen, count)) for low, high, count, seen in limits]


@dataclass(frozen=True)
class Ranking:
    """All N detections of all images, best first.

    image:       (N,) number of its image
    score:       (N,)
    true, false: (N,) whether it is a face that was not found before, or a false alarm; neither where it is ignored
    last:        (N,) whether the next one has another score: detections of one score enter together, so a threshold
                 stands behind the last of them
    """

    image: NDArray[np.int64]
    score: NDArray[np.float32]
    true: Flags
    false: Flags
    last: Flags

    def until(self, count: int) -> "Ranking":
        """The best so many."""
        return Ranking(*(getattr(self, column.name)[:count] for column in fields(self)))


def ranking(everything: Sequence[Outcome], found: Sequence[Faces]) -> Ranking:
    """The detections in the order in which a falling threshold lets them in."""
    image = np.repeat(np.arange(len(found)), [len(faces) for faces in found])
    score = np.concatenate([np.zeros(0, np.float32), *(faces.scores for faces in found)])
    true = np.concatenate([np.zeros(0, bool), *(outcome.true for outcome in everything)])
    false = np.concatenate([np.zeros(0, bool), *(outcome.false for outcome in everything)])
    order = np.argsort(-score, kind="stable")
    score = score[order]
    last = np.append(score[1:] != score[:-1], True)[: len(score)]
    return Ranking(image[order], score, true[order], false[order], last)


def precisions(hits: Doubles, alarms: Doubles) -> Doubles:
    """Hits / (hits + alarms), 0 where there is no hit.

    Divided, not multiplied: 55 of 100 are 0.55, but 0.55 * 100 is a little more than 55.
    """
    return np.divide(hits, hits + alarms, out=np.zeros(hits.shape), where=hits > 0)


def operating_point(
    everything: Sequence[Outcome], found: Sequence[Faces], images: Sequence[LabelledImage], precision: float
) -> OperatingPoint | None:
    """The lowest threshold, of all scores that occur, at which true / (true + false) reaches `precision`.

    A higher threshold need not reach it too: precision does not rise evenly. None where no threshold does.
    """
    ranked = ranking(everything, found)
    hits, alarms = ranked.true.cumsum(dtype=np.float64), ranked.false.cumsum(dtype=np.float64)
    reached = precisions(hits, alarms)
    enough = np.flatnonzero(ranked.last & (hits > 0) & (reached >= precision))
    if len(enough) == 0:
        return None
    at = enough[-1]
    return OperatingPoint(
        precision=precision,
        score=float(ranked.score[at]),
        reached=float(reached[at]),
        recall=float(hits[at] / _count(~p.ignore for p in images)),
        false_alarms=float(alarms[at] / len(images)),
    )


@dataclass(frozen=True)
class LandmarkErrors:
    """Distances of found landmarks, as shares of the face's size.

    table: (n, L) of each found face with a usable point; NaN where a point is not usable
    image: (n,) number of the face's image
    """

    table: Doubles
    image: NDArray[np.int64]


def landmark_errors(
    everything: Sequence[Outcome], found: Sequence[Faces], images: Sequence[LabelledImage]
) -> LandmarkErrors:
    """The errors of landmarks, over the faces found at any score.

    A distance is divided by sqrt(width x height) of the labelled box, in pixels without the extra one: the distance
    between the eyes, the other usual normaliser, vanishes on faces seen from the side. A point is usable with a
    weight above 0 and a finite detection; faces without area are left out.

    Empty where no label has landmarks, or the detector has none or another number of them.
    """
    count = next((image.landmarks.shape[1] for image in images if (image.landmarks[..., 2] > 0).any()), 0)
    errors = [np.zeros((0, count))]
    numbers = [np.zeros(0, np.int64)]
    for number, (faces, image, outcome) in enumerate(zip(found, images, everything, strict=True)):
        if faces.landmarks.shape[1] != count or image.landmarks.shape[1] != count:
            continue
        owner = outcome.owner[outcome.true]
        box = image.boxes[owner].astype(np.float64)
        labelled = image.landmarks[owner].astype(np.float64)  # (n, L, 3)
        size = np.sqrt(np.clip(box[:, 2:] - box[:, :2], 0, None).prod(1))
        distance = np.linalg.norm(faces.landmarks[outcome.true] - labelled[..., :2], axis=-1)  # (n, L)
        usable = (labelled[..., 2] > 0) & np.isfinite(distance) & (size > 0)[:, None]
        errors.append(np.divide(distance, size[:, None], out=np.full_like(distance, np.nan), where=usable))
        numbers.append(np.full(len(owner), number))
    table, numbers_of_all = np.concatenate(errors), np.concatenate(numbers)
    usable = np.isfinite(table).any(1)
    return LandmarkErrors(table[usable], numbers_of_all[usable])


def landmark_error(errors: LandmarkErrors, names: Sequence[str] = ()) -> LandmarkError | None:
    """The normalised mean error; None where there is no usable point. names: of the points, where they are known."""
    if len(errors.table) == 0:
        return None
    usable, summed = _usable(errors)
    per_point = [_share(total, int(n)) for total, n in zip(summed.sum(0).tolist(), usable.sum(0), strict=True)]
    known = landmarks_of(len(per_point), names).names
    return LandmarkError(float((summed.sum(1) / usable.sum(1)).mean()), per_point, list(known), len(errors.table))


def _usable(errors: LandmarkErrors) -> tuple[Flags, Doubles]:
    """(n, L) which points are usable, and their errors with 0 for the others (nanmean would warn of empty points)."""
    usable = np.isfinite(errors.table)
    return usable, np.where(usable, errors.table, 0)


def _by_size(
    results: Sequence[Outcome], images: Sequence[LabelledImage], edges: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(images, classes) faces of each size in each image, and those found."""
    sides = [np.zeros(0), *((i.boxes[:, 2:] - i.boxes[:, :2]).min(1)[~i.ignore] for i in images)]
    hits = np.concatenate([np.zeros(0, bool), *(r.found[~i.ignore] for r, i in zip(results, images, strict=True))])
    counts = np.array([int((~image.ignore).sum()) for image in images], np.int64)
    classes = len(edges) + 1
    # a few official boxes are turned inside out, with a side below 0: they fall into the smallest class
    group = np.searchsorted(np.asarray(edges), np.concatenate(sides), side="right")
    place = np.repeat(np.arange(len(images)), counts) * classes + group
    faces, found = (np.bincount(some, minlength=len(images) * classes) for some in (place, place[hits]))
    return faces.reshape(-1, classes), found.reshape(-1, classes)


def _point_sums(there: Sequence[Outcome], found: Sequence[Faces], images: Sequence[LabelledImage]) -> list[Sums]:
    """What recall, precision and false alarms of the operating point are made of, an image each."""
    names = {"recall": "recall", "precision": "reached", "false_alarms": "false_alarms"}
    return [
        Sums(f"operating_point.{place}", *METRICS[name].sums(there, found, images), METRICS[name].share)
        for name, place in names.items()
    ]


def _size_sums(name: str, results: Sequence[Outcome], images: Sequence[LabelledImage]) -> list[Sums]:
    faces, found = _by_size(results, images, SIZE_EDGES)
    columns = enumerate(zip(found.T.astype(float), faces.T.astype(float), strict=True))
    return [Sums(f"{name}.{number}.recall", hits, all_faces, share=True) for number, (hits, all_faces) in columns]


def _landmark_sums(errors: LandmarkErrors, images: int) -> list[Sums]:
    if len(errors.table) == 0:
        return []
    usable, summed = _usable(errors)

    def per_image(values: Doubles) -> Doubles:
        return np.bincount(errors.image, values, minlength=images).astype(np.float64)

    mean = Sums(
        "landmark_error.mean",
        per_image(summed.sum(1) / usable.sum(1)),
        per_image(np.ones(len(summed))),
        share=False,
    )
    points = [
        Sums(f"landmark_error.per_point.{n}", per_image(values), per_image(there.astype(float)), share=False)
        for n, (values, there) in enumerate(zip(summed.T, usable.T, strict=True))
    ]
    return [mean, *points]


def _count(flags: Iterable[Flags]) -> int:
    return sum(int(some.sum()) for some in flags)


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
