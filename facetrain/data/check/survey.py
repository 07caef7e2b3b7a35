"""A part of a set in numbers: images, faces and their sizes, landmarks, and what training crops make of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from facetrain.config.schema import DataConfig
from facetrain.core.documents.check import HistogramBar, SurveyDocument
from facetrain.core.faces import LabelledImage

_SIDES = (0, 8, 16, 32, 64, 128, 256, np.inf)  # pixels, shorter side of a face
_PER_IMAGE = (0, 1, 2, 3, 6, 11, 21, 51, np.inf)
_IMAGE = (0, 240, 480, 720, 1080, 2160, np.inf)  # pixels, shorter side of an image
SMALL = 8  # pixels of the crop: a cell of a network's finest map; smaller faces are hardly learned


@dataclass(frozen=True)
class Survey:
    """Numbers of a part. F faces that count, I images.

    sides:     (F,) shorter side in pixels of the image
    per_image: (I,) faces that count
    sizes:     (I, 2) width and height, of the images that have any
    points:    by landmark, how many faces have it
    crops:     (F, S) shorter side in pixels of the crop, at each of S scales
    least:     pixels of the crop below which a face is too small
    """

    images: int
    ignored: int
    with_landmarks: int
    hidden: int
    sides: NDArray[np.float64]
    per_image: NDArray[np.int64]
    sizes: NDArray[np.float64]
    points: dict[str, int]
    crops: NDArray[np.float64]
    least: float

    @property
    def faces(self) -> int:
        """Faces that count."""
        return len(self.sides)

    @property
    def empty(self) -> int:
        """Images without a face that counts."""
        return int((self.per_image == 0).sum())

    @property
    def often_small(self) -> float:
        """Share of the faces that are too small, over all scales of crops."""
        return float((self.crops < self.least).mean()) if self.crops.size else 0.0

    @property
    def always_small(self) -> float:
        """Share of the faces that are too small at every scale."""
        return float((self.crops < self.least).all(1).mean()) if self.crops.size else 0.0

    @property
    def most_faces(self) -> int:
        """Of one image."""
        return int(np.max(self.per_image, initial=0))

    def percentiles(self, of: tuple[int, ...] = (5, 50, 95)) -> list[float]:
        """Of the faces' shorter sides; empty without faces."""
        return [round(float(value), 1) for value in np.percentile(self.sides, of)] if self.faces else []

    def histograms(self) -> dict[str, list[HistogramBar]]:
        """How many faces and images are of which size."""
        return {
            "face_sides": _bars(self.sides, _SIDES),
            "faces_per_image": _bars(self.per_image, _PER_IMAGE),
            "image_sides": _bars(self.sizes.min(1) if len(self.sizes) else self.sides[:0], _IMAGE),
        }

    def as_dict(self) -> SurveyDocument:
        """The JSON document."""
        return {
            "images": self.images,
            "images_without_faces": self.empty,
            "faces": self.faces,
            "ignored": self.ignored,
            "with_landmarks": self.with_landmarks,
            "hidden_points": self.hidden,
            "landmarks": self.points,
            "face_side_percentiles": self.percentiles(),
            "most_faces": self.most_faces,
            "small_in_crops": round(self.often_small, 4),
            "small_in_all_crops": round(self.always_small, 4),
            "small_below": self.least,
            "histograms": self.histograms(),
        }


def survey(images: Sequence[LabelledImage], names: Sequence[str], config: DataConfig) -> Survey:
    """Count. names: of the landmarks; config: what the training crops are."""
    counted = [image.boxes[~image.ignore] for image in images]
    sides = np.concatenate([np.zeros(0), *((boxes[:, 2:] - boxes[:, :2]).min(1) for boxes in counted)])
    short = [np.full(len(boxes), min(image.size or (0, 0))) for image, boxes in zip(images, counted, strict=True)]
    windows = np.maximum(np.concatenate([np.zeros(0), *short]), 1)[:, None] * np.array(config.crop_scales)  # (F, S)
    points = np.zeros(len(names), np.int64)
    for image in images:
        points += (image.landmarks[..., 2] > 0).sum(0)
    return Survey(
        images=len(images),
        ignored=sum(int(image.ignore.sum()) for image in images),
        with_landmarks=sum(int(((image.landmarks[..., 2] > 0).any(1) & ~image.ignore).sum()) for image in images),
        hidden=sum(int(image.hidden.sum()) for image in images if image.hidden is not None),
        sides=sides,
        per_image=np.array([len(boxes) for boxes in counted], np.int64),
        sizes=np.array([image.size for image in images if image.size is not None], np.float64).reshape(-1, 2),
        points=dict(zip(names, points.tolist(), strict=True)),
        crops=sides[:, None] * config.size / windows,
        least=config.min_face or float(SMALL),
    )


def _bars(values: NDArray[np.float64] | NDArray[np.int64], edges: Sequence[float]) -> list[HistogramBar]:
    counts = np.histogram(values, edges)[0]
    return [
        {"low": int(low), "high": None if high == np.inf else int(high), "count": int(count)}
        for (low, high), count in zip(pairwise(edges), counts, strict=True)
    ]
