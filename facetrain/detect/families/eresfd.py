"""EResFD and other detectors in the manner of S3FD: SSD with one prior a cell at six strides from 4 to 128.

Outputs, under any names: loc (1, P, 4) and conf (1, P, 2). No landmarks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

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

NAME = "eresfd"
_STRIDES = (4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class EResFD:
    """Names of the outputs. logits: whether the classes are before the softmax."""

    loc: str
    conf: str
    logits: bool

    def prepare(self, image: Image, size: tuple[int, int] | None) -> Floats:
        """RGB minus the mean colour."""
        return image_blob(image, size, 32, rgb=True, mean=(123, 117, 104))

    def faces(self, outputs: Mapping[str, Floats], width: int, height: int, score: float) -> Faces:
        """Boxes that score at least `score`."""
        return ssd_faces(outputs, self.loc, self.conf, _grids(width, height), logits=self.logits, score=score)


def recognise(outputs: Mapping[str, Floats], width: int, height: int, metadata: Mapping[str, str]) -> EResFD | None:
    """An EResFD if these are the outputs of one on a (height, width) image, else None."""
    names = by_columns(outputs, 4, 2)
    pair = single(outputs[names[1]], 2) if names else None
    if pair is None or len(pair) != prior_count(_grids(width, height)):
        return None
    return EResFD(names[0], names[1], are_logits(pair))


def _grids(width: int, height: int) -> list[Grid]:
    return [square_grid(width, height, stride, 4 * stride) for stride in _STRIDES]
