"""What every store of images offers, whatever it keeps."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from facetrain.core.faces import Image, LabelledImage
from facetrain.core.images import opencv, read_image
from facetrain.data.crops import Crop


class ImageStore(ABC):
    """The images of a training set by index. Make one with `open_store`.

    All give the same crops: bilinear, half-pixel centres, no antialiasing, float32 without rounding, 128 outside.
    place: where the pixels are: device, ram, mapped or disk
    """

    place: str

    def __init__(self, images: Sequence[LabelledImage], pool: ThreadPoolExecutor, device: torch.device) -> None:
        self.images = list(images)
        self.device = device
        self.pool = pool

    @abstractmethod
    def crops(
        self, crops: Sequence[Crop], size: int, *, here: bool = False, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Cut and resize: (B, 3, size, size) BGR 0 … 255, channels_last, on the store's device.

        here:  in the thread that asks, one after the other, and not by the store's threads
        dtype: what float32 is rounded to
        """

    def image(self, index: int) -> Image:
        """An image's pixels, (H, W, 3) uint8 BGR, decoded now."""
        return read_image(self.images[index].path)

    def close(self) -> None:
        """Stop the worker threads."""
        self.pool.shutdown(wait=False, cancel_futures=True)


def make_pool(workers: int) -> ThreadPoolExecutor:
    """Threads that decode and crop, of one OpenCV thread each: the pool is the parallelism, and both would fight."""
    return ThreadPoolExecutor(workers, "images", initializer=lambda: opencv().setNumThreads(1))


def size_of(image: LabelledImage) -> tuple[int, int]:
    """(width, height); `open_store` leaves out what has none."""
    assert image.size is not None
    return image.size


def upload(plan: Tensor, device: torch.device) -> Tensor:
    """Numbers on their way to the device, beside other work where that is a GPU."""
    pinned = plan.pin_memory() if device.type == "cuda" else plan
    return pinned.to(device, non_blocking=True)
