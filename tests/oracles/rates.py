"""The rate of a step as one rule, with all schedules in it."""

import math
from typing import Any


def learning_rate(config: Any, epoch: int, step: int, total_steps: int, plan: Any = None, progress: float = 0) -> float:
    """plan: pairs (step, total) of a run planned by time, which is at `progress`; None for one planned by epochs."""
    rate = config.lr * config.batch / config.lr_batch
    if plan is None:
        progress = step / max(1, total_steps)
    if config.schedule == "cosine":
        rate *= config.final_lr + (1 - config.final_lr) * (1 + math.cos(math.pi * progress)) / 2
    elif plan is None:
        rate *= config.gamma ** sum(epoch >= round(m * config.epochs) for m in config.milestones)
    else:
        rate *= config.gamma ** sum(progress >= m for m in config.milestones)
    start, total = (0, total_steps) if plan is None else plan[0] if plan else (step, step)
    length = min(config.warmup_steps, int(config.warmup_limit * total))
    if plan is not None and (plan == () or step < start) and config.warmup_limit > 0 and config.warmup_steps > 0:
        length = max(1, length)
    if length > 0 and step - start < length:
        rate *= 1 - (1 - max(0, step - start) / length) * (1 - config.warmup_start)
    return rate
