"""A million annotations in one label file: seconds and memory to read them, a process for each format.

python tests/benchmarks/many_labels.py [FORMAT …] [--faces 1000000] [--points 5]
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from facetrain.core.faces import LabelledImage
from facetrain.data.convert import writable
from facetrain.data.landmark_names import FIVE
from facetrain.data.layout import format_module

FORMATS = ("coco", "csv", "cvat", "wider_face", "retinaface", "labelv2")
_EACH = 25  # faces of an image


def random_labels(faces: int, count: int) -> list[LabelledImage]:
    """Boxes of whole pixels, and landmarks."""
    rng = np.random.default_rng(0)
    images = []
    for number in range(faces // _EACH):
        corner = rng.integers(0, 900, (_EACH, 2))
        boxes = np.concatenate([corner, corner + rng.integers(5, 100, (_EACH, 2))], 1).astype(np.float32)
        points = np.concatenate([rng.integers(0, 1000, (_EACH, count, 2)), np.ones((_EACH, count, 1), int)], 2)
        name = f"{number % 60}--Event/image_{number}.jpg"
        none = np.zeros(_EACH, bool)
        images.append(LabelledImage(Path(name), name, (1024, 768), boxes, points.astype(np.float32), none))
    return images


def peak_bytes() -> int:
    """Of this process alone: what `resource` tells has the parent's in it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]


def measure(name: str, path: Path) -> None:
    """Read it and tell what that took."""
    began = time.perf_counter()
    labels = format_module(name).read(path, path.parent / "images", None, ())
    seconds = time.perf_counter() - began
    assert not labels.problems
    line = {
        "format": name,
        "faces": labels.statistics.faces,
        "with_landmarks": labels.statistics.with_landmarks,
        "megabytes": round(path.stat().st_size / 1e6),
        "seconds": round(seconds, 2),
        "processor_seconds": round(time.process_time(), 2),
        "peak_megabytes": round(peak_bytes() / 1e6),
    }
    print(json.dumps(line), flush=True)


def main() -> None:
    """Write each format's file, and read it in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("formats", nargs="*", default=FORMATS)
    parser.add_argument("--faces", type=int, default=1_000_000)
    parser.add_argument("--points", type=int, choices=(0, 5), default=0)
    parser.add_argument("--read", type=Path)
    args = parser.parse_args()
    if args.read:
        measure(args.formats[0], args.read)
        return
    images = random_labels(args.faces, args.points)
    for name in args.formats:
        with tempfile.TemporaryDirectory() as folder:
            module = writable(name)
            path = module.target(Path(folder), "train").labels
            module.write(path, images, FIVE[: args.points])
            subprocess.run([sys.executable, __file__, name, "--read", str(path)], check=True)


if __name__ == "__main__":
    main()
