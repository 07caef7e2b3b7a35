"""Whether a run should stop, and why."""

import threading
from dataclasses import dataclass

from facetrain.train.optim.pace import Clock, Pace
from facetrain.train.parallel.world import World


@dataclass
class Ending:
    """Asked after every step; what it says is the same in all processes.

    asked:       set by somebody who wants the run to stop
    max_time:    seconds after `started` at which it stops of itself
    dry_run:     one step is all
    interrupted: somebody asked: the run saves and goes, without a validation
    out_of_time: its time is up: it validates and saves
    """

    pace: Pace
    world: World
    asked: threading.Event
    clock: Clock
    started: float
    max_time: float | None
    dry_run: bool
    interrupted: bool = False
    out_of_time: bool = False

    def after(self, step: int) -> bool:
        """Whether the step before this number was the last one for now."""
        late = self.max_time is not None and self.clock() - self.started > self.max_time
        self.interrupted, self.out_of_time = self.world.any(self.asked.is_set(), late)
        return self.interrupted or self.out_of_time or self.dry_run or self.pace.over(step)

    def last_epoch(self, step: int) -> bool:
        """Whether an epoch that ends after this step is the last one for now."""
        return self.pace.over(step) or self.out_of_time
