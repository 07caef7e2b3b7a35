"""What a run tells while it works. The command line draws it; a Python caller may ignore it or bring its own."""

import logging
from dataclasses import dataclass
from typing import Protocol

from facetrain.core.documents.train import TrainLine
from facetrain.train.run.metrics import MetricsLog

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """Where a run stands after a logged step. losses are means since the last one."""

    epoch: int  # from 0
    epochs: int
    step: int  # steps done
    steps: int  # of the whole run
    lr: float
    losses: dict[str, float]  # the terms, and `total`
    positives: float  # matched priors a step
    images_per_s: float
    wait_share: float  # of the time, spent waiting for data
    best_ap: float | None = None  # of the validations so far
    memory: int | None = None  # most bytes of the GPU's memory held so far; None on a CPU


class Events(Protocol):
    """Receives what happens, in order."""

    def note(self, text: str) -> None:
        """Something a person should read once."""

    def work(self, what: str, done: int, total: int) -> None:
        """A part of the preparation or a validation goes on."""

    def progress(self, progress: Progress) -> None:
        """Training goes on."""


class LogEvents:
    """Sends what happens to the `facetrain` logger."""

    def note(self, text: str) -> None:
        """Log at level info."""
        log.info("%s", text)

    def work(self, what: str, done: int, total: int) -> None:
        """Log the end of the work only."""
        if done == total:
            log.debug("%s: %d done", what, total)

    def progress(self, progress: Progress) -> None:
        """Log at level debug."""
        log.debug("%s", progress)


def tell_progress(progress: Progress, metrics: MetricsLog, events: Events) -> None:
    """Write a line of metrics and pass it on."""
    line: TrainLine = {
        "kind": "train",
        "step": progress.step,
        "epoch": progress.epoch,
        "lr": progress.lr,
        "losses": progress.losses,
        "positives": progress.positives,
        "images_per_s": round(progress.images_per_s, 2),
        "wait_share": round(progress.wait_share, 4),
    }
    if progress.memory is not None:
        line["memory_bytes"] = progress.memory
    metrics.write(line)
    events.progress(progress)
