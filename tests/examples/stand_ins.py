"""Small things in place of what the pages name: drawn images, a data set, a run; so that their commands can be run."""

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

from facetrain.cli.app import run_cli
from facetrain.core.images import write_image
from facetrain.data.formats.labelv2 import read
from facetrain.data.sample_set.make import draw_image, write_sample
from facetrain.detect.bundled import FOLDER

TRAIN, VAL = 8, 5  # images of the data set
RUN = ("--name", "yunet_n-1", "--epochs", "1", "--batch", "4", "--set", "data.size=128", "--seed", "0")


def write_stand_ins(folder: Path) -> None:
    """What a page may name.

    photo.jpg, photos/, holiday/, scans/     drawn images
    clip.mp4                                 two seconds of a drawn image that moves, where there is PyAV
    my_faces/                                an own labelled set
    data/widerface/                          the same in WIDER FACE's layout, with the three official files
    runs/yunet_n-1/                          a short run, whose best.pt is replaced by the bundled weights
    my_model.yaml                            a model file
    mine.onnx, mine.pt                       weights
    """
    for place, number in (("photo.jpg", 2), ("photos/a.jpg", 5), ("photos/b.jpg", 8), ("scans/a.png", 3)):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        write_image(folder / place, draw_image(0, 1, number)[0])
    shutil.copytree(folder / "photos", folder / "holiday")
    write_clip(folder / "clip.mp4")
    widerface = folder / "data/widerface"
    write_sample(widerface, train=TRAIN, val=VAL)
    write_official_files(widerface)
    for split in ("train", "val"):
        shutil.copytree(widerface / f"WIDER_{split}/images", folder / "my_faces" / split / "images")
        shutil.copy(widerface / f"labelv2/{split}/labelv2.txt", folder / "my_faces" / split)
    shutil.copy(FOLDER / "yunet_s.onnx", folder / "mine.onnx")
    shutil.copy(FOLDER / "yunet_s.pt", folder / "mine.pt")


def write_clip(path: Path) -> None:
    """A video of 48 frames."""
    if find_spec("av") is None:
        return
    import av

    image = draw_image(0, 1, 2)[0]
    height, width = (side // 2 * 2 - 48 for side in image.shape[:2])
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for shift in range(48):
            shown = np.ascontiguousarray(image[shift : shift + height, :width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="bgr24")))
        container.mux(stream.encode(None))


def write_run(folder: Path) -> None:
    """runs/yunet_n-1, with weights that find something."""
    line = ["train", "yunet_n", "--data", str(folder / "data/widerface"), "--runs", str(folder / "runs"), *RUN]
    assert run_cli(line) == 0
    shutil.copy(FOLDER / "yunet_n.pt", folder / "runs/yunet_n-1/best.pt")


def write_official_files(root: Path) -> None:
    """wider_{easy,medium,hard}_val.mat for the validation part below `root`; every face counts in each."""
    images = read(root / "labelv2/val/labelv2.txt", root / "WIDER_val/images").images
    events: dict[str, list[Any]] = {}
    for image in images:
        events.setdefault(image.path.parent.name, []).append(image)
    boxes = [[_xywh(image.boxes) for image in inner] for inner in events.values()]
    content = {
        "event_list": _cell(list(events)),
        "file_list": _cell([_cell([image.path.stem for image in inner]) for inner in events.values()]),
        "face_bbx_list": _cell([_cell(inner) for inner in boxes]),
        "gt_list": _cell([_cell([_all(box) for box in inner]) for inner in boxes]),
    }
    folder = root / "labelv2/val/gt"
    folder.mkdir()
    for subset in ("easy", "medium", "hard"):
        savemat(folder / f"wider_{subset}_val.mat", content)


def _xywh(boxes: np.ndarray) -> np.ndarray:
    return np.round(np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])).astype(np.int32)


def _all(boxes: np.ndarray) -> np.ndarray:
    return np.arange(1, len(boxes) + 1, dtype=np.uint16)[:, None]


def _cell(values: list[Any]) -> np.ndarray:
    """A cell array of MATLAB, a column."""
    out = np.empty((len(values), 1), object)
    for i, value in enumerate(values):
        out[i, 0] = value
    return out
