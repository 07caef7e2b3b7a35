"""Many crops at once are what each is by itself, augmentations included; and windows are drawn as they ever were."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facetrain.config.schema import ColourConfig, CutoutConfig, DataConfig, LandmarksConfig, RotateConfig
from facetrain.core.faces import LabelledImage
from facetrain.data.augmentations import augmented
from facetrain.data.batch import FACE, IGNORED, PADDING
from facetrain.data.batches import make_batch, mirror_order
from facetrain.data.crops import Crop, crop_faces, draw_crop, faces_of_crops
from facetrain.data.view import View

MIRROR = mirror_order(LandmarksConfig())
CONFIGS = {
    "defaults": DataConfig(size=64),
    "small faces": DataConfig(size=64, min_face=10, min_visible=0.5),
    "grown": DataConfig(size=64, crop_scales=(0.2, 0.3), reproduce=True),
    "augmented": DataConfig(
        size=64, rotate=RotateConfig(0.5), colour=ColourConfig(0.3, 0.2, 0.1), cutout=CutoutConfig(0.4)
    ),
    "never changed": DataConfig(size=64, flip=0.0),
}


def labelled(seed: int, points: int = 5) -> LabelledImage:
    """An image with no face, one, some or a crowd, inside and out."""
    rng = np.random.default_rng(seed)
    faces = (0, 1, 3, 40)[seed % 4]
    width, height = (int(value) for value in rng.integers(20, 300, 2))
    low = rng.uniform(-20, 250, (faces, 2))
    boxes = np.concatenate([low, low + rng.uniform(2, 60, (faces, 2))], 1).astype(np.float32)
    ignore = rng.random(faces) < 0.2
    landmarks = np.concatenate([rng.uniform(-20, 300, (faces, points, 2)), rng.random((faces, points, 1))], 2)
    return LabelledImage(Path("x.png"), "x.png", (width, height), boxes, landmarks.astype(np.float32), ignore)


class Noise:
    """A store whose pixels are noise, the same for the same crop."""

    def __init__(self, images: Sequence[LabelledImage]) -> None:
        self.images = images

    def crops(
        self, crops: Sequence[Crop], size: int, *, here: bool = False, dtype: torch.dtype = torch.float32
    ) -> torch.Tensor:
        return torch.stack([self.pixels(crop, size) for crop in crops]).to(dtype, memory_format=torch.channels_last)

    def pixels(self, crop: Crop, size: int) -> torch.Tensor:
        seed = crop.image * 1000 + crop.left * 10 + crop.top + 10**6
        return 255 * torch.rand(3, size, size, generator=torch.Generator().manual_seed(seed))


def drawn(seeds: Sequence[int], config: DataConfig) -> tuple[list[LabelledImage], list[Crop]]:
    images = [labelled(seed) for seed in seeds]
    return images, [draw_crop(image, k, config, 5, 2, k) for k, image in enumerate(images)]


@settings(max_examples=40, deadline=None)
@given(seeds=st.lists(st.integers(0, 10**6), min_size=1, max_size=6), name=st.sampled_from(list(CONFIGS)))
def test_faces_of_many_crops_are_those_of_each(seeds: list[int], name: str) -> None:
    config = CONFIGS[name]
    images, crops = drawn(seeds, config)
    limits = {"min_face": config.min_face, "min_visible": config.min_visible}
    joined, counts = faces_of_crops(images, crops, config.size, config.reproduce, **limits)
    alone = [
        crop_faces(image, crop, config.size, config.reproduce, **limits)
        for image, crop in zip(images, crops, strict=True)
    ]
    assert counts.tolist() == [len(boxes) for boxes, _, _ in alone]
    for part, parts in zip(joined, zip(*alone, strict=True), strict=True):
        expected = np.concatenate(parts)
        assert part.dtype == expected.dtype
        np.testing.assert_array_equal(part, expected)


@settings(max_examples=40, deadline=None)
@given(seeds=st.lists(st.integers(0, 10**6), min_size=1, max_size=6), name=st.sampled_from(list(CONFIGS)))
def test_a_batch_is_made_of_its_crops_one_by_one(seeds: list[int], name: str) -> None:
    config = CONFIGS[name]
    images, crops = drawn(seeds, config)
    store = Noise(images)
    batch = make_batch(store, crops, config, MIRROR)  # type: ignore[arg-type]
    start = 0
    for k, (image, crop) in enumerate(zip(images, crops, strict=True)):
        limits = {"min_face": config.min_face, "min_visible": config.min_visible}
        cut = crop_faces(image, crop, config.size, config.reproduce, **limits)
        pixels = store.crops([crop], config.size)[0]
        view = augmented(View(pixels, *cut, MIRROR), crop.drawn)
        rows = slice(start, start + len(view.boxes))
        torch.testing.assert_close(batch.images[k], view.image, rtol=0, atol=0)
        np.testing.assert_array_equal(batch.boxes[rows], view.boxes)
        np.testing.assert_array_equal(batch.landmarks[rows], view.landmarks)
        assert batch.kind[rows].tolist() == np.where(view.ignore, IGNORED, FACE).tolist()
        assert batch.image[rows].tolist() == [k] * len(view.boxes)
        start += len(view.boxes)
    assert len(batch.boxes) % 16 == 0
    assert (batch.kind[start:] == PADDING).all()
    assert not (batch.kind[:start] == PADDING).any()


@pytest.mark.parametrize("name", CONFIGS)
def test_rounded_batches_are_the_batches_rounded(name: str) -> None:
    """Whether pixels are rounded when they are cut, or after what computes with them."""
    images, crops = drawn(range(9), CONFIGS[name])
    exact = make_batch(Noise(images), crops, CONFIGS[name], MIRROR)  # type: ignore[arg-type]
    rounded = make_batch(Noise(images), crops, CONFIGS[name], MIRROR, dtype=torch.bfloat16)  # type: ignore[arg-type]
    assert torch.equal(rounded.images, exact.images.bfloat16())
    assert rounded.images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(rounded.boxes, exact.boxes)


# SHA-256 of 400 windows and mirrors, as drawn when each crop tested all its 250 places
WINDOWS = {
    "defaults": "1e2e4df6aa23f383",
    "small faces": "f7475c8168ba5603",
    "grown": "34d9ce43863da7d5",
    "augmented": "1e2e4df6aa23f383",
    "never changed": "5639d46a8d2325ee",
}


@pytest.mark.parametrize("name", WINDOWS)
def test_windows_are_drawn_as_before(name: str) -> None:
    _, crops = drawn(range(400), CONFIGS[name])
    lines = [f"{crop.left} {crop.top} {crop.side} {crop.drawn.get('flip')}" for crop in crops]
    assert sha256("\n".join(lines).encode()).hexdigest()[:16] == WINDOWS[name]
