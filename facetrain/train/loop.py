"""The training run, top to bottom."""

import time
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from facetrain.config.schema import Config
from facetrain.core.files import sha256
from facetrain.core.run_dir import RunDir, held, new_run
from facetrain.data.batches import ahead, epoch_batches
from facetrain.model.detector import torch_device
from facetrain.model.weights import load_checkpoint
from facetrain.model.yunet import build
from facetrain.train.accelerate import accelerated
from facetrain.train.best import keep_best, validate
from facetrain.train.distributed import check_batch, check_same, join
from facetrain.train.ema import Ema
from facetrain.train.environment import describe_environment, interruptible
from facetrain.train.events import Events, LogEvents, tell_progress
from facetrain.train.hardware import memory_errors, tuned_kernels
from facetrain.train.joint_norm import join_norms
from facetrain.train.metrics import MetricsLog, draw_curves
from facetrain.train.optim import gradient_limit, learning_rate, make_optimizer
from facetrain.train.prepare import plan, prepare, tell_cost
from facetrain.train.preview import draw_batch
from facetrain.train.state import (
    Saved,
    TrainState,
    check_same_data,
    check_writable,
    load_state,
    remove_scratch,
    restore,
    save_state,
    saved_config,
    saving_on_failure,
    start_from,
)
from facetrain.train.step import make_step, seen_finite
from facetrain.train.validation import ValidationResult, format_ap
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
    data: str = ""  # the folder of pictures
    official: bool = False  # whether its validation pictures are WIDER FACE's, with their official ground truth


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

    Where this process is one of several (train/launch.py, torchrun) they train one model together. What the first one
    was given counts for all, and it alone writes.
    """
    place = torch_device(device)
    with join(place) as world:
        events = events if events is not None and world.leads else LogEvents()

        def begin() -> tuple[Config, Saved | None, RunDir]:
            saved = load_state(resume) if resume else None
            given = saved_config(saved, resume.last) if resume and saved else config or Config()
            chosen = resume or new_run(runs, name, config_name)
            if not dry_run:
                check_writable(chosen)
            return given, saved, chosen

        # what can be refused is refused here, before pictures are decoded
        config, saved, planned = world.share(begin)
        run = planned if world.leads and not dry_run else None  # what is written
        train = config.train
        check_batch(train.batch, world)
        start = load_checkpoint(weights) if weights is not None and world.leads else None
        setup = prepare(config, place, events, world)
        for line in plan(setup):
            events.note(line)
        data = len(setup.store.pictures), sha256(setup.split.labels)
        check_same("the training data", data, world)

        model = build(config.model, train.seed).to(place).train()
        if start is not None:
            start_from(model, start, events)
        world.spread(model)
        join_norms(model, world, place)
        optimizer = make_optimizer(model, train)
        ema = Ema(model, train.ema) if train.ema is not None else None
        state = restore(saved, model, ema, optimizer) if saved is not None else TrainState(0, 0, *data)
        check_same_data(state, *data)
        gradients = accelerated(setup, model, setup.total_steps - state.step, max_time, events)
        limit = gradient_limit(train, setup.total_steps)
        step = make_step(model, optimizer, train, setup.dtype, limit, world, None if dry_run else gradients)
        window = Window(setup)
        save = partial(save_state, run, config, state, model, ema, optimizer) if run is not None else _nothing

        report: ValidationResult | None = None
        started = saved_at = time.monotonic()
        stop = time_is_up = False

        alone = held(run) if run is not None else nullcontext()
        with (
            alone,
            interruptible(events.note) as asked,
            saving_on_failure(run, save, window.all_finite),
            memory_errors(),
            tuned_kernels(True),
        ):
            if run is not None:
                remove_scratch(run)
                if saved is None:
                    save()  # from now on the run can be resumed, whatever happens
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
                    part=world.part(train.batch),
                )
                window.restart()
                # a GPU computes while the next batch is made; on a CPU both would only fight for the cores
                for crops, batch in window.timed(ahead(batches, device=place) if place.type == "cuda" else batches):
                    if state.step == 0 and run is not None:
                        draw_batch(batch, config.model.landmarks.names, run.first_batch)
                    rate = learning_rate(train, epoch, state.step, setup.total_steps)
                    for group in optimizer.param_groups:
                        group["lr"] = rate
                    losses = step(batch)
                    state.step += 1
                    window.add(state.step, crops, losses)
                    if window.due or not seen_finite(losses):
                        tell_progress(window.close(epoch, rate, state.best_ap), metrics, events)
                    if ema is not None:
                        ema.update(model, state.step - 1)
                    late = max_time is not None and time.monotonic() - started > max_time
                    stop, time_is_up = world.any(asked.is_set(), late)
                    if stop or time_is_up or dry_run:
                        break
                    if window.looked_at and time.monotonic() - saved_at > _SAVE_EVERY_S:
                        save()
                        saved_at = time.monotonic()
                if not window.looked_at:
                    tell_progress(window.close(epoch, rate, state.best_ap), metrics, events)
                if dry_run:
                    tell_cost(setup, time.monotonic() - started, events)
                    break
                if stop:
                    save()
                    if run is not None:
                        draw_curves(run)
                    break
                done = state.step == setup.total_steps or time_is_up
                weights_now = ema.state if ema else model.state_dict()
                if setup.val is None:
                    keep_best(run, config, state, None, epoch, weights_now)
                elif done or (epoch + 1) % config.eval.every == 0:
                    report = validate(setup, setup.val, weights_now, events, asked)
                    if report is None:
                        stop = True
                        save()
                        break
                    metrics.write("val", state.step, epoch=epoch, **report.as_dict())
                    keep_best(run, config, state, report, epoch, weights_now)
                    for problem in report.unreadable[:5]:
                        events.note(f"warning: not validated on, counted as without detections: {problem}")
                    events.note(f"epoch {epoch + 1}: {report}, best {format_ap(state.best_ap)}")
                if state.step == (epoch + 1) * setup.steps_per_epoch:
                    state.epoch = epoch + 1
                save()
                saved_at = time.monotonic()
                if run is not None:
                    draw_curves(run)
                if time_is_up:
                    break
            metrics.close()
        setup.store.close()
        return TrainResult(
            run=None if dry_run else planned,
            step=state.step,
            total_steps=setup.total_steps,
            ap=report.ap if report else None,
            best_ap=state.best_ap,
            best_epoch=None if state.best_epoch is None else state.best_epoch + 1,
            interrupted=stop and state.epoch < train.epochs,
            data=str(setup.root),
            official=setup.val is not None and setup.val.truth is not None,
        )


def _nothing() -> None:
    """What a process that does not write does instead."""
