from fractions import Fraction

import numpy as np
import pytest
from clips import full, picture
from PIL import Image

from facetrain.core.errors import DataError
from facetrain.media.animations import Animation, is_animation
from facetrain.media.cut import Cut

SUFFIXES = ["gif", "webp", "avif", "png"]
DURATIONS = [100, 40, 300, 100, 60, 100]  # ms


def make(path, numbers=range(6), **options):
    Image.init()
    if path.suffix.lstrip(".").upper() not in Image.SAVE_ALL:
        pytest.skip(f"this Pillow writes no animated {path.suffix}")
    images = [Image.fromarray(picture(number * 3)[..., ::-1]) for number in numbers]
    images[0].save(path, save_all=True, append_images=images[1:], duration=DURATIONS[: len(images)], **options)
    return path


def animation(path, cut=Cut()):  # noqa: B008
    return Animation(path, path, cut)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_times_are_the_files(tmp_path, suffix):
    path = make(tmp_path / f"a.{suffix}")
    assert is_animation(path)
    frames = list(animation(path).frames(full))
    assert [frame.duration * 1000 for frame in frames] == DURATIONS
    assert [frame.time * 1000 for frame in frames] == [sum(DURATIONS[:i]) for i in range(6)]
    assert [frame.index for frame in frames] == list(range(6))
    assert animation(path).count() == 6
    for number, frame in enumerate(frames):
        assert np.abs(frame.image.image.astype(int) - picture(number * 3)).mean() < 6


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_frame_is_a_still(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(picture(0)).save(path)
    assert not is_animation(path)


def test_what_is_none(tmp_path):
    for name, content in (("a.gif", b"GIF89a"), ("b.webp", b"RIFF"), ("c.png", b"\x89PNG\r\n\x1a\n"), ("d.avif", b"")):
        (tmp_path / name).write_bytes(content)
        assert not is_animation(tmp_path / name)
    assert not is_animation(tmp_path / "absent.gif")


def test_a_part(tmp_path):
    path = make(tmp_path / "a.gif")
    frames = list(animation(path, Cut(2, Fraction(1, 10), Fraction(6, 10))).frames(full))
    assert [frame.index for frame in frames] == [1, 3]


def test_frames_without_a_time_last_as_long_as_in_browsers(tmp_path):
    images = [Image.fromarray(picture(number)) for number in (0, 9)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:])
    assert [frame.time for frame in animation(tmp_path / "a.gif").frames(full)] == [0, Fraction(1, 10)]


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_cut_off(tmp_path, suffix):
    random = np.random.default_rng(0)
    images = [Image.fromarray(random.integers(0, 255, (48, 64, 3), dtype=np.uint8)) for _ in range(6)]
    path = tmp_path / f"a.{suffix}"
    images[0].save(path, save_all=True, append_images=images[1:], duration=100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    times = []
    with pytest.raises(DataError) as error:
        for frame in animation(path).frames(full):
            times.append(frame.time)
    assert str(error.value).startswith(f"{path}: ")
    if times:
        assert f"cannot be decoded from 0.{len(times)} s on, after {len(times)} frames" in str(error.value)
    if suffix != "webp":  # which is read as a whole
        assert 2 <= len(times) <= 4


def test_too_many_pixels(tmp_path, monkeypatch):
    path = make(tmp_path / "a.gif")
    monkeypatch.setattr("facetrain.media.animations.MAX_PIXELS", 1000)
    with pytest.raises(DataError, match="3,072 pixels are too many"):
        next(animation(path).frames(full))


def test_what_lies_on_its_side_is_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = make(tmp_path / "a.webp", exif=exif)
    frame = next(animation(path).frames(full))
    assert frame.image.image.shape == (64, 48, 3)
    assert frame.image.image[2, -3].min() > 240  # the upper left corner is now the upper right one
