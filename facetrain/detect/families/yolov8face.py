"""YOLOv8-face: raw maps (1, 80, h, w) for strides 8, 16, 32, or one decoded output (1, 20, P).

The 80 channels: four times 16 logits, whose expectation is the distance from the cell's middle to the left, top, right
and bottom side in strides; a score logit; five landmarks x, y, visibility. Decoded: centre, size, score, landmarks.
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

NAME = "yolov8face"
_STRIDES = (8, 16, 32)
_BINS = 16
_CHANNELS = 4 * _BINS + 1 + 15


@dataclass(frozen=True)
class Yolov8FaceRaw:
    """Names of the maps, smallest stride first."""

    maps: tuple[str, ...]

    def prepare(self, image: Image, size: tuple[int, int] | None) -> Floats:
        """RGB, 0 to 1."""
        return image_blob(image, size, 32, rgb=True, scale=1 / 255)

    def faces(self, outputs: Mapping[str, Floats], width: int, height: int, score: float) -> Faces:
        """Boxes that score at least `score`, stride by stride."""
        parts = []
        for stride, name in zip(_STRIDES, self.maps, strict=True):
            map_ = shaped(outputs, name, _CHANNELS, *_cells(width, height, stride))
            scores = sigmoid(map_[4 * _BINS])  # (h, w)
            row, column = np.nonzero(scores >= score)  # (N,) each
            raw = map_[:, row, column].T  # (N, 80)
            corner = np.stack([column, row], 1).astype(np.float32)  # (N, 2), in strides
            distances = _expectation(raw[:, : 4 * _BINS].reshape(-1, 4, _BINS))  # (N, 4)
            middle = corner + np.float32(0.5)
            boxes = np.concatenate([middle - distances[:, :2], middle + distances[:, 2:]], 1) * np.float32(stride)
            points = raw[:, 4 * _BINS + 1 :].reshape(-1, 5, 3)[..., :2]
            landmarks = (2 * points + corner[:, None]) * np.float32(stride)
            parts.append(Faces(boxes, scores[row, column], landmarks))
        return joined_faces(parts)


@dataclass(frozen=True)
class Yolov8FaceDecoded:
    """Name of the output."""

    output: str

    def prepare(self, image: Image, size: tuple[int, int] | None) -> Floats:
        """RGB, 0 to 1."""
        return image_blob(image, size, 32, rgb=True, scale=1 / 255)

    def faces(self, outputs: Mapping[str, Floats], width: int, height: int, score: float) -> Faces:
        """Boxes that score at least `score`."""
        columns = shaped(outputs, self.output, 20, _cell_total(width, height))
        found = columns[:, columns[4] >= score].T  # (N, 20)
        return Faces(centred_boxes(found[:, :4]), found[:, 4], found[:, 5:].reshape(-1, 5, 3)[..., :2])


def recognise(
    outputs: Mapping[str, Floats], width: int, height: int, metadata: Mapping[str, str]
) -> Yolov8FaceRaw | Yolov8FaceDecoded | None:
    """A YOLOv8-face if these are the outputs of one on a (height, width) image, else None."""
    if len(outputs) == 1:
        ((name, value),) = outputs.items()
        columns = single(value, 2)
        fits = columns is not None and columns.shape == (20, _cell_total(width, height))
        return Yolov8FaceDecoded(name) if fits else None
    maps = all_single(outputs, 3)
    ordered = sorted(maps, key=lambda name: -maps[name].size)
    wanted = [(_CHANNELS, *_cells(width, height, stride)) for stride in _STRIDES]
    return Yolov8FaceRaw(tuple(ordered)) if [maps[name].shape for name in ordered] == wanted else None


def _expectation(logits: Floats) -> Floats:
    """Mean bin of each distribution, (..., 16) logits to (...)."""
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    mean: Floats = (weights @ np.arange(_BINS, dtype=np.float32)) / weights.sum(-1)
    return mean


def _cells(width: int, height: int, stride: int) -> tuple[int, int]:
    return -(-height // stride), -(-width // stride)


def _cell_total(width: int, height: int) -> int:
    return sum(cell_count(width, height, stride) for stride in _STRIDES)
