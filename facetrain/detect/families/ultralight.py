"""Ultra-Light, RFB and slim: SSD at strides 8, 16, 32, 64.

Outputs, under any names: scores (1, P, 2) and boxes (1, P, 4), which are final corners as fractions of the image in
most files and offsets from the priors in those "without post-processing". No landmarks.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from facetrain.core.faces import Faces, Floats, Image
from facetrain.detect.decoding import (
    Grid,
    are_logits,
    by_columns,
    decode_ssd,
    face_score,
    image_blob,
    prior_count,
    priors_at,
    shaped,
    single,
    without_landmarks,
)

NAME = "ultralight"
_SIDES = {8: (10, 16, 24), 16: (32, 48), 32: (64, 96), 64: (128, 192, 256)}  # stride -> sides of its priors, pixels


@dataclass(frozen=True)
class UltraLight:
    """Names of the outputs. decoded: whether boxes are corners; logits: whether the classes are before the softmax."""

    boxes: str
    conf: str
    decoded: bool
    logits: bool

    def prepare(self, image: Image, size: tuple[int, int] | None) -> Floats:
        """RGB, about -1 to 1."""
        return image_blob(image, size, 32, rgb=True, mean=127, scale=1 / 128)

    def faces(self, outputs: Mapping[str, Floats], width: int, height: int, score: float) -> Faces:
        """Boxes that score at least `score`."""
        grids = _grids(width, height)
        count = prior_count(grids)
        scores = face_score(shaped(outputs, self.conf, count, 2), logits=self.logits)
        passed = np.flatnonzero(scores >= score)
        numbers = shaped(outputs, self.boxes, count, 4)[passed]
        whole = np.array([width, height], np.float32)
        if self.decoded:
            return without_landmarks(numbers * np.tile(whole, 2), scores[passed])
        centres, sides = priors_at(grids, passed)
        # Cut to the image as the network learned them: a prior of 256 on 240 rows is 240 high.
        boxes = decode_ssd(np.minimum(centres, whole), np.minimum(sides, whole), numbers)
        return without_landmarks(boxes, scores[passed])


def recognise(outputs: Mapping[str, Floats], width: int, height: int, metadata: Mapping[str, str]) -> UltraLight | None:
    """An Ultra-Light if these are the outputs of one on a (height, width) image, else None."""
    names = by_columns(outputs, 4, 2)
    if not names:
        return None
    boxes, pair = (single(outputs[name], 2) for name in names)
    if boxes is None or pair is None or len(pair) != prior_count(_grids(width, height)):
        return None
    return UltraLight(names[0], names[1], _are_corners(boxes), are_logits(pair))


def _are_corners(boxes: Floats) -> bool:
    """Whether (P, 4) numbers are corners x1 y1 x2 y2 as fractions: offsets break the order in many of their rows."""
    ordered = bool((boxes[:, :2] <= boxes[:, 2:]).all())
    return ordered and float(np.abs(boxes - 0.5).max()) < 2


def _grids(width: int, height: int) -> list[Grid]:
    """The cells of a stride divide the image evenly: four rows of 240 are 60 apart, not 64."""
    grids = []
    for stride, sides in _SIDES.items():
        columns, rows = math.ceil(width / stride), math.ceil(height / stride)
        cell = tuple((0.5, 0.5, float(side)) for side in sides)
        grids.append(Grid(columns, rows, (width / columns, height / rows), cell))
    return grids
