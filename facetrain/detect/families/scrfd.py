"""SCRFD: a score map, a box map and perhaps a landmark map for each stride; the batch axis may be missing.

Three strides from 8 with two priors a cell, or five with one. Scores (P, 1) are past the sigmoid; boxes (P, 4) are the
distances left, top, right, bottom from the cell's corner in strides, landmarks (P, 10) offsets from it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from facetrain.core.faces import Faces, Floats, Image
from facetrain.detect.decoding import all_single, cell_count, cell_of, image_blob, joined_faces, shaped

NAME = "scrfd"
_PRIORS = {3: 2, 5: 1}  # number of strides -> priors a cell


@dataclass(frozen=True)
class Level:
    """Names of the outputs at one stride (pixels). `kps` is None without landmarks."""

    stride: int
    score: str
    box: str
    kps: str | None


@dataclass(frozen=True)
class Scrfd:
    """The levels of one file, smallest stride first, and the priors in each cell."""

    levels: tuple[Level, ...]
    priors: int

    def prepare(self, image: Image, size: tuple[int, int] | None) -> Floats:
        """RGB, about -1 to 1."""
        return image_blob(image, size, 32, rgb=True, mean=127.5, scale=1 / 128)

    def faces(self, outputs: Mapping[str, Floats], width: int, height: int, score: float) -> Faces:
        """Boxes that score at least `score`, level by level."""
        return joined_faces([self._decode(level, outputs, width, height, score) for level in self.levels])

    def _decode(self, level: Level, outputs: Mapping[str, Floats], width: int, height: int, score: float) -> Faces:
        stride, count = level.stride, self.priors * cell_count(width, height, level.stride)
        scores = shaped(outputs, level.score, count, 1)[:, 0]
        passed = np.flatnonzero(scores >= score)  # (N,)
        corner = cell_of(passed // self.priors, math.ceil(width / stride))  # (N, 2), in strides
        distances = shaped(outputs, level.box, count, 4)[passed]
        boxes = np.concatenate([corner - distances[:, :2], corner + distances[:, 2:]], 1) * np.float32(stride)
        landmarks: Floats = np.zeros((len(passed), 0, 2), np.float32)
        if level.kps is not None:
            points = shaped(outputs, level.kps, count, 10)[passed].reshape(-1, 5, 2)
            landmarks = (points + corner[:, None]) * np.float32(stride)
        return Faces(boxes, scores[passed], landmarks)


def recognise(outputs: Mapping[str, Floats], width: int, height: int, metadata: Mapping[str, str]) -> Scrfd | None:
    """An SCRFD if these are the outputs of one on a (height, width) image, else None.

    Names are often mere numbers and say nothing: outputs are told apart by their columns, strides by falling P.
    """
    rows = all_single(outputs, 2)
    # sorted() is stable: where two strides have one number of priors, their order in the file decides
    groups = {
        columns: sorted((name for name in rows if rows[name].shape[1] == columns), key=lambda name: -len(rows[name]))
        for columns in (1, 4, 10)
    }
    scores, boxes, kps = groups.values()
    levels, priors = len(scores), _PRIORS.get(len(scores))
    if priors is None or len(boxes) != levels or len(kps) not in (0, levels) or len(rows) != levels * 2 + len(kps):
        return None
    strides = [8 << level for level in range(levels)]
    counts = [priors * cell_count(width, height, stride) for stride in strides]
    if any([len(rows[name]) for name in group] != counts for group in (scores, boxes, kps) if group):
        return None
    points: list[str | None] = [*kps] or [None] * levels
    return Scrfd(tuple(map(Level, strides, scores, boxes, points)), priors)
