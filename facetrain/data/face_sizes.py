"""How large labelled faces are beside their images, and which training crops suit them."""

from collections.abc import Sequence

import numpy as np

from facetrain.config.schema import DataConfig
from facetrain.core.errors import FacetrainError
from facetrain.core.faces import Floats, LabelledImage
from facetrain.core.images import read_image

_SMALL = 8.0  # pixels of a crop: the finest stride; of faces below it hardly any is learnt
_FILLS = 0.75  # of a crop's side: a larger face is cut by nearly every crop, and none of its surroundings is seen
_WIDEST = 3.0  # crop side / shorter side of the image: beyond it most of a crop is empty
_LOOKED_AT = 200  # images that are decoded where labels do not say their size


def relative_sizes(images: Sequence[LabelledImage]) -> Floats:
    """Shorter side of each face that counts, as a share of the shorter side of its image, (F,).

    Images whose labels have no size are looked at, the first 200 of them; one that cannot be read is left out.
    """
    shares: list[Floats] = [np.zeros(0, np.float32)]
    looked = 0
    for image in images:
        faces = image.boxes[~image.ignore]
        size = image.size
        if size is None and len(faces) and looked < _LOOKED_AT:
            looked += 1
            size = _size_of(image)
        if size is not None:
            shares.append(np.min(faces[:, 2:] - faces[:, :2], axis=1) / min(size))
    return np.concatenate(shares)


def fitting_scales(sizes: Floats, side: int, scales: Sequence[float] = DataConfig().crop_scales) -> tuple[float, ...]:
    """Crop scales with which faces of these relative sizes are learnt. side: of the crops, in pixels.

    A face that is a share r of the shorter side is r · side / scale pixels in a crop. The published scales, .5 to 1.5,
    belong to WIDER FACE, whose median face is .019: from 24 to 8 pixels of 640. They stay unless they cannot serve:
    where one in ten faces would fill more than three quarters of the smallest crop (portraits, door cameras), all are
    enlarged until it does not; where the median face would be below 8 pixels in a crop as wide as the image (crowds in
    high resolution), all are reduced until it is not, unless the large faces then suffer. The spread of the scales,
    which is what shows a face in several sizes, is kept.
    """
    usual = tuple(scales)
    if len(sizes) == 0:
        return usual
    large, median = np.quantile(sizes, 0.9), np.quantile(sizes, 0.5)
    least = float(large) / (_FILLS * min(usual))  # a factor below this makes large faces too large
    most = float(median) * side / _SMALL  # above this small faces are too small
    factor = max(1.0, least) if least > 1 else max(least, min(1.0, most))
    if factor == 1:
        return usual
    return tuple(dict.fromkeys(min(max(round(scale * factor, 2), 0.01), _WIDEST) for scale in usual))


def _size_of(image: LabelledImage) -> tuple[int, int] | None:
    try:
        height, width = read_image(image.path).shape[:2]
    except FacetrainError:
        return None
    return width, height
