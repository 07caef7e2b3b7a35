"""A file of lower precision beside the float32 one: average precision, bytes, latency."""

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from facetrain.core.documents.export import Latency, LostAp, PrecisionDocument
from facetrain.core.errors import DataError
from facetrain.core.machine import cpu_name
from facetrain.core.onnx_session import cpu_session
from facetrain.eval.difference import Difference, brackets, difference
from facetrain.eval.evaluate import Source, evaluate_on, load_benchmark
from facetrain.eval.protocol import EvalProtocol

_SIDE = 320  # of the image that is timed where the file leaves its size open
_ROUNDS, _CALLS = 20, 5
_WARM_UP = 5

AP = Mapping[str, float | None]
Progress = Callable[[int, int], None]  # images done, of how many, for each file anew


def measure(
    before: Path,
    after: Path,
    data: Path | None = None,
    *,
    protocol: EvalProtocol | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> PrecisionDocument:
    """What `after` loses and gains against `before`, ready for JSON.

    data: a set in one of facetrain's layouts, whose validation part is judged: WIDER FACE's easy, medium and hard
    where its ground truth is there (of the images that are), else `all`. Without it `ap`, `largest_drop` and `far_drop`
    are None. Each drop has the interval of a paired bootstrap; `far_drop` is the largest of their far ends, and None
    where there are too few images for one.
    threads: images at once while AP is measured; latency is of one thread always.
    """
    protocol = protocol or EvalProtocol()
    ap: LostAp | None = None
    worst, far = None, None
    if data is not None:
        benchmark = load_benchmark(data, widerface=None, present_only=True)
        sources = [Source(weights=str(path), threads=threads) for path in (before, after)]
        first, second = (evaluate_on(benchmark, source, protocol, progress=progress) for source in sources)
        lost = drops(first.ap, second.ap)
        worst = largest_drop(lost)
        spans = {name: found for name, found in difference(second, first).items() if name in lost}
        far = _far_end(spans)
        ap = {
            "benchmark": first.benchmark,
            "images": len(first.found),
            "intervals": {name: found.as_dict() for name, found in spans.items()},
            "before": first.ap,
            "after": second.ap,
            "drop": lost,
            "protocol": first.protocol,
        }
    return {
        "ap": ap,
        "largest_drop": worst,
        "far_drop": far,
        "bytes": {"before": before.stat().st_size, "after": after.stat().st_size},
        "latency": latency(before, after),
    }


def drops(before: AP, after: AP) -> dict[str, float | None]:
    """How much AP is lost on each subset, negative where some is won; None where one of them has no value."""
    lost: dict[str, float | None] = {}
    for subset, first in before.items():
        second = after[subset]
        lost[subset] = None if first is None or second is None else first - second
    return lost


def largest_drop(lost: AP) -> float | None:
    """The largest of the drops; None where no subset has a value."""
    return max((value for value in lost.values() if value is not None), default=None)


def _far_end(spans: Mapping[str, Difference]) -> float | None:
    """The largest drop that any of the intervals still holds; None where one has no interval."""
    ends = [0.0 if found.same else found.high for found in spans.values()]
    known = [end for end in ends if end is not None]
    return max(known) if known and len(known) == len(ends) else None


def latency(before: Path, after: Path) -> Latency:
    """Milliseconds of one image of noise on one thread of this processor: the fastest of a few calls, timed in turn,
    and the median of that over many turns, so that other work on the machine counts little.

    width, height: of the image, 320 where the file leaves them open; batch: images a call, 1 likewise.
    """
    sessions = [_session(path) for path in (before, after)]
    entry = sessions[0].get_inputs()[0]
    defaults = zip(entry.shape, (1, 3, _SIDE, _SIDE), strict=True)
    batch, _, height, width = (side if isinstance(side, int) else default for side, default in defaults)
    noise = np.random.default_rng(0).integers(0, 256, (batch, 3, height, width)).astype(np.float32)
    seconds: list[list[float]] = [[], []]
    for session in sessions:
        for _ in range(_WARM_UP):
            session.run(None, {entry.name: noise})
    for _ in range(_ROUNDS):
        for session, taken in zip(sessions, seconds, strict=True):
            calls = []
            for _ in range(_CALLS):
                began = time.perf_counter()
                session.run(None, {entry.name: noise})
                calls.append(time.perf_counter() - began)
            taken.append(min(calls))
    first, second = (statistics.median(taken) * 1000 for taken in seconds)
    return {
        "before_ms": round(first, 3),
        "after_ms": round(second, 3),
        "ratio": round(second / first, 3),
        "width": width,
        "height": height,
        "batch": batch,
        "threads": 1,
        "processor": cpu_name(),
        "onnxruntime": onnxruntime.__version__,
    }


def text(result: PrecisionDocument, name: str = "after") -> str:
    """A measurement as a table for people. name: what `after` is, such as int8."""
    rows = [["", "fp32", name, "difference", ""]]
    if result["ap"] is not None:
        for subset, lost in result["ap"]["drop"].items():
            values = [result["ap"][when][subset] for when in ("before", "after")]
            cells = ["-" if value is None else f"{value:.4f}" for value in values]
            span = result["ap"]["intervals"].get(subset)
            low, high = (span["low"], span["high"]) if span else (None, None)
            ends = "" if low is None or high is None else brackets(-high, -low, 4, sign=True)
            rows.append([f"AP {subset}", *cells, "-" if lost is None else f"{-lost:+.4f}", ends])
    size, speed = result["bytes"], result["latency"]
    rows.append(
        ["bytes", f"{size['before']:,}", f"{size['after']:,}", f"{size['after'] / size['before'] - 1:+.0%}", ""]
    )
    rows.append(["ms", f"{speed['before_ms']:.2f}", f"{speed['after_ms']:.2f}", f"{speed['ratio'] - 1:+.0%}", ""])
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = []
    for first, *cells in rows:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *padded]).rstrip())
    shown = f"{speed['width']}x{speed['height']}" + (f", {speed['batch']} at once" if speed["batch"] > 1 else "")
    lines.append(f"ms: {shown}, one thread of {speed['processor']}, onnxruntime {speed['onnxruntime']}")
    if result["ap"] is not None:
        protocol = ", ".join(f"{name} {result['ap']['protocol'][name]}" for name in ("size", "score", "nms"))
        lines.append(f"AP: {result['ap']['images']:,} images, {protocol}")
        spans = result["ap"]["intervals"].values()
        draws = next((span["draws"] for span in spans if span["low"] is not None), 0)
        if draws:
            lines.append(f"in brackets: 95 % intervals of the difference, {draws:,} draws of the same images for both")
        lines += sorted({f"no interval: {span['why']}" for span in spans if "why" in span})
    return "\n".join(lines)


def _session(path: Path) -> Any:
    try:
        return cpu_session(path, threads=1)
    except Exception as error:  # onnxruntime's errors have no common class
        raise DataError(f"{path}: not a usable ONNX model: {str(error).splitlines()[0][:300]}") from error
