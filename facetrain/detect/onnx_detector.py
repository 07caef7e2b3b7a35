"""Detection with an ONNX file: the onnxruntime session, the way in for an image and the way back for its faces."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from facetrain.core.boxes import nms as suppress
from facetrain.core.boxes import padded_size
from facetrain.core.errors import DataError, DeviceError, FacetrainError
from facetrain.core.faces import Faces, Floats, Image
from facetrain.core.files import as_native
from facetrain.core.images import fit_image, opencv
from facetrain.core.machine import available_cores
from facetrain.core.memory import taking
from facetrain.core.onnx_probe import probed
from facetrain.core.uninterrupted import uninterrupted
from facetrain.detect.bundled import FOLDER
from facetrain.detect.families import facetrain_decoded
from facetrain.detect.onnx_file import check_external_data
from facetrain.detect.recognise import Recognised, check_family, recognise, unknown

_MOST_THREADS = 16  # a network of 76 thousand parameters has no work for more
_LARGE_PIXELS = 1 << 23  # above this an image's working memory is given back after the run
# Blank images that show a flexible graph's output shapes. Strides up to 256 are told apart by the first; some files
# call themselves flexible and run at the size of their making alone, nearly always the second.
_PROBES = ((256, 256), (640, 640))
_MOST_INPUT_PIXELS = 1 << 27  # a file that fixes a larger image is damaged, or means harm
_CUDA_HINT = "it needs the CUDA and cuDNN libraries it was built for: pip install 'onnxruntime-gpu[cuda,cudnn]'"
_SEVERAL_INPUTS_HINT = (
    "files that take thresholds too (BlazeFace end to end) have their suppression inside: export the network without"
)
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class OnnxDetector:
    """A Detector from an ONNX file of any known family. family: the name of the one to take it for."""

    def __init__(
        self,
        path: Path,
        *,
        device: str = "cpu",
        score: float = 0.5,
        nms: float = 0.45,
        max_candidates: int = 5000,
        threads: int | None = None,
        family: str | None = None,
    ) -> None:
        check_family(family)
        self.net = OnnxNet(path, device, threads)
        self._recognised = _recognise(self.net, family)
        self._score, self._nms, self._max_candidates = score, nms, max_candidates
        # A file that drops faces itself gives none below its own threshold, whatever is asked for.
        decoded = self._recognised.name == facetrain_decoded.NAME
        self.own_threshold = facetrain_decoded.own_threshold(self.net.metadata) if decoded else 0.0

    def detect_batch(self, images: Sequence[Image]) -> list[Faces]:
        """Find the faces of each image, (H, W, 3) uint8 BGR of any size, at its own size.

        One after the other: images differ in size, and on a CPU a joint run gains nothing.
        """
        return [self._detect(image) for image in images]

    @property
    def family(self) -> str:
        """The name of the network's family."""
        return self._recognised.name

    @property
    def landmark_names(self) -> tuple[str, ...]:
        """Of the points of a face, in their order."""
        return self._recognised.landmarks

    def prepare(self, image: Image) -> tuple[Floats, tuple[float, float]]:
        """An image (H, W, 3) as the network takes it, (1, 3, h, w), and the factors new / old of width and height."""
        factors = (1.0, 1.0)
        if self.net.size is not None:
            image, factors = fit_image(image, *self.net.size)
        elif self._recognised.stretch:
            image, factors = _stretch(image, self._recognised.stretch)
        return self._recognised.family.prepare(image, self.net.size), factors

    def _detect(self, image: Image) -> Faces:
        width, height = self.net.size or (image.shape[1], image.shape[0])
        with taking(width * height * self.net.pixel_bytes, None, (width, height)):
            return self._look(image)

    def _look(self, image: Image) -> Faces:
        blob, factors = self.prepare(image)
        height, width = blob.shape[2:]
        outputs = self.net.run(blob)
        with np.errstate(all="ignore"):  # numbers that overflow are no faces, and are left out
            try:
                found = self._recognised.family.faces(outputs, width, height, self._score)
            except ValueError as error:
                raise DataError(f"{self.net.path}: wrong outputs for an image of {width}x{height}: {error}") from error
            return _back(_best(found, self._nms, self._max_candidates), factors)


class OnnxNet:
    """An onnxruntime session with one image in and named arrays out.

    size:        (width, height) where the file fixes it, else None
    metadata:    texts stored in the file
    pixel_bytes: working memory of a run by pixel of its image, at most
    """

    def __init__(self, path: Path, device: str = "cpu", threads: int | None = None) -> None:
        self.path = path
        self._ort = _onnxruntime()
        check_external_data(path)
        self.pixel_bytes = probed(path, FOLDER)
        self._session = _open_session(self._ort, path, device, threads)
        try:
            inputs = self._session.get_inputs()
            self._names = [output.name for output in self._session.get_outputs()]
            self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: holds names that are not UTF-8", "it is damaged") from error
        shape = inputs[0].shape if inputs else []
        one_image = len(inputs) == 1 and len(shape) == 4 and (shape[1] == 3 or not isinstance(shape[1], int))
        if not one_image or inputs[0].type not in _TYPES:
            described = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            raise DataError(
                f"{path}: takes {described or 'nothing'}, not one image (N, 3, H, W)",
                _SEVERAL_INPUTS_HINT if len(inputs) > 1 else None,
            )
        if isinstance(shape[0], int) and shape[0] > 1:
            raise DataError(f"{path}: takes exactly {shape[0]} images at a time", "export it with one, or any number")
        self._input, self._type = inputs[0].name, _TYPES[inputs[0].type]
        fixed = all(isinstance(side, int) and side > 0 for side in shape[2:])
        if fixed and shape[2] * shape[3] > _MOST_INPUT_PIXELS:
            raise DataError(f"{path}: takes images of {shape[3]}x{shape[2]} only, which no memory holds")
        self.size: tuple[int, int] | None = (shape[3], shape[2]) if fixed else None

    def run(self, blob: Floats) -> dict[str, Floats]:
        """Outputs by name for an image (1, 3, H, W), as float32 whatever they are in the file."""
        options = None
        if blob.shape[2] * blob.shape[3] > _LARGE_PIXELS:
            # One huge image would otherwise leave gigabytes held for the rest of the process.
            options = self._ort.RunOptions()
            options.log_severity_level = 4
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        try:
            values = self._session.run(self._names, {self._input: blob.astype(self._type, copy=False)}, options)
        except Exception as error:  # onnxruntime's errors have no common class
            size = f"{blob.shape[3]}x{blob.shape[2]}"
            raise DataError(f"{self.path}: fails on an image of {size}: {_first_line(error)}") from error
        if not all(isinstance(value, np.ndarray) and value.dtype.kind in "fiu" for value in values):
            raise DataError(f"{self.path}: has outputs that are no arrays of numbers")
        return {name: value.astype(np.float32, copy=False) for name, value in zip(self._names, values, strict=True)}


def _recognise(net: OnnxNet, family: str | None) -> Recognised:
    """The family of a network, judged by a run on a blank image: declared shapes can lie.

    Raises DataError where none fits, or not the given one.
    """
    failure: DataError | None = None
    for width, height in [net.size] if net.size else _PROBES:
        try:
            outputs = net.run(np.zeros((1, 3, height, width), np.float32))
        except DataError as error:
            failure = failure or error
            continue
        found = recognise(outputs, width, height, net.metadata, family)
        if found is not None:
            return found
        failure = failure or unknown(outputs, family, net.path)
    assert failure is not None
    raise failure


def _best(found: Faces, nms: float, max_candidates: int) -> Faces:
    """Faces left after suppression among the best candidates, best first."""
    # A graph gone wrong gives infinite or undefined boxes; they are no faces, and JSON has no word for them.
    finite = np.isfinite(found.boxes).all(1) & np.isfinite(found.scores) & np.isfinite(found.landmarks).all((1, 2))
    order = np.flatnonzero(finite)
    order = order[np.argsort(-found.scores[order], kind="stable")][:max_candidates]
    order = order[suppress(found.boxes[order], found.scores[order], nms)]
    return Faces(found.boxes[order], found.scores[order], found.landmarks[order])


def _stretch(image: Image, multiple: int) -> tuple[Image, tuple[float, float]]:
    """An image stretched to the next multiples, and the factors new / old of width and height."""
    height, width = image.shape[:2]
    new = padded_size(width, height, multiple)
    if new != (width, height):
        image = opencv().resize(image, new, interpolation=opencv().INTER_LINEAR)
    return image, (new[0] / width, new[1] / height)


def _back(faces: Faces, factors: tuple[float, float]) -> Faces:
    """Faces of a resized image in pixels of the original. factors: new width / width, new height / height."""
    if factors == (1.0, 1.0):
        return faces
    scale: Floats = np.array(factors * 2, np.float32)
    return Faces(faces.boxes / scale, faces.scores, faces.landmarks / scale[:2])


def _onnxruntime() -> ModuleType:
    try:
        with uninterrupted():  # else it says of itself that it does not load
            import onnxruntime
    except ImportError as error:
        raise FacetrainError(
            f"onnxruntime does not load: {error}", "pip install --force-reinstall onnxruntime"
        ) from error
    onnxruntime.set_default_logger_severity(4)  # its warnings about devices mean nothing to a user; errors are raised
    module: ModuleType = onnxruntime
    return module


def _open_session(ort: ModuleType, path: Path, device: str, threads: int | None) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    # "extended" leaves out the layout transformation and is 2.5 times slower on this network
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Always a number: left to itself, onnxruntime pins threads to cores that a container may not have.
    options.intra_op_num_threads = threads or min(available_cores(), _MOST_THREADS)
    provider = _provider(ort, device)
    if device != "cpu":
        _open_session(ort, path, "cpu", threads)  # so that what fails below is the device and not the file
    try:
        session = ort.InferenceSession(as_native(path), options, providers=[provider], enable_fallback=0)
    except Exception as error:  # onnxruntime's errors have no common class
        if device != "cpu":
            raise DeviceError(f"{device}: does not start: {_first_line(error)}", _CUDA_HINT) from error
        raise DataError(f"{path}: not a usable ONNX model: {_first_line(error)}") from error
    if session.get_providers()[0] != provider[0]:
        raise DeviceError(f"{device}: onnxruntime could not start it and fell back to the CPU", _CUDA_HINT)
    return session


def _provider(ort: ModuleType, device: str) -> tuple[str, dict[str, Any]]:
    if device == "cpu":
        return "CPUExecutionProvider", {}
    if not device.startswith("cuda"):
        raise DeviceError(f"{device}: an ONNX file runs on cpu or cuda only", "take `device` cpu, or a checkpoint")
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise DeviceError(
            f"{device}: this onnxruntime has no CUDA", "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"
        )
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()  # finds the CUDA libraries that pip installed, for torch say
    # Every new image size would start cuDNN's exhaustive search anew.
    search = {"cudnn_conv_algo_search": "HEURISTIC"}
    return "CUDAExecutionProvider", {"device_id": int(device.partition(":")[2] or 0), **search}


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0][:300] if text else type(error).__name__
