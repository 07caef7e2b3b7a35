"""A labelled set of any kind as a benchmark: the official rules with one subset."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from facetrain.core.errors import DataError
from facetrain.core.faces import Image, LabelledImage
from facetrain.eval.benchmark import Benchmark


def labelled_benchmark(images: Sequence[LabelledImage], landmarks: Sequence[str] = ()) -> Benchmark:
    """All faces that are not ignored count; images without faces count with their false alarms.

    landmarks: names of the labels' points
    """
    counted = np.concatenate([np.zeros(0, bool), *(~image.ignore for image in images)])
    return Benchmark(
        "labelled", images, {"all": counted}, [""] * len(images), skip_empty=False, landmarks=tuple(landmarks)
    )


def size_check(images: Sequence[LabelledImage]) -> Callable[[Path, Image], None]:
    """A check for `detect_images`: an image must have the size that its label's header says."""
    sizes = {image.path: image.size for image in images}

    def check(path: Path, image: Image) -> None:
        size = sizes[path]
        if size is not None and size != (image.shape[1], image.shape[0]):
            raise DataError(
                f"{path}: {image.shape[1]}x{image.shape[0]} pixels, its label says {size[0]}x{size[1]}",
                "the boxes belong to another size of this image",
            )

    return check
