"""AP of a model on WIDER FACE, kept so that the same model on the same pictures is measured once."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facetrain.compare.cache import read_result, source_hash, write_result
from facetrain.compare.models import OpenModel
from facetrain.core.errors import DataError
from facetrain.core.faces import LabelledImage
from facetrain.core.files import sha256
from facetrain.eval.benchmark import Source, detect_labelled
from facetrain.eval.protocol import EvalProtocol
from facetrain.eval.wider_truth import SUBSETS, WiderTruth, find_truth, load_truth
from facetrain.eval.widerface import as_labelled, as_prediction, measure_widerface, picture_paths


@dataclass(frozen=True)
class WiderFace:
    """The pictures to measure on, with their truth. fingerprints: of both, they name a kept result."""

    truth: WiderTruth
    pictures: Sequence[LabelledImage]
    fingerprints: dict[str, str]


@dataclass(frozen=True)
class Accuracy:
    """AP of a model.

    ap:         easy, medium and hard; None where no face of the subset is among the pictures
    detections: how many there were, in all pictures
    size:       how pictures were shown: the protocol's rule, or `fixed WxH`
    cached:     whether it was measured earlier
    """

    ap: dict[str, float | None]
    detections: int
    size: str
    cached: bool


def load_widerface(data: Path, ground_truth: Path | None, *, present_only: bool) -> WiderFace:
    """Pictures and truth below `data`. Raises InputError or DataError for what is missing or damaged."""
    truth = load_truth(find_truth(ground_truth or data))
    truth, paths = picture_paths(data, truth, present_only=present_only)
    fingerprints = {"pictures": hash_pictures(truth.names, paths), "truth": hash_truth(truth)}
    return WiderFace(truth, as_labelled(truth, paths), fingerprints)


def hash_pictures(names: Sequence[str], paths: Sequence[Path]) -> str:
    """Fingerprint of pictures under these names, SHA-256. Raises DataError for one that cannot be read.

    Of their content, not of sizes and dates: reading every picture once is a hundredth of the work of one model, a copy
    of the data is recognised, and a picture that was replaced is never taken for the old one.
    """
    state = hashlib.sha256()
    for name, path in zip(names, paths, strict=True):
        try:
            state.update(f"{name}\0{sha256(path)}\n".encode("utf-8", "surrogateescape"))
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return state.hexdigest()


def hash_truth(truth: WiderTruth) -> str:
    """Fingerprint of the boxes and of which of them count, SHA-256."""
    state = hashlib.sha256()
    for index, name in enumerate(truth.names):
        state.update(f"{name}\0{truth.boxes[index].shape}\n".encode("utf-8", "surrogateescape"))
        state.update(truth.boxes[index].tobytes())
        for subset in SUBSETS:
            state.update(truth.counted[subset][index].tobytes())
    return state.hexdigest()


def measure_accuracy(
    model: OpenModel,
    benchmark: WiderFace,
    protocol: EvalProtocol,
    *,
    threads: int,
    fresh: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Accuracy:
    """The AP of a model, from an earlier measurement of just this or from looking at every picture.

    fresh: do not look for an earlier one. Raises DataError for the first picture that cannot be read.
    """
    key = {
        "model": sha256(model.path),
        "family": model.family,
        **benchmark.fingerprints,
        "protocol": protocol.as_dict(),
        "code": source_hash(with_torch=model.kind == "checkpoint"),
    }
    kept = None if fresh else _accuracy(read_result(key))
    if kept is not None:
        return kept
    # an ONNX file was recognised already, or forced; a checkpoint has but one family
    family = model.family if model.kind == "onnx" else None
    source = Source(str(model.path), threads=threads, family=family)
    found, shown = detect_labelled(source, benchmark.pictures, protocol, progress)
    result = measure_widerface([as_prediction(faces) for faces in found], benchmark.truth)
    accuracy = Accuracy(result.ap, sum(map(len, found)), shown["size"], cached=False)
    write_result(key, {"ap": accuracy.ap, "detections": accuracy.detections, "size": accuracy.size})
    return accuracy


def _accuracy(kept: Any) -> Accuracy | None:
    """A kept result, if it is one: a file that another program wrote or cut off is no result."""
    if not isinstance(kept, dict):
        return None
    ap, detections, size = (kept.get(name) for name in ("ap", "detections", "size"))
    if not isinstance(ap, dict) or list(ap) != list(SUBSETS) or not isinstance(detections, int):
        return None
    if not isinstance(size, str) or not all(value is None or isinstance(value, float) for value in ap.values()):
        return None
    return Accuracy(ap, detections, size, cached=True)
