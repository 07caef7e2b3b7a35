"""The batches of an epoch: a pure function of (images, settings, seed, epoch, position)."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from facetrain.config.schema import DataConfig, LandmarksConfig
from facetrain.core.faces import LabelledImage
from facetrain.data.augmentations import KEEP_VALUES, augmented
from facetrain.data.batch import FACE, IGNORED, PADDING, Batch
from facetrain.data.crops import Crop, CropFaces, draw_crop, faces_of_crops
from facetrain.data.mixture import epoch_images, without_faces
from facetrain.data.store.images import ImageStore
from facetrain.data.view import View

Share = Callable[[], Batch]  # makes its part of a batch
Item = tuple[list[Crop], list[Share]]  # a step's crops, and their batch in parts

_Ready = tuple[list[Crop], Batch] | BaseException | None  # a batch, why there is none, or that it was the last
_BUCKET = 16  # rows of faces are filled up to a multiple of this, so that their number takes few values


def steps_per_epoch(images: int, batch: int) -> int:
    """Batches of an epoch; the last one is filled up from the epoch's beginning."""
    return -(-images // batch)


def mirror_order(landmarks: LandmarksConfig) -> NDArray[np.int64]:
    """(L,): which landmark takes each landmark's place in a flipped image."""
    partner = {a: b for pair in landmarks.mirror for a, b in (pair, pair[::-1])}
    return np.array([landmarks.names.index(partner.get(name, name)) for name in landmarks.names], np.int64)


def epoch_batches(
    store: ImageStore,
    config: DataConfig,
    landmarks: LandmarksConfig,
    *,
    batch: int,
    seed: int,
    epoch: int,
    first_step: int = 0,
    part: range | None = None,
    dtype: torch.dtype = torch.float32,
) -> Iterator[tuple[list[Crop], Batch]]:
    """Every batch of an epoch from `first_step` on, with the crops it was made of.

    part:  positions within the batch that this process makes, by default all. A crop depends on its position in the
           epoch alone, so any division makes the same global batch.
    dtype: of the images
    """
    mirror = mirror_order(landmarks)
    for crops in _epoch_crops(store, config, batch, seed, epoch, first_step, part or range(batch)):
        yield crops, make_batch(store, crops, config, mirror, dtype=dtype)


def epoch_shares(
    store: ImageStore,
    config: DataConfig,
    landmarks: LandmarksConfig,
    *,
    batch: int,
    seed: int,
    epoch: int,
    first_step: int = 0,
    parts: Sequence[range],
) -> Iterator[Item]:
    """The same in parts, positions within the batch. Each is made when it is called, in the thread that calls."""
    mirror = mirror_order(landmarks)
    for crops in _epoch_crops(store, config, batch, seed, epoch, first_step, range(batch)):
        some = [crops[part.start : part.stop] for part in parts]
        yield crops, [partial(make_batch, store, few, config, mirror, here=True) for few in some]


def _epoch_crops(
    store: ImageStore, config: DataConfig, batch: int, seed: int, epoch: int, first_step: int, part: range
) -> Iterator[list[Crop]]:
    order = epoch_images(store.images, config.roots, seed, epoch)
    for step in range(first_step, steps_per_epoch(len(order), batch)):
        positions = range(step * batch + part.start, step * batch + part.stop)
        indices = [int(order[p % len(order)]) for p in positions]
        yield [draw_crop(store.images[i], i, config, seed, epoch, p) for i, p in zip(indices, positions, strict=True)]


def make_batch(
    store: ImageStore,
    crops: Sequence[Crop],
    config: DataConfig,
    mirror: NDArray[np.int64],
    *,
    here: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Batch:
    """Pixels and faces of the crops after their augmentations, on the store's device.

    here:  without the store's threads, in this one
    dtype: of the images, rounded after all that computes with them
    """
    computed = any(name not in KEEP_VALUES for crop in crops for name in crop.drawn)
    images = store.crops(crops, config.size, here=here, dtype=torch.float32 if computed else dtype)
    of_images = [store.images[crop.image] for crop in crops]
    weights = _label_weights(of_images, config)
    if weights is not None:  # nothing is assigned to faces that do not count
        of_images = [
            image if weight else without_faces(image) for image, weight in zip(of_images, weights, strict=True)
        ]
    batch = _batch(images, of_images, crops, config, mirror)
    if weights is not None:
        batch = replace(batch, label_weight=torch.tensor(weights).to(images.device, non_blocking=True))
    return replace(batch, images=batch.images.to(dtype))


def _label_weights(images: Sequence[LabelledImage], config: DataConfig) -> list[float] | None:
    """What the labels of each image count, by its source; None where all count alike."""
    if all(root.label_weight == 1 for root in config.roots):
        return None
    return [config.roots[image.source].label_weight for image in images]


def _batch(
    images: torch.Tensor,
    of_images: Sequence[LabelledImage],
    crops: Sequence[Crop],
    config: DataConfig,
    mirror: NDArray[np.int64],
) -> Batch:
    """The crops' pixels, (B, 3, S, S), with their faces, both augmented."""
    limits = {"min_face": config.min_face, "min_visible": config.min_visible}
    joined, counts = faces_of_crops(of_images, crops, config.size, config.reproduce, **limits)
    if not any(crop.drawn for crop in crops):
        return as_batch(images, joined, counts)
    boxes, landmarks, ignore = joined
    ends = counts.cumsum()
    faces = []
    for image, crop, start, end in zip(images, crops, ends - counts, ends, strict=True):
        view = View(image, boxes[start:end], landmarks[start:end], ignore[start:end], mirror)
        view = augmented(view, crop.drawn)
        if view.image is not image:
            image.copy_(view.image)
        faces.append((view.boxes, view.landmarks, view.ignore))
    return collate(images, faces)


def collate(images: torch.Tensor, faces: Sequence[CropFaces]) -> Batch:
    """Join the faces of B images."""
    boxes, landmarks, ignore = (np.concatenate(parts) for parts in zip(*faces, strict=True))
    return as_batch(images, (boxes, landmarks, ignore), np.array([len(some) for some, _, _ in faces]))


def as_batch(images: torch.Tensor, faces: CropFaces, counts: NDArray[np.int64]) -> Batch:
    """B images and their faces, so many of each, as flat rows, filled up with rows that mean nothing."""
    some_boxes, some_landmarks, ignore = faces
    count = len(some_boxes)
    rows = -(-count // _BUCKET) * _BUCKET
    boxes = np.zeros((rows, 4), np.float32)
    landmarks = np.zeros((rows, *some_landmarks.shape[1:]), np.float32)
    image = np.zeros(rows, np.int64)
    kind = np.full(rows, PADDING, np.int8)
    boxes[:count], landmarks[:count] = some_boxes, some_landmarks
    image[:count] = np.repeat(np.arange(len(counts)), counts)
    kind[:count] = np.where(ignore, IGNORED, FACE)
    parts = [torch.from_numpy(part) for part in (boxes, landmarks, image, kind)]
    return Batch(images, *(part.to(images.device, non_blocking=True) for part in parts))


def ahead(
    batches: Iterator[tuple[list[Crop], Batch]], depth: int = 2, stream: torch.cuda.Stream | None = None
) -> Iterator[tuple[list[Crop], Batch]]:
    """Make batches in a thread of their own, at most `depth` ahead. An error there is raised here.

    stream: of a GPU, beside the step's, on which the thread works, so that copies and crops overlap with the step. One
            for the whole run (`side_stream`): the allocator keeps memory by stream, and never gives it to another.
    """
    ready: queue.Queue[_Ready] = queue.Queue(depth)
    done: queue.SimpleQueue[torch.cuda.Event] = queue.SimpleQueue()  # in the order of the batches
    stop = threading.Event()

    def work() -> None:
        try:
            with torch.cuda.stream(stream):  # nothing without one
                for item in batches:
                    if stream is not None:
                        done.put(stream.record_event())
                    if not _hand_over(item, ready, stop):
                        return
        except BaseException as error:
            _hand_over(error, ready, stop)
        else:
            _hand_over(None, ready, stop)

    thread = threading.Thread(target=work, name="batches", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            if stream is not None:
                _take_over(item[1], done.get())
            yield item
    finally:
        stop.set()
        thread.join()


def side_stream(device: torch.device) -> torch.cuda.Stream | None:
    """A stream for `ahead`; None where there are none. It waits once for what made the images that it reads."""
    if device.type != "cuda":
        return None
    stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    return stream


def _hand_over(item: _Ready, ready: queue.Queue[_Ready], stop: threading.Event) -> bool:
    """Wait for room and put the item there; False where nobody wants more."""
    while not stop.is_set():
        with suppress(queue.Full):
            ready.put(item, timeout=0.1)
            return True
    return False


def _take_over(batch: Batch, finished: torch.cuda.Event) -> None:
    """Let this thread's stream wait for a batch, and the batch's memory for what this stream does with it."""
    stream = torch.cuda.current_stream(batch.images.device)
    stream.wait_event(finished)
    for tensor in (batch.images, batch.boxes, batch.landmarks, batch.image, batch.kind, batch.label_weight):
        if tensor is not None:
            tensor.record_stream(stream)
