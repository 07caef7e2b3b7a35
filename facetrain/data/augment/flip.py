"""A mirrored crop: left becomes right, and landmarks of the two sides of a face change places."""

import numpy as np

from facetrain.data.view import View, move


def draw(rng: np.random.Generator, setting: float) -> bool | None:
    """True with the chance `setting`."""
    return True if rng.random() < setting else None


def apply(view: View, numbers: bool) -> View:
    """The mirrored view; `numbers` is True."""
    return move(view, np.array([[-1, 0, view.size], [0, 1, 0]], np.float32))
