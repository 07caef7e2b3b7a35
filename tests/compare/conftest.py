"""A drawn data set with the official kind of ground truth, and a cache folder of its own for every test."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from facetrain.data.sample_set.make import draw_image

EVENTS = {"0--Drawn": (0, 2, 3), "1--Drawn": (5, 8)}  # and the numbers of the drawn images
SMALL = 30  # pixels of height: smaller faces count in hard alone


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of this test's kept results."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("FACETRAIN_CACHE", str(folder))
    return folder / "facetrain" / "compare"


@pytest.fixture
def widerface(tmp_path: Path) -> Path:
    """Five drawn images in the layout of WIDER FACE."""
    return write_widerface(tmp_path / "widerface")


def write_widerface(root: Path) -> Path:
    names: list[Any] = []
    boxes: list[Any] = []
    for event, numbers in EVENTS.items():
        folder = root / "WIDER_val" / "images" / event
        folder.mkdir(parents=True)
        inner = []
        for number in numbers:
            image, faces = draw_image(0, 1, number)
            cv2.imwrite(str(folder / f"drawn_{number}.jpg"), image)
            corners = np.array([face.box for face in faces], np.float64).reshape(-1, 4)
            inner.append(np.round(np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])).astype(np.int32))
        names.append(_cell([f"drawn_{number}" for number in numbers]))
        boxes.append(inner)
    truth = root / "labelv2" / "val" / "gt"
    truth.mkdir(parents=True)
    for subset in ("easy", "medium", "hard"):
        counted = [[_counted(box, SMALL if subset != "hard" else 0) for box in inner] for inner in boxes]
        content = {
            "event_list": _cell(list(EVENTS)),
            "file_list": _cell(names),
            "face_bbx_list": _cell([_cell(inner) for inner in boxes]),
            "gt_list": _cell([_cell(inner) for inner in counted]),
        }
        savemat(truth / f"wider_{subset}_val.mat", content)
    return root


def _cell(values: list[Any]) -> np.ndarray:
    out = np.empty((len(values), 1), object)
    for i, value in enumerate(values):
        out[i, 0] = value
    return out


def _counted(boxes: np.ndarray, least: int) -> np.ndarray:
    return (1 + np.flatnonzero(boxes[:, 3] >= least)).astype(np.uint16)[:, None]
