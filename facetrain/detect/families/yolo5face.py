"""YOLO5Face: raw maps (1, 3, h, w, 16) for each stride, or one decoded output (1, P, 16).

The 16 numbers: x y w h, objectness, five landmarks x y, class. Raw, nothing is past the sigmoid, and box and landmarks
are relative to an anchor; decoded, all are final. Files with a fourth stride ("P6") have anchors of their own.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from facetrain.core.faces import Faces, Floats, Image
from facetrain.detect.decoding import (
    all_single,
    cell_count,
    centred_boxes,
    image_blob,
    joined_faces,
    shaped,
    sigmoid,
    single,
)

NAME = "yolo5face"
# number of strides from 8 -> (width, height) of the three anchors of each, in pixels
_ANCHORS = {
    3: (
        ((4, 5), (8, 10), (13, 16)),
        ((23, 29), (43, 55), (73, 105)),
        ((146, 217), (231, 300), (335, 433)),
    ),
    4: (
        ((6, 7), (9, 11), (13, 16)),
        ((18, 23), (26, 33), (37, 47)),
        ((54, 67), (77, 104), (112, 154)),
        ((174, 238), (258, 355), (445, 568)),
    ),
}


@dataclass(frozen=True)
class Yolo5FaceRaw:
    """Names of the maps, smallest stride first."""

    maps: tuple[str, ...]

    def prepare(self, image: Image, size: tuple[int, int] | None) -> Floats:
        """RGB, 0 to 1."""
        return _prepare(image, size, len(self.maps))

    def faces(self, outputs: Mapping[str, Floats], width: int, height: int, score: float) -> Faces:
        """Boxes that score at least `score`, stride by stride."""
        anchors = _ANCHORS[len(self.maps)]
        parts = []
        for level, name in enumerate(self.maps):
            stride = 8 << level
            map_ = shaped(outputs, name, 3, *_cells(width, height, stride), 16)
            scores = sigmoid(map_[..., 4]) * sigmoid(map_[..., 15])  # (3, h, w)
            anchor, row, column = np.nonzero(scores >= score)  # (N,) each
            raw = map_[anchor, row, column]  # (N, 16)
            sides = np.array(anchors[level], np.float32)[anchor]  # (N, 2)
            corner = np.stack([column, row], 1).astype(np.float32)  # (N, 2), in strides
            centre = (2 * sigmoid(raw[:, :2]) - 0.5 + corner) * np.float32(stride)
            size = (2 * sigmoid(raw[:, 2:4])) ** 2 * sides
            points = raw[:, 5:15].reshape(-1, 5, 2) * sides[:, None] + (corner * np.float32(stride))[:, None]
            boxes = centred_boxes(np.concatenate([centre, size], 1))
            parts.append(Faces(boxes, scores[anchor, row, column], points))
        return joined_faces(parts)


@dataclass(frozen=True)
class Yolo5FaceDecoded:
    """Name of the output and the number of strides behind it."""

    output: str
    strides: int

    def prepare(self, image: Image, size: tuple[int, int] | None) -> Floats:
        """RGB, 0 to 1."""
        return _prepare(image, size, self.strides)

    def faces(self, outputs: Mapping[str, Floats], width: int, height: int, score: float) -> Faces:
        """Boxes that score at least `score`."""
        rows = shaped(outputs, self.output, _priors(width, height, self.strides), 16)
        scores = rows[:, 4] * rows[:, 15]  # the product, neither of the two alone
        passed = np.flatnonzero(scores >= score)
        found = rows[passed]
        return Faces(centred_boxes(found[:, :4]), scores[passed], found[:, 5:15].reshape(-1, 5, 2))


def recognise(
    outputs: Mapping[str, Floats], width: int, height: int, metadata: Mapping[str, str]
) -> Yolo5FaceRaw | Yolo5FaceDecoded | None:
    """A YOLO5Face if these are the outputs of one on a (height, width) image, else None."""
    if len(outputs) == 1:
        ((name, value),) = outputs.items()
        rows = single(value, 2)
        for strides in _ANCHORS:
            if rows is not None and rows.shape == (_priors(width, height, strides), 16):
                return Yolo5FaceDecoded(name, strides)
        return None
    maps = all_single(outputs, 4)
    ordered = sorted(maps, key=lambda name: -maps[name].size)
    wanted = [(3, *_cells(width, height, 8 << level), 16) for level in range(len(ordered))]
    if len(ordered) not in _ANCHORS or [maps[name].shape for name in ordered] != wanted:
        return None
    return Yolo5FaceRaw(tuple(ordered))


def _prepare(image: Image, size: tuple[int, int] | None, strides: int) -> Floats:
    return image_blob(image, size, 8 << (strides - 1), rgb=True, scale=1 / 255)


def _cells(width: int, height: int, stride: int) -> tuple[int, int]:
    return -(-height // stride), -(-width // stride)


def _priors(width: int, height: int, strides: int) -> int:
    return 3 * sum(cell_count(width, height, 8 << level) for level in range(strides))
