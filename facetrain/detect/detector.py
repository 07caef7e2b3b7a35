"""`FaceDetector`: weights by name or path, images by path or array, faces out.

The one place where a light folder turns to torch: for a checkpoint, and only then.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from facetrain.core.errors import DeviceError, FacetrainError, InputError, UsageError
from facetrain.core.faces import Detector, Faces, Image
from facetrain.core.images import Reduced, read_image, read_reduced
from facetrain.core.machine import check_threads
from facetrain.detect.any_size import AnySize
from facetrain.detect.face_range import METADATA, FaceRange, range_of
from facetrain.detect.find_weights import find_weights
from facetrain.detect.passes import check_min_face
from facetrain.detect.recognise import check_family
from facetrain.detect.views import AUTO, ORIGINAL, View, box_of, shown_as

if TYPE_CHECKING:
    from facetrain.model.detector import ModelDetector

_CHECKPOINT_FAMILY = "yunet"
ImageLike = Image | str | os.PathLike[str]


@dataclass(frozen=True)
class Seen:
    """What one image gave.

    scales:   at which it was looked at, shown / original, the finest first
    smallest: the shorter side, in pixels of the original, of the smallest face that such a look finds mostly
    """

    faces: Faces
    scales: tuple[float, ...]
    smallest: float


class FaceDetector:
    """Finds faces in images.

    weights:        a name, an ONNX file, or a checkpoint or a run (these need torch): see `find_weights`
    device:         cpu, cuda, cuda:1 or 1; mps for checkpoints
    score:          least sigmoid(cls) * sigmoid(obj) that counts, 0 to 1
    nms:            a face that overlaps a better one by a higher IoU is dropped, above 0, at most 1
    max_candidates: how many of the best boxes go into that comparison
    threads:        CPU threads of the network; None: all that this process may use, and one for a checkpoint
    family:         the detector family to take an ONNX file for; None: recognised by its metadata and outputs
    size:           how an image is shown: `original`; `vga`, `640`, `800x600` (fitted into it); or `auto`: as often as
                    it takes to find faces of every size, at a bounded cost, see detect/passes.py
    min_face:       with `auto`, the smallest face to look for, pixels of the image; None: as small as the cost allows
    """

    def __init__(
        self,
        weights: str | Path = "yunet_n",
        *,
        device: str = "cpu",
        score: float = 0.5,
        nms: float = 0.45,
        max_candidates: int = 5000,
        threads: int | None = None,
        family: str | None = None,
        size: str = ORIGINAL,
        min_face: float | None = None,
    ) -> None:
        check_settings(score, nms, max_candidates, threads)
        check_family(family)
        check_size(size, min_face)
        self.device = device = parse_device(device)
        self.path = find_weights(weights)
        self.detector: Detector  # an OnnxDetector, or for a checkpoint a ModelDetector
        self.landmark_names: tuple[str, ...]  # of the points of a face, in their order
        self.family = _CHECKPOINT_FAMILY  # the name of the network's family
        self.face_range: FaceRange  # which sizes it finds, as the file says, or as is usual in its family
        self.own_threshold = 0.0  # the score below which the file itself drops faces
        self.static_shape: tuple[int, int] | None = None  # (width, height) where an ONNX file takes no other
        if self.path.suffix.lower() == ".onnx":
            from facetrain.detect.onnx_detector import OnnxDetector

            network = OnnxDetector(
                self.path,
                device=device,
                score=score,
                nms=nms,
                max_candidates=max_candidates,
                threads=threads,
                family=family,
            )
            self.detector, self.static_shape, self.family = network, network.net.size, network.family
            self.own_threshold, self.landmark_names = network.own_threshold, network.landmark_names
            self.face_range = range_of(self.family, network.net.metadata.get(METADATA))
        else:
            if family not in (None, _CHECKPOINT_FAMILY):
                raise UsageError(f"{self.path}: a checkpoint is a {_CHECKPOINT_FAMILY}, not of the family '{family}'")
            checkpoint = _load_checkpoint(
                self.path, device=device, score=score, nms=nms, max_candidates=max_candidates, threads=threads
            )
            self.detector, self.landmark_names = checkpoint, checkpoint.landmark_names
            self.face_range = range_of(self.family, checkpoint.info.get(METADATA))
        self.size = size
        self.looks = AnySize(self.detector, self.face_range, nms, min_face, self.static_shape)  # for `auto`

    def detect(self, image: ImageLike) -> Faces:
        """Faces of one image: a path, or an array of (H, W, 3) uint8 BGR or (H, W) uint8 grey, of any size."""
        return self.detect_batch([image])[0]

    def detect_batch(self, images: Sequence[ImageLike]) -> list[Faces]:
        """Faces of each image, see `detect`. On a CPU one after the other is as fast, and takes less memory."""
        if self.size != ORIGINAL:
            return [self.look(self.open(image)).faces for image in images]
        if self.device == "cpu":
            return [self.detector.detect_batch([as_image(image)])[0] for image in images]
        return self.detector.detect_batch([as_image(image) for image in images])

    def open(self, image: ImageLike) -> Reduced:
        """An image as `look` takes it. With `auto` a large JPEG is decoded no larger than the finest look needs it."""
        if self.size == AUTO and isinstance(image, (str, os.PathLike)):
            return read_reduced(Path(image), lambda width, height: self.looks.plan(width, height).looks[0].scale)
        pixels = as_image(image)
        return Reduced(pixels, 1, pixels.shape[1], pixels.shape[0])

    def look(self, image: Reduced) -> Seen:
        """Faces of an image that `open` gave, and how it was looked at."""
        if self.size == AUTO:
            plan = self.looks.plan(image.width, image.height)
            faces = self.looks.detect(image.image, plan, image.factor)
            return Seen(faces, tuple(look.scale for look in plan.looks), plan.smallest)
        shown, factors = shown_as(image.image, self.size)
        faces = View(shown, factors).back(self.detector.detect_batch([shown])[0])
        scale = min(factors)
        if self.static_shape is not None:  # the file's own way to take an image
            scale *= min(self.static_shape[0] / shown.shape[1], self.static_shape[1] / shown.shape[0])
        return Seen(faces, (scale,), self.face_range.least / scale)


def as_image(image: ImageLike) -> Image:
    """Whatever `detect` takes as (H, W, 3) uint8 BGR. Raises InputError with what was expected."""
    if isinstance(image, (str, os.PathLike)):
        return read_image(Path(image))
    expected = "give a path, or an array of (height, width, 3) uint8 in BGR order as cv2.imread returns it"
    if not isinstance(image, np.ndarray):
        raise InputError(f"an image cannot be of type {type(image).__name__}", expected)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InputError(f"an image cannot be an array of shape {image.shape} and type {image.dtype}", expected)
    return image


def parse_device(device: str) -> str:
    """The device's full name: `1` is `cuda:1`. Raises DeviceError for what is no device at all."""
    name = device.strip().lower()
    if name.isdecimal():
        return f"cuda:{name}"
    kind, colon, index = name.partition(":")
    if (kind == "cuda" and (index.isdecimal() or not colon)) or name in ("cpu", "mps"):
        return name
    raise DeviceError(f"'{device}' is no device", "there are: cpu, cuda, cuda:1 (or just 1), mps")


def check_settings(score: float, nms: float, max_candidates: int = 1, threads: int | None = None) -> None:
    """Raise UsageError for thresholds and counts that mean nothing."""
    if not 0 <= score <= 1:
        raise UsageError(f"`score` {score:g}: must be from 0 to 1")
    if not 0 < nms <= 1:
        raise UsageError(f"`nms` {nms:g}: must be above 0 and at most 1", "1 keeps every overlapping face")
    if max_candidates < 1:
        raise UsageError(f"`max_candidates` {max_candidates}: must be at least 1")
    check_threads(threads)


def check_size(size: str, min_face: float | None) -> None:
    """Raise UsageError for a size that means nothing, and for a smallest face where none is looked for."""
    box_of(size, 1, 1)
    check_min_face(min_face)
    if min_face is not None and size != AUTO:
        raise UsageError(f"`min_face` goes with `size` auto, not with {size}", "leave one of them out")


def _load_checkpoint(
    path: Path, *, device: str, score: float, nms: float, max_candidates: int, threads: int | None
) -> "ModelDetector":
    try:
        from facetrain.model.detector import load_detector
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise FacetrainError(
            f"{path}: a checkpoint needs PyTorch, which is not installed",
            "pip install torch, or give an ONNX file",
        ) from error
    if threads is not None or device == "cpu":
        # torch has one setting for the whole process. Its threads wait for each other by spinning: beside another
        # program two of them are many times slower than one, and alone hardly faster on an image.
        sys.modules["torch"].set_num_threads(threads or 1)
    return load_detector(path, device, score, nms, max_candidates)
