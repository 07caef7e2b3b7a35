"""Faces of any size, by several looks at an image: see passes.py for which, and why."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facetrain.core.boxes import nms
from facetrain.core.faces import Detector, Faces, Floats, Image
from facetrain.core.images import opencv
from facetrain.detect.face_range import FaceRange
from facetrain.detect.passes import Look, Plan, Tile, plan_looks, tiles_of


@dataclass(frozen=True)
class AnySize:
    """A Detector that looks at an image as often as its faces' sizes ask for.

    detector:     looks once, at an image's own size
    faces:        the sizes that it finds, in pixels of what it is shown
    nms:          IoU above which the weaker of two detections of different looks goes
    min_face:     the smallest face to look for, pixels of the original; None: as small as a bounded cost allows
    static_shape: (width, height) where the detector's file takes no other
    """

    detector: Detector
    faces: FaceRange
    nms: float
    min_face: float | None = None
    static_shape: tuple[int, int] | None = None

    def plan(self, width: int, height: int) -> Plan:
        """How an image of width x height is looked at."""
        return plan_looks(width, height, self.faces, self.min_face, self.static_shape)

    def detect_batch(self, images: Sequence[Image]) -> list[Faces]:
        """Faces of each image, (H, W, 3) uint8 BGR of any size."""
        return [self.detect(image, self.plan(image.shape[1], image.shape[0])) for image in images]

    def detect(self, image: Image, plan: Plan, reduced: int = 1) -> Faces:
        """Faces of one image by a plan, in pixels of the original.

        image: (H, W, 3) uint8 BGR, at 1 / reduced of the size that the plan is for
        """
        height, width = image.shape[:2]
        found = []
        source = image
        for look in plan.looks:
            size = max(1, round(width * reduced * look.scale)), max(1, round(height * reduced * look.scale))
            factors = np.array(size, np.float32) / (width * reduced, height * reduced)  # shown / original
            tiles = tiles_of(*size, self.static_shape)
            if len(tiles) == 1:
                source = resized(source, *size)  # the next look is made from it: it has to read less
                parts = [_scaled(self.detector.detect_batch([source])[0], 1 / factors)]
            else:
                parts = [_scaled(self._of_tile(image, factors * reduced, tile), 1 / factors) for tile in tiles]
            found.append(_answered(joined(parts, self.nms), look))
        return joined(found, self.nms)

    def _of_tile(self, image: Image, factors: Floats, tile: Tile) -> Faces:
        """Faces of a tile, in pixels of the shown image. factors: shown / `image`, of width and height."""
        height, width = image.shape[:2]
        low = np.floor(np.array([tile.left, tile.top]) / factors).astype(int)
        high = np.minimum(np.ceil(np.array([tile.right, tile.bottom]) / factors).astype(int), (width, height))
        part = image[low[1] : high[1], low[0] : high[0]]
        new = np.maximum(1, np.round((high - low) * factors).astype(int))
        faces = self.detector.detect_batch([resized(part, *new)])[0]
        exact = new / (high - low) / factors  # as it was rounded to whole pixels
        faces = _moved(_scaled(faces, 1 / exact), low * factors)
        centres = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2
        left, top, right, bottom = tile.core
        inside = ((centres >= (left, top)) & (centres < (right, bottom))).all(1)
        return faces.chosen(np.flatnonzero(inside))


def joined(parts: Sequence[Faces], threshold: float) -> Faces:
    """Faces of several looks as one list, best first; of two that overlap by a higher IoU only the better stays.

    Measured against box voting, and against dropping boxes inside larger ones: within noise of both, and simpler.
    """
    if len(parts) == 1:
        return parts[0]
    boxes, scores, landmarks = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("boxes", "scores", "landmarks")
    )
    kept = nms(boxes, scores, threshold)
    return Faces(boxes[kept], scores[kept], landmarks[kept])


def _answered(faces: Faces, look: Look) -> Faces:
    """Those that the look answers for."""
    sides: Floats = np.min(faces.boxes[:, 2:] - faces.boxes[:, :2], axis=1)
    return faces.chosen(np.flatnonzero((sides >= look.least) & (sides < look.most)))


def _scaled(faces: Faces, factors: Floats) -> Faces:
    """factors: (2,) of x and y."""
    if (factors == 1).all():
        return faces
    boxes, landmarks = faces.boxes * np.tile(factors, 2), faces.landmarks * factors
    return Faces(boxes.astype(np.float32), faces.scores, landmarks.astype(np.float32))


def _moved(faces: Faces, by: Floats) -> Faces:
    """by: (2,) x and y."""
    boxes, landmarks = faces.boxes + np.tile(by, 2), faces.landmarks + by
    return Faces(boxes.astype(np.float32), faces.scores, landmarks.astype(np.float32))


def resized(image: Image, width: int, height: int) -> Image:
    """An image in another size; made far smaller by means of all that falls into a pixel, so that nothing is skipped.

    Down to a half, where a line between neighbours takes in every pixel, it takes a fifth of the time.
    """
    if image.shape[:2] == (height, width):
        return image
    cv2 = opencv()
    smaller = min(width / image.shape[1], height / image.shape[0]) < 0.49  # sides are rounded
    shown: Image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    return shown
