"""What a run needs before its first step: data, device, number format, and the plan in words."""

import logging
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from facetrain.config.schema import Config
from facetrain.core.errors import DataError
from facetrain.core.hardware import available_cores, cpu_name
from facetrain.data.batches import steps_per_epoch
from facetrain.data.labels.layout import Split, find_split, load_split
from facetrain.data.sample import sample_root
from facetrain.data.store import ImageStore, choose_place, open_store
from facetrain.model.cost import convolutions
from facetrain.train.distributed import World
from facetrain.train.events import Events
from facetrain.train.hardware import choose_precision, keep_big_buffers, peak_memory
from facetrain.train.optim import base_rate, gradient_limit, warmup_length
from facetrain.train.validation import Validation, find_validation, thin

log = logging.getLogger(__name__)

_SIZES = (8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Setup:
    """A run's data and place of work."""

    config: Config
    device: torch.device
    dtype: torch.dtype
    world: World
    root: Path
    split: Split
    store: ImageStore
    val: Validation | None
    steps_per_epoch: int

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.steps_per_epoch * self.config.train.epochs


def prepare(config: Config, device: torch.device, events: Events, world: World) -> Setup:
    """Read the labels, decode the pictures, choose number format and the place for pixels, and say all of it."""
    if device.type == "cpu" and keep_big_buffers():
        log.info("glibc keeps freed buffers for the next step (mallopt)")
    with world.one_after_the_other():  # the first one draws the sample set, the others find it
        root = data_root(config.data.root, events)
    points = len(config.model.landmarks.names)
    labels = load_split(root, "train", points)
    events.note(f"training data: {labels.statistics.summary()}")
    pictures = thin(labels.pictures, config.data.limit)
    placement = choose_place(pictures, device, config.data.store, config.data.memory, world.local_size)
    events.note(placement.line)
    store, broken = open_store(
        pictures,
        placement.place,
        config.data.workers or max(1, available_cores() // world.local_size),
        device,
        config.data.max_broken,
        lambda done, total: events.work("decoding pictures", done, total),
    )
    if broken:
        events.note(f"left out {len(broken)} pictures that cannot be used, the first: {broken[0].reason}")
    if not any((~picture.ignore).any() for picture in store.pictures):
        raise DataError(
            f"{root}: no picture of the {len(store.pictures)} to train on has a face that counts", "check the labels"
        )
    val = find_validation(root, config.eval, points, events)
    dtype = choose_precision(config.train.precision, device)
    steps = steps_per_epoch(len(store.pictures), config.train.batch)
    return Setup(config, device, dtype, world, root, find_split(root, "train"), store, val, steps)


def data_root(name: str, events: Events) -> Path:
    """The data folder; `sample` is the drawn set in the user's cache, unless there is a folder of that name."""
    path = Path(name)
    if name == "sample" and not path.is_dir():
        path = sample_root(lambda done, total: events.work("drawing the sample set", done, total))
        events.note(f"data: the sample set, DRAWN faces, not photographs: good for trying things out ({path})")
    return path


def plan(setup: Setup) -> list[str]:
    """The run in a few lines: pictures, faces by size, steps, schedule, number format, memory."""
    config, train = setup.config, setup.config.train
    pictures = setup.store.pictures
    empty = sum(not (~picture.ignore).any() for picture in pictures)
    faces = np.concatenate([picture.boxes[~picture.ignore] for picture in pictures])
    short = (faces[:, 2:] - faces[:, :2]).min(1)
    shares = np.histogram(short, (0, *_SIZES, np.inf))[0] / max(1, len(short))
    names = [f"<{_SIZES[0]}", *(f"{a}–{b}" for a, b in pairwise(_SIZES)), f"≥{_SIZES[-1]}"]
    sizes = ", ".join(f"{name} {share:.0%}" for name, share in zip(names, shares, strict=True))
    parameters = sum(c.parameters for c in convolutions(config.model, config.data.size, config.data.size))
    if train.schedule == "cosine":
        schedule = f"cosine down to {train.final_lr:g} of it"
    else:
        epochs = ", ".join(str(round(m * train.epochs)) for m in train.milestones)
        schedule = f"x {train.gamma:g} at epochs {epochs}" if epochs else "constant"
    limit = gradient_limit(train, setup.total_steps)
    clipping = f"gradients clipped at norm {limit:g}" if limit else "no clipping"
    device = cpu_name() if setup.device.type == "cpu" else str(setup.device)
    if setup.device.type == "cuda":
        device = torch.cuda.get_device_name(setup.device)
    network = "bfloat16" if setup.dtype == torch.bfloat16 else "float32"
    world = setup.world
    processes = (
        f"; {world.size} processes of {len(world.part(train.batch))} crops each, batch norm over all of them"
        if world.size > 1
        else ""
    )
    return [
        f"model: {parameters:,} parameters, {len(config.model.landmarks.names)} landmarks, "
        f"strides {list(config.model.strides)}",
        f"pictures: {len(pictures):,} ({empty:,} without a face that counts)",
        f"faces: {len(short):,}; shorter side in pixels: {sizes}",
        f"steps: {train.epochs} epochs x {setup.steps_per_epoch} steps of {train.batch} crops at "
        f"{config.data.size}x{config.data.size} = {setup.total_steps:,} steps",
        f"rate: {train.optimizer}, {base_rate(train):g} (= {train.lr:g} x batch {train.batch} / {train.lr_batch}), "
        f"warm-up {warmup_length(train, setup.total_steps)} steps, {schedule}, {clipping}",
        f"device: {device}, network in {network}, the rest in float32{processes}",
    ]


def tell_cost(setup: Setup, step_seconds: float, events: Events) -> None:
    """What the whole run will take, judged by its first step, which is slower than the later ones."""
    minutes = round(step_seconds * setup.total_steps / 60)
    text = (
        f"one step took {step_seconds:.1f} s: at most about {minutes // 60} h {minutes % 60:02} min for the whole run"
    )
    peak = peak_memory(setup.device)
    events.note(text + ", validation not counted" + (f"; memory so far {peak / 2**30:.1f} GiB" if peak else ""))
