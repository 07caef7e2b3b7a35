"""What training on a CPU is held against: a plain loop, loader included, and the network alone.

    python tests/benchmarks/train_throughput.py --data data/widerface

Whole runs beside these: train_speed.py.

Each column runs in a process of its own, in turn (A B C A B C …), because the allocator setting belongs to a process.
  plain    float32, contiguous, DataLoader with 2 workers, transforms image by image, assigner looped over images
  network  forward + backward of the network alone, in facetrain's precision, memory format, allocator setting, kernels
  torch    the same with torch's own operations
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from facetrain.config.load import load_config
from facetrain.config.schema import Config
from facetrain.core.faces import LabelledImage
from facetrain.core.files import user_cache
from facetrain.core.images import opencv, read_image
from facetrain.core.machine import cpu_name
from facetrain.data.augmentations import augmented
from facetrain.data.batches import mirror_order
from facetrain.data.crops import crop_faces, draw_crop
from facetrain.data.landmark_names import FIVE
from facetrain.data.layout import load_split
from facetrain.data.view import View
from facetrain.model.kernels.choose import use_fused
from facetrain.model.priors import decode_boxes, encode_landmarks
from facetrain.model.yunet import build
from facetrain.train.losses import eiou_loss
from facetrain.train.machine import choose_precision, keep_big_buffers
from facetrain.train.optim.optimizers import make_optimizer

COLUMNS = ("plain", "network", "torch")


def images_of(args: argparse.Namespace) -> list[LabelledImage]:
    images = load_split(Path(args.data), "train", FIVE).images
    picked = np.linspace(0, len(images) - 1, min(args.images, len(images))).round().astype(int)
    return [images[i] for i in picked]


def settings(args: argparse.Namespace) -> Config:
    return load_config("yunet_n", [f"train.batch={args.batch}", f"data.size={args.size}", "train.lr=1e-4"])


class PlainFaces(Dataset):
    """One image at a time: read, crop, resize, flip, as a usual dataset does it."""

    def __init__(self, images: list[LabelledImage], config: Config) -> None:
        self.images = images
        self.config = config
        self.mirror = mirror_order(config.model.landmarks)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        cv2 = opencv()
        size = self.config.data.size
        labelled = self.images[index]
        crop = draw_crop(labelled, index, self.config.data, 0, 0, index)
        image = read_image(labelled.path).astype(np.float32)
        canvas = np.full((crop.side, crop.side, 3), 128, np.float32)
        height, width = image.shape[:2]
        x1, y1 = max(crop.left, 0), max(crop.top, 0)
        x2, y2 = min(crop.left + crop.side, width), min(crop.top + crop.side, height)
        canvas[y1 - crop.top : y2 - crop.top, x1 - crop.left : x2 - crop.left] = image[y1:y2, x1:x2]
        canvas = cv2.resize(canvas, (size, size))
        pixels = torch.from_numpy(np.ascontiguousarray(canvas.transpose(2, 0, 1)))
        view = augmented(View(pixels, *crop_faces(labelled, crop, size, False), self.mirror), crop.drawn)
        boxes, landmarks = view.boxes[~view.ignore], view.landmarks[~view.ignore]
        return view.image, torch.from_numpy(boxes), torch.from_numpy(landmarks)


def plain_assign(scores: Tensor, decoded: Tensor, priors: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """SimOTA of one image as trainers usually write it: on its candidates and faces. Returns priors, faces, IoUs."""
    centres = priors[:, :2] + priors[:, 2:] / 2
    x, y = centres[:, 0:1], centres[:, 1:2]
    inside = (x > boxes[:, 0]) & (y > boxes[:, 1]) & (x < boxes[:, 2]) & (y < boxes[:, 3])
    middle, reach = (boxes[:, :2] + boxes[:, 2:]) / 2, 2.5 * priors[:, 2:]
    near = ((x - middle[:, 0]).abs() < reach) & ((y - middle[:, 1]).abs() < reach)
    candidates = (inside | near).any(1).nonzero()[:, 0]
    low = torch.maximum(decoded[candidates, None, :2], boxes[None, :, :2])
    high = torch.minimum(decoded[candidates, None, 2:], boxes[None, :, 2:])
    overlap = (high - low).clamp(min=0).prod(-1)
    area = (decoded[candidates, 2:] - decoded[candidates, :2]).prod(-1)
    iou = overlap / (area[:, None] + (boxes[:, 2:] - boxes[:, :2]).prod(-1) - overlap).clamp(min=1e-6)
    cost = -scores[candidates, None].sqrt().log().clamp(min=-100) - 3 * (iou + 1e-7).log()
    cost = cost + 100000.0 * ~(inside & near)[candidates]
    matching = torch.zeros_like(cost)
    k = iou.topk(min(10, len(candidates)), dim=0).values.sum(0).int().clamp(min=1)
    for face in range(len(boxes)):
        matching[cost[:, face].topk(int(k[face]), largest=False).indices, face] = 1
    several = matching.sum(1) > 1
    if several.any():
        best = cost[several].argmin(1)
        matching[several] = 0
        matching[several.nonzero()[:, 0], best] = 1
    chosen = matching.sum(1) > 0
    faces = matching[chosen].argmax(1)
    return candidates[chosen], faces, iou[chosen, faces]


def plain_step(config: Config, device: torch.device) -> Callable[..., None]:
    """A step as trainers usually write it: float32, contiguous, the assigner image by image."""
    model = build(config.model, 0).to(device, memory_format=torch.contiguous_format).train()
    optimizer = make_optimizer(model, config.train)
    bce = torch.nn.functional.binary_cross_entropy_with_logits

    def step(images: tuple[Tensor, ...], boxes: tuple[Tensor, ...], landmarks: tuple[Tensor, ...]) -> None:
        optimizer.zero_grad()
        p = model(torch.stack(images).to(device))
        decoded = decode_boxes(p.boxes, p.priors)
        scores = (p.cls.sigmoid() * p.obj.sigmoid()).detach()
        losses, positives = [], 0
        for i, (some, points) in enumerate(zip(boxes, landmarks, strict=True)):
            target = torch.zeros_like(p.obj[i])
            if len(some):
                faces = some.to(device)
                index, face, iou = plain_assign(scores[i], decoded[i].detach(), p.priors, faces)
                target[index] = 1
                positives += len(index)
                losses.append(bce(p.cls[i, index], iou, reduction="sum"))
                losses.append(5 * eiou_loss(decoded[i, index], faces[face]).sum())
                marks = points.to(device)[face]
                offsets = encode_landmarks(marks[..., :2], p.priors[index])
                weight = marks[..., 2:]
                smooth = torch.nn.functional.smooth_l1_loss(
                    p.landmarks[i, index], torch.where(weight > 0, offsets, 0), beta=1 / 9, reduction="none"
                )
                losses.append(0.1 * (smooth * weight).sum())
            losses.append(bce(p.obj[i], target, reduction="sum"))
        (torch.stack(losses).sum() / max(1, positives)).backward()
        optimizer.step()

    return step


def plain_loader(images: list[LabelledImage], config: Config, workers: int) -> DataLoader:
    return DataLoader(
        PlainFaces(images, config),
        config.train.batch,
        shuffle=True,
        num_workers=workers,
        collate_fn=as_tuples,
        drop_last=len(images) >= config.train.batch,
    )


def as_tuples(items: list[tuple[Tensor, ...]]) -> tuple[tuple[Tensor, ...], ...]:
    return tuple(zip(*items, strict=True))


def run_plain(args: argparse.Namespace) -> list[float]:
    config = settings(args)
    loader = plain_loader(images_of(args), config, 2)
    step = plain_step(config, torch.device("cpu"))
    return timed(args, iter_forever(lambda: iter(loader)), lambda item: step(*item))


def run_network(args: argparse.Namespace, kernels: str) -> list[float]:
    keep_big_buffers()
    config = settings(args)
    model = build(config.model, 0).train()
    use_fused(model, kernels, torch.device("cpu"), user_cache() / "facetrain" / "kernels")
    dtype = choose_precision("auto", torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((args.batch, 3, args.size, args.size), generator=generator) * 255
    images = images.contiguous(memory_format=torch.channels_last)

    def step(_: None) -> None:
        model.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            p = model(images)
        (p.cls.mean() + p.obj.mean() + p.boxes.mean() + p.landmarks.mean()).backward()

    return timed(args, iter(lambda: None, 0), step)


def iter_forever(make):
    while True:
        yield from make()


def timed(args: argparse.Namespace, items, step) -> list[float]:
    """Seconds of each step after the warm-up, from asking for the batch to the end of the update."""
    seconds = []
    for _ in range(args.warmup + args.steps):
        began = time.perf_counter()
        step(next(items))
        seconds.append(time.perf_counter() - began)
    return seconds[args.warmup :]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data/widerface")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=640)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--column", choices=COLUMNS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.column:
        runs = {
            "plain": run_plain,
            "network": partial(run_network, kernels="auto"),
            "torch": partial(run_network, kernels="off"),
        }
        print(json.dumps(runs[args.column](args)))
        return
    rates: dict[str, list[float]] = {column: [] for column in COLUMNS}
    for _ in range(args.rounds):
        for column in COLUMNS:
            command = [sys.executable, *sys.argv, "--column", column]
            seconds = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
            rates[column].append(args.batch * len(seconds) / sum(seconds))
            print(f"{column:8} {rates[column][-1]:6.1f} images/s", file=sys.stderr)
    median = {column: statistics.median(values) for column, values in rates.items()}
    document = {
        "processor": cpu_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "precision": str(choose_precision("auto", torch.device("cpu"))),
        "size": args.size,
        "batch": args.batch,
        "images_per_s": {column: [round(v, 2) for v in values] for column, values in rates.items()},
        "median": {column: round(value, 2) for column, value in median.items()},
        "network_to_torch": round(median["network"] / median["torch"], 2),
    }
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
