from pathlib import Path

import cv2
import numpy as np
import pytest

from facetrain.core.errors import DataError
from facetrain.core.faces import Faces
from facetrain.eval.pipeline import detect_images


class Small:
    """A detector without memory for images wider than 50 pixels."""

    def detect_batch(self, images):
        if any(image.shape[1] > 50 for image in images):
            raise MemoryError
        return [Faces(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2))) for _ in images]


@pytest.mark.parametrize(("workers", "batch"), [(1, 1), (1, 3), (2, 1)])
def test_an_image_that_fails_is_named_and_the_others_go_on(tmp_path, workers, batch):
    paths = []
    for number, width in enumerate((20, 60, 30, 40, 70)):
        paths.append(tmp_path / f"{number}.png")
        cv2.imwrite(str(paths[-1]), np.zeros((10, width, 3), np.uint8))
    Path(paths[3]).write_bytes(b"x")
    found = list(detect_images(Small(), paths, workers=workers, batch=batch))
    assert [isinstance(faces, DataError) for faces in found] == [False, True, False, True, True]
    for number, words in ((1, "not enough memory"), (3, "not an image"), (4, "not enough memory")):
        assert found[number].message.startswith(f"{paths[number]}: ")
        assert words in found[number].message
