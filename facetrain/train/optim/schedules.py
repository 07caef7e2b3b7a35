"""How the rate falls over a run: one entry for each `train.schedule`. Warm-up is the same for all (optimizers.py)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from facetrain.config.schema import TrainConfig


@dataclass(frozen=True)
class Schedule:
    """A way for the rate to fall.

    factor: (config, progress, epoch) -> share of the full rate. progress: of the run, 0 … 1; epoch: from 0, or None
            where the run is planned by steps or time
    words:  (config, by_epochs) -> what the plan of a run says of it
    """

    factor: Callable[[TrainConfig, float, int | None], float]
    words: Callable[[TrainConfig, bool], str]


def steps_factor(config: TrainConfig, progress: float, epoch: int | None) -> float:
    """Times gamma at the start of epoch round(milestone · epochs), or where so large a share of the run is over."""
    if epoch is None:
        return config.gamma ** sum(progress >= m for m in config.milestones)
    return config.gamma ** sum(epoch >= round(m * config.epochs) for m in config.milestones)


def steps_words(config: TrainConfig, by_epochs: bool) -> str:
    """Such as `x 0.1 at epochs 400, 544`."""
    places = ", ".join(str(round(m * config.epochs)) if by_epochs else f"{m:.0%}" for m in config.milestones)
    at = f"at epochs {places}" if by_epochs else f"at {places} of the run"
    return f"x {config.gamma:g} {at}" if places else "constant"


def cosine_factor(config: TrainConfig, progress: float, epoch: int | None) -> float:
    """Half a cosine over all steps, from 1 to `final_lr`."""
    return config.final_lr + (1 - config.final_lr) * (1 + math.cos(math.pi * progress)) / 2


def cosine_words(config: TrainConfig, by_epochs: bool) -> str:
    """Such as `cosine down to 0.01 of it`."""
    return f"cosine down to {config.final_lr:g} of it"


SCHEDULES: dict[str, Schedule] = {
    "steps": Schedule(steps_factor, steps_words),
    "cosine": Schedule(cosine_factor, cosine_words),
}
