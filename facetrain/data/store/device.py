"""All images in the memory of the device, from which a GPU gathers crops."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from facetrain.core.faces import Image, LabelledImage
from facetrain.data.crops import Crop
from facetrain.data.store.images import ImageStore, size_of, upload
from facetrain.data.view import FILL


class DeviceStore(ImageStore):
    """flat: (pixels, 4) uint8, all images one after the other; starts: where each begins."""

    place = "device"

    def __init__(
        self, images: Sequence[LabelledImage], pool: ThreadPoolExecutor, flat: Tensor, starts: Sequence[int]
    ) -> None:
        super().__init__(images, pool, flat.device)
        self.flat, self.starts = flat, starts

    def crops(self, crops: Sequence[Crop], size: int) -> Tensor:
        """See ImageStore."""
        plan = [
            [self.starts[c.image], *size_of(self.images[c.image]), c.left, c.top, c.side]  # of one crop
            for c in crops
        ]
        return gather_crops(self.flat, upload(torch.tensor(plan), self.device), size)


class Resident:
    """Images as they arrive, in one (pixels, 4) uint8 tensor on the device, and where each one starts."""

    def __init__(self, pixels: int, device: torch.device) -> None:
        self.flat = torch.zeros((pixels, 4), dtype=torch.uint8, device=device)
        self.starts: list[int] = []
        self.end = 0

    def add(self, image: Image) -> None:
        """Copy the next image there; none of it stays in RAM."""
        count = image.shape[0] * image.shape[1]
        self.flat[self.end : self.end + count, :3] = torch.from_numpy(image).to(self.flat.device).view(-1, 3)
        self.starts.append(self.end)
        self.end += count


def gather_crops(flat: Tensor, plan: Tensor, size: int) -> Tensor:
    """Bilinear crops from resident pixels, on any device.

    flat: (pixels, 4) uint8, B G R and one unused byte, images one after the other, row by row
    plan: (B, 6) int64: first pixel, width, height, left, top, side
    Returns (B, 3, size, size) float32, channels_last.
    """
    start, width, height, left, top, side = (plan[:, i, None] for i in range(6))
    # 64-bit positions: at 32 bits the weights of a 1,500 pixel window are off by 1e-4, a few hundredths of a grey level
    position = torch.arange(size, device=plan.device) + 0.5
    place = (position.double() * side.double() / size - 0.5).clamp(min=0)  # (B, size), pixels of the window
    low = place.floor().long()
    weight = (place - low).float()
    high = torch.minimum(low + 1, side - 1)
    pixels = flat.view(torch.int32)[:, 0]

    def rows(index: Tensor) -> tuple[Tensor, Tensor]:
        y = index + top
        return y, (y >= 0) & (y < height)

    def columns(index: Tensor) -> tuple[Tensor, Tensor]:
        x = index + left
        return x, (x >= 0) & (x < width)

    def tap(row: Tensor, column: Tensor) -> Tensor:
        (y, row_there), (x, column_there) = rows(row), columns(column)
        there = row_there[:, :, None] & column_there[:, None, :]  # (B, size, size)
        index = start[:, :, None] + y[:, :, None] * width[:, :, None] + x[:, None, :]
        values = pixels[torch.where(there, index, 0)].view(torch.uint8).view(-1, size, size, 4)[..., :3]
        return torch.where(there[..., None], values.float(), FILL)

    wx, wy = weight[:, None, :, None], weight[:, :, None, None]
    upper = tap(low, low) * (1 - wx) + tap(low, high) * wx
    lower = tap(high, low) * (1 - wx) + tap(high, high) * wx
    crops = upper * (1 - wy) + lower * wy  # (B, size, size, 3)
    return crops.permute(0, 3, 1, 2)
