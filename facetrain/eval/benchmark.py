"""One measurement from weights or prediction files to AP, protocol and details."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from facetrain.core.errors import InputError, UsageError
from facetrain.core.faces import Detector, Faces, LabelledImage
from facetrain.core.hardware import available_cores
from facetrain.data.labels.layout import load_split
from facetrain.data.sample import sample_root
from facetrain.eval.average_precision import Curve
from facetrain.eval.details import Details, measure_details
from facetrain.eval.labelled import labelled_curve, size_check
from facetrain.eval.pipeline import detect_pictures
from facetrain.eval.prediction_files import Prediction, check_free, check_names, read_predictions, write_predictions
from facetrain.eval.protocol import EvalProtocol, ProtocolDetector
from facetrain.eval.wider_truth import find_truth, load_truth
from facetrain.eval.widerface import as_labelled, as_prediction, first_error, measure_widerface, picture_paths

_GPU_BATCH = 16
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """A finished measurement.

    ap:       per subset: easy, medium and hard, or `all` on a labelled set; None where no face counts
    protocol: how pictures were shown and which of them
    missing:  pictures without a prediction file, which count as without detections
    """

    benchmark: str
    curves: Mapping[str, Curve]
    images: int
    protocol: dict[str, Any]
    seconds: dict[str, float]
    details: Details
    pictures: Sequence[LabelledImage]
    found: Sequence[Faces]
    missing: Sequence[str] = ()

    @property
    def ap(self) -> dict[str, float | None]:
        """AP of each subset."""
        return {name: curve.ap for name, curve in self.curves.items()}

    def as_dict(self) -> dict[str, Any]:
        """The JSON document."""
        return {
            "benchmark": self.benchmark,
            **self.ap,
            "images": self.images,
            "protocol": self.protocol,
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
            "details": self.details.as_dict(),
            "missing_predictions": list(self.missing),
        }


@dataclass(frozen=True)
class Source:
    """Where detections come from: weights that look at pictures, or files of earlier detections.

    family: the detector family to take an ONNX file for; None: recognised
    """

    weights: str | None = "yunet_n"
    predictions: Path | None = None
    device: str = "cpu"
    threads: int | None = None
    family: str | None = None


def evaluate_model(
    source: Source,
    data: Path,
    protocol: EvalProtocol,
    *,
    widerface: bool = False,
    ground_truth: Path | None = None,
    present_only: bool = False,
    save_predictions: Path | None = None,
    score: float = 0.5,
    precision: float = 0.95,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure on WIDER FACE, or on any labelled set in one of facetrain's layouts (its val part).

    ground_truth: folder of the three official .mat files; by default found below `data`
    present_only: measure on the pictures that are there; otherwise a missing one is an error
    score, precision: where false alarms are counted, and what a threshold is looked for
    """
    if str(data) == "sample" and not data.is_dir():
        data = sample_root()
    if save_predictions is not None:
        check_free(save_predictions)  # now, and not after all the work
    began = time.perf_counter()
    if widerface:
        truth = load_truth(find_truth(ground_truth or data))
        if source.predictions is None or present_only:
            truth, paths = picture_paths(data, truth, present_only=present_only)
        else:
            paths = [data / "WIDER_val" / "images" / f"{name}.jpg" for name in truth.names]
        pictures, names = as_labelled(truth, paths), truth.names
    else:
        labels = load_split(data, "val", 5)
        pictures = [picture for picture in labels.pictures if picture.path.is_file()]
        missing_pictures = [picture.name for picture in labels.pictures if not picture.path.is_file()]
        if not pictures:
            raise InputError(f"{data}: none of the {len(labels.pictures)} labelled pictures is there")
        if missing_pictures and source.predictions is None and not present_only:
            raise InputError(
                f"{data}: {len(missing_pictures):,} of {len(labels.pictures):,} labelled pictures are missing, "
                f"such as {missing_pictures[0]}",
                "`present_only` measures on those that are there",
            )
        if not present_only:
            pictures = labels.pictures
        names = [str(PurePosixPath(picture.name).with_suffix("")) for picture in pictures]
    if save_predictions is not None:
        check_names(names)
    seconds = {"labels": time.perf_counter() - began}

    began = time.perf_counter()
    missing: list[str] = []
    if source.predictions is not None:
        predictions, missing = read_predictions(source.predictions, names)
        found = [as_faces(prediction) for prediction in predictions]
        shown: dict[str, Any] = {"source": "prediction files"}
    else:
        found, shown = detect_labelled(source, pictures, protocol, progress)
        predictions = [as_prediction(faces) for faces in found]
    seconds["detections"] = time.perf_counter() - began

    began = time.perf_counter()
    curves = measure_widerface(predictions, truth).curves if widerface else {"all": labelled_curve(found, pictures)}
    seconds["evaluation"] = time.perf_counter() - began
    if save_predictions is not None:
        write_predictions(save_predictions, names, predictions)
    shown |= {"images": len(pictures), "present_only": present_only}
    return Evaluation(
        benchmark="widerface" if widerface else "labelled",
        curves=curves,
        images=len(pictures),
        protocol=shown,
        seconds=seconds,
        details=measure_details(found, pictures, score=score, precision=precision),
        pictures=pictures,
        found=found,
        missing=missing,
    )


def as_faces(prediction: Prediction) -> Faces:
    """Detections of a file as Faces without landmarks."""
    boxes, scores = prediction
    return Faces(boxes.astype(np.float32), scores.astype(np.float32), np.zeros((len(scores), 0, 2), np.float32))


def detect_labelled(
    source: Source, pictures: Sequence[LabelledImage], protocol: EvalProtocol, progress: Progress | None = None
) -> tuple[list[Faces], dict[str, Any]]:
    """Detections of every picture, and the protocol as it was. Raises DataError for the first that cannot be read."""
    from facetrain.detect.load import FaceDetector

    if source.weights is None:
        raise UsageError("nothing to measure: neither weights nor predictions", "give `weights` or `predictions`")
    cores = source.threads or available_cores()
    settings: dict[str, Any] = {
        "device": source.device,
        "family": source.family,
        # detections must score more than the threshold, a detector keeps those that reach it: the protocol drops these
        "score": protocol.score,
        "nms": protocol.nms,
        "max_candidates": protocol.max_candidates,
    }
    detector = FaceDetector(source.weights, threads=source.threads, **settings)
    if detector.own_threshold > protocol.score:
        own = detector.own_threshold
        raise UsageError(
            f"{source.weights}: the file itself drops faces that score less than {own:g}, so that AP at `score` "
            f"{protocol.score:g} cannot be measured",
            f"measure what it gives with `score` {own:g}, or export it raw or with a threshold of {protocol.score:g}",
        )
    parallel = detector.path.suffix.lower() == ".onnx" and source.device == "cpu"
    if parallel:
        # several pictures at once, one thread each, beat one picture on several threads: nothing waits for anything
        detector = FaceDetector(source.weights, threads=1, **settings)
    if detector.fixed_size is not None:
        protocol = replace(protocol, size="original")  # the file itself fits every picture into its own size
    shown: Detector = ProtocolDetector(detector, protocol)
    found = detect_pictures(
        shown,
        [picture.path for picture in pictures],
        workers=cores if parallel else 1,
        batch=1 if source.device == "cpu" else _GPU_BATCH,
        check=size_check(pictures),
        progress=progress,
    )
    size = "fixed {}x{}".format(*detector.fixed_size) if detector.fixed_size else protocol.size
    return first_error(found), {**protocol.as_dict(), "size": size}
