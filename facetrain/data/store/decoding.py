"""Images of a training set decoded once, and which of them cannot be used."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from facetrain.core.errors import DataError
from facetrain.core.faces import Image, LabelledImage
from facetrain.core.images import read_image


def decoded(
    pool: ThreadPoolExecutor, images: Sequence[LabelledImage], workers: int, unlabelled: bool
) -> Iterator[tuple[LabelledImage, Image | str]]:
    """Every image in order with its pixels, or why it cannot be used; only a few wait in memory to be taken."""
    waiting: deque[Future[tuple[LabelledImage, Image | str]]] = deque()
    for image in images:
        waiting.append(pool.submit(checked, image, unlabelled))
        if len(waiting) > 2 * workers:
            yield waiting.popleft().result()
    for future in waiting:
        yield future.result()


def checked(labelled: LabelledImage, unlabelled: bool) -> tuple[LabelledImage, Image | str]:
    """The image with its size, and its pixels or why it cannot be used."""
    try:
        image = read_image(labelled.path)
    except DataError as error:
        return labelled, error.message
    return fitting(labelled, image, unlabelled)


def fitting(labelled: LabelledImage, image: Image, unlabelled: bool) -> tuple[LabelledImage, Image | str]:
    """The image with its size and pixels, or why they do not fit together."""
    size = image.shape[1], image.shape[0]
    if unlabelled and labelled.size is None:
        return replace(labelled, size=size), image
    if labelled.size is None:
        return labelled, f"{labelled.path}: its label gives no size"
    if labelled.size != size:
        return (
            labelled,
            f"{labelled.path}: {size[0]}x{size[1]} pixels, its label says {labelled.size[0]}x{labelled.size[1]}",
        )
    return labelled, image
