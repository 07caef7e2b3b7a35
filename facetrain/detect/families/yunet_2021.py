"""YuNet of 2021 and 2022: SSD at strides 8, 16, 32, 64.

Outputs, under any names: loc (P, 14), box and five landmarks; conf (P, 2); iou (P, 1). The score is the root of the
face's probability times the IoU that the network expects.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from facetrain.core.faces import Faces, Floats, Image
from facetrain.detect.decoding import (
    Grid,
    are_logits,
    by_columns,
    decode_ssd,
    decode_ssd_points,
    face_score,
    image_blob,
    prior_count,
    priors_at,
    shaped,
    single,
    square_grid,
)

NAME = "yunet_2021"
_SIDES = {8: (10, 16, 24), 16: (32, 48), 32: (64, 96), 64: (128, 192, 256)}  # stride -> sides of its priors, pixels


@dataclass(frozen=True)
class YuNet2021:
    """Names of the outputs. logits: whether the classes are before the softmax."""

    loc: str
    conf: str
    iou: str
    logits: bool

    def prepare(self, image: Image, size: tuple[int, int] | None) -> Floats:
        """BGR, 0 to 255."""
        return image_blob(image, size, 32)

    def faces(self, outputs: Mapping[str, Floats], width: int, height: int, score: float) -> Faces:
        """Boxes that score at least `score`."""
        conf = single(outputs[self.conf], 2)
        grids = _grids(width, height, -1 if conf is None else len(conf))
        count = prior_count(grids)
        certain = face_score(shaped(outputs, self.conf, count, 2), logits=self.logits)
        scores = np.sqrt(np.clip(certain, 0, None) * np.clip(shaped(outputs, self.iou, count, 1)[:, 0], 0, 1))
        passed = np.flatnonzero(scores >= score)
        centres, sides = priors_at(grids, passed)
        loc = shaped(outputs, self.loc, count, 14)[passed]
        landmarks = decode_ssd_points(centres, sides, loc[:, 4:])
        return Faces(decode_ssd(centres, sides, loc[:, :4]), scores[passed], landmarks)


def recognise(outputs: Mapping[str, Floats], width: int, height: int, metadata: Mapping[str, str]) -> YuNet2021 | None:
    """A YuNet of 2021 or 2022 if these are the outputs of one on a (height, width) image, else None."""
    names = by_columns(outputs, 14, 2, 1)
    pair = single(outputs[names[1]], 2) if names else None
    if pair is None or len(pair) != prior_count(_grids(width, height, len(pair))):
        return None
    return YuNet2021(names[0], names[1], names[2], are_logits(pair))


def _grids(width: int, height: int, priors: int) -> list[Grid]:
    """Cells that reach over the border, and failing that only whole ones: the first of these networks pool so."""
    grids = [square_grid(width, height, stride, *sides) for stride, sides in _SIDES.items()]
    whole = [replace(grid, columns=width // s, rows=height // s) for s, grid in zip(_SIDES, grids, strict=True)]
    return whole if prior_count(whole) == priors else grids
