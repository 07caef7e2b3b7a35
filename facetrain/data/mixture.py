"""Which images an epoch shows, and in which order, where they come from several sets with shares.

A source with a share s gives k = round(s N) of an epoch's N samples, at least one; those of the others come once each:
N = (images of sources without a share) / (1 - sum of the shares). Where all have one, N = (images of the first) / s, so
that these come once. Each source is dealt like a pack of cards: epoch e takes cards e k … (e + 1) k - 1 of a row of
shuffled packs, so no image comes again before all of its source have come. Packs are shuffled by (seed, source, number
of the pack), an epoch's order by (seed, epoch): a position of an epoch holds the same image for any number of workers,
lanes and processes, and after a resume.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from facetrain.config.schema import SourceConfig
from facetrain.core.faces import LabelledImage
from facetrain.data.crops import epoch_order

_PACK = 1  # tells a pack's generator, of four numbers, from those of orders and crops


def samples(counts: Sequence[int], shares: Sequence[float | None]) -> list[int]:
    """How many samples of an epoch each source gives, of so many images."""
    free = sum(count for count, share in zip(counts, shares, strict=True) if share is None)
    given = [share for share in shares if share is not None]
    whole = free / (1 - sum(given)) if len(given) < len(shares) else counts[0] / given[0]
    return [
        count if share is None else max(1, round(share * whole)) for count, share in zip(counts, shares, strict=True)
    ]


def epoch_images(
    images: Sequence[LabelledImage], roots: Sequence[SourceConfig], seed: int, epoch: int
) -> NDArray[np.int64]:
    """The indices of an epoch's images in their order. Without shares it is every image once, see `epoch_order`."""
    if all(root.share is None for root in roots):
        return epoch_order(len(images), seed, epoch)
    own = indices_of(images, len(roots))
    taken = samples([len(some) for some in own], [root.share for root in roots])
    dealt = [
        some[_dealt(len(some), count, seed, number, epoch)]
        for number, (some, count) in enumerate(zip(own, taken, strict=True))
    ]
    joined = np.concatenate(dealt)
    return joined[epoch_order(len(joined), seed, epoch)]


def epoch_length(images: Sequence[LabelledImage], roots: Sequence[SourceConfig]) -> int:
    """Samples of an epoch."""
    if all(root.share is None for root in roots):
        return len(images)
    counts = [len(some) for some in indices_of(images, len(roots))]
    return sum(samples(counts, [root.share for root in roots]))


def indices_of(images: Sequence[LabelledImage], sources: int) -> list[NDArray[np.int64]]:
    """Of each source the indices of its images."""
    source = np.array([image.source for image in images], np.int64)
    return [np.flatnonzero(source == number) for number in range(sources)]


def without_faces(image: LabelledImage) -> LabelledImage:
    """The image as if it showed no face."""
    none = slice(0, 0)
    return replace(
        image,
        boxes=image.boxes[none],
        landmarks=image.landmarks[none],
        ignore=image.ignore[none],
        hidden=None,
        scores=None,
    )


def _dealt(count: int, taken: int, seed: int, source: int, epoch: int) -> NDArray[np.int64]:
    """The cards of an epoch from a source of `count` images, (taken,)."""
    first, last = epoch * taken, (epoch + 1) * taken
    packs = range(first // count, -(-last // count))
    row = np.concatenate([np.random.default_rng([seed, source, pack, _PACK]).permutation(count) for pack in packs])
    return row[first - packs.start * count : last - packs.start * count]
