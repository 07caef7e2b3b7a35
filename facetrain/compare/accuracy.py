"""AP of a model on WIDER FACE, its matches kept so that the same model on the same images is measured once."""

import base64
import hashlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from facetrain.compare.cache import read_result, source_hash, write_result
from facetrain.compare.models import OpenModel
from facetrain.core.errors import DataError
from facetrain.core.files import sha256
from facetrain.eval.average_precision import STEPS, Matches, Tally, curve
from facetrain.eval.benchmark import Benchmark
from facetrain.eval.evaluate import Source, detect_labelled, load_benchmark
from facetrain.eval.protocol import EvalProtocol


@dataclass(frozen=True)
class KnownBenchmark:
    """A benchmark with the fingerprints of its images and its ground truth, which name a kept result."""

    benchmark: Benchmark
    fingerprints: dict[str, str]


@dataclass(frozen=True)
class Accuracy:
    """AP of a model.

    matches:    of its detections, from which AP, intervals and differences follow
    tallies:    per subset (easy, medium and hard) what each image adds to its curve
    size:       how images were shown: the protocol's rule, or `fixed WxH`
    cached:     whether it was measured earlier
    """

    matches: Matches = field(repr=False, compare=False)
    tallies: Mapping[str, Tally] = field(repr=False, compare=False)
    ap: dict[str, float | None]
    size: str
    cached: bool

    @property
    def detections(self) -> int:
        """How many there were, in all images."""
        return len(self.matches.step)


def load_widerface(data: Path, ground_truth: Path | None, *, present_only: bool) -> KnownBenchmark:
    """WIDER FACE's images and ground truth below `data`. Raises InputError or DataError for what is wrong."""
    benchmark = load_benchmark(data, widerface=True, ground_truth=ground_truth, present_only=present_only)
    images = benchmark.images
    fingerprint = hash_images([image.name for image in images], [image.path for image in images])
    return KnownBenchmark(benchmark, {"images": fingerprint, "ground_truth": hash_ground_truth(benchmark)})


def hash_images(names: Sequence[str], paths: Sequence[Path]) -> str:
    """Fingerprint of images under these names, SHA-256. Raises DataError for one that cannot be read.

    Of their content, not of sizes and dates: reading every image once is a hundredth of the work of one model, a copy
    of the data is recognised, and an image that was replaced is never taken for the old one.
    """
    state = hashlib.sha256()
    for name, path in zip(names, paths, strict=True):
        try:
            state.update(f"{name}\0{sha256(path)}\n".encode("utf-8", "surrogateescape"))
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return state.hexdigest()


def hash_ground_truth(benchmark: Benchmark) -> str:
    """Fingerprint of the boxes and of which of them count, SHA-256."""
    state = hashlib.sha256()
    for image in benchmark.images:
        state.update(f"{image.name}\0{image.boxes.shape}\n".encode("utf-8", "surrogateescape"))
        state.update(image.boxes.tobytes())
    for subset, counted in benchmark.counted.items():
        state.update(f"{subset}\n".encode())
        state.update(counted.tobytes())
    return state.hexdigest()


def measure_accuracy(
    model: OpenModel,
    known: KnownBenchmark,
    protocol: EvalProtocol,
    *,
    threads: int,
    fresh: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Accuracy:
    """The AP of a model, from an earlier measurement of just this or from looking at every image.

    fresh: do not look for an earlier one. Raises DataError for the first image that cannot be read.
    """
    key = {
        "model": sha256(model.path),
        "family": model.family,
        **known.fingerprints,
        "protocol": protocol.as_dict(),
        "code": source_hash(with_torch=model.kind == "checkpoint"),
    }
    kept = None if fresh else _kept(read_result(key), known.benchmark)
    if kept is not None:
        return kept
    # an ONNX file was recognised already, or forced; a checkpoint has but one family
    family = model.family if model.kind == "onnx" else None
    source = Source(str(model.path), threads=threads, family=family)
    found, shown = detect_labelled(source, known.benchmark.images, protocol, progress)
    matches = known.benchmark.score(found).matches
    write_result(key, {"size": shown["size"], "matches": pack_matches(matches)})
    return _accuracy(matches, known.benchmark, shown["size"], cached=False)


def _accuracy(matches: Matches, benchmark: Benchmark, size: str, *, cached: bool) -> Accuracy:
    tallies = benchmark.tallies(matches)
    return Accuracy(matches, tallies, {name: curve(part).ap for name, part in tallies.items()}, size, cached)


def _kept(result: Any, benchmark: Benchmark) -> Accuracy | None:
    """A kept result, if it is one: a file that another program wrote or cut off is no result."""
    if not isinstance(result, dict) or not isinstance(result.get("size"), str):
        return None
    matches = unpack_matches(result.get("matches"), [len(image.boxes) for image in benchmark.images])
    return None if matches is None else _accuracy(matches, benchmark, result["size"], cached=True)


def pack_matches(matches: Matches) -> dict[str, str]:
    """Matches as text for a JSON document."""
    counts = np.bincount(matches.image, minlength=matches.images)
    arrays = {"step": matches.step.astype("<u2"), "box": matches.box.astype("<i4"), "detections": counts.astype("<i4")}
    return {name: base64.b64encode(zlib.compress(array.tobytes())).decode() for name, array in arrays.items()}


def unpack_matches(packed: Any, boxes: Sequence[int]) -> Matches | None:
    """The matches of `pack_matches`, or None for anything else. boxes: how many each image has."""
    try:
        step, box, counts = (
            np.frombuffer(zlib.decompress(base64.b64decode(packed[name], validate=True)), kind).astype(np.int64)
            for name, kind in (("step", "<u2"), ("box", "<i4"), ("detections", "<i4"))
        )
    except (TypeError, KeyError, ValueError, zlib.error):
        return None
    owner = np.repeat(np.arange(len(boxes)), np.array(boxes, np.int64))
    fits = len(step) == len(box) == counts.sum() and len(counts) == len(boxes) and (counts >= 0).all()
    if not fits or (step >= STEPS).any() or (box < -1).any() or (box >= len(owner)).any():
        return None
    return Matches(step, box, np.repeat(np.arange(len(boxes)), counts), owner, len(boxes))
