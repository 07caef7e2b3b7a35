"""How many labelled faces covers hide, by size, and what that costs.

    python tests/benchmarks/covered.py                          # yunet_n: the table of examples/blurring.md
    python tests/benchmarks/covered.py yunet_s --scores .16
    python tests/benchmarks/covered.py --min-face 6 --margins .1 .5

On the 400 validation images, `size` auto. A face is hidden where at least 90 % of its labelled box's pixels lie within
what covers.py covers fully; faces that the hard part of the benchmark leaves out count neither way. Areas that are no
faces: covered detections whose IoU with every label, those that are left out too, is below .3; many are faces that
nobody labelled. Pixels: the share of all images' pixels that is covered.

Images are looked at once for each smallest face, at the lowest score. Needs the folder FACETRAIN_REFERENCE (by default
`shared` beside the checkout). Tables go to stdout, progress to stderr.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from long_run_plan import reference
from numpy.typing import NDArray

from facetrain.core.boxes import box_iou
from facetrain.core.faces import Floats
from facetrain.detect.covers import COVER_SCORE, MARGINS, Cover, blackened, cover_faces
from facetrain.detect.detector import FaceDetector
from facetrain.eval.evaluate import load_benchmark

SIZES = (8, 12, 16, 20, 32, 64, 128, np.inf)  # of the labelled box's shorter side, pixels
SCORES = (0.5, 0.3, 0.2, COVER_SCORE, 0.1, 0.05, 0.03, 0.02, 0.01, 0.005)
HIDDEN = 0.9  # of a box's pixels
NO_FACE = 0.3  # IoU with each label below which an area is none


@dataclass(frozen=True)
class Looked:
    """An image with its labels and what was found.

    size: (width, height); labels: (F, 4); counts: (F,) bool; boxes: (N, 4), best first; scores: (N,)
    """

    name: str
    size: tuple[int, int]
    labels: Floats
    counts: NDArray[np.bool_]
    boxes: Floats
    scores: Floats


@dataclass(frozen=True)
class Row:
    """hidden: by size, the share of labelled faces; areas: an image that are no faces; pixels: the share covered."""

    margin: float
    score: float
    hidden: list[float]
    large: float
    areas: float
    pixels: float


def look(weights: str, min_face: float | None, score: float) -> list[Looked]:
    """All images, looked at once."""
    benchmark = load_benchmark(reference() / "widerface", widerface=True, present_only=True)
    detector = FaceDetector(weights, threads=1, score=score, size="auto", min_face=min_face)
    found = []
    for number, image in enumerate(benchmark.images):
        opened = detector.open(image.path)
        faces = detector.look(opened).faces
        size = (opened.width, opened.height)
        found.append(Looked(image.name, size, image.boxes, ~image.ignore, faces.boxes, faces.scores))
        if number % 100 == 99:
            print(f"{weights} {min_face or 'auto'}: {number + 1} images", file=sys.stderr)
    return found


def hidden_of(labels: Floats, canvas: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The share of each label's pixels that is covered. canvas: (H, W, 3), 0 where covered."""
    shares = []
    height, width = canvas.shape[:2]
    for x1, y1, x2, y2 in np.clip(np.rint(labels), 0, (width, height, width, height)).astype(int):
        part = canvas[y1:y2, x1:x2, 0]
        shares.append(float((part == 0).mean()) if part.size else np.nan)
    return np.array(shares)


def shares_of(images: Sequence[Looked], scores: Sequence[float], cover: Cover) -> list[tuple[list, list[int], int]]:
    """For each score, falling: the shares of each image's labels, covered pixels of each image, areas that are none."""
    rows: list[tuple[list, list[int], int]] = [([], [], 0) for _ in scores]
    for image in images:
        canvas = np.full((image.size[1], image.size[0], 3), 255, np.uint8)
        none = box_iou(image.boxes, image.labels).max(1, initial=0) < NO_FACE
        before = np.inf
        for number, score in enumerate(scores):
            new = (image.scores >= score) & (image.scores < before)
            canvas = cover_faces(canvas, image.boxes[new], cover, blackened)
            before = score
            shares, pixels, areas = rows[number]
            shares.append(hidden_of(image.labels, canvas))
            pixels.append(int((canvas[..., 0] == 0).sum()))
            rows[number] = (shares, pixels, areas + int((none & (image.scores >= score)).sum()))
    return rows


def measure(images: Sequence[Looked], scores: Sequence[float], margin: float, shape: str) -> list[Row]:
    """A row for each score."""
    scores = sorted(scores, reverse=True)
    labels = np.concatenate([image.labels for image in images])
    counts = np.concatenate([image.counts for image in images])
    sides = (labels[:, 2:] - labels[:, :2]).min(1)
    total = sum(image.size[0] * image.size[1] for image in images)
    rows = []
    for score, (shares, pixels, areas) in zip(scores, shares_of(images, scores, Cover(shape, margin, 0)), strict=True):
        hidden = np.concatenate(shares) >= HIDDEN
        by_size = [float(hidden[counts & (sides >= low) & (sides < high)].mean()) for low, high in pairwise(SIZES)]
        large = float(hidden[counts & (sides >= 20)].mean())
        rows.append(Row(margin, score, by_size, large, areas / len(images), sum(pixels) / total))
    return rows


def faces_by_size(images: Sequence[Looked]) -> list[int]:
    """How many labelled faces count, by size, and at last those of 20 pixels and more."""
    sides = np.concatenate([(i.labels[i.counts][:, 2:] - i.labels[i.counts][:, :2]).min(1) for i in images])
    counted = [int(((sides >= low) & (sides < high)).sum()) for low, high in pairwise(SIZES)]
    return [*counted, int((sides >= 20).sum())]


def table(rows: Sequence[tuple[str, Row]], faces: Sequence[int]) -> str:
    """Markdown. rows: with the smallest face that was looked for."""
    names = [f"{low}–{high}" if high < np.inf else f"{low}+" for low, high in pairwise(SIZES)]
    heads = ["score", "margin", "min-face", *names, "20+", "no faces", "pixels"]
    lines = ["| " + " | ".join(heads) + " |", "| " + " | ".join(["---:"] * len(heads)) + " |"]
    lines.append("| " + " | ".join(["faces", "", "", *map(str, faces), "", ""]) + " |")
    for min_face, row in rows:
        shares = [f"{100 * share:.1f}" for share in [*row.hidden, row.large]]
        cells = [f"{row.score:g}", f"{row.margin:g}", min_face, *shares, f"{row.areas:.1f}", f"{100 * row.pixels:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="?", default="yunet_n")
    parser.add_argument("--scores", type=float, nargs="+", default=SCORES)
    parser.add_argument("--margins", type=float, nargs="+", default=(MARGINS["ellipse"], 0.25))
    parser.add_argument("--shape", default="ellipse")
    parser.add_argument("--min-face", nargs="+", default=("auto", "6"), help="auto, or pixels")
    args = parser.parse_args()
    rows: list[tuple[str, Row]] = []
    for min_face in args.min_face:
        images = look(args.weights, None if min_face == "auto" else float(min_face), min(args.scores))
        for margin in args.margins:
            rows += [(min_face, row) for row in measure(images, args.scores, margin, args.shape)]
    print(f"{args.weights}, {args.shape}, {len(images)} images\n\n{table(rows, faces_by_size(images))}")


if __name__ == "__main__":
    main()
