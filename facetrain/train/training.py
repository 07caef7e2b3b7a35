"""A run under way: what it is made of, an epoch of it, and what follows an epoch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from facetrain.config.load import config_to_yaml
from facetrain.config.schema import Config
from facetrain.core.files import write_text
from facetrain.core.run_dir import RunDir
from facetrain.data.batch import Batch
from facetrain.data.batch_sheet import draw_batch
from facetrain.data.batches import Share, ahead, epoch_batches, epoch_shares, side_stream
from facetrain.data.crops import Crop
from facetrain.detect.face_range import FaceRange
from facetrain.model.exact import exact_float32
from facetrain.model.yunet import YuNet
from facetrain.train.ema import Ema
from facetrain.train.events import Events, tell_progress
from facetrain.train.face_sizes import find_range, validation_faces
from facetrain.train.machine import StepsAhead, memory_errors, tuned_kernels
from facetrain.train.optim.optimizers import set_rate
from facetrain.train.optim.pace import Clock, Pace
from facetrain.train.parallel.lanes import GroupGradients
from facetrain.train.parallel.world import World
from facetrain.train.prepare import Setup, tell_cost
from facetrain.train.run.best import Contest, keep_best, keep_numbered, keep_range, validate
from facetrain.train.run.checkpoint import TrainState, save_state, saving_on_failure
from facetrain.train.run.ending import Ending
from facetrain.train.run.environment import interruptible
from facetrain.train.run.metrics import MetricsLog, draw_curves
from facetrain.train.run.window import Window
from facetrain.train.step import seen_finite
from facetrain.train.validation import ValidationResult, format_ap

_SAVE_EVERY_S = 120.0


@dataclass
class Training:
    """A run of this process.

    config: as it is by now, the plan in it included
    run:    what is written; None in a dry run, and in a process that does not write
    step:   trains on a batch, or on its parts, and returns its losses
    groups: whose parts these are; None: the step takes whole batches
    report: of the last validation
    sizes:  of faces that the last weights find, once that has been measured
    """

    config: Config
    run: RunDir | None
    setup: Setup
    world: World
    model: YuNet
    optimizer: torch.optim.Optimizer
    ema: Ema | None
    state: TrainState
    pace: Pace
    step: Callable[[Any], dict[str, Tensor]]
    events: Events
    clock: Clock
    max_time: float | None
    dry_run: bool
    groups: GroupGradients | None = None
    report: ValidationResult | None = None
    sizes: FaceRange | None = None
    contest: Contest = field(default_factory=Contest)

    def __post_init__(self) -> None:
        """Start the clocks."""
        self.window = Window(self.setup, self.pace)
        self.stream, self.steps_ahead = side_stream(self.setup.device), StepsAhead(self.setup.device)
        self.started = self.saved_at = self.clock()

    def save(self) -> None:
        """Write last.pt."""
        if self.state.budget is not None:
            self.state.spent = self.pace.spent()
        if self.run is not None:
            save_state(self.run, self.config, self.state, self.model, self.ema, self.optimizer, self.sizes)

    @contextmanager
    def guarded(self) -> Iterator[Ending]:
        """Around all steps: a signal asks for the end, and an error saves what is good before it goes on."""
        with (
            interruptible(self.events.note) as asked,
            saving_on_failure(self.run, self.save, self.window.all_finite),
            memory_errors(),
            tuned_kernels(True),
            exact_float32(),
        ):
            yield Ending(self.pace, self.world, asked, self.clock, self.started, self.max_time, self.dry_run)

    def run_all(self, ending: Ending) -> None:
        """Epoch after epoch until the run is over, or should stop."""
        metrics = MetricsLog(self.run, self.state.step, self.state.epoch)
        while not self.over:
            self.run_epoch(metrics, ending)
            if not self.end_epoch(metrics, ending):
                break
        metrics.close()
        if self.out_of_patience:
            self.events.note(
                f"the end after epoch {self.state.epoch}: {self.state.idle} validations in a row brought nothing "
                f"better than AP {format_ap(self.state.best_ap)} (train.patience)"
            )
        val = self.setup.val
        if val is not None and (line := self.contest.sentence(self.state.best_epoch, val.resampling)):
            self.events.note(line)

    @property
    def lanes(self) -> int:
        """Threads that work side by side."""
        return self.groups.division.lanes if self.groups is not None else 1

    @property
    def over(self) -> bool:
        """Whether all epochs are done, or the rest is given up."""
        return self.pace.over(self.state.epoch * self.setup.steps_per_epoch) or self.out_of_patience

    @property
    def out_of_patience(self) -> bool:
        """Whether `train.patience` validations in a row have brought nothing better."""
        most = self.config.train.patience
        return most is not None and self.state.idle >= most

    def run_epoch(self, metrics: MetricsLog, ending: Ending) -> None:
        """The steps of the epoch that are left."""
        state, window = self.state, self.window
        window.restart()
        rate = 0.0
        for crops, batch in window.timed(self.batches()):
            if state.step == 0 and self.run is not None:
                first = batch if isinstance(batch, Batch) else Batch.joined([share() for share in batch])
                draw_batch(first, self.config.model.landmarks.names, self.run.first_batch)
            rate = self.pace.rate(state.epoch, state.step)
            set_rate(self.optimizer, rate)
            losses = self.step(batch)
            self.steps_ahead.after_step()
            state.step += 1
            window.add(state.step, crops, losses)
            self.follow_plan(metrics)
            if window.due or not seen_finite(losses):
                tell_progress(window.close(state.epoch, rate, state.best_ap), metrics, self.events)
            if self.ema is not None:
                self.ema.update(self.model, state.step - 1)
            if ending.after(state.step):
                break
            if window.looked_at and self.clock() - self.saved_at > _SAVE_EVERY_S:
                self.save()
                self.saved_at = self.clock()
        if not window.looked_at:
            tell_progress(window.close(state.epoch, rate, state.best_ap), metrics, self.events)

    def batches(self) -> Iterator[tuple[list[Crop], Batch | list[Share]]]:
        """What is left of the epoch, with the crops of each step: batches, or their parts where there are groups."""
        train, state = self.config.train, self.state
        first = state.step - state.epoch * self.setup.steps_per_epoch
        source = self.setup.store, self.config.data, self.config.model.landmarks
        if self.groups is not None:
            parts = self.groups.division.parts(train.batch)
            shares = epoch_shares(
                *source, batch=train.batch, seed=train.seed, epoch=state.epoch, first_step=first, parts=parts
            )
            return self.groups.ahead(shares)
        # Rounded where they are made, images are a third of the traffic on their way to a GPU's step. They are copied
        # into a recorded step's own buffer: made there, they would wait for the step before, which still reads it.
        dtype = self.setup.dtype if self.stream else torch.float32
        batches = epoch_batches(
            *source,
            batch=train.batch,
            seed=train.seed,
            epoch=state.epoch,
            first_step=first,
            part=self.world.part(train.batch),
            dtype=dtype,
        )
        # a GPU computes while the next batch is made; on a CPU both would only fight for the cores
        return ahead(batches, stream=self.stream) if self.stream else batches

    def follow_plan(self, metrics: MetricsLog) -> None:
        """Where the clock asks for another number of steps, say it and write it down: a repeat then needs no clock."""
        decision = self.pace.look_at_clock(self.state.step, self.world)
        if decision is None:
            return
        self.config = replace(self.config, train=replace(self.config.train, plan=self.pace.plan))
        if decision.line:
            self.events.note(decision.line)
        metrics.write({"kind": "plan", "step": self.state.step, "total": self.pace.total})
        if self.run is not None:
            write_text(self.run.config, config_to_yaml(self.config))

    def end_epoch(self, metrics: MetricsLog, ending: Ending) -> bool:
        """Validate and save. Whether there is to be another epoch."""
        state = self.state
        if ending.dry_run:
            tell_cost(self.setup, self.pace, self.clock() - self.started, self.events)
            return False
        if ending.interrupted:
            self.save()
            self.draw()
            return False
        weights = self.ema.state if self.ema else self.model.state_dict()
        if self.setup.val is None:
            keep_best(self.run, self.config, state, None, state.epoch, weights)
        elif ending.last_epoch(state.step) or self.pace.worth_validating(state.epoch, state.step, self.world):
            self.validate(weights, metrics, ending)
            if ending.interrupted:
                self.save()
                return False
            if ending.last_epoch(state.step) or self.out_of_patience:
                self.look_at_sizes(weights)
        if self.run is not None and self.pace.due(self.config.train.keep_every, state.epoch, state.step):
            keep_numbered(self.run, self.config, state, state.epoch, weights)
        if state.step == (state.epoch + 1) * self.setup.steps_per_epoch or self.pace.over(state.step):
            state.epoch += 1
        self.save()
        self.saved_at = self.clock()
        self.draw()
        return not ending.out_of_time

    def validate(self, weights: dict[str, Tensor], metrics: MetricsLog, ending: Ending) -> None:
        """Measure weights, keep them if they are the best, and say so. An interruption meanwhile ends the run."""
        assert self.setup.val is not None
        state, asleep = self.state, self.clock()
        self.report = validate(self.setup, self.setup.val, weights, self.events, ending.asked, self.lanes)
        self.pace.validated(self.clock() - asleep)
        if self.report is None:
            ending.interrupted = True
            return
        metrics.write(self.report.as_line(state.step, state.epoch))
        keep_best(self.run, self.config, state, self.report, state.epoch, weights)
        self.contest.add(state.epoch, self.report)
        for problem in self.report.unreadable[:5]:
            self.events.note(f"warning: not validated on, counted as without detections: {problem}")
        self.events.note(f"epoch {state.epoch + 1}: {self.report}, best {format_ap(state.best_ap)}")

    def look_at_sizes(self, weights: dict[str, Tensor]) -> None:
        """Measure which sizes of faces the run's weights find, and say so: `detect` shows images accordingly.

        Some ten seconds, so nothing interrupts it; a run that is gone on with measures again at its end.
        """
        assert self.setup.val is not None
        faces, backgrounds = validation_faces(self.setup.val.images) if self.run is not None else ([], [])
        if self.run is None or not faces or not self.run.best.is_file():
            return
        self.sizes, best = keep_range(
            *(self.run, self.config, weights),
            lambda those: find_range(self.setup, those, faces, backgrounds, self.events),
        )
        if best is not None:
            self.events.note(f"best.pt finds faces of {best.least:g} to {best.most:g} pixels, as they are shown to it")

    def draw(self) -> None:
        """Draw the curves into the run's folder."""
        if self.run is not None:
            draw_curves(self.run)
