"""How images are shown to a detector and which detections count: the protocol that stands beside every AP."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facetrain.core.boxes import box_iou, nms, pad_image
from facetrain.core.documents.common import ProtocolDocument
from facetrain.core.errors import UsageError
from facetrain.core.faces import Detector, Faces, Image
from facetrain.core.images import fit_image

EVALUATOR_VERSION = 1  # raised when the same detections would give another number


@dataclass(frozen=True)
class EvalProtocol:
    """The rules of a measurement.

    size:           original, a number n (fit into n x n), vga (640x480, upright images 480x640), or WxH
    score:          detections must score more than this
    nms:            IoU above which the weaker of two detections goes
    max_candidates: best detections of an image that enter the suppression
    flip:           the mirrored image is looked at too
    scales:         factors at which an image is looked at; results are merged
    """

    size: str = "original"
    score: float = 0.02
    nms: float = 0.45
    max_candidates: int = 5000
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        """Refuse a size, threshold or scale that means nothing."""
        box_of(self.size, 1, 1)
        if not 0 <= self.score < 1:
            raise UsageError(f"`score` {self.score:g}: must be at least 0 and below 1")
        if not 0 < self.nms <= 1:
            raise UsageError(f"`nms` {self.nms:g}: must be above 0 and at most 1")
        if not self.scales or not all(0.05 <= scale <= 20 for scale in self.scales):
            raise UsageError(f"`scales` {', '.join(map(str, self.scales))}: each must be from 0.05 to 20")

    def as_dict(self) -> ProtocolDocument:
        """Plain values for JSON."""
        return {
            "size": self.size,
            "score": self.score,
            "nms": self.nms,
            "max_candidates": self.max_candidates,
            "flip": self.flip,
            "scales": list(self.scales),
            "evaluator": EVALUATOR_VERSION,
        }


def box_of(size: str, width: int, height: int) -> tuple[int, int] | None:
    """The (width, height) that an image of that size is fitted into; None for `original`. Raises UsageError."""
    if size == "original":
        return None
    if size == "vga":
        return (640, 480) if width > height else (480, 640)
    sides = size.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and 1 <= int(side) <= 16384 for side in sides):
        raise UsageError(f"`size` {size}: no such rule", "there are: original, vga, a number such as 640, 800x600")
    return int(sides[0]), int(sides[-1])


class ProtocolDetector:
    """A detector that looks at images as a protocol says. Scores, boxes and landmarks are of the original image.

    mirror: (L,) which landmark takes each landmark's place in a mirrored image; None: not known, and those of mirrored
            images are NaN
    """

    def __init__(self, detector: Detector, protocol: EvalProtocol, mirror: Sequence[int] | None = None) -> None:
        self.detector = detector
        self.protocol = protocol
        self._mirror = mirror

    def detect_batch(self, images: Sequence[Image]) -> list[Faces]:
        """Faces of each image, (H, W, 3) uint8 BGR of any size."""
        views = [view for image in images for view in self._views(image)]
        found = self.detector.detect_batch([view.image for view in views])
        per_image = len(views) // max(1, len(images))
        results = []
        for start in range(0, len(views), per_image):
            here = slice(start, start + per_image)
            faces = [view.back(some, self._mirror) for view, some in zip(views[here], found[here], strict=True)]
            results.append(self._select(faces))
        return results

    def _views(self, image: Image) -> list["_View"]:
        views = []
        height, width = image.shape[:2]
        box = box_of(self.protocol.size, width, height)
        for scale in self.protocol.scales:
            if box is None and scale == 1:
                shown, factors = image, (1.0, 1.0)
            else:
                target = box or (width, height)
                target = max(1, round(target[0] * scale)), max(1, round(target[1] * scale))
                shown, factors = fit_image(image, *target)
                if box is not None:
                    shown = pad_image(shown, *target)
            views.append(_View(shown, factors, None))
            if self.protocol.flip:
                fitted = round(width * factors[0])
                mirrored = shown.copy()
                mirrored[:, :fitted] = shown[:, fitted - 1 :: -1]
                views.append(_View(mirrored, factors, width))
        return views

    def _select(self, faces: list[Faces]) -> Faces:
        """Detections above the threshold; those of several views are merged."""
        joined = faces[0] if len(faces) == 1 else merge_views(faces, self.protocol.nms, self.protocol.max_candidates)
        passed = joined.scores > self.protocol.score
        return (
            joined
            if passed.all()
            else Faces(*(part[passed] for part in (joined.boxes, joined.scores, joined.landmarks)))
        )


@dataclass(frozen=True)
class _View:
    """An image as it is shown. factors: shown / original, of width and height; mirror: original width if flipped."""

    image: Image
    factors: tuple[float, float]
    mirror: int | None

    def back(self, faces: Faces, mirror: Sequence[int] | None) -> Faces:
        """Faces of the shown image in pixels of the original. Mirrored landmarks change places as `mirror` says."""
        scale = np.array(self.factors, np.float32)
        boxes, landmarks = faces.boxes / np.tile(scale, 2), faces.landmarks / scale
        if self.mirror is not None:
            boxes = np.stack([self.mirror - boxes[:, 2], boxes[:, 1], self.mirror - boxes[:, 0], boxes[:, 3]], 1)
            if mirror is None or len(mirror) != landmarks.shape[1]:
                landmarks = np.full_like(landmarks, np.nan)  # which point is which side is not known
            else:
                landmarks = np.stack([self.mirror - landmarks[..., 0], landmarks[..., 1]], -1)[:, list(mirror)]
        return Faces(boxes.astype(np.float32), faces.scores, landmarks.astype(np.float32))


def merge_views(views: Sequence[Faces], threshold: float, max_candidates: int) -> Faces:
    """Faces of several views of an image as one list, best first.

    The best of overlapping detections stays (IoU > threshold), with its score; its box becomes the mean, weighted by
    score, of all that overlap it so (box voting). Landmarks are its own, or those of the best that has any.
    """
    boxes = np.concatenate([faces.boxes for faces in views])
    scores = np.concatenate([faces.scores for faces in views])
    landmarks = np.concatenate([faces.landmarks for faces in views])
    order = np.argsort(-scores, kind="stable")[:max_candidates]
    boxes, scores, landmarks = boxes[order], scores[order], landmarks[order]
    kept = nms(boxes, scores, threshold)
    merged, points = boxes[kept].copy(), landmarks[kept].copy()
    known = ~np.isnan(landmarks).any((1, 2))
    for row, index in enumerate(kept):
        overlap = box_iou(boxes[index : index + 1], boxes)[0]
        overlap[index] = 1  # an empty box overlaps nothing, not even itself
        group = overlap > threshold
        weight = np.maximum(scores[group], 1e-9)[:, None]
        merged[row] = (boxes[group] * weight).sum(0) / weight.sum()
        if not known[index] and (group & known).any():
            points[row] = landmarks[np.flatnonzero(group & known)[0]]
    return Faces(merged, scores[kept], points)
