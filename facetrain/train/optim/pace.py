"""How long a run is in steps, and how far it is at each of them.

Mostly that follows from the epochs. A run with a budget of time measures its speed in its first steps, plans its steps
so that warm-up and schedule end when the time does, and plans again when the machine becomes slower or faster. Every
plan is a pair (step, total): from `step` on, the run is to end after `total` steps. The plans together say the rate of
every step, so a repeat with the same plans (`train.plan`) needs no clock.
"""

from collections.abc import Callable
from dataclasses import dataclass

from facetrain.config.schema import Config
from facetrain.train.optim.optimizers import Plan, learning_rate, progress_of
from facetrain.train.parallel.world import World

Clock = Callable[[], float]

_SLOW_STEPS = 2  # at the beginning, in which libraries choose their kernels: not measured
_MEASURED = 3  # steps, and …
_MEASURED_SHARE, _MEASURED_S = 0.02, 10.0  # … the smaller of this share of the time and these seconds, before a plan
_VALIDATION_SHARE = 0.05  # of the time: a validation that takes more is only made at the end
_CHECKS = 50  # looks at the clock over the rest of a run
_WORTH_SAYING = 0.05  # of the steps that were last told; every plan is recorded
_TOLERANCE = 0.02  # of the steps that are left: smaller changes are not worth a new plan


@dataclass(frozen=True)
class Budget:
    """Time that a run may take, and what it has taken before this process. Both in seconds."""

    seconds: float
    spent: float = 0.0


@dataclass(frozen=True)
class Decision:
    """What one look at the clock came to. plan: a new one, or None to go on as planned; look: the step of the next."""

    plan: tuple[int, int] | None
    look: int
    line: str = ""


class Pace:
    """Steps of a run, planned by epochs, by recorded plans, or by the clock.

    began:            what the clock showed when this process began
    validation_steps: what a validation is expected to take, in the time of training steps; 0: there is none
    """

    def __init__(
        self,
        config: Config,
        steps_per_epoch: int,
        budget: Budget | None,
        clock: Clock,
        *,
        began: float,
        validation_steps: float = 0.0,
    ) -> None:
        self.train, self.every = config.train, config.eval.every
        self.steps_per_epoch = steps_per_epoch
        self.budget, self.clock, self.began = budget, clock, began
        self.plan: Plan | None = config.train.plan
        if budget is not None and self.plan is None:
            self.plan = ()
        self.said = self.plan[-1][1] if self.plan else 0  # steps of the plan that was last told
        self.validation_steps = validation_steps
        self.validation_s: float | None = None  # what the last one took
        self.away = 0.0  # seconds spent on validation since the last look
        self.step_s: float | None = None
        self.mark: tuple[int, float] | None = None  # step and time of the last look
        self.look = _SLOW_STEPS

    @property
    def total(self) -> int | None:
        """Steps of the whole run; None until they are planned."""
        if self.plan is None:
            return self.train.epochs * self.steps_per_epoch
        return self.plan[-1][1] if self.plan else None

    @property
    def epochs(self) -> int | None:
        """Epochs begun in the whole run."""
        return None if self.total is None else -(-self.total // self.steps_per_epoch)

    def over(self, step: int) -> bool:
        """Whether so many steps are all."""
        return self.total is not None and step >= self.total

    def progress(self, step: int) -> float:
        """How far the run is after so many steps, 0 … 1."""
        if self.plan is None:
            return step / max(1, self.total or 1)
        return progress_of(self.plan, step)

    def rate(self, epoch: int, step: int) -> float:
        """The rate of a step; both count from 0."""
        return learning_rate(self.train, epoch, step, self.total or 1, self.plan)

    def due(self, every: float | None, epoch: int, step: int) -> bool:
        """Whether what comes every so many epochs, or every such share of the run, comes at the end of this epoch."""
        if every is None:
            return False
        if every >= 1:
            return (epoch + 1) % int(every) == 0
        before, now = self.progress(epoch * self.steps_per_epoch), self.progress(step)
        return int(now / every + 1e-9) > int(before / every + 1e-9)

    def worth_validating(self, epoch: int, step: int, world: World) -> bool:
        """Whether to validate at the end of this epoch: when it is due, if the clock leaves time for it."""
        if not self.due(self.every, epoch, step):
            return False
        if self.budget is None:
            return True
        most = _VALIDATION_SHARE * self.budget.seconds
        return world.share(lambda: self._validation() <= most)  # one process's clock counts for all

    def _validation(self) -> float:
        """Seconds of a validation, as the last one took or as it is expected to."""
        return self.validation_s if self.validation_s is not None else self.validation_steps * (self.step_s or 0.0)

    def spent(self) -> float:
        """Seconds that the run has taken, earlier processes included."""
        return (self.budget.spent if self.budget else 0.0) + self.clock() - self.began

    def left(self) -> float | None:
        """Seconds of the budget that are left."""
        return None if self.budget is None else self.budget.seconds - self.spent()

    def validated(self, seconds: float) -> None:
        """A validation took so long: it is no training time, and the next ones will take as long."""
        self.validation_s = seconds
        self.away += seconds

    def look_at_clock(self, step: int, world: World) -> Decision | None:
        """After a step: plan if it is time to. Returns the decision where there is a new plan; the same everywhere."""
        if self.budget is None or step < self.look or self.over(step):
            return None
        decision = world.share(lambda: self._decide(step))
        self.look = decision.look
        if decision.plan is None:
            return None
        assert self.plan is not None
        self.plan = (*self.plan, decision.plan)
        return decision

    def _decide(self, step: int) -> Decision:
        assert self.budget is not None
        now, spent = self.clock(), self.spent()
        if self.mark is None:
            self.mark, self.away = (step, now), 0.0
            return Decision(None, step + 1)
        steps, seconds = step - self.mark[0], now - self.mark[1] - self.away
        enough = min(_MEASURED_SHARE * self.budget.seconds, _MEASURED_S)
        if not self.plan and (steps < _MEASURED or seconds < enough) and spent < self.budget.seconds:
            return Decision(None, step + 1)
        recent = seconds / steps
        self.step_s = recent if self.step_s is None else (self.step_s + recent) / 2
        self.mark, self.away = (step, now), 0.0
        left = max(0, int((self.budget.seconds - spent - self._reserve(step)) / max(self.step_s, 1e-9)))
        total = max(step + left, 1)
        look = step + max(1, left // _CHECKS)
        if not self.plan:
            text = f"plan: {total:,} steps in {duration(self.budget.seconds)}, a step takes {self.step_s:.3g} s"
            self.said = total
            return Decision((step, total), look, text)
        before = self.plan[-1][1]
        if abs(total - before) <= _TOLERANCE * (before - step):
            return Decision(None, look)
        if abs(total - self.said) < _WORTH_SAYING * self.said:
            return Decision((step, total), look)
        text = f"plan: {total:,} steps instead of {self.said:,}, a step takes {self.step_s:.3g} s now"
        self.said = total
        return Decision((step, total), look, text)

    def _reserve(self, step: int) -> float:
        """Seconds that the validations still to come will take."""
        assert self.step_s is not None
        assert self.budget is not None
        each = self._validation()
        if each == 0 or each > _VALIDATION_SHARE * self.budget.seconds:
            return each  # only the last one
        if self.every >= 1:
            epochs = (self.budget.seconds - self.spent()) / (self.step_s * self.steps_per_epoch)
            return each * (1 + int(epochs / self.every))
        return each * (1 + int((1 - self.progress(step)) / self.every - 1e-9))


def duration(seconds: float) -> str:
    """A time in words: 45 s, 30 min, 2 h 05 min."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"
