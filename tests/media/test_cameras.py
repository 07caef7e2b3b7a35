from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import copy, full

from facetrain.core.errors import DataError
from facetrain.media.cameras import Camera
from facetrain.media.cut import Cut


class FakeCamera:
    """Gives so many frames, then none: as OpenCV tells a camera that was unplugged."""

    def __init__(self, frames, there=True):
        self.left, self.there, self.released = frames, there, False

    def isOpened(self):  # noqa: N802
        return self.there

    def read(self):
        self.left -= 1
        return (True, np.full((48, 64, 3), 90, np.uint8)) if self.left >= 0 else (False, None)

    def release(self):
        self.released = True


def camera(fake, cut=Cut(), times=None):  # noqa: B008
    """times: of the clock, in ms."""
    ticks = iter(times or range(5000, 10**9, 40))
    return Camera(3, Path("camera-3.mp4"), cut, lambda number: fake, lambda: next(ticks) * 1_000_000)


def test_times_are_the_clocks():
    fake = FakeCamera(4)
    times = []
    with pytest.raises(DataError, match=r"camera 3: gives no images any more, after 0\.1 s"):
        for frame in camera(fake, times=[5000, 5040, 5075, 5140, 5150]).frames(full):
            times.append(frame.time)
    assert times == [0, Fraction(40, 1000), Fraction(75, 1000), Fraction(140, 1000)]
    assert fake.released


def test_a_part_of_it():
    fake = FakeCamera(10**9)
    frames = list(camera(fake, Cut(2, Fraction(1), Fraction(2))).frames(full))
    assert [frame.time for frame in frames] == [1 + Fraction(80 * i, 1000) for i in range(13)]
    assert fake.released
    assert camera(fake).count() is None
    assert camera(fake, Cut(end=Fraction(2))).count() == 60


def test_one_that_is_not_there():
    fake = FakeCamera(3, there=False)
    with pytest.raises(DataError, match="camera 3: not there, or in use"):
        next(camera(fake).frames(full))
    assert fake.released
    with pytest.raises(DataError, match="camera 3: gives no images"):
        next(camera(FakeCamera(0)).frames(full))


def test_nothing_is_opened_before_the_first_frame():
    def opens(number):
        raise AssertionError

    Camera(0, Path("camera-0.mp4"), factory=opens).frames(full)


def test_left_early_it_is_released():
    fake = FakeCamera(10)
    frames = camera(fake).frames(full)
    next(frames)
    frames.close()
    assert fake.released


def test_what_it_gave_can_be_played(tmp_path):
    pytest.importorskip("av", reason="needs PyAV: pip install 'facetrain[video]'")
    from clips import length, times_of

    times = [5000, 5040, 5075, 5140, 5150]
    copy(camera(FakeCamera(9), Cut(end=Fraction(150, 1000)), times), tmp_path / "a.mp4")
    assert times_of(tmp_path / "a.mp4") == [Fraction(time - 5000, 1000) for time in times[:4]]
    assert length(tmp_path / "a.mp4") == Fraction(150, 1000)


def test_the_real_thing_without_a_camera():
    if Path("/dev/video97").exists():
        pytest.skip("there is a camera 97")
    with pytest.raises(DataError, match="camera 97: not there"):
        next(Camera(97, Path("camera-97.mp4")).frames(full))


def test_a_video_file_behind_the_same_interface(tmp_path):
    pytest.importorskip("av", reason="needs PyAV: pip install 'facetrain[video]'")
    import cv2
    from clips import make_video

    make_video(tmp_path / "a.mp4")
    frames = Camera(0, Path("a.mp4"), factory=lambda number: cv2.VideoCapture(str(tmp_path / "a.mp4"))).frames(full)
    shapes = []
    with pytest.raises(DataError, match="camera 0: gives no images any more"):
        for frame in frames:
            shapes.append(frame.image.image.shape)
    assert shapes == [(48, 64, 3)] * 30
