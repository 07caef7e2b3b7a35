"""The objects that detection, evaluation and training exchange. Arrays only, no behaviour beyond their shape.

Legend used everywhere: B images, P priors, M faces of a batch (flat), F faces of an image, L landmarks, N detections.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from facetrain.core.documents.common import Face

Floats = NDArray[np.floating]  # float32; float64 where a file has more digits: result files, official ground truth
Image = NDArray[np.uint8]  # (H, W, 3), BGR


@dataclass(frozen=True)
class Faces:
    """Detections in one image, best first.

    boxes:     (N, 4) float32, xyxy pixels of the original image, not clipped to it
    scores:    (N,) float32, sigmoid(cls) * sigmoid(obj)
    landmarks: (N, L, 2) float32, x y pixels of the original image; L may be 0
    """

    boxes: Floats
    scores: Floats
    landmarks: Floats

    def __len__(self) -> int:
        return len(self.scores)

    @staticmethod
    def none(landmarks: int = 0) -> "Faces":
        """No face at all, with room for `landmarks` points a face."""
        return Faces(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, landmarks, 2), np.float32))

    def as_dicts(self) -> list[Face]:
        """One plain dictionary a face, as it stands in JSON; `landmarks` is None where the model has none."""
        return [
            {
                "box": [round(float(v), 3) for v in box],
                "score": round(float(score), 6),
                "landmarks": [[round(float(v), 3) for v in point] for point in points] if len(points) else None,
            }
            for box, score, points in zip(self.boxes, self.scores, self.landmarks, strict=True)
        ]


@dataclass(frozen=True)
class LabelledImage:
    """What a label file says of one image.

    path:      where the image lies
    name:      its name inside the data set, with forward slashes
    size:      (width, height) as the label file has it, or None where it does not say
    boxes:     (F, 4) float32, xyxy pixels
    landmarks: (F, L, 3) float32: x, y, weight; weight 0 where the point is missing
    ignore:    (F,) bool; such a face neither rewards nor punishes
    hidden:    (F, L) bool: points that are labelled, but not visible in the image; None: the labels do not tell
    scores:    (F,) float32, 0 … 1, where a detector gave the labels; None elsewhere
    source:    which of the sets that are trained on together it is of, from 0
    """

    path: Path
    name: str
    size: tuple[int, int] | None
    boxes: Floats
    landmarks: Floats
    ignore: NDArray[np.bool_]
    hidden: NDArray[np.bool_] | None = None
    scores: Floats | None = None
    source: int = 0


@runtime_checkable
class Detector(Protocol):
    """Anything that finds faces: an ONNX file, a checkpoint, a model in training."""

    def detect_batch(self, images: Sequence[Image]) -> list[Faces]:
        """Find the faces of each image, (H, W, 3) uint8 BGR of any size, at its own size."""
        ...
