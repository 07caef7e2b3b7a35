"""Decode a training set, keep its pixels where they fit, and leave out what cannot be used."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from facetrain.core.errors import DataError
from facetrain.core.faces import Image, LabelledImage
from facetrain.core.machine import available_cores
from facetrain.data.store.decoding import decoded
from facetrain.data.store.device import DeviceStore, Resident
from facetrain.data.store.host import HostStore
from facetrain.data.store.images import ImageStore, make_pool
from facetrain.data.store.mapped import mapped_images
from facetrain.data.store.placement import choose_place, count_pixels

log = logging.getLogger(__name__)

Item = TypeVar("Item")


@dataclass(frozen=True)
class Broken:
    """An image that cannot be used, and why."""

    image: LabelledImage
    reason: str


def open_store(
    images: Sequence[LabelledImage],
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
    """Decode every image once, keep the pixels where they fit, and leave broken images out.

    place:      auto, device, ram, mapped or disk; cache: the folder for the mapped file
    unlabelled: images of which no label says the size are among them: each gets the size that it has
    tell:       receives what a person should know of the mapped file
    Raises DataError where more than the share `max_broken` of the images is broken.
    """
    workers = workers or available_cores()
    place = choose_place(images, device).place if place == "auto" else place
    pool = make_pool(workers)
    if place == "device" and unlabelled:
        images = [sized for sized, _ in decoded(pool, images, workers, unlabelled)]
    resident = Resident(count_pixels(images), device) if place == "device" else None

    source = _told(decoded(pool, images, workers, unlabelled), len(images), progress)
    if place == "mapped":
        assert cache is not None
        source = mapped_images(images, cache, source, unlabelled, tell)
    broken: list[Broken] = []
    good: list[LabelledImage] = []
    kept: list[Image] = []
    for labelled, image in _usable(source, broken):
        good.append(labelled)
        if resident is not None:
            resident.add(image)
        elif place != "disk":
            kept.append(image)
    if broken:
        _judge(broken, len(images), max_broken)
    if resident is not None:
        return DeviceStore(good, pool, resident.flat, resident.starts), broken
    return HostStore(good, pool, device, None if place == "disk" else kept, place), broken


def _told(source: Iterator[Item], total: int, progress: Callable[[int, int], None] | None) -> Iterator[Item]:
    for done, item in enumerate(source, 1):
        yield item
        if progress:
            progress(done, total)


def _usable(
    source: Iterable[tuple[LabelledImage, Image | str]], broken: list[Broken]
) -> Iterator[tuple[LabelledImage, Image]]:
    """The images that have pixels; the others are added to `broken`."""
    for labelled, image in source:
        if isinstance(image, str):
            broken.append(Broken(labelled, image))
        else:
            yield labelled, image


def _judge(broken: list[Broken], total: int, limit: float) -> None:
    named = "\n".join(f"  {item.reason}" for item in broken[:20])
    more = f"\n  … and {len(broken) - 20} more" if len(broken) > 20 else ""
    summary = f"{len(broken)} of {total} images cannot be used:\n{named}{more}"
    if len(broken) == total:
        raise DataError(
            summary, "the label file's paths start from the folder of the images: do they, and are these there?"
        )
    if len(broken) > limit * total:
        raise DataError(summary, f"data.max_broken allows {limit:.1%}: mend the files, or `data.max_broken=0.1`")
    log.warning("%s", summary)
