"""Writes small.npz and small.json: what a small seeded network must give, by other ways than the code under test.

    PYTHONPATH=tests python tests/goldens/make.py

Forward and decoding are NumPy loops in float64 over the stored weights, assignment and AP the loops of tests/oracles.
The losses are facetrain's own in float64 (tests/train/test_losses.py holds them against loops), the export hashes its
own too: these pin what was once checked. Run it only where the network or a rule is meant to change.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from oracles import simota
from oracles.average_precision import Image, official

from facetrain.config.schema import LossConfig, ModelConfig
from facetrain.data.batch import FACE, Batch
from facetrain.export.cpp.targets.options import CppOptions
from facetrain.export.cpp.targets.standalone import files
from facetrain.export.network.fold import fold
from facetrain.export.network.folded import FoldedNet, Weights
from facetrain.export.onnx.model import onnx_model
from facetrain.model.yunet import Predictions, YuNet, build
from facetrain.train.assign import Targets
from facetrain.train.losses import compute_losses

FOLDER = Path(__file__).parent
MODEL = ModelConfig(stem=(3, 8, 8), stages=((8, 8), (8, 16), (16, 16), (16, 16), (16, 16)), head_channels=16)
HEIGHT, WIDTH = 96, 128
FACES = [[14.0, 20.0, 50.0, 66.0], [60.0, 30.0, 78.0, 52.0], [80.0, 8.0, 118.0, 60.0], [3.0, 70.0, 12.0, 84.0]]
Array = np.ndarray[Any, Any]


def network() -> YuNet:
    """Drawn weights; batch norms as after some training, so that folding them matters."""
    model = build(MODEL, 3).eval()
    rng = np.random.default_rng(11)
    for name, value in sorted(model.state_dict().items()):
        if name.endswith("running_mean"):
            value.copy_(torch.from_numpy(rng.normal(0, 0.2, value.shape)))
        elif name.endswith("running_var"):
            value.copy_(torch.from_numpy(rng.uniform(0.4, 1.6, value.shape)))
        elif value.is_floating_point() and value.dim() == 1:
            value.add_(torch.from_numpy(rng.normal(0, 0.1, value.shape)))
    return model


def image() -> Array:
    """(H, W, 3) uint8."""
    return np.random.default_rng(5).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)


def batch() -> Batch:
    """The image twice, two faces in each, landmarks at fifths of the boxes."""
    boxes = torch.tensor(FACES)
    x1, y1, x2, y2 = boxes.T
    at = [(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)]
    points = torch.stack([torch.stack([x1 + a * (x2 - x1), y1 + b * (y2 - y1), torch.ones(4)], 1) for a, b in at], 1)
    pixels = torch.from_numpy(image()).permute(2, 0, 1).float()
    images = torch.stack([pixels, pixels.flip(2)])
    numbers = torch.tensor([0, 0, 1, 1])
    return Batch(images, boxes, points, numbers, torch.full((4,), FACE, dtype=torch.int8))


def convolve(x: Array, layer: Weights, stride: int = 1, relu: bool = False) -> Array:
    """(C, H, W) -> (O, H', W') in float64, zero padding k // 2, one output place after the other in each channel."""
    weight = layer.weight.astype(np.float64)
    outputs, inputs, k, _ = weight.shape
    padded = np.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    height, width = -(-x.shape[1] // stride), -(-x.shape[2] // stride)
    out = np.zeros((outputs, height, width))
    for o in range(outputs):
        first = o // (outputs * inputs // len(x)) * inputs
        for dy in range(k):
            for dx in range(k):
                window = padded[first : first + inputs, dy::stride, dx::stride][:, :height, :width]
                out[o] += np.tensordot(weight[o, :, dy, dx], window, 1)
        out[o] += float(layer.bias[o])
    return np.maximum(out, 0) if relu else out


def through(x: Array, net: FoldedNet, *names: str, relu: bool = True) -> Array:
    """One unit after the other."""
    for name in names:
        x = convolve(x, net.weights[f"{name}.pointwise"])
        x = convolve(x, net.weights[f"{name}.depthwise"], relu=relu)
    return x


def halved(x: Array) -> Array:
    channels, height, width = x.shape
    return x.reshape(channels, height // 2, 2, width // 2, 2).max((2, 4))


def forward(net: FoldedNet, pixels: Array) -> dict[str, Array]:
    """cls, obj (P,), boxes (P, 4), landmarks (P, L, 2): logits and raw offsets, finest level first, rows first."""
    config = net.config
    x = convolve(pixels.astype(np.float64), net.weights["backbone.stem.conv"], stride=2, relu=True)
    x = halved(through(x, net, "backbone.stem.unit"))
    maps = {}
    for number in range(1, 1 + len(config.stages)):
        x = through(x, net, f"backbone.stages.{number - 1}.0", f"backbone.stages.{number - 1}.1")
        maps[number] = x
        if number in config.pool_after:
            x = halved(x)
    levels = [maps[number] for number in config.maps]
    joined: list[Array] = [np.zeros(0)] * len(levels)
    above: Array | None = None
    for i in reversed(range(len(levels))):
        here = levels[i] if above is None else levels[i] + above.repeat(2, 1).repeat(2, 2)
        joined[i] = above = through(here, net, f"neck.units.{i}")
    parts: dict[str, list[Array]] = {"cls": [], "obj": [], "box": [], "landmarks": []}
    for i, x in enumerate(joined):
        shared = through(x, net, *(f"levels.{i}.shared.{k}" for k in range(config.shared_convs)))
        towers = {
            tower: through(shared, net, *(f"levels.{i}.{tower}.{k}" for k in range(config.tower_convs)))
            for tower in ("cls_tower", "box_tower")
        }
        for name, found in parts.items():
            tower = towers["cls_tower" if name == "cls" else "box_tower"]
            value = through(tower, net, f"levels.{i}.{name}", relu=False)
            found.append(value.reshape(len(value), -1).T)
    cls, obj, boxes, landmarks = (np.concatenate(parts[name]) for name in ("cls", "obj", "box", "landmarks"))
    return {"cls": cls[:, 0], "obj": obj[:, 0], "boxes": boxes, "landmarks": landmarks.reshape(len(boxes), -1, 2)}


def priors(strides: tuple[int, ...]) -> list[list[float]]:
    cells = [(s, r, c) for s in strides for r in range(HEIGHT // s) for c in range(WIDTH // s)]
    return [[float(c * s), float(r * s), float(s)] for s, r, c in cells]


def detections(out: dict[str, Array], at: list[list[float]], score: float, nms: float) -> list[list[float]]:
    """x1 y1 x2 y2 score of faces, best first, one comparison after the other."""
    rows = []
    for (x, y, s), c, o, box in zip(at, out["cls"], out["obj"], out["boxes"], strict=True):
        value = 1 / (1 + math.exp(-c)) / (1 + math.exp(-o))
        if value >= score:
            middle, half = (x + box[0] * s, y + box[1] * s), (math.exp(box[2]) * s / 2, math.exp(box[3]) * s / 2)
            rows.append([middle[0] - half[0], middle[1] - half[1], middle[0] + half[0], middle[1] + half[1], value])
    kept: list[list[float]] = []
    for row in sorted(rows, key=lambda row: -row[4]):
        if all(overlap(row, other) <= nms for other in kept):
            kept.append(row)
    return kept


def overlap(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def hashes(net: FoldedNet) -> dict[str, str]:
    """Of what the exports write, without the version that stands in it."""
    cpp = files(net, CppOptions("small"))
    graph = onnx_model(net, {}).graph
    texts = {
        f"cpp/{name}": "\n".join(line for line in text.split("\n") if "facetrain" not in line)
        for name, text in cpp.items()
    }
    found = {
        name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items() if name.endswith(("cpp", "hpp"))
    }
    nodes = "\n".join(f"{node.op_type} {list(node.input)} {list(node.output)}" for node in graph.node)
    stored = hashlib.sha256(b"".join(tensor.name.encode() + tensor.raw_data for tensor in graph.initializer))
    return found | {"onnx/nodes": hashlib.sha256(nodes.encode()).hexdigest(), "onnx/weights": stored.hexdigest()}


def images() -> list[Image]:
    """Drawn detections of drawn boxes for AP: x y w h, some of them beside the box."""
    rng = np.random.default_rng(2)
    drawn = []
    for _ in range(12):
        boxes = [[*rng.uniform(0, 200, 2), *rng.uniform(10, 60, 2)] for _ in range(rng.integers(0, 5))]
        near = [[*(np.array(b) + rng.normal(0, 4, 4)), rng.uniform(0.2, 1)] for b in boxes if rng.random() < 0.8]
        wrong = [[*rng.uniform(0, 200, 2), *rng.uniform(10, 60, 2), rng.uniform(0, 0.7)] for _ in range(3)]
        counted = [bool(rng.random() < 0.8) for _ in boxes]
        drawn.append(Image([list(map(float, d)) for d in near + wrong], [list(map(float, b)) for b in boxes], counted))
    return drawn


def main() -> None:
    model = network()
    net = fold(model)
    at = priors(MODEL.strides)
    given = batch()
    outputs = [forward(net, pixels.numpy()) for pixels in given.images]
    matched, quality = [], []
    for number, out in enumerate(outputs):
        rows = [k for k in range(4) if int(given.image[k]) == number]
        found = simota.simota(at, out["cls"], out["obj"], out["boxes"].tolist(), [FACES[k] for k in rows])
        assert found.margin > 1e-3
        matched.append([rows[face] if face >= 0 else -1 for face in found.matched])
        quality.append(found.quality)
    stacked = {name: np.stack([out[name] for out in outputs]) for name in outputs[0]}
    rows = torch.tensor(matched)
    positive = (rows >= 0).double()
    face = rows.clamp(min=0)
    targets = Targets(
        matched=rows,
        positive=positive,
        quality=torch.tensor(quality, dtype=torch.float64) * positive,
        obj_weight=torch.ones_like(positive),
        boxes=given.boxes.double()[face],
        landmarks=given.landmarks.double()[face][..., :2],
        landmark_weight=given.landmarks.double()[face][..., 2] * positive[..., None],
    )
    raw = {name: torch.from_numpy(value) for name, value in stacked.items()}
    predictions = Predictions(
        raw["cls"], raw["obj"], raw["boxes"], raw["landmarks"], torch.tensor(at, dtype=torch.float64)
    )
    losses = compute_losses(predictions, targets, positive.sum().clamp(min=1), LossConfig())
    score = float(np.quantile(_scores(outputs[0]), 0.95))
    document = {
        "score": score,
        "nms": 0.45,
        "losses": {name: float(value) for name, value in losses.items()},
        "ap": official(images()).ap,
        "hashes": hashes(net),
    }
    weights = {f"weights/{name}": value.numpy() for name, value in model.state_dict().items()}
    arrays = {
        "matched": np.array(matched),
        "quality": np.array(quality),
        "faces": np.array(detections(outputs[0], at, score, 0.45)),
    }
    np.savez_compressed(FOLDER / "small.npz", **weights, **{f"out/{k}": v for k, v in stacked.items()}, **arrays)
    (FOLDER / "small.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _scores(out: dict[str, Array]) -> Array:
    return 1 / (1 + np.exp(-out["cls"])) / (1 + np.exp(-out["obj"]))


if __name__ == "__main__":
    main()
