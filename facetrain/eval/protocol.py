"""How images are shown to a detector and which detections count: the protocol that stands beside every AP."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facetrain.core.boxes import box_iou, nms
from facetrain.core.documents.common import ProtocolDocument
from facetrain.core.errors import UsageError
from facetrain.core.faces import Detector, Faces, Image
from facetrain.detect.views import AUTO, View, box_of, shown_as

EVALUATOR_VERSION = 1  # raised when the same detections would give another number


@dataclass(frozen=True)
class EvalProtocol:
    """The rules of a measurement.

    size:           original, a number n (fit into n x n), vga (640x480, upright images 480x640), or WxH; auto: as often
                    as the sizes of faces ask for, see detect/passes.py
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
        if self.size == AUTO and self.scales != (1.0,):
            raise UsageError("`size` auto and `scales` exclude each other", "auto chooses the scales itself")
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

    def _views(self, image: Image) -> list[View]:
        views = []
        width = image.shape[1]
        for scale in self.protocol.scales:
            shown, factors = shown_as(image, self.protocol.size, scale)
            views.append(View(shown, factors))
            if self.protocol.flip:
                fitted = round(width * factors[0])
                mirrored = shown.copy()
                mirrored[:, :fitted] = shown[:, fitted - 1 :: -1]
                views.append(View(mirrored, factors, width))
        return views

    def _select(self, faces: list[Faces]) -> Faces:
        """Detections above the threshold; those of several views are merged."""
        joined = faces[0] if len(faces) == 1 else merge_views(faces, self.protocol.nms, self.protocol.max_candidates)
        return joined.chosen(joined.scores > self.protocol.score)


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
