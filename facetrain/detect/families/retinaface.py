"""RetinaFace: SSD with two priors a cell at strides 8, 16, 32.

Outputs, under any names: loc (1, P, 4), conf (1, P, 2), perhaps landms (1, P, 10); or one that joins them in that order
(1, P, 16). The classes may be before or after the softmax: a pair after it has the sum 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass

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

NAME = "retinaface"
_SIDES = {8: (16, 32), 16: (64, 128), 32: (256, 512)}  # stride -> sides of its priors, pixels


@dataclass(frozen=True)
class Parts:
    """Where loc, conf and landms stand: the output's name, its columns, and which of them."""

    loc: tuple[str, int, slice]
    conf: tuple[str, int, slice]
    landms: tuple[str, int, slice] | None


@dataclass(frozen=True)
class RetinaFace:
    """One file. logits: whether the classes are before the softmax."""

    parts: Parts
    logits: bool

    def prepare(self, image: Image, size: tuple[int, int] | None) -> Floats:
        """BGR minus the mean colour."""
        return image_blob(image, size, 32, mean=(104, 117, 123))

    def faces(self, outputs: Mapping[str, Floats], width: int, height: int, score: float) -> Faces:
        """Boxes that score at least `score`."""
        grids = _grids(width, height)
        count = prior_count(grids)

        def part(name: str, columns: int, which: slice) -> Floats:
            return shaped(outputs, name, count, columns)[:, which]

        scores = face_score(part(*self.parts.conf), logits=self.logits)
        passed = np.flatnonzero(scores >= score)
        centres, sides = priors_at(grids, passed)
        boxes = decode_ssd(centres, sides, part(*self.parts.loc)[passed])
        landmarks = np.zeros((len(passed), 0, 2), np.float32)
        if self.parts.landms is not None:
            landmarks = decode_ssd_points(centres, sides, part(*self.parts.landms)[passed])
        return Faces(boxes, scores[passed], landmarks)


def recognise(outputs: Mapping[str, Floats], width: int, height: int, metadata: Mapping[str, str]) -> RetinaFace | None:
    """A RetinaFace if these are the outputs of one on a (height, width) image, else None."""
    parts = _parts(outputs)
    if parts is None:
        return None
    name, columns, which = parts.conf
    rows = single(outputs[name], 2)
    if rows is None or rows.shape != (prior_count(_grids(width, height)), columns):
        return None
    return RetinaFace(parts, are_logits(rows[:, which]))


def _parts(outputs: Mapping[str, Floats]) -> Parts | None:
    everything = slice(None)
    if names := by_columns(outputs, 16):
        one = names[0]
        return Parts((one, 16, slice(0, 4)), (one, 16, slice(4, 6)), (one, 16, slice(6, 16)))
    if names := by_columns(outputs, 4, 2, 10):
        return Parts((names[0], 4, everything), (names[1], 2, everything), (names[2], 10, everything))
    if names := by_columns(outputs, 4, 2):
        return Parts((names[0], 4, everything), (names[1], 2, everything), None)
    return None


def _grids(width: int, height: int) -> list[Grid]:
    return [square_grid(width, height, stride, *sides) for stride, sides in _SIDES.items()]
