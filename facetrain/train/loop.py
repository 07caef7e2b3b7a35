"""The training run, top to bottom."""

import threading
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from facetrain import __version__
from facetrain.config.schema import Config
from facetrain.core.errors import TrainingError
from facetrain.core.files import sha256
from facetrain.core.run_dir import RunDir, held, new_run
from facetrain.data.batches import ahead, epoch_batches
from facetrain.model.detector import ModelDetector, torch_device
from facetrain.model.weights import Checkpoint, fit_weights, load_checkpoint, save_checkpoint
from facetrain.model.yunet import YuNet, build
from facetrain.train.ema import Ema
from facetrain.train.environment import describe_environment, interruptible
from facetrain.train.events import Events, LogEvents, Progress
from facetrain.train.hardware import memory_errors, peak_memory
from facetrain.train.metrics import MetricsLog, draw_curves
from facetrain.train.optim import gradient_limit, learning_rate, make_optimizer
from facetrain.train.prepare import Setup, plan, prepare
from facetrain.train.preview import draw_batch
from facetrain.train.state import TrainState, check_same_data, load_state, restore, save_state, saved_config
from facetrain.train.step import make_step, seen_finite
from facetrain.train.validation import Validation, ValidationResult, format_ap
from facetrain.train.window import Window

_SAVE_EVERY_S = 120.0


@dataclass(frozen=True)
class TrainResult:
    """How a run ended. `run` is None after a dry run; `ap` is the last validation's."""

    run: RunDir | None
    step: int
    total_steps: int
    ap: float | None
    best_ap: float | None
    best_epoch: int | None  # counted from 1
    interrupted: bool


def train_model(
    config: Config | None = None,
    *,
    config_name: str = "run",
    device: str = "cpu",
    runs: Path = Path("runs"),
    name: str | None = None,
    resume: RunDir | None = None,
    weights: Path | None = None,
    max_time: float | None = None,
    dry_run: bool = False,
    events: Events | None = None,
) -> TrainResult:
    """Train a detector, or continue a run.

    config:   what to train, by default the published YuNet-n; `resume` brings its own
    weights:  a checkpoint to start from (fine-tuning)
    max_time: seconds after which the run saves, validates and stops
    dry_run:  tell the plan and train one step; nothing is written
    Raises a FacetrainError for whatever a user can mend; all it tells goes through `events`.
    """
    events = events or LogEvents()
    saved = load_state(resume) if resume else None
    if saved is not None and resume is not None:
        config = saved_config(saved, resume.last)
    config = config or Config()
    train = config.train
    # what can be refused is refused here, before pictures are decoded
    planned = resume or new_run(runs, name, config_name)
    run = None if dry_run else planned
    start = load_checkpoint(weights) if weights is not None else None
    setup = prepare(config, torch_device(device), events)
    for line in plan(setup):
        events.note(line)

    model = build(config.model, train.seed).to(setup.device).train()
    if start is not None:
        start_from(model, start, events)
    optimizer = make_optimizer(model, train)
    ema = Ema(model, train.ema) if train.ema is not None else None
    data = len(setup.store.pictures), sha256(setup.split.labels)
    state = restore(saved, model, ema, optimizer) if saved is not None else TrainState(0, 0, *data)
    check_same_data(state, *data)
    step = make_step(model, optimizer, train, setup.dtype, gradient_limit(train, setup.total_steps))
    window = Window(setup.total_steps, setup.steps_per_epoch, setup.store.pictures)

    report: ValidationResult | None = None
    started = saved_at = time.monotonic()
    time_is_up = False

    alone = held(run) if run is not None else nullcontext()
    with alone, interruptible(events.note) as interrupted, memory_errors():
        if run is not None:
            describe_environment(run, setup)
            events.note(f"run: {run.path}" + (f", going on after step {state.step:,}" if resume else ""))
        metrics = MetricsLog(run, state.step, state.epoch)
        for epoch in range(state.epoch, train.epochs):
            batches = epoch_batches(
                setup.store,
                config.data,
                config.model.landmarks,
                batch=train.batch,
                seed=train.seed,
                epoch=epoch,
                first_step=state.step - epoch * setup.steps_per_epoch,
            )
            # a GPU computes while the next batch is made; on a CPU both would only fight for the cores
            window.restart()
            for crops, batch in window.timed(ahead(batches) if setup.device.type == "cuda" else batches):
                if state.step == 0 and run is not None:
                    draw_batch(batch, config.model.landmarks.names, run.first_batch)
                rate = learning_rate(train, epoch, state.step, setup.total_steps)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                losses = step(batch)
                state.step += 1
                window.add(state.step, crops, losses)
                if window.due or not seen_finite(losses):
                    tell_progress(window.close(epoch, train.epochs, rate), metrics, events)
                if ema is not None:
                    ema.update(model, state.step - 1)
                time_is_up = max_time is not None and time.monotonic() - started > max_time
                if interrupted.is_set() or time_is_up or dry_run:
                    break
                if run is not None and window.looked_at and time.monotonic() - saved_at > _SAVE_EVERY_S:
                    save_state(run, config, state, model, ema, optimizer)
                    saved_at = time.monotonic()
            if not window.looked_at:
                tell_progress(window.close(epoch, train.epochs, rate), metrics, events)
            if run is None:
                tell_cost(setup, time.monotonic() - started, events)
                break
            if interrupted.is_set():
                save_state(run, config, state, model, ema, optimizer)
                draw_curves(run)
                break
            done = state.step == setup.total_steps or time_is_up
            weights_now = ema.state if ema else model.state_dict()
            if setup.val is None:
                keep_best(run, config, state, None, epoch, weights_now)
            elif done or (epoch + 1) % config.eval.every == 0:
                report = validate(setup, setup.val, weights_now, events, interrupted)
                if report is None:
                    save_state(run, config, state, model, ema, optimizer)
                    break
                metrics.write("val", state.step, epoch=epoch, **report.as_dict())
                keep_best(run, config, state, report, epoch, weights_now)
                for problem in report.unreadable[:5]:
                    events.note(f"warning: not validated on, counted as without detections: {problem}")
                events.note(f"epoch {epoch + 1}: {report}, best {format_ap(state.best_ap)}")
            if state.step == (epoch + 1) * setup.steps_per_epoch:
                state.epoch = epoch + 1
            save_state(run, config, state, model, ema, optimizer)
            saved_at = time.monotonic()
            draw_curves(run)
            if time_is_up:
                break
    metrics.close()
    setup.store.close()
    return TrainResult(
        run=run,
        step=state.step,
        total_steps=setup.total_steps,
        ap=report.ap if report else None,
        best_ap=state.best_ap,
        best_epoch=None if state.best_epoch is None else state.best_epoch + 1,
        interrupted=interrupted.is_set() and state.epoch < train.epochs,
    )


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


def tell_progress(progress: Progress, metrics: MetricsLog, events: Events) -> None:
    """Write a line of metrics and pass it on."""
    metrics.write(
        "train",
        progress.step,
        epoch=progress.epoch,
        lr=progress.lr,
        losses=progress.losses,
        positives=progress.positives,
        images_per_s=round(progress.images_per_s, 2),
        wait_share=round(progress.wait_share, 4),
    )
    events.progress(progress)


def tell_cost(setup: Setup, step_seconds: float, events: Events) -> None:
    """What the whole run will take, judged by its first step, which is slower than the later ones."""
    minutes = round(step_seconds * setup.total_steps / 60)
    text = (
        f"one step took {step_seconds:.1f} s: at most about {minutes // 60} h {minutes % 60:02} min for the whole run"
    )
    peak = peak_memory(setup.device)
    events.note(text + ", validation not counted" + (f"; memory so far {peak / 2**30:.1f} GiB" if peak else ""))


def validate(
    setup: Setup, val: Validation, state: Mapping[str, Tensor], events: Events, interrupted: threading.Event
) -> ValidationResult | None:
    """AP of weights over the validation pictures, in float32; None if the run is to stop: resuming makes up for it."""
    model = build(setup.config.model).to(setup.device)
    model.load_state_dict(state)
    detector = ModelDetector(model, score=setup.config.eval.score, nms=setup.config.eval.nms)
    return val.measure(detector, lambda done, total: events.work("validating", done, total), interrupted.is_set)


def keep_best(
    run: RunDir,
    config: Config,
    state: TrainState,
    report: ValidationResult | None,
    epoch: int,
    weights: Mapping[str, Tensor],
) -> None:
    """Write best.pt if this validation is the best so far; without any validation the last weights are the best."""
    ap = report.ap if report else None
    if report is not None and state.best_ap is not None and (ap is None or ap <= state.best_ap):
        return
    state.best_ap, state.best_epoch = ap, epoch
    info = {
        "facetrain": __version__,
        "epoch": epoch + 1,
        "step": state.step,
        "ap": ap,
        "validation_pictures": report.images if report else 0,
    }
    save_checkpoint(run.best, weights, config, info)
