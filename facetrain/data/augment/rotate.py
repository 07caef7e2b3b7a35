"""A crop turned around its centre: by a small angle, or by right angles."""

import math

import numpy as np

from facetrain.config.schema import RotateConfig
from facetrain.core.faces import Floats
from facetrain.data.view import View, move


def draw(rng: np.random.Generator, setting: RotateConfig) -> float | None:
    """Degrees, counter-clockwise."""
    if rng.random() >= setting.chance:
        return None
    if setting.right_angles:
        return 90.0 * int(rng.integers(1, 4))
    return float(rng.uniform(-setting.degrees, setting.degrees))


def apply(view: View, numbers: float) -> View:
    """The view turned by `numbers` degrees, counter-clockwise; exactly, where that is a multiple of 90."""
    return move(view, rotation(numbers, view.size))


def rotation(degrees: float, size: int) -> Floats:
    """The map (2, 3) that turns a square of `size` pixels counter-clockwise; y points down."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    if degrees % 90 == 0:
        cosine, sine = round(cosine), round(sine)
    linear = np.array([[cosine, sine], [-sine, cosine]], np.float64)
    shift = size / 2 * (1 - linear.sum(1, keepdims=True))  # keeps the centre where it is
    return np.concatenate([linear, shift], 1).astype(np.float32)
