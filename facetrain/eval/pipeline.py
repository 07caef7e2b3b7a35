"""Detections of many images, with reading, network and post-processing overlapping."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path

from facetrain.core.errors import DataError, about
from facetrain.core.faces import Detector, Faces, Image
from facetrain.core.images import read_image
from facetrain.core.machine import available_cores
from facetrain.core.memory import no_memory_error
from facetrain.core.ordered import ordered

_GPU_BATCH = 16
Done = Callable[[int, int], None]


def batch_of(device: str) -> int:
    """Images that a detector on this kind of device is given together: on a CPU that gains nothing."""
    return 1 if device == "cpu" else _GPU_BATCH


def detect_images(
    detector: Detector,
    paths: Sequence[Path],
    *,
    workers: int = 1,
    batch: int = 1,
    check: Callable[[Path, Image], None] | None = None,
    progress: Done | None = None,
) -> Generator[Faces | DataError, None, None]:
    """Faces of each image in order, or the error of one that cannot be read.

    workers: threads that read and detect at once; more than one only for a detector that allows it (onnxruntime)
    batch:   images handed to the detector together, where that pays (a GPU); reading goes on meanwhile
    check:   looks at a decoded image and raises DataError if it is not the one meant
    Only a few images are in memory at any time.
    """

    def read(path: Path) -> Image | DataError:
        try:
            with no_memory_error(str(path)):
                image = read_image(path)
            if check is not None:
                check(path, image)
        except DataError as error:
            return error
        return image

    def work(path: Path) -> Faces | DataError:
        image = read(path)
        return image if isinstance(image, DataError) else _one(detector, image)

    with ExitStack() as stack:
        if workers > 1:
            results = stack.enter_context(closing(ordered(work, paths, workers)))
        else:
            readers = 2 if batch == 1 else max(2, available_cores())  # a GPU waits for decoders, a CPU shares with them
            images = stack.enter_context(closing(ordered(read, paths, readers, batch)))
            results = _batched(detector, images, batch)
        for done, result in enumerate(results, 1):
            if progress is not None:
                progress(done, len(paths))
            yield about(paths[done - 1], result) if isinstance(result, DataError) else result


def _batched(
    detector: Detector, images: Iterator[Image | DataError], batch: int
) -> Generator[Faces | DataError, None, None]:
    while some := list(islice(images, batch)):
        good = [image for image in some if not isinstance(image, DataError)]
        try:
            with no_memory_error(None):
                found: Iterator[Faces | DataError] = iter(detector.detect_batch(good) if good else [])
        except DataError:  # one of them; the others are not to fail with it
            found = (_one(detector, image) for image in good)
        for image in some:
            yield image if isinstance(image, DataError) else next(found)


def _one(detector: Detector, image: Image) -> Faces | DataError:
    try:
        with no_memory_error(None):
            return detector.detect_batch([image])[0]
    except DataError as error:
        return error


def first_error(found: Generator[Faces | DataError, None, None]) -> list[Faces]:
    """The detections, if every image can be read. Raises the first error at once: a part is another number."""
    results = []
    with closing(found):  # ends its threads here, and not whenever the generator is collected
        for faces in found:
            if isinstance(faces, DataError):
                raise faces
            results.append(faces)
    return results
