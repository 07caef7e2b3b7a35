"""Label sets as correct as those of WIDER FACE, drawn from numbers, and the same in other conventions."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from facetrain.config.schema import LandmarksConfig
from facetrain.core.faces import LabelledImage
from facetrain.data.plausibility.conventions import numbers_of

NAMES = LandmarksConfig().names
# x y of the five as shares of the box
PLACES = np.array([(0.31, 0.37), (0.70, 0.37), (0.51, 0.57), (0.35, 0.745), (0.66, 0.745)])


def correct(seed: int, images: int, faces: int = 4, points: bool = True) -> list[LabelledImage]:
    """Images of several sizes with faces of a face's shape, apart from each other, and jittered landmarks."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(images):
        width, height = (int(side) for side in rng.integers(200, 1000, 2))
        side = rng.uniform(12, min(width, height) / faces * 0.6, faces)
        sides = np.stack([side * rng.uniform(0.6, 1.0, faces), side], 1)  # (F, 2)
        # one in each column of the image
        low = np.stack([(np.arange(faces) + 0.1) * width / faces, rng.uniform(0, 1, faces) * (height - side)], 1)
        low[:, 0] = np.minimum(low[:, 0], width - sides[:, 0])
        boxes = np.concatenate([low, low + sides], 1).astype(np.float32)
        places = PLACES + rng.normal(0, 0.03, (faces, len(PLACES), 2))
        xy = (boxes[:, None, :2] + places * sides[:, None]).astype(np.float32)
        landmarks = np.concatenate([xy, np.ones((faces, len(PLACES), 1), np.float32)], -1)
        landmarks = landmarks if points else landmarks[:, :0]
        name = f"{number:04}.jpg"
        found.append(
            LabelledImage(Path("images", name), name, (width, height), boxes, landmarks, np.zeros(faces, bool))
        )
    return found


def in_convention(
    images: list[LabelledImage], convention: str, share: float = 1.0
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """The set as a reader of corners gets it where the first share of its images is written in a convention.

    Returns the images, and the same ones with the boxes alone that have no area in that reading.
    """
    stop = round(share * len(images))
    written, flat = [], []
    for image in images[:stop]:
        assert image.size is not None
        sizes = np.tile(np.array(image.size, np.float64), (len(image.boxes), 1))
        numbers = numbers_of(image.boxes.astype(np.float64), sizes, convention)
        if convention == "corners":
            numbers = numbers[:, [2, 3, 0, 1]]
        area = (numbers[:, 2:] > numbers[:, :2]).all(1)
        for kept, images_of_kind in ((area, written), (~area, flat)):
            boxes = numbers[kept].astype(np.float32)
            parts = {"landmarks": image.landmarks[kept], "ignore": image.ignore[kept]}
            images_of_kind.append(replace(image, boxes=boxes, **parts))
    return written + images[stop:], flat


def with_boxes(image: LabelledImage, boxes: list[tuple[float, float, float, float]], points: int = 0) -> LabelledImage:
    """The image with other boxes, and no landmarks."""
    array = np.array(boxes, np.float32).reshape(-1, 4)
    none = np.zeros((len(array), points, 3), np.float32)
    return replace(image, boxes=array, landmarks=none, ignore=np.zeros(len(array), bool))
