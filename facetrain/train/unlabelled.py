"""Where the faces of unlabelled images are, by the teacher's own eyes.

Training windows are drawn around faces, labelled or not: windows drawn anywhere show mostly background, and a run of
equal length ends with a lower AP. So the teacher looks over every image once, before the first step, and what it
found is kept in the cache folder.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from facetrain.core.errors import OutputError
from facetrain.core.faces import Floats, LabelledImage
from facetrain.core.files import replacing
from facetrain.data.store.images import ImageStore
from facetrain.model.detector import ModelDetector
from facetrain.model.yunet import YuNet

_SCORE = 0.3  # a face that the teacher is half sure of is worth a window
_VERSION = 1


def find_faces(
    store: ImageStore,
    images: Sequence[int],
    teacher: YuNet,
    teacher_hash: str,
    dtype: torch.dtype,
    cache: Path,
    progress: Callable[[int, int], None],
) -> int:
    """Give these images of a store, by index, the boxes that the teacher finds in them. Returns their number.

    cache: a folder that keeps what was found, by the teacher and the images
    """
    path = cache / f"faces-{_key([store.images[index] for index in images], teacher_hash)}.npz"
    found = _read(path, len(images))
    if found is None:
        found = _look(store, images, teacher, dtype, progress)
        _write(path, found)
    for index, boxes in zip(images, found, strict=True):
        image = store.images[index]
        landmarks = np.zeros((len(boxes), image.landmarks.shape[1], 3), np.float32)
        ignore = np.zeros(len(boxes), np.bool_)
        store.images[index] = replace(image, boxes=boxes, landmarks=landmarks, ignore=ignore)
    return sum(len(boxes) for boxes in found)


def _look(
    store: ImageStore,
    images: Sequence[int],
    teacher: YuNet,
    dtype: torch.dtype,
    progress: Callable[[int, int], None],
) -> list[Floats]:
    detector = ModelDetector(teacher, score=_SCORE)
    device = next(teacher.parameters()).device
    found = []
    for done, index in enumerate(images, 1):
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            [faces] = detector.detect_batch([store.image(index)])
        found.append(faces.boxes)
        progress(done, len(images))
    return found


def _key(images: list[LabelledImage], teacher_hash: str) -> str:
    digest = hashlib.sha256(f"{_VERSION} {teacher_hash}".encode())
    for image in images:
        changed = image.path.stat().st_mtime_ns if image.path.exists() else 0
        digest.update(f"{image.path.absolute()}\0{image.size}\0{changed}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:20]


def _read(path: Path, count: int) -> list[Floats] | None:
    """What an earlier run has found; None where there is nothing, or nothing whole."""
    try:
        with np.load(path, allow_pickle=False) as file:
            boxes, ends = file["boxes"], file["ends"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    fits = boxes.dtype == np.float32 and boxes.shape[1:] == (4,) and ends.shape == (count,)
    if not fits or ends.dtype != np.int64 or (count and ends[-1] != len(boxes)) or (np.diff(ends) < 0).any():
        return None
    return np.split(boxes, ends[:-1])


def _write(path: Path, found: list[Floats]) -> None:
    ends = np.cumsum([len(boxes) for boxes in found], dtype=np.int64)
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *found])
    try:
        with replacing(path) as scratch, scratch.open("wb") as file:
            np.savez(file, boxes=boxes, ends=ends)
    except OutputError:
        return  # a cache that cannot be written costs the next run a look
