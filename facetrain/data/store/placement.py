"""Where the pixels of a training set fit: on the device, in RAM, or not at all."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from facetrain.core.faces import LabelledImage
from facetrain.core.machine import free_memory
from facetrain.data.store.decoding import checked

_SHARE = 0.6  # of the free memory that images may take
_SAMPLE = 48  # images of unknown size that are looked at for an estimate


@dataclass(frozen=True)
class Placement:
    """Where pixels are kept, and the arithmetic behind it in words."""

    place: str
    line: str


def choose_place(
    images: Sequence[LabelledImage],
    device: torch.device,
    wanted: str = "auto",
    limit: float | None = None,
    processes: int = 1,
) -> Placement:
    """Where the pixels fit: on the device at 4 bytes a pixel, in RAM at 3, else on disk.

    wanted:    auto, or a place that is taken whatever fits
    limit:     GB that images may take of either memory; None: a share of what is free
    processes: on this machine, each with a copy of its own in RAM
    """
    pixels = count_pixels(images)
    on_gpu = device.type == "cuda"
    of_device = _allowed(torch.cuda.mem_get_info(device)[0], limit) if on_gpu else 0.0
    of_ram = _allowed(free_memory(), limit)
    needs = {"device": 4 * pixels, "ram": 3 * pixels * processes}
    place = wanted
    about = "about " if any(image.size is None for image in images) else ""
    if place == "auto":
        place = "device" if on_gpu and needs["device"] < of_device else "ram" if needs["ram"] < of_ram else "disk"
    copies = f" in {processes} copies" if processes > 1 else ""
    needed = f"{len(images):,} images take {about}{needs['ram'] / 1e9:.1f} GB of RAM{copies} (3 bytes a pixel)"
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


def count_pixels(images: Sequence[LabelledImage]) -> int:
    """Pixels of all images; those without a size are taken to be as large as an even sample of them."""
    known = sum(image.size[0] * image.size[1] for image in images if image.size is not None)
    unknown = [image for image in images if image.size is None]
    if not unknown:
        return known
    sample = [checked(image, True)[0].size for image in unknown[:: -(-len(unknown) // _SAMPLE)]]
    sizes = [width * height for width, height in filter(None, sample)]
    return known + int(len(unknown) * sum(sizes) / max(1, len(sizes)))


def _allowed(free: int, limit: float | None) -> float:
    return _SHARE * free if limit is None else min(limit * 1e9, free)
