"""The window of `--show`, without a screen: what is asked beforehand, and which keys end it."""

import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from facetrain.core.errors import UsageError
from facetrain.core.faces import Faces
from facetrain.core.images import Reduced
from facetrain.detect.detector import Seen
from facetrain.detect.looked import Looked
from facetrain.detect.window import Window
from facetrain.media.frame import Frame
from facetrain.media.still import Still


def looked(time):
    frame = Frame(Reduced(np.zeros((900, 1600, 3), np.uint8), 1, 1600, 900), time=time)
    return Looked(Still(Path("a.jpg"), Path("a.jpg")), frame, Seen(Faces.none(), (1.0,), 10.0), Faces.none(), 0.0)


@pytest.fixture
def keys(monkeypatch):
    """Keys that are pressed, one a wait; -1 where none is. The window is only pretended."""
    pressed, shown = [], []
    monkeypatch.setattr("facetrain.detect.window.check_display", lambda: None)
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "destroyWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "imshow", lambda _, image: shown.append(image.shape))
    monkeypatch.setattr(cv2, "waitKey", lambda _: pressed.pop(0))
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 1.0)
    return pressed, shown


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only there a screen may be missing")
def test_without_a_screen(monkeypatch):
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:                           QT5\n")
    monkeypatch.delenv("QT_QPA_PLATFORM", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(UsageError, match="`show`: there is no screen"):
        Window()
    monkeypatch.setenv("DISPLAY", ":9876")
    with pytest.raises(UsageError, match="DISPLAY=:9876 does not answer"):
        Window()


def test_an_opencv_without_windows(monkeypatch):
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:                           NONE\n")
    with pytest.raises(UsageError, match="this OpenCV has no windows"):
        Window()


@pytest.mark.parametrize("key", [ord("q"), 27])
def test_q_and_escape_end_it(keys, key):
    pressed, shown = keys
    pressed += [-1, ord("x"), key]
    window = Window()
    window.add(looked(Fraction(0)))
    window.add(looked(Fraction(1)))
    with pytest.raises(KeyboardInterrupt):
        window.add(looked(Fraction(2)))
    assert shown == [(720, 1280, 3)] * 3


def test_a_photograph_stays_until_a_key(keys):
    pressed, shown = keys
    pressed += [-1, -1, ord(" ")]
    Window().add(looked(None))
    assert pressed == [] and len(shown) == 1


def test_a_window_that_is_closed_ends_it(keys, monkeypatch):
    keys[0].append(-1)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 0.0)
    with pytest.raises(KeyboardInterrupt):
        Window().add(looked(Fraction(0)))
