"""Decoded pictures, and square crops of them: kept on the device, in RAM, or read anew each time.

All three give the same crops: bilinear, half-pixel centres, no antialiasing, float32 without rounding, 128 outside.
A CPU cuts them with OpenCV. A GPU gathers them from pixels in its memory: those of all pictures, or of this batch's
windows, copied there from pinned memory while the step before still works (batches.ahead).
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from facetrain.core.errors import DataError
from facetrain.core.faces import Image, LabelledImage
from facetrain.core.images import opencv, read_image
from facetrain.core.machine import available_cores, free_memory
from facetrain.data.crops import Crop
from facetrain.data.mapped import mapped_pictures
from facetrain.data.view import FILL

log = logging.getLogger(__name__)

_SHARE = 0.6  # of the free memory that pictures may take
_SAMPLE = 48  # pictures of unknown size that are looked at for an estimate


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
        self.mapped = False  # whether `kept` lies in a file that several processes share
        self.flat: Tensor | None = None  # all pictures as one row of 4-byte pixels on the device
        self.starts = torch.zeros(0)
        # one OpenCV thread each: the pool is the parallelism, OpenCV's own threads would fight it
        self.pool = ThreadPoolExecutor(workers, "pictures", initializer=lambda: opencv().setNumThreads(1))

    @property
    def place(self) -> str:
        """Where the pixels are: device, ram, mapped or disk."""
        if self.flat is not None:
            return "device"
        if self.mapped:
            return "mapped"
        return "ram" if any(image is not None for image in self.kept) else "disk"

    def crops(self, crops: Sequence[Crop], size: int) -> Tensor:
        """Cut and resize: (B, 3, size, size) float32 BGR 0 … 255, channels_last, on the store's device."""
        if self.flat is not None:
            plan = [[start, *_size(self.pictures[c.picture]), *_window(c)] for c, start in self._starts(crops)]
            return gather_crops(self.flat, self._upload(torch.tensor(plan)), size)
        if self.device.type == "cuda":
            return gather_crops(*self.packed(crops), size)
        out = np.empty((len(crops), size, size, 3), np.float32)
        list(self.pool.map(lambda i: cut(self.image(crops[i].picture), crops[i], out[i]), range(len(crops))))
        # (B, S, S, 3) seen as (B, 3, S, S) is channels_last already
        return torch.from_numpy(out).permute(0, 3, 1, 2).to(self.device, non_blocking=True)

    def image(self, index: int) -> Image:
        """A picture's pixels, (H, W, 3) uint8 BGR; with no store they are decoded now."""
        kept = self.kept[index]
        return read_image(self.pictures[index].path) if kept is None else kept

    def packed(self, crops: Sequence[Crop]) -> tuple[Tensor, Tensor]:
        """The rows that the crops need, on the device, and the plan to gather the crops from them.

        A band of whole rows is one piece of memory, and stands for its picture: above and below it nothing is looked
        for. Returns (pixels, 4) uint8 and (B, 6) int64 as `gather_crops` takes them.
        """
        bands, plan, count = [], [], 0
        for crop in crops:
            width, height = _size(self.pictures[crop.picture])
            first, last = (min(max(y, 0), height) for y in (crop.top, crop.top + crop.side))
            bands.append((first, last, count))
            plan.append([count, width, last - first, crop.left, crop.top - first, crop.side])
            count += (last - first) * width
        pixels = torch.empty((max(1, count), 3), dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        view = pixels.numpy()

        def fill(i: int) -> None:
            first, last, start = bands[i]
            rows = self.image(crops[i].picture)[first:last].reshape(-1, 3)
            view[start : start + len(rows)] = rows

        list(self.pool.map(fill, range(len(crops))))
        flat = torch.empty((len(pixels), 4), dtype=torch.uint8, device=self.device)
        flat[:, :3] = pixels.to(self.device, non_blocking=True)
        return flat, self._upload(torch.tensor(plan))

    def _starts(self, crops: Sequence[Crop]) -> Iterator[tuple[Crop, int]]:
        return ((crop, int(self.starts[crop.picture])) for crop in crops)

    def _upload(self, plan: Tensor) -> Tensor:
        pinned = plan.pin_memory() if self.device.type == "cuda" else plan
        return pinned.to(self.device, non_blocking=True)

    def close(self) -> None:
        """Stop the worker threads."""
        self.pool.shutdown(wait=False, cancel_futures=True)


def _size(picture: LabelledImage) -> tuple[int, int]:
    assert picture.size is not None  # `open_store` leaves out what has none
    return picture.size


def _window(crop: Crop) -> tuple[int, int, int]:
    return crop.left, crop.top, crop.side


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
    out[:] = cv2.resize(canvas, (out.shape[1], out.shape[0]), interpolation=cv2.INTER_LINEAR)


def gather_crops(flat: Tensor, plan: Tensor, size: int) -> Tensor:
    """Bilinear crops from resident pixels, on any device.

    flat: (pixels, 4) uint8, B G R and one unused byte, pictures one after the other, row by row
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


def open_store(
    pictures: Sequence[LabelledImage],
    place: str,
    workers: int | None,
    device: torch.device,
    max_broken: float,
    progress: Callable[[int, int], None] | None = None,
    *,
    unlabelled: bool = False,
    cache: Path | None = None,
    tell: Callable[[str], None] = log.info,
) -> tuple[ImageStore, list[Broken]]:
    """Decode every picture once, keep the pixels where they fit, and leave broken pictures out.

    place:      auto, device, ram, mapped or disk; cache: the folder for the mapped file
    unlabelled: no label says a picture's size: each gets the size that it has
    tell:       receives what a person should know of the mapped file
    Raises DataError where more than the share `max_broken` of the pictures is broken.
    """
    workers = workers or available_cores()
    place = choose_place(pictures, device).place if place == "auto" else place
    store = ImageStore(pictures, workers, device)
    if place == "device" and unlabelled:
        pictures = [sized for sized, _ in _decoded(store.pool, pictures, workers, unlabelled)]
    resident = _Resident(pictures, device) if place == "device" else None

    def decoded() -> Iterator[tuple[LabelledImage, Image | str]]:
        for done, (picture, image) in enumerate(_decoded(store.pool, pictures, workers, unlabelled), 1):
            yield picture, image
            if progress:
                progress(done, len(pictures))

    source = decoded()
    if place == "mapped":
        assert cache is not None
        source = mapped_pictures(pictures, cache, source, unlabelled, tell)
    broken = _fill(store, source, place, resident)
    if broken:
        _judge(broken, len(pictures), max_broken)
    return store, broken


def _fill(
    store: ImageStore,
    source: Iterable[tuple[LabelledImage, Image | str]],
    place: str,
    resident: "_Resident | None",
) -> list[Broken]:
    """Take every picture in, keeping its pixels where they belong. Returns those that cannot be used."""
    broken: list[Broken] = []
    good: list[LabelledImage] = []
    kept: list[Image | None] = []
    for picture, image in source:
        if isinstance(image, str):
            broken.append(Broken(picture, image))
            continue
        good.append(picture)
        kept.append(image if place in ("ram", "mapped") else None)
        if resident is not None:
            resident.add(image)
    store.pictures, store.kept, store.mapped = good, kept, place == "mapped"
    if resident is not None:
        store.flat, store.starts = resident.flat, torch.tensor(resident.starts)
    return broken


def _decoded(
    pool: ThreadPoolExecutor, pictures: Sequence[LabelledImage], workers: int, unlabelled: bool
) -> Iterator[tuple[LabelledImage, Image | str]]:
    """Every picture in order with its pixels, or why it cannot be used; only a few wait in memory to be taken."""
    waiting: deque[Future[tuple[LabelledImage, Image | str]]] = deque()
    for picture in pictures:
        waiting.append(pool.submit(_check, picture, unlabelled))
        if len(waiting) > 2 * workers:
            yield waiting.popleft().result()
    for future in waiting:
        yield future.result()


def _check(picture: LabelledImage, unlabelled: bool) -> tuple[LabelledImage, Image | str]:
    """The picture with its size, and its pixels or why it cannot be used."""
    try:
        image = read_image(picture.path)
    except DataError as error:
        return picture, error.message
    return fitting(picture, image, unlabelled)


def fitting(picture: LabelledImage, image: Image, unlabelled: bool) -> tuple[LabelledImage, Image | str]:
    """The picture with its size and pixels, or why they do not fit together."""
    size = image.shape[1], image.shape[0]
    if unlabelled:
        return replace(picture, size=size), image
    if picture.size is None:
        return picture, f"{picture.path}: its label gives no size"
    if picture.size != size:
        return (
            picture,
            f"{picture.path}: {size[0]}x{size[1]} pixels, its label says {picture.size[0]}x{picture.size[1]}",
        )
    return picture, image


def _judge(broken: list[Broken], total: int, limit: float) -> None:
    named = "\n".join(f"  {item.reason}" for item in broken[:20])
    more = f"\n  … and {len(broken) - 20} more" if len(broken) > 20 else ""
    summary = f"{len(broken)} of {total} pictures cannot be used:\n{named}{more}"
    if len(broken) > limit * total:
        raise DataError(summary, f"data.max_broken allows {limit:.1%}: mend the files, or `data.max_broken=0.1`")
    log.warning("%s", summary)


class _Resident:
    """All pictures in one (pixels, 4) uint8 tensor on the device, one after the other, and where each one starts."""

    def __init__(self, pictures: Sequence[LabelledImage], device: torch.device) -> None:
        self.flat = torch.zeros((_pixels(pictures), 4), dtype=torch.uint8, device=device)
        self.starts: list[int] = []
        self.end = 0

    def add(self, image: Image) -> None:
        """Copy the next picture there; none of it stays in RAM."""
        count = image.shape[0] * image.shape[1]
        self.flat[self.end : self.end + count, :3] = torch.from_numpy(image).to(self.flat.device).view(-1, 3)
        self.starts.append(self.end)
        self.end += count


@dataclass(frozen=True)
class Placement:
    """Where pixels are kept, and the arithmetic behind it in words."""

    place: str
    line: str


def choose_place(
    pictures: Sequence[LabelledImage],
    device: torch.device,
    wanted: str = "auto",
    limit: float | None = None,
    processes: int = 1,
) -> Placement:
    """Where the pixels fit: on the device at 4 bytes a pixel, in RAM at 3, else on disk.

    wanted:    auto, or a place that is taken whatever fits
    limit:     GB that pictures may take of either memory; None: a share of what is free
    processes: on this machine, each with a copy of its own in RAM
    """
    pixels = _pixels(pictures)
    on_gpu = device.type == "cuda"
    of_device = _allowed(torch.cuda.mem_get_info(device)[0], limit) if on_gpu else 0.0
    of_ram = _allowed(free_memory(), limit)
    needs = {"device": 4 * pixels, "ram": 3 * pixels * processes}
    place = wanted
    about = "about " if any(picture.size is None for picture in pictures) else ""
    if place == "auto":
        place = "device" if on_gpu and needs["device"] < of_device else "ram" if needs["ram"] < of_ram else "disk"
    copies = f" in {processes} copies" if processes > 1 else ""
    needed = f"{len(pictures):,} pictures take {about}{needs['ram'] / 1e9:.1f} GB of RAM{copies} (3 bytes a pixel)"
    may = "" if limit is not None else f", {_SHARE:.0%} of what is free"
    allowed = f"{of_ram / 1e9:.1f} GB may be taken{may}"
    if on_gpu:
        needed = f"{needed} or {needs['device'] / 1e9:.1f} GB of the GPU's memory (4 bytes)"
        allowed = f"{of_ram / 1e9:.1f} and {of_device / 1e9:.1f} GB may be taken{may}"
    chosen = {
        "device": "kept on the device",
        "ram": "kept in RAM" + (", copied to the GPU ahead of each step" if on_gpu else ""),
        "mapped": "kept in a file that all runs share",
        "disk": "read from disk anew each time",
    }[place]
    return Placement(place, f"pixels: {needed}; {allowed}: {chosen}{'' if wanted == 'auto' else ', as asked'}")


def _pixels(pictures: Sequence[LabelledImage]) -> int:
    """Pixels of all pictures; those without a size are taken to be as large as an even sample of them."""
    known = sum(picture.size[0] * picture.size[1] for picture in pictures if picture.size is not None)
    unknown = [picture for picture in pictures if picture.size is None]
    if not unknown:
        return known
    sample = [_check(picture, True)[0].size for picture in unknown[:: -(-len(unknown) // _SAMPLE)]]
    sizes = [width * height for width, height in filter(None, sample)]
    return known + int(len(unknown) * sum(sizes) / max(1, len(sizes)))


def _allowed(free: int, limit: float | None) -> float:
    return _SHARE * free if limit is None else min(limit * 1e9, free)
