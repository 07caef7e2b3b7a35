"""Wall time and peak memory of `facetrain detect IMAGE` as a whole process: start, load, detect, draw, write.

    python tests/benchmarks/detect_time.py [IMAGE] [--weights FILE] [--threads N] [--runs 7]

Without an image one is drawn. The table goes to stderr, JSON to stdout.
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
from pathlib import Path

DRAW = """
import sys
from pathlib import Path
from facetrain.core.images import write_image
from facetrain.data.sample_set.make import draw_image
write_image(Path(sys.argv[1]), draw_image(0, 0, 0)[0])
"""
DESCRIBE = """
import importlib.metadata, json
from facetrain.core.machine import available_cores, cpu_name
names = ("numpy", "onnxruntime", "opencv-python", "opencv-python-headless", "typer")
found = {dist.name: dist.version for dist in importlib.metadata.distributions() if dist.name in names}
print(json.dumps({"cpu": cpu_name(), "cores": available_cores(), "versions": found}))
"""


def run_python(code: str, *arguments: str) -> str:
    """Let another process do what needs a library.

    Linux counts the memory that a process had before it became another program into its peak: this process must stay
    smaller than what it measures, and so it imports the standard library alone.
    """
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def measure(command: list[str], folder: str) -> tuple[float, float]:
    """Run a program once. Returns (seconds, peak MiB of that process)."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    # wait4 tells the peak of this one child; getrusage(RUSAGE_CHILDREN) only the highest of all so far
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"error: {' '.join(command)} ended with {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return seconds, usage.ru_maxrss * unit / 2**20


def summary(values: list[float], unit: str, digits: int) -> dict[str, float]:
    named = {"median": statistics.median(values), "least": min(values), "most": max(values)}
    return {f"{name}_{unit}": round(value, digits) for name, value in named.items()}


def main() -> None:
    if not hasattr(os, "wait4"):
        sys.exit("error: this system does not tell a process's peak memory")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", nargs="?", type=Path, help="an image (one is drawn)")
    parser.add_argument("--weights", help="as of facetrain detect")
    parser.add_argument("--threads", type=int, help="as of facetrain detect")
    parser.add_argument("--runs", type=int, default=7, help="how often it is measured (7), after once to warm up")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        image = options.image.resolve() if options.image else Path(folder, "drawn.png")
        if options.image is None:
            run_python(DRAW, str(image))
        command = [sys.executable, "-m", "facetrain", "detect", str(image), "--output", str(Path(folder, "out"))]
        if options.weights:
            file = Path(options.weights)  # or a bundled name, which stays as it is
            command += ["--weights", str(file.resolve()) if file.is_file() else options.weights]
        if options.threads:
            command += ["--threads", str(options.threads)]
        measured = [measure(command, folder) for _ in range(1 + max(options.runs, 1))][1:]
    seconds, memory = (list(column) for column in zip(*measured, strict=True))
    document = {
        "benchmark": "detect_time",
        "image": image.name,
        "runs": len(measured),
        "wall": summary(seconds, "s", 3),
        "peak_memory": summary(memory, "mib", 1),
        "weights": Path(options.weights).name if options.weights else None,
        "threads": options.threads,
        "python": platform.python_version(),
        "platform": platform.platform(),
        **json.loads(run_python(DESCRIBE)),
    }
    for name, result in (("wall", document["wall"]), ("peak_memory", document["peak_memory"])):
        print(f"{name:12}", *(f"{key} {value}" for key, value in result.items()), sep="  ", file=sys.stderr)
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
