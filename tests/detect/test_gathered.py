"""Images of several threads that go through a network together."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from facetrain.cli.app import run_cli
from facetrain.core.errors import DataError, UsageError
from facetrain.core.faces import Faces
from facetrain.core.images import read_image
from facetrain.detect.bundled import FOLDER
from facetrain.detect.detector import FaceDetector
from facetrain.detect.gathered import Gathered

BUNDLED = FOLDER / "yunet_n.pt"


class Widths:
    """Finds in each image one face as wide as the image; not of width 13. Remembers how many came at once."""

    def __init__(self):
        self.batches = []
        self.inside = 0

    def detect_batch(self, images):
        self.inside += 1
        assert self.inside == 1  # one batch at a time
        try:
            self.batches.append(len(images))
            if any(image.shape[1] == 13 for image in images):
                raise DataError("width 13")
            return [
                Faces(np.array([[0, 0, image.shape[1], 1]], np.float32), np.ones(1), np.zeros((1, 0, 2)))
                for image in images
            ]
        finally:
            self.inside -= 1


def widths_of(detector, widths, threads):
    def look(width):
        try:
            return int(detector.detect_batch([np.zeros((4, width, 3), np.uint8)])[0].boxes[0, 2])
        except DataError as error:
            return str(error)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(look, widths))


def test_everyone_gets_their_own():
    inner = Widths()
    widths = [20 + k for k in range(64)]
    assert widths_of(Gathered(inner, 8), widths, 16) == widths
    assert sum(inner.batches) == 64
    assert max(inner.batches) > 1


def test_a_batch_is_looked_at_when_it_is_whole():
    inner = Widths()
    gathered = Gathered(inner, 3)
    barrier = threading.Barrier(3)

    def look(width):
        barrier.wait()
        return gathered.detect_batch([np.zeros((4, width, 3), np.uint8)])[0].boxes[0, 2]

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(look, [1, 2, 3])) == [1, 2, 3]
    assert sum(inner.batches) == 3


def test_one_thread_does_not_wait_for_ever():
    inner = Widths()
    assert widths_of(Gathered(inner, 8), [5, 6, 7], 1) == [5, 6, 7]
    assert inner.batches == [1, 1, 1]


def test_an_image_that_cannot_be_looked_at_is_nobody_elses_error():
    widths = [20, 13, 21, 22, 13, 23] * 4
    expected = [width if width != 13 else "width 13" for width in widths]
    assert widths_of(Gathered(Widths(), 4), widths, 8) == expected


def test_a_checkpoint_by_batches_finds_the_same(shared):
    images = [read_image(path)[:240, :320] for path in sorted((shared / "reference/images").glob("*.jpg"))] * 3
    alone = FaceDetector(BUNDLED, score=0.05, size="auto")
    expected = [alone.detect(image) for image in images]
    together = FaceDetector(BUNDLED, score=0.05, size="auto", batch=4)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(together.detect, images))
    assert sum(map(len, expected)) > 20
    for one, other in zip(found, expected, strict=True):
        assert len(one) == len(other)
        np.testing.assert_allclose(one.boxes, other.boxes, atol=0.05)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)


@pytest.mark.parametrize("batch", [0, -1, 65])
def test_batches_of_no_size(batch):
    with pytest.raises(UsageError, match=f"`batch` {batch}: must be from 1 to 64"):
        FaceDetector("yunet_n", batch=batch)


def test_an_onnx_file_takes_one_image_at_a_time(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(b"")
    assert run_cli(["detect", "a.png", "--batch", "8", "--json"]) == 2
    said = capsys.readouterr().err
    assert "--batch 8: yunet_n.onnx takes one image at a time" in said
    assert "--weights" in said
