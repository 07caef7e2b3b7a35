"""Everything a run needs to go on, in one file."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facetrain.config.load import config_from_dict, config_to_dict
from facetrain.config.schema import Config
from facetrain.core.errors import DataError, FacetrainError, InputError
from facetrain.core.files import replacing
from facetrain.core.run_dir import RunDir
from facetrain.model.weights import STATE_FORMAT, read_tensors, tensor_bytes
from facetrain.model.yunet import YuNet
from facetrain.train.ema import Ema

log = logging.getLogger(__name__)


@dataclass
class TrainState:
    """Counters of a run. With weights, averages and optimiser they determine all that follows."""

    step: int = 0  # optimiser steps done
    epoch: int = 0  # epochs closed: all their steps done, and the validation if one was due
    pictures: int = 0  # in the training set, without broken ones
    labels: str = ""  # SHA-256 of its label file
    best_ap: float | None = None
    best_epoch: int | None = None


def save_state(
    run: RunDir, config: Config, state: TrainState, model: YuNet, ema: Ema | None, optimizer: torch.optim.Optimizer
) -> None:
    """Write last.pt atomically; the file before it stays as previous.pt."""
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
            run.last.replace(run.previous)


def load_state(run: RunDir) -> Mapping[str, Any]:
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


def saved_config(document: Mapping[str, Any], path: Path) -> Config:
    """The configuration a training state was made with."""
    return config_from_dict(document["config"], str(path))


def restore(document: Mapping[str, Any], model: YuNet, ema: Ema | None, optimizer: torch.optim.Optimizer) -> TrainState:
    """Put a saved state into the objects of a new process."""
    model.load_state_dict(document["model"])
    optimizer.load_state_dict(document["optimizer"])
    averages: Mapping[str, Tensor] | None = document["ema"]
    if ema is not None and averages is not None:
        ema.load(averages)
    return TrainState(**document["state"])
