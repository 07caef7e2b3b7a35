"""Time of the standalone C++ detector's whole call beside onnxruntime's bare network call, on one pinned core.

    python tests/benchmarks/cpp_time.py [--core 1] [--rounds 40] [--compiler g++] [WEIGHTS …]

Both run in turn, a few calls at a time, on the same image. Without weights those that come along are taken. On a
busy machine the wall time holds other programs' turns too: the time that the thread had the processor stands beside it
and is what ratios are made of. The table goes to stderr, JSON to stdout.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

from facetrain.core.boxes import pad_image
from facetrain.core.images import fit_image
from facetrain.core.machine import cpu_name
from facetrain.data.sample_set.make import draw_image
from facetrain.detect.bundled import FOLDER
from facetrain.export.cpp.targets.options import CppOptions
from facetrain.export.cpp.targets.standalone import files
from facetrain.export.network.fold import fold
from facetrain.export.network.folded import FoldedNet
from facetrain.export.onnx.model import write_onnx
from facetrain.model.cost import convolutions
from facetrain.model.weights import load_model

SIZES = ((320, 320), (640, 480))  # width, height
CALLS = 5  # of each candidate in a turn
SCORE = 0.5
Times = list[tuple[float, float]]  # wall and processor time of each call, milliseconds


class Harness:
    """A compiled detector that runs when it is told to."""

    def __init__(self, net: FoldedNet, compiler: str, flags: str, folder: Path) -> None:
        folder.mkdir()
        for name, text in files(net, CppOptions()).items():
            (folder / name).write_text(text, encoding="utf-8")
        main = Path(__file__).with_suffix(".cpp")
        self.program = folder / "cpp_time"
        command = [
            compiler,
            "-std=c++17",
            *flags.split(),
            "-pthread",
            f"-I{folder}",
            str(main),
            str(folder / "facetrain.cpp"),
        ]
        subprocess.run([*command, "-o", str(self.program)], check=True)
        self.process: subprocess.Popen[str] | None = None

    def start(self, width: int, height: int, file: Path) -> None:
        command = [str(self.program), str(width), str(height), str(file), str(SCORE)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, order: str, lines: int) -> list[str]:
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(order)
        self.process.stdin.flush()
        return [self.process.stdout.readline() for _ in range(lines)]

    def calls(self) -> Times:
        rows = [line.split() for line in self.ask(f"calls {CALLS}\n", CALLS)]
        return [(float(wall) / 1e6, float(cpu) / 1e6) for wall, cpu in rows]

    def stop(self) -> None:
        assert self.process is not None
        self.process.communicate()


def network_calls(path: Path, image: np.ndarray) -> Callable[[], Times]:
    """onnxruntime with one thread, on an input that is ready."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    blob = {"input": np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)}

    def calls() -> Times:
        times = []
        for _ in range(CALLS):
            wall, cpu = time.perf_counter(), time.thread_time()
            session.run(None, blob)
            times.append(((time.perf_counter() - wall) * 1e3, (time.thread_time() - cpu) * 1e3))
        return times

    return calls


def summary(times: Times) -> dict[str, float]:
    wall, cpu = zip(*times, strict=True)
    values = {"median_ms": statistics.median(cpu), "min_ms": min(cpu), "wall_median_ms": statistics.median(wall)}
    return {name: round(value, 3) for name, value in values.items()}


def measure(weights: Path, options: argparse.Namespace, folder: Path) -> list[dict[str, object]]:
    folder.mkdir()
    model = load_model(weights)
    net = fold(model)
    write_onnx(net, folder / "model.onnx")
    built = {name: Harness(net, name, options.flags, folder / name) for name in options.compilers}
    results = []
    for width, height in SIZES:
        image = pad_image(fit_image(draw_image(0, 1, 9)[0], width, height)[0], width, height)
        (folder / "image.bgr").write_bytes(image.tobytes())
        candidates = {"onnxruntime": network_calls(folder / "model.onnx", image)}
        for name, harness in built.items():
            harness.start(width, height, folder / "image.bgr")
            candidates[name] = harness.calls
        times: dict[str, Times] = {name: [] for name in candidates}
        peaks = []
        for turn in range(options.rounds + 2):
            for name, calls in candidates.items():
                new = calls()
                times[name] += new if turn > 1 else []  # the first two warm up
            peaks.append(float(built[options.compilers[0]].ask("peak\n", 1)[0]))
        for harness in built.values():
            harness.stop()
        multiply_adds = sum(layer.multiply_adds for layer in convolutions(model.config, width, height))
        for name, values in times.items():
            found = summary(values)
            result = {
                "weights": weights.stem,
                "size": f"{width}x{height}",
                "candidate": name,
                **found,
                "ratio": round(found["median_ms"] / summary(times["onnxruntime"])["median_ms"], 3),
                "share_of_peak": round(multiply_adds / found["median_ms"] * 1e3 / max(peaks), 3),
                "peak_gmadds": round(max(peaks) / 1e9, 1),
            }
            results.append(result)
            print(*(f"{key} {value}" for key, value in result.items()), sep="  ", file=sys.stderr)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", nargs="*", type=Path, default=[FOLDER / "yunet_n.pt"], help="checkpoints")
    parser.add_argument("--core", type=int, help="the core to run on (any)")
    parser.add_argument("--rounds", type=int, default=40, help=f"turns of {CALLS} calls each (40)")
    parser.add_argument("--compiler", action="append", dest="compilers", help="g++; give it again for more")
    parser.add_argument("--flags", default="-O2", help="for the compiler, in one string (-O2)")
    options = parser.parse_args()
    options.compilers = options.compilers or ["g++"]
    if options.core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.core})
    with tempfile.TemporaryDirectory() as folder:
        results = [
            result
            for number, weights in enumerate(options.weights)
            for result in measure(weights.resolve(), options, Path(folder, str(number)))
        ]
    document = {
        "benchmark": "cpp_time",
        "cpu": cpu_name(),
        "onnxruntime": onnxruntime.__version__,
        "compilers": {
            name: subprocess.run([name, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
            for name in options.compilers
        },
        "flags": options.flags,
        "platform": platform.platform(),
        "results": results,
    }
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
