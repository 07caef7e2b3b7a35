"""CenterFace: four maps at stride 4, no priors: a face is where the heat is.

Outputs (1, C, h, w), under any names: heat C = 1, past the sigmoid; scale C = 2, then offset C = 2, both vertical
first; landmarks C = 10, as parts of the box, vertical first.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from facetrain.core.faces import Faces, Floats, Image
from facetrain.detect.decoding import all_single, image_blob, shaped

NAME = "centerface"
STRETCH = 32  # its own program stretches images to multiples of this, and so does facetrain
_STRIDE = 4


@dataclass(frozen=True)
class CenterFace:
    """Names of the maps."""

    heat: str
    scale: str
    offset: str
    landmarks: str

    def prepare(self, image: Image, size: tuple[int, int] | None) -> Floats:
        """RGB, 0 to 255."""
        return image_blob(image, size, STRETCH, rgb=True)

    def faces(self, outputs: Mapping[str, Floats], width: int, height: int, score: float) -> Faces:
        """Boxes that score at least `score`."""
        cells = _cells(width, height)
        heat = shaped(outputs, self.heat, 1, *cells)[0]
        row, column = np.nonzero(heat >= score)  # (N,) each
        scale, offset, landmarks = (
            shaped(outputs, name, channels, *cells)[:, row, column].T
            for name, channels in ((self.scale, 2), (self.offset, 2), (self.landmarks, 10))
        )
        centre = (np.stack([column, row], 1) + offset[:, ::-1] + np.float32(0.5)) * np.float32(_STRIDE)  # (N, 2): x, y
        size = np.exp(scale[:, ::-1]) * np.float32(_STRIDE)
        corner = centre - size / 2
        points = corner[:, None] + landmarks.reshape(-1, 5, 2)[..., ::-1] * size[:, None]
        boxes = np.concatenate([corner, corner + size], 1)
        return Faces(boxes.astype(np.float32), heat[row, column], points.astype(np.float32))


def recognise(outputs: Mapping[str, Floats], width: int, height: int, metadata: Mapping[str, str]) -> CenterFace | None:
    """A CenterFace if these are the outputs of one on a (height, width) image, else None."""
    maps = all_single(outputs, 3)
    if any(value.shape[1:] != _cells(width, height) for value in maps.values()):
        return None
    ordered = sorted(maps, key=lambda name: len(maps[name]))  # stable: scale and offset as they stand in the file
    return CenterFace(*ordered) if [len(maps[name]) for name in ordered] == [1, 2, 2, 10] else None


def _cells(width: int, height: int) -> tuple[int, int]:
    return -(-height // _STRIDE), -(-width // _STRIDE)
