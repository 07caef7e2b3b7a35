"""JPEGs that are decoded at a part of their size: which part, which pixels, which way up, and what is refused."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image as Pillow

from facetrain.core.errors import DataError
from facetrain.core.image_header import read_header
from facetrain.core.images import decode_image, decode_reduced, read_reduced

TURNS = (1, 3, 6, 8)  # EXIF's numbers of an upright image and of the quarter turns


def waves(width: int, height: int) -> np.ndarray:
    """Smooth enough for a mean of pixels to be near any other."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([127 + 100 * np.sin(x / 40), 127 + 100 * np.cos(y / 30), 60 + (x + y) % 2], -1).astype(np.uint8)


def jpeg(image: np.ndarray, orientation: int = 1, **options: bool) -> bytes:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    Pillow.fromarray(image[..., ::-1]).save(stream, "JPEG", quality=95, exif=exif, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("scale", "factor"),
    [(2.0, 1), (1.0, 1), (0.51, 1), (0.5, 2), (0.3, 2), (0.25, 4), (0.13, 4), (0.125, 8), (0.01, 8)],
)
@pytest.mark.parametrize("progressive", [False, True])
def test_as_small_as_is_enough(scale: float, factor: int, progressive: bool) -> None:
    content = jpeg(waves(321, 203), progressive=progressive)
    seen = []
    found = decode_reduced(content, "a", lambda width, height: seen.append((width, height)) or scale)  # type: ignore[func-returns-value]
    assert seen == [(321, 203)]
    assert (found.factor, found.width, found.height) == (factor, 321, 203)
    assert found.image.shape == (-(-203 // factor), -(-321 // factor), 3)
    whole = decode_image(content, "a")
    if factor == 1:
        assert np.array_equal(found.image, whole)
    cut = whole[: 200 // factor * factor, : 320 // factor * factor]
    means = cv2.resize(cut, (320 // factor, 200 // factor), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(found.image[: means.shape[0], : means.shape[1]] - means).mean() < 2


@given(
    some.integers(8, 90), some.integers(8, 90), some.sampled_from(sorted(TURNS)), some.sampled_from([0.5, 0.25, 0.125])
)
@settings(max_examples=40, deadline=None)
def test_upright_and_the_originals_sides(width: int, height: int, orientation: int, scale: float) -> None:
    content = jpeg(waves(width, height), orientation)
    whole = decode_image(content, "a")
    found = decode_reduced(content, "a", lambda *_: scale)
    assert (found.height, found.width) == whole.shape[:2]
    assert found.image.shape[:2] == tuple(-(-side // found.factor) for side in whole.shape[:2])


def test_only_jpegs_are_reduced(tmp_path: Path) -> None:
    for suffix in (".png", ".webp", ".bmp"):
        path = tmp_path / f"a{suffix}"
        cv2.imwrite(str(path), waves(64, 48))
        found = read_reduced(path, lambda *_: 0.1)
        assert (found.factor, found.image.shape) == (1, (48, 64, 3))


def test_a_jpeg_that_was_cut_off_is_refused_at_any_size() -> None:
    content = jpeg(waves(320, 200))
    with pytest.raises(DataError, match="a: a JPEG that was cut off"):
        decode_reduced(content[: len(content) // 2], "a", lambda *_: 0.25)


def blown_up(content: bytes, width: int, height: int) -> bytes:
    """The same file with other sides in its frame's header."""
    place = next(at for at in range(len(content)) if content[at] == 0xFF and content[at + 1] in (0xC0, 0xC2))
    return content[: place + 5] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + content[place + 9 :]


def test_what_is_too_large_says_how_much_it_may_be() -> None:
    content = blown_up(jpeg(waves(32, 32)), 60_000, 40_000)
    with pytest.raises(DataError, match="a: 2,400,000,000 pixels are too many") as caught:
        decode_image(content, "a")
    assert caught.value.hint == "at most 178,956,970; scale it down"
    with pytest.raises(DataError, match="2,400,000,000 pixels are too many") as caught:
        decode_reduced(content, "a", lambda *_: 0.3)
    assert caught.value.hint == "at most 715,827,880"
    content = blown_up(jpeg(waves(32, 32), progressive=True), 30_000, 20_000)
    with pytest.raises(DataError, match="30000x20000 pixels would take 3,486 MiB of memory"):
        decode_reduced(content, "a", lambda *_: 0.1)


def test_a_frames_header_is_read_behind_a_thumbnails() -> None:
    exif = Pillow.Exif()
    exif[0x010E] = "\xff\xc0 is no frame here" * 20
    stream = io.BytesIO()
    Pillow.new("L", (70, 50)).save(stream, "JPEG", exif=exif)
    header = read_header(stream.getvalue(), "a.jpg")
    assert header is not None and (header.format, header.width, header.height) == ("JPEG", 70, 50)
    assert read_header(stream.getvalue()[:30], "a.jpg") is None
