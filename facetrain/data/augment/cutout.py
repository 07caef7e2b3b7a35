"""A rectangle of the crop erased, so that a face is found by what is left of it.

DeVries and Taylor, Improved Regularization of Convolutional Neural Networks with Cutout, 2017 (the fill is the mean);
Zhong et al., Random Erasing Data Augmentation, 2017 (a rectangle of random area and shape).
"""

import math
from dataclasses import replace

import numpy as np

from facetrain.config.schema import CutoutConfig
from facetrain.data.view import FILL, View

_SHAPES = 0.3, 1 / 0.3  # width / height, as Zhong et al.
# Benchmarks count faces of which half is hidden, so these are to be learnt. Covered more than this, hardly a third of a
# face is left: not enough to tell it by, and yet no background.
_TOO_MUCH = 0.7

Rectangle = tuple[float, float, float, float]  # x1 y1 x2 y2, 0 … 1 of the crop


def draw(rng: np.random.Generator, setting: CutoutConfig) -> Rectangle | None:
    """A rectangle of an area drawn evenly, anywhere inside the crop."""
    if rng.random() >= setting.chance:
        return None
    area = rng.uniform(*setting.area)
    # even in the logarithm, so that wide is as likely as tall; a share of more than 0.3 has fewer shapes that fit
    shape = math.exp(rng.uniform(math.log(max(_SHAPES[0], area)), math.log(min(_SHAPES[1], 1 / area))))
    width, height = math.sqrt(area * shape), math.sqrt(area / shape)
    left, top = rng.uniform(0, max(0.0, 1 - width)), rng.uniform(0, max(0.0, 1 - height))
    return left, top, left + width, top + height


def apply(view: View, numbers: Rectangle) -> View:
    """Fill the rectangle, in place, with the grey that lies outside of images, which is near their mean.

    Boxes and landmarks stay, also of what is covered: where a hidden eye is can be told from the rest of a face. A
    face of whose box more than 70 % is covered becomes an ignored region.
    """
    x1, y1, x2, y2 = (round(place * view.size) for place in numbers)
    view.image[:, y1:y2, x1:x2] = FILL
    low, high = view.boxes[:, :2].clip((x1, y1), (x2, y2)), view.boxes[:, 2:].clip((x1, y1), (x2, y2))
    covered = (high - low).prod(1)
    area = (view.boxes[:, 2:] - view.boxes[:, :2]).prod(1)
    return replace(view, ignore=view.ignore | (covered > _TOO_MUCH * area))
