"""All images in the memory of the device, from which a GPU gathers crops."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from facetrain.core.faces import Image, LabelledImage
from facetrain.data.crops import Crop
from facetrain.data.store.gather import gather_crops
from facetrain.data.store.images import ImageStore, size_of, upload


class DeviceStore(ImageStore):
    """flat: (pixels, 4) uint8, all images one after the other; starts: where each begins."""

    place = "device"

    def __init__(
        self, images: Sequence[LabelledImage], pool: ThreadPoolExecutor, flat: Tensor, starts: Sequence[int]
    ) -> None:
        super().__init__(images, pool, flat.device)
        self.flat, self.starts = flat, starts

    def crops(
        self, crops: Sequence[Crop], size: int, *, here: bool = False, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """See ImageStore."""
        plan = [
            [self.starts[c.image], *size_of(self.images[c.image]), c.left, c.top, c.side]  # of one crop
            for c in crops
        ]
        return gather_crops(self.flat, upload(torch.tensor(plan), self.device), size, dtype)


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
