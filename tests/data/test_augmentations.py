"""Augmentations together: in which order, from which generator, and what a new one needs to reach the batches."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from pkgutil import iter_modules

import cv2
import numpy as np
import pytest
import torch

from facetrain.config.schema import ColourConfig, CutoutConfig, DataConfig, LandmarksConfig, RotateConfig
from facetrain.core.faces import LabelledImage
from facetrain.data import augment
from facetrain.data.augmentations import augmentations
from facetrain.data.batch import IGNORED, PADDING, Batch
from facetrain.data.batches import epoch_batches, make_batch, mirror_order
from facetrain.data.crops import Crop, draw_crop
from facetrain.data.store.images import ImageStore
from facetrain.data.store.open import open_store

CPU = torch.device("cpu")
MIRROR = mirror_order(LandmarksConfig())
COLOUR = ColourConfig(0.4, 0.3, 0.4)
ALL_ON = DataConfig(rotate=RotateConfig(1.0), colour=COLOUR, cutout=CutoutConfig(1.0))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[LabelledImage]:
    """Six noise images of 64 x 50 with two faces and an ignored region each."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(1)
    made = []
    for i in range(6):
        path = folder / f"{i}.png"
        cv2.imwrite(str(path), rng.integers(0, 256, (50, 64, 3)).astype(np.uint8))
        low = rng.uniform(5, 30, (3, 2))
        boxes = np.concatenate([low, low + rng.uniform(4, 18, (3, 2))], 1).astype(np.float32)
        landmarks = np.concatenate([rng.uniform(5, 45, (3, 5, 2)), np.ones((3, 5, 1))], -1).astype(np.float32)
        made.append(LabelledImage(path, path.name, (64, 50), boxes, landmarks, np.arange(3) == 2))
    return made


@pytest.fixture
def store(images: list[LabelledImage]) -> Iterator[ImageStore]:
    opened, _ = open_store(images, "ram", 2, CPU, 0.0)
    yield opened
    opened.close()


def epoch(store: ImageStore, config: DataConfig) -> list[tuple[list[Crop], Batch]]:
    return list(epoch_batches(store, config, LandmarksConfig(), batch=4, seed=3, epoch=1))


def test_every_file_is_a_key_of_the_schema() -> None:
    files = {module.name for module in iter_modules(augment.__path__)}
    assert files == set(augmentations())
    assert files <= {key.name for key in fields(DataConfig)}


def test_order_is_that_of_the_schema() -> None:
    assert list(augmentations()) == ["flip", "rotate", "colour", "cutout"]


@pytest.mark.parametrize("name", sorted(augmentations().keys() - {"flip"}))
def test_only_mirrors_are_on_by_default(images: list[LabelledImage], name: str) -> None:
    assert not any(name in draw_crop(images[0], 0, DataConfig(), 0, 0, position).drawn for position in range(100))


def test_what_is_on_moves_no_other_draw(store: ImageStore) -> None:
    """Windows, mirrors and colours are those of a run without the rest."""
    plain = epoch(store, DataConfig(size=32, colour=COLOUR))
    for config in (
        replace(ALL_ON, size=32, cutout=CutoutConfig()),
        replace(ALL_ON, size=32, rotate=RotateConfig()),
        replace(ALL_ON, size=32),
    ):
        for (crops, _), (more, _) in zip(plain, epoch(store, config), strict=True):
            old = [{name: crop.drawn[name] for name in crop.drawn if name in ("flip", "colour")} for crop in more]
            assert [replace(crop, drawn=drawn) for crop, drawn in zip(more, old, strict=True)] == crops
    turned = [[crop.drawn["rotate"] for crop in crops] for crops, _ in epoch(store, ALL_ON)]
    alone = replace(ALL_ON, colour=ColourConfig(), cutout=CutoutConfig(), flip=0.0)
    assert [[crop.drawn["rotate"] for crop in crops] for crops, _ in epoch(store, alone)] == turned


def test_places_of_pixels_give_the_same_batches(images: list[LabelledImage], store: ImageStore, tmp_path: Path) -> None:
    config = replace(ALL_ON, size=32, colour=ColourConfig())
    wanted = epoch(store, config)
    for place in ("disk", "mapped", "device"):
        other, _ = open_store(images, place, 3, CPU, 0.0, cache=tmp_path)
        for (crops, batch), (wanted_crops, wanted_batch) in zip(epoch(other, config), wanted, strict=True):
            assert crops == wanted_crops
            for part in ("boxes", "landmarks", "image", "kind"):
                assert torch.equal(getattr(batch, part), getattr(wanted_batch, part))
            tolerance = 0.02 if place == "device" else 0
            torch.testing.assert_close(batch.images, wanted_batch.images, atol=tolerance, rtol=0)
        other.close()


def test_a_covered_face_is_ignored_in_the_batch(images: list[LabelledImage], store: ImageStore) -> None:
    crop = Crop(0, -32, -39, 128, {"cutout": (0.0, 0.0, 1.0, 1.0)})
    batch = make_batch(store, [crop], DataConfig(size=32), MIRROR)
    assert batch.kind[:4].tolist() == [IGNORED, IGNORED, IGNORED, PADDING]
    assert bool((batch.images == 128).all())


def test_a_batch_keeps_its_form(store: ImageStore) -> None:
    plain = epoch(store, DataConfig(size=32))
    for (_, before), (crops, after) in zip(plain, epoch(store, replace(ALL_ON, size=32)), strict=True):
        assert all(set(augmentations()) - {"flip"} <= set(crop.drawn) for crop in crops), "ALL_ON leaves one out"
        assert after.images.shape == before.images.shape
        assert after.images.dtype == torch.float32
        assert after.images.is_contiguous(memory_format=torch.channels_last)
        assert bool((after.images >= 0).all() & (after.images <= 255.01).all())
        assert not torch.equal(after.images, before.images)
        assert after.boxes.dtype == after.landmarks.dtype == torch.float32
        assert bool((after.boxes >= 0).all() & (after.boxes <= 32).all())


# A new augmentation


@dataclass(frozen=True)
class WithNegative(DataConfig):
    """The schema with one line more."""

    negative: float = 0.0  # chance of a negative


NEGATIVE = '''
"""A negative."""

def draw(rng, setting):
    return (rng.random() < setting) or None

def apply(view, numbers):
    view.image.neg_().add_(255)
    return view
'''


@pytest.fixture
def negative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put one file into the folder of augmentations."""
    (tmp_path / "negative.py").write_text(NEGATIVE)
    monkeypatch.setattr(augment, "__path__", [*augment.__path__, str(tmp_path)])


@pytest.mark.usefixtures("negative")
def test_a_file_and_a_line_of_the_schema_are_all_it_takes(store: ImageStore) -> None:
    plain = epoch(store, DataConfig(size=32, colour=COLOUR))
    for chance in (0.0, 0.5, 1.0):
        both = zip(plain, epoch(store, WithNegative(size=32, colour=COLOUR, negative=chance)), strict=True)
        count = 0
        for (crops, before), (new_crops, after) in both:
            # whether on or off, it disturbs no draw of the others
            others = [{name: crop.drawn[name] for name in crop.drawn if name != "negative"} for crop in new_crops]
            assert [replace(crop, drawn=drawn) for crop, drawn in zip(new_crops, others, strict=True)] == crops
            assert torch.equal(after.boxes, before.boxes)
            for one, other, crop in zip(before.images, after.images, new_crops, strict=True):
                changed = "negative" in crop.drawn
                torch.testing.assert_close(other, 255 - one if changed else one, atol=1e-4, rtol=0)
                count += changed
        total = sum(len(crops) for crops, _ in plain)
        assert count == chance * total if chance in (0.0, 1.0) else 0 < count < total


@pytest.mark.usefixtures("negative")
def test_what_is_new_draws_from_a_generator_of_its_own(images: list[LabelledImage]) -> None:
    """By seed, epoch and position, as all draws are, and not the one that draws windows."""
    config = WithNegative(negative=0.5)

    def drawn(seed: int, epoch: int) -> list[bool]:
        crops = (draw_crop(images[0], 0, config, seed, epoch, position) for position in range(64))
        return ["negative" in crop.drawn for crop in crops]

    assert drawn(0, 0) == drawn(0, 0)
    assert drawn(0, 0) != drawn(1, 0) != drawn(0, 1) != drawn(0, 0)
    flips = ["flip" in draw_crop(images[0], 0, config, 0, 0, position).drawn for position in range(64)]
    assert 16 < sum(one == other for one, other in zip(flips, drawn(0, 0), strict=True)) < 48
