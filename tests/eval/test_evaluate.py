"""A detector over labelled images: what is asked of it, what counts, and what cannot be read."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from facetrain.config.schema import Config
from facetrain.core.errors import DataError
from facetrain.core.faces import Faces, Image, LabelledImage
from facetrain.data.sample_set.make import write_sample
from facetrain.eval.evaluate import load_benchmark, names_of
from facetrain.eval.labelled import labelled_benchmark, size_check
from facetrain.eval.pipeline import detect_images
from facetrain.train.events import LogEvents
from facetrain.train.validation import Validation, find_validation
from tests.examples.stand_ins import write_official_files


class FakeDetector:
    """Finds what it was told for the image whose top left pixel holds its number."""

    def __init__(self, answers: dict[int, Faces]) -> None:
        self.answers = answers
        self.batches: list[list[int]] = []
        self.lock = threading.Lock()

    def detect_batch(self, images: Sequence[Image]) -> list[Faces]:
        numbers = [int(image[0, 0, 0]) for image in images]
        with self.lock:
            self.batches.append(numbers)
        return [self.answers[number] for number in numbers]


def faces(*found: tuple[float, float, float, float, float]) -> Faces:
    """Boxes as x1 y1 x2 y2 score."""
    rows = np.array(found, np.float32).reshape(-1, 5)
    return Faces(rows[:, :4], rows[:, 4], np.zeros((len(rows), 5, 2), np.float32))


MakeImage = Callable[..., LabelledImage]


@pytest.fixture
def image(tmp_path: Path) -> MakeImage:
    def make(number: int, boxes: list = [], ignore: list | None = None, broken: bool = False) -> LabelledImage:  # noqa: B006
        path = tmp_path / f"{number}.png"
        if broken:
            path.write_bytes(b"no image")
        else:
            cv2.imwrite(str(path), np.full((40, 60, 3), number, np.uint8))
        flags = np.array(ignore if ignore is not None else [False] * len(boxes), bool)
        array = np.array(boxes, np.float32).reshape(-1, 4)
        return LabelledImage(path, path.name, (60, 40), array, np.zeros((len(boxes), 5, 3), np.float32), flags)

    return make


FACE, OTHER = (2.0, 2.0, 22.0, 22.0), (30.0, 5.0, 50.0, 30.0)


def measure(detector: FakeDetector, images: list[LabelledImage]) -> tuple[float | None, list[str], list]:
    told: list[tuple[int, int]] = []
    result = Validation(labelled_benchmark(images)).measure(detector, lambda done, total: told.append((done, total)))
    assert told == [(i, len(images)) for i in range(1, len(images) + 1)]
    return result.ap, result.unreadable, detector.batches


def test_perfect_and_half_found(image: MakeImage) -> None:
    images = [image(1, [FACE, OTHER]), image(2, [FACE])]
    everything = FakeDetector({1: faces((*FACE, 0.9), (*OTHER, 0.8)), 2: faces((*FACE, 0.7))})
    assert measure(everything, images)[0] == 1.0
    half = FakeDetector({1: faces((*FACE, 0.9)), 2: faces()})
    assert measure(half, images)[0] == pytest.approx(1 / 3)
    nothing = FakeDetector({1: faces(), 2: faces()})
    assert measure(nothing, images)[0] == 0.0


def test_ignored_faces_neither_reward_nor_punish(image: MakeImage) -> None:
    detector = FakeDetector({1: faces((*OTHER, 0.9), (*FACE, 0.5))})
    assert measure(detector, [image(1, [FACE, OTHER], [False, True])])[0] == 1.0
    missed = FakeDetector({1: faces((*FACE, 0.5))})
    assert measure(missed, [image(1, [FACE, OTHER], [False, True])])[0] == 1.0
    assert measure(detector, [image(1, [FACE, OTHER], [True, True])])[0] is None


def test_false_alarms_on_images_without_faces_count(image: MakeImage) -> None:
    images = [image(1, [FACE]), image(2)]
    quiet = FakeDetector({1: faces((*FACE, 0.5)), 2: faces()})
    loud = FakeDetector({1: faces((*FACE, 0.5)), 2: faces((*FACE, 0.9))})
    late = FakeDetector({1: faces((*FACE, 0.5)), 2: faces((*FACE, 0.1))})
    assert [measure(detector, images)[0] for detector in (quiet, loud, late)] == [1.0, 0.5, 1.0]


def test_unreadable_images_are_named_and_count_as_without_detections(image: MakeImage) -> None:
    absent = image(4, [FACE])
    absent.path.unlink()
    images = [image(1, [FACE]), image(2, [FACE], broken=True), image(3, [FACE]), absent]
    detector = FakeDetector({1: faces((*FACE, 0.9)), 3: faces((*FACE, 0.8))})
    ap, unreadable, batches = measure(detector, images)
    assert ap == 0.5
    assert [name in text for name, text in zip(("2.png", "4.png"), unreadable, strict=True)] == [True, True]
    assert [numbers for numbers in batches if numbers] == [[1], [3]]


def test_nothing_is_given_for_no_images() -> None:
    assert labelled_benchmark([]).score([]).ap == {"all": None}
    assert list(detect_images(FakeDetector({}), [])) == []


@pytest.mark.parametrize(("workers", "batch"), [(1, 1), (1, 3), (1, 20), (4, 1)])
def test_results_come_in_order_whatever_the_workers(image: MakeImage, workers: int, batch: int) -> None:
    images = [image(number, [FACE], broken=number in (3, 4, 8)) for number in range(9)]
    answers = {number: faces((*FACE, number / 10 + 0.05)) for number in range(9)}
    detector = FakeDetector(answers)
    found = list(detect_images(detector, [p.path for p in images], workers=workers, batch=batch))
    assert len(found) == 9
    for number, result in enumerate(found):
        if number in (3, 4, 8):
            assert isinstance(result, DataError)
            assert f"{number}.png" in result.message
        else:
            assert result is answers[number]
    assert sorted(n for some in detector.batches for n in some) == [0, 1, 2, 5, 6, 7]
    if workers == 1:
        wanted = {1: [[0], [1], [2], [5], [6], [7]], 3: [[0, 1, 2], [5], [6, 7]], 20: [[0, 1, 2, 5, 6, 7]]}[batch]
        assert [some for some in detector.batches if some] == wanted


@pytest.mark.parametrize("workers", [1, 3])
def test_errors_of_the_detector_are_not_swallowed(image: MakeImage, workers: int) -> None:
    images = [image(number) for number in range(5)]
    detector = FakeDetector({0: faces()})  # knows no other image
    with pytest.raises(KeyError):
        list(detect_images(detector, [p.path for p in images], workers=workers))


def test_images_are_read_only_a_little_ahead(image: MakeImage, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [image(number) for number in range(30)]
    read: list[Path] = []
    real = cv2.imread
    monkeypatch.setattr("facetrain.eval.pipeline.read_image", lambda path: (read.append(path), real(str(path)))[1])
    detector = FakeDetector({number: faces() for number in range(30)})
    results = detect_images(detector, [p.path for p in images], workers=1, batch=1)
    for _ in range(5):
        next(results)
    assert len(read) <= 5 + 6
    results.close()


def test_size_of_another_image_is_an_error(image: MakeImage) -> None:
    good, bad = image(1, [FACE]), image(2, [FACE])
    bad = LabelledImage(bad.path, bad.name, (40, 60), bad.boxes, bad.landmarks, bad.ignore)
    unknown = image(3)
    unknown = LabelledImage(unknown.path, unknown.name, None, unknown.boxes, unknown.landmarks, unknown.ignore)
    images = [good, bad, unknown]
    detector = FakeDetector({1: faces(), 2: faces(), 3: faces()})
    found = list(detect_images(detector, [p.path for p in images], check=size_check(images)))
    assert isinstance(found[0], Faces)
    assert isinstance(found[1], DataError)
    assert "60x40 pixels, its label says 40x60" in found[1].message
    assert isinstance(found[2], Faces)


def test_official_or_labelled_is_decided_once(tmp_path: Path) -> None:
    """Training's validation and what int8 is judged on choose alike: the official files go first where they are."""
    write_sample(tmp_path, train=2, val=3)
    chosen = load_benchmark(tmp_path, widerface=None)
    validation = find_validation(tmp_path, Config(), LogEvents())
    assert validation is not None
    assert not (chosen.official or validation.official)
    assert names_of(chosen)[0].endswith(Path(chosen.images[0].name).stem)
    write_official_files(tmp_path)
    chosen.images[0].path.unlink()  # those that are there are measured
    chosen = load_benchmark(tmp_path, widerface=None)
    validation = find_validation(tmp_path, Config(), LogEvents())
    assert validation is not None
    assert chosen.official
    assert validation.official
    assert list(chosen.counted) == ["easy", "medium", "hard"]
    assert len(chosen.images) == len(validation.images) == 2
    assert names_of(chosen) == [image.name for image in validation.images]
    assert not load_benchmark(tmp_path, present_only=True).official  # asked for
