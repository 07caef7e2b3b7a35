"""YuNet of 2023 and later, every size of it: two score maps, boxes and landmarks for each stride.

The outputs of a level with P priors: cls and obj (1, P, 1), both already past the sigmoid, bbox (1, P, 4) and kps
(1, P, 2L), raw. A net without landmarks has no kps.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from facetrain.core.faces import Faces, Floats, Image
from facetrain.detect.decoding import (
    LARGEST_STRIDE,
    cell_count,
    cell_of,
    image_blob,
    joined_faces,
    shaped,
    single,
    stored_strides,
)

NAME = "yunet"
_OUTPUT = re.compile(r"(cls|obj|bbox|kps)_(\d+)")


@dataclass(frozen=True)
class Level:
    """Which output is which at one stride (pixels). `kps` is None without landmarks."""

    stride: int
    cls: str
    obj: str
    bbox: str
    kps: str | None


@dataclass(frozen=True)
class YuNet:
    """The levels of one file, smallest stride first, and its number of landmarks."""

    levels: tuple[Level, ...]
    landmarks: int

    def prepare(self, image: Image, size: tuple[int, int] | None) -> Floats:
        """(H, W, 3) uint8 BGR as (1, 3, h, w) float32, values as they are, black at the right and the bottom.

        (w, h) is `size`, or the next multiples of the largest stride.
        """
        return image_blob(image, size, self.levels[-1].stride)

    def faces(self, outputs: Mapping[str, Floats], width: int, height: int, score: float) -> Faces:
        """Boxes that score at least `score`, level by level and row by row, in pixels of the (height, width) input."""
        return joined_faces([self._decode(level, outputs, width, height, score) for level in self.levels])

    def _decode(self, level: Level, outputs: Mapping[str, Floats], width: int, height: int, score: float) -> Faces:
        priors = cell_count(width, height, level.stride)
        scores = (shaped(outputs, level.cls, priors, 1) * shaped(outputs, level.obj, priors, 1))[:, 0]  # (P,)
        # Decode what passes the threshold and nothing else: all priors cost more than half the network's own time.
        passed = np.flatnonzero(scores >= score)  # (N,)
        stride = np.float32(level.stride)
        corner = cell_of(passed, -(-width // level.stride)) * stride  # (N, 2): the prior is its cell's top left corner
        raw = shaped(outputs, level.bbox, priors, 4)[passed]  # (N, 4)
        centre = corner + raw[:, :2] * stride
        half = np.exp(raw[:, 2:]) * (stride / 2)
        landmarks = np.zeros((len(passed), 0, 2), np.float32)
        if level.kps is not None:
            points = shaped(outputs, level.kps, priors, 2 * self.landmarks)[passed]  # (N, 2L)
            landmarks = points.reshape(len(points), self.landmarks, 2) * stride + corner[:, None]
        boxes = np.concatenate([centre - half, centre + half], 1)
        return Faces(boxes, scores[passed], landmarks)


def recognise(outputs: Mapping[str, Floats], width: int, height: int, metadata: Mapping[str, str]) -> YuNet | None:
    """A YuNet if these are the outputs of one on a (height, width) image, else None."""
    rows = {name: single(value, 2) for name, value in outputs.items()}
    shapes = {name: () if value is None else value.shape for name, value in rows.items()}
    levels = _levels_by_name(shapes) or _levels_by_shape(shapes, width, height, metadata)
    if not levels:
        return None
    levels.sort(key=lambda level: level.stride)
    strides = [level.stride for level in levels]
    powers = strides[0] & (strides[0] - 1) == 0 and all(b == 2 * a for a, b in pairwise(strides))
    numbers = {shapes[level.kps][1] if level.kps else 0 for level in levels}
    if not powers or strides[-1] > LARGEST_STRIDE or len(numbers) != 1 or min(numbers) % 2:
        return None
    fits = all(_fits(level, shapes, width, height) for level in levels)
    return YuNet(tuple(levels), min(numbers) // 2) if fits else None


def _levels_by_name(shapes: Mapping[str, tuple[int, ...]]) -> list[Level]:
    """Levels of outputs named cls_8, obj_8, bbox_8, kps_8 and so on; empty unless every output is."""
    matches = [_OUTPUT.fullmatch(name) for name in shapes]
    if not all(matches):
        return []
    strides = sorted({int(match[2]) for match in matches if match})
    levels = [
        Level(s, f"cls_{s}", f"obj_{s}", f"bbox_{s}", f"kps_{s}" if f"kps_{s}" in shapes else None) for s in strides
    ]
    return levels if all({v.cls, v.obj, v.bbox} <= shapes.keys() for v in levels) and 0 not in strides else []


def _levels_by_shape(
    shapes: Mapping[str, tuple[int, ...]], width: int, height: int, metadata: Mapping[str, str]
) -> list[Level]:
    """Levels of outputs under any names: two maps of one channel, the boxes, perhaps landmarks, for each P.

    cls and obj may change places, since only their product counts; where landmarks have four numbers too, the boxes
    come first.
    """
    strides = stored_strides(metadata) or [1 << power for power in range(2, 9)]
    levels = []
    for priors in {shape[0] for shape in shapes.values() if shape}:
        group = [name for name, shape in shapes.items() if shape and shape[0] == priors]
        one = [name for name in group if shapes[name][1] == 1]
        four = [name for name in group if shapes[name][1] == 4]
        wide = [name for name in group if name not in one and name not in four]
        rest = four[1:] + wide
        stride = next((s for s in strides if cell_count(width, height, s) == priors), None)
        if len(one) != 2 or not four or len(rest) > 1 or stride is None:
            return []
        levels.append(Level(stride, one[0], one[1], four[0], rest[0] if rest else None))
    return levels if sum(4 if level.kps else 3 for level in levels) == len(shapes) else []


def _fits(level: Level, shapes: Mapping[str, tuple[int, ...]], width: int, height: int) -> bool:
    priors = cell_count(width, height, level.stride)
    wanted = [(level.cls, 1), (level.obj, 1), (level.bbox, 4)]
    if not all(shapes[name] == (priors, channels) for name, channels in wanted):
        return False
    return level.kps is None or shapes[level.kps][:1] == (priors,)
