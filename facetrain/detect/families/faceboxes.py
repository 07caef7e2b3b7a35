"""FaceBoxes: SSD at strides 32, 64, 128, with dense priors for small faces.

Outputs, under any names: loc (1, P, 4) and conf (1, P, 2). No landmarks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from facetrain.core.faces import Faces, Floats, Image
from facetrain.detect.decoding import (
    Grid,
    are_logits,
    by_columns,
    image_blob,
    prior_count,
    single,
    square_grid,
    ssd_faces,
)

NAME = "faceboxes"
# x, y (cells) and side (pixels) of the 21 priors of a cell of stride 32: 4 x 4, 2 x 2 and one, x running fastest
_DENSE = tuple((a / n, b / n, side) for n, side in ((4, 32.0), (2, 64.0)) for b in range(n) for a in range(n))
_FIRST = (*_DENSE, (0.5, 0.5, 128.0))


@dataclass(frozen=True)
class FaceBoxes:
    """Names of the outputs. logits: whether the classes are before the softmax."""

    loc: str
    conf: str
    logits: bool

    def prepare(self, image: Image, size: tuple[int, int] | None) -> Floats:
        """BGR minus the mean colour."""
        return image_blob(image, size, 32, mean=(104, 117, 123))

    def faces(self, outputs: Mapping[str, Floats], width: int, height: int, score: float) -> Faces:
        """Boxes that score at least `score`."""
        return ssd_faces(outputs, self.loc, self.conf, _grids(width, height), logits=self.logits, score=score)


def recognise(outputs: Mapping[str, Floats], width: int, height: int, metadata: Mapping[str, str]) -> FaceBoxes | None:
    """A FaceBoxes if these are the outputs of one on a (height, width) image, else None."""
    names = by_columns(outputs, 4, 2)
    pair = single(outputs[names[1]], 2) if names else None
    if pair is None or len(pair) != prior_count(_grids(width, height)):
        return None
    return FaceBoxes(names[0], names[1], are_logits(pair))


def _grids(width: int, height: int) -> list[Grid]:
    first = replace(square_grid(width, height, 32), cell=_FIRST)
    return [first, square_grid(width, height, 64, 256), square_grid(width, height, 128, 512)]
