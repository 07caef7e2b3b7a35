"""Decoded pictures, and square crops of them: kept on the device, in RAM, or read anew each time.

All three give the same crops: bilinear, half-pixel centres, no antialiasing, float32 without rounding, 128 outside.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from facetrain.core.errors import DataError
from facetrain.core.faces import Image, LabelledImage
from facetrain.core.hardware import available_cores, free_memory
from facetrain.core.images import opencv, read_image
from facetrain.data.crops import Crop

log = logging.getLogger(__name__)

FILL = 128.0  # what lies outside the picture
_SHARE = 0.6  # of the free memory that pictures may take


@dataclass(frozen=True)
class Broken:
    """A picture that cannot be used, and why."""

    picture: LabelledImage
    reason: str


class ImageStore:
    """The pictures of a training set by index. Make one with `open_store`."""

    def __init__(self, pictures: Sequence[LabelledImage], workers: int, device: torch.device) -> None:
        self.pictures = list(pictures)
        self.device = device
        self.kept: list[Image | None] = [None] * len(self.pictures)
        self.flat: Tensor | None = None  # all pictures as one row of 4-byte pixels on the device
        self.starts = torch.zeros(0)
        # one OpenCV thread each: the pool is the parallelism, OpenCV's own threads would fight it
        self.pool = ThreadPoolExecutor(workers, "pictures", initializer=lambda: opencv().setNumThreads(1))

    @property
    def place(self) -> str:
        """Where the pixels are: device, ram or disk."""
        if self.flat is not None:
            return "device"
        return "ram" if any(image is not None for image in self.kept) else "disk"

    def crops(self, crops: Sequence[Crop], size: int) -> Tensor:
        """Cut, resize and flip: (B, 3, size, size) float32 BGR 0 … 255, channels_last, on the store's device."""
        if self.flat is not None:
            return self._device_crops(self.flat, crops, size)
        out = np.empty((len(crops), size, size, 3), np.float32)
        list(self.pool.map(lambda i: cut(self.image(crops[i].picture), crops[i], out[i]), range(len(crops))))
        # (B, S, S, 3) seen as (B, 3, S, S) is channels_last already
        return torch.from_numpy(out).permute(0, 3, 1, 2).to(self.device, non_blocking=True)

    def image(self, index: int) -> Image:
        """A picture's pixels, (H, W, 3) uint8 BGR; with no store they are decoded now."""
        kept = self.kept[index]
        return read_image(self.pictures[index].path) if kept is None else kept

    def _device_crops(self, flat: Tensor, crops: Sequence[Crop], size: int) -> Tensor:
        """The same crops by gathering from the resident pixels. flat: (all pixels, 4) uint8."""
        sizes = [self.pictures[crop.picture].size for crop in crops]
        plan = torch.tensor(
            [
                [self.starts[c.picture], s[0], s[1], c.left, c.top, c.side, c.flip]
                for c, s in zip(crops, sizes, strict=True)
                if s is not None
            ],
            dtype=torch.int64,
        ).to(self.device, non_blocking=True)
        return gather_crops(flat, plan, size)

    def close(self) -> None:
        """Stop the worker threads."""
        self.pool.shutdown(wait=False, cancel_futures=True)


def cut(image: Image, crop: Crop, out: np.ndarray) -> None:
    """Write one crop of a picture into out, (S, S, 3) float32."""
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
    resized = cv2.resize(canvas, (out.shape[1], out.shape[0]), interpolation=cv2.INTER_LINEAR)
    out[:] = resized[:, ::-1] if crop.flip else resized


def gather_crops(flat: Tensor, plan: Tensor, size: int) -> Tensor:
    """Bilinear crops from resident pixels, on any device.

    flat: (pixels, 4) uint8, B G R and one unused byte, pictures one after the other, row by row
    plan: (B, 7) int64: first pixel, width, height, left, top, side, flip
    Returns (B, 3, size, size) float32, channels_last.
    """
    start, width, height, left, top, side, flip = (plan[:, i, None] for i in range(7))
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
    crops = torch.where(flip[:, :, None, None].bool(), crops.flip(2), crops)
    return crops.permute(0, 3, 1, 2)


def open_store(
    pictures: Sequence[LabelledImage],
    place: str,
    workers: int | None,
    device: torch.device,
    max_broken: float,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[ImageStore, list[Broken]]:
    """Decode every picture once, keep the pixels where they fit, and leave broken pictures out.

    place: auto, device, ram or disk. Raises DataError where more than the share `max_broken` of the pictures is broken.
    """
    workers = workers or available_cores()
    place = choose_place(pictures, device) if place == "auto" else place
    store = ImageStore(pictures, workers, device)
    broken: list[Broken] = []
    good: list[LabelledImage] = []
    kept: list[Image | None] = []
    for done, (picture, image) in enumerate(zip(pictures, store.pool.map(_check, pictures), strict=True), 1):
        if isinstance(image, str):
            broken.append(Broken(picture, image))
        else:
            good.append(picture)
            kept.append(None if place == "disk" else image)
        if progress:
            progress(done, len(pictures))
    if broken:
        _judge(broken, len(pictures), max_broken)
    store.pictures, store.kept = good, kept
    if place == "device":
        store.flat, store.starts = _resident([image for image in kept if image is not None], device)
        store.kept = [None] * len(good)
    return store, broken


def _check(picture: LabelledImage) -> Image | str:
    """The picture's pixels, or why it cannot be used."""
    try:
        image = read_image(picture.path)
    except DataError as error:
        return error.message
    size = image.shape[1], image.shape[0]
    if picture.size is not None and picture.size != size:
        return f"{picture.path}: {size[0]}x{size[1]} pixels, its label says {picture.size[0]}x{picture.size[1]}"
    return image


def _judge(broken: list[Broken], total: int, limit: float) -> None:
    named = "\n".join(f"  {item.reason}" for item in broken[:20])
    more = f"\n  … and {len(broken) - 20} more" if len(broken) > 20 else ""
    summary = f"{len(broken)} of {total} pictures cannot be used:\n{named}{more}"
    if len(broken) > limit * total:
        raise DataError(summary, f"data.max_broken allows {limit:.1%}: mend the files, or --set data.max_broken=0.1")
    log.warning("%s", summary)


def _resident(images: Sequence[Image], device: torch.device) -> tuple[Tensor, Tensor]:
    """All pictures in one (pixels, 4) uint8 tensor on the device, and where each one starts."""
    counts = torch.tensor([image.shape[0] * image.shape[1] for image in images], dtype=torch.int64)
    starts = counts.cumsum(0) - counts
    flat = torch.zeros((int(counts.sum()), 4), dtype=torch.uint8, device=device)
    for image, start, count in zip(images, starts.tolist(), counts.tolist(), strict=True):
        flat[start : start + count, :3] = torch.from_numpy(image).to(device).view(-1, 3)
    return flat, starts


def choose_place(pictures: Sequence[LabelledImage], device: torch.device) -> str:
    """Where the pixels fit: on the device at 4 bytes a pixel, in RAM at 3, else on disk."""
    pixels = sum(picture.size[0] * picture.size[1] for picture in pictures if picture.size is not None)
    if device.type == "cuda" and 4 * pixels < _SHARE * torch.cuda.mem_get_info(device)[0]:
        return "device"
    return "ram" if 3 * pixels < _SHARE * free_memory() else "disk"
