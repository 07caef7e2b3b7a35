"""BlazeFace, front (128 x 128) and back (256 x 256), as it leaves the network: no suppression inside.

Outputs, under any names: boxes (1, 896, 16), centre, size and six points (eye, eye, nose, mouth, ear, ear) as offsets
in pixels from the prior's centre; scores (1, 896, 1), logits.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from facetrain.core.faces import Faces, Floats, Image
from facetrain.detect.decoding import (
    Grid,
    by_columns,
    centred_boxes,
    image_blob,
    priors_at,
    shaped,
    sigmoid,
    single,
)

NAME = "blazeface"
LANDMARKS = ("right_eye", "left_eye", "nose", "mouth", "right_ear", "left_ear")
_CELLS = {16: 2, 8: 6}  # cells along each side -> priors in each
_PRIORS = 896
_MOST_LOGIT = 100.0


@dataclass(frozen=True)
class BlazeFace:
    """Names of the outputs."""

    boxes: str
    scores: str

    def prepare(self, image: Image, size: tuple[int, int] | None) -> Floats:
        """RGB, -1 to 1."""
        return image_blob(image, size, 32, rgb=True, mean=127.5, scale=1 / 127.5)

    def faces(self, outputs: Mapping[str, Floats], width: int, height: int, score: float) -> Faces:
        """Boxes that score at least `score`."""
        grids = [Grid(n, n, (width / n, height / n), ((0.5, 0.5, 0.0),) * count) for n, count in _CELLS.items()]
        logits = shaped(outputs, self.scores, _PRIORS, 1)[:, 0]
        scores = sigmoid(np.clip(logits, -_MOST_LOGIT, _MOST_LOGIT))
        passed = np.flatnonzero(scores >= score)
        centres, _ = priors_at(grids, passed)
        raw = shaped(outputs, self.boxes, _PRIORS, 16)[passed]
        boxes = centred_boxes(np.concatenate([centres + raw[:, :2], raw[:, 2:4]], 1))
        return Faces(boxes, scores[passed], raw[:, 4:].reshape(-1, 6, 2) + centres[:, None])


def recognise(outputs: Mapping[str, Floats], width: int, height: int, metadata: Mapping[str, str]) -> BlazeFace | None:
    """A BlazeFace if these are the outputs of one, else None."""
    names = by_columns(outputs, 16, 1)
    boxes = single(outputs[names[0]], 2) if names else None
    return BlazeFace(*names) if boxes is not None and len(boxes) == _PRIORS else None
