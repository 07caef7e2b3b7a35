"""Tiny drawn sets, runs on them, and comparing what runs leave behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from facetrain.config.schema import Config, DataConfig, EvalConfig, ModelConfig, SourceConfig, TrainConfig
from facetrain.core.run_dir import RunDir
from facetrain.model.safe_file import read_tensors
from facetrain.train import training
from facetrain.train.events import Progress
from facetrain.train.loop import train_model
from facetrain.train.run.metrics import read_metrics

IMAGES, STEPS = 10, 3  # training images, and steps an epoch at a batch of 4
MODEL = ModelConfig(stem=(3, 8, 8), stages=((8, 8), (8, 16), (16, 16), (16, 16), (16, 16)), head_channels=16)


def draw(rng: np.random.Generator, path: Path, faces: int) -> list[str]:
    """A noise image of 96 x 72 with bright discs for faces; returns its label lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = rng.integers(20, 90, (72, 96, 3)).astype(np.uint8)
    lines = []
    for k in range(faces):
        radius = int(rng.integers(8, 14))
        x, y = int(rng.integers(16, 32)) + 48 * (k % 2), int(rng.integers(18, 54))
        cv2.circle(image, (x, y), radius, (150, 190, 235), -1)
        points = [
            (x + sx * radius // 3, y + sy * radius // 3) for sx, sy in ((-1, -1), (1, -1), (0, 0), (-1, 1), (1, 1))
        ]
        for point in points:
            cv2.circle(image, point, 1, (30, 20, 60), -1)
        box = f"{x - radius} {y - radius} {x + radius} {y + radius}"
        lines.append(f"{box} {' '.join(f'{px} {py} 1' for px, py in points)}")
    cv2.imwrite(str(path), image)
    return [f"# {path.parent.name}/{path.name} 96 72", *lines]


def draw_set(root: Path, train: int = IMAGES, val: int = 3) -> Path:
    """Every fourth image of the training part has no face; one has an ignored face besides."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        if count == 0:
            continue
        lines = []
        for i in range(count):
            lines += draw(rng, root / split / "images" / "drawn" / f"{split}{i}.png", 0 if i % 4 == 3 else 1 + i % 2)
        lines.insert(2, "2 2 9 9 1")
        (root / split / "labelv2.txt").write_text("\n".join(lines) + "\n")
    return root


def tiny_config(data: Path, **train: Any) -> Config:
    settings: dict[str, Any] = {
        "epochs": 3,
        "batch": 4,
        "optimizer": "adamw",
        "lr": 0.01,
        "lr_batch": 4,
        "schedule": "cosine",
        "precision": "fp32",
    }
    return Config(
        model=MODEL,
        data=DataConfig(root=str(data), size=64, crop_scales=(0.7, 0.9, 1.1), store="ram", workers=2),
        train=TrainConfig(**(settings | train)),
        eval=EvalConfig(every=1),
    )


def several(roots: list[Path], *changes: dict[str, object], **settings: object) -> Config:
    config = tiny_config(roots[0], **settings)
    sources = [replace(SourceConfig(str(root)), **more) for root, more in zip(roots, changes, strict=True)]  # type: ignore[arg-type]
    return replace(config, data=replace(config.data, roots=tuple(sources)))


class Recorder:
    """Remembers what a run tells, and calls `at` after every logged step."""

    def __init__(self, at: Callable[[Progress], None] = lambda _: None) -> None:
        self.notes: list[str] = []
        self.steps: list[Progress] = []
        self.at = at

    def note(self, text: str) -> None:
        self.notes.append(text)

    def work(self, what: str, done: int, total: int) -> None:
        assert 0 <= done <= total

    def progress(self, progress: Progress) -> None:
        self.steps.append(progress)
        self.at(progress)


class Crash(Exception):  # noqa: N818
    """Stands for whatever ends a process between two steps."""


def crash_at(number: int) -> Recorder:
    def at(progress: Progress) -> None:
        if progress.step == number:
            raise Crash

    return Recorder(at)


def ctrl_c_at(number: int) -> Recorder:
    return Recorder(lambda progress: os.kill(os.getpid(), signal.SIGINT) if progress.step == number else None)


def leaves(document: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a checkpoint, with its place."""
    if isinstance(document, Mapping):
        for key, value in document.items():
            yield from leaves(value, f"{path}/{key}")
    elif isinstance(document, list | tuple):
        for i, value in enumerate(document):
            yield from leaves(value, f"{path}/{i}")
    else:
        yield path, document


def assert_same(one: Any, other: Any, what: str = "") -> None:
    """Equal content, tensors bit by bit."""
    first, second = dict(leaves(one)), dict(leaves(other))
    assert first.keys() == second.keys()
    for key, value in first.items():
        same = torch.equal(value, second[key]) if isinstance(value, torch.Tensor) else value == second[key]
        assert same, f"{key} {what}"


def assert_same_file(one: Path, other: Path) -> None:
    assert_same(read_tensors(one), read_tensors(other), f"of {one} and {other}")


def assert_same_run(one: RunDir, other: RunDir) -> None:
    assert_same_file(one.last, other.last)
    assert_same_file(one.best, other.best)


def numbers(run: RunDir) -> list[dict[str, Any]]:
    """The metrics without what depends on the clock."""
    return [
        {key: value for key, value in line.items() if key not in ("images_per_s", "wait_share")}
        for line in read_metrics(run.metrics)
    ]


def train(config: Config, runs: Path, **arguments: Any) -> RunDir:
    result = train_model(config, runs=runs, **arguments)
    assert result.run is not None
    return result.run


def start(*arguments: str, gpus: str = "cpu") -> "subprocess.Popen[str]":
    """`facetrain train …` on CPUs, with as many threads as the runs it is compared with."""
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-m", "facetrain", "train", *arguments, "--gpus", gpus]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def wait_for_step(process: "subprocess.Popen[str]", run: RunDir, number: int) -> None:
    """Until the run has logged a step, or has ended."""
    while process.poll() is None and not any(line["step"] >= number for line in read_metrics(run.metrics)):
        time.sleep(0.01)


def live(config: Config, runs: str) -> None:
    """A process's life: begin the run, or go on with it; saves after every step."""
    training._SAVE_EVERY_S = 0.0
    training.draw_curves = lambda run: None  # type: ignore[assignment]
    run = RunDir(Path(runs) / "r")
    if run.last.exists():
        train_model(resume=run)
    else:
        train_model(config, runs=run.path.parent, name="r")
