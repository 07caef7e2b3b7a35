"""Faces of an image as WIDER FACE's evaluation takes them: its name, how many there are, and a line for each."""

import numpy as np

from facetrain.core.errors import DataError
from facetrain.core.faces import Faces

LARGEST = 1e100  # beyond it areas and differences of scores are no longer finite
# As many digits as give every double back: AP from files is AP from the detector, to the last digit.
_FORMAT = "%r %r %r %r %r\n"


def result_text(name: str, faces: Faces) -> str:
    """The file of an image. name: without suffix. Raises DataError where a number is not finite."""
    boxes, scores = faces.boxes.astype(np.float64), faces.scores.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        table = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2], scores[:, None]], axis=1)
    if not (np.abs(table) <= LARGEST).all():
        raise DataError(f"{name}: a detection that is not finite")
    return f"{name}.jpg\n{len(table)}\n" + _FORMAT * len(table) % tuple(table.ravel().tolist())
