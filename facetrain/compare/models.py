"""The models of a comparison, opened: what they are, what they cost, and the two works that are timed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facetrain.core.boxes import pad_image
from facetrain.core.errors import DataError
from facetrain.core.faces import Image
from facetrain.core.images import fit_image
from facetrain.core.run_dir import is_of_run
from facetrain.data.sample_set.make import draw_image
from facetrain.detect.detector import FaceDetector
from facetrain.detect.onnx_detector import OnnxDetector

_IMAGE = (0, 1, 3)  # seed, split and index of the drawn image that is timed: it shows ten faces


@dataclass(frozen=True)
class Cost:
    """What a model costs on an image of `size` (width, height), as its network takes it.

    parameters:    learnt numbers of the layers, as the file stores them
    multiply_adds: of the convolutions, borders included; None where the graph does not let them be counted
    published:     MFLOPs by the rule of the published figure; only for facetrain's own checkpoints
    """

    size: tuple[int, int]
    parameters: int | None
    multiply_adds: int | None
    published: float | None

    @property
    def mflops(self) -> float | None:
        """Two operations for each multiply-add, the same for all."""
        return None if self.multiply_adds is None else 2 * self.multiply_adds / 1e6


@dataclass(frozen=True)
class OpenModel:
    """A model ready to find faces.

    kind:       onnx or checkpoint
    static_shape: (width, height) where the file takes no other
    """

    detector: FaceDetector
    kind: str

    @property
    def path(self) -> Path:
        """Its file."""
        return self.detector.path

    @property
    def family(self) -> str:
        """Name of its family."""
        return self.detector.family

    @property
    def static_shape(self) -> tuple[int, int] | None:
        """(width, height) where the file takes no other."""
        return self.detector.static_shape


@dataclass(frozen=True)
class Works:
    """What is timed of a model.

    size:       (width, height) of the network's input
    network:    runs the network alone, on an input made beforehand
    end_to_end: from a decoded image in memory to faces
    """

    size: tuple[int, int]
    network: Callable[[], object]
    end_to_end: Callable[[], object]


def open_model(
    weights: str, *, family: str | None = None, score: float, nms: float, max_candidates: int, threads: int
) -> OpenModel:
    """Open weights by name or path. Raises FacetrainError where they cannot be found, read or recognised."""
    detector = FaceDetector(
        weights, score=score, nms=nms, max_candidates=max_candidates, threads=threads, family=family
    )
    return OpenModel(detector, "onnx" if isinstance(detector.detector, OnnxDetector) else "checkpoint")


def timed_work(model: OpenModel, size: tuple[int, int], threads: int) -> Works:
    """What to time on an image of `size` (width, height), or of the model's own size where that is fixed."""
    width, height = model.static_shape or size
    image = timed_image(width, height)
    inner = model.detector.detector
    if not isinstance(inner, OnnxDetector):
        from facetrain.compare.checkpoint import checkpoint_works

        taken, network, end_to_end = checkpoint_works(inner, image, threads)
        return Works(taken, network, end_to_end)
    blob, _ = inner.prepare(image)
    net = inner.net
    return Works((blob.shape[3], blob.shape[2]), lambda: net.run(blob), lambda: inner.detect_batch([image]))


def cost_of(model: OpenModel, size: tuple[int, int]) -> Cost:
    """Parameters and operations at the network's input of `size` (width, height)."""
    if model.kind == "checkpoint":
        from facetrain.compare.checkpoint import checkpoint_cost

        parameters, multiply_adds, published = checkpoint_cost(model.path, size)
        return Cost(size, parameters, multiply_adds, published)
    from facetrain.model.graph_cost import describe_graph

    try:
        total = describe_graph(model.path, size)["total"]
    except DataError:  # it finds faces all the same: no reason to leave it out
        return Cost(size, None, None, None)
    return Cost(size, total["parameters"], total["multiply_adds"], None)


def timed_image(width: int, height: int) -> Image:
    """A drawn image with faces, of exactly this size, so that no model pays for resizing."""
    image, _ = draw_image(*_IMAGE)
    fitted, _ = fit_image(image, width, height)
    return np.ascontiguousarray(pad_image(fitted, width, height))


def distinct_names(given: Sequence[str]) -> list[str]:
    """A short name for each model: its file's name, with as many folders as tell it from the others.

    Weights of a run are called with the run's folder: best.pt says nothing.

    The same file a second time is called `name (2)`.
    """
    parts = [Path(text).parts or (text,) for text in given]
    names = []
    for own in parts:
        others = [other for other in parts if other != own]
        least = 2 if is_of_run(own[-1]) else 1
        length = next((n for n in range(least, len(own)) if all(other[-n:] != own[-n:] for other in others)), len(own))
        names.append(str(Path(*own[-length:])))
    return [name if (n := names[:i].count(name)) == 0 else f"{name} ({n + 1})" for i, name in enumerate(names)]
