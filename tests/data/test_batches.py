"""Batches of an epoch: a function of seed, epoch and position and of nothing else."""

import threading
from collections.abc import Iterator
from dataclasses import fields, replace

import cv2
import numpy as np
import pytest
import torch

from facetrain.config.schema import ColourConfig, DataConfig, LandmarksConfig, SourceConfig
from facetrain.core.faces import LabelledImage
from facetrain.data.batch import FACE, IGNORED, PADDING, Batch
from facetrain.data.batches import ahead, collate, epoch_batches, epoch_shares, mirror_order, steps_per_epoch
from facetrain.data.crops import Crop
from facetrain.data.store.images import ImageStore
from facetrain.data.store.open import open_store

CPU = torch.device("cpu")
CONFIG = DataConfig(size=32)
Item = tuple[list[Crop], Batch]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[LabelledImage]:
    """Seven noise images with 0 to 3 faces each, the last of them ignored."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    result = []
    for i in range(7):
        path = folder / f"{i}.png"
        cv2.imwrite(str(path), rng.integers(0, 256, (50, 64, 3)).astype(np.uint8))
        count = i % 4
        low = rng.uniform(5, 30, (count, 2))
        boxes = np.concatenate([low, low + rng.uniform(4, 18, (count, 2))], 1).astype(np.float32)
        landmarks = np.concatenate([rng.uniform(5, 45, (count, 5, 2)), np.ones((count, 5, 1))], -1).astype(np.float32)
        result.append(LabelledImage(path, path.name, (64, 50), boxes, landmarks, np.arange(count) == 2))
    return result


@pytest.fixture
def store(images: list[LabelledImage]) -> Iterator[ImageStore]:
    opened, _ = open_store(images, "ram", 2, CPU, 0.0)
    yield opened
    opened.close()


def epoch(store: ImageStore, config: DataConfig = CONFIG, **changes: int) -> list[Item]:
    arguments = {"batch": 3, "seed": 0, "epoch": 0} | changes
    return list(epoch_batches(store, config, LandmarksConfig(), **arguments))


def assert_equal(one: list[Item], other: list[Item]) -> None:
    assert [crops for crops, _ in one] == [crops for crops, _ in other]
    for (_, first), (_, second) in zip(one, other, strict=True):
        for part in fields(Batch):
            one_part, other_part = getattr(first, part.name), getattr(second, part.name)
            assert one_part is other_part is None or torch.equal(one_part, other_part), part.name


def test_workers_and_place_change_nothing(images: list[LabelledImage], store: ImageStore) -> None:
    config = replace(CONFIG, colour=ColourConfig(0.4, 0.3, 0.3))
    wanted = epoch(store, config)
    for place, workers in (("ram", 1), ("ram", 5), ("disk", 3)):
        other, _ = open_store(images, place, workers, CPU, 0.0)
        assert_equal(epoch(other, config), wanted)
        other.close()
    device, _ = open_store(images, "device", 1, CPU, 0.0)
    for (crops, batch), (wanted_crops, wanted_batch) in zip(epoch(device), epoch(store), strict=True):
        assert crops == wanted_crops
        assert torch.equal(batch.boxes, wanted_batch.boxes)
        torch.testing.assert_close(batch.images, wanted_batch.images, atol=0.02, rtol=0)
    device.close()


def test_weights_of_labels(images: list[LabelledImage]) -> None:
    """None where all count alike; an image that does not count brings no faces."""
    sourced = [replace(image, source=i % 2) for i, image in enumerate(images)]
    store, _ = open_store(sourced, "ram", 1, CPU, 0.0)
    alike = replace(CONFIG, roots=(SourceConfig("a"), SourceConfig("b")))
    assert_equal(epoch(store, alike), epoch(store))
    for weight in (0.25, 0.0):
        config = replace(CONFIG, roots=(SourceConfig("a"), SourceConfig("b", label_weight=weight)))
        for (crops, batch), (_, plain) in zip(epoch(store, config), epoch(store), strict=True):
            wanted = [(1.0, weight)[sourced[crop.image].source] for crop in crops]
            assert batch.label_weight is not None and batch.label_weight.tolist() == wanted
            assert torch.equal(batch.images, plain.images)
            of_faces, of_plain = batch.image[batch.kind != PADDING], plain.image[plain.kind != PADDING]
            counts = of_plain[torch.tensor([wanted[i] > 0 for i in of_plain.tolist()], dtype=torch.bool)]
            assert torch.equal(of_faces, counts)
        moved = next(iter(epoch(store, config)))[1].to(CPU)
        assert moved.label_weight is not None
        joined = Batch.joined([moved, moved])
        assert joined.label_weight is not None and len(joined.label_weight) == 6
    store.close()


def test_shares_are_the_same_for_any_division(images: list[LabelledImage]) -> None:
    sourced = [replace(image, source=int(i > 2)) for i, image in enumerate(images)]
    config = replace(CONFIG, roots=(SourceConfig("a"), SourceConfig("b", 0.6, 0.5)))
    store, _ = open_store(sourced, "ram", 2, CPU, 0.0)
    other, _ = open_store(sourced, "disk", 1, CPU, 0.0)
    whole = epoch(store, config, batch=4, epoch=1)
    assert_equal(epoch(other, config, batch=4, epoch=1), whole)
    assert_equal(epoch(other, config, batch=4, epoch=1, first_step=1), whole[1:])
    order = [crop.image for crops, _ in whole for crop in crops]
    again = {"batch": 4, "seed": 0, "epoch": 1}
    for part in (range(0, 2), range(2, 4)):
        some = list(epoch_batches(store, config, LandmarksConfig(), part=part, **again))
        assert [c.image for crops, _ in some for c in crops] == [
            i for step in range(len(whole)) for i in order[4 * step + part.start : 4 * step + part.stop]
        ]
    shares = epoch_shares(store, config, LandmarksConfig(), parts=[range(0, 1), range(1, 4)], **again)
    joined = [(crops, Batch.joined([make() for make in parts])) for crops, parts in shares]
    for (crops, batch), (wanted_crops, wanted) in zip(joined, whole, strict=True):
        assert crops == wanted_crops
        assert torch.equal(batch.images, wanted.images)
        assert batch.label_weight is not None and wanted.label_weight is not None
        assert torch.equal(batch.label_weight, wanted.label_weight)
    store.close()
    other.close()


def test_last_batch_is_filled_up_from_the_beginning(store: ImageStore) -> None:
    assert [steps_per_epoch(n, 3) for n in (1, 3, 4, 7)] == [1, 1, 2, 3]
    items = epoch(store)
    assert len(items) == 3
    order = [crop.image for crops, _ in items for crop in crops]
    assert sorted(order[:7]) == list(range(7))
    assert order[7:] == order[:2]
    filled = [crop for crops, _ in items for crop in crops]
    assert filled[7:] != filled[:2]  # the same images, but other crops
    assert all(len(batch.images) == 3 for _, batch in items)


def test_batch_larger_than_the_data(store: ImageStore) -> None:
    [(crops, batch)] = epoch(store, batch=17)
    assert len(batch.images) == 17
    counts = np.bincount([crop.image for crop in crops])
    assert counts.tolist() == [2 + (k in [crop.image for crop in crops[:3]]) for k in range(7)]


def test_epochs_seeds_and_positions_differ(store: ImageStore) -> None:
    first, again = epoch(store), epoch(store)
    assert_equal(first, again)
    crops = [crop for crops, _ in first for crop in crops]
    for other in (epoch(store, epoch=1), epoch(store, seed=1)):
        other_crops = [crop for crops, _ in other for crop in crops]
        assert [c.image for c in crops] != [c.image for c in other_crops]
        by_image = {c.image: c for c in other_crops[:7]}
        differing = [c for c in crops[:7] if replace(by_image[c.image]) != c]
        assert len(differing) >= 5  # not the same windows in another order


@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_first_step_gives_the_tail(store: ImageStore, first: int) -> None:
    assert_equal(epoch(store, first_step=first), epoch(store)[first:])


def test_faces_of_a_batch_are_those_of_its_crops(store: ImageStore) -> None:
    """Every face row names the image it came from, and no face gets lost on the way."""
    whole = replace(CONFIG, crop_scales=(4.0,), flip=0.0)  # windows that hold every image whole
    for crops, batch in epoch(store, whole):
        for i, crop in enumerate(crops):
            image = store.images[crop.image]
            rows = (batch.image == i) & (batch.kind != PADDING)
            factor = 32 / crop.side
            offset = np.float32([crop.left, crop.top] * 2)
            np.testing.assert_allclose(batch.boxes[rows], (image.boxes - offset) * factor, atol=1e-4)
            assert (batch.kind[rows] == IGNORED).tolist() == image.ignore.tolist()
            points = (image.landmarks[..., :2] - offset[:2]) * factor
            np.testing.assert_allclose(batch.landmarks[rows][..., :2], points, atol=1e-4)


def test_rows_are_filled_up_with_padding() -> None:
    images = torch.zeros(3, 3, 8, 8)
    for count in (0, 1, 15, 16, 17, 40):
        rng = np.random.default_rng(count)
        faces = []
        for some in (count // 2, 0, count - count // 2):
            ignore = rng.random(some) < 0.5
            faces.append((rng.random((some, 4), np.float32), rng.random((some, 5, 3), np.float32), ignore))
        batch = collate(images, faces)
        rows = len(batch.boxes)
        assert rows % 16 == 0
        assert count <= rows < count + 16
        assert batch.boxes.shape == (rows, 4)
        assert batch.landmarks.shape == (rows, 5, 3)
        assert (batch.boxes.dtype, batch.image.dtype, batch.kind.dtype) == (torch.float32, torch.int64, torch.int8)
        np.testing.assert_array_equal(batch.boxes[:count], np.concatenate([f[0] for f in faces]))
        np.testing.assert_array_equal(batch.landmarks[:count], np.concatenate([f[1] for f in faces]))
        assert batch.image[:count].tolist() == [0] * (count // 2) + [2] * (count - count // 2)
        ignored = np.concatenate([f[2] for f in faces])
        assert batch.kind[:count].tolist() == np.where(ignored, IGNORED, FACE).tolist()
        assert (batch.kind[count:] == PADDING).all()
        assert (batch.landmarks[count:] == 0).all()


def test_faces_without_landmarks_are_collated() -> None:
    faces = [(np.ones((2, 4), np.float32), np.zeros((2, 0, 3), np.float32), np.array([False, True]))]
    batch = collate(torch.zeros(1, 3, 8, 8), faces)
    assert batch.landmarks.shape == (16, 0, 3)
    assert batch.kind[:2].tolist() == [FACE, IGNORED]


@pytest.mark.parametrize(
    ("names", "mirror", "wanted"),
    [
        ((), (), []),
        (("left", "right", "nose"), (("right", "left"),), [1, 0, 2]),
        (LandmarksConfig().names, LandmarksConfig().mirror, [1, 0, 2, 4, 3]),
        (("a", "b", "c", "d"), (("a", "d"),), [3, 1, 2, 0]),
        (("a", "b"), (), [0, 1]),
    ],
)
def test_mirror_order(names: tuple[str, ...], mirror: tuple, wanted: list[int]) -> None:
    order = mirror_order(LandmarksConfig(names, mirror))
    assert order.tolist() == wanted
    assert order[order].tolist() == list(range(len(names)))


# Working ahead


def batch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "batches"]


def item(number: int) -> Item:
    nothing = torch.zeros(0)
    return [Crop(number, 0, 0, 1)], Batch(nothing, nothing, nothing, nothing, nothing)


def test_ahead_passes_everything_on_in_order() -> None:
    assert [crops[0].image for crops, _ in ahead(item(k) for k in range(25))] == list(range(25))
    assert list(ahead(iter([]))) == []
    assert batch_threads() == []


def test_ahead_equals_the_plain_batches(store: ImageStore) -> None:
    assert_equal(list(ahead(epoch_batches(store, CONFIG, LandmarksConfig(), batch=3, seed=0, epoch=0))), epoch(store))


def test_ahead_works_only_so_far_ahead() -> None:
    made = []
    reached = threading.Event()

    def source() -> Iterator[Item]:
        for k in range(100):
            made.append(k)
            if k == 3:
                reached.set()
            yield item(k)

    batches = ahead(source(), depth=2)
    next(batches)
    assert reached.wait(10)  # one is out, two wait, one is in the maker's hand
    assert len(made) <= 4
    batches.close()


def test_ahead_raises_the_error_of_its_thread_in_place() -> None:
    def source() -> Iterator[Item]:
        yield item(0)
        yield item(1)
        raise ValueError("broken image")

    seen = []
    with pytest.raises(ValueError, match="broken image"):
        for crops, _ in ahead(source()):
            seen.append(crops[0].image)
    assert seen == [0, 1]
    assert batch_threads() == []


def test_ahead_stops_its_thread_when_nobody_listens_any_more() -> None:
    def endless() -> Iterator[Item]:
        k = 0
        while True:
            yield item(k)
            k += 1

    batches = ahead(endless())
    next(batches)
    assert len(batch_threads()) == 1
    batches.close()
    assert batch_threads() == []
