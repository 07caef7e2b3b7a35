"""What looking for faces of any size finds and costs, against one look at the best scale for each size.

    python tests/benchmarks/any_size.py yunet_n yunet_s          # recall by size, false alarms, AP, one thread
    python tests/benchmarks/any_size.py --decoding               # what it costs to decode a JPEG at a part of its size
    python tests/benchmarks/any_size.py --cost                   # time and memory of large images, file to faces

Faces of WIDER FACE's validation images, nine sizes from 8 to 2,000 pixels, are pasted several at a time into other
images of 0.3 to 50 megapixels. One look: the same network at one scale, the finest of `auto`'s looks or a half, a
quarter ... of it; for each size the best of them counts. Needs the folder FACETRAIN_REFERENCE (by default `shared`
beside the checkout). Tables go to stdout, progress to stderr.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from face_sizes import faces_of
from long_run_plan import reference

from facetrain.core.boxes import box_iou
from facetrain.core.faces import Floats, Image, LabelledImage
from facetrain.core.images import read_image, read_reduced
from facetrain.data.layout import load_split
from facetrain.detect.any_size import resized
from facetrain.detect.detector import FaceDetector
from facetrain.detect.passes import Look, Plan
from facetrain.eval.face_sizes import Cutout, background_of, pasted

SIZES = (8, 16, 32, 64, 128, 256, 512, 1024, 2000)
CANVASES = {0.3: (640, 480, 60), 2: (1632, 1224, 60), 12: (4000, 3000, 40), 50: (8160, 6120, 20)}  # megapixels
LEAST = 16  # pixels of the finest look: from here on recall is compared
SCALES = (1, 1 / 2, 1 / 4, 1 / 8, 1 / 16)  # of one look, against the finest
ALARM = 0.4  # IoU with some face below which a detection is a false alarm
MAKE = """
import sys
import cv2
source, target, width, height, progressive = sys.argv[1:]
image = cv2.resize(cv2.imread(source), (int(width), int(height)), interpolation=cv2.INTER_LINEAR)
cv2.imwrite(target, image, [cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)])
"""
MEASURE = """
import json, resource, sys, time
from facetrain.detect.detector import FaceDetector
detector = FaceDetector("yunet_n", size="auto", threads=1)
times = []
for _ in range(int(sys.argv[2])):
    began = time.perf_counter()
    try:
        found = str(len(detector.detect(sys.argv[1]))) + " faces"
    except Exception as error:
        found = str(error)
    times.append(time.perf_counter() - began)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
print(json.dumps({"ms": round(1000 * sorted(times)[len(times) // 2]), "peak_mib": peak, "found": found}))
"""


def scene(
    number: int, width: int, height: int, faces: Sequence[Cutout], behind: tuple[Image, Floats]
) -> tuple[Image, list[tuple[int, Floats]], Floats]:
    """An image with pasted faces of several sizes, their sizes and boxes, and the boxes of the faces behind them."""
    numbers = np.random.default_rng([width, number])
    image, boxes = behind
    scale = max(width / image.shape[1], height / image.shape[0])
    off = (np.round(np.array(image.shape[1::-1]) * scale) - (width, height)) // 2
    canvas = background_of(image, width, height)
    placed: list[tuple[int, Floats]] = []
    taken: list[Floats] = []
    large = [size for size in SIZES if size * 2 < min(width, height)][::-1]
    for size in large[number % 3 :]:  # the largest leave no room for others: not in every image
        face = faces[numbers.integers(len(faces))]
        for _ in range(40):
            room = np.array([width, height]) / 2 - size
            shift = numbers.uniform(-room, room)
            middle = np.array([width, height]) / 2 + shift
            area = np.concatenate([middle - size, middle + size])
            if not any(box_iou(area[None], other[None])[0, 0] > 0 for other in taken):
                canvas, box = pasted(canvas, face, size, (float(shift[0]), float(shift[1])))
                placed.append((size, box))
                taken.append(area)
                break
    return canvas, placed, boxes * scale - np.tile(off, 2)


def scenes(images: Sequence[LabelledImage]) -> Iterator[tuple[float, Image, list[tuple[int, Floats]], Floats]]:
    """All images to look at: megapixels, the image, what was pasted, what was there before."""
    faces, _ = faces_of(images, 60)
    for megapixels, (width, height, count) in CANVASES.items():
        for number in range(count):
            labelled = images[(number * 37) % len(images)]
            image = read_image(labelled.path)
            sides = (width, height) if image.shape[1] >= image.shape[0] else (height, width)
            yield megapixels, *scene(number, *sides, faces, (image, labelled.boxes))


class Count:
    """Faces found by (megapixels, size), and false alarms by megapixels."""

    def __init__(self) -> None:
        self.found: dict[tuple[float, int], list[bool]] = defaultdict(list)
        self.alarms: dict[float, list[int]] = defaultdict(list)

    def add(self, megapixels: float, boxes: Floats, placed: list[tuple[int, Floats]], others: Floats) -> None:
        """What was found in one scene."""
        every = np.concatenate([others, *(box[None] for _, box in placed)]).reshape(-1, 4)
        near = box_iou(boxes, every).max(1, initial=0)
        self.alarms[megapixels].append(int((near < ALARM).sum()))
        for size, box in placed:
            self.found[megapixels, size].append(bool(box_iou(box[None], boxes).max(initial=0) >= 0.5))


def recalls(weights: str, images: Sequence[LabelledImage]) -> str:
    """Tables of recall by size and of false alarms, for one detector."""
    detector = FaceDetector(weights, threads=1, size="auto")
    auto, single = Count(), {scale: Count() for scale in SCALES}
    finest = {}
    for number, (megapixels, image, placed, others) in enumerate(scenes(images)):
        plan = detector.looks.plan(image.shape[1], image.shape[0])
        finest[megapixels] = plan.looks[0].scale
        auto.add(megapixels, detector.looks.detect(image, plan).boxes, placed, others)
        for scale, count in single.items():
            sides = [max(1, round(side * scale * plan.looks[0].scale)) for side in image.shape[1::-1]]
            factors = np.array(sides) / image.shape[1::-1]
            boxes = detector.detector.detect_batch([resized(image, *sides)])[0].boxes / np.tile(factors, 2)
            count.add(megapixels, boxes, placed, others)
        print(f"\r{weights}: {number + 1} images", end="", file=sys.stderr)
    print(file=sys.stderr)
    lines = [
        f"{weights}: recall of auto / of the best one look, by size of the pasted face, pixels of the original",
        "",
    ]
    lines.append(f"| megapixels | {' | '.join(map(str, SIZES))} | worst ratio | alarms: auto, one look |")
    lines.append(f"| ---: |{' --- |' * (len(SIZES) + 2)}")
    for megapixels in CANVASES:
        cells, ratios = [], []
        for size in SIZES:
            own = auto.found.get((megapixels, size))
            if not own:
                cells.append("")
                continue
            best = max(float(np.mean(count.found[megapixels, size])) for count in single.values())
            cells.append(f"{np.mean(own):.2f} / {best:.2f}")
            if best and size * finest[megapixels] >= LEAST:
                ratios.append(float(np.mean(own)) / best)
        alarms = f"{np.mean(auto.alarms[megapixels]):.3f}, {np.mean(single[1].alarms[megapixels]):.3f}"
        lines.append(f"| {megapixels:g} | {' | '.join(cells)} | {min(ratios):.3f} | {alarms} |")
    both = [sum(map(sum, count.alarms.values())) for count in (auto, single[1])]
    lines += ["", f"false alarms of all images: {both[0]} by auto, {both[1]} by the finest look alone", ""]
    return "\n".join(lines)


def precision(weights: str) -> str:
    """AP on the validation images, once at original size and by auto."""
    from facetrain.eval.evaluate import Source, evaluate_model
    from facetrain.eval.protocol import EvalProtocol

    lines = []
    for size in ("original", "auto"):
        found = evaluate_model(
            Source(weights), reference() / "widerface", EvalProtocol(size=size), widerface=True, present_only=True
        )
        values = " / ".join(f"{value:.4f}" for value in found.ap.values() if value is not None)
        lines.append(f"{weights}, size {size}: AP {values}")
    return "\n".join(lines) + "\n"


def decoding(weights: str) -> str:
    """AP at half and a quarter of original size: decoded whole and made smaller, or decoded at that size."""
    from facetrain.eval.evaluate import load_benchmark

    benchmark = load_benchmark(reference() / "widerface", widerface=True, present_only=True)
    detector = FaceDetector(weights, threads=1, score=0.02)
    lines = []
    for factor in (2, 4):
        plan = Plan((Look(1 / factor, 0, math.inf),), 0)
        for way in ("whole", "reduced"):
            found = []
            for image in benchmark.images:
                small = read_reduced(image.path, lambda *_, whole=way == "whole", n=factor: 1.0 if whole else 1 / n)  # type: ignore[misc]
                found.append(detector.looks.detect(small.image, plan, small.factor))
            values = " / ".join(f"{value:.4f}" for value in benchmark.score(found).ap.values() if value is not None)
            lines.append(f"{weights}, at 1/{factor}, decoded {way}: AP {values}")
    return "\n".join(lines)


def costs(images: Sequence[LabelledImage]) -> str:
    """Time and memory of large files, each in a process of its own."""
    lines = ["| file | milliseconds | peak MiB of the process | |", "| --- | ---: | ---: | --- |"]
    with tempfile.TemporaryDirectory() as folder:
        for name, width, height, runs in (
            ("1 megapixel.jpg", 1152, 864, 7),
            ("12 megapixels.jpg", 4000, 3000, 7),
            ("50 megapixels.jpg", 8160, 6120, 3),
            ("150 megapixels.png", 15000, 10000, 1),
            ("1 gigapixel.jpg", 32000, 32000, 1),
            ("1 gigapixel, progressive.jpg", 32000, 32000, 1),
        ):
            path = Path(folder, name)
            # Linux counts the memory that a process had before it became another program into its peak: this process
            # must stay smaller than what it measures.
            size = [str(width), str(height), str(int("progressive" in name))]
            subprocess.run([sys.executable, "-c", MAKE, str(images[0].path), str(path), *size], check=True)
            done = subprocess.run(
                [sys.executable, "-c", MEASURE, str(path), str(runs)], check=True, capture_output=True, text=True
            )
            path.unlink()
            row = json.loads(done.stdout)
            lines.append(f"| {name} | {row['ms']:,} | {row['peak_mib']:,} | {row['found'].replace(folder, '')[:150]} |")
            print(lines[-1], file=sys.stderr)
    return "\n".join(lines)


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="*", default=["yunet_n", "yunet_s"])
    parser.add_argument("--decoding", action="store_true", help="AP by both ways to make a JPEG smaller alone")
    parser.add_argument("--cost", action="store_true", help="time and memory alone")
    args = parser.parse_args()
    images = [image for image in load_split(reference() / "widerface", "val", None).images if image.path.is_file()]
    if args.cost:
        print(costs(images))
        return
    for weights in args.weights:
        if args.decoding:
            print(decoding(weights), flush=True)
            continue
        print(recalls(weights, images), precision(weights), sep="\n", flush=True)


if __name__ == "__main__":
    main()
