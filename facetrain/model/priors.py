"""Priors and the coding of boxes and landmarks relative to them (spec: prior at its cell's top left corner).

The torch twin of what detect/families/yunet.py does in NumPy.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

# exp of a wild raw size would be infinite and its loss NaN; e^10 strides is beyond any image
MAX_LOG_SIZE = 10.0


def make_priors(height: int, width: int, strides: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """Priors of an image, (P, 3) float32: x, y of the cell's corner, stride. Finest level first, row by row."""
    levels = []
    for stride in strides:
        y, x = torch.meshgrid(
            torch.arange(height // stride, device=device) * stride,
            torch.arange(width // stride, device=device) * stride,
            indexing="ij",
        )
        levels.append(torch.stack([x, y, torch.full_like(x, stride)], dim=-1).reshape(-1, 3))
    return torch.cat(levels).float()


def decode_boxes(offsets: Tensor, priors: Tensor) -> Tensor:
    """Boxes from the network's numbers.

    offsets: (…, P, 4): centre from the prior in strides, log of the sides in strides; priors: (P, 3).
    Returns (…, P, 4) xyxy pixels, not clipped to the image.
    """
    stride = priors[:, 2:]
    centre = priors[:, :2] + offsets[..., :2] * stride
    half = 0.5 * stride * offsets[..., 2:].clamp(max=MAX_LOG_SIZE).exp()
    return torch.cat([centre - half, centre + half], dim=-1)


def decode_landmarks(offsets: Tensor, priors: Tensor) -> Tensor:
    """Landmarks in pixels. offsets: (…, P, L, 2) from the prior in strides; priors: (P, 3)."""
    return priors[:, None, :2] + offsets * priors[:, None, 2:]


def encode_landmarks(points: Tensor, priors: Tensor) -> Tensor:
    """Inverse of `decode_landmarks`. points: (…, P, L, 2) pixels."""
    return (points - priors[:, None, :2]) / priors[:, None, 2:]
