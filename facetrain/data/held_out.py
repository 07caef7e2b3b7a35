"""Which images of a set without a validation part are kept for validation: by their names, so that it stays so.

An image's name alone decides, by its SHA-256, so images that are added move none. Images that look alike stay together,
on the side of the one with the shortest name (copies mostly have longer ones).
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from facetrain.core.errors import DataError, InputError
from facetrain.core.faces import LabelledImage
from facetrain.core.words import count
from facetrain.data.layout import Reading, find_split
from facetrain.data.plausibility.copies import same_images
from facetrain.data.plausibility.facts import image_facts


@dataclass(frozen=True)
class Divided:
    """A set in two.

    train, held: images to train on, and those kept for validation
    followed:    how many of them are where they are for an image that looks like them
    """

    train: list[LabelledImage]
    held: list[LabelledImage]
    followed: int

    def said(self, root: Path, share: float) -> str:
        """In words, for the log."""
        alike = f"; {self.followed:,} of them with an image that looks like them" if self.followed else ""
        return (
            f"validation: {len(self.held):,} of the {len(self.train) + len(self.held):,} images of {root} are kept for "
            f"it, chosen by their names (data.val {share:g}){alike}; {len(self.train):,} to train on"
        )


def divided(root: Path, images: Sequence[LabelledImage], share: float, progress: Callable[[int, int], None]) -> Divided:
    """Divide those images of a set's training part that are there. Raises DataError where one side stays empty."""
    there = [image for image in images if image.path.is_file()]
    parts = hold_out(there, looks_of(root, there, progress), share)
    if not parts.held or not parts.train:
        raise DataError(
            f"`val` {share:g} of the {count(len(there), 'image')} of {root}: none would be left to "
            f"{'train' if parts.held else 'validate'} on",
            "give another share, or a folder of its own for validation",
        )
    return parts


def check_undivided(root: Path, labels: Path | None, reading: Reading, share: float) -> None:
    """Raise InputError for a set that has a validation part: other labels than these, those of its training part."""
    try:
        place = find_split(root, "val", reading)
    except InputError:
        return
    if place.labels != labels or not place.whole:
        raise has_a_part(root, share, str(place.labels))


def has_a_part(root: Path, share: float, part: str) -> InputError:
    """The error for a share of a set that has something to validate on."""
    return InputError(
        f"`val` {share:g}: {root} has a validation part: {part}",
        "leave `val` out: that part validates; to divide all of it anew, put it into one set",
    )


def is_held_out(name: str, share: float) -> bool:
    """Whether an image of this name validates."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def hold_out(images: Sequence[LabelledImage], looks: Sequence[bytes], share: float) -> Divided:
    """Divide images by their names.

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
    return Divided(train, [image for image, away in zip(images, out, strict=True) if away], followed)


def looks_of(root: Path, images: Sequence[LabelledImage], progress: Callable[[int, int], None]) -> list[bytes]:
    """What the images look like; kept for the next time."""
    facts = image_facts(root, "train", (image.path for image in images), looks=True, progress=progress)
    return [(facts[image.path].look or b"") if image.path in facts else b"" for image in images]
