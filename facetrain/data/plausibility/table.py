"""All faces of a set in a few arrays, so that a rule is one expression over them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facetrain.core.faces import LabelledImage

Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]
Size = tuple[int, int]  # width, height


@dataclass(frozen=True)
class FaceTable:
    """N faces of all images one after the other. What is not known compares with nothing: it is NaN.

    boxes:     (N, 4) xyxy pixels as read, without area too
    sizes:     (N, 2) width and height of the image that a box belongs to
    landmarks: (N, L, 2) x y pixels; NaN where a point is missing
    ignore:    (N,) bool
    image:     (N,) index of the image
    face:      (N,) index of the face in its image
    """

    boxes: Doubles
    sizes: Doubles
    landmarks: Doubles
    ignore: Mask
    image: NDArray[np.int64]
    face: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def sides(self) -> Doubles:
        """(N, 2) width and height of the boxes; not above 0 where they have no area."""
        return self.boxes[:, 2:] - self.boxes[:, :2]

    @property
    def has_area(self) -> Mask:
        """(N,)."""
        area: Mask = np.all(self.sides > 0, axis=1)
        return area

    @property
    def relative(self) -> Doubles:
        """(N, L, 2) landmarks as shares of their box, 0 … 1 inside of it."""
        sides = np.where(self.has_area[:, None], self.sides, np.nan)
        relative: Doubles = (self.landmarks - self.boxes[:, None, :2]) / sides[:, None]
        return relative

    @property
    def with_landmarks(self) -> Mask:
        """(N,) faces that count and have at least one point."""
        any_point: Mask = np.any(np.isfinite(self.landmarks).all(-1), axis=-1)
        return any_point & ~self.ignore


def face_table(images: Sequence[LabelledImage], sizes: Mapping[str, Size]) -> FaceTable:
    """The faces of images. sizes: by the image's name; those of the labels go first, which boxes were made for."""
    counts = [len(image.boxes) for image in images]
    points = images[0].landmarks.shape[1] if images else 0
    known = [image.size or sizes.get(image.name) or (np.nan, np.nan) for image in images]
    none = np.zeros((0, points, 3))
    landmarks = np.concatenate([none, *(image.landmarks for image in images)])
    return FaceTable(
        boxes=np.concatenate([np.zeros((0, 4)), *(image.boxes for image in images)]),
        sizes=np.repeat(np.array(known, np.float64).reshape(-1, 2), counts, axis=0),
        landmarks=np.where(landmarks[..., 2:] > 0, landmarks[..., :2], np.nan),
        ignore=np.concatenate([np.zeros(0, bool), *(image.ignore for image in images)]),
        image=np.repeat(np.arange(len(images)), counts),
        face=np.concatenate([np.zeros(0, np.int64), *map(np.arange, counts)]),
    )
