"""Everything a run needs to go on, in one file."""

import logging
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from torch import Tensor

from facetrain import __version__
from facetrain.config.load import config_to_dict
from facetrain.config.schema import Config
from facetrain.config.variant import preset_of
from facetrain.core.errors import ConfigError, DataError, FacetrainError, InputError, OutputError, TrainingError
from facetrain.core.files import replacing
from facetrain.core.run_dir import RunDir
from facetrain.detect.face_range import FaceRange, as_metadata
from facetrain.model.safe_file import read_tensors, weights_of
from facetrain.model.weights import STATE_FORMAT, Checkpoint, check_extent, config_of, fit_weights, tensor_bytes
from facetrain.model.yunet import YuNet, build
from facetrain.train.ema import Ema
from facetrain.train.events import Events
from facetrain.train.optim.optimizers import make_optimizer

Saved = Mapping[str, Any]  # what last.pt holds

_MOST_STEPS = 10**9
_KINDS: dict[str, Any] = {  # of the counters that are no counts
    "labels": str,
    "best_ap": float | int | None,
    "best_epoch": int | None,
    "teacher": str | None,
    "budget": float | int | None,
    "spent": float | int,
}

log = logging.getLogger(__name__)


@dataclass
class TrainState:
    """Counters of a run. With weights, averages and optimiser they determine all that follows."""

    step: int = 0  # optimiser steps done
    epoch: int = 0  # epochs closed: all their steps done, and the validation if one was due
    images: int = 0  # in the training set, without broken ones
    labels: str = ""  # SHA-256 of its label file, or of the images' names where labels do not count
    best_ap: float | None = None
    best_epoch: int | None = None
    idle: int = 0  # validations since the best one
    teacher: str | None = None  # SHA-256 of the teacher's file
    budget: float | None = None  # seconds that the run may take, where steps are planned by time …
    spent: float = 0.0  # … and what it has taken
    samples: int = 0  # of an epoch, which shares of several sets make other than the images; 0: an earlier version's


def save_state(
    run: RunDir,
    config: Config,
    state: TrainState,
    model: YuNet,
    ema: Ema | None,
    optimizer: torch.optim.Optimizer,
    found: FaceRange | None = None,
) -> None:
    """Write last.pt atomically; the file before it stays as previous.pt. At no moment is there no whole file.

    found: the sizes of faces that these weights find, where that has been measured
    """
    document = {
        "format": STATE_FORMAT,
        "facetrain": __version__,
        "config": config_to_dict(config),
        "state": vars(state).copy(),
        "model": model.state_dict(),
        "ema": ema.state if ema else None,
        "optimizer": optimizer.state_dict(),
        "info": dict(as_metadata(found)),
    }
    content = tensor_bytes(document)
    with replacing(run.last) as scratch:
        scratch.write_bytes(content)
        if run.last.exists():
            _keep_as_previous(run)


def _keep_as_previous(run: RunDir) -> None:
    """Let previous.pt be today's last.pt, which stays in place until the new one replaces it."""
    second = run.path / ".previous.link"
    second.unlink(missing_ok=True)
    try:
        os.link(run.last, second)
        second.replace(run.previous)
        second.unlink(missing_ok=True)  # a rename between two names of one file leaves both
    except OSError:  # a file system without hard links
        run.last.replace(run.previous)


def remove_scratch(run: RunDir) -> None:
    """Remove what a killed process has left half written. Only the process that holds the run may do that."""
    for path in run.path.glob(".*.*"):
        if path.suffix in (".pt", ".jsonl", ".yaml", ".json", ".png", ".jpg", ".link"):
            path.unlink(missing_ok=True)


@contextmanager
def saving_on_failure(run: RunDir | None, save: Callable[[], None], all_finite: Callable[[], bool]) -> Iterator[None]:
    """Save the last good step before an error that a user can mend ends the run: an image that is gone, no memory.

    Not where a loss is other than finite: then the weights may be spoilt, and last.pt is the better one.
    """
    try:
        yield
    except FacetrainError as error:
        if not isinstance(error, OutputError) and all_finite():
            with suppress(OutputError):
                save()
                if run is not None and error.hint is None:
                    error.hint = f"all steps so far are saved; go on with `resume` {quote(str(run.path))}"
        raise


def load_state(run: RunDir) -> Saved:
    """The newest training state of a run that can be gone on from: last.pt, or previous.pt if that one cannot."""
    problems: list[FacetrainError] = []
    for path in (run.last, run.previous):
        try:
            document = _renamed(read_tensors(path))
            _check_state(document, path)
        except (DataError, InputError, ConfigError) as error:
            problems.append(error)
            continue
        if problems:
            log.warning("%s: going on from %s", problems[0].message, path)
        return dict(document)
    raise problems[0]


def _renamed(document: Any) -> Any:
    """The state of a run that was begun when the count of its images was called `pictures`."""
    state = document.get("state") if isinstance(document, Mapping) else None
    if not isinstance(state, Mapping) or "pictures" not in state or "images" in state:
        return document
    return {**document, "state": {"images" if name == "pictures" else name: value for name, value in state.items()}}


def _check_state(document: Any, path: Path) -> None:
    """Refuse what no run of this version has written: missing parts, counters that do not fit, foreign tensors."""
    if not isinstance(document, Mapping) or document.get("format") != STATE_FORMAT:
        raise DataError(f"{path}: not a training state", "`weights` starts a new run from weights")
    written = document.get("facetrain", __version__)
    if _numbers(written) > _numbers(__version__):
        raise DataError(
            f"{path}: written by facetrain {written}, this is {__version__}", "go on with that version: pip install -U"
        )
    config = config_of(document, path)
    _check_counters(document.get("state"), config, path)
    check_extent(config.model, weights_of(document.get("model"), path, "model"), path)
    own = build(config.model).state_dict()
    for part in ("model", "ema"):
        if part == "ema" and document.get("ema") is None:
            continue
        weights = weights_of(document.get(part), path, part)
        misfits = list(own.keys() ^ weights.keys())
        misfits += [name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape]
        if misfits:
            raise DataError(f"{path}: '{part}': {len(misfits)} weights are not the model's, such as {min(misfits)}")
    _check_optimizer(document.get("optimizer"), config, path)


def _check_counters(state: Any, config: Config, path: Path) -> None:
    """The counters by their types, and step and epoch by each other."""
    if not isinstance(state, Mapping):
        raise DataError(f"{path}: an incomplete training state: 'state' is missing")
    known = {field.name: field for field in fields(TrainState)}
    if unknown := [str(name) for name in state if name not in known]:
        raise DataError(f"{path}: the state has '{unknown[0]}', which this version does not know")
    try:
        values = TrainState(**state)
    except TypeError as error:
        raise DataError(f"{path}: an incomplete training state: {error}") from error
    whole = (values.step, values.epoch, values.images, values.samples, values.idle)
    if not all(type(value) is int and 0 <= value <= _MOST_STEPS for value in whole):
        raise DataError(f"{path}: step, epoch, images, samples and idle are {whole}, not counts")
    for name, kinds in _KINDS.items():
        if not isinstance(getattr(values, name), kinds):
            raise DataError(f"{path}: '{name}' is a {type(getattr(values, name)).__name__}")
    shared = any(root.share is not None for root in config.data.roots)
    samples = values.samples or (0 if shared else values.images)
    if not samples:
        return
    length = -(-samples // config.train.batch)
    over = config.train.plan is not None and values.step >= config.train.plan[-1][1]
    first = (values.epoch - 1) * length + 1 if over else values.epoch * length
    if not first <= values.step <= (values.epoch + 1) * length:
        raise DataError(
            f"{path}: step {values.step:,} is not in epoch {values.epoch + 1:,}, whose epochs have {length:,} steps"
        )


def _check_optimizer(saved: Any, config: Config, path: Path) -> None:
    """An optimiser's state belongs to the model if a fresh one takes it and every tensor has its parameter's shape."""
    fresh = make_optimizer(build(config.model), config.train)
    wrong = DataError(f"{path}: the optimiser's state is not that of this run's optimiser and model")
    try:
        fresh.load_state_dict(dict(saved))
    except (TypeError, ValueError, KeyError, AttributeError, IndexError, RuntimeError) as error:
        raise wrong from error
    for group in fresh.param_groups:
        for parameter in group["params"]:
            for value in fresh.state.get(parameter, {}).values():
                if not isinstance(value, Tensor) or (value.dim() and value.shape != parameter.shape):
                    raise wrong
                if not bool(value.isfinite().all()):
                    raise DataError(f"{path}: the optimiser's state holds numbers that are not finite")
    numbers = [value for group in fresh.param_groups for key, value in group.items() if key != "params"]
    if any(isinstance(value, float) and not math.isfinite(value) for value in numbers):
        raise wrong


def _numbers(version: object) -> tuple[int, ...]:
    """A version's leading numbers, for comparison."""
    return tuple(int(part) for part in re.findall(r"\d{1,9}", str(version))[:3])


def check_same_data(state: TrainState, images: int, labels: str) -> None:
    """Refuse to continue on other data: the saved step would mean another place in another order of images."""
    if (state.images, state.labels) != (images, labels):
        what = f"{images} images instead of {state.images}" if state.images != images else "other labels"
        raise DataError(
            f"the training data is not what the run began with: {what}",
            "start a new run from its weights with `weights` runs/<name>/best.pt",
        )


def saved_config(document: Saved, path: Path) -> Config:
    """The configuration a training state was made with."""
    return config_of(document, path)


def restore(document: Saved, model: YuNet, ema: Ema | None, optimizer: torch.optim.Optimizer) -> TrainState:
    """Put a saved state into the objects of a new process."""
    model.load_state_dict(document["model"])
    optimizer.load_state_dict(document["optimizer"])
    averages: Mapping[str, Tensor] | None = document["ema"]
    if ema is not None and averages is not None:
        ema.load(averages)
    return TrainState(**document["state"])


def start_from(model: YuNet, start: Checkpoint, events: Events) -> set[str]:
    """Copy a checkpoint's weights into the model; what does not fit keeps its drawn values and is listed.

    Returns the names of those that were taken over.
    """
    misfits = fit_weights(model, start.state)
    count = len(model.state_dict())
    kept = sum(not line.endswith(": unknown") for line in misfits)
    preset = preset_of(start.model)
    if kept == count:
        raise TrainingError(
            f"{start.path}: none of its weights fits this model",
            f"they are those of the preset {preset}" if preset else "train from the model file it was made with",
        )
    events.note(f"starting from {start.path}: {count - kept} of {count} weights taken over")
    for line in misfits[:20]:
        events.note(f"  not taken over: {line}")
    if len(misfits) > 20:
        events.note(f"  … and {len(misfits) - 20} more")
    if misfits and preset is not None and preset != preset_of(model.config):
        events.note(f"  all of them fit the preset {preset}")
    misfitting = {line.partition(": ")[0] for line in misfits}
    return {name for name in model.state_dict() if name not in misfitting}
