"""The model card of bundled weights: everything that is measured of them, beside the released ones on the same images.

Measured in this process: AP on WIDER FACE's images that are there, each number with its interval, the paired difference
to the weights that the YuNet authors released, recall by size, false alarms, landmark error, operating points, what
int8 costs, what turned and grey images cost, which sizes of faces are found, and milliseconds.
"""

import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from facetrain.core.faces import Detector, Faces, Image
from facetrain.core.machine import cpu_name
from facetrain.detect.detector import FaceDetector
from facetrain.detect.face_range import FaceRange
from facetrain.detect.operating_points import OperatingPoints
from facetrain.eval.details import Details
from facetrain.eval.difference import Difference, brackets, difference
from facetrain.eval.evaluate import Evaluation, evaluate_model
from facetrain.eval.intervals import Estimate

SUBSETS = ("easy", "medium", "hard")
SIZES = {"yunet_n": "75,856 parameters, 149 MFLOPs at 320×320", "yunet_s": "54,608 parameters, 96 MFLOPs at 320×320"}
# By the names of the further sets: what they are. They too are learnt from without labels.
_FURTHER = {
    "extra": ", and 6,830 others: news photographs, masks, large faces, darker skin, rooms and animals (most for "
    "research, of some no terms are known)",
    "extra_with_terms": ", and 5,019 others: news photographs, faces behind masks and hands, large faces, daily life, "
    "rooms and animals (most for research, some for no commercial use; sources without any terms took no part)",
}
_VECTORS = {"avx512_vnni": "AVX-512 VNNI", "avx512f": "AVX-512", "avx2": "AVX2", "asimd": "NEON"}
_VIEWS = {
    "grey": "without colour",
    "half": "turned upside down",
    "quarter": "turned by a quarter",
    "dark": "at an eighth of the light",
}


@dataclass(frozen=True)
class Numbers:
    """What was measured of one network's weights.

    own, released, int8: of the weights, of those that the YuNet authors released, and of the weights as int8
    points, found:       operating points, and the sizes of faces that are found
    landmarks:           of both, on training images: those for validation have no labelled points
    views:               easy AP on images that were changed, by the names of `_VIEWS`
    ms:                  of the network on one core, at 320x320 and 640x480
    """

    own: Evaluation
    released: Evaluation
    int8: Evaluation
    points: OperatingPoints | None
    found: FaceRange | None
    landmarks: tuple[Details, Details]
    views: Mapping[str, float]
    ms: tuple[float, float]


def measure(weights: Path, network: str, shared: Path) -> Numbers:
    """Everything on the card, of a checkpoint. Takes some minutes."""
    from face_sizes import faces_of

    from facetrain.data.layout import load_split
    from facetrain.eval.face_sizes import range_of_recalls, recall_by_size
    from facetrain.eval.operating_points import operating_points

    data = shared / "widerface"
    with tempfile.TemporaryDirectory() as scratch:
        whole, small = Path(scratch) / "whole.onnx", Path(scratch) / "int8.onnx"
        for path, more in ((whole, []), (small, ["--precision", "int8", "--calibrate", str(data / "WIDER_train")])):
            command = [
                sys.executable,
                "-m",
                "facetrain",
                "export-onnx",
                "--weights",
                str(weights),
                "--output",
                str(path),
            ]
            subprocess.run([*command, *more], check=True, capture_output=True)
        own, released, int8 = (
            evaluate_model(path, data, widerface=True, present_only=True)
            for path in (whole, shared / "reference/yunet" / f"{network}_dynamic.onnx", small)
        )
        detector = FaceDetector(whole, threads=1)
        images = [image for image in load_split(data, "val", None).images if image.path.is_file()]
        faces, backgrounds = faces_of(images, 60)
        found = range_of_recalls(recall_by_size(detector.detector, faces, backgrounds))
        landmarks = landmark_details(whole, network, shared)
        views = {name: _easy(own, whole, name) for name in _VIEWS}
        ms = _milliseconds(detector, 320, 320), _milliseconds(detector, 640, 480)
    return Numbers(own, released, int8, operating_points(own.scores, own.resampling), found, landmarks, views, ms)


def landmark_details(weights: Path, network: str, shared: Path) -> tuple[Details, Details]:
    """What weights and the released ones do on 400 training images, whose labels have points. Detections at any score.

    Neither has an advantage by having seen the images: both have. Only the released ones were told their labels.
    """
    from facetrain.core.images import read_image
    from facetrain.data.landmark_names import FIVE
    from facetrain.data.layout import load_split
    from facetrain.eval.benchmark import thin
    from facetrain.eval.labelled import labelled_benchmark

    benchmark = labelled_benchmark(thin(load_split(shared / "widerface", "train", FIVE).images, 400))
    resampling = benchmark.resampling()

    def details(path: Path) -> Details:
        detector = FaceDetector(path, score=0.02, threads=1)
        found = [detector.detect(read_image(image.path)) for image in benchmark.images]
        return benchmark.score(found).details(resampling=resampling)

    return details(weights), details(shared / "reference/yunet" / f"{network}_dynamic.onnx")


class _Changed:
    """A detector that sees images otherwise; what it finds stands where it is in the image as it was."""

    def __init__(self, detector: Detector, view: str) -> None:
        self.detector, self.view = detector, view

    def detect_batch(self, images: Sequence[Image]) -> list[Faces]:
        return [self._one(image) for image in images]

    def _one(self, image: Image) -> Faces:
        height, width = image.shape[:2]
        if self.view in ("grey", "dark"):
            grey = np.repeat((image @ np.array([0.114, 0.587, 0.299]))[..., None], 3, 2)
            seen = (grey if self.view == "grey" else image / 8).round().astype(np.uint8)
            return self.detector.detect_batch([seen])[0]
        turned = np.ascontiguousarray(np.rot90(image, 2 if self.view == "half" else 1))
        faces = self.detector.detect_batch([turned])[0]
        left, top, right, bottom = faces.boxes.T
        if self.view == "half":
            boxes = (width - right, height - bottom, width - left, height - top)
        else:  # a quarter to the left: x of the turned image was y, its y counts from the right border
            boxes = (width - bottom, left, width - top, right)
        return Faces(np.stack(boxes, 1), faces.scores, faces.landmarks)


def _easy(own: Evaluation, path: Path, view: str) -> float:
    from facetrain.core.images import read_image

    detector = _Changed(FaceDetector(path, score=0.02, threads=1).detector, view)
    found = [detector.detect_batch([read_image(image.path)])[0] for image in own.images]
    return own.scores.benchmark.score(found).ap["easy"] or 0.0


def _milliseconds(detector: FaceDetector, width: int, height: int) -> float:
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)
    taken = []
    for _ in range(60):
        begun = time.perf_counter()
        detector.detect(image)
        taken.append(1000 * (time.perf_counter() - begun))
    return median(taken[10:])


def cells(evaluation: Evaluation) -> str:
    """Easy, medium and hard as cells of a table, each with its 95 % interval in brackets."""
    spans = (evaluation.intervals[name] for name in SUBSETS)
    return " | ".join(f"{span.value:.3f} {_span(span, 3)}" for span in spans)


def card(network: str, info: Mapping[str, Any], hashes: Mapping[str, str], numbers: Numbers) -> str:
    """The card's text. info: what the weights' file says of their training; hashes: by suffix."""
    apart, lost = difference(numbers.released, numbers.own), difference(numbers.own, numbers.int8)
    blocks = [
        f"# {network}: weights that come with facetrain",
        _text(
            f"`{network}.onnx` (batch norm folded; what `facetrain detect` and `FaceDetector` load, without torch) and",
            f"`{network}.pt` (the same network for fine-tuning and exports).",
        ),
        _table(["file", "SHA-256"], [[f"{network}{suffix}", value] for suffix, value in hashes.items()]),
        _text(
            f"**What it is.** {SIZES[network]}, boxes and five landmarks. A training of this project's own on CPUs,",
            f"from drawn weights, taught by the {info['taught_by']}: by what that says of each place, and by its maps",
            f"inside the network. Its file's SHA-256 stands in `{network}.pt`; its licence is Apache-2.0.",
        ),
        _text("**What it saw.**", _seen(info)),
        _text(
            f"**How good it is.** On {len(numbers.own.images)} validation images of WIDER FACE (`facetrain eval",
            "--widerface --present-only`, drawn evenly from all 61 kinds of scene; original size, score > 0.02, NMS",
            "0.45). These weights were chosen on these images.",
        ),
        _table(
            ["", *SUBSETS],
            [
                ["these weights", cells(numbers.own)],
                ["released by the YuNet authors (640 epochs, all images)", cells(numbers.released)],
                ["difference", " | ".join(_apart(apart[name]) for name in SUBSETS)],
                ["as int8, difference", " | ".join(_apart(lost[name], 4) for name in SUBSETS)],
            ],
        ),
        "In brackets: 95 % intervals, of what other images of the same kinds would have given.",
        _details_table(numbers),
        landmark_text(*numbers.landmarks),
        _text(
            "**Which score.** `facetrain detect --at-precision` takes these. Every labelled face counts, however",
            "small, in images at their original size.",
        ),
        _points_table(numbers.points),
        _text("**How large.**", _range(numbers.found)),
        _text(
            f"**How fast.** {numbers.ms[0]:.1f} ms at 320×320 and {numbers.ms[1]:.1f} ms at 640×480, decoding of",
            f"outputs included, on one core of an {cpu_name()} with {_widest()} by onnxruntime.",
        ),
        _text(
            f"**Weak at.** Easy AP is {numbers.own.ap['easy']:.3f} as the images are; {_weak(numbers.views)}. Faces",
            "under 12 pixels are mostly missed. Errors have not been measured by age, sex or skin colour.",
        ),
        _text(
            "**Terms.** WIDER FACE allows research, and so do most of the other images; see examples/licences.md",
            "before using these weights in a product.",
        ),
    ]
    return "\n\n".join(blocks) + "\n"


def _text(*parts: str) -> str:
    return textwrap.fill(" ".join(parts), 120, break_long_words=False, break_on_hyphens=False)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _seen(info: Mapping[str, Any]) -> str:
    hours, more = info["processor_s"] / 3600, info["settings"].get("more", [])
    others = "".join(_FURTHER[name.partition(":")[0]] for name in more)
    return (
        "2,971 of WIDER FACE's 12,880 training images, from 20 of its 61 kinds of scene, made smaller (longest side "
        f"768 or 1,024 pixels), without their labels{others}. {info['crops']:,} crops in {hours:.1f} "
        f'processor hours by `tests/benchmarks/long_run.py`, the last stage "{info["stage"]}", seed {info["seed"]}, at '
        f"commit {info['commit']}; averaged weights."
    )


def _apart(found: Difference, digits: int = 3) -> str:
    sign = "+" if found.value >= 0 else "−"
    low, high = found.low, found.high
    ends = "" if low is None or high is None else f" [{_signed(low, digits)}, {_signed(high, digits)}]"
    return f"{sign}{_short(abs(found.value), digits)}{ends}"


def _signed(value: float, digits: int) -> str:
    return ("+" if value >= 0 else "−") + _short(abs(value), digits)


def _widest() -> str:
    """The widest vectors of this processor, as Linux names them."""
    known = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    return next((name for flag, name in _VECTORS.items() if f" {flag} " in known), "no known vectors")


def _short(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".removeprefix("0")


def _span(found: Estimate | None, digits: int) -> str:
    return "" if found is None else brackets(found.low, found.high, digits)


def _details_table(numbers: Numbers) -> str:
    own, released = numbers.own.details, numbers.released.details
    names = [f"{size.low} to {size.high} px" if size.high else f"{size.low} px and more" for size in own.by_size]
    both = (own, released)
    rows = [
        [f"recall, faces of {name} ({own.by_size[number].faces})", *(_recall(details, number) for details in both)]
        for number, name in enumerate(names)
    ]
    rows.append([f"recall, all {own.faces}", *(_number(d.recall, d, "recall", 3) for d in both)])
    rows.append(["false alarms an image", *(_number(d.false_alarms, d, "false_alarms", 2) for d in both)])
    return _table(["at score 0.5", "these weights", "released"], rows)


def landmark_text(own: Details, released: Details) -> str:
    """How far landmarks are off, as a paragraph."""
    errors = [_number(d.landmark_error and d.landmark_error.mean, d, "landmark_error.mean", 4) for d in (own, released)]
    return _text(
        f"**Landmarks** of these weights are off by {errors[0]} of the face's size, those of the released ones by",
        f"{errors[1]}, on {own.images} training images, the labels of which only the released ones have learnt.",
    )


def _recall(details: Details, number: int) -> str:
    size = details.by_size[number]
    return _number(size.recall, details, f"by_size.{number}.recall", 2)


def _number(value: float | None, details: Details, place: str, digits: int) -> str:
    known = details.intervals.get(place)
    return "-" if value is None else f"{value:.{digits}f} {_span(known, digits)}".rstrip()


def _points_table(points: OperatingPoints | None) -> str:
    rows = []
    for point in points.points if points else ():
        ends = "" if point.low is None or point.high is None else f" [{point.low:.2f}, {point.high:.2f}]"
        rows.append([f"{point.precision:g}", f"{point.score:.3f}{ends}", f"{point.recall:.3f}"])
    return _table(["precision", "score", "recall"], rows)


def _range(found: FaceRange | None) -> str:
    if found is None:
        return "Not measured."
    return (
        f"It finds faces of {found.least:g} to {found.most:g} pixels (shorter side, in the image as the network is "
        "shown it): the smallest at least half as often as the best size, the largest nine tenths as often, at score "
        "0.5, by `tests/benchmarks/face_sizes.py` on the same validation images."
    )


def _weak(views: Mapping[str, float]) -> str:
    return ", ".join(f"{ap:.3f} {_VIEWS[name]}" for name, ap in views.items())
