"""Decoded images in a file that several runs share."""

import multiprocessing
import os
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from facetrain.core.errors import DataError, OutputError
from facetrain.core.faces import LabelledImage
from facetrain.data.crops import Crop
from facetrain.data.store import mapped
from facetrain.data.store.images import ImageStore
from facetrain.data.store.open import open_store

CPU = torch.device("cpu")
SIZES = [(40, 30), (17, 64), (5, 5)]


@pytest.fixture
def images(tmp_path: Path) -> list[LabelledImage]:
    rng = np.random.default_rng(0)
    made = []
    for index, (width, height) in enumerate(SIZES):
        path = tmp_path / "set" / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 256, (height, width, 3)).astype(np.uint8))
        made.append(unlabelled(path, (width, height)))
    return made


def unlabelled(path: Path, size: tuple[int, int] | None) -> LabelledImage:
    return LabelledImage(
        path, path.name, size, np.zeros((0, 4), np.float32), np.zeros((0, 5, 3), np.float32), np.zeros(0, np.bool_)
    )


def opened(images: list[LabelledImage], cache: Path, **settings: object) -> tuple[ImageStore, list[str]]:
    notes: list[str] = []
    store, _ = open_store(images, "mapped", 2, CPU, 0.5, cache=cache, tell=notes.append, **settings)  # type: ignore[arg-type]
    return store, notes


def the_file(cache: Path) -> Path:
    [path] = cache.glob("*.bin")
    return path


def test_crops_are_those_of_ram(images: list[LabelledImage], tmp_path: Path) -> None:
    ram, _ = open_store(images, "ram", 2, CPU, 0.0)
    for _ in range(2):  # made, and found
        store, _ = opened(images, tmp_path / "cache")
        assert store.place == "mapped"
        crops = [Crop(0, -3, 2, 25), Crop(1, 1, 20, 14), Crop(2, 0, 0, 5)]
        assert torch.equal(store.crops(crops, 32), ram.crops(crops, 32))


def test_it_is_decoded_once(images: list[LabelledImage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, notes = opened(images, tmp_path / "cache")
    assert len(notes) == 1
    assert "3 decoded images" in notes[0]
    monkeypatch.setattr("facetrain.data.store.decoding.read_image", lambda path: pytest.fail("decoded again"))
    _, notes = opened(images, tmp_path / "cache")
    assert notes == []


def test_sizes_of_unlabelled_images_come_from_it(images: list[LabelledImage], tmp_path: Path) -> None:
    nameless = [replace(image, size=None) for image in images]
    for _ in range(2):
        store, _ = opened(nameless, tmp_path / "cache", unlabelled=True)
        assert [image.size for image in store.images] == SIZES


@pytest.mark.parametrize("place", ["start", "pixels", "list", "cut", "short", "empty"])
def test_a_damaged_file_is_made_anew(images: list[LabelledImage], tmp_path: Path, place: str) -> None:
    ram, _ = open_store(images, "ram", 2, CPU, 0.0)
    opened(images, tmp_path / "cache")
    path = the_file(tmp_path / "cache")
    content = bytearray(path.read_bytes())
    if place in ("cut", "short", "empty"):
        content = content[: {"cut": len(content) // 2, "short": 20, "empty": 0}[place]]
    else:
        content[{"start": 3, "pixels": 100, "list": len(content) - 40}[place]] ^= 0xFF
    path.write_bytes(content)
    store, notes = opened(images, tmp_path / "cache")
    assert "is made anew: it is" in notes[0]
    crops = [Crop(index, 0, 0, 5) for index in range(3)]
    assert torch.equal(store.crops(crops, 8), ram.crops(crops, 8))


@pytest.mark.parametrize(("old", "new"), [("[40, 30]", "[40. 30]"), ("[40, 30]", "[40.30]"), ('"size"', '"sice"')])
def test_a_list_that_says_something_else_is_damage(
    images: list[LabelledImage], tmp_path: Path, old: str, new: str
) -> None:
    opened(images, tmp_path / "cache")
    path = the_file(tmp_path / "cache")
    path.write_bytes(path.read_bytes().replace(old.encode(), new.encode()))
    store, notes = opened(images, tmp_path / "cache")
    assert "is made anew: it is damaged" in notes[0]
    assert store.image(0).shape == (30, 40, 3)


def test_an_image_that_has_changed_is_noticed(images: list[LabelledImage], tmp_path: Path) -> None:
    opened(images, tmp_path / "cache")
    cv2.imwrite(str(images[1].path), np.full((64, 17, 3), 7, np.uint8))
    store, notes = opened(images, tmp_path / "cache")
    assert "is made anew: 1.png has changed" in notes[0]
    assert (store.image(1) == 7).all()


def test_broken_images_are_left_out_each_time(images: list[LabelledImage], tmp_path: Path) -> None:
    images[0].path.write_bytes(b"no image")
    wrong = replace(images[1], size=(9, 9))
    for _ in range(2):
        notes: list[str] = []
        store, broken = open_store(
            [images[0], wrong, images[2]], "mapped", 2, CPU, 0.7, cache=tmp_path / "cache", tell=notes.append
        )
        assert [item.reason.partition(": ")[2].partition(" ")[0] for item in broken] == ["not", "17x64"]
        assert len(store.images) == 1
    with pytest.raises(DataError, match="2 of 3 images"):
        open_store([images[0], wrong, images[2]], "mapped", 2, CPU, 0.5, cache=tmp_path / "cache")
    store, notes = opened(images[1:], tmp_path / "cache")  # the label mended: another file, nothing stale
    assert len(store.images) == 2


def test_no_room_is_said_before_anything_is_written(
    images: list[LabelledImage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(mapped.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(OutputError, match="no room for decoded images") as caught:
        opened(images, tmp_path / "cache")
    assert "FACETRAIN_CACHE" in str(caught.value.hint)
    assert list((tmp_path / "cache").glob("*.bin")) == []


def test_a_large_disk_that_is_nearly_full_has_room_for_a_small_set(
    images: list[LabelledImage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(mapped.shutil, "disk_usage", lambda path: usage._replace(total=10**13, free=2 * 10**9))
    opened(images, tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("*.bin"))) == 1


def test_a_cache_that_cannot_be_made(images: list[LabelledImage], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write here"):
        opened(images, tmp_path / "file" / "cache")


def _open(images: list[LabelledImage], cache: Path, ready: "multiprocessing.synchronize.Barrier") -> None:
    ready.wait()
    store, _ = opened(images, cache)
    os._exit(0 if store.image(2).shape == (5, 5, 3) else 1)


def test_processes_that_begin_at_once_make_one_file(images: list[LabelledImage], tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Barrier(3)
    processes = [context.Process(target=_open, args=(images, tmp_path / "cache", ready)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    the_file(tmp_path / "cache")
