"""The same image is known again in another format, size and quality; other images are not."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from facetrain.core.images import decode_small, read_image, write_image
from facetrain.data.plausibility import facts as facts_file
from facetrain.data.plausibility.copies import look_of_file, look_of_grey, same_images
from facetrain.data.plausibility.facts import image_facts, kept_facts
from facetrain.data.sample_set.make import draw_image


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACETRAIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def drawn(folder: Path, count: int) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        write_image(folder / f"{number}.png", draw_image(0, 0, number)[0])
    return [folder / f"{number}.png" for number in range(count)]


def test_saved_again(tmp_path: Path) -> None:
    paths = drawn(tmp_path, 12)
    looks = [look_of_file(path) for path in paths]
    assert same_images(looks) == []
    again = []
    for number, path in enumerate(paths):
        image = read_image(path)
        half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        suffix, quality = ((".jpg", 30), (".webp", 92), (".jpg", 60))[number % 3]
        other = tmp_path / f"again{number}{suffix}"
        write_image(other, half if number % 2 else image, quality)
        again.append(look_of_file(other))
    assert same_images(looks, again) == [(i, i) for i in range(12)]
    assert same_images([*looks, looks[4]]) == [(4, 12)]


def test_looks_are_compared_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facetrain.data.plausibility.copies._ROWS", 3)
    rng = np.random.default_rng(0)
    looks = [rng.bytes(32) for _ in range(10)]
    for distance in (27, 28, 29):
        bits = np.unpackbits(np.frombuffer(looks[distance - 27], np.uint8))
        bits[rng.choice(256, distance, replace=False)] ^= 1
        looks.append(np.packbits(bits).tobytes())
    looks.insert(5, b"")
    apart = [[sum((a ^ b).bit_count() for a, b in zip(x, y, strict=False)) for y in looks] for x in looks]
    literal = [(i, j) for i in range(14) for j in range(i + 1, 14) if looks[i] and looks[j] and apart[i][j] <= 28]
    assert same_images(looks) == literal != []
    assert same_images(looks[:6], looks[6:]) == [(i, j - 6) for i, j in literal if i < 6 <= j]


def test_an_image_of_nothing_looks_like_nothing() -> None:
    assert look_of_grey(np.full((64, 64), 90, np.uint8)) == b""
    assert same_images([b"", b""]) == same_images([], []) == []


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_headers_tell_the_size_that_is_decoded(tmp_path: Path, suffix: str, orientation: int) -> None:
    from PIL import Image

    from facetrain.core.image_header import file_header

    pixels = draw_image(0, 0, 3)[0][:200, :340]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    Image.fromarray(pixels[..., ::-1].copy()).save(path, exif=exif)
    header = file_header(path)
    assert header is not None
    height, width = read_image(path).shape[:2]
    assert header.upright == (width, height)
    small = decode_small(path.read_bytes(), str(path), 64)
    assert (small.shape[1] > small.shape[0]) == (width > height)
    whole = cv2.resize(cv2.cvtColor(read_image(path), cv2.COLOR_BGR2GRAY), small.shape[::-1], interpolation=3)
    assert np.abs(whole.astype(int) - small).mean() < 4


def test_facts_are_kept_until_the_file_changes(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = drawn(tmp_path / "images", 4)
    (tmp_path / "images/broken.png").write_bytes(b"no image")
    paths = [*paths, tmp_path / "images/broken.png", tmp_path / "images/absent.png"]
    first = image_facts(tmp_path, "train", paths)
    assert set(first) == set(paths[:5])
    assert [fact.look for fact in first.values()] == [None] * 5
    assert first[paths[4]].header is None
    looked = image_facts(tmp_path, "train", paths, looks=True)
    assert [len(looked[path].look or b"") for path in paths[:5]] == [32] * 4 + [0]
    assert "not an image" in looked[paths[4]].problem
    monkeypatch.setattr(facts_file, "_look", lambda *_: pytest.fail("looked again"))
    monkeypatch.setattr(facts_file, "_head", lambda *_: pytest.fail("read again"))
    assert image_facts(tmp_path, "train", paths, looks=True) == looked == image_facts(tmp_path, "train", paths)
    assert kept_facts(tmp_path, "train") == {path.absolute(): fact for path, fact in looked.items()}
    assert kept_facts(tmp_path, "val") == kept_facts(tmp_path / "images", "train") == {}
    monkeypatch.undo()
    monkeypatch.setenv("FACETRAIN_CACHE", str(cache))
    write_image(paths[0], draw_image(0, 0, 7)[0])
    os.utime(paths[0], ns=(1, 1))
    assert paths[0] not in kept_facts(tmp_path, "train")
    changed = image_facts(tmp_path, "train", paths, looks=True)
    assert [changed[path] == looked[path] for path in paths[:5]] == [False, True, True, True, True]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": 1, "images": {"a": [1]}}', b'{"version": 9}'])
def test_a_damaged_cache_is_none(tmp_path: Path, cache: Path, content: bytes) -> None:
    paths = drawn(tmp_path / "images", 1)
    whole = image_facts(tmp_path, "val", paths)
    [file] = cache.rglob("*.json")
    file.write_bytes(content)
    assert kept_facts(tmp_path, "val") == {}
    assert image_facts(tmp_path, "val", paths) == whole


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FACETRAIN_CACHE", str(tmp_path / "file"))
    paths = drawn(tmp_path / "images", 2)
    assert len(image_facts(tmp_path, "val", paths, looks=True)) == 2
