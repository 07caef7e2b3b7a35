"""How fast `facetrain detect` is on many images: this checkout against an earlier one, and where the time goes.

    python tests/benchmarks/detect_speed.py --images DIR [--before CHECKOUT] [--rounds 3] [--size original]
    python tests/benchmarks/detect_speed.py --images DIR --memory 10000 [--size 320]  # a curve

Both sides run the command itself, in turns, with and without drawing; the earlier one with one thread and with two,
of which the faster counts; versions before `--size` look at the original size. The table of parts takes one thread:
what each costs an image, alone.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from facetrain.core.drawing import draw_faces
from facetrain.core.images import decode_image
from facetrain.detect.detector import FaceDetector

ROOT = Path(__file__).resolve().parents[2]


def seconds_of(checkout: Path, images: Path, options: list[str]) -> float:
    """Of one call of the command, all of it."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "facetrain", "detect", str(images)]
        command += ["--output", folder] if "--draw" in options else ["--json"]
        command += [option for option in options if option != "--draw"]
        begun = time.perf_counter()
        subprocess.run(command, check=True, env=environment, cwd=folder, capture_output=True)
        return time.perf_counter() - begun


def compare(before: Path, images: Path, size: str, rounds: int) -> None:
    """Print images/s of both, in turns."""
    count = sum(1 for path in images.rglob("*") if path.suffix.lower() in (".jpg", ".png"))
    ways = {
        "before, 1 thread": (before, ["--threads", "1"]),
        "before, 2 threads": (before, ["--threads", "2"]),
        "now": (ROOT, ["--size", size]),
    }
    print(f"| {count} images, --size {size} | " + " | ".join(ways) + " | now / the faster before |")
    print("| --- " * (len(ways) + 2) + "|")
    for drawn in (False, True):
        taken: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, (checkout, options) in ways.items():
                taken[way].append(seconds_of(checkout, images, options + ["--draw"] * drawn))
        speeds = {way: count / median(times) for way, times in taken.items()}
        ratio = speeds["now"] / max(speeds["before, 1 thread"], speeds["before, 2 threads"])
        cells = " | ".join(f"{speed:.1f}" for speed in speeds.values())
        print(f"| {'drawn and written' if drawn else 'JSON alone'}, images/s | {cells} | {ratio:.2f} |", flush=True)


def parts(images: Path, size: str) -> None:
    """Print what each step costs an image, one after the other on one thread."""
    cv2.setNumThreads(1)
    detector = FaceDetector("yunet_n", threads=1, size=size)
    network = detector.detector
    spent: dict[str, float] = {}

    def timed(part: str, work: Callable[[], object]) -> object:
        begun = time.perf_counter()
        result = work()
        spent[part] = spent.get(part, 0.0) + time.perf_counter() - begun
        return result

    run, look = network.net.run, network.detect_batch
    network.net.run = lambda blob: timed("network", lambda: run(blob))
    network.detect_batch = lambda some: timed("looks", lambda: look(some))
    paths = sorted(path for path in images.rglob("*") if path.suffix.lower() in (".jpg", ".png"))
    for path in paths:
        content = timed("read", path.read_bytes)
        image = timed("decode", lambda content=content, path=path: decode_image(content, path.name))
        opened = detector.open(np.asarray(image))
        seen = timed("all of the detector", lambda opened=opened: detector.look(opened))
        drawn = timed("draw", lambda image=image, seen=seen: draw_faces(image, seen.faces, detector.landmark_names))
        timed("encode as JPEG", lambda drawn=drawn: cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, 92]))
    spent["resize, and joining of looks"] = spent.pop("all of the detector") - spent["looks"]
    spent["padding and decoding of outputs"] = spent.pop("looks") - spent["network"]
    print(f"\n| part, --size {size}, one thread | ms an image |\n| --- | ---: |")
    for part, taken in spent.items():
        print(f"| {part} | {1000 * taken / len(paths):.2f} |")


def memory(images: Path, size: str, count: int) -> None:
    """Print what the command holds, in MiB, after each tenth of its images."""
    paths = sorted(path for path in images.rglob("*") if path.suffix.lower() in (".jpg", ".png"))
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            Path(folder, f"{number:06d}.jpg").symlink_to(paths[number % len(paths)])
        command = [sys.executable, "-m", "facetrain", "detect", folder, "--size", size, "--save", "jsonl=-"]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as process:
            assert process.stdout is not None
            held = []
            for number, _ in enumerate(process.stdout):
                if number and number % (count // 10) == 0:
                    status = Path(f"/proc/{process.pid}/status").read_text()
                    held.append(int(status.split("VmRSS:")[1].split()[0]) / 1024)
    print(f"MiB after each tenth of {count} images: " + ", ".join(f"{one:.0f}" for one in held))


def main() -> None:
    """Read the options, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--before", type=Path, help="the root of an earlier checkout")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", default="original")
    parser.add_argument("--memory", type=int, help="how many images")
    options = parser.parse_args()
    if options.memory:
        memory(options.images.resolve(), options.size, options.memory)
        return
    if options.before is not None:
        compare(options.before.resolve(), options.images.resolve(), options.size, options.rounds)
    parts(options.images, options.size)


if __name__ == "__main__":
    main()
