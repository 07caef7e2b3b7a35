"""Detectors that look at an image at scales and mirrored, and agree: faces come back in its own pixels."""

import numpy as np
import pytest

from facetrain.core.faces import Faces, Image
from facetrain.data.landmark_names import FIVE, mirror_order
from facetrain.eval.protocol import EvalProtocol, ProtocolDetector
from facetrain.label import look
from facetrain.label.look import Looks, Observers


class Marks:
    """Finds the bright spots of an image, in the order of their brightness: the first is taken for the right eye.

    In a mirrored image the spots change places, but the right eye of a face is the one on the image's left side there
    too: it is what this detector goes by.
    """

    def __init__(self, names: tuple[str, ...], score: float = 0.9) -> None:
        self.landmark_names, self.score = names, score

    def detect_batch(self, images: list[Image]) -> list[Faces]:
        return [self._detect(image[..., 0].astype(int)) for image in images]

    def _detect(self, image: np.ndarray) -> Faces:
        rows, columns = np.nonzero(image > 100)
        box = np.float32([[columns.min() - 2, rows.min() - 2, columns.max() + 2, rows.max() + 2]])
        middle = (columns.min() + columns.max()) / 2
        left, right = columns <= middle, columns > middle
        points = [[columns[side].mean(), rows[side].mean()] for side in (left, right)][: len(self.landmark_names)]
        landmarks = np.float32(points).reshape(1, len(self.landmark_names), 2)
        return Faces(box, np.float32([self.score]), landmarks)


def spots() -> Image:
    """Two spots: one at (20, 10), a lower one at (40, 14)."""
    image = np.zeros((40, 64, 3), np.uint8)
    image[10, 20] = image[14, 40] = 255
    return image


def observers(monkeypatch: pytest.MonkeyPatch, detectors: list, **looks: object) -> Observers:
    waiting = iter(detectors)
    monkeypatch.setattr(look, "FaceDetector", lambda name, **settings: next(waiting))
    return Observers(["x"] * len(detectors), Looks(**looks))


def test_a_mirrored_look_gives_points_their_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    eyes = ("right_eye", "left_eye")
    [plain] = observers(monkeypatch, [Marks(eyes)]).detect_batch([spots()])
    assert plain.landmarks.tolist() == [[[20, 10], [40, 14]]]
    mirrored = ProtocolDetector(_OnlyMirrored(Marks(eyes)), EvalProtocol(score=0, flip=True), mirror_order(eyes))
    [faces] = mirrored.detect_batch([spots()])
    # a point in the middle of a pixel comes back one pixel further: x of a mirrored image is its width less x
    np.testing.assert_allclose(faces.landmarks, [[[21, 10], [41, 14]]])
    unknown = ProtocolDetector(_OnlyMirrored(Marks(("a", "left_b"))), EvalProtocol(score=0, flip=True))
    assert np.isnan(unknown.detect_batch([spots()])[0].landmarks).all()


class _OnlyMirrored:
    """Finds nothing in the first of two views."""

    def __init__(self, detector: Marks) -> None:
        self.detector = detector

    def detect_batch(self, images: list[Image]) -> list[Faces]:
        _, mirrored = images
        return [Faces.none(2), *self.detector.detect_batch([mirrored])]


def test_scales_come_back_to_the_image_s_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    [faces] = observers(monkeypatch, [Marks(("right_eye", "left_eye"))], scales=(2.0,)).detect_batch([spots()])
    np.testing.assert_allclose(faces.landmarks, [[[20, 10], [40, 14]]], atol=0.6)


def test_points_are_joined_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first detector that has points names them; the boxes' score is the mean."""
    found = observers(monkeypatch, [Marks((), 0.6), Marks(("right_eye", "left_eye"), 0.5)])
    assert found.landmark_names == ("right_eye", "left_eye")
    [faces] = found.detect_batch([spots()])
    assert faces.scores == pytest.approx([0.55])
    assert faces.landmarks.tolist() == [[[20, 10], [40, 14]]]
    turned = observers(monkeypatch, [Marks(("LeftEye", "RightEye"), 0.5), Marks(("right_eye", "left_eye"), 0.9)])
    [faces] = turned.detect_batch([spots()])
    assert faces.landmarks.tolist() == [[[40, 14], [20, 10]]]


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (FIVE, [1, 0, 2, 4, 3]),
        (("nose",), [0]),
        (("eye_l", "nose", "Right Eye"), [2, 1, 0]),
        ((), []),
        (("point_1", "point_2"), None),
        (("left_eye", "nose"), None),
    ],
)
def test_names_tell_which_point_is_which_in_a_mirror(names: tuple[str, ...], order: list[int] | None) -> None:
    assert mirror_order(names) == order
