"""`FaceDetector`: weights by name or path, images by path or array, faces out.

For a checkpoint, and only then, it turns to torch.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard, Union

import numpy as np

from facetrain.core.errors import DeviceError, FacetrainError, InputError, UsageError
from facetrain.core.faces import Detector, Faces, Image
from facetrain.core.images import Reduced, read_image, read_reduced
from facetrain.core.machine import check_threads
from facetrain.core.suggest import nearest
from facetrain.detect.any_size import AnySize
from facetrain.detect.face_range import METADATA, FaceRange, range_of
from facetrain.detect.find_weights import find_weights
from facetrain.detect.gathered import Gathered
from facetrain.detect.operating_points import METADATA as POINTS
from facetrain.detect.operating_points import OperatingPoints, parse_points
from facetrain.detect.passes import check_min_face
from facetrain.detect.recognise import check_family
from facetrain.detect.views import AUTO, ORIGINAL, View, box_of, shown_as
from facetrain.media.cut import Cut
from facetrain.media.find import find_sources
from facetrain.media.frame import Frame

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

    from facetrain.model.detector import ModelDetector

_CHECKPOINT_FAMILY = "yunet"
_MOST_BATCH = 64
ImageLike = Union[Image, str, os.PathLike[str], "PillowImage"]


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
    """Finds faces in images. Several threads may ask one at a time; it can be pickled, for other processes.

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
    batch:          images of several threads that a checkpoint's network looks at together: what a GPU is fast with
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
        batch: int = 1,
    ) -> None:
        self._settings: dict[str, object] = {
            **{"device": device, "score": score, "nms": nms, "max_candidates": max_candidates, "threads": threads},
            **{"family": family, "size": size, "min_face": min_face, "batch": batch},
        }
        check_settings(score, nms, max_candidates, threads, batch)
        check_family(family)
        check_size(size, min_face)
        self.device = device = parse_device(device)
        self.path = find_weights(weights)
        self.detector: Detector  # an OnnxDetector, or for a checkpoint a ModelDetector
        self.landmark_names: tuple[str, ...]  # of the points of a face, in their order
        self.family = _CHECKPOINT_FAMILY  # the name of the network's family
        self.face_range: FaceRange  # which sizes it finds, as the file says, or as is usual in its family
        self.operating_points: OperatingPoints | None  # scores for wanted precisions, where the file says them
        self.own_threshold = 0.0  # the score below which the file itself drops faces
        self.static_shape: tuple[int, int] | None = None  # (width, height) where an ONNX file takes no other
        if self.path.suffix.lower() == ".onnx":
            from facetrain.detect.onnx_detector import OnnxDetector

            if batch > 1:
                raise UsageError(
                    f"`batch` {batch}: {self.path.name} takes one image at a time",
                    "give a checkpoint by `weights`, or leave it out",
                )
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
            said: Mapping[str, object] = network.net.metadata
        else:
            if family not in (None, _CHECKPOINT_FAMILY):
                raise UsageError(f"{self.path}: a checkpoint is a {_CHECKPOINT_FAMILY}, not of the family '{family}'")
            checkpoint = _load_checkpoint(
                self.path, device=device, score=score, nms=nms, max_candidates=max_candidates, threads=threads
            )
            self.detector = checkpoint if batch == 1 else Gathered(checkpoint, batch)
            self.landmark_names = checkpoint.landmark_names
            said = checkpoint.info
        self.face_range = range_of(self.family, said.get(METADATA))
        self.operating_points = parse_points(said.get(POINTS))
        self.size = size
        self.looks = AnySize(self.detector, self.face_range, nms, min_face, self.static_shape)  # for `auto`

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={value!r}" for name, value in self._settings.items() if value is not None)
        return f"FaceDetector({str(self.path)!r}, {told})  # {self.family}"

    def __reduce__(self) -> tuple[Callable[..., "FaceDetector"], tuple[str, dict[str, object]]]:
        """Pickled as its path and settings: another process opens the file itself."""
        return _opened, (str(self.path.resolve()), self._settings)

    def detect(self, image: ImageLike, *, rgb: bool = False) -> Faces:
        """Faces of one image of any size.

        image: a path; an array of (H, W, 3) uint8 BGR, or with `rgb` RGB, or (H, W) uint8 grey; or a PIL image, whose
               pixels are taken as they are: `PIL.ImageOps.exif_transpose` turns a photograph upright
        """
        return self.detect_batch([image], rgb=rgb)[0]

    def detect_batch(self, images: Sequence[ImageLike], *, rgb: bool = False) -> list[Faces]:
        """Faces of each image, see `detect`. On a CPU one after the other is as fast, and takes less memory."""
        if self.size != ORIGINAL:
            return [self.look(self.open(image, rgb=rgb)).faces for image in images]
        if self.device == "cpu":
            return [self.detector.detect_batch([as_image(image, rgb=rgb)])[0] for image in images]
        return self.detector.detect_batch([as_image(image, rgb=rgb) for image in images])

    def stream(
        self, source: str | os.PathLike[str], *, every: int = 1, start: float = 0, end: float | None = None
    ) -> Iterator[tuple[Frame, Faces]]:
        """Frames and their faces, one after the other, of all that `facetrain detect` takes.

        source:     an image, a folder, a pattern, a list, an address, a video, or a camera's number
        every:      of moving sources each so-manieth frame
        start, end: seconds of moving sources between which frames count
        Raises InputError where there is no such source, DataError where one cannot be read (any more).
        """
        cut = Cut(every, Fraction(start), None if end is None else Fraction(end))
        found = find_sources([os.fspath(source)], cut=cut)
        for failure in found.failures:
            raise failure.error
        for one in found.sources:
            for frame in one.frames(self.needed):
                yield frame, self.look(frame.image).faces

    def open(self, image: ImageLike, *, rgb: bool = False) -> Reduced:
        """An image as `look` takes it. With `auto` a large JPEG is decoded no larger than the finest look needs it."""
        if isinstance(image, (str, os.PathLike)):
            return read_reduced(Path(image), self.needed)
        pixels = as_image(image, rgb=rgb)
        return Reduced(pixels, 1, pixels.shape[1], pixels.shape[0])

    def needed(self, width: int, height: int) -> float:
        """The part of its size that an image has to be decoded at."""
        return self.looks.plan(width, height).looks[0].scale if self.size == AUTO else 1

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


def _opened(path: str, settings: dict[str, object]) -> FaceDetector:
    return FaceDetector(path, **settings)  # type: ignore[arg-type]  # as __reduce__ gave them


def as_image(image: ImageLike, *, rgb: bool = False) -> Image:
    """Whatever `detect` takes as (H, W, 3) uint8 BGR. Raises InputError with what was expected."""
    if isinstance(image, (str, os.PathLike)):
        return read_image(Path(image))
    if is_pillow(image):
        image, rgb = np.asarray(image.convert("RGB")), True
    expected = "give a path, or an array of (height, width, 3) uint8 in BGR order as cv2.imread returns it"
    if not isinstance(image, np.ndarray):
        raise InputError(f"an image cannot be of type {type(image).__name__}", expected)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InputError(f"an image cannot be an array of shape {image.shape} and type {image.dtype}", expected)
    return np.ascontiguousarray(image[..., ::-1]) if rgb else image


def is_pillow(image: object) -> "TypeGuard[PillowImage]":
    """Whether an object is an image of PIL, which is not loaded for that: who has such an image has loaded it."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(image, module.Image)


def parse_device(device: str) -> str:
    """The device's full name: `1` is `cuda:1`. Raises DeviceError for what is no device at all."""
    name = device.strip().lower()
    if name.isdecimal():
        return f"cuda:{name}"
    kind, colon, index = name.partition(":")
    if (kind == "cuda" and (index.isdecimal() or not colon)) or name in ("cpu", "mps"):
        return name
    near = nearest(kind, ("cpu", "cuda", "mps"))
    hint = "there are: cpu, cuda, cuda:1 (or just 1), mps"
    raise DeviceError(f"'{device}' is no device", f"did you mean '{near}'? {hint}" if near else hint)


def check_settings(
    score: float, nms: float, max_candidates: int = 1, threads: int | None = None, batch: int = 1
) -> None:
    """Raise UsageError for thresholds and counts that mean nothing."""
    if not 0 <= score <= 1:
        raise UsageError(f"`score` {score:g}: must be from 0 to 1")
    if not 0 < nms <= 1:
        raise UsageError(f"`nms` {nms:g}: must be above 0 and at most 1", "1 keeps every overlapping face")
    if max_candidates < 1:
        raise UsageError(f"`max_candidates` {max_candidates}: must be at least 1")
    if not 1 <= batch <= _MOST_BATCH:
        raise UsageError(f"`batch` {batch}: must be from 1 to {_MOST_BATCH}")
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
