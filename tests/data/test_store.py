"""Pixels of crops: against plain bilinear loops, the original's transforms, and from three places alike."""

import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facetrain.config.schema import DataConfig, LandmarksConfig
from facetrain.core.errors import DataError
from facetrain.core.faces import LabelledImage
from facetrain.data.augmentations import augmented
from facetrain.data.batches import make_batch, mirror_order
from facetrain.data.crops import Crop
from facetrain.data.store import placement
from facetrain.data.store.gather import gather_crops
from facetrain.data.store.host import cut
from facetrain.data.store.images import ImageStore
from facetrain.data.store.open import open_store
from facetrain.data.store.placement import choose_place
from facetrain.data.view import View

CPU = torch.device("cpu")
MIRROR = mirror_order(LandmarksConfig())
SIZES = ((60, 40), (33, 47), (5, 64))  # width, height


def noise(width: int, height: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def faceless(pixels: torch.Tensor) -> View:
    return View(pixels, np.zeros((0, 4), np.float32), np.zeros((0, 5, 3), np.float32), np.zeros(0, bool), MIRROR)


def no_faces(path: Path, size: tuple[int, int] | None) -> LabelledImage:
    return LabelledImage(
        path, path.name, size, np.zeros((0, 4), np.float32), np.zeros((0, 5, 3), np.float32), np.zeros(0, bool)
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[LabelledImage]:
    folder = tmp_path_factory.mktemp("images")
    result = []
    for i, (width, height) in enumerate(SIZES):
        cv2.imwrite(str(folder / f"{i}.png"), noise(width, height, i))
        result.append(no_faces(folder / f"{i}.png", (width, height)))
    return result


@pytest.fixture(scope="module")
def stores(images: list[LabelledImage]) -> Iterator[dict[str, ImageStore]]:
    made = {place: open_store(images, place, 2, CPU, 0.0)[0] for place in ("ram", "disk", "device")}
    assert [store.place for store in made.values()] == ["ram", "disk", "device"]
    yield made
    for store in made.values():
        store.close()


def bilinear(image: np.ndarray, crop: Crop, size: int) -> np.ndarray:
    """B.2, steps 2 to 4, in doubles: canvas of 128, half-pixel centres, no antialiasing. Returns (size, size, 3)."""
    canvas = np.full((crop.side, crop.side, 3), 128.0)
    for y in range(crop.side):
        for x in range(crop.side):
            if 0 <= y + crop.top < image.shape[0] and 0 <= x + crop.left < image.shape[1]:
                canvas[y, x] = image[y + crop.top, x + crop.left]
    out = np.zeros((size, size, 3))
    for v in range(size):
        for u in range(size):
            px, py = ((i + 0.5) * crop.side / size - 0.5 for i in (u, v))
            px, py = (min(max(p, 0.0), crop.side - 1.0) for p in (px, py))
            x, y = math.floor(px), math.floor(py)
            x1, y1 = min(x + 1, crop.side - 1), min(y + 1, crop.side - 1)
            wx, wy = px - x, py - y
            upper = canvas[y, x] * (1 - wx) + canvas[y, x1] * wx
            lower = canvas[y1, x] * (1 - wx) + canvas[y1, x1] * wx
            out[v, u] = upper * (1 - wy) + lower * wy
    return out


windows = st.builds(Crop, st.integers(0, 2), st.integers(-40, 70), st.integers(-40, 70), st.integers(1, 90))


@settings(max_examples=25, deadline=None)
@given(crops=st.lists(windows, min_size=1, max_size=3), size=st.sampled_from([1, 16, 24]))
def test_three_places_give_the_crops_of_the_loops(stores: dict[str, ImageStore], crops: list[Crop], size: int) -> None:
    wanted = np.stack([bilinear(noise(*SIZES[crop.image], crop.image), crop, size) for crop in crops])
    got = {place: store.crops(crops, size) for place, store in stores.items()}
    for result in got.values():
        assert result.shape == (len(crops), 3, size, size)
        assert result.dtype == torch.float32
        assert result.is_contiguous(memory_format=torch.channels_last)
        np.testing.assert_allclose(result.permute(0, 2, 3, 1), wanted, atol=0.02)
    assert torch.equal(got["ram"], got["disk"])


@settings(max_examples=25, deadline=None)
@given(crops=st.lists(windows, min_size=1, max_size=2), size=st.sampled_from([64, 320]))
def test_device_and_ram_agree_when_enlarging(stores: dict[str, ImageStore], crops: list[Crop], size: int) -> None:
    difference = (stores["ram"].crops(crops, size) - stores["device"].crops(crops, size)).abs().max()
    assert difference <= 0.02


def test_large_windows_agree() -> None:
    """Here 32-bit positions are off by hundredths of a grey level."""
    image = noise(1800, 1300, 9)
    flat = torch.zeros(1800 * 1300, 4, dtype=torch.uint8)
    flat[:, :3] = torch.from_numpy(image).view(-1, 3)
    left, top, side, size = -150, -300, 1999, 160
    canvas = np.full((side, side, 3), 128.0)
    canvas[300:1600, 150:1950] = image
    position = (np.arange(size) + 0.5) * side / size - 0.5
    low, weight = position.astype(int), position % 1
    rows = canvas[low] * (1 - weight)[:, None, None] + canvas[low + 1] * weight[:, None, None]
    wanted = rows[:, low] * (1 - weight)[:, None] + rows[:, low + 1] * weight[:, None]
    gathered = gather_crops(flat, torch.tensor([[0, 1800, 1300, left, top, side]]), size)[0]
    np.testing.assert_allclose(gathered.permute(1, 2, 0), wanted, atol=1e-3)
    out = np.zeros((size, size, 3), np.float32)
    cut(image, Crop(0, left, top, side), out)
    np.testing.assert_allclose(out, wanted, atol=0.05)  # OpenCV's own positions have 32 bits


def test_golden_crop_and_resize(golden: dict, golden_arrays: dict[str, np.ndarray]) -> None:
    """`aug_*` of the reference: the crop exactly, resized and mirrored images to 0.02."""
    image = golden_arrays["aug_image"]
    flat = torch.zeros(image.shape[0] * image.shape[1], 4, dtype=torch.uint8)
    flat[:, :3] = torch.from_numpy(image).view(-1, 3)
    for name, size, flip, tolerance in (("crop", 99, 0, 0), ("resized", 64, 0, 0.02), ("flipped", 64, 1, 0.02)):
        wanted = golden_arrays[f"aug_{name}"].astype(np.float32)
        out = np.zeros((size, size, 3), np.float32)
        cut(image, Crop(0, 7, -5, 99), out)
        gathered = gather_crops(flat, torch.tensor([[0, 130, 90, 7, -5, 99]]), size)[0]
        for pixels in (torch.from_numpy(out).permute(2, 0, 1), gathered):
            got = augmented(faceless(pixels), {"flip": True} if flip else {}).image
            np.testing.assert_allclose(got.permute(1, 2, 0), wanted, atol=tolerance, rtol=0)
    assert golden["augment"]["steps"]["crop"]["image_sum"] == golden_arrays["aug_crop"].sum()


def test_window_beside_the_image_is_grey(stores: dict[str, ImageStore]) -> None:
    for store in stores.values():
        assert bool((store.crops([Crop(1, 50, 60, 9), Crop(1, -9, 0, 9)], 16) == 128).all())


# Landmarks stay on their pixels

POINTS = ((40.5, 30.5), (72.25, 33.0), (57.0, 50.75), (44.0, 66.5), (70.0, 64.0))


def blob(x: float, y: float) -> np.ndarray:
    """(100, 120): a soft spot around a point; pixel i covers [i, i + 1)."""
    columns, rows = np.arange(120) + 0.5, np.arange(100) + 0.5
    return 250 * np.exp(-((columns[None] - x) ** 2 + (rows[:, None] - y) ** 2) / (2 * 3.0**2))


@pytest.fixture(scope="module")
def spots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ImageStore]]:
    """Two images of one face: landmarks 0, 1, 2 as blue, green and red spots, then landmarks 3 and 4."""
    folder = tmp_path_factory.mktemp("spots")
    images = []
    for i, some in enumerate(((0, 1, 2), (3, 4))):
        image = np.zeros((100, 120, 3), np.uint8)
        for channel, k in enumerate(some):
            image[..., channel] = np.round(blob(*POINTS[k]))
        cv2.imwrite(str(folder / f"{i}.png"), image)
        landmarks = np.array([[(x, y, 1) for x, y in POINTS]], np.float32)
        box = np.array([[30, 20, 84, 80]], np.float32)
        images.append(LabelledImage(folder / f"{i}.png", str(i), (120, 100), box, landmarks, np.array([False])))
    made = {place: open_store(images, place, 1, CPU, 0.0)[0] for place in ("ram", "device")}
    yield made
    for store in made.values():
        store.close()


@settings(max_examples=60, deadline=None)
@given(
    left=st.integers(-40, 50), top=st.integers(-40, 45), side=st.integers(35, 150), flip=st.booleans(),
    size=st.sampled_from([64, 128]), place=st.sampled_from(["ram", "device"]),
)  # fmt: skip
def test_landmarks_stay_on_their_pixels(
    spots: dict[str, ImageStore], left: int, top: int, side: int, flip: bool, size: int, place: str
) -> None:
    """The spot of every landmark is found where the mapped landmark says, to a quarter of a pixel."""
    store = spots[place]
    crops = [Crop(i, left, top, side, {"flip": True} if flip else {}) for i in range(2)]
    batch = make_batch(store, crops, DataConfig(size=size), MIRROR)
    pixels, mapped = batch.images.numpy(), batch.landmarks.numpy()
    if len(mapped) == 0:
        return
    for place_of_face, k in enumerate(MIRROR if flip else range(5)):
        x, y, weight = mapped[0, place_of_face]
        px, py = POINTS[k]
        inside = left <= px <= left + side and top <= py <= top + side
        assert weight == inside
        border = min(px - left, py - top, left + side - px, top + side - py)
        if border < 11:  # the spot is cut off
            continue
        spot = pixels[k // 3, k % 3].astype(float)
        # outside of the image the canvas is grey, which is no spot
        spot[:, _outside(left, side, size, 120, flip)] = 0
        spot[_outside(top, side, size, 100, False)] = 0
        grid = np.arange(size) + 0.5
        assert abs((spot.sum(0) * grid).sum() / spot.sum() - x) < 0.25
        assert abs((spot.sum(1) * grid).sum() / spot.sum() - y) < 0.25


def _outside(start: int, side: int, size: int, length: int, flip: bool) -> np.ndarray:
    """(size,): rows or columns of a crop that are not wholly made of the image's pixels."""
    position = (np.arange(size) + 0.5) * side / size + start
    outside = (position < 1) | (position > length - 1)
    return outside[::-1] if flip else outside


# Opening a store


def test_broken_images_are_counted_named_and_left_out(
    images: list[LabelledImage], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    broken = [
        no_faces(tmp_path / "text.png", (60, 40)),
        no_faces(tmp_path / "absent.png", (60, 40)),
        no_faces(tmp_path / "empty.png", (60, 40)),
        no_faces(images[1].path, (47, 33)),  # a label that has width and height exchanged
    ]
    mixed = [broken[0], images[0], broken[1], broken[2], images[2], broken[3]]
    told: list[tuple[int, int]] = []
    for place in ("ram", "disk", "device"):
        told.clear()
        store, left_out = open_store(mixed, place, 2, CPU, 4 / 6, lambda done, total: told.append((done, total)))
        assert told == [(i, 6) for i in range(1, 7)]
        assert [item.image for item in left_out] == broken
        assert store.images == [images[0], images[2]]
        # what is left keeps its pixels
        out = store.crops([Crop(0, 0, 0, 40), Crop(1, 0, 0, 5)], 40)
        np.testing.assert_array_equal(out[0].permute(1, 2, 0), noise(60, 40, 0)[:, :40])
        np.testing.assert_allclose(out[1].permute(1, 2, 0), bilinear(noise(5, 64, 2), Crop(1, 0, 0, 5), 40), atol=0.02)
        store.close()
    for name in ("text.png", "absent.png", "empty.png"):
        assert name in caplog.text
    assert "33x47 pixels, its label says 47x33" in caplog.text


@pytest.mark.parametrize("place", ["ram", "disk", "device"])
def test_too_many_broken_images_are_an_error(images: list[LabelledImage], tmp_path: Path, place: str) -> None:
    absent = no_faces(tmp_path / "absent.png", (60, 40))
    with pytest.raises(DataError, match="1 of 4 images") as caught:
        open_store([*images, absent], place, 2, CPU, 0.24)
    assert "absent.png" in caught.value.message
    assert "max_broken" in str(caught.value.hint)
    store, left_out = open_store([*images, absent], place, 2, CPU, 0.25)
    assert len(left_out) == 1
    store.close()


def test_images_too_long_a_list_to_name() -> None:
    absent = [no_faces(Path(f"absent{i}.png"), (9, 9)) for i in range(25)]
    with pytest.raises(DataError, match="and 5 more"):
        open_store(absent, "ram", 2, CPU, 0.5)


def test_labels_without_a_size_are_named(images: list[LabelledImage]) -> None:
    nameless = no_faces(images[0].path, None)
    with pytest.raises(DataError, match="its label gives no size"):
        open_store([*images, nameless], "ram", 1, CPU, 0.0)


# Where pixels are kept

PIXELS = sum(width * height for width, height in SIZES)


@pytest.mark.parametrize(("free", "place"), [(2 * 3 * PIXELS, "ram"), (3 * PIXELS, "disk")])
def test_place_follows_the_free_memory(
    images: list[LabelledImage], monkeypatch: pytest.MonkeyPatch, free: int, place: str
) -> None:
    """Some must be left for the network."""
    monkeypatch.setattr(placement, "free_memory", lambda: free)
    assert choose_place(images, CPU).place == place
    store, _ = open_store(images, "auto", 1, CPU, 0.0)
    assert store.place == place
    store.close()


@pytest.mark.parametrize(
    ("on_gpu", "limit", "processes", "place"),
    [
        (1000 * PIXELS, None, 1, "device"),
        (1000 * PIXELS, 4.1 * PIXELS / 1e9, 1, "device"),
        (1000 * PIXELS, 3.9 * PIXELS / 1e9, 1, "ram"),
        (4 * PIXELS, None, 1, "ram"),  # of which 60 % may be taken
        (4 * PIXELS, None, 400, "disk"),  # a copy for each process
        (1000 * PIXELS, 2.9 * PIXELS / 1e9, 1, "disk"),
        (1000 * PIXELS, 0.0, 1, "disk"),
    ],
)
def test_place_on_a_machine_with_a_gpu(
    images: list[LabelledImage],
    monkeypatch: pytest.MonkeyPatch,
    on_gpu: int,
    limit: float | None,
    processes: int,
    place: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (on_gpu, 2 * on_gpu))
    monkeypatch.setattr(placement, "free_memory", lambda: 1000 * PIXELS)
    assert choose_place(images, torch.device("cuda"), "auto", limit, processes).place == place


def test_place_and_its_arithmetic_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of WIDER FACE beside a GPU of 24 GB and 64 GB of RAM, and on a laptop of 16 GB."""
    images = [no_faces(Path("x.jpg"), (1024, 875))] * 12_880
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (24_000_000_000, 24_000_000_000))
    monkeypatch.setattr(placement, "free_memory", lambda: 64_000_000_000)
    gpu = choose_place(images, torch.device("cuda"))
    assert (gpu.place, gpu.line) == (
        "ram",
        "pixels: 12,880 images take 34.6 GB of RAM (3 bytes a pixel) or 46.2 GB of the GPU's memory (4 bytes); 38.4 "
        "and 14.4 GB may be taken, 60% of what is free: kept in RAM, copied to the GPU ahead of each step",
    )
    monkeypatch.setattr(placement, "free_memory", lambda: 12_000_000_000)
    laptop = choose_place(images, CPU)
    assert (laptop.place, laptop.line) == (
        "disk",
        "pixels: 12,880 images take 34.6 GB of RAM (3 bytes a pixel); 7.2 GB may be taken, 60% of what is free: "
        "read from disk anew each time",
    )
    two = choose_place(images, CPU, "ram", 10.0, 2)
    assert (two.place, two.line) == (
        "ram",
        "pixels: 12,880 images take 69.2 GB of RAM in 2 copies (3 bytes a pixel); 10.0 GB may be taken: "
        "kept in RAM, as asked",
    )


@settings(max_examples=25, deadline=None)
@given(crops=st.lists(windows, min_size=1, max_size=4), size=st.sampled_from([1, 16, 24]))
def test_what_is_sent_to_a_gpu_gives_the_crops_of_resident_pixels(
    stores: dict[str, ImageStore], crops: list[Crop], size: int
) -> None:
    """Bands of rows from RAM or fresh from disk, bit by bit; no more than the windows need is sent."""
    wanted = stores["device"].crops(crops, size)
    rows = sum(max(0, min(c.top + c.side, SIZES[c.image][1]) - max(c.top, 0)) * SIZES[c.image][0] for c in crops)
    for place in ("ram", "disk"):
        flat, plan = stores[place].packed(crops)
        assert len(flat) == max(1, rows)
        assert torch.equal(gather_crops(flat, plan, size), wanted)
