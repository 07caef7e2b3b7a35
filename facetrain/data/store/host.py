"""Images in RAM, in a mapped file, or read from disk anew each time.

A CPU cuts crops with OpenCV. A GPU gathers them from the windows of this batch, copied there from pinned memory while
the step before still works (batches.ahead).
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from facetrain.core.faces import Floats, Image, LabelledImage
from facetrain.core.images import opencv
from facetrain.data.crops import Crop
from facetrain.data.store.gather import gather_crops
from facetrain.data.store.images import ImageStore, size_of, upload
from facetrain.data.view import FILL


class HostStore(ImageStore):
    """kept: the pixels of every image, in RAM or mapped; None: they are decoded when they are asked for."""

    def __init__(
        self,
        images: Sequence[LabelledImage],
        pool: ThreadPoolExecutor,
        device: torch.device,
        kept: Sequence[Image] | None,
        place: str,
    ) -> None:
        super().__init__(images, pool, device)
        self.kept, self.place = kept, place

    def crops(
        self, crops: Sequence[Crop], size: int, *, here: bool = False, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """See ImageStore."""
        if self.device.type == "cuda":
            return gather_crops(*self.packed(crops), size, dtype)
        out = np.empty((len(crops), size, size, 3), np.float32)

        def one(index: int) -> None:
            cut(self.image(crops[index].image), crops[index], out[index])

        for _ in map(one, range(len(crops))) if here else self.pool.map(one, range(len(crops))):
            pass
        # (B, S, S, 3) seen as (B, 3, S, S) is channels_last already
        return torch.from_numpy(out).permute(0, 3, 1, 2).to(self.device, dtype, non_blocking=True)

    def image(self, index: int) -> Image:
        """An image's pixels, (H, W, 3) uint8 BGR."""
        return super().image(index) if self.kept is None else self.kept[index]

    def packed(self, crops: Sequence[Crop]) -> tuple[Tensor, Tensor]:
        """The rows that the crops need, on the device, and the plan to gather the crops from them.

        A band of whole rows is one piece of memory, and stands for its image: above and below it nothing is looked
        for. Returns (pixels, 4) uint8 and (B, 6) int64 as `gather_crops` takes them.
        """
        bands, plan, count = [], [], 0
        for crop in crops:
            width, height = size_of(self.images[crop.image])
            first, last = (min(max(y, 0), height) for y in (crop.top, crop.top + crop.side))
            bands.append((first, last, count))
            plan.append([count, width, last - first, crop.left, crop.top - first, crop.side])
            count += (last - first) * width
        pixels = torch.empty((max(1, count), 3), dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        view = pixels.numpy()

        def fill(i: int) -> None:
            first, last, start = bands[i]
            rows = self.image(crops[i].image)[first:last].reshape(-1, 3)
            view[start : start + len(rows)] = rows

        list(self.pool.map(fill, range(len(crops))))
        flat = torch.empty((len(pixels), 4), dtype=torch.uint8, device=self.device)
        flat[:, :3] = pixels.to(self.device, non_blocking=True)
        return flat, upload(torch.tensor(plan), self.device)


def cut(image: Image, crop: Crop, out: Floats) -> None:
    """Write one crop of an image into out, (S, S, 3) float32."""
    cv2 = opencv()
    height, width = image.shape[:2]
    left, top, side = crop.left, crop.top, crop.side
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    if (x2 - x1, y2 - y1) == (side, side):
        canvas = image[y1:y2, x1:x2].astype(np.float32)
    else:
        canvas = np.full((side, side, 3), FILL, np.float32)
        if x1 < x2 and y1 < y2:
            canvas[y1 - top : y2 - top, x1 - left : x2 - left] = image[y1:y2, x1:x2]
    out[:] = cv2.resize(canvas, (out.shape[1], out.shape[0]), interpolation=cv2.INTER_LINEAR)
