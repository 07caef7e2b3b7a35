"""Everything a run needs to go on, in one file."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from torch import Tensor

from facetrain.config.load import config_from_dict, config_to_dict
from facetrain.config.schema import Config
from facetrain.core.errors import DataError, FacetrainError, InputError, OutputError, TrainingError
from facetrain.core.files import replacing
from facetrain.core.run_dir import RunDir
from facetrain.model.weights import STATE_FORMAT, Checkpoint, fit_weights, read_tensors, tensor_bytes
from facetrain.model.yunet import YuNet
from facetrain.train.ema import Ema
from facetrain.train.events import Events

Saved = Mapping[str, Any]  # what last.pt holds

log = logging.getLogger(__name__)


@dataclass
class TrainState:
    """Counters of a run. With weights, averages and optimiser they determine all that follows."""

    step: int = 0  # optimiser steps done
    epoch: int = 0  # epochs closed: all their steps done, and the validation if one was due
    pictures: int = 0  # in the training set, without broken ones
    labels: str = ""  # SHA-256 of its label file, or of the pictures' names where labels do not count
    best_ap: float | None = None
    best_epoch: int | None = None
    teacher: str | None = None  # SHA-256 of the teacher's file
    budget: float | None = None  # seconds that the run may take, where steps are planned by time …
    spent: float = 0.0  # … and what it has taken


def save_state(
    run: RunDir, config: Config, state: TrainState, model: YuNet, ema: Ema | None, optimizer: torch.optim.Optimizer
) -> None:
    """Write last.pt atomically; the file before it stays as previous.pt. At no moment is there no whole file."""
    document = {
        "format": STATE_FORMAT,
        "config": config_to_dict(config),
        "state": vars(state).copy(),
        "model": model.state_dict(),
        "ema": ema.state if ema else None,
        "optimizer": optimizer.state_dict(),
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


def check_writable(run: RunDir) -> None:
    """Refuse a folder that cannot be written before anything is read: nothing is made here."""
    folder = run.path
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OutputError(f"{run.path}: cannot write here", "choose another --runs folder")


def remove_scratch(run: RunDir) -> None:
    """Remove what a killed process has left half written. Only the process that holds the run may do that."""
    for path in run.path.glob(".*.*"):
        if path.suffix in (".pt", ".jsonl", ".yaml", ".json", ".png", ".jpg", ".link"):
            path.unlink(missing_ok=True)


@contextmanager
def saving_on_failure(run: RunDir | None, save: Callable[[], None], all_finite: Callable[[], bool]) -> Iterator[None]:
    """Save the last good step before an error that a user can mend ends the run: a picture that is gone, no memory.

    Not where a loss is other than finite: then the weights may be spoilt, and last.pt is the better one.
    """
    try:
        yield
    except FacetrainError as error:
        if not isinstance(error, OutputError) and all_finite():
            with suppress(OutputError):
                save()
                if run is not None and error.hint is None:
                    error.hint = f"all steps so far are saved; then: facetrain train --resume {quote(str(run.path))}"
        raise


def load_state(run: RunDir) -> Saved:
    """The newest readable training state of a run: last.pt, or previous.pt if that is damaged or missing."""
    problems: list[FacetrainError] = []
    for path in (run.last, run.previous):
        try:
            document = read_tensors(path)
        except (DataError, InputError) as error:
            problems.append(error)
            continue
        if isinstance(document, Mapping) and document.get("format") == STATE_FORMAT:
            if problems:
                log.warning("%s: going on from %s", problems[0].message, path)
            return document
        problems.append(DataError(f"{path}: not a training state", "--weights starts a new run from weights"))
    raise problems[0]


def check_same_data(state: TrainState, pictures: int, labels: str) -> None:
    """Refuse to continue on other data: the saved step would mean another place in another order of pictures."""
    if (state.pictures, state.labels) != (pictures, labels):
        what = f"{pictures} pictures instead of {state.pictures}" if state.pictures != pictures else "other labels"
        raise DataError(
            f"the training data is not what the run began with: {what}",
            "start a new run from its weights with --weights runs/<name>/best.pt",
        )


def saved_config(document: Saved, path: Path) -> Config:
    """The configuration a training state was made with."""
    return config_from_dict(document["config"], str(path))


def restore(document: Saved, model: YuNet, ema: Ema | None, optimizer: torch.optim.Optimizer) -> TrainState:
    """Put a saved state into the objects of a new process."""
    model.load_state_dict(document["model"])
    optimizer.load_state_dict(document["optimizer"])
    averages: Mapping[str, Tensor] | None = document["ema"]
    if ema is not None and averages is not None:
        ema.load(averages)
    return TrainState(**document["state"])


def start_from(model: YuNet, start: Checkpoint, events: Events) -> None:
    """Copy a checkpoint's weights into the model; what does not fit keeps its drawn values and is listed."""
    misfits = fit_weights(model, start.state)
    count = len(model.state_dict())
    kept = sum(not line.endswith(": unknown") for line in misfits)
    if kept == count:
        raise TrainingError(
            f"{start.path}: none of its weights fits this model", "train from the model file it was made with"
        )
    events.note(f"starting from {start.path}: {count - kept} of {count} weights taken over")
    for line in misfits[:20]:
        events.note(f"  not taken over: {line}")
    if len(misfits) > 20:
        events.note(f"  … and {len(misfits) - 20} more")
