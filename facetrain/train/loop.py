"""The training run, top to bottom."""

import time
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from facetrain.config.schema import Config
from facetrain.core.files import user_cache
from facetrain.core.run_dir import RunDir
from facetrain.data.batches import epoch_batches
from facetrain.data.mixture import epoch_length
from facetrain.detect.find_weights import find_weights
from facetrain.model.detector import torch_device
from facetrain.model.weights import Checkpoint, load_checkpoint
from facetrain.model.yunet import YuNet, build
from facetrain.train.accelerate import accelerated
from facetrain.train.ema import Ema
from facetrain.train.events import Events, LogEvents
from facetrain.train.optim.optimizers import gradient_limit, make_optimizer
from facetrain.train.optim.pace import Budget, Clock, Pace
from facetrain.train.parallel.lanes import GroupGradients
from facetrain.train.parallel.sync_batch_norm import join_norms
from facetrain.train.parallel.world import World, check_batch, check_same, join
from facetrain.train.prepare import Setup, plan, prepare
from facetrain.train.run.begin import Beginning, begin_again, begin_new
from facetrain.train.run.checkpoint import TrainState, check_same_data, remove_scratch, restore, start_from
from facetrain.train.run.ending import Ending
from facetrain.train.run.environment import describe_environment
from facetrain.train.settle_norms import CROPS, settle_norms
from facetrain.train.sources import unlabelled_of
from facetrain.train.step import Task, make_step
from facetrain.train.teacher import TeacherFile, make_teacher
from facetrain.train.teacher_maps import watch_alike
from facetrain.train.training import Training
from facetrain.train.unlabelled import find_faces


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
    data: str = ""  # the folder of images
    validated: bool = True  # whether there are validation images
    gave_up: bool = False  # whether `train.patience` ended it before its last epoch
    official: bool = False  # whether its validation images are WIDER FACE's, with their official ground truth


def train_model(
    config: Config | None = None,
    *,
    config_name: str = "run",
    device: str = "cpu",
    runs: str | Path = "runs",
    name: str | None = None,
    resume: RunDir | None = None,
    weights: str | Path | None = None,
    data: str | Sequence[str] | None = None,
    teacher: str | None = None,
    budget: float | None = None,
    max_time: float | None = None,
    dry_run: bool = False,
    events: Events | None = None,
    clock: Clock = time.monotonic,
) -> TrainResult:
    """Train a detector, or continue a run.

    config:   what to train, by default the published YuNet-n; `resume` brings its own
    weights:  what to start from (fine-tuning): a checkpoint, a YuNet's ONNX file, a run or a name, see `find_weights`
    data, teacher: where these lie now for a run that is resumed, of several sets all in their order; a new run's stand
              in its configuration
    budget:   seconds that a new run may take; its steps are planned so that its schedule ends with them
    max_time: seconds after which the run saves, validates and stops, wherever its schedule is
    dry_run:  tell the plan and train one step; nothing is written
    clock:    seconds from anywhere, for budget and max_time
    Raises a FacetrainError for whatever a user can mend; all it tells goes through `events`.

    Where this process is one of several (parallel/launch.py, torchrun) they train one model together. What the first
    one was given counts for all, and it alone writes.
    """
    limits = Limits(budget, max_time, dry_run, clock, clock())
    place = torch_device(device)
    places = [data] if isinstance(data, str) else list(data or ())
    with join(place) as world, ExitStack() as hold:
        events = events if events is not None and world.is_rank_0 else LogEvents()

        def begin() -> Beginning:
            if weights is not None:
                find_weights(weights, "train", Path(runs))
            if resume is not None:
                return begin_again(resume, places, teacher, hold, dry_run=dry_run)
            return begin_new(config or Config(), Path(runs), name, config_name, hold, dry_run=dry_run)

        # what can be refused is refused here, before images are decoded
        beginning = world.share(begin)
        for line in beginning.notes:
            events.note(line)
        check_batch(beginning.config.train.batch, world)
        start = None
        if weights is not None and world.is_rank_0:
            start = load_checkpoint(find_weights(weights, "train", Path(runs)))
        training = assemble(beginning, start, place, world, limits, events)
        if training.groups is not None:
            hold.callback(torch.set_num_threads, torch.get_num_threads())
            hold.callback(training.groups.close)
            torch.set_num_threads(training.groups.division.threads)  # of each lane; the lanes are the parallelism
        with training.guarded() as ending:
            if training.run is not None:
                open_run(training, training.run, beginning)
            training.run_all(ending)
        training.setup.store.close()
        return result_of(training, ending, None if dry_run else beginning.run)


@dataclass(frozen=True)
class Limits:
    """How long a run may take, see `train_model`. began: when, by the clock, it was called."""

    budget: float | None
    max_time: float | None
    dry_run: bool
    clock: Clock
    began: float


def assemble(
    beginning: Beginning, start: Checkpoint | None, place: torch.device, world: World, limits: Limits, events: Events
) -> Training:
    """Images, model, optimizer, schedule and step of a run, as they are at its first step or where it goes on."""
    config, saved, taught = beginning.config, beginning.saved, beginning.teacher
    train = config.train
    setup = prepare(config, place, events, world)
    contents = len(setup.store.images), setup.data
    check_same("the training data", contents, world)
    model = build(config.model, train.seed).to(place).train()
    if start is not None:
        taken = start_from(model, start, events)
        if start.folded:
            settle(model, taken, setup, events)
    world.broadcast(model)
    join_norms(model, world, place)
    optimizer = make_optimizer(model, train)
    ema = Ema(model, train.ema) if train.ema is not None else None
    samples = epoch_length(setup.store.images, config.data.roots)
    new = TrainState(0, 0, *contents, teacher=taught.sha256 if taught else None, budget=limits.budget, samples=samples)
    state = restore(saved, model, ema, optimizer) if saved is not None else new
    check_same_data(state, *contents)
    pace = make_pace(config, setup, state, limits)
    for line in plan(setup, pace):
        events.note(line)
    task = Task(train, setup.dtype, world, make_teacher(taught, place) if taught else None)
    if task.teacher is not None and train.teacher_maps:
        events.note(watch_alike(model, task.teacher))
    seconds = [left for left in (limits.max_time, pace.left()) if left is not None]
    gradients = accelerated(setup, model, task, pace, state.step, min(seconds, default=None), events)
    unlabelled = unlabelled_of(setup.store.images, config)
    if task.teacher is not None and taught is not None and unlabelled:
        look_first(setup, unlabelled, task, taught, events)
    most = gradient_limit(train, None if pace.plan is not None else pace.total)
    groups = gradients if isinstance(gradients, GroupGradients) else None
    step = make_step(model, optimizer, task, most, groups if limits.dry_run else gradients)  # nothing is compiled
    run = beginning.run if world.is_rank_0 and not limits.dry_run else None
    return Training(
        *(config, run, setup, world, model, optimizer, ema, state, pace, step, events),
        *(limits.clock, limits.max_time, limits.dry_run),
        groups=groups,
    )


def make_pace(config: Config, setup: Setup, state: TrainState, limits: Limits) -> Pace:
    """How many steps there are, and which is due when."""
    budget = None if state.budget is None else Budget(state.budget, state.spent)
    return Pace(
        config,
        setup.steps_per_epoch,
        budget,
        limits.clock,
        began=limits.began,
        validation_steps=setup.validation_steps,
    )


def open_run(training: Training, run: RunDir, beginning: Beginning) -> None:
    """Write what a run's folder has before the first step."""
    remove_scratch(run)
    if beginning.saved is None:
        training.save()  # from now on the run can be resumed, whatever happens
    describe_environment(run, training.config, training.setup, beginning.teacher)
    where = "finished" if training.over else "going on"
    step = "" if beginning.saved is None else f", {where} after step {training.state.step:,}"
    training.events.note(f"run: {run.path}{step}")


def result_of(training: Training, ending: Ending, run: RunDir | None) -> TrainResult:
    """How the run ended."""
    state, val = training.state, training.setup.val
    return TrainResult(
        run=run,
        step=state.step,
        total_steps=training.pace.total or state.step,
        ap=training.report.ap if training.report else None,
        best_ap=state.best_ap,
        best_epoch=None if state.best_epoch is None else state.best_epoch + 1,
        interrupted=ending.interrupted and not training.over,
        data=str(training.setup.root),
        validated=val is not None,
        gave_up=training.out_of_patience and not training.pace.over(state.step),
        official=val is not None and val.official,
    )


def settle(model: YuNet, taken: Collection[str], setup: Setup, events: Events) -> None:
    """Make the norms of weights that came without such that training begins with the network as it is."""
    norms = [conv.norm for conv in model.network.convs if conv.norm is not None and f"{conv.norm}.weight" in taken]
    size = min(setup.config.train.batch, CROPS)
    batches = epoch_batches(
        setup.store, setup.config.data, setup.config.model.landmarks, batch=size, seed=setup.config.train.seed, epoch=0
    )
    settle_norms(model, norms, (batch.images for _, batch in islice(batches, -(-CROPS // size))))
    events.note("the file has no batch norms: they begin with what training crops show, and change nothing yet")


def look_first(setup: Setup, images: Sequence[int], task: Task, taught: TeacherFile, events: Events) -> None:
    """Where no labels say where faces are, the teacher does. images: their indices."""
    assert task.teacher is not None

    def progress(done: int, total: int) -> None:
        events.work("the teacher looks for faces", done, total)

    folder = user_cache() / "facetrain" / "faces"
    with setup.world.one_after_the_other():
        count = find_faces(setup.store, images, task.teacher, taught.sha256, setup.dtype, folder, progress)
    where = "" if len(images) == len(setup.store.images) else f" in {len(images):,} images without labels"
    events.note(f"the teacher sees {count:,} faces{where}; training windows are drawn around them")
