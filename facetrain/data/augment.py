"""Colour changes on a whole batch, on any device. What changes was drawn with the crops (data/crops.py)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from facetrain.data.crops import Colour


def apply_colours(images: Tensor, colours: Sequence[Colour]) -> Tensor:
    """Change the pictures that have a colour change. images: (B, 3, S, S) float32 BGR 0 … 255, as is the result."""
    changed = [i for i, colour in enumerate(colours) if colour != Colour()]
    for i in changed:
        images[i] = _apply(images[i], colours[i])
    return images


def _apply(image: Tensor, colour: Colour) -> Tensor:
    # torchvision means RGB in 0 … 1 when it weighs colours and clips
    rgb = image.flip(0) / 255
    if colour.grey:
        rgb = tv.rgb_to_grayscale(rgb, num_output_channels=3)
    rgb = tv.adjust_brightness(rgb, colour.brightness)
    rgb = tv.adjust_contrast(rgb, colour.contrast)
    rgb = tv.adjust_saturation(rgb, colour.saturation)
    if colour.blur > 0:
        size = 2 * int(3 * colour.blur + 0.5) + 1
        rgb = tv.gaussian_blur(rgb, [size, size], [colour.blur, colour.blur])
    return torch.flip(rgb, [0]) * 255
