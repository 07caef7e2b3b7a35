"""The training run, top to bottom."""

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from facetrain.config.load import config_to_yaml
from facetrain.config.schema import Config
from facetrain.core.cache import user_cache
from facetrain.core.files import write_text
from facetrain.core.run_dir import RunDir
from facetrain.data.batches import ahead, epoch_batches
from facetrain.model.detector import torch_device
from facetrain.model.weights import load_checkpoint
from facetrain.model.yunet import build
from facetrain.train.accelerate import accelerated
from facetrain.train.begin import Beginning, begin_again, begin_new
from facetrain.train.best import Contest, keep_best, keep_numbered, validate
from facetrain.train.distributed import check_batch, check_same, join
from facetrain.train.ema import Ema
from facetrain.train.environment import describe_environment, interruptible
from facetrain.train.events import Events, LogEvents, tell_progress
from facetrain.train.first_look import find_faces
from facetrain.train.hardware import memory_errors, tuned_kernels
from facetrain.train.joint_norm import join_norms
from facetrain.train.metrics import MetricsLog, draw_curves
from facetrain.train.optim import gradient_limit, make_optimizer, set_rate
from facetrain.train.pace import Budget, Clock, Pace
from facetrain.train.prepare import Setup, plan, prepare, tell_cost
from facetrain.train.preview import draw_batch
from facetrain.train.state import (
    TrainState,
    check_same_data,
    remove_scratch,
    restore,
    save_state,
    saving_on_failure,
    start_from,
)
from facetrain.train.step import Task, make_step, seen_finite
from facetrain.train.teacher import TeacherFile, make_teacher
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
    validated: bool = True  # whether there are validation pictures
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
    data: str | None = None,
    teacher: str | None = None,
    budget: float | None = None,
    max_time: float | None = None,
    dry_run: bool = False,
    events: Events | None = None,
    clock: Clock = time.monotonic,
) -> TrainResult:
    """Train a detector, or continue a run.

    config:   what to train, by default the published YuNet-n; `resume` brings its own
    weights:  a checkpoint to start from (fine-tuning)
    data, teacher: where these lie now for a run that is resumed; a new run's stand in its configuration
    budget:   seconds that a new run may take; its steps are planned so that its schedule ends with them
    max_time: seconds after which the run saves, validates and stops, wherever its schedule is
    dry_run:  tell the plan and train one step; nothing is written
    clock:    seconds from anywhere, for budget and max_time
    Raises a FacetrainError for whatever a user can mend; all it tells goes through `events`.

    Where this process is one of several (train/launch.py, torchrun) they train one model together. What the first one
    was given counts for all, and it alone writes.
    """
    place = torch_device(device)
    began = clock()
    with join(place) as world, ExitStack() as hold:
        events = events if events is not None and world.leads else LogEvents()

        def begin() -> Beginning:
            if resume is not None:
                return begin_again(resume, data, teacher, hold, dry_run=dry_run)
            return begin_new(config or Config(), runs, name, config_name, hold, dry_run=dry_run)

        # what can be refused is refused here, before pictures are decoded
        beginning = world.share(begin)
        now, saved, planned, taught = beginning.config, beginning.saved, beginning.run, beginning.teacher
        for line in beginning.notes:
            events.note(line)
        run = planned if world.leads and not dry_run else None  # what is written
        train = now.train
        check_batch(train.batch, world)
        start = load_checkpoint(weights) if weights is not None and world.leads else None
        setup = prepare(now, place, events, world)
        contents = len(setup.store.pictures), setup.data
        check_same("the training data", contents, world)

        model = build(now.model, train.seed).to(place).train()
        if start is not None:
            start_from(model, start, events)
        world.spread(model)
        join_norms(model, world, place)
        optimizer = make_optimizer(model, train)
        ema = Ema(model, train.ema) if train.ema is not None else None
        new = TrainState(0, 0, *contents, teacher=taught.sha256 if taught else None, budget=budget)
        state = restore(saved, model, ema, optimizer) if saved is not None else new
        check_same_data(state, *contents)
        pace = Pace(
            now,
            setup.steps_per_epoch,
            None if state.budget is None else Budget(state.budget, state.spent),
            clock,
            began=began,
            validation_steps=setup.validation_steps,
        )
        for line in plan(setup, pace):
            events.note(line)
        task = Task(train, setup.dtype, world, make_teacher(taught, place) if taught else None)
        seconds = [left for left in (max_time, pace.left()) if left is not None]
        gradients = accelerated(setup, model, task, pace, state.step, min(seconds, default=None), events)
        if task.teacher is not None and taught is not None and setup.labels is None:
            look_first(setup, task, taught, events)
        limit = gradient_limit(train, None if pace.plan is not None else pace.total)
        step = make_step(model, optimizer, task, limit, None if dry_run else gradients)
        window = Window(setup, pace)

        def save() -> None:
            if state.budget is not None:
                state.spent = pace.spent()
            if run is not None:
                save_state(run, now, state, model, ema, optimizer)

        report: ValidationResult | None = None
        contest = Contest()
        started = saved_at = clock()
        stop = time_is_up = False

        with (
            interruptible(events.note) as asked,
            saving_on_failure(run, save, window.all_finite),
            memory_errors(),
            tuned_kernels(True),
        ):
            if run is not None:
                remove_scratch(run)
                if saved is None:
                    save()  # from now on the run can be resumed, whatever happens
                describe_environment(run, now, setup, taught)
                events.note(f"run: {run.path}" + (f", going on after step {state.step:,}" if resume else ""))
            metrics = MetricsLog(run, state.step, state.epoch)
            while not pace.over((epoch := state.epoch) * setup.steps_per_epoch):
                batches = epoch_batches(
                    setup.store,
                    now.data,
                    now.model.landmarks,
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
                        draw_batch(batch, now.model.landmarks.names, run.first_batch)
                    rate = pace.rate(epoch, state.step)
                    set_rate(optimizer, rate)
                    losses = step(batch)
                    state.step += 1
                    window.add(state.step, crops, losses)
                    if (decision := pace.look_at_clock(state.step, world)) is not None:
                        now = follow(decision.line, now, pace, run, metrics, state.step, events)
                    if window.due or not seen_finite(losses):
                        tell_progress(window.close(epoch, rate, state.best_ap), metrics, events)
                    if ema is not None:
                        ema.update(model, state.step - 1)
                    late = max_time is not None and clock() - started > max_time
                    stop, time_is_up = world.any(asked.is_set(), late)
                    if stop or time_is_up or dry_run or pace.over(state.step):
                        break
                    if window.looked_at and clock() - saved_at > _SAVE_EVERY_S:
                        save()
                        saved_at = clock()
                if not window.looked_at:
                    tell_progress(window.close(epoch, rate, state.best_ap), metrics, events)
                if dry_run:
                    tell_cost(setup, pace, clock() - started, events)
                    break
                if stop:
                    save()
                    if run is not None:
                        draw_curves(run)
                    break
                done = pace.over(state.step) or time_is_up
                weights_now = ema.state if ema else model.state_dict()
                if setup.val is None:
                    keep_best(run, now, state, None, epoch, weights_now)
                elif done or pace.worth_validating(epoch, state.step, world):
                    asleep = clock()
                    report = validate(setup, setup.val, weights_now, events, asked)
                    pace.validated(clock() - asleep)
                    if report is None:
                        stop = True
                        save()
                        break
                    metrics.write("val", state.step, epoch=epoch, **report.as_dict())
                    keep_best(run, now, state, report, epoch, weights_now)
                    contest.add(epoch, report)
                    for problem in report.unreadable[:5]:
                        events.note(f"warning: not validated on, counted as without detections: {problem}")
                    events.note(f"epoch {epoch + 1}: {report}, best {format_ap(state.best_ap)}")
                if run is not None and pace.due(train.keep_every, epoch, state.step):
                    keep_numbered(run, now, state, epoch, weights_now)
                if state.step == (epoch + 1) * setup.steps_per_epoch or pace.over(state.step):
                    state.epoch = epoch + 1
                save()
                saved_at = clock()
                if run is not None:
                    draw_curves(run)
                if time_is_up:
                    break
            metrics.close()
            if setup.val is not None and (line := contest.sentence(state.best_epoch, setup.val.resampling)):
                events.note(line)
        setup.store.close()
        return TrainResult(
            run=None if dry_run else planned,
            step=state.step,
            total_steps=pace.total or state.step,
            ap=report.ap if report else None,
            best_ap=state.best_ap,
            best_epoch=None if state.best_epoch is None else state.best_epoch + 1,
            interrupted=stop and not pace.over(state.epoch * setup.steps_per_epoch),
            data=str(setup.root),
            validated=setup.val is not None,
            official=setup.val is not None and setup.val.official,
        )


def look_first(setup: Setup, task: Task, taught: TeacherFile, events: Events) -> None:
    """Where no labels say where faces are, the teacher does."""
    assert task.teacher is not None

    def progress(done: int, total: int) -> None:
        events.work("the teacher looks for faces", done, total)

    folder = user_cache() / "facetrain" / "faces"
    with setup.world.one_after_the_other():
        count = find_faces(setup.store, task.teacher, taught.sha256, setup.dtype, folder, progress)
    events.note(f"the teacher sees {count:,} faces; training windows are drawn around them")


def follow(
    line: str, config: Config, pace: Pace, run: RunDir | None, metrics: MetricsLog, step: int, events: Events
) -> Config:
    """Say and write down a new plan. Returns the configuration that holds it: with that a repeat needs no clock."""
    config = replace(config, train=replace(config.train, plan=pace.plan))
    if line:
        events.note(line)
    metrics.write("plan", step, total=pace.total)
    if run is not None:
        write_text(run.config, config_to_yaml(config))
    return config
