"""Recall by size of the face, and the range of sizes that follows, for any detectors: a table, and JSON with --json.

    python tests/benchmarks/face_sizes.py yunet_n runs/mine/best.pt scrfd.onnx --data data/widerface --out sizes.json

Up to 60 faces of a set's validation images, the largest of each image, that the bundled yunet_n finds where they are,
are pasted into other validation images at each size, and looked for in windows at scale 1: score 0.5, IoU 0.5. A size
is the shorter side of a face in pixels of the network's input.

A file that fixes its input fits each window into it itself. It is shown windows of just that size, so its sizes are
pixels of its input too; faces larger than .7 of its shorter side do not fit and are not measured, which ends its range.

Sizes behind the one where recall has fallen below half of the best are left out; --whole looks at all of them.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facetrain.core.boxes import box_iou
from facetrain.core.faces import Image, LabelledImage
from facetrain.core.images import read_image
from facetrain.core.machine import cpu_name
from facetrain.data.layout import load_split
from facetrain.detect.detector import FaceDetector
from facetrain.eval.benchmark import thin
from facetrain.eval.face_sizes import SIZES, Cutout, cut_out, found_at, range_of_recalls, recall_by_size

LEAST = 110  # pixels of the shorter side of a face that is cut out: shrinking it shows what a camera would have seen
CLEAN = 0.6  # IoU of the box that the judge finds with the label's
JUDGE = "yunet_n"


def faces_of(images: Sequence[LabelledImage], most: int) -> tuple[list[Cutout], list[Image]]:
    """Clean faces, evenly over the set, and as many other images to paste them into."""
    judge, found, used = FaceDetector(JUDGE), [], set()
    for number, labelled in enumerate(images):
        sides = (labelled.boxes[:, 2:] - labelled.boxes[:, :2]).min(1) if len(labelled.boxes) else np.zeros(0)
        sides[labelled.ignore] = 0
        if not len(sides) or sides.max() < LEAST:
            continue
        image, box = read_image(labelled.path), labelled.boxes[sides.argmax()]
        seen = judge.detect(image)
        if len(seen) and box_iou(box[None], seen.boxes).max() >= CLEAN:
            found.append(cut_out(image, box))
            used.add(number)
    others = [image for number, image in enumerate(images) if number not in used]
    return thin(found, most), [read_image(image.path) for image in thin(others, most)]


def measure(weights: str, faces: Sequence[Cutout], backgrounds: Sequence[Image], whole: bool) -> dict[str, Any]:
    """One detector's recalls and range."""
    detector = FaceDetector(weights, threads=1)

    def progress(done: int, total: int) -> None:
        print(f"\r{Path(weights).name}: {done} of {total} sizes ", end="", file=sys.stderr)

    began = time.perf_counter()
    recalls = recall_by_size(
        detector.detector, faces, backgrounds, fixed=detector.static_shape, whole=whole, progress=progress
    )
    seconds = time.perf_counter() - began
    print(f"in {seconds:.0f} s", file=sys.stderr)
    found = range_of_recalls(recalls)
    return {
        "weights": Path(weights).name,
        "family": detector.family,
        "input": detector.static_shape,
        "recall": {str(size): round(recall, 4) for size, recall in recalls.items()},
        "face_range": found and found.as_text(),
        "seconds": round(seconds, 1),
    }


def against(weights: str, other: str, faces: Sequence[Cutout], backgrounds: Sequence[Image]) -> str:
    """At each size the recall of both, and the difference with its 95 % interval: 2,000 draws of these faces."""
    one, two = (FaceDetector(path, threads=1).detector for path in (weights, other))
    drawn = np.random.default_rng(0).integers(0, len(faces), (2000, len(faces)))
    lines = [f"| size | {Path(weights).name} | {Path(other).name} | difference |", "| --- | --- | --- | --- |"]
    for size in SIZES:
        own, theirs = (np.array(found_at(some, faces, backgrounds, size), float) for some in (one, two))
        low, high = np.percentile((own - theirs)[drawn].mean(1), [2.5, 97.5])
        means = f"{own.mean():.3f} | {theirs.mean():.3f}"
        lines.append(f"| {size} | {means} | {own.mean() - theirs.mean():+.3f} [{low:+.3f}, {high:+.3f}] |")
    return "\n".join(lines)


def table(results: Sequence[dict[str, Any]]) -> str:
    """Recall by size, a line for each detector, in Markdown."""
    sizes = [str(size) for size in sorted({*SIZES, *(int(size) for row in results for size in row["recall"])})]
    lines = [f"| detector | family | {' | '.join(sizes)} | range |", f"| --- | --- |{' --- |' * (len(sizes) + 1)}"]
    for row in results:
        cells = [f"{row['recall'][size]:.2f}" if size in row["recall"] else "" for size in sizes]
        lines.append(f"| {row['weights']} | {row['family']} | {' | '.join(cells)} | {row['face_range'] or 'none'} |")
    return "\n".join(lines)


def main() -> None:
    reference = os.environ.get("FACETRAIN_REFERENCE")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+")
    parser.add_argument("--data", type=Path, default=Path(reference or "data") / "widerface")
    parser.add_argument("--faces", type=int, default=60)
    parser.add_argument("--against", help="other weights: recall of both at each size, and the difference")
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--out", type=Path, help="write JSON to this file too")
    args = parser.parse_args()
    images = [image for image in load_split(args.data, "val", None).images if image.path.is_file()]
    faces, backgrounds = faces_of(images, args.faces)
    print(f"{len(faces)} faces, {len(backgrounds)} backgrounds", file=sys.stderr)
    if args.against is not None:
        for weights in args.weights:
            print(against(weights, args.against, faces, backgrounds))
        return
    results = [measure(weights, faces, backgrounds, args.whole) for weights in args.weights]
    document = {"processor": cpu_name(), "faces": len(faces), "detectors": results}
    if args.out is not None:
        args.out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(document, indent=2) if args.json else table(results))


if __name__ == "__main__":
    main()
