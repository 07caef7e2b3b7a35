"""Which sizes of faces a run's weights find, looked at once, at its end, on the largest faces of its validation images.

A cheap look: `tests/benchmarks/face_sizes.py` takes more faces, chosen with more care, and more sizes.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from facetrain.core.errors import DataError
from facetrain.core.faces import Image, LabelledImage
from facetrain.core.images import opencv, read_image
from facetrain.detect.face_range import FaceRange
from facetrain.eval.benchmark import thin
from facetrain.eval.face_sizes import SIZES, Cutout, cut_out, range_of_recalls, recall_by_size
from facetrain.model.detector import ModelDetector
from facetrain.model.yunet import build
from facetrain.train.events import Events
from facetrain.train.machine import tuned_kernels
from facetrain.train.prepare import Setup

_SIZES = tuple(size for size in SIZES if size <= 512)  # the next one would take as long as all of these
_FACES = 16
_FEWEST = 8  # with fewer a single face would move the range by more than it is worth
_LEAST = 64  # pixels of the shorter side: a smaller face, enlarged to the largest size, is a blur that tells nothing
_SHOWN = 1280  # pixels of a background's shorter side: the largest window has no more


def validation_faces(images: Sequence[LabelledImage]) -> tuple[list[Cutout], list[Image]]:
    """The largest faces of the images, one of each, and images to paste them into.

    Nothing where too few images have a face of 64 pixels. What cannot be read is left out.
    """
    sides = np.array([_largest(image) for image in images])
    order = [int(number) for number in np.argsort(-sides, kind="stable") if sides[number] >= _LEAST]
    faces: list[Cutout] = []
    own: list[Image] = []
    for number in order[: 2 * _FACES]:
        image = _pixels(images[number])
        if image is not None and len(faces) < _FACES:
            factor = min(1.0, max(_SIZES) / float(sides[number]))
            faces.append(cut_out(_shrunk(image, factor), _box(images[number]) * np.float32(factor)))
            own.append(_background(image))
    if len(faces) < _FEWEST:
        return [], []
    used = set(order[: 2 * _FACES])
    others = [_pixels(images[number]) for number in thin([n for n in range(len(images)) if n not in used], _FACES)]
    backgrounds = [_background(image) for image in others if image is not None]
    return faces, backgrounds or [*own[1:], own[0]]  # of all alike: each face into the image of the next


def find_range(
    setup: Setup, weights: Mapping[str, Tensor], faces: Sequence[Cutout], backgrounds: Sequence[Image], events: Events
) -> FaceRange | None:
    """The range of these weights; None where there are no faces to look for, or not half of them are ever found."""
    if not faces:
        return None
    model = build(setup.config.model).to(setup.device).eval()
    model.load_state_dict(weights)
    detector = ModelDetector(model, nms=setup.config.eval.nms)

    def progress(done: int, total: int) -> None:
        events.work("looking at sizes of faces", done, total)

    with tuned_kernels(False):
        return range_of_recalls(recall_by_size(detector, faces, backgrounds, sizes=_SIZES, progress=progress))


def _largest(image: LabelledImage) -> float:
    """The shorter side of the largest face that counts, in pixels; 0 without one."""
    boxes = image.boxes[~image.ignore]
    return float(np.max(np.min(boxes[:, 2:] - boxes[:, :2], axis=1))) if len(boxes) else 0.0


def _box(image: LabelledImage) -> np.ndarray:
    """The box (4,) of that face."""
    boxes = image.boxes[~image.ignore]
    box: np.ndarray = boxes[np.argmax(np.min(boxes[:, 2:] - boxes[:, :2], axis=1))]
    return box


def _pixels(image: LabelledImage) -> Image | None:
    try:
        pixels = read_image(image.path)
    except DataError:
        return None
    return pixels if image.size in (None, (pixels.shape[1], pixels.shape[0])) else None


def _background(image: Image) -> Image:
    return _shrunk(image, min(1.0, _SHOWN / min(image.shape[:2])))


def _shrunk(image: Image, factor: float) -> Image:
    """Large photographs would fill the memory."""
    if factor >= 1:
        return image
    smaller: Image = opencv().resize(image, None, fx=factor, fy=factor, interpolation=opencv().INTER_AREA)
    return smaller
