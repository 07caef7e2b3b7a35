"""Random label sets, and images that are nothing but a header, for the tests of label formats."""

import struct
import zlib
from pathlib import Path

import numpy as np

from facetrain.core.faces import LabelledImage
from facetrain.data.landmark_names import default_names

_LETTERS = ("a", "Gesicht ü", "人脸 1", "b (2)", "c-d", "№ 5 & <x>", 'e"f', "émile", "#g", "a b  c", "0_1", "x;y,z")
_FOLDERS = ("", "0--Parade/", "two words/", "à/b/")


def random_set(seed: int, images: Path) -> tuple[tuple[str, ...], list[LabelledImage]]:
    """Names of landmarks and some images with faces of every kind: none, many, ignored, hidden, far outside."""
    rng = np.random.default_rng(seed)
    points = default_names(int(rng.choice([0, 1, 5, 5, 7])))
    scored = rng.random() < 0.5
    found: dict[str, LabelledImage] = {}
    for _ in range(rng.integers(1, 6)):
        name = f"{rng.choice(_FOLDERS)}{rng.choice(_LETTERS)}{rng.integers(1000)}.png"
        count = int(rng.choice([0, 1, 2, 9]))
        size = (int(rng.integers(20, 5000)), int(rng.integers(20, 5000)))
        digits = int(rng.choice([0, 1, 3, 9]))
        corners = rng.uniform(-0.1, 0.9, (count, 2)) * size
        boxes = np.concatenate([corners, corners + rng.uniform(0.01, 0.9, (count, 2)) * size], 1).round(digits)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        xy = rng.uniform(0.25, 1, (count, len(points), 2)) * np.array(size)
        weight = (rng.random((count, len(points), 1)) < 0.8) & (rng.random((count, 1, 1)) < 0.8)
        landmarks = np.where(weight, np.concatenate([xy.round(digits), weight], 2), [-1, -1, 0]).astype(np.float32)
        hidden = (rng.random((count, len(points))) < 0.3) & weight[..., 0]
        found[name] = LabelledImage(
            images / name,
            name,
            size,
            boxes.astype(np.float32),
            landmarks,
            rng.random(count) < 0.2,
            hidden if len(points) else None,
            rng.random(count).astype(np.float32).round(4) if scored and count else None,
        )
    return points, list(found.values())


def draw_headers(images: list[LabelledImage]) -> None:
    """A PNG for each image that has the right size and no pixels."""
    for image in images:
        assert image.size is not None
        image.path.parent.mkdir(parents=True, exist_ok=True)
        header = struct.pack(">IIBBBBB", *image.size, 8, 0, 0, 0, 0)
        parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
        chunks = (struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in parts)
        image.path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
