"""Validation of a run's weights, and the best of them."""

import threading
from collections.abc import Callable, Mapping
from typing import NotRequired, TypedDict

import torch
from torch import Tensor

from facetrain import __version__
from facetrain.config.schema import Config
from facetrain.core.run_dir import RunDir
from facetrain.detect.face_range import FaceRange, as_metadata
from facetrain.detect.operating_points import as_metadata as points_as_metadata
from facetrain.eval.difference import brackets, difference_of, holm
from facetrain.eval.intervals import Estimate, Resampling
from facetrain.eval.pipeline import batch_of
from facetrain.model.detector import ModelDetector
from facetrain.model.weights import load_checkpoint, save_checkpoint
from facetrain.model.yunet import build
from facetrain.train.events import Events
from facetrain.train.machine import tuned_kernels
from facetrain.train.prepare import Setup
from facetrain.train.run.checkpoint import TrainState
from facetrain.train.validation import Validation, ValidationResult

_SHOWN = 6  # epochs in a message


class WeightsInfo(TypedDict):
    """What weights of a run say of themselves. epoch: from 1; teacher: its SHA-256; the last two: of best.pt alone."""

    facetrain: str
    epoch: int
    step: int
    teacher: NotRequired[str]
    ap: NotRequired[float | None]
    validation_images: NotRequired[int]


def validate(
    setup: Setup,
    val: Validation,
    state: Mapping[str, Tensor],
    events: Events,
    interrupted: threading.Event,
    workers: int = 1,
) -> ValidationResult | None:
    """AP of weights over the validation images, in float32; None if the run is to stop: resuming makes up for it.

    workers: threads that look at images side by side, on a CPU
    """
    model = build(setup.config.model).to(setup.device).eval()
    model.load_state_dict(state)
    detector = ModelDetector(model, score=setup.config.eval.score, nms=setup.config.eval.nms)

    def progress(done: int, total: int) -> None:
        events.work("validating", done, total)

    with tuned_kernels(False):
        return val.measure(
            *(detector, progress, interrupted.is_set, setup.world),
            batch=batch_of(setup.device.type),
            workers=workers,
        )


def keep_best(
    run: RunDir | None,
    config: Config,
    state: TrainState,
    report: ValidationResult | None,
    epoch: int,
    weights: Mapping[str, Tensor],
) -> None:
    """Write best.pt if this validation is the best so far; without any validation the last weights are the best.

    run: None in a process that does not write; it takes the same decision.
    """
    ap = report.ap if report else None
    if report is not None and state.best_ap is not None and (ap is None or ap <= state.best_ap):
        state.idle += 1
        return
    state.best_ap, state.best_epoch, state.idle = ap, epoch, 0
    if run is not None:
        info = _info(state, epoch)
        info["ap"], info["validation_images"] = ap, report.images if report else 0
        save_checkpoint(run.best, weights, config, {**info, **points_as_metadata(report.points if report else None)})


def keep_range(
    run: RunDir, config: Config, weights: Mapping[str, Tensor], look: Callable[[Mapping[str, Tensor]], FaceRange | None]
) -> tuple[FaceRange | None, FaceRange | None]:
    """Measure which sizes of faces the last weights find and which the best, and write the latter into best.pt.

    look: measures weights
    Returns both.
    """
    last = look(weights)
    best = load_checkpoint(run.best)
    same = all(torch.equal(value, weights[name].cpu()) for name, value in best.state.items())
    found = last if same else look(best.state)
    save_checkpoint(run.best, best.state, best.config or config, {**best.info, **as_metadata(found)})
    return last, found


class Contest:
    """The validations of this process, to say which other weights the chosen ones cannot be told apart from."""

    def __init__(self) -> None:
        self.known: dict[int, Estimate] = {}

    def add(self, epoch: int, report: ValidationResult) -> None:
        """Remember a validation."""
        if report.estimate is not None and len(report.estimate.samples):
            self.known[epoch] = report.estimate

    def sentence(self, best: int | None, resampling: Resampling) -> str:
        """What the choice of an epoch is worth; empty where nothing can be said, or the others are clearly worse."""
        if best not in self.known:
            return ""
        chosen = self.known[best]
        others = {
            epoch: difference_of(chosen, other, resampling) for epoch, other in self.known.items() if epoch != best
        }
        near = [epoch for epoch, found in holm(others).items() if found.told is False]
        if not near:
            return ""
        span = brackets(chosen.low, chosen.high, 3)
        epochs = f"epoch {near[0] + 1}" if len(near) == 1 else f"{len(near)} other epochs ({_listed(near)})"
        return (
            f"best.pt is epoch {best + 1}, AP {chosen.value:.3f}{span and ' ' + span}; {epochs} cannot be told apart "
            f"from it on these {len(resampling.strata):,} images: the choice between them is within noise"
        )


def _listed(epochs: list[int]) -> str:
    """The last few epochs, counted from 1."""
    shown = ", ".join(str(epoch + 1) for epoch in epochs[-_SHOWN:])
    return shown if len(epochs) <= _SHOWN else f"… {shown}"


def keep_numbered(run: RunDir, config: Config, state: TrainState, epoch: int, weights: Mapping[str, Tensor]) -> None:
    """Write the weights under the number of their step, and remove the oldest ones past `train.keep_last`."""
    save_checkpoint(run.numbered(state.step), weights, config, _info(state, epoch))
    if config.train.keep_last is not None:
        for path in run.all_numbered()[: -config.train.keep_last]:
            path.unlink(missing_ok=True)


def _info(state: TrainState, epoch: int) -> WeightsInfo:
    info: WeightsInfo = {"facetrain": __version__, "epoch": epoch + 1, "step": state.step}
    if state.teacher is not None:
        info["teacher"] = state.teacher
    return info
