"""The objects that detection, evaluation and training exchange: arrays, and what can be done with them.

Legend used everywhere: B images, P priors, M faces of a batch (flat), F faces of an image, L landmarks, N detections.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypedDict, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from facetrain.core.documents.common import Face

Floats = NDArray[np.floating]  # float32; float64 where a file has more digits: result files, official ground truth
Image = NDArray[np.uint8]  # (H, W, 3), BGR


class SupervisionFields(TypedDict):
    """What supervision's Detections is made of."""

    xyxy: Floats
    confidence: Floats
    class_id: NDArray[np.int64]
    tracker_id: NDArray[np.int64] | None
    data: dict[str, Floats]


@dataclass(frozen=True)
class Faces:
    """Detections in one image, best first.

    boxes:     (N, 4) float32, xyxy pixels of the original image, not clipped to it
    scores:    (N,) float32, sigmoid(cls) * sigmoid(obj)
    landmarks: (N, L, 2) float32, x y pixels of the original image; L may be 0
    ids:       (N,) int64, the same number for the same face in all frames of a video, -1 where it is not known;
                None where nobody followed them
    """

    boxes: Floats
    scores: Floats
    landmarks: Floats
    ids: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator["Faces"]:
        """Each face by itself, best first."""
        return (self.chosen(np.array([row])) for row in range(len(self)))

    def chosen(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> "Faces":
        """Some of them. rows: numbers, or (N,) bool."""
        if rows.dtype == np.bool_ and rows.all():
            return self
        ids = None if self.ids is None else self.ids[rows]
        return Faces(self.boxes[rows], self.scores[rows], self.landmarks[rows], ids)

    def at_least(self, score: float) -> "Faces":
        """Those that score as much."""
        return self.chosen(self.scores >= score)

    @staticmethod
    def none(landmarks: int = 0) -> "Faces":
        """No face at all, with room for `landmarks` points a face."""
        return Faces(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, landmarks, 2), np.float32))

    def draw(self, image: Image, names: Sequence[str] = ()) -> Image:
        """A copy of the image (H, W, 3) uint8 BGR with boxes, scores and landmarks. names: of the landmarks."""
        from facetrain.core.drawing import draw_faces

        return draw_faces(image, self, names)

    def crops(self, image: Image, margin: float = 0.3, size: int | None = None) -> list[Image]:
        """Each face cut out of its image (H, W, 3).

        margin: how much is added on each side, as a part of the face's sides; size: pixels of a square crop, black
        where it leaves the image. Without `size` a crop ends at the image's border; one of no pixels is left out.
        """
        from facetrain.core.align import cut_out, square_of, warped

        if size is not None:
            return [warped(image, square_of(box, margin, size), size) for box in self.boxes]
        return [crop for box in self.boxes if (crop := cut_out(image, box, margin)) is not None]

    def as_supervision(self) -> SupervisionFields:
        """What supervision's Detections takes: `supervision.Detections(**faces.as_supervision())`."""
        return {
            "xyxy": self.boxes.astype(np.float32),
            "confidence": self.scores.astype(np.float32),
            "class_id": np.zeros(len(self), np.int64),
            "tracker_id": self.ids,
            "data": {"landmarks": self.landmarks},
        }

    def as_dicts(self) -> list[Face]:
        """One plain dictionary a face, as it stands in JSON; `landmarks` is None where the model has none."""
        faces: list[Face] = [
            {
                "box": [round(float(v), 3) for v in box],
                "score": round(float(score), 6),
                "landmarks": [[round(float(v), 3) for v in point] for point in points] if len(points) else None,
            }
            for box, score, points in zip(self.boxes, self.scores, self.landmarks, strict=True)
        ]
        for face, number in zip(faces, () if self.ids is None else self.ids, strict=False):
            if number >= 0:
                face["id"] = int(number)
        return faces


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
