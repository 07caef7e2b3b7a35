"""Brightness, contrast, saturation, grey and blur of a crop."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torchvision.transforms.v2 import functional as tv

from facetrain.config.schema import ColourConfig
from facetrain.data.view import View


@dataclass(frozen=True)
class Colour:
    """Colour changes of one image; factor 1, False and 0 leave it as it is."""

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    grey: bool = False
    blur: float = 0.0  # sigma in pixels


def draw(rng: np.random.Generator, setting: ColourConfig) -> Colour | None:
    """Every number is drawn, whatever else is on: so the draws of one setting do not depend on another."""
    if setting == ColourConfig():
        return None  # these are the last of the crop's generator: who draws none of them disturbs nobody
    jitter = setting.jitter
    factors = rng.uniform(1 - jitter, 1 + jitter, size=3)
    grey, blurred, sigma = rng.random() < setting.grey, rng.random() < setting.blur, rng.uniform(0.5, 2.5)
    if jitter == 0:
        factors = np.ones(3)
    brightness, contrast, saturation = (float(factor) for factor in factors)
    colour = Colour(brightness, contrast, saturation, bool(grey), float(sigma) if blurred else 0.0)
    return None if colour == Colour() else colour


def apply(view: View, numbers: Colour) -> View:
    """The view in other colours; faces stay."""
    # torchvision means RGB in 0 … 1 when it weighs colours and clips
    rgb = view.image.flip(0) / 255
    if numbers.grey:
        rgb = tv.rgb_to_grayscale(rgb, num_output_channels=3)
    rgb = tv.adjust_brightness(rgb, numbers.brightness)
    rgb = tv.adjust_contrast(rgb, numbers.contrast)
    rgb = tv.adjust_saturation(rgb, numbers.saturation)
    if numbers.blur > 0:
        size = 2 * int(3 * numbers.blur + 0.5) + 1
        rgb = tv.gaussian_blur(rgb, [size, size], [numbers.blur, numbers.blur])
    return replace(view, image=torch.flip(rgb, [0]) * 255)
