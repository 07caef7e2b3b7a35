"""Where labels and detectors disagree: faces that no label has, labels that nobody sees, landmarks far off.

The detectors are no judges. What they are surest of comes first, and a person looks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facetrain.core.boxes import box_iou
from facetrain.core.errors import UsageError
from facetrain.core.faces import Faces, Floats, LabelledImage
from facetrain.data.landmark_names import columns_of

Kind = Literal["missing", "unseen", "landmarks"]
KINDS: dict[Kind, str] = {
    "missing": "faces that no label has",
    "unseen": "labels that no detector sees",
    "landmarks": "landmarks far from where a detector sees them",
}
_SAME = 0.3  # IoU from which a box is about the same face, however badly drawn
_MATCH = 0.5  # from which its landmarks can be held against the label's
_INSIDE = 0.5  # share of a box in an ignored one from which it belongs to that
_USUAL = 32.0  # pixels: a face of this side that is not seen is half as strange as a very large one


@dataclass(frozen=True)
class Doubts:
    """What is told.

    score: of faces that no label has, the least
    seen:  a label that a detection overlaps counts as seen from this score on
    off:   mean distance of landmarks, as a share of the face's size (the root of its area)
    """

    score: float = 0.6
    seen: float = 0.1
    off: float = 0.12

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        if not 0 < self.seen <= self.score <= 1:
            raise UsageError(f"`score` {self.score:g}: must be from {self.seen:g} to 1")
        if not self.off > 0:
            raise UsageError(f"`off` {self.off:g}: must be above 0", "0.12 is an eighth of the face")


@dataclass(frozen=True)
class Finding:
    """A place to look at.

    image:    number of the image
    box:      (4,) of the face that was found, or of the label
    label:    number of the label in its image, -1 where there is none
    score:    of the detection, 0 where there is none
    strength: 0 … 1, how strange it is
    said:     in words
    """

    kind: Kind
    image: int
    box: Floats
    label: int
    score: float
    strength: float
    said: str


def audit(
    images: Sequence[LabelledImage],
    points: Sequence[str],
    found: Sequence[Faces],
    found_points: Sequence[str],
    doubts: Doubts,
) -> list[Finding]:
    """All findings, strangest first; equal ones in the order of images.

    points:       names of the labels' landmarks
    found:        of each image all that scores at least `doubts.seen`; found_points: names of their landmarks
    """
    columns = columns_of(points, found_points) if points and found_points else None
    findings: list[Finding] = []
    for number, (image, beyond) in enumerate(zip(images, found, strict=True)):
        faces = _within(beyond, image.size)
        overlap = box_iou(faces.boxes, image.boxes)  # (N, F)
        findings += _missing(number, image, faces, overlap, doubts)
        findings += _unseen(number, image, overlap)
        if columns is not None:
            findings += _landmarks(number, image, faces, overlap, columns, doubts)
    return sorted(findings, key=lambda finding: -finding.strength)


def _within(faces: Faces, size: tuple[int, int] | None) -> Faces:
    """The faces cut off at the borders of an image of (width, height), as labels are; without those outside of it."""
    limit = np.array(size or (np.inf, np.inf), np.float32)
    boxes = np.clip(faces.boxes.reshape(-1, 2, 2), 0, limit).reshape(-1, 4)
    kept = (boxes[:, 2:] > boxes[:, :2]).all(1)
    return Faces(boxes[kept], faces.scores[kept], faces.landmarks[kept])


def _missing(number: int, image: LabelledImage, faces: Faces, overlap: Floats, doubts: Doubts) -> list[Finding]:
    free = (overlap < _SAME).all(1) & (faces.scores >= doubts.score) & ~_ignored(image, faces.boxes)
    return [
        Finding("missing", number, faces.boxes[row], -1, float(faces.scores[row]), float(faces.scores[row]), said)
        for row in np.flatnonzero(free)
        if (said := f"found with a score of {faces.scores[row]:.2f}, no label")
    ]


def _ignored(image: LabelledImage, boxes: Floats) -> NDArray[np.bool_]:
    """Which boxes, (N,) bool, lie mostly within a region that is to be ignored."""
    regions = image.boxes[image.ignore]
    low = np.maximum(boxes[:, None, :2], regions[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], regions[None, :, 2:])
    inside = np.clip(high - low, 0, None).prod(-1)
    area = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(1), 1e-9)
    within: NDArray[np.bool_] = (inside > _INSIDE * area[:, None]).any(1)
    return within


def _unseen(number: int, image: LabelledImage, overlap: Floats) -> list[Finding]:
    lonely = ~(overlap >= _SAME).any(0) & ~image.ignore
    findings = []
    for row in np.flatnonzero(lonely):
        width, height = (image.boxes[row, 2:] - image.boxes[row, :2]).tolist()
        side = min(width, height)
        said = f"a label of {width:.0f} x {height:.0f} pixels that no detector sees"
        findings.append(Finding("unseen", number, image.boxes[row], int(row), 0.0, side / (side + _USUAL), said))
    return findings


def _landmarks(
    number: int, image: LabelledImage, faces: Faces, overlap: Floats, columns: Sequence[int], doubts: Doubts
) -> list[Finding]:
    findings = []
    for row in np.flatnonzero(~image.ignore & (image.landmarks[..., 2] > 0).any(1)):
        candidates = overlap[:, row]
        if not len(candidates) or np.max(candidates) < _MATCH:
            continue
        best = int(np.argmax(candidates))
        there = np.array([faces.landmarks[best, c] if c >= 0 else (np.nan, np.nan) for c in columns])  # (L, 2)
        distance = np.linalg.norm(there - image.landmarks[row, :, :2], axis=1)
        distance = distance[(image.landmarks[row, :, 2] > 0) & ~np.isnan(distance)]
        size = float(np.sqrt((image.boxes[row, 2:] - image.boxes[row, :2]).prod()))
        off = float(distance.mean()) / size if len(distance) else 0.0
        if off > doubts.off:
            score = float(faces.scores[best])
            said = f"landmarks {off:.0%} of the face's size away from where a detector sees them"
            strength = score * off / (off + doubts.off)
            findings.append(Finding("landmarks", number, image.boxes[row], int(row), score, strength, said))
    return findings


def corrected(image: LabelledImage, findings: Sequence[tuple[Finding, str]]) -> LabelledImage:
    """The labels of an image after decisions: `yes` does what the finding says, `ignore` marks its face ignored.

    A missing face becomes a label without landmarks, one that nobody sees goes, landmarks that are far off go.
    """
    ignore, landmarks = image.ignore.copy(), image.landmarks.copy()
    gone = np.zeros(len(image.boxes), bool)
    new, new_ignored = [], []
    for finding, decision in findings:
        if finding.label < 0:
            new.append(finding.box)
            new_ignored.append(decision == "ignore")
        elif decision == "ignore":
            ignore[finding.label] = True
        elif finding.kind == "landmarks":
            landmarks[finding.label] = (-1, -1, 0)
        else:
            gone[finding.label] = True
    boxes = np.concatenate([image.boxes[~gone], np.array(new, np.float32).reshape(-1, 4)])
    nothing = np.tile(np.array([-1, -1, 0], np.float32), (len(new), landmarks.shape[1], 1))
    hidden = image.hidden
    if hidden is not None:
        hidden = np.concatenate([hidden[~gone], np.zeros((len(new), hidden.shape[1]), bool)])
    return replace(
        image,
        boxes=boxes,
        landmarks=np.concatenate([landmarks[~gone], nothing]),
        ignore=np.concatenate([ignore[~gone], np.array(new_ignored, bool)]),
        hidden=hidden,
        scores=None,
    )
