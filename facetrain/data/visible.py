"""Labels without the points that are labelled where nobody sees them: behind a hand, on the far side of a face."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from facetrain.core.faces import LabelledImage


def visible_only(images: Sequence[LabelledImage]) -> list[LabelledImage]:
    """The same images, in which hidden points are missing. Labels that do not tell hidden points stay as they are."""
    return [_visible_only(image) for image in images]


def _visible_only(image: LabelledImage) -> LabelledImage:
    if image.hidden is None or not image.hidden.any():
        return image
    landmarks = image.landmarks.copy()
    landmarks[..., 2] = np.where(image.hidden, 0, landmarks[..., 2])
    return replace(image, landmarks=landmarks)
