"""One measurement from weights or prediction files to AP, protocol, details and intervals."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import cast

import numpy as np

from facetrain.core.documents.common import ProtocolDocument
from facetrain.core.documents.eval import EvalDocument
from facetrain.core.errors import InputError, UsageError
from facetrain.core.faces import Detector, Faces, LabelledImage
from facetrain.core.machine import available_cores
from facetrain.data.held_out import check_undivided, divided
from facetrain.data.label_file import LabelFile
from facetrain.data.landmark_names import in_order_of
from facetrain.data.layout import Reading, load_split
from facetrain.data.plausibility.facts import image_facts
from facetrain.data.plausibility.in_both import known_in_both
from facetrain.data.plausibility.judge import Judgement, judge
from facetrain.data.plausibility.points import NO_POINTS
from facetrain.data.sample_set.make import sample_root
from facetrain.detect.views import AUTO
from facetrain.eval.average_precision import Curve
from facetrain.eval.benchmark import Benchmark, Scores
from facetrain.eval.details import Details
from facetrain.eval.intervals import DRAWS, SEED, Estimate, Resampling
from facetrain.eval.labelled import labelled_benchmark, size_check
from facetrain.eval.pipeline import batch_of, detect_images, first_error
from facetrain.eval.prediction_files import (
    check_free,
    check_names,
    read_predictions,
    read_protocol,
    write_predictions,
)
from facetrain.eval.protocol import EvalProtocol, ProtocolDetector
from facetrain.eval.wider_face.benchmark import official_benchmark, widerface_benchmark

_OF_THE_SET = ("images", "present_only")  # what a protocol says of the images and not of how they are shown
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """A finished measurement.

    protocol:   how images were shown and which of them
    resampling: the draws that give the intervals
    intervals: of the AP of each subset that has one
    details:   with intervals of their own
    missing:   images without a prediction file, which count as without detections
    in_training: how many of the images are known to be training images too; None where nobody has compared them
    """

    scores: Scores
    protocol: ProtocolDocument
    seconds: dict[str, float]
    resampling: Resampling
    intervals: Mapping[str, Estimate]
    details: Details
    missing: Sequence[str] = ()
    in_training: int | None = None

    @property
    def benchmark(self) -> str:
        """`widerface`, or `labelled`."""
        return self.scores.benchmark.name

    @property
    def images(self) -> Sequence[LabelledImage]:
        """The images and their labels."""
        return self.scores.benchmark.images

    @property
    def found(self) -> Sequence[Faces]:
        """What was found in each image."""
        return self.scores.found

    @property
    def curves(self) -> Mapping[str, Curve]:
        """Per subset: easy, medium and hard, or `all` on a labelled set."""
        return self.scores.curves

    @property
    def ap(self) -> dict[str, float | None]:
        """AP of each subset; None where no face counts."""
        return self.scores.ap

    def as_dict(self) -> EvalDocument:
        """The JSON document."""
        judgement = self.scores.benchmark.labels or Judgement([])
        return {
            "benchmark": self.benchmark,
            **cast("EvalDocument", self.ap),
            "images": len(self.images),
            "intervals": {name: estimate.as_dict() for name, estimate in self.intervals.items()},
            "protocol": self.protocol,
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
            "details": self.details.as_dict(),
            "missing_predictions": list(self.missing),
            "labels": judgement.as_dict(),
            "in_training": self.in_training,
        }


@dataclass(frozen=True)
class Source:
    """Where detections come from: weights that look at images, or files of earlier detections.

    family: the detector family to take an ONNX file for; None: recognised
    """

    weights: str | None = "yunet_n"
    predictions: Path | None = None
    device: str = "cpu"
    threads: int | None = None
    family: str | None = None


def evaluate_model(
    source: Source | str | Path,
    data: str | Path,
    protocol: EvalProtocol | None = None,
    *,
    widerface: bool = False,
    ground_truth: str | Path | None = None,
    present_only: bool = False,
    format: str | None = None,
    classes: Sequence[str] = (),
    trust_labels: bool = False,
    val: float | None = None,
    save_predictions: str | Path | None = None,
    score: float = 0.5,
    precision: float = 0.95,
    draws: int = DRAWS,
    seed: int = SEED,
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
) -> Evaluation:
    """Measure on WIDER FACE, or on any labelled set in one of facetrain's layouts (its val part).

    source:       weights, or a `Source`, which may be a folder of result files
    data:         the set's folder, or its label file; `sample` is the set that facetrain draws itself
    protocol:     how images are shown and which detections count; None: the published one
    ground_truth: folder of the three official .mat files; by default found below `data`
    present_only: measure on the images that are there; otherwise a missing one is an error
    format:       of the labels; None: the one that recognises them
    classes:      those that are faces; (): the only one, or the one that is called a face
    trust_labels: leave out, clip and refuse nothing of labels that cannot be right; WIDER FACE's are never changed
    val:          measure on this share of a set without a validation part, the images that `data.val` keeps in training
    score, precision: where false alarms are counted, and what a threshold is looked for
    draws, seed:  of the bootstrap that gives the 95 % intervals; 0: none
    tell:         hears which labels were recognised, and what they hold

    Raises InputError for what is missing, DataError for what is damaged, UsageError for rules that mean nothing.
    """
    source = source if isinstance(source, Source) else Source(str(source))
    protocol, data = protocol or EvalProtocol(), Path(data)
    ground_truth = None if ground_truth is None else Path(ground_truth)
    save_predictions = None if save_predictions is None else Path(save_predictions)
    if save_predictions is not None:
        check_free(save_predictions)  # now, and not after all the work
    began = time.perf_counter()
    needed = source.predictions is None
    benchmark = load_benchmark(
        data,
        widerface=widerface,
        ground_truth=ground_truth,
        present_only=present_only,
        needed=needed,
        reading=Reading(format, tuple(classes), trust_labels),
        val=val,
        tell=tell,
    )
    if widerface:
        benchmark = reported(benchmark, data)
    if save_predictions is not None:
        check_names(names_of(benchmark))
    seconds = time.perf_counter() - began
    result = evaluate_on(
        benchmark, source, protocol, score=score, precision=precision, draws=draws, seed=seed, progress=progress
    )
    if save_predictions is not None:
        rules = cast(
            "ProtocolDocument", {key: value for key, value in result.protocol.items() if key not in _OF_THE_SET}
        )
        write_predictions(save_predictions, names_of(benchmark), result.found, rules)
    # of a divided set both sides lie in its training part; images that look alike are on one side already
    pairs = None if val is not None else known_in_both(data, (image.path for image in benchmark.images))
    shown: ProtocolDocument = {**result.protocol, "present_only": present_only}
    return replace(
        result,
        protocol=shown,
        seconds={"labels": seconds, **result.seconds},
        in_training=None if pairs is None else len(pairs),
    )


def load_benchmark(
    data: Path,
    *,
    widerface: bool | None = False,
    ground_truth: Path | None = None,
    present_only: bool = False,
    needed: bool = True,
    reading: Reading = Reading(),  # noqa: B008 (frozen)
    val: float | None = None,
    tell: Callable[[str], None] | None = None,
) -> Benchmark:
    """Images and ground truth below `data`; `sample` is the set that facetrain draws itself.

    widerface: None: the official one where its ground truth is, of the images that are there, else the labels
    needed: whether the images themselves will be looked at; tell: hears which labels were recognised
    val:    the share that `data.val` keeps of a set without a validation part
    Raises InputError or DataError for what is missing.
    """
    if str(data) == "sample" and not data.is_dir():
        data = sample_root()
    if widerface is None and (official := official_benchmark(data)) is not None:
        return official
    if widerface:
        return widerface_benchmark(data, ground_truth, present_only=present_only, needed=needed)
    labels = load_split(data, "val" if val is None else "train", None, reading)
    if tell is not None:
        tell(labels.said())
    labelled = labels.images if val is None else _held_out(data, labels, val, reading, tell)
    there = [image for image in labelled if image.path.is_file()]
    if not there:
        raise InputError(f"{data}: none of the {len(labelled)} labelled images is there")
    missing = [image.name for image in labelled if not image.path.is_file()]
    if missing and needed and not present_only:
        raise InputError(
            f"{data}: {len(missing):,} of {len(labelled):,} labelled images are missing, such as {missing[0]}",
            "`present_only` measures on those that are there",
        )
    return replace(labelled_benchmark(there if present_only else labelled, labels.points), labels=labels.judgement)


def _held_out(
    data: Path, labels: LabelFile, share: float, reading: Reading, tell: Callable[[str], None] | None
) -> list[LabelledImage]:
    """The images of a set without a validation part that training keeps for it."""
    assert labels.place is not None
    check_undivided(data, labels.place.labels, reading, share)
    parts = divided(data, labels.images, share, lambda done, total: None)
    if tell is not None:
        tell(parts.said(data, share))
    return parts.held


def reported(benchmark: Benchmark, data: Path) -> Benchmark:
    """WIDER FACE with what cannot be right in its ground truth, of which nothing is left out or clipped."""
    facts = image_facts(data, "val", (image.path for image in benchmark.images))
    headers = {image.name: facts[image.path].header for image in benchmark.images if image.path in facts}
    known = {name: header for name, header in headers.items() if header is not None}
    return replace(benchmark, labels=judge(benchmark.images, NO_POINTS, known, act=False))


def names_of(benchmark: Benchmark) -> list[str]:
    """The name of each image in prediction files, `<event>/<image>` without suffix."""
    if benchmark.official:
        return [image.name for image in benchmark.images]
    return [str(PurePosixPath(image.name).with_suffix("")) for image in benchmark.images]


def evaluate_on(
    benchmark: Benchmark,
    source: Source,
    protocol: EvalProtocol,
    *,
    score: float = 0.5,
    precision: float = 0.95,
    draws: int = DRAWS,
    seed: int = SEED,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure on a benchmark that is loaded already; see `evaluate_model`."""
    resampling = benchmark.resampling(draws, seed)
    began = time.perf_counter()
    missing: list[str] = []
    if source.predictions is not None:
        found, missing = read_predictions(source.predictions, names_of(benchmark))
        shown: ProtocolDocument = {**read_protocol(source.predictions), "source": "prediction files"}
    else:
        found, shown = detect_labelled(source, benchmark.images, protocol, progress, benchmark.landmarks)
    seconds = {"detections": time.perf_counter() - began}
    began = time.perf_counter()
    scores = benchmark.score(found)
    _ = scores.ap
    seconds["evaluation"] = time.perf_counter() - began
    began = time.perf_counter()
    details = scores.details(score=score, precision=precision, resampling=resampling)
    intervals = scores.intervals(resampling)
    seconds["intervals"] = time.perf_counter() - began
    return Evaluation(scores, {**shown, "images": len(found)}, seconds, resampling, intervals, details, missing)


def detect_labelled(
    source: Source,
    images: Sequence[LabelledImage],
    protocol: EvalProtocol,
    progress: Progress | None = None,
    landmarks: Sequence[str] = (),
) -> tuple[list[Faces], ProtocolDocument]:
    """Detections of every image, and the protocol as it was. Raises DataError for the first that cannot be read.

    landmarks: names of the labels' points: the detections come with these, in this order, or with none where the
               detector's are others
    """
    from facetrain.detect.detector import FaceDetector

    if source.weights is None:
        raise UsageError("nothing to measure: neither weights nor predictions", "give `weights` or `predictions`")
    cores = source.threads or available_cores()
    opened = partial(
        FaceDetector,
        source.weights,
        device=source.device,
        family=source.family,
        # detections must score more than the threshold, a detector keeps those that reach it: the protocol drops these
        score=protocol.score,
        nms=protocol.nms,
        max_candidates=protocol.max_candidates,
    )
    detector = opened(threads=source.threads)
    if detector.own_threshold > protocol.score:
        own = detector.own_threshold
        raise UsageError(
            f"{source.weights}: the file itself drops faces that score less than {own:g}, so that AP at `score` "
            f"{protocol.score:g} cannot be measured",
            f"measure what it gives with `score` {own:g}, or export it raw or with a threshold of {protocol.score:g}",
        )
    parallel = source.device == "cpu"
    if parallel:
        # several images at once, one thread each, beat one image on several threads: nothing waits for anything
        detector = opened(threads=1)
    if detector.static_shape is not None and protocol.size != AUTO:
        protocol = replace(protocol, size="original")  # the file itself fits every image into its own size
    shown: Detector = ProtocolDetector(detector.looks if protocol.size == AUTO else detector, protocol)
    found = detect_images(
        shown,
        [image.path for image in images],
        workers=cores if parallel else 1,
        batch=batch_of(source.device),
        check=size_check(images),
        progress=progress,
    )
    fixed = detector.static_shape is not None and protocol.size != AUTO
    size = "fixed {}x{}".format(*detector.static_shape or ()) if fixed else protocol.size
    faces = first_error(found)
    if landmarks:
        columns = in_order_of(landmarks, detector.landmark_names) or []
        faces = [_reordered(some, columns) for some in faces]
    return faces, {**protocol.as_dict(), "size": size}


def _reordered(faces: Faces, columns: Sequence[int]) -> Faces:
    """Faces with other columns of landmarks; -1: nowhere, NaN."""
    nowhere = np.full((len(faces), 1, 2), np.nan, np.float32)
    there = np.concatenate([faces.landmarks, nowhere], 1)  # column -1 is the last
    return replace(faces, landmarks=there[:, list(columns)])
