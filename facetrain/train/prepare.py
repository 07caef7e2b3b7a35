"""What a run needs before its first step: data, device, number format, and the plan in words."""

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from facetrain.config.schema import Config
from facetrain.core.errors import DataError
from facetrain.core.faces import LabelledImage
from facetrain.core.files import user_cache
from facetrain.core.machine import available_cores, cpu_name
from facetrain.data.batches import steps_per_epoch
from facetrain.data.mixture import epoch_length
from facetrain.data.plausibility.in_both import find_in_both, in_both_words
from facetrain.data.sample_set.make import sample_root
from facetrain.data.sources import sources_of
from facetrain.data.store.images import ImageStore
from facetrain.data.store.open import open_store
from facetrain.data.store.placement import choose_place
from facetrain.eval.benchmark import thin
from facetrain.model.cost import convolutions
from facetrain.train.events import Events
from facetrain.train.machine import choose_precision, keep_big_buffers, peak_memory
from facetrain.train.optim.optimizers import base_rate, gradient_limit, warmup_length
from facetrain.train.optim.pace import Pace, duration
from facetrain.train.optim.schedules import SCHEDULES
from facetrain.train.parallel.world import World
from facetrain.train.sources import check_sources, source_lines, training_data, unlabelled_of
from facetrain.train.validation import Validation, find_validation, labelled_validation

log = logging.getLogger(__name__)

_SIZES = (8, 16, 32, 64, 128)
_USUAL_SIZE = (1024, 768)  # of WIDER FACE's images


@dataclass(frozen=True)
class Setup:
    """A run's data and place of work.

    root:   the set's folder, of several sources the first
    labels: the label file that training reads, or None where a teacher alone teaches
    data:   what tells this training data from other: SHA-256 of the labels, or of the images' names without them
    """

    config: Config
    device: torch.device
    dtype: torch.dtype
    world: World
    root: Path
    labels: Path | None
    data: str
    store: ImageStore
    val: Validation | None
    steps_per_epoch: int

    @property
    def validation_steps(self) -> float:
        """About how many training steps take as long as one validation: a look costs half of forward and backward."""
        if self.val is None:
            return 0.0
        sizes = [image.size or _USUAL_SIZE for image in self.val.images]
        return 0.5 * sum(w * h for w, h in sizes) / (self.config.train.batch * self.config.data.size**2)


def prepare(config: Config, device: torch.device, events: Events, world: World) -> Setup:
    """Read the labels, decode the images, choose number format and the place for pixels, and say all of it."""
    if device.type == "cpu" and keep_big_buffers():
        log.info("glibc keeps freed buffers for the next step (mallopt)")
    with world.one_after_the_other():  # the first one draws the sample set, the others find it
        roots = [data_root(source.root, events) for source in sources_of(config.data)]
    root = roots[0]
    with world.one_after_the_other() if config.data.val is not None else nullcontext():
        found = training_data(roots, config, events)
    labels = found.labels
    images = thin(found.images, config.data.limit)
    placement = choose_place(images, device, config.data.store, config.data.memory, world.local_size)
    events.note(placement.line)
    store, broken = open_store(
        images,
        placement.place,
        config.data.workers or max(1, available_cores() // world.local_size),
        device,
        config.data.max_broken,
        lambda done, total: events.work("decoding images", done, total),
        unlabelled=bool(unlabelled_of(images, config)),
        cache=user_cache() / "facetrain" / "pixels",
        tell=events.note,
    )
    if broken:
        events.note(f"left out {len(broken)} images that cannot be used, the first: {broken[0].reason}")
    if labels is not None and not any((~image.ignore).any() for image in store.images):
        raise DataError(
            f"{root}: no image of the {len(store.images)} to train on has a face that counts", "check the labels"
        )
    check_sources(store.images, config)
    if found.held_out is not None:
        val: Validation | None = labelled_validation(found.held_out, config.eval.limit)
    else:
        val = find_validation(root, config, events, found.first)
    if val is None and config.train.patience is not None:
        events.note("train.patience has no effect: there is nothing to validate on")
    if val is not None:
        _look_for_copies(root, store.images, val.images, world, events)
    dtype = choose_precision(config.train.precision, device)
    steps = steps_per_epoch(epoch_length(store.images, config.data.roots), config.train.batch)
    return Setup(config, device, dtype, world, root, labels, found.data, store, val, steps)


def _look_for_copies(
    root: Path, images: Sequence[LabelledImage], val: Sequence[LabelledImage], world: World, events: Events
) -> None:
    """Say where validation images are among the training images; what they look like is kept for the next run."""

    def progress(done: int, total: int) -> None:
        events.work("looking for validation images in the training set", done, total)

    with world.one_after_the_other():
        pairs = find_in_both(root, (image.path for image in images), (image.path for image in val), progress)
    if pairs:
        events.note(f"warning: {in_both_words(pairs, len(val))}")


def data_root(name: str, events: Events) -> Path:
    """The data folder; `sample` is the drawn set in the user's cache, unless there is a folder of that name."""
    path = Path(name)
    if name == "sample" and not path.is_dir():
        path = sample_root(lambda done, total: events.work("drawing the sample set", done, total))
        events.note(f"data: the sample set, DRAWN faces, not photographs: good for trying things out ({path})")
    return path


def plan(setup: Setup, pace: Pace) -> list[str]:
    """The run in a few lines: images, faces by size, steps, schedule, number format, memory."""
    config, train = setup.config, setup.config.train
    images = setup.store.images
    parameters = sum(c.parameters for c in convolutions(config.model, config.data.size, config.data.size))
    schedule = SCHEDULES[train.schedule].words(train, pace.plan is None)
    limit = gradient_limit(train, None if pace.plan is not None else pace.total)
    clipping = f"gradients clipped at norm {limit:g}" if limit else "no clipping"
    warm_up = f"{warmup_length(train, pace.total)} steps" if pace.total else f"{train.warmup_limit:.0%} of the time"
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
        *source_lines(images, config),
        *(_faces(_labelled(setup)) if setup.labels is not None else [f"images: {len(images):,}"]),
        _steps(setup, pace),
        f"rate: {train.optimizer}, {base_rate(train):g} (= {train.lr:g} x batch {train.batch} / {train.lr_batch}), "
        f"warm-up {warm_up}, {schedule}, {clipping}",
        f"device: {device}, network in {network}, the rest in float32{processes}",
    ]


def _labelled(setup: Setup) -> list[LabelledImage]:
    without = set(unlabelled_of(setup.store.images, setup.config))
    return [image for index, image in enumerate(setup.store.images) if index not in without]


def _faces(images: Sequence[LabelledImage]) -> list[str]:
    """How many images and faces there are, and how large the faces are."""
    empty = sum(not (~image.ignore).any() for image in images)
    faces = np.concatenate([image.boxes[~image.ignore] for image in images])
    short = (faces[:, 2:] - faces[:, :2]).min(1)
    shares = np.histogram(short, (0, *_SIZES, np.inf))[0] / max(1, len(short))
    names = [f"<{_SIZES[0]}", *(f"{a}–{b}" for a, b in pairwise(_SIZES)), f"≥{_SIZES[-1]}"]
    sizes = ", ".join(f"{name} {share:.0%}" for name, share in zip(names, shares, strict=True))
    return [
        f"images: {len(images):,} ({empty:,} without a face that counts)",
        f"faces: {len(short):,}; shorter side in pixels: {sizes}",
    ]


def _steps(setup: Setup, pace: Pace) -> str:
    train, size = setup.config.train, setup.config.data.size
    of = f"{train.batch} crops at {size}x{size}"
    if pace.budget is not None and pace.total is None:
        time = duration(pace.budget.seconds)
        return f"steps: as many of {of} as fit into {time}; an epoch has {setup.steps_per_epoch}"
    if pace.plan is not None:
        return f"steps: {pace.total:,} of {of}, as planned; an epoch has {setup.steps_per_epoch}"
    return f"steps: {train.epochs} epochs x {setup.steps_per_epoch} steps of {of} = {pace.total:,} steps"


def tell_cost(setup: Setup, pace: Pace, step_seconds: float, events: Events) -> None:
    """What the whole run will take, judged by its first step, which is slower than the later ones."""
    if pace.total is None:
        assert pace.budget is not None
        steps = round(pace.budget.seconds / max(step_seconds, 1e-9))
        text = f"one step took {step_seconds:.1f} s: at least about {steps:,} steps in {duration(pace.budget.seconds)}"
    else:
        whole = duration(step_seconds * pace.total)
        text = f"the first step, the slowest, took {step_seconds:.1f} s: at most about {whole} for the whole run"
    peak = peak_memory(setup.device)
    events.note(text + ", validation not counted" + (f"; memory so far {peak / 2**30:.1f} GiB" if peak else ""))
