"""Which sizes of faces a detector finds: labelled faces, pasted at each size into other images, and looked for there.

A size is a face's shorter side in pixels of the image as the network is shown it: nothing is rescaled on the way.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from facetrain.core.boxes import box_iou
from facetrain.core.faces import Detector, Floats, Image
from facetrain.core.images import opencv
from facetrain.detect.face_range import FaceRange

SIZES = (8, 11, 16, 23, 32, 64, 128, 256, 362, 512, 724, 1024, 2000)  # close together where detectors begin and end
_SURROUNDINGS = (0.45, 0.45, 0.45, 0.35)  # of the box's sides, that are cut out with it: left, top, right, bottom
_RADII = (0.95, 0.85)  # of the ellipse that is pasted, in widths and heights of the box
_FEATHER = 0.25  # of the ellipse's radius, over which it fades out
_LEAST_WINDOW = 320  # pixels: what networks are used with at least
_WINDOW = 2.5  # sizes of the face
_FITS = 0.7  # of the shorter side of a fixed input: a face that large, a third higher than wide, just fits
_IOU = 0.5
_SEEN = 0.5  # of the faces: with less at every size there is no range to speak of
_SHIFTS = (5, 11)  # pixels, times the face's number: faces lie everywhere in the cells of a stride
_CELL = 32


@dataclass(frozen=True)
class Cutout:
    """A face and what is around it: pixels (h, w, 3), and its box (4,) xyxy in them."""

    pixels: Image
    box: Floats


def cut_out(image: Image, box: Floats) -> Cutout:
    """The face of an image (H, W, 3) at `box` (4,), with hair, ears and chin as far as the image has them."""
    height, width = image.shape[:2]
    sides = np.tile(box[2:] - box[:2], 2)
    low, high = box - _SURROUNDINGS * sides, box + _SURROUNDINGS * sides
    x0, y0 = (max(0, int(value)) for value in low[:2])
    x1, y1 = min(width, int(np.ceil(high[2]))), min(height, int(np.ceil(high[3])))
    return Cutout(image[y0:y1, x0:x1].copy(), box - np.array([x0, y0, x0, y0], box.dtype))


def pasted(background: Image, face: Cutout, size: float, shift: tuple[float, float] = (0, 0)) -> tuple[Image, Floats]:
    """The background (H, W, 3) with a face whose shorter side is `size`, in the middle but for `shift` pixels.

    It fades into the background at an ellipse around its box. Returns the image, and the box (4,) in it.
    """
    cv2 = opencv()
    old_height, old_width = face.pixels.shape[:2]
    scale = size / float(min(face.box[2:] - face.box[:2]))
    width, height = max(1, round(old_width * scale)), max(1, round(old_height * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    patch = cv2.resize(face.pixels, (width, height), interpolation=how)
    box = face.box * np.tile([width / old_width, height / old_height], 2)
    middle = np.array([background.shape[1], background.shape[0]]) / 2 + shift
    x, y = (int(value) for value in np.round(middle - (box[:2] + box[2:]) / 2))  # of the patch's corner
    share = _ellipse(box, width, height)
    # a patch may be larger than the background: what leaves it is cut off
    left, top = max(0, -x), max(0, -y)
    right, bottom = min(width, background.shape[1] - x), min(height, background.shape[0] - y)
    image = background.copy()
    behind = image[y + top : y + bottom, x + left : x + right]
    share, patch = share[top:bottom, left:right], patch[top:bottom, left:right]
    behind[:] = cv2.blendLinear(np.ascontiguousarray(patch), np.ascontiguousarray(behind), share, 1 - share)
    return image, box + np.array([x, y, x, y])


def _ellipse(box: Floats, width: int, height: int) -> Floats:
    """How much of a patch counts at each pixel, (height, width) float32: 1 within the ellipse around its box."""
    centre, radii = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) * _RADII
    x, y = (
        ((np.arange(n, dtype=np.float32) - np.float32(c)) / np.float32(r)) ** 2
        for n, c, r in zip((width, height), centre, radii, strict=True)
    )
    share: Floats = np.clip((1 - np.sqrt(x[None] + y[:, None])) / np.float32(_FEATHER), 0, 1)
    return share


def background_of(image: Image, width: int, height: int) -> Image:
    """The middle of an image, scaled so that it covers (height, width)."""
    cv2 = opencv()
    scale = max(width / image.shape[1], height / image.shape[0])
    new = max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale))
    scaled = cv2.resize(image, new, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    x, y = (new[0] - width) // 2, (new[1] - height) // 2
    middle: Image = scaled[y : y + height, x : x + width]
    return middle


def recall_at(
    detector: Detector,
    faces: Sequence[Cutout],
    backgrounds: Sequence[Image],
    size: float,
    fixed: tuple[int, int] | None = None,
) -> float:
    """The share of faces that a detector finds at one size, see `found_at`."""
    return sum(found_at(detector, faces, backgrounds, size, fixed)) / len(faces)


def found_at(
    detector: Detector,
    faces: Sequence[Cutout],
    backgrounds: Sequence[Image],
    size: float,
    fixed: tuple[int, int] | None = None,
) -> list[bool]:
    """Whether a detector finds each face at one size, with an IoU of 0.5.

    Each is pasted into one of the backgrounds, in windows of two and a half sizes, 320 pixels at least.
    fixed: (width, height) of the windows instead, where the network takes no other
    """
    side = max(_LEAST_WINDOW, round(_WINDOW * size))
    width, height = fixed or (side, side)
    room = min(_CELL / 2, max(0.0, min(width, height) - size / _FITS) / 2)  # pixels that a face may be off the middle
    found = []
    for number, face in enumerate(faces):
        x, y = (((number * step) % _CELL * 2 / _CELL - 1) * room for step in _SHIFTS)
        background = background_of(backgrounds[number % len(backgrounds)], width, height)
        image, box = pasted(background, face, size, (x, y))
        (seen,) = detector.detect_batch([image])
        found.append(bool(len(seen) and np.max(box_iou(box[None], seen.boxes)) >= _IOU))
    return found


def recall_by_size(
    detector: Detector,
    faces: Sequence[Cutout],
    backgrounds: Sequence[Image],
    *,
    sizes: Sequence[int] = SIZES,
    fixed: tuple[int, int] | None = None,
    whole: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[int, float]:
    """The share of faces that a detector finds, by size, smallest first.

    fixed: see `recall_at`; sizes that do not fit are left out, the largest that does comes instead
    whole: look for all sizes. Otherwise, once half of the faces have been found, the first size that is found less than
           half as often is the last: larger ones, which take nearly all of the time, are not found any better
    """
    wanted = list(sizes)
    if fixed is not None:
        most = int(_FITS * min(fixed))
        wanted = [*(size for size in sizes if size < most), most]
    found: dict[int, float] = {}
    for done, size in enumerate(wanted, 1):
        found[size] = recall_at(detector, faces, backgrounds, size, fixed)
        progress(done, len(wanted))
        best = max(found.values())
        if not whole and best >= _SEEN and found[size] < best / 2:
            break
    progress(len(wanted), len(wanted))
    return found


def range_of_recalls(recalls: Mapping[int, float]) -> FaceRange | None:
    """The range that recalls by size, smallest first, come to; None where not even half of the faces are ever found.

    None too where a single size is all there is. Between two sizes that were measured recall is taken for a straight
    line over the logarithm of the size. Three digits are kept.
    """
    sizes, values = np.log(list(recalls)), np.array(list(recalls.values()))
    best = float(max(values, default=0.0))
    if best < _SEEN or len(values) < 2:
        return None
    least, most = _ends(sizes, values, best / 2)[0], _ends(sizes, values, 0.9 * best)[1]
    return FaceRange(float(f"{np.exp(least):.3g}"), float(f"{np.exp(most):.3g}"))


def _ends(sizes: Floats, values: Floats, level: float) -> tuple[float, float]:
    """The least and the largest size, both logarithms, at which values (K,) reach a level, which some do."""
    reached = np.flatnonzero(values >= level)
    first, last = int(reached[0]), int(reached[-1])

    def crossing(inside: int, outside: int) -> float:
        if not 0 <= outside < len(values):
            return float(sizes[inside])
        part = (values[inside] - level) / (values[inside] - values[outside])
        return float(sizes[inside] + part * (sizes[outside] - sizes[inside]))

    return crossing(first, first - 1), crossing(last, last + 1)
