"""Which images of a set without a validation part are kept for validation: by their names, so that it stays so.

An image's name alone decides, by its SHA-256, so images that are added move none. Images that look alike stay together,
on the side of the one with the shortest name (copies mostly have longer ones).
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from facetrain.core.faces import LabelledImage
from facetrain.data.plausibility.copies import same_images
from facetrain.data.plausibility.facts import image_facts


def is_held_out(name: str, share: float) -> bool:
    """Whether an image of this name validates."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def hold_out(
    images: Sequence[LabelledImage], looks: Sequence[bytes], share: float
) -> tuple[list[LabelledImage], list[LabelledImage], int]:
    """Images to train on, images to validate on, and how many went with one that looks like them.

    looks: of each image, see `copies`; b"" where there is none
    """
    leader = list(range(len(images)))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    def rank(index: int) -> tuple[int, str]:
        return len(images[index].name), images[index].name

    for one, other in same_images(looks):
        first, second = sorted((find(one), find(other)), key=rank)
        leader[second] = first
    out = [is_held_out(images[find(index)].name, share) for index in range(len(images))]
    followed = sum(out[i] != is_held_out(image.name, share) for i, image in enumerate(images))
    train = [image for image, away in zip(images, out, strict=True) if not away]
    return train, [image for image, away in zip(images, out, strict=True) if away], followed


def looks_of(root: Path, images: Sequence[LabelledImage], progress: Callable[[int, int], None]) -> list[bytes]:
    """What the images look like; kept for the next time."""
    facts = image_facts(root, "train", (image.path for image in images), looks=True, progress=progress)
    return [(facts[image.path].look or b"") if image.path in facts else b"" for image in images]
