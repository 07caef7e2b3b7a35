"""Is an exported ONNX file what it should be? Each check gives a line; one that fails makes the export fail.

The network itself is the judge: raw numbers against torch, faces against `FaceDetector`'s torch counterpart, and
`cv2.FaceDetectorYN` against what it should make of these numbers (opencv_yn.py).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch

from facetrain.core.boxes import box_iou, pad_image, padded_size
from facetrain.core.documents.export import CheckDocument
from facetrain.core.faces import Faces, Floats, Image
from facetrain.core.images import fit_image, opencv
from facetrain.core.onnx_session import cpu_session
from facetrain.detect.onnx_detector import OnnxDetector
from facetrain.export.onnx.model import output_names
from facetrain.export.onnx.opencv_yn import POINTS, STRIDES, Thresholds, candidates, few, possible_and_certain
from facetrain.export.onnx.request import OnnxOptions
from facetrain.model.detector import ModelDetector
from facetrain.model.yunet import YuNet

FORBIDDEN = {"Shape", "Gather", "GatherND", "NonMaxSuppression", "Range", "ConstantOfShape"}  # of the raw form
_SCORE_LIMIT, _OFFSET_LIMIT = 1e-4, 1e-3  # of cls and obj; of bbox and kps (relative where values exceed 1)
_CROWD = 500  # boxes of one image, before suppression
_BOX_LIMIT = 0.05  # pixels, for faces that went through two decoders …
_LARGE_BOX = 2000.0  # … of boxes no larger than this: a side is an exponential, and an error of it grows with the side
_OPENCV = (Thresholds(0.6, 0.3), Thresholds(0.2, 0.45))


@dataclass(frozen=True)
class Check:
    """One finding. `largest` is the largest difference seen and `limit` what is allowed, None where not a number.

    ok is None where the check could not be made; `note` says why, or what was looked at.
    """

    name: str
    ok: bool | None
    note: str
    largest: float | None = None
    limit: float | None = None

    def as_dict(self) -> CheckDocument:
        """For JSON."""
        return {
            "name": self.name,
            "ok": self.ok,
            "note": self.note,
            "largest_difference": self.largest,
            "limit": self.limit,
        }


def check_onnx(path: Path, model: YuNet, options: OnnxOptions, images: Sequence[Image]) -> list[Check]:
    """All checks that apply to the file's form. images: (H, W, 3) uint8 BGR."""
    checks = [_structure(path, model, options)]
    if options.form == "raw":
        checks += _raw(path, model, options)
        checks.append(_faces(path, model, options, images, 0.3, 0.45))
        checks.append(_face_detector_yn(path, model, options, images))
    elif options.form == "rows":
        checks.append(_faces(path, model, options, images, 0.3, 0.45))
    else:
        checks.append(_faces(path, model, options, images, options.score, options.nms))
        if options.batch != 1:
            checks.append(_decoded_batch(path, options, images))
    return checks


def check_lower(path: Path, full: Path, model: YuNet, options: OnnxOptions, images: Sequence[Image]) -> list[Check]:
    """What can be said of a file of lower precision beside the float32 one: its form, and which faces are the same.

    How much that matters only AP can tell (precision.py), so no face that is lost makes the check fail.
    """
    checks = [_structure(path, model, options)]
    if options.batch not in (None, 1):
        return checks
    kept, lost, new, gap = 0, 0, 0, 0.0
    ours, theirs = (OnnxDetector(file, score=0.3, nms=0.45) for file in (path, full))
    for image in images:
        found, wanted = (detector.detect_batch([image])[0] for detector in (ours, theirs))
        overlaps = box_iou(found.boxes, wanted.boxes)
        best = overlaps.max(0, initial=0.0) > 0.5
        kept, lost = kept + int(best.sum()), lost + int((~best).sum())
        new += int((overlaps.max(1, initial=0.0) <= 0.5).sum())
        for index in np.flatnonzero(best):
            gap = max(gap, abs(float(found.scores[np.argmax(overlaps[:, index])] - wanted.scores[index])))
    note = f"{kept} found again, {lost} lost, {new} new; scores within {gap:.3f}"
    if not kept + lost + new:
        note = "neither finds a face in these images: give others by `check_images`"
    return [*checks, Check("faces against float32", False if lost and not kept else None, note)]


def _structure(path: Path, model: YuNet, options: OnnxOptions) -> Check:
    file = onnx.load(path)
    names = [output.name for output in file.graph.output]
    wanted = {"raw": output_names(model.config), "rows": ["rows"], "decoded": ["faces"]}[options.form]
    kinds = {node.op_type for node in file.graph.node}
    bad = sorted(kinds & FORBIDDEN) if options.form == "raw" else []
    outside = [weight.name for weight in file.graph.initializer if weight.external_data]
    problems = []
    if [value.name for value in file.graph.input] != ["input"]:
        problems.append("the input is not `input` alone")
    if names != wanted:
        problems.append(f"outputs {' '.join(names)} instead of {' '.join(wanted)}")
    if bad:
        problems.append(f"nodes that OpenCV 4 does not load: {', '.join(bad)}")
    if outside:
        problems.append("weights outside the file")
    note = f"opset {file.opset_import[0].version}, IR {file.ir_version}, {len(file.graph.node)} nodes"
    return Check("names and nodes", not problems, "; ".join(problems) or note)


def _runner(path: Path) -> Callable[[Floats], dict[str, Floats]]:
    """The file as a function from images (B, 3, H, W) to its outputs by name."""
    session = cpu_session(path)
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(names, {"input": images}), strict=True))


def _raw(path: Path, model: YuNet, options: OnnxOptions) -> list[Check]:
    """Numbers against torch at several sizes, and images in a batch against each alone."""
    run = _runner(path)
    multiple = max(model.config.strides)
    sizes = [options.size] if options.size else [(k * multiple, m * multiple) for k, m in ((2, 2), (10, 10), (4, 7))]
    scores, offsets, batches = 0.0, 0.0, 0.0
    rng = np.random.default_rng(0)
    for width, height in sizes:
        count = options.batch or 2
        noise = rng.integers(0, 256, (count, model.config.stem[0], height, width)).astype(np.float32)
        found = run(noise)
        with torch.inference_mode():
            wanted = _torch_outputs(model, noise)
        for name, value in found.items():
            if name.startswith(("cls", "obj")):
                scores = max(scores, _difference(value, wanted[name]))
            else:
                offsets = max(offsets, _difference(value, wanted[name]))
        if options.batch is None:
            for position in range(count):
                alone = run(noise[position : position + 1])
                batches = max(
                    [batches, *(_difference(found[name][position : position + 1], alone[name]) for name in alone)]
                )
    places = ", ".join(f"{width}x{height}" for width, height in sizes)
    checks = [
        Check("cls, obj against torch", scores <= _SCORE_LIMIT, places, scores, _SCORE_LIMIT),
        Check("bbox, kps against torch", offsets <= _OFFSET_LIMIT, places, offsets, _OFFSET_LIMIT),
    ]
    if options.batch is None:
        checks.append(Check("batch of 2 against single runs", batches <= 1e-5, places, batches, 1e-5))
    return checks


def _torch_outputs(model: YuNet, images: Floats) -> dict[str, Floats]:
    levels = model.raw_levels(torch.from_numpy(images))
    outputs = {}
    for name in output_names(model.config):
        kind, stride = name.split("_")
        value = levels[model.config.strides.index(int(stride))][("cls", "obj", "bbox", "kps").index(kind)]
        outputs[name] = (value.sigmoid() if kind in ("cls", "obj") else value).numpy()
    return outputs


def _difference(a: Floats, b: Floats) -> float:
    """Largest difference, relative to values above 1. A shape or a NaN that does not agree is infinitely far."""
    if a.shape != b.shape or not (np.isfinite(a) == np.isfinite(b)).all():
        return float("inf")
    with np.errstate(invalid="ignore"):
        return float(np.max(np.nan_to_num(np.abs(a - b) / np.maximum(1, np.abs(b))), initial=0.0))


def _faces(path: Path, model: YuNet, options: OnnxOptions, images: Sequence[Image], score: float, nms: float) -> Check:
    """Whole detections: this file through onnxruntime against the network through torch."""
    name = "faces against torch, pixels"
    if options.batch not in (None, 1):
        return Check(name, None, f"facetrain detects one image at a time, this file takes {options.batch}")
    ours = OnnxDetector(path, score=score, nms=nms)
    count, score_gap, box_gap = 0, 0.0, 0.0
    for image in images:
        shown = fit_image(image, *ours.net.size)[0] if ours.net.size else image
        if ours.net.size:
            shown = pad_image(shown, *ours.net.size)
        theirs, best = _few(model, shown, score, nms)
        if best is None:
            found = ours.detect_batch([shown])[0]
            gaps = compare_faces(found, theirs, _near(score))
        elif options.form == "decoded":  # threshold and suppression are in the file
            gaps = _among(ours.detect_batch([shown])[0], theirs)
        else:
            found = OnnxDetector(path, score=best, nms=1.0).detect_batch([shown])[0]
            gaps = compare_faces(found, theirs, _near(best))
        count += len(theirs)
        score_gap, box_gap = max(score_gap, gaps[0]), max(box_gap, gaps[1])
    note = f"{count} faces in {len(images)} images, scores within {score_gap:.1e}"
    ok = score_gap <= _SCORE_LIMIT and box_gap <= _BOX_LIMIT
    return Check(name, ok, note, box_gap, _BOX_LIMIT)


def _near(threshold: float) -> Callable[[float], bool]:
    """Whether a score is so near to the threshold that rounding decides on which side it lies."""
    return lambda score: abs(score - threshold) < 2 * _SCORE_LIMIT


def _few(model: YuNet, image: Image, score: float, nms: float) -> tuple[Faces, float | None]:
    """The network's faces of an image and None; of a crowd the best boxes before suppression, and their least score.

    An untrained network scores everything alike: which of its thousand boxes stay hangs on the last digit of each.
    """
    every = ModelDetector(model, score=score, nms=1.0, max_candidates=_CROWD + 1).detect_batch([image])[0]
    if len(every) <= _CROWD:
        return ModelDetector(model, score=score, nms=nms).detect_batch([image])[0], None
    return Faces(every.boxes[:-1], every.scores[:-1], every.landmarks[:-1]), float(every.scores[-2])


def _among(found: Faces, theirs: Faces) -> tuple[float, float]:
    """(largest difference of scores, of boxes) between faces that reach the least of `theirs` and their nearest."""
    score_gap = box_gap = 0.0
    for box, score in zip(found.boxes, found.scores, strict=True):
        if score < theirs.scores[-1] + 2 * _SCORE_LIMIT:
            continue
        apart = np.abs(theirs.boxes - box).max(1)
        near = int(np.argmin(apart))
        box_gap = max(box_gap, float(apart[near]))
        score_gap = max(score_gap, abs(float(theirs.scores[near] - score)))
    return score_gap, box_gap


def compare_faces(a: Faces, b: Faces, excused: Callable[[float], bool]) -> tuple[float, float]:
    """(largest difference of scores, of boxes and landmarks in pixels) of two sets of faces.

    A face of one that the other lacks makes both infinite, unless its score is `excused`. Pixels are those of a box of
    at most _LARGE_BOX; a larger one, as networks without training find, counts as if it were shrunk to that.
    """
    score_gap = box_gap = 0.0
    left = np.ones(len(b), np.bool_)
    for index in range(len(a)):
        shrunk = max(1.0, float(np.abs(a.boxes[index]).max()) / _LARGE_BOX)
        apart = np.where(left, np.abs(b.boxes - a.boxes[index]).max(1), np.inf) / shrunk
        near = int(np.argmin(apart)) if len(b) else -1
        if near < 0 or not apart[near] <= 1:
            if not excused(float(a.scores[index])):
                return float("inf"), float("inf")
            continue
        left[near] = False
        score_gap = max(score_gap, abs(float(a.scores[index] - b.scores[near])))
        gaps = [np.abs(a.boxes[index] - b.boxes[near]), np.abs(a.landmarks[index] - b.landmarks[near])]
        box_gap = max(box_gap, *(float(gap.max(initial=0)) / shrunk for gap in gaps))
    if all(excused(float(score)) for score in b.scores[left]):
        return score_gap, box_gap
    return float("inf"), float("inf")


def _decoded_batch(path: Path, options: OnnxOptions, images: Sequence[Image]) -> Check:
    """The images as one batch against each alone: the first column tells them apart."""
    run = _runner(path)
    width, height = options.size or padded_size(
        max(image.shape[1] for image in images), max(image.shape[0] for image in images), 32 * 8
    )
    count = options.batch or len(images)
    shown = [pad_image(fit_image(image, width, height)[0], width, height) for image in images]
    shown = [shown[index % len(shown)] for index in range(count)]
    batch = np.stack([image.transpose(2, 0, 1) for image in shown]).astype(np.float32)
    rows = run(batch)["faces"]
    if options.batch is not None:
        ordered = sorted(rows.tolist(), key=lambda row: (row[0], -row[5]))
        return Check("order within a batch", ordered == rows.tolist(), f"{len(rows)} faces in {count} images")
    largest = 0.0
    for index, image in enumerate(batch):
        alone = run(image[None])["faces"]
        largest = max(largest, _difference(rows[rows[:, 0] == index][:, 1:], alone[:, 1:]))
    return Check("batch against single runs", largest <= 1e-5, f"{len(rows)} faces", largest, 1e-5)


def _face_detector_yn(path: Path, model: YuNet, options: OnnxOptions, images: Sequence[Image]) -> Check:
    """Faces and scores: a file that gave logits would load, and every face would come out with score 1."""
    name = "cv2.FaceDetectorYN, pixels"
    config = model.config
    if config.strides != STRIDES or len(config.landmarks.names) != POINTS or config.stem[0] != 3:
        return Check(name, None, "not for this network: it takes strides 8 16 32 and five landmarks only")
    if options.batch not in (None, 1):
        return Check(name, None, f"not for this file: it takes one image at a time, not {options.batch}")
    cv2 = opencv()
    if not hasattr(cv2, "FaceDetectorYN"):
        return Check(name, None, f"this OpenCV ({cv2.__version__}) has none")
    run = _runner(path)
    largest, count = 0.0, 0
    for image in images:
        shown = fit_image(image, *options.size)[0] if options.size else image
        height, width = shown.shape[:2]
        padded = pad_image(shown, *(options.size or padded_size(width, height, 32)))
        outputs = run(padded.transpose(2, 0, 1)[None].astype(np.float32))
        rows = candidates(outputs, padded.shape[1], padded.shape[0])
        for wanted in _OPENCV:
            thresholds = few(rows, wanted, _CROWD)
            try:
                detector = cv2.FaceDetectorYN.create(
                    str(path), "", padded.shape[1::-1], thresholds.score, thresholds.nms, thresholds.top_k
                )
                found = detector.detect(padded)[1]
            except cv2.error as error:
                return Check(name, False, f"OpenCV {cv2.__version__} does not run it: {str(error).strip()[:200]}")
            found = np.zeros((0, 15), np.float32) if found is None else found
            largest = max(largest, _sets_differ(found, rows, *possible_and_certain(rows, thresholds)))
            count += len(found)
    note = f"OpenCV {cv2.__version__}, {count} faces in {len(images)} images, scores and landmarks too"
    return Check(name, largest <= _BOX_LIMIT, note, largest, _BOX_LIMIT)


def _sets_differ(found: Floats, rows: Floats, possible: set[int], certain: set[int]) -> float:
    """The largest difference between OpenCV's faces and ours, (F, 15) each; infinite where the sets cannot be one."""
    places = np.array(sorted(possible), np.intp)
    largest, met = 0.0, set()
    for face in found:
        if not len(places):
            return float("inf")
        gaps = np.abs(rows[places] - face)
        gaps[:, 14] *= _BOX_LIMIT / 1e-3  # a score may differ by 1e-3, which then reads as the limit in pixels
        nearest = int(gaps.max(1).argmin())
        largest = max(largest, float(gaps[nearest].max()))
        met.add(int(places[nearest]))
    return largest if certain <= met and len(met) == len(found) else float("inf")


def failed(checks: Iterable[Check]) -> list[Check]:
    """Those that were made and did not hold."""
    return [check for check in checks if check.ok is False]
